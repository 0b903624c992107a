//! One piece of work: a job of a worker or a file that is fetched, in words and on the screen.

use super::estimate::left;
use super::screen::{Screen, Status};
use crate::causes::Problem;
use crate::model::progress::{Progress, ProgressSink};
use crate::orchestrator::event::{BenchmarkEvent, Listener};
use crate::orchestrator::reason;
use crate::worker::protocol::{Event, Made};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A file that is fetched or checked in less is not worth a word.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// What is being done, in words.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Such as `Q4_K_M, round 2 of 5`.
    pub(super) subject: String,
    phase: String,
    /// The latest note.
    note: String,
    fraction: f64,
    /// How many tensors are named that a method left to simpler rounding.
    named: usize,
}

impl Work {
    pub(super) fn new(subject: String, phase: &str, named: usize) -> Self {
        Self { subject, phase: phase.to_owned(), named, ..Self::default() }
    }

    /// Takes note of an event; returns what is to stay, in lines. `None`: it is of something else.
    pub(super) fn on_event(&mut self, event: &Event) -> Option<Vec<String>> {
        match event {
            Event::Phase(phase) => {
                *self =
                    Self::new(std::mem::take(&mut self.subject), &phase.to_string(), self.named);
            }
            Event::Progress(progress) => return Some(self.on_progress(progress)),
            Event::Made(Made::Variant(report)) => {
                let lines = reason::of_kept(report.chosen, &report.kept, self.named);
                let subject = &self.subject;
                return Some(lines.iter().map(|line| format!("{subject}: {line}")).collect());
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    fn on_progress(&mut self, progress: &Progress) -> Vec<String> {
        let Self { subject, phase, .. } = &*self;
        match progress {
            Progress::Fraction(fraction, note) => {
                self.fraction = fraction.clamp(0.0, 1.0);
                self.note = reason::printable(note);
                Vec::new()
            }
            Progress::Memory(parts) => {
                vec![format!("{subject}: {phase} {}", reason::of_memory(parts))]
            }
            Progress::Note(text) if text == subject => vec![format!("note: {subject}")],
            Progress::Note(text) => {
                vec![format!("note: {subject}: {}", reason::of_message(text))]
            }
        }
    }

    /// `Q4_K_M: quantize 12 % · layer 3 of 24`.
    pub(super) fn in_words(&self) -> String {
        let mut text = self.subject.clone();
        if !self.phase.is_empty() {
            text = format!("{text}: {}", self.phase);
        }
        if self.fraction > 0.0 {
            text = format!("{text} {:.0} %", self.fraction * 100.0);
        }
        if !self.note.is_empty() {
            text = format!("{text} · {}", self.note);
        }
        text
    }
}

/// Shows one piece of work on standard error.
#[derive(Debug)]
pub struct WorkDisplay {
    /// `None`: nothing is shown.
    screen: Option<Screen>,
    work: Work,
    /// When what is done now began.
    began: Instant,
}

impl WorkDisplay {
    /// Of work on `subject`.
    pub fn new(subject: &str, quiet: bool) -> Self {
        let screen = (!quiet).then(Screen::on_standard_error);
        Self { screen, work: Work::new(subject.to_owned(), "", usize::MAX), began: Instant::now() }
    }

    fn hear(&mut self, event: &Event) {
        let Some(screen) = &mut self.screen else { return };
        let before = self.work.fraction;
        for line in self.work.on_event(event).into_iter().flatten() {
            screen.say(&line);
        }
        if self.work.fraction < before || matches!(event, Event::Phase(_)) {
            self.began = Instant::now();
        }
        self.show();
    }

    fn show(&mut self) {
        let (work, length) = (&self.work, self.began.elapsed());
        if let Some(screen) = &mut self.screen {
            screen.show(false, || Status {
                fraction: work.fraction,
                count: format!("{:.0} %", work.fraction * 100.0),
                left: left(length, work.fraction),
                current: work.in_words(),
                last: String::new(),
            });
        }
    }
}

impl Listener for WorkDisplay {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        if let BenchmarkEvent::Worker(event) = event {
            self.hear(event);
        }
        Ok(())
    }
}

/// Shows files that are fetched or checked, one at a time.
pub fn of_files(quiet: bool) -> ProgressSink {
    if quiet {
        return ProgressSink::default();
    }
    let shown: Mutex<Option<WorkDisplay>> = Mutex::default();
    ProgressSink::new(move |what, progress| {
        let Ok(mut shown) = shown.lock() else { return };
        if matches!(progress, Progress::Fraction(fraction, _) if *fraction >= 1.0) {
            *shown = None;
            return;
        }
        let display = shown.take().filter(|display| display.work.subject == what);
        let display = shown.insert(display.unwrap_or_else(|| WorkDisplay::new(what, quiet)));
        let lines = display.work.on_progress(progress);
        for line in lines {
            display.screen.iter_mut().for_each(|screen| screen.say(&line));
        }
        if display.began.elapsed() > QUIET_TIME {
            display.show();
        }
    })
}
