//! Choosing a mix: first by the divergence of each group alone, then by its change of the mix's divergence.

use super::MixError;
use super::groups::{Assignment, Group, bytes_as};
use super::interpolation::interpolate;
use super::jobs::MixJob;
use super::knapsack::{self, Item, Solution};
use super::ledger::Measurement;
use super::meter::Meter;
use crate::model::gguf::Header;
use crate::model::progress::Progress;
use crate::quantize::fraction;
use crate::statistics::sample::to_f64;
use crate::units::{format_bytes, format_seconds};
use serde::{Deserialize, Serialize};

/// The limit of a mix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Maximum size of the file, bytes.
    FileBytes(u64),
    /// Maximum bits per weight over all tensors.
    BitsPerWeight(f64),
    /// Maximum mean KLD from the original, nats.
    Divergence(f64),
}

/// Maximum number of mixes measured to reach a divergence.
const ATTEMPTS: usize = 6;
/// A divergence this close below the limit, as a fraction of it, is close enough.
const TOLERANCE: f64 = 0.02;

/// Sizes that no choice changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Header, other tensors and padding.
    file_bytes: u64,
    /// Other tensors.
    tensor_bytes: u64,
    /// Number of weights of all tensors.
    parameters: u64,
}

impl Sizes {
    /// From `draft`, a file that llama.cpp made of the model.
    pub(super) fn new(draft: &Header, groups: &[Group]) -> Self {
        let mut sizes = Self {
            file_bytes: draft.file_bytes,
            tensor_bytes: draft.tensor_bytes(),
            parameters: draft.parameters(),
        };
        let members = groups.iter().flat_map(|group| &group.tensors);
        for member in members {
            let stored = draft.tensors.iter().find(|tensor| tensor.name == member.name);
            let Some(stored) = stored else { continue };
            let padded = bytes_as(stored, stored.format);
            sizes.file_bytes = sizes.file_bytes.saturating_sub(padded);
            sizes.tensor_bytes = sizes.tensor_bytes.saturating_sub(stored.bytes);
        }
        sizes
    }

    /// Maximum bytes of all groups; `None` if the target is no size.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a file has fewer than 2^52 bytes, and a negative budget is cut to 0"
    )]
    fn budget(self, target: Target) -> Option<u64> {
        match target {
            Target::FileBytes(bytes) => Some(bytes.saturating_sub(self.file_bytes)),
            Target::BitsPerWeight(bits) => {
                let bytes = (bits * self.parameters as f64 / 8.0).floor() as u64;
                Some(bytes.saturating_sub(self.tensor_bytes))
            }
            Target::Divergence(_) => None,
        }
    }

    /// Refuses a target that even the smallest types exceed.
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    pub(super) fn check(self, target: Target, groups: &[Group]) -> Result<(), MixError> {
        let Some(budget) = self.budget(target) else { return Ok(()) };
        let smallest = groups.iter().filter_map(|group| group.alternatives.first());
        let smallest: u64 = smallest.map(|alternative| alternative.bytes).sum();
        if smallest <= budget {
            return Ok(());
        }
        let bits = (smallest + self.tensor_bytes) as f64 * 8.0 / self.parameters as f64;
        Err(MixError::Refused(format!(
            "the smallest mix of these types makes a file of {} bytes ({bits:.2} bits per weight), and the target \
             is {} bytes; raise the target or offer smaller types",
            smallest + self.file_bytes,
            budget + self.file_bytes
        )))
    }
}

/// A mix, and its divergence in nats.
#[derive(Debug, Clone)]
pub(super) struct MeasuredMix {
    pub(super) assignment: Assignment,
    /// Sum of the divergences of each group alone.
    pub(super) sum_alone: f64,
    /// Predicted before the mix was measured.
    pub(super) predicted: f64,
    pub(super) measured: Measurement,
    /// See [`super::MixReport::gap`].
    pub(super) gap: f64,
}

/// Divergence of every alternative of every group, nats; infinite: not to be chosen.
type Table = Vec<Vec<f64>>;

pub(super) struct Chooser<'a, 'r> {
    meter: Meter<'a>,
    sizes: Sizes,
    job: &'r MixJob,
    on_progress: &'r mut dyn FnMut(Progress),
    /// Divergence of each alternative with all other groups as in the file.
    alone: Table,
}

impl<'a, 'r> Chooser<'a, 'r> {
    pub(super) fn new(
        meter: Meter<'a>,
        sizes: Sizes,
        job: &'r MixJob,
        on_progress: &'r mut dyn FnMut(Progress),
    ) -> Self {
        Self { meter, sizes, job, on_progress, alone: Table::new() }
    }

