//! Choosing: first from what each group does alone, then from what it does within the mix.

use super::groups::{Group, bytes_as};
use super::interpolation::interpolate;
use super::knapsack::{self, Alternative, Solution};
use super::ledger::{Answer, Question};
use super::meter::Meter;
use super::{Assignment, Cost, MixError, Request, Told};
use crate::model::gguf::{GgmlType, Header};
use serde::{Deserialize, Serialize};

/// What a mix must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The file has at most so many bytes.
    FileBytes(u64),
    /// The tensors take at most so many bits per weight.
    BitsPerWeight(f64),
    /// The mean KLD from the original is at most so many nats.
    Divergence(f64),
}

/// Evaluations by which a divergence asked for is approached.
const APPROACHES: usize = 6;
/// A divergence this close below what was asked for, as a fraction, is approached no further.
const CLOSE: f64 = 0.02;

/// Bytes that no choice changes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Of the file: header, other tensors, padding.
    file_bytes: u64,
    /// Of the other tensors.
    tensor_bytes: u64,
    /// Weights of all tensors.
    parameters: u64,
}

impl Sizes {
    /// What `draft`, a file that llama.cpp made of the model, has beside the groups.
    #[must_use]
    pub fn new(draft: &Header, groups: &[Group]) -> Self {
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

    /// Bytes that the groups may take together; `None` if the target is no size.
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
    ///
    /// # Errors
    /// [`MixError::TooSmall`].
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    pub fn check(self, target: Target, groups: &[Group]) -> Result<(), MixError> {
        let Some(budget) = self.budget(target) else { return Ok(()) };
        let smallest = groups.iter().filter_map(|group| group.alternatives.first());
        let smallest: u64 = smallest.map(|alternative| alternative.bytes).sum();
        if smallest <= budget {
            return Ok(());
        }
        Err(MixError::TooSmall {
            smallest: smallest + self.file_bytes,
            bits_per_weight: (smallest + self.tensor_bytes) as f64 * 8.0 / self.parameters as f64,
            target: budget + self.file_bytes,
        })
    }
}

/// A choice, and what is known of it.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The choice.
    pub assignment: Assignment,
    /// Sum of what each group does alone, nats.
    pub sum_alone: f64,
    /// What was predicted before it was measured, nats.
    pub predicted: f64,
    /// What was measured.
    pub measured: Answer,
    /// See [`super::Report::gap`].
    pub gap: f64,
}

/// Divergence of every alternative of every group, nats; infinite: not to be chosen.
type Table = Vec<Vec<f64>>;

/// Measures and chooses.
pub struct Chooser<'a, 'r> {
    meter: Meter<'a>,
    sizes: Sizes,
    request: &'r Request<'r>,
}

impl<'a, 'r> Chooser<'a, 'r> {
    /// A chooser that has measured nothing yet.
    pub fn new(meter: Meter<'a>, sizes: Sizes, request: &'r Request<'r>) -> Self {
        Self { meter, sizes, request }
    }

