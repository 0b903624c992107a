//! What a run within a budget says of what it did not measure and did not tell apart.

use super::notes::name;
use super::text::list;
use crate::results::each_once;
use crate::results::metric::Metric;
use crate::results::record::{PhaseUsage, RunRecord, TrialRecord};
use crate::results::separation::{Level, undecided, undecided_divergence};
use crate::results::summary::Summary;
use crate::units::{count, format_seconds, to_f64};

/// Pairs that are named; of more, those that take the fewest rounds.
const MOST_NAMED: usize = 3;

/// Rounds that nobody waits for.
const TOO_MANY: u64 = 200;

/// What past costs and predictions forbade.
const NOTHING_BEGUN: &str = "Nothing was measured: a visit to the reference is known to take longer than the budget had left. Give more time \
     (a larger --budget), or measure less (fewer tests, --only smaller variants).";

/// Nothing for a run without a budget.
pub(super) fn notes(run: &RunRecord, summary: &Summary) -> Vec<String> {
    let Some(budget) = run.stored_experiment().budget else { return Vec::new() };
    if summary.rows.iter().all(|row| row.failure.is_some()) {
        // No time would change that.
        return Vec::new();
    }
    if summary.recommendation.is_some() {
        // What was not measured decides nothing; why is told with the recommendation.
        return Vec::new();
    }
    let mut notes = Vec::new();
    if run.finished.is_some() {
        notes.push(spent(budget.as_secs_f64(), run.active_seconds.unwrap_or_default()));
    }
    let is_visited = |trial: &TrialRecord| !trial.visits.is_empty() || !trial.stages.is_empty();
    let are_made = run.trials.iter().all(|trial| trial.artifact.is_some());
    if run.trials.iter().any(is_visited) || !are_made {
        notes.extend(not_measured(run, summary));
    } else {
        notes.push(NOTHING_BEGUN.to_owned());
    }
    notes.extend(level(run, summary));
    notes
}

/// A visit is begun that nothing tells the cost of, and one may take longer than it was expected to.
fn spent(budget: f64, seconds: f64) -> String {
    let [told, used] = [budget, seconds].map(format_seconds);
    if seconds <= budget || told == used {
        return format!("Measured within a budget of {told}, of which {used} were used.");
    }
    let over = format_seconds(seconds - budget);
    format!(
        "Measured in {used}, {over} over the budget of {told}: what a visit takes is known once one of its kind was made."
    )
}

/// Trials that lack what others have.
fn not_measured(run: &RunRecord, summary: &Summary) -> Vec<String> {
    let speed = summary.generation.map(Metric::Speed);
    let kinds = [("quality", Some(Metric::Perplexity)), ("speed", speed)];
    let is_made = |row: usize| run.trials[row].artifact.is_some();
    let sound = || summary.rows.iter().enumerate().filter(|(_, row)| row.failure.is_none());
    let not_made = sound().filter(|&(at, _)| !is_made(at)).map(|(_, row)| name(summary, row));
    let not_made = each_once(not_made);
    let mut notes = Vec::new();
    if !not_made.is_empty() {
        notes.push(format!("Not made for want of time: {} (a larger --budget).", list(&not_made)));
    }
    // A model too small for the tests has rounds and no speed.
    let has_rounds = run.trials.iter().any(|trial| !trial.visits.is_empty());
    if speed.is_none() && asks_for_speed(run) && !has_rounds {
        notes.push("Not measured for want of time: speed (a larger --budget).".to_owned());
    }
    let lacking = |metric: Metric| -> Vec<String> {
        let rows = sound().filter(|&(at, _)| is_made(at)).map(|(_, row)| row);
        let lacking = rows.filter(|row| !row.figures.contains_key(&metric));
        lacking.filter(|row| !row.is_inapplicable(metric)).map(|row| name(summary, row)).collect()
    };
    let told = kinds.into_iter().filter_map(|(kind, metric)| {
        let metric = metric.filter(|metric| summary.metrics.contains(metric))?;
        let names = each_once(lacking(metric));
        let all = run.trials.len();
        (!names.is_empty() && names.len() < all).then(|| {
            format!(
                "Not measured for want of time: {kind} of {} (a larger --budget).",
                list(&names)
            )
        })
    });
    notes.extend(told);
    notes
}

