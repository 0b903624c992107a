//! Changes: what differs between two sides, each one run or several, and how sure that is.
//!
//! `side` is what is compared, `partners` says which trials belong together, `differs` what else is not the same,
//! `shift` by how much a figure moved and how sure that is, `evidence` which of its ways a figure is compared in,
//! `between` how much runs of the same differ, `answers` which answers changed, `gate` what may not get worse.

mod answers;
#[cfg(test)]
mod bars;
mod between;
mod differs;
pub(in crate::results) mod evidence;
pub mod gate;
mod partners;
mod shift;
mod side;
#[cfg(test)]
mod tests;

pub use answers::AnswersChange;
pub use differs::Difference;
pub use partners::positions as partners_of;
pub use side::{Member, Part, Side};

use super::metric::{Better, ESSENTIAL, Metric};
use super::record::RunRecord;
use crate::causes::Problem;
use crate::statistics::estimate::Interval;
use between::Spreads;
use evidence::Ways;
use partners::{Pair, Partners, called};
use serde::Serialize;
use shift::Shift;

/// What is compared, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What differs besides the figures, and what that means.
    pub differences: Vec<Difference>,
    /// What is known to be the same on both sides.
    pub alike: Vec<&'static str>,
    /// Trials with their partners, in the order of the base.
    pub pairs: Vec<PairChange>,
    /// Trials of the base that have no partner.
    pub only_base: Vec<String>,
    /// Trials of the new side that have no partner.
    pub only_new: Vec<String>,
    /// Figures whose intervals hold together with 95 % probability.
    pub judged: usize,
    /// How the timed figures are compared.
    pub form: Form,
}

/// How timed figures are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Form {
    /// Round by round: both sides were measured in turns in one run.
    Interleaved,
    /// The run is the unit.
    Runs {
        /// Runs of the base.
        base: usize,
        /// Runs of the new side.
        new: usize,
        /// Other runs of the same trials on the same machine, which say how much runs differ.
        others: usize,
    },
}

/// A trial of the base and its partner.
#[derive(Debug, Clone, PartialEq)]
pub struct PairChange {
    /// The base's trial.
    pub base: TrialName,
    /// The new one.
    pub new: TrialName,
    /// Its figures, in the order of columns.
    pub figures: Vec<FigureChange>,
    /// Answers that changed.
    pub answers: Vec<AnswersChange>,
    /// Why one of them failed, if it did.
    pub failure: Option<String>,
}

impl PairChange {
    /// What the pair is called: the trial, or both where they are called otherwise.
    pub fn name(&self) -> String {
        let TrialName { model, label, settings } = &self.base;
        let same_label = *label == self.new.label;
        let (same_model, same_settings) =
            (*model == self.new.model, *settings == self.new.settings);
        let label =
            if same_label { label.clone() } else { format!("{label} → {}", self.new.label) };
        let model =
            if same_model { model.clone() } else { format!("{model} → {}", self.new.model) };
        let settings = match (same_settings, settings.as_str()) {
            (true, "defaults") => String::new(),
            (true, settings) => format!(" ({settings})"),
            (false, settings) => format!(" ({settings} → {})", self.new.settings),
        };
        format!("{model} {label}{settings}")
    }
}

/// A trial, as it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialName {
    /// The model.
    pub model: String,
    /// The variant's label.
    pub label: String,
    /// The settings, in words.
    pub settings: String,
}

/// What became of one figure.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureChange {
    /// Which.
    pub metric: Metric,
    /// The base's value; of several runs their mean.
    pub base: Option<f64>,
    /// The new one.
    pub new: Option<f64>,
    /// By how much it changed.
    pub change: Option<Change>,
    /// What that comes to.
    pub verdict: Verdict,
    /// Why it cannot be compared.
    pub why: Option<String>,
    /// Chunks of the text that both sides have and it is over, where one side has more.
    pub common_chunks: Option<usize>,
}

/// By how much a figure changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// In `unit`.
    pub value: f64,
    /// Holds the true change, together with those of all other figures, with 95 % probability.
    pub interval: Interval,
    /// 95 % interval of this figure alone.
    pub alone: Interval,
    /// What it is in.
    pub unit: ChangeUnit,
    /// Whether it is read off and has no noise.
    pub exact: bool,
}