    fn groups(&self) -> &'a [Group] {
        self.meter.groups
    }

    /// What the measuring takes, in one sentence.
    fn cost(&self, seconds_per_evaluation: f64, model_bytes: u64) -> String {
        let to_measure = self.to_measure();
        let is_known = |&&(group, place): &&(usize, usize)| {
            self.meter.ledger.get(&self.meter.key(None, group, place)).is_some()
        };
        let known = to_measure.iter().filter(is_known).count();
        let left = to_measure.len() - known;
        let (groups, chunks) = (self.groups().len(), self.job.chunks);
        let length =
            |evaluations: usize| format_seconds(to_f64(evaluations) * seconds_per_evaluation);
        let mut told = format!("{groups} groups of tensors; {left} evaluations of {chunks} chunks");
        if known > 0 {
            told += &format!(" ({known} more are known from before)");
        }
        told += &format!(", about {}", length(left));
        let revising = (2 * groups + 1).saturating_mul(self.job.revisions as usize);
        if revising > 0 {
            let length = length(revising);
            told += &format!(", and at most {revising} to revise it, about {length}");
        }
        format!("{told}; the model takes {} of memory", format_bytes(model_bytes))
    }

    /// Groups and alternatives whose divergence is measured.
    fn to_measure(&self) -> Vec<(usize, usize)> {
        let measured = &self.job.measured_types;
        let mut pairs = Vec::new();
        for (group, Group { alternatives, .. }) in self.groups().iter().enumerate() {
            let mut places: Vec<usize> = (0..alternatives.len())
                .filter(|&place| {
                    measured.is_empty() || measured.contains(&alternatives[place].format)
                })
                .collect();
            if places.is_empty() && !alternatives.is_empty() {
                // None of the types fits these rows: the one in the middle stands for all.
                places.push(alternatives.len() / 2);
            }
            pairs.extend(places.into_iter().map(|place| (group, place)));
        }
        pairs
    }

    /// Announces the cost, measures what is not known yet, and chooses. Returns the number of evaluations too.
    pub(super) fn choose(
        mut self,
        seconds_per_evaluation: f64,
        model_bytes: u64,
    ) -> Result<(MeasuredMix, u32), MixError> {
        let cost = self.cost(seconds_per_evaluation, model_bytes);
        (self.on_progress)(Progress::Note(cost));
        let alone = self.measure_alone()?;
        self.alone.clone_from(&alone);
        let mut best = match self.job.target {
            Target::Divergence(limit) => self.approach(&alone, limit)?,
            _ => self.within_size(&alone, 0.0)?,
        };
        for revision in 0..self.job.revisions {
            let around = self.measure_around(&best, revision)?;
            let offset = best.measured.kld();
            let revised = match self.job.target {
                Target::Divergence(limit) => self.within_divergence(&around, offset, limit)?,
                _ => self.within_size(&around, offset)?,
            };
            if !self.is_better(&revised, &best) {
                break;
            }
            best = revised;
        }
        Ok((best, self.meter.evaluations))
    }

    fn is_smaller(&self, one: &MeasuredMix, other: &MeasuredMix) -> bool {
        one.assignment.bytes(self.groups()) < other.assignment.bytes(self.groups())
    }

    fn is_better(&self, one: &MeasuredMix, other: &MeasuredMix) -> bool {
        match self.job.target {
            Target::Divergence(limit) => one.measured.kld() <= limit && self.is_smaller(one, other),
            _ => one.measured.kld() < other.measured.kld(),
        }
    }

    /// Measures one alternative as part `done` of `all`.
    fn measure(
        &mut self,
        around: Option<&Assignment>,
        (group, place): (usize, usize),
        (done, all): (usize, usize),
        stage: &str,
    ) -> Result<f64, MixError> {
        let stored = &self.groups()[group];
        let note = format!("{stage}{} as {}", stored.name, stored.alternatives[place].format);
        let on_progress = &mut self.on_progress;
        let on_fraction = &mut |part| {
            on_progress(Progress::Fraction(fraction(done, part, all), note.clone()));
        };
        Ok(self.meter.measure_group(around, group, place, on_fraction)?.kld())
    }

    fn measure_alone(&mut self) -> Result<Table, MixError> {
        let pairs = self.to_measure();
        let mut found: Vec<Vec<Option<f64>>> =
            self.groups().iter().map(|group| vec![None; group.alternatives.len()]).collect();
        for (done, &(group, place)) in pairs.iter().enumerate() {
            let kld = self.measure(None, (group, place), (done, pairs.len()), "")?;
            found[group][place] = Some(kld);
        }
        let groups = self.groups().iter().zip(found);
        groups
            .map(|(group, found)| match found.iter().copied().collect() {
                Some(measured) => Ok(measured),
                None => Ok(interpolate(&self.errors(group)?, &found)),
            })
            .collect()
    }

    /// Weight error of every alternative of a group.
    fn errors(&self, group: &Group) -> Result<Vec<f64>, MixError> {
        let mut errors = Vec::new();
        for alternative in &group.alternatives {
            let mut sum = 0.0;
            for (tensor, &format) in group.tensors.iter().zip(&alternative.formats) {
                sum += self.meter.original.rounded(&tensor.name, format)?.error;
            }
            errors.push(sum);
        }
        Ok(errors)
    }

    /// Change of the mix's divergence when one group is stored one step smaller or larger.
    fn measure_around(&mut self, choice: &MeasuredMix, revision: u32) -> Result<Table, MixError> {
        let base = choice.measured.kld();
        let stage = format!("revision {}: ", revision + 1);
        let count = self.groups().len();
        let mut table = Table::new();
        for group in 0..count {
            let own = choice.assignment.0[group];
            let mut row = vec![f64::INFINITY; self.groups()[group].alternatives.len()];
            for (place, change) in row.iter_mut().enumerate() {
                if place == own {
                    *change = 0.0;
                } else if place.abs_diff(own) == 1 {
                    let around = Some(&choice.assignment);
                    *change = self.measure(around, (group, place), (group, count), &stage)? - base;
                }
            }
            table.push(row);
        }
        Ok(table)
    }

    /// The mix of least divergence within the size asked for.
    fn within_size(&mut self, table: &Table, offset: f64) -> Result<MeasuredMix, MixError> {
        let budget = self.sizes.budget(self.job.target).unwrap_or(u64::MAX);
        let classes = self.classes(table, |kld, bytes| Item { cost: kld, weight: bytes });
        #[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
        let solution = knapsack::solve(&classes, budget as f64);
        let solution = solution.ok_or_else(MixError::no_reference)?;
        self.measure_mix(&solution, offset + solution.cost)
    }

    /// The smallest mix whose predicted divergence is within `limit`.
    fn within_divergence(
        &mut self,
        table: &Table,
        offset: f64,
        limit: f64,
    ) -> Result<MeasuredMix, MixError> {
        let classes = self.classes(table, |kld, bytes| Item { cost: bytes, weight: kld });
        let solution = knapsack::solve(&classes, limit - offset);
        let solution = solution.unwrap_or_else(|| Self::largest(&classes));
        self.measure_mix(&solution, offset + solution.weight)
    }

    /// Approaches the smallest mix whose measured divergence is within `limit`. Divergences do not simply add up, but a
    /// higher prediction means a higher divergence.
    fn approach(&mut self, alone: &Table, limit: f64) -> Result<MeasuredMix, MixError> {
        let mut best: Option<MeasuredMix> = None;
        let mut allowed = limit;
        for _ in 0..ATTEMPTS {
            let choice = self.within_divergence(alone, 0.0, allowed)?;
            let kld = choice.measured.kld();
            allowed = choice.predicted * limit / kld.max(f64::MIN_POSITIVE);
            let is_known = best.as_ref().is_some_and(|best| best.assignment == choice.assignment);
            if kld <= limit && best.as_ref().is_none_or(|best| self.is_smaller(&choice, best)) {
                best = Some(choice);
            }
            if is_known || (kld <= limit && kld >= limit * (1.0 - TOLERANCE)) {
                break;
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
        let largest = self.within_divergence(alone, 0.0, f64::NEG_INFINITY)?;
        let kld = largest.measured.kld();
        if kld <= limit {
            return Ok(largest);
        }
        Err(MixError::Refused(format!(
            "the largest mix of these types diverges by {kld:.5} nats, and at most {limit} were asked for; \
             raise --max-kld or offer larger types"
        )))
    }

    /// The alternatives of every group for the knapsack.
    fn classes(&self, table: &Table, alternative: impl Fn(f64, f64) -> Item) -> Vec<Vec<Item>> {
        let groups = self.groups().iter().zip(table);
        groups
            .map(|(group, row)| {
                let stored = group.alternatives.iter().zip(row);
                #[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
                stored.map(|(stored, &kld)| alternative(kld, stored.bytes as f64)).collect()
            })
            .collect()
    }

    /// The largest alternative of every group.
    fn largest(classes: &[Vec<Item>]) -> Solution {
        let chosen: Vec<usize> = classes.iter().map(|class| class.len() - 1).collect();
        let sum = |value: fn(&Item) -> f64| {
            classes.iter().zip(&chosen).map(|(class, &place)| value(&class[place])).sum()
        };
        let cost = sum(|alternative| alternative.cost);
        Solution { cost, weight: sum(|alternative| alternative.weight), lower_bound: cost, chosen }
    }

    fn measure_mix(
        &mut self,
        solution: &Solution,
        predicted: f64,
    ) -> Result<MeasuredMix, MixError> {
        let assignment = Assignment(solution.chosen.clone());
        let sum_alone = self.alone.iter().zip(&assignment.0).map(|(row, &place)| row[place]).sum();
        let on_progress = &mut self.on_progress;
        let measured = self.meter.measure_mix(&assignment, &mut |part| {
            on_progress(Progress::Fraction(part, "the mix".to_owned()));
        })?;
        Ok(MeasuredMix { assignment, sum_alone, predicted, measured, gap: solution.gap() })
    }
}