/// Whether the experiment has a throughput test.
fn asks_for_speed(run: &RunRecord) -> bool {
    let speed = run.experiment.pointer("/workloads/speed").and_then(serde_json::Value::as_array);
    speed.is_some_and(|tests| !tests.is_empty())
}

/// What it would take to tell apart what is level.
fn level(run: &RunRecord, summary: &Summary) -> Vec<String> {
    [undecided(summary), undecided_divergence(summary)]
        .into_iter()
        .flat_map(|pairs| told(run, summary, pairs))
        .collect()
}

fn told(run: &RunRecord, summary: &Summary, mut pairs: Vec<Level>) -> Vec<String> {
    pairs.retain(|pair| pair.rows[0] != pair.rows[1]);
    pairs.sort_by_key(|pair| pair.more.unwrap_or(u64::MAX));
    let told = pairs.iter().take(MOST_NAMED).map(|pair| {
        let [one, other] = pair.rows.map(|row| name(summary, &summary.rows[row]));
        let level = format!("{one} and {other} are level in {}", pair.metric.label());
        let by_text = pair.metric == Metric::Kld;
        match pair.more.filter(|&more| more <= TOO_MANY) {
            None if by_text => {
                format!("{level}: no text that anybody waits for would separate them.")
            }
            None => {
                format!("{level}: no number of rounds that anybody waits for would separate them.")
            }
            Some(more) => {
                let trials = pair.rows.map(|row| &run.trials[row]);
                let seconds =
                    trials.map(
                        |trial| {
                            if by_text { trial.chunk_seconds() } else { round_seconds(trial) }
                        },
                    );
                let unit = if by_text { "more chunk" } else { "more round" };
                let seconds: f64 = seconds.into_iter().flatten().sum();
                let time = format_seconds(seconds * to_f64(more));
                format!("{level}: about {}, {time}, would separate them.", count(more, unit))
            }
        }
    });
    told.collect()
}

