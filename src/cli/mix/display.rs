//! What `quantbench mix` shows: the cost before it is paid, progress, and what came of it.

use crate::cli::output;
use crate::mix::{Cost, MixReport};
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use crate::orchestrator::reason;
use crate::units::{format_bytes, format_seconds, significant};
use crate::worker::protocol::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Shows progress on standard error, and keeps the report.
pub(super) struct Display {
    quiet: bool,
    bar: Option<ProgressBar>,
    last_line: Instant,
    report: Option<MixReport>,
}

impl Display {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(4);
            let bar = ProgressBar::with_draw_target(Some(1000), target);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24} {percent} % · {elapsed} · {msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Self { quiet, bar, last_line: Instant::now(), report: None }
    }

    /// Clears the display; the report, if one came.
    pub(super) fn finish(self) -> Option<MixReport> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.report
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::tell(text)),
            None if self.quiet => {}
            None => output::tell(text),
        }
    }
}

impl Listener for Display {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        match event {
            BenchmarkEvent::Worker(Event::MixCost(cost)) => self.say(&cost_in_words(cost)),
            BenchmarkEvent::Worker(Event::Note { text }) => {
                self.say(&format!("note: {}", reason::of_message(text)));
            }
            BenchmarkEvent::Worker(Event::Mixed(report)) => {
                self.report = Some((**report).clone());
            }
            BenchmarkEvent::Worker(Event::Progress { fraction, note }) => {
                let fraction = fraction.clamp(0.0, 1.0);
                if let Some(bar) = &self.bar {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "0 to 1000"
                    )]
                    bar.set_position((fraction * 1000.0) as u64);
                    bar.set_message(note.clone());
                } else if self.last_line.elapsed() >= LINE_INTERVAL {
                    self.last_line = Instant::now();
                    self.say(&format!("{:.0} % · {note}", fraction * 100.0));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What the measuring takes, in one sentence.
fn cost_in_words(cost: &Cost) -> String {
    let left = cost.evaluations.saturating_sub(cost.known);
    let seconds =
        |evaluations: u32| format_seconds(f64::from(evaluations) * cost.seconds_per_evaluation);
    let known = match cost.known {
        0 => String::new(),
        known => format!(" ({known} more are known from before)"),
    };
    let revising = match cost.revising {
        0 => String::new(),
        revising => format!(", and at most {revising} to revise it, about {}", seconds(revising)),
    };
    format!(
        "{} groups of tensors; {left} evaluations of {} chunks{known}, about {}{revising}; the model takes {} \
         of memory",
        cost.groups,
        cost.chunks,
        seconds(left),
        format_bytes(cost.model_bytes),
    )
}

/// What came of it.
pub(super) fn summary(
    path: &Path,
    bytes: u64,
    recipe: Option<&Path>,
    report: Option<&MixReport>,
    length: Duration,
) -> String {
    let seconds = format_seconds(length.as_secs_f64());
    let mut text = format!("{}  {}  {seconds}\n", path.display(), format_bytes(bytes));
    let Some(report) = report else { return text };
    if let Some(recipe) = recipe {
        let _ = writeln!(text, "recipe: {}", recipe.display());
    }
    if let Some(measured) = &report.recipe.measured {
        let _ = writeln!(
            text,
            "{:.3} bits per weight; mean KLD {} ± {} nats on the text it was chosen by ({} chunks), predicted {}",
            measured.bits_per_weight,
            significant(measured.kld, 3),
            significant(1.96 * measured.kld_standard_error, 2),
            measured.chunks,
            significant(measured.kld_predicted, 3),
        );
    }
    let mut tensors: BTreeMap<&str, u32> = BTreeMap::new();
    for format in report.recipe.tensors.values() {
        *tensors.entry(format).or_default() += 1;
    }
    let counts: Vec<String> =
        tensors.iter().map(|(format, count)| format!("{count} × {format}")).collect();
    let _ = writeln!(text, "tensors: {}", counts.join(", "));
    if report.gap > 0.0 {
        let _ = writeln!(text, "the predicted best choice is better by at most {:.1e}", report.gap);
    }
    text
}
