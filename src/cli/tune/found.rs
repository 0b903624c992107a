//! What a search and its proof found.

use crate::experiment::settings::Settings;
use crate::experiment::tuning::{Goal, Space, Use};
use crate::model::engine_name::EngineName;
use crate::orchestrator::strategy::tuning::{Placing, leader, placings};
use crate::results::gain::{answered, gain, speed_of};
use crate::results::record::{Failure, RunRecord, TrialRecord};
use crate::statistics::estimate::Estimate;
use crate::statistics::sample::Sample;
use serde::Serialize;

/// Both runs, and what they say.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) used: Use,
    pub(super) space: Space,
    pub(super) search: RunRecord,
    pub(super) proof: Option<RunRecord>,
    /// What the search says of every candidate, the fastest first.
    pub(super) placings: Vec<Placing>,
    /// What is worth a proof: the fastest, and if that is lossy, the fastest that is not.
    pub(super) finalists: Vec<Finalist>,
    /// The largest divergence that is taken, nats.
    pub(super) limit: f64,
    /// What was not tried, and why.
    pub(super) left_out: Vec<String>,
    /// Numbers of requests side by side with their speeds, if they were not given, tokens per second.
    pub(super) swept: Vec<(u32, f64)>,
}

/// Settings that may be better than the defaults.
#[derive(Debug, Clone)]
pub(super) struct Finalist {
    pub(super) settings: Settings,
    /// Its place in the search.
    pub(super) placing: Placing,
    /// How many times as fast as the defaults, in the proof.
    pub(super) gain: Option<Estimate>,
    /// Mean divergence from the defaults, nats; `None`: not measured.
    pub(super) kld: Option<f64>,
    pub(super) verdict: Conclusion,
}

/// What the proof says of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Conclusion {
    /// Faster beyond the noise, and its answers are close enough.
    Faster,
    /// Inside the noise.
    NoDifference,
    /// Slower beyond the noise.
    Slower,
    /// It diverges by more than is allowed.
    TooLossy,
    /// It could not be measured.
    Failed,
    /// Not proved yet.
    Unproved,
}

impl Found {
    /// Whether ONNX Runtime computes it.
    pub(super) fn is_onnx(&self) -> bool {
        self.search.trials.first().is_some_and(|it| it.engine.name == EngineName::OnnxRuntime)
    }

    pub(super) fn new(
        used: Use,
        space: Space,
        search: RunRecord,
        limit: f64,
        left_out: Vec<String>,
    ) -> Self {
        let tests = used.tests();
        let best = leader(&search, &tests, |_| true);
        let mut finalists: Vec<Placing> = best.into_iter().collect();
        if best.is_some_and(|best| space.is_lossy(&search.trials[best.trial].settings)) {
            finalists.extend(leader(&search, &tests, |settings| !space.is_lossy(settings)));
        }
        let finalist = |placing: Placing| Finalist {
            settings: search.trials[placing.trial].settings.clone(),
            placing,
            gain: None,
            kld: None,
            verdict: Conclusion::Unproved,
        };
        let finalists = finalists.into_iter().map(finalist).collect();
        let placings = placings(&search, &tests);
        let (proof, swept) = (None, Vec::new());
        Self { used, space, search, proof, placings, finalists, limit, left_out, swept }
    }

    /// Takes in what the proof measured.
    pub(super) fn prove(&mut self, proof: RunRecord) {
        let goal = self.used.goal;
        let among = self.finalists.len();
        for (at, finalist) in self.finalists.iter_mut().enumerate() {
            let (Some(base), Some(own)) = (proof.trials.first(), proof.trials.get(at + 1)) else {
                continue;
            };
            finalist.gain = gain(&answered(own, goal), &answered(base, goal), among);
            finalist.kld =
                own.quality.as_ref().and_then(|it| Some(it.divergence.as_ref()?.kld.mean));
            let has_failed = own.failure.is_some() || base.failure.is_some();
            finalist.verdict = match (&finalist.gain, finalist.kld) {
                _ if has_failed => Conclusion::Failed,
                (_, Some(kld)) if kld > self.limit => Conclusion::TooLossy,
                (Some(Estimate { interval: Some(interval), .. }), _) => {
                    if interval.low > 1.0 {
                        Conclusion::Faster
                    } else if interval.high < 1.0 {
                        Conclusion::Slower
                    } else {
                        Conclusion::NoDifference
                    }
                }
                _ if proof.finished.is_none() => Conclusion::Unproved,
                _ => Conclusion::Failed,
            };
        }
        self.proof = Some(proof);
    }

    /// The settings to take instead of the defaults, if any are proved to be better.
    pub(super) fn winner(&self) -> Option<&Finalist> {
        self.finalists.iter().find(|it| it.verdict == Conclusion::Faster)
    }

    /// The settings to take.
    pub(super) fn settings(&self) -> &Settings {
        self.winner().map_or(&self.space.base, |winner| &winner.settings)
    }

    /// The run that came last.
    pub(super) fn last(&self) -> &RunRecord {
        self.proof.as_ref().unwrap_or(&self.search)
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.last().finished.is_none()
    }

    /// Why there is no answer.
    pub(super) fn failure(&self) -> Option<&Failure> {
        let base = self.last().trials.first().and_then(|trial| trial.failure.as_ref());
        let is_open = |it: &&Finalist| it.verdict == Conclusion::Failed;
        let of_finalist = || {
            let at = self.finalists.iter().position(|it| is_open(&it))?;
            self.proof.as_ref()?.trials.get(at + 1)?.failure.as_ref()
        };
        base.or_else(of_finalist)
    }

    /// The median speed of a trial of the proof, in what the goal counts per second.
    pub(super) fn speed(&self, trial: &TrialRecord) -> Option<f64> {
        let visits = trial.visits.iter();
        let speeds = visits.filter_map(|visit| speed_of(&visit.responses, self.used.goal));
        Sample::new(speeds).map(|sample| sample.median())
    }

    /// The same of the defaults and of a finalist, in words.
    pub(super) fn speeds_in_words(&self, finalist: &Finalist) -> Option<String> {
        let proof = self.proof.as_ref()?;
        let at = self.finalists.iter().position(|it| it.settings == finalist.settings)?;
        let (base, own) = (proof.trials.first()?, proof.trials.get(at + 1)?);
        let (base, own) = (self.speed(base)?, self.speed(own)?);
        let words = |speed: f64| match self.used.goal {
            Goal::Latency => format!("{} s", crate::units::significant(1.0 / speed, 3)),
            _ => format!("{} t/s", crate::units::significant(speed, 3)),
        };
        Some(format!("{} instead of {}", words(own), words(base)))
    }
}
