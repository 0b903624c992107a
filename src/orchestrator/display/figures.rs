//! Figures of the current visit, for the display only: the table has the statistics.

use crate::results::grouped;
use crate::statistics::sample::Sample;
use crate::units::format_seconds;
use crate::worker::protocol::Event;
use crate::workload::measured::LiveFigure;

/// The latest figures that a worker reported.
#[derive(Debug, Default)]
pub(super) struct Figures {
    load_seconds: Option<f64>,
    live: Vec<LiveFigure>,
}

impl Figures {
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::Loaded { sample, .. } => self.load_seconds = Some(sample.seconds),
            Event::Measured(measurement) => self.live.extend(measurement.live()),
            _ => {}
        }
    }

    /// Whether a workload has measured something.
    pub(super) fn are_measured(&self) -> bool {
        !self.live.is_empty()
    }

    /// `pp512 2310 t/s, tg128 185 t/s, TTFT p50 12.1 ms`; the load time only while nothing else is
    /// known.
    pub(super) fn text(&self) -> String {
        let by_name = grouped(self.live.iter().map(|live| (&live.name, live)));
        let parts: Vec<String> = by_name.iter().filter_map(|(_, live)| text(live)).collect();
        match self.load_seconds {
            Some(seconds) if parts.is_empty() => format!("loaded in {}", format_seconds(seconds)),
            _ => parts.join(", "),
        }
    }
}

/// The figures of one name.
fn text(live: &[&LiveFigure]) -> Option<String> {
    let LiveFigure { name, value, show, is_median } = live.last()?;
    let all = Sample::new(live.iter().map(|it| it.value).filter(|_| *is_median));
    Some(format!("{name} {}", show(all.map_or(*value, |all| all.median()))))
}