    fn groups(&self) -> &'a [Group] {
        self.meter.groups
    }

    /// Evaluations made so far.
    pub fn evaluations(&self) -> u32 {
        self.meter.made
    }

    /// What lies ahead.
    pub fn cost(&self, seconds_per_evaluation: f64, model_bytes: u64) -> Cost {
        let asked = self.asked();
        let known = asked.iter().filter(|&&(group, place)| {
            let question = Question {
                around: String::new(),
                group: self.groups()[group].name.clone(),
                format: self.groups()[group].alternatives[place].format.name().to_owned(),
            };
            self.meter.ledger.get(&question).is_some()
        });
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Cost {
            groups: count(self.groups().len()),
            evaluations: count(asked.len()),
            known: count(known.count()),
            revising: (2 * count(self.groups().len()) + 1).saturating_mul(self.request.revisions),
            chunks: self.request.chunks,
            seconds_per_evaluation,
            model_bytes,
        }
    }

    /// The alternatives whose divergence is measured: those of the types asked for.
    fn asked(&self) -> Vec<(usize, usize)> {
        let wanted = |format: &GgmlType| {
            self.request.measured.is_empty() || self.request.measured.contains(format)
        };
        let mut asked = Vec::new();
        for (place, group) in self.groups().iter().enumerate() {
            let before = asked.len();
            for (alternative, stored) in group.alternatives.iter().enumerate() {
                if wanted(&stored.format) {
                    asked.push((place, alternative));
                }
            }
            if asked.len() == before {
                // None of the types fits these rows: the one in the middle stands for all.
                asked.push((place, group.alternatives.len() / 2));
            }
        }
        asked.retain(|&(place, _)| !self.groups()[place].alternatives.is_empty());
        asked
    }

    /// Measures what is not known yet, and chooses.
    ///
    /// # Errors
    /// See [`MixError`].
    pub fn choose(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Result<Choice, MixError> {
        let alone = self.measure_alone(tell)?;
        let mut best = match self.request.target {
            Target::Divergence(limit) => self.approach(&alone, limit, tell)?,
            _ => self.within_size(&alone, &alone, 0.0, tell)?,
        };
        for revision in 0..self.request.revisions {
            let around = self.measure_around(&best, revision, tell)?;
            let revised = match self.request.target {
                Target::Divergence(limit) => {
                    self.within_divergence(&alone, &around, best.measured.kld(), limit, tell)?
                }
                _ => self.within_size(&alone, &around, best.measured.kld(), tell)?,
            };
            if !self.is_better(&revised, &best) {
                break;
            }
            best = revised;
        }
        Ok(best)
    }

    fn is_better(&self, one: &Choice, other: &Choice) -> bool {
        match self.request.target {
            Target::Divergence(limit) => {
                one.measured.kld() <= limit
                    && one.assignment.bytes(self.groups()) < other.assignment.bytes(self.groups())
            }
            _ => one.measured.kld() < other.measured.kld(),
        }
    }

    /// Divergence of every alternative with all other groups as in the file.
    fn measure_alone(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Result<Table, MixError> {
        let asked = self.asked();
        let mut found: Vec<Vec<Option<f64>>> =
            self.groups().iter().map(|group| vec![None; group.alternatives.len()]).collect();
        for (done, &(group, place)) in asked.iter().enumerate() {
            let stored = &self.groups()[group];
            let note = format!("{} as {}", stored.name, stored.alternatives[place].format);
            let progress =
                &mut |part| tell(Told::Progress(fraction(done, part, asked.len()), &note));
            found[group][place] =
                Some(self.meter.measure_group(None, group, place, progress)?.kld());
        }
        let mut table = Table::new();
        for (group, found) in self.groups().iter().zip(found) {
            let measured: Option<Vec<f64>> = found.iter().copied().collect();
            table.push(match measured {
                Some(measured) => measured,
                None => interpolate(&self.errors(group)?, &found),
            });
        }
        Ok(table)
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
    fn measure_around(
        &mut self,
        choice: &Choice,
        revision: u32,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Table, MixError> {
        let base = choice.measured.kld();
        let count = self.groups().len();
        let mut table = Table::new();
        for group in 0..count {
            let own = choice.assignment.0[group];
            let mut row = vec![f64::INFINITY; self.groups()[group].alternatives.len()];
            for (place, change) in row.iter_mut().enumerate() {
                if place == own {
                    *change = 0.0;
                } else if place.abs_diff(own) == 1 {
                    let stored = &self.groups()[group];
                    let format = stored.alternatives[place].format;
                    let note = format!("revision {}: {} as {format}", revision + 1, stored.name);
                    let progress =
                        &mut |part| tell(Told::Progress(fraction(group, part, count), &note));
                    let around = Some(&choice.assignment);
                    let measured = self.meter.measure_group(around, group, place, progress)?;
                    *change = measured.kld() - base;
                }
            }
            table.push(row);
        }
        Ok(table)
    }

    /// The mix of least divergence within the size asked for.
    fn within_size(
        &mut self,
        alone: &Table,
        table: &Table,
        offset: f64,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Choice, MixError> {
        let budget = self.sizes.budget(self.request.target).unwrap_or(u64::MAX);
        let classes = self.classes(table, |kld, bytes| Alternative { cost: kld, weight: bytes });
        #[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
        let solution = knapsack::solve(&classes, budget as f64);
        let solution = solution.ok_or(MixError::NoReference)?;
        let predicted = offset + solution.cost;
        self.measured(alone, &solution, predicted, tell)
    }

    /// The smallest mix whose predicted divergence is within `limit`.
    fn within_divergence(
        &mut self,
        alone: &Table,
        table: &Table,
        offset: f64,
        limit: f64,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Choice, MixError> {
        let classes = self.classes(table, |kld, bytes| Alternative { cost: bytes, weight: kld });
        let solution = knapsack::solve(&classes, limit - offset);
        let solution = solution.unwrap_or_else(|| Self::largest(&classes));
        let predicted = offset + solution.weight;
        self.measured(alone, &solution, predicted, tell)
    }

    /// Approaches the smallest mix whose measured divergence is within `limit`: divergences do not simply
    /// add up, but more predicted divergence is more divergence.
    fn approach(
        &mut self,
        alone: &Table,
        limit: f64,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Choice, MixError> {
        let mut best: Option<Choice> = None;
        let mut allowed = limit;
        for _ in 0..APPROACHES {
            let choice = self.within_divergence(alone, alone, 0.0, allowed, tell)?;
            let kld = choice.measured.kld();
            allowed = choice.predicted * limit / kld.max(f64::MIN_POSITIVE);
            let smaller = best.as_ref().is_none_or(|best| {
                choice.assignment.bytes(self.groups()) < best.assignment.bytes(self.groups())
            });
            let known = best.as_ref().is_some_and(|best| best.assignment == choice.assignment);
            if kld <= limit && smaller {
                best = Some(choice);
            }
            if known || (kld <= limit && kld >= limit * (1.0 - CLOSE)) {
                break;
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
        let largest = self.within_divergence(alone, alone, 0.0, f64::NEG_INFINITY, tell)?;
        let kld = largest.measured.kld();
        if kld > limit { Err(MixError::TooPrecise { kld, limit }) } else { Ok(largest) }
    }

    /// The alternatives of every group as the knapsack sees them: those that may be chosen.
    fn classes(
        &self,
        table: &Table,
        alternative: impl Fn(f64, f64) -> Alternative,
    ) -> Vec<Vec<Alternative>> {
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
    fn largest(classes: &[Vec<Alternative>]) -> Solution {
        let chosen: Vec<usize> = classes.iter().map(|class| class.len() - 1).collect();
        let sum = |value: fn(&Alternative) -> f64| {
            classes.iter().zip(&chosen).map(|(class, &place)| value(&class[place])).sum()
        };
        let cost = sum(|alternative| alternative.cost);
        Solution { cost, weight: sum(|alternative| alternative.weight), lower_bound: cost, chosen }
    }

    fn measured(
        &mut self,
        alone: &Table,
        solution: &Solution,
        predicted: f64,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Choice, MixError> {
        let assignment = Assignment(solution.chosen.clone());
        let sum_alone = alone.iter().zip(&assignment.0).map(|(row, &place)| row[place]).sum();
        let measured = self.meter.measure_mix(&assignment, &mut |part| {
            tell(Told::Progress(part, "the mix"));
        })?;
        Ok(Choice { assignment, sum_alone, predicted, measured, gap: solution.gap() })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand evaluations")]
fn fraction(done: usize, part: f64, all: usize) -> f64 {
    (done as f64 + part) / all.max(1) as f64
}
