//! Partners: which trial of one side belongs to which of the other.

use super::side::{Member, Side};
use crate::causes::Problem;
use crate::experiment::settings::Settings;
use crate::model::adapter::Adapter;
use crate::results::extract;
use crate::results::figure::Figure;
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A trial of one run with its figures.
pub(super) struct Measured<'a> {
    pub(super) run: &'a RunRecord,
    pub(super) trial: &'a TrialRecord,
    pub(super) figures: BTreeMap<Metric, Figure>,
}

impl<'a> Measured<'a> {
    pub(super) fn of(run: &'a RunRecord, trial: &'a TrialRecord) -> Self {
        Self { run, trial, figures: extract::figures(trial) }
    }
}

/// A trial of the base in each of its runs that has it, and the same of the new side; at least one of each.
pub(super) struct Pair<'a> {
    pub(super) base: Vec<Measured<'a>>,
    pub(super) new: Vec<Measured<'a>>,
}

/// All pairs, and the trials of the first run of each side that have no partner, in words.
pub(super) struct Partners<'a> {
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) only_base: Vec<String>,
    pub(super) only_new: Vec<String>,
}

/// Finds the partners.
///
/// # Errors
/// A variant is not there, or nothing has a partner.
pub(super) fn of<'a>(base: &'a Side, new: &'a Side) -> Result<Partners<'a>, Problem> {
    let bare = base.names_variant() && new.names_variant();
    let (one, other) = (Slots::of(base, bare)?, Slots::of(new, bare)?);
    let matched = matches(&one.traits(bare), &other.traits(bare));
    let left = |slots: &Slots<'a>, used: &dyn Fn(usize) -> bool| -> Vec<String> {
        let left = slots.0.iter().enumerate().filter(|(at, _)| !used(*at));
        left.map(|(_, slot)| in_words(slot[0].1)).collect()
    };
    let only_base = left(&one, &|at| matched.iter().any(|(base, _)| *base == at));
    let only_new = left(&other, &|at| matched.iter().any(|(_, new)| *new == at));
    if matched.is_empty() {
        return Err(Problem::new(format!(
            "nothing of {} has a partner in {}: {} there, {} here; name two variants to compare those, as RUN:VARIANT",
            base.name(),
            new.name(),
            only_base.join(", "),
            only_new.join(", ")
        )));
    }
    let is_itself = |&(base, new): &(usize, usize)| {
        let ((run, trial), (other_run, other)) = (one.0[base][0], other.0[new][0]);
        (&run.id, run.started, &trial.label, &trial.model, &trial.settings)
            == (&other_run.id, other_run.started, &other.label, &other.model, &other.settings)
    };
    if matched.iter().any(is_itself) {
        return Err(Problem::new(format!(
            "{} and {} are the same run; name two runs, or two variants of one as RUN:VARIANT",
            base.name(),
            new.name()
        )));
    }
    // A run is one observation of a side, however often it is named, and of both sides none.
    let is_run = |one: &Member, other: &Member| {
        (&one.run.id, one.run.started) == (&other.run.id, other.run.started)
    };
    let again = |side: &'a Side| {
        let mut members = side.0.iter().enumerate();
        members.find(|(at, one)| side.0[..*at].iter().any(|it| is_run(it, one)))
    };
    let is_on_both = |one: &&Member| new.0.iter().any(|it| is_run(it, one) && it.part == one.part);
    let twice = again(base).or_else(|| again(new)).map(|(_, member)| member);
    if let Some(member) = twice.or_else(|| base.0.iter().find(is_on_both)) {
        return Err(Problem::new(format!(
            "{} is named twice, and a run is one observation; name it once",
            member.name
        )));
    }
    let measured = |slot: &[(&'a RunRecord, &'a TrialRecord)]| -> Vec<Measured<'a>> {
        slot.iter().map(|&(run, trial)| Measured::of(run, trial)).collect()
    };
    let pair = |&(base, new): &(usize, usize)| Pair {
        base: measured(&one.0[base]),
        new: measured(&other.0[new]),
    };
    Ok(Partners { pairs: matched.iter().map(pair).collect(), only_base, only_new })
}

