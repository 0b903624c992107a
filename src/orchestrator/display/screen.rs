//! The one renderer: lines redrawn in place on a terminal, plain lines at a modest rate anywhere else.

use console::{Term, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Stderr, Write};
use std::time::{Duration, Instant};

/// The screen is redrawn at most this often per second: drawing takes time from the worker.
const REDRAWS_PER_SECOND: u8 = 4;

/// How often it is redrawn when nothing happens, so that the time shown goes on.
const TICK: Duration = Duration::from_millis(500);

/// Longest silence in a log while something is told.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// How wide a terminal is taken to be that does not say.
const USUAL_WIDTH: usize = 80;

/// Steps of a bar.
const STEPS: u32 = 1000;

/// Where some work is.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    /// From 0 to 1.
    pub(super) fraction: f64,
    /// The same in words: `3/12`, `25 %`.
    pub(super) count: String,
    /// How long the rest will take, in words.
    pub(super) left: String,
    /// What is being done.
    pub(super) current: String,
    /// The last figures; may be empty.
    pub(super) last: String,
}

/// Shows where some work is, and what is to stay.
#[derive(Debug)]
pub(super) struct Screen<W = Stderr> {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    output: W,
    shown: Option<Instant>,
    /// When the last line was written that stays.
    written: Instant,
}

impl Screen {
    /// What fits standard error.
    pub(super) fn on_standard_error() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let is_terminal = io::stderr().is_terminal() && !dumb;
        let mut screen = Self::plain(io::stderr());
        screen.bar = is_terminal.then(bar);
        screen
    }
}

impl<W> Screen<W> {
    /// Plain lines.
    pub(super) fn plain(output: W) -> Self {
        Self { bar: None, output, shown: None, written: Instant::now() }
    }

    /// Whether lines are redrawn in place.
    pub(super) fn is_redrawn(&self) -> bool {
        self.bar.is_some()
    }
}

impl<W: Write> Screen<W> {
    /// Writes what stays.
    pub(super) fn say(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody may be reading; work does not end for that.
            None => {
                let _ = writeln!(self.output, "{text}");
            }
        }
        self.written = Instant::now();
    }

    /// Shows where the work is, unless that was shown a moment ago; `begins`: this is new.
    pub(super) fn show(&mut self, begins: bool, status: impl FnOnce() -> Status) {
        let Some(bar) = &self.bar else {
            if self.written.elapsed() > SIGN_OF_LIFE {
                let Status { count, current, .. } = status();
                self.say(&format!("[{count}] {current}"));
            }
            return;
        };
        let interval = Duration::from_secs(1) / u32::from(REDRAWS_PER_SECOND);
        if !begins && self.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        let Status { fraction, count, left, current, last } = status();
        let width = Term::stderr().size_checked().map_or(USUAL_WIDTH, |(_, width)| width.into());
        let mut text = left;
        for line in [current, last].iter().filter(|line| !line.is_empty()) {
            text.push('\n');
            text.push_str(&truncate_str(line, width.saturating_sub(1), "…"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to STEPS")]
        bar.set_position((fraction.clamp(0.0, 1.0) * f64::from(STEPS)) as u64);
        bar.set_prefix(count);
        bar.set_message(text);
        if self.shown.is_none() {
            bar.enable_steady_tick(TICK);
        }
        self.shown = Some(Instant::now());
    }
}

impl<W> Drop for Screen<W> {
    fn drop(&mut self) {
        // Work that ends with an error leaves the screen to its message.
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Nothing is drawn yet.
fn bar() -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(STEPS.into()), target);
    // A template that did not parse would only change how the lines look.
    let style = ProgressStyle::with_template("{bar:24} {prefix} · {elapsed} · {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