/// What a visit of a round took, seconds.
fn round_seconds(trial: &TrialRecord) -> Option<f64> {
    let usage = trial.visits.iter().flat_map(|visit| &visit.usage);
    let all: f64 = usage.map(PhaseUsage::seconds).sum();
    let visits = trial.visits.len();
    (visits > 0).then(|| all / to_f64(visits as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::MadeUp;
    use crate::results::record::Failure;
    use crate::workload::Phase;
    use serde_json::json;

    fn told(run: &RunRecord) -> Vec<String> {
        notes(run, &Summary::of(run))
    }

    fn within_ten_minutes() -> RunRecord {
        let mut run = MadeUp::default().run();
        run.experiment = json!({ "budget": { "secs": 600, "nanos": 0 } });
        run.active_seconds = Some(590.0);
        run
    }

    #[test]
    fn a_run_without_a_budget_says_nothing_of_it() {
        assert_eq!(told(&MadeUp::default().run()), [""; 0]);
    }

    #[test]
    fn a_budget_that_was_not_kept_is_told_as_that() {
        let mut run = within_ten_minutes();
        run.active_seconds = Some(703.0);
        let told = told(&run);
        assert!(
            told[0].starts_with("Measured in 11 min 43 s, 1 min 43 s over the budget of 10 min"),
            "{told:?}"
        );
        run.active_seconds = Some(600.0);
        assert!(self::told(&run)[0].contains("within a budget"), "{:?}", self::told(&run));
    }

    #[test]
    fn a_run_that_began_nothing_says_why_and_what_to_do() {
        let mut run = within_ten_minutes();
        for trial in &mut run.trials {
            (trial.quality, trial.visits, trial.stages) = (None, Vec::new(), Vec::new());
        }
        assert!(told(&run).contains(&NOTHING_BEGUN.to_owned()), "{:?}", told(&run));
        assert!(!told(&within_ten_minutes()).contains(&NOTHING_BEGUN.to_owned()));
    }

    #[test]
    fn a_round_without_a_test_lacked_no_time() {
        let mut run = within_ten_minutes();
        run.experiment["workloads"] = json!({ "speed": ["pp512"] });
        for visit in run.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
            visit.speed.clear();
        }
        assert!(!told(&run).concat().contains("want of time: speed"), "{:?}", told(&run));
    }

    #[test]
    fn of_what_failed_no_want_of_time_is_told() {
        let mut run = within_ten_minutes();
        run.experiment["workloads"] = json!({ "speed": ["tg128"] });
        for trial in &mut run.trials {
            (trial.quality, trial.visits) = (None, Vec::new());
            let reason = "it has no weights".to_owned();
            trial.failure = Some(Failure { phase: Phase::Load, reason });
        }
        assert_eq!(told(&run), [""; 0]);
    }

    #[test]
    fn what_was_not_measured_is_named() {
        let mut run = within_ten_minutes();
        let complete = told(&run);
        assert!(complete[0].starts_with("Measured within a budget of 10 min 00 s"), "{complete:?}");
        assert!(!complete.concat().contains("want of time"), "{complete:?}");
        run.trials[3].quality = None;
        run.trials[4].visits.clear();
        let told = told(&run);
        let expected = ["quality of Q5_K_M (", "speed of Q5_0 ("];
        for part in expected {
            assert!(told.iter().any(|it| it.contains(part)), "{told:?}");
        }
    }

    #[test]
    fn what_was_not_made_is_named_and_nothing_is_the_smallest() {
        let mut run = within_ten_minutes();
        run.experiment["workloads"] = json!({ "speed": ["tg128"] });
        for trial in &mut run.trials {
            trial.quality = None;
            trial.visits.clear();
        }
        run.trials[11].artifact = None;
        run.trials[11].facts = None;
        let told = told(&run);
        let expected = [
            "Not made for want of time: Q2_K (a larger --budget).",
            "Not measured for want of time: speed (a larger --budget).",
        ];
        assert_eq!(told[1..], expected);
        let findings = super::super::findings::findings(&run, &Summary::of(&run)).concat();
        assert!(!findings.contains("smallest"), "{findings}");
    }

    #[test]
    fn what_is_level_is_told_with_what_would_separate_it() {
        let told = told(&within_ten_minutes());
        let level: Vec<&String> = told.iter().filter(|it| it.contains("are level in")).collect();
        assert!(!level.is_empty() && level.len() <= 2 * MOST_NAMED, "{told:?}");
        assert!(
            level[0].contains("more round") && level[0].contains("would separate"),
            "{level:?}"
        );
        let sure = MadeUp { noise: 0.0, ..MadeUp::default() };
        let mut run = sure.run();
        run.experiment = within_ten_minutes().experiment;
        assert!(!self::told(&run).concat().contains("more round"));
        // One that scores every chunk as another does.
        run.trials[5].quality = run.trials[4].quality.clone();
        let level = "are level in KLD: no text that anybody waits for would separate them.";
        assert!(self::told(&run).concat().contains(level), "{:?}", self::told(&run));
    }

    #[test]
    fn divergences_that_are_level_are_told_with_the_text_that_would_separate_them() {
        let mut run = MadeUp { noise: 0.0, ..MadeUp::default() }.run();
        run.experiment = within_ten_minutes().experiment;
        let mut quality = run.trials[4].quality.clone().unwrap();
        let chunks = &mut quality.divergence.as_mut().unwrap().chunk_kld;
        for (at, kld) in chunks.iter_mut().enumerate() {
            *kld *= if at % 2 == 0 { 1.2 } else { 0.9 };
        }
        run.trials[5].quality = Some(quality);
        let told = told(&run).concat();
        assert!(told.contains("are level in KLD: about"), "{told}");
        assert!(told.contains("more chunk"), "{told}");
    }
}
