//! A search over settings: [`Search`] finds the fastest, [`Confirm`] compares what was found with the defaults.
//!
//! The search is a race in interleaved rounds. The first round visits the defaults and every setting with one choice
//! changed. After each round those leave that are slower than the fastest beyond the noise, the slower half too if time is
//! short. From the second on, the choices that gained are put together and join; then every choice is changed once more
//! around the fastest. Whenever it stops, there is an answer.

mod confirm;

pub use confirm::Confirm;

use super::{Known, Step, Strategy, is_pointless};
use crate::experiment::settings::Settings;
use crate::experiment::tuning::Space;
use crate::experiment::workloads::SpeedTest;
use crate::orchestrator::cost::Costs;
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::results::gain::course;
use crate::results::record::RunRecord;
use crate::statistics::race::{Lead, Race};
use crate::statistics::spread::Spread;
use std::collections::VecDeque;
use std::time::Duration;

/// Who is slower by more than this factor in the first round needs no second: noise within a round is less.
const FAR_BEHIND: f64 = 1.25;

/// A gain below this part is not worth looking for.
const SMALLEST_GAIN: f64 = 0.01;

/// Rounds after which more change little.
const MOST_ROUNDS: u32 = 12;

/// Rounds that should be left for those that stay.
const ROUNDS_LEFT: f64 = 2.5;

/// Part of the budget that the first round may take.
const FIRST_ROUND: f64 = 0.5;

/// Candidates that are visited even if that takes longer.
const LEAST_TRIED: usize = 2;

/// Part of the budget in which random search draws; the rest tells the best of them apart.
const DRAWING: f64 = 0.6;

/// Settings that random search tells apart in the end.
const DRAWN: usize = 4;

/// How candidates come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One choice changed at a time, then what gained put together.
    Choices,
    /// Drawn from the whole space, to compare with.
    Random(u64),
}

/// Looks for the fastest settings within a time.
#[derive(Debug)]
pub struct Search {
    space: Space,
    tests: Vec<SpeedTest>,
    /// Seconds, those before the first visit included.
    budget: f64,
    method: Method,
    /// The round, once it is known, and who is still to be visited in it.
    round: Option<(u32, VecDeque<usize>)>,
    /// Candidates that join before the next visit.
    joining: Vec<Settings>,
    /// The settings around which every choice was changed.
    centres: Vec<Settings>,
}

/// A candidate and how far it is ahead of the defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placing {
    /// Its place among the trials.
    pub trial: usize,
    /// Against the defaults, in logarithms.
    pub lead: Lead,
    /// Standard error of the lead; `None`: no spread is known.
    pub standard_error: Option<f64>,
}

impl Placing {
    /// What can be relied on: one standard error below the mean.
    fn reliable(&self) -> f64 {
        self.lead.mean - self.standard_error.unwrap_or(0.0)
    }
}

/// What is known of a race.
struct Field {
    race: Race,
    spread: Option<Spread>,
    /// Those that met the defaults, the fastest first; without them.
    placings: Vec<Placing>,
}

impl Field {
    fn of(run: &RunRecord, tests: &[SpeedTest]) -> Self {
        let courses = run.trials.iter().map(|trial| course(trial, tests)).collect();
        let race = Race { courses };
        let spread = race.spread();
        let placing = |trial: usize| {
            let lead = race.lead(trial, 0)?;
            let standard_error = spread.map(|spread| spread.standard_error(lead));
            let is_sound = run.trials[trial].failure.is_none();
            is_sound.then_some(Placing { trial, lead, standard_error })
        };
        let mut placings: Vec<Placing> = (1..race.courses.len()).filter_map(placing).collect();
        placings.sort_by(|one, other| other.lead.mean.total_cmp(&one.lead.mean));
        Self { race, spread, placings }
    }

    /// The fastest, the defaults included, of those with the most rounds that say something.
    fn fastest(&self) -> usize {
        let of_rounds = |least: usize| {
            let enough = self.placings.iter().filter(|it| it.lead.rounds >= least);
            enough.max_by(|one, other| one.reliable().total_cmp(&other.reliable()))
        };
        let best = of_rounds(2).or_else(|| of_rounds(1));
        best.filter(|it| it.lead.mean > 0.0).map_or(0, |it| it.trial)
    }

