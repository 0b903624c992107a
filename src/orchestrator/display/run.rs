//! A run on the screen: how far it is, what is running, and the last figures.

use super::progress::{Lasting, RunProgress};
use super::screen::{Screen, Status};
use crate::causes::Problem;
use crate::experiment::resolved::Experiment;
use crate::orchestrator::event::{BenchmarkEvent, Listener};
use std::io::Write;

/// Shows a run.
#[derive(Debug)]
pub(super) struct RunDisplay<W> {
    progress: RunProgress,
    screen: Screen<W>,
}

impl<W> RunDisplay<W> {
    pub(super) fn new(experiment: &Experiment, screen: Screen<W>) -> Self {
        Self { progress: RunProgress::new(experiment.rounds, experiment.budget.is_some()), screen }
    }
}

impl<W: Write> Listener for RunDisplay<W> {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        let Self { progress, screen } = self;
        let lasting = progress.on_event(event);
        let (over, all) = progress.visits();
        let is_over = matches!(lasting, Some(Lasting::Over(_)));
        match lasting {
            // Figures come and go in place; what went wrong stays.
            Some(Lasting::Over(_)) if screen.is_redrawn() => {}
            Some(Lasting::Over(text)) => {
                screen.say(&format!("[{over}/{all}] {text} ({})", progress.time_left()));
            }
            Some(Lasting::Remark(text)) => screen.say(&text),
            None => {}
        }
        let begins = is_over
            || matches!(
                event,
                BenchmarkEvent::VisitBegan { .. } | BenchmarkEvent::VariantBegan { .. }
            );
        #[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
        screen.show(begins, || Status {
            fraction: over as f64 / all.max(1) as f64,
            count: format!("{over}/{all}"),
            left: progress.time_left(),
            current: progress.current(),
            last: match progress.last() {
                "" => String::new(),
                last => format!("last: {last}"),
            },
        });
        Ok(())
    }
}