/// The trials of a side's first run, each with those of its other runs that are the same.
struct Slots<'a>(Vec<Vec<(&'a RunRecord, &'a TrialRecord)>>);

impl<'a> Slots<'a> {
    fn of(side: &'a Side, bare: bool) -> Result<Self, Problem> {
        let of_member = |member: &'a Member| -> Result<Vec<(&RunRecord, &TrialRecord)>, Problem> {
            Ok(member.trials()?.into_iter().map(|trial| (&member.run, trial)).collect())
        };
        let mut slots: Vec<Vec<_>> = Vec::new();
        for (number, member) in side.0.iter().enumerate() {
            let trials = of_member(member)?;
            if number == 0 {
                slots = trials.into_iter().map(|trial| vec![trial]).collect();
                continue;
            }
            let known = Self(slots.clone()).traits(bare);
            let more: Vec<Traits<'_>> =
                trials.iter().map(|(_, trial)| Traits::of(trial, bare)).collect();
            for (at, more) in matches(&known, &more) {
                slots[at].push(trials[more]);
            }
        }
        Ok(Self(slots))
    }

    fn traits(&self, bare: bool) -> Vec<Traits<'a>> {
        self.0.iter().map(|slot| Traits::of(slot[0].1, bare)).collect()
    }
}

/// What trials are told apart by.
struct Traits<'a> {
    model: &'a str,
    /// `None` where a variant of each side was named: then they are partners whatever they are called.
    label: Option<&'a str>,
    checksum: Option<&'a str>,
    /// What the file holds, for programs that name it otherwise.
    content: Option<(u64, u64)>,
    settings: Settings,
    adapters: &'a [Adapter],
}

impl<'a> Traits<'a> {
    fn of(trial: &'a TrialRecord, bare: bool) -> Self {
        let facts = trial.facts.as_ref();
        let mut settings = trial.settings.clone();
        // What was left to the engine, where it tells what that came to.
        let threads = facts.map(|facts| facts.threads).filter(|&threads| threads > 0);
        settings.threads = settings.threads.or(threads);
        Self {
            model: &trial.model,
            label: Some(called(trial)).filter(|_| !bare),
            checksum: trial.artifact.as_ref().map(|artifact| artifact.checksum.as_str()),
            content: facts.map(|facts| (facts.parameters, facts.tensor_bytes)),
            settings,
            adapters: &trial.adapters,
        }
    }

    fn is_under_same(&self, other: &Self) -> bool {
        self.settings == other.settings && self.adapters == other.adapters
    }

    fn is_named_alike(&self, other: &Self) -> bool {
        self.model == other.model && self.label == other.label
    }

    fn is_of_same_file(&self, other: &Self) -> bool {
        self.checksum.is_some() && self.checksum == other.checksum
    }
}

/// What a trial is called; of one that repeats another, what that was.
pub(super) fn called(trial: &TrialRecord) -> &str {
    trial.repeats.as_ref().map_or(&trial.label, |repeats| &repeats.label)
}

/// Positions of partners in two lists of trials, in the order of the first.
pub fn positions(one: &[TrialRecord], other: &[TrialRecord]) -> Vec<(usize, usize)> {
    matches(&all_traits(one), &all_traits(other))
}

fn all_traits(trials: &[TrialRecord]) -> Vec<Traits<'_>> {
    trials.iter().map(|trial| Traits::of(trial, false)).collect()
}

type Rule = fn(&Traits<'_>, &Traits<'_>) -> bool;