    /// Whether a candidate is worth another round.
    fn stays(&self, placing: &Placing, fastest: usize) -> bool {
        let Placing { trial, lead, .. } = *placing;
        if trial == fastest {
            return true;
        }
        // Those that never met are compared through the defaults, which meet all.
        let met = self.race.lead(fastest, trial).or_else(|| {
            let of_fastest = self.race.lead(fastest, 0)?;
            let rounds = of_fastest.rounds.min(lead.rounds);
            Some(Lead { mean: of_fastest.mean - lead.mean, rounds })
        });
        let Some(behind) = met else { return true };
        if behind.rounds < 2 || self.spread.is_none() {
            return behind.mean < FAR_BEHIND.ln();
        }
        let Some(spread) = self.spread else { return true };
        let is_slower = behind.mean > spread.half_width(behind, self.placings.len());
        let may_gain = lead.mean + spread.half_width(lead, 1) > SMALLEST_GAIN;
        !is_slower && may_gain
    }
}

/// How every candidate stands against the defaults, the fastest first.
pub fn placings(run: &RunRecord, tests: &[SpeedTest]) -> Vec<Placing> {
    Field::of(run, tests).placings
}

/// The candidate that can be relied on most to be faster than the defaults, of those that may be taken; `None`: none
/// seems to be.
pub fn leader(
    run: &RunRecord,
    tests: &[SpeedTest],
    mut may_take: impl FnMut(&Settings) -> bool,
) -> Option<Placing> {
    let mut field = Field::of(run, tests);
    field.placings.retain(|it| may_take(&run.trials[it.trial].settings));
    let fastest = field.fastest();
    field.placings.into_iter().find(|it| it.trial == fastest)
}

impl Search {
    /// Within a time, for the speed of these tests.
    pub fn new(space: Space, tests: Vec<SpeedTest>, budget: Duration, method: Method) -> Self {
        let budget = budget.as_secs_f64();
        let (joining, centres) = (Vec::new(), Vec::new());
        Self { space, tests, budget, method, round: None, joining, centres }
    }

    fn left(&self, known: &Known<'_>) -> f64 {
        self.budget - known.run.active_seconds.unwrap_or(0.0)
    }

    fn cost(known: &Known<'_>, trials: &[usize], round: u32) -> f64 {
        let visit = |&trial: &usize| PlannedVisit { trial, purpose: Purpose::Round(round) };
        Costs::of(known).all(&trials.iter().map(visit).collect::<Vec<_>>()).unwrap_or(0.0)
    }

    /// The round that is under way, or the first.
    fn resume(&mut self, known: &Known<'_>) {
        let begun = known.run.trials.iter().flat_map(|it| &it.visits).map(|it| it.round).max();
        let round = begun.unwrap_or(0);
        if round == 0 && self.method == Method::Choices {
            self.joining = self.space.singles();
            self.joining.retain(|it| !is_there(known, it));
            self.joining.reverse();
        }
        let mut trials = if round == 0 {
            (0..known.run.trials.len()).collect()
        } else {
            let field = Field::of(known.run, &self.tests);
            let fastest = field.fastest();
            let stays =
                |it: &&Placing| field.stays(it, fastest) && was_in(known, it.trial, round - 1);
            let mut trials = vec![0];
            trials.extend(field.placings.iter().filter(stays).map(|it| it.trial));
            // Those that had joined and were not visited yet.
            let singles = self.space.singles().len();
            let joined = (singles + 1..known.run.trials.len())
                .filter(|&trial| known.run.trials[trial].visits.is_empty());
            trials.extend(joined);
            trials
        };
        trials.retain(|&trial| !was_in(known, trial, round));
        self.round = Some((round, in_order(trials, round)));
    }

