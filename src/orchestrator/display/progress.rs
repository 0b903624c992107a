//! Progress: what a run is doing, as text. Nothing is drawn here.

use super::estimate::roughly;
use super::figures::Figures;
use super::work::Work;
use crate::experiment::workloads::Stage;
use crate::orchestrator::event::{BenchmarkEvent, Rest, TimeLeft};
use crate::orchestrator::reason;
use crate::orchestrator::schedule::Purpose;
use crate::results::record::TrialRecord;
use crate::units::{count, format_bytes, format_seconds};
use crate::worker::protocol::Event;
use std::time::Duration;

/// What a run is doing.
#[derive(Debug, Default)]
pub(super) struct RunProgress {
    rounds: u32,
    several_models: bool,
    several_settings: bool,
    variants: usize,
    variants_over: usize,
    visits: usize,
    /// Visits that remain.
    ahead: usize,
    left: Option<TimeLeft>,
    /// How long the run will take was told, or need not be.
    is_announced: bool,
    /// What is running.
    work: Work,
    figures: Figures,
    /// The figures of the last visit that ended.
    last: String,
}

/// What a listener may want to leave on the screen for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lasting {
    /// Something is over, with its figures.
    Over(String),
    /// Something failed, or the run as a whole began or ended.
    Remark(String),
}

impl RunProgress {
    /// Within a budget everybody knows how long it will take.
    pub(super) fn new(rounds: u32, has_budget: bool) -> Self {
        Self { rounds, is_announced: has_budget, ..Self::default() }
    }

    /// Takes note of an event; returns what is worth a line of its own.
    pub(super) fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Option<Lasting> {
        match event {
            BenchmarkEvent::RunBegan { run, resumed, visits, variants } => {
                (self.visits, self.ahead) = (visits.len(), visits.len());
                self.variants = *variants;
                self.several_models = run.trials.windows(2).any(|two| two[0].model != two[1].model);
                self.several_settings =
                    run.trials.windows(2).any(|two| two[0].settings != two[1].settings);
                let verb = if *resumed { "goes on" } else { "begins" };
                Some(Lasting::Remark(format!(
                    "run {} of '{}' {verb}: {}, {}",
                    run.id,
                    run.name,
                    count(run.trials.len(), "trial"),
                    count(visits.len(), "visit")
                )))
            }
            BenchmarkEvent::VariantBegan { name } => {
                let variant =
                    format!("{name} (variant {} of {})", self.variants_over + 1, self.variants);
                self.begin(variant, "quantize");
                None
            }
            BenchmarkEvent::VariantReady { name, artifact, made } => {
                self.variants_over += 1;
                let size = format_bytes(artifact.file_bytes);
                let seconds = artifact.quantize_seconds.filter(|_| *made).map(format_seconds);
                Some(Lasting::Over(match seconds {
                    Some(seconds) => format!("{name}: made, {size} in {seconds}"),
                    None => format!("{name}: found, {size}"),
                }))
            }
            BenchmarkEvent::Paused(length) => {
                self.begin(format!("pause of {}", format_seconds(length.as_secs_f64())), "");
                None
            }
            BenchmarkEvent::VisitBegan { visit, trial, rest } => {
                self.take(rest, false);
                let purpose = match visit.purpose {
                    Purpose::Quality { .. } => "quality".to_owned(),
                    Purpose::Tasks => "tasks".to_owned(),
                    Purpose::Round(_) if self.rounds == 1 => "speed".to_owned(),
                    // Within a budget there may be more than were planned.
                    Purpose::Round(round) if round >= self.rounds => format!("round {}", round + 1),
                    Purpose::Round(round) => format!("round {} of {}", round + 1, self.rounds),
                    Purpose::DriftControl(round) => format!("drift control of round {}", round + 1),
                };
                self.begin(format!("{}, {purpose}", self.trial_name(trial)), "start");
                self.announcement()
            }
            BenchmarkEvent::Worker(event) => self.hear_worker(event),
            BenchmarkEvent::VisitEnded { visit, rest } => {
                self.take(rest, true);
                let figures = self.figures.text();
                // A visit for quality or tasks that has none failed, and that is told apart.
                let failed = visit.purpose.stage() != Stage::Rounds && !self.figures.are_measured();
                if figures.is_empty() || failed {
                    return None;
                }
                self.last = format!("{}: {figures}", self.work.subject);
                Some(Lasting::Over(self.last.clone()))
            }
            BenchmarkEvent::TrialChanged { position, run } => {
                let trial = &run.trials[*position];
                let failure = trial.failure.as_ref()?;
                let name = self.trial_name(trial);
                Some(Lasting::Remark(format!(
                    "{name} failed in {}: {}",
                    failure.phase, failure.reason
                )))
            }
            BenchmarkEvent::DriftControlMeasured { .. } => None,
            BenchmarkEvent::RunEnded { run } => run
                .finished
                .is_none()
                .then(|| Lasting::Remark("stopped; what was measured is stored".to_owned())),
        }
    }

    /// More visits than were counted may turn out to be needed.
    fn take(&mut self, rest: &Rest<'_>, has_ended: bool) {
        self.visits = self.visits().0 + usize::from(has_ended) + rest.visits.len();
        self.ahead = rest.visits.len();
        self.left = rest.time;
    }

    /// How long measuring will take, once.
    fn announcement(&mut self) -> Option<Lasting> {
        let seconds = self.left.filter(|left| !left.is_guess && !self.is_announced)?.seconds;
        self.is_announced = true;
        let left = roughly(Duration::from_secs_f64(seconds));
        let rest = if self.ahead < self.visits { "the rest" } else { "measuring" };
        Some(Lasting::Remark(format!("{rest} will take about {left}")))
    }

    fn begin(&mut self, subject: String, phase: &str) {
        self.work = Work::new(subject, phase, reason::SHOWN_TENSORS);
        self.figures = Figures::default();
    }

    fn hear_worker(&mut self, event: &Event) -> Option<Lasting> {
        let Some(lines) = self.work.on_event(event) else {
            self.figures.on_event(event);
            return None;
        };
        (!lines.is_empty()).then(|| Lasting::Remark(lines.join("\n")))
    }

    /// The trial's name, as short as it can be without being mistaken for another's.
    fn trial_name(&self, trial: &TrialRecord) -> String {
        let mut name = trial.label.clone();
        if self.several_models {
            name = format!("{} {name}", trial.model);
        }
        if self.several_settings {
            name = format!("{name} ({})", trial.settings);
        }
        name
    }

    /// How far the run is: visits over, and all visits.
    pub(super) fn visits(&self) -> (usize, usize) {
        (self.visits - self.ahead, self.visits)
    }

    /// How long the rest will take, in words.
    pub(super) fn time_left(&self) -> String {
        match self.left {
            Some(TimeLeft { seconds, is_guess }) if self.ahead > 0 || seconds > 0.0 => {
                let about = if is_guess { "perhaps" } else { "about" };
                format!("{about} {} left", roughly(Duration::from_secs_f64(seconds)))
            }
            Some(_) => "nothing left to measure".to_owned(),
            None => "time left not known yet".to_owned(),
        }
    }

    /// What is running now, with its phase, progress and latest figure.
    pub(super) fn current(&self) -> String {
        match (self.work.in_words(), self.figures.text()) {
            (work, figures) if figures.is_empty() => work,
            (work, figures) => format!("{work} · {figures}"),
        }
    }

    /// The figures of the last visit that ended.
    pub(super) fn last(&self) -> &str {
        &self.last
    }
}