/// Ways to be partners, the surest first.
const RULES: [Rule; 8] = [
    |one, other| {
        one.is_named_alike(other) && one.is_under_same(other) && one.is_of_same_file(other)
    },
    |one, other| one.is_named_alike(other) && one.is_under_same(other),
    |one, other| one.is_of_same_file(other) && one.is_under_same(other),
    |one, other| one.content.is_some() && one.content == other.content && one.is_under_same(other),
    |one, other| one.label == other.label && one.is_under_same(other),
    |one, other| one.is_named_alike(other),
    |one, other| one.is_of_same_file(other),
    |one, other| one.label == other.label,
];

/// Positions of partners, each once. By what is less than sure only those are that have no other choice.
fn matches(one: &[Traits<'_>], other: &[Traits<'_>]) -> Vec<(usize, usize)> {
    /// By the first rules several may be alike, such as one file measured twice: these go in order.
    const SURE: usize = 2;
    let mut found: Vec<(usize, usize)> = Vec::new();
    let whole: Rule = |_, _| true;
    let only_one = one.len() == 1 && other.len() == 1;
    for (nth, rule) in RULES.iter().chain(Some(&whole).filter(|_| only_one)).enumerate() {
        let free = |found: &[(usize, usize)], at: usize, is_one: bool| {
            !found.iter().any(|&(base, new)| at == if is_one { base } else { new })
        };
        for base in 0..one.len() {
            if !free(&found, base, true) {
                continue;
            }
            let fits: Vec<usize> = (0..other.len())
                .filter(|&new| free(&found, new, false) && rule(&one[base], &other[new]))
                .collect();
            let Some(&new) = fits.first() else { continue };
            let rivals = (0..one.len())
                .filter(|&at| free(&found, at, true) && rule(&one[at], &other[new]))
                .count();
            if nth < SURE || (fits.len() == 1 && rivals == 1) {
                found.push((base, new));
            }
        }
    }
    found.sort_unstable();
    found
}

impl<'a> Pair<'a> {
    pub(super) fn side(&self, is_new: bool) -> &[Measured<'a>] {
        if is_new { &self.new } else { &self.base }
    }

    /// The first run of a side.
    pub(super) fn first(&self, is_new: bool) -> &Measured<'a> {
        &self.side(is_new)[0]
    }

    /// Whether both ran under the same settings, whatever was left to the engine.
    pub(super) fn is_under_same(&self) -> bool {
        let traits = |is_new| Traits::of(self.first(is_new).trial, false);
        traits(false).is_under_same(&traits(true))
    }

    /// Why one of the two has nothing to compare.
    pub(super) fn failure(&self) -> Option<String> {
        [(false, "base"), (true, "new")].into_iter().find_map(|(is_new, name)| {
            let failure = self.first(is_new).trial.failure.as_ref()?;
            Some(format!("it failed in {name}: {}", failure.reason))
        })
    }

    /// Whether both were measured in turns in one run: every visit of a round of either began before any of the
    /// next round.
    pub(super) fn is_interleaved(&self) -> bool {
        let ([one], [other]) = (self.base.as_slice(), self.new.as_slice()) else { return false };
        if one.run.id != other.run.id || one.run.started != other.run.started {
            return false;
        }
        let visits = one.trial.visits.iter().chain(&other.trial.visits);
        let mut rounds: BTreeMap<u32, (OffsetDateTime, OffsetDateTime)> = BTreeMap::new();
        for visit in visits {
            let (first, last) = rounds.entry(visit.round).or_insert((visit.started, visit.started));
            *first = visit.started.min(*first);
            *last = visit.started.max(*last);
        }
        let rounds: Vec<_> = rounds.into_values().collect();
        rounds.windows(2).all(|two| two[0].1 <= two[1].0)
    }
}

/// `demo Q8_0`, with settings that are not the defaults.
pub(super) fn in_words(trial: &TrialRecord) -> String {
    let settings = &trial.settings;
    let under =
        if *settings == Settings::default() { String::new() } else { format!(" ({settings})") };
    format!("{} {}{under}", trial.model, trial.label)
}