    /// Who is visited in the round after `last`; nobody, when nothing would change.
    fn begin(&mut self, known: &Known<'_>, last: u32) {
        let round = last + 1;
        let field = Field::of(known.run, &self.tests);
        let fastest = field.fastest();
        // Who has left stays away.
        let stays = |it: &&Placing| was_in(known, it.trial, last) && field.stays(it, fastest);
        let mut staying: Vec<Placing> = field.placings.iter().filter(stays).copied().collect();
        if let Method::Random(_) = self.method {
            staying.truncate(DRAWN);
        }
        let trials = |staying: &[Placing]| {
            let mut trials = vec![0];
            trials.extend(staying.iter().map(|it| it.trial));
            trials
        };
        let left = self.left(known);
        // The defaults and one other are the least that is a race.
        while staying.len() > 1 && Self::cost(known, &trials(&staying), round) * ROUNDS_LEFT > left
        {
            staying.truncate(staying.len().div_ceil(2));
        }
        let entrants = trials(&staying);
        let cost = Self::cost(known, &entrants, round);
        if cost > left || round >= MOST_ROUNDS {
            self.round = Some((round, VecDeque::new()));
            return;
        }
        if self.method == Method::Choices {
            self.joining = self.joiners(known, &field, round, (left - cost) / 2.0);
        }
        let is_settled = staying.len() <= 1
            && self.joining.is_empty()
            && staying.first().is_none_or(|it| it.lead.rounds >= 3);
        let entrants = if is_settled { Vec::new() } else { entrants };
        self.round = Some((round, in_order(entrants, round)));
    }

    /// Candidates that join in a round, as many as there is time for.
    fn joiners(
        &mut self,
        known: &Known<'_>,
        field: &Field,
        round: u32,
        seconds: f64,
    ) -> Vec<Settings> {
        let each = Self::cost(known, &[0], round).max(f64::MIN_POSITIVE);
        let is_late = seconds < 2.0 * Self::cost(known, &[0, 0, 0], round);
        let mut joining = Vec::new();
        if round >= 2 || is_late {
            joining.extend(self.together(known, field).filter(|it| !is_there(known, it)));
        }
        let centre = &known.run.trials[field.fastest()].settings;
        if joining.is_empty() && round >= 3 && !self.centres.contains(centre) {
            self.centres.push(centre.clone());
            let around = self.space.around(centre).into_iter();
            joining.extend(
                around.filter(|it| {
                    !is_there(known, it) && !self.is_hopeless(known, field, it, centre)
                }),
            );
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        joining.truncate((seconds / each).max(0.0) as usize);
        joining.reverse();
        joining
    }

    /// For every factor the value that gained most, if any did beyond its standard error.
    fn together(&self, known: &Known<'_>, field: &Field) -> Option<Settings> {
        let mut settings = self.space.base.clone();
        for factor in &self.space.factors {
            let single = |placing: &&Placing| {
                let changes = self.space.changes(&known.run.trials[placing.trial].settings);
                matches!(changes.as_slice(), [(only, _)] if *only == factor)
            };
            let best = field.placings.iter().find(single);
            let gained = best.filter(|it| match it.standard_error {
                Some(error) => it.lead.mean > error.max(SMALLEST_GAIN / 3.0),
                None => it.lead.mean > 3.0 * SMALLEST_GAIN,
            });
            if let Some(gained) = gained {
                let value = self.space.value(&known.run.trials[gained.trial].settings, factor);
                settings = self.space.with(&settings, factor, &value).unwrap_or(settings);
            }
        }
        (settings != self.space.base).then_some(settings)
    }

    /// Whether the choice in which settings differ from the centre was clearly slower by itself.
    fn is_hopeless(
        &self,
        known: &Known<'_>,
        field: &Field,
        settings: &Settings,
        centre: &Settings,
    ) -> bool {
        let changed =
            self.space.factors.iter().find(|factor| {
                self.space.value(settings, factor) != self.space.value(centre, factor)
            });
        let Some(factor) = changed else { return true };
        let value = self.space.value(settings, factor);
        let Some(single) = self.space.with(&self.space.base, factor, &value) else { return true };
        let found = field.placings.iter().find(|it| known.run.trials[it.trial].settings == single);
        found.is_some_and(|it| it.lead.mean < -FAR_BEHIND.ln() / 2.0)
    }

    /// The next settings that are drawn.
    fn draw(&self, known: &Known<'_>, seed: u64) -> Settings {
        let drawn = known.run.trials.len() as u64;
        let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(drawn));
        let mut draws = std::iter::repeat_with(|| self.space.random(&mut random)).take(100);
        let settings = draws.find(|it| !is_there(known, it));
        settings.unwrap_or_else(|| self.space.base.clone())
    }