/// What a change is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeUnit {
    /// A fraction of the base's value: −0.05 is 5 % less.
    #[serde(rename = "fraction")]
    Relative,
    /// Percentage points of a figure that is a part of something, or points of one from 0 to 100.
    Points,
    /// The figure's own unit.
    Absolute,
}

/// What may be said of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better, beyond the noise.
    Better,
    /// Worse, beyond the noise.
    Worse,
    /// The noise leaves it open, or there is none.
    NoDifference,
    /// It cannot be said.
    Incomparable,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference shown",
            Self::Incomparable => "cannot be compared",
        }
    }
}

/// What a pair of trials may say, before it is known how many figures there are.
struct Found {
    metric: Metric,
    base: Option<f64>,
    new: Option<f64>,
    shift: Result<Shift, String>,
    common_chunks: Option<usize>,
}

impl Comparison {
    /// Compares two sides. `others` are further runs, which tell how much runs of the same differ; of the figures, those
    /// are judged that a reader would miss, and those that `asked` is true of.
    ///
    /// # Errors
    /// A variant is not there, or no trial has a partner.
    pub fn of(
        base: &Side,
        new: &Side,
        others: &[RunRecord],
        asked: impl Fn(Metric) -> bool,
    ) -> Result<Self, Problem> {
        let Partners { pairs, only_base, only_new } = partners::of(base, new)?;
        let spreads = Spreads::of(&pairs, others);
        let is_shown = |found: &Found| {
            let descriptor = found.metric.descriptor();
            let is_essential = descriptor.importance >= ESSENTIAL;
            descriptor.better.is_some() && (is_essential || asked(found.metric))
        };
        let figures = pairs.iter().map(|pair| {
            let found = Ways { pair, spreads: &spreads }.all();
            found.into_iter().filter(is_shown).collect::<Vec<_>>()
        });
        let figures: Vec<Vec<Found>> = figures.collect();
        let is_noisy = |found: &&Found| found.shift.as_ref().is_ok_and(|it| !it.is_exact());
        let judged = figures.iter().flatten().filter(is_noisy).count();
        let (differences, alike) = differs::of(&pairs);
        let form = spreads.form(&pairs);
        let name = |pair: &Pair<'_>, is_new: bool| {
            let trial = pair.first(is_new).trial;
            let settings = pair.first(is_new && !pair.is_under_same()).trial.settings.to_string();
            TrialName { model: trial.model.clone(), label: called(trial).to_owned(), settings }
        };
        let pairs = pairs.iter().zip(figures).map(|(pair, figures)| PairChange {
            base: name(pair, false),
            new: name(pair, true),
            answers: answers::of(pair),
            failure: pair.failure(),
            figures: figures.into_iter().map(|found| found.judged(judged)).collect(),
        });
        Ok(Self { pairs: pairs.collect(), differences, alike, only_base, only_new, judged, form })
    }

    /// All figures with the pair that they are of.
    pub fn figures(&self) -> impl Iterator<Item = (&PairChange, &FigureChange)> {
        self.pairs.iter().flat_map(|pair| pair.figures.iter().map(move |figure| (pair, figure)))
    }

    /// How many figures have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.figures().filter(|(_, figure)| figure.verdict == verdict).count()
    }

    /// Whether a pair of single runs is all there is, and nothing is known of how much runs differ here.
    pub fn is_one_against_one(&self) -> bool {
        self.form == Form::Runs { base: 1, new: 1, others: 0 }
    }
}

impl Found {
    /// With the interval that holds together with those of so many figures.
    fn judged(self, among: usize) -> FigureChange {
        let Self { metric, base, new, shift, common_chunks } = self;
        let (change, why) = match shift {
            Ok(shift) => (Some(shift.change(among)), None),
            Err(why) => (None, Some(why)),
        };
        let verdict = change.map_or(Verdict::Incomparable, |change| {
            let Interval { low, high } = change.interval;
            match metric.descriptor().better {
                _ if low <= 0.0 && high >= 0.0 => Verdict::NoDifference,
                Some(Better::Higher) if low > 0.0 => Verdict::Better,
                Some(Better::Lower) if high < 0.0 => Verdict::Better,
                Some(_) => Verdict::Worse,
                None => Verdict::NoDifference,
            }
        });
        FigureChange { metric, base, new, change, verdict, why, common_chunks }
    }
}