    /// Whether there is time for a visit. What it costs is known from the first on.
    fn has_time(&self, known: &Known<'_>, trial: usize, round: u32) -> bool {
        let spent = known.run.active_seconds.unwrap_or(0.0);
        let cost = Self::cost(known, &[trial], round);
        let visited = known.run.trials.iter().filter(|it| !it.visits.is_empty()).count();
        let within = match (round, self.method) {
            // Without some to compare there is no answer at all.
            (0, Method::Choices) if visited > LEAST_TRIED => {
                spent + cost <= self.budget * FIRST_ROUND
            }
            _ => true,
        };
        within && cost <= self.left(known)
    }
}

/// Whether a trial was visited in a round.
fn was_in(known: &Known<'_>, trial: usize, round: u32) -> bool {
    known.run.trials[trial].visits.iter().any(|visit| visit.round == round)
}

/// Whether settings are raced already.
fn is_there(known: &Known<'_>, settings: &Settings) -> bool {
    known.plan.trials.iter().any(|trial| trial.settings == *settings)
}

/// In an order that is another in each round; in the first the defaults come first, which tells what visits cost.
fn in_order(mut trials: Vec<usize>, round: u32) -> VecDeque<usize> {
    if round > 0 {
        fastrand::Rng::with_seed(u64::from(round)).shuffle(&mut trials);
    }
    trials.into()
}

impl Strategy for Search {
    fn next(&mut self, known: &Known<'_>) -> Step {
        if self.round.is_none() {
            self.resume(known);
        }
        loop {
            if let Some(settings) = self.joining.pop() {
                let trial = known.plan.under(known.experiment, 0, settings);
                if let Some((_, ahead)) = &mut self.round {
                    ahead.push_back(known.plan.trials.len());
                }
                return Step::Add(Box::new(trial));
            }
            let Some((round, ahead)) = &mut self.round else { return Step::Done };
            let round = *round;
            let Some(trial) = ahead.pop_front() else {
                if let (0, Method::Random(seed)) = (round, self.method)
                    && known.run.active_seconds.unwrap_or(0.0) < self.budget * DRAWING
                    && Self::cost(known, &[0], 0) <= self.left(known)
                {
                    let settings = self.draw(known, seed);
                    if !is_there(known, &settings) {
                        self.joining.push(settings);
                        continue;
                    }
                }
                // The defaults tell what all others are compared with.
                if known.run.trials[0].failure.is_some() {
                    return Step::Done;
                }
                self.begin(known, round);
                let is_over = |it: &(u32, VecDeque<usize>)| it.1.is_empty();
                if self.joining.is_empty() && self.round.as_ref().is_none_or(is_over) {
                    return Step::Done;
                }
                continue;
            };
            let visit = PlannedVisit { trial, purpose: Purpose::Round(round) };
            if !is_pointless(known, visit) && self.has_time(known, trial, round) {
                return Step::Visit(visit);
            }
        }
    }

    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let Some((round, ahead)) = &self.round else {
            let purpose = Purpose::Round(0);
            return (0..known.plan.trials.len())
                .map(|trial| PlannedVisit { trial, purpose })
                .collect();
        };
        let visit = |&trial: &usize| PlannedVisit { trial, purpose: Purpose::Round(*round) };
        ahead.iter().filter(|&&trial| trial < known.plan.trials.len()).map(visit).collect()
    }
}

#[cfg(test)]
mod tests;
