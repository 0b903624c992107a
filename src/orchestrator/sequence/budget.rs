//! Runs within a budget: what is visited in which order, and that the time is kept.

use super::exact::{measured_by, variants};
use super::harness::{Harness, Shown, nothing_goes_wrong, nth};
use super::*;
use crate::engine::toy::Parameters;
use crate::experiment::workloads::{AnswersPlan, PlannedPrompt};
use crate::host::WorkerMessage;
use crate::orchestrator::scripted::Fault;
use crate::orchestrator::strategy::Budgeted;

fn within(seconds: u64) -> (Harness, Box<Budgeted>) {
    let budget = Duration::from_secs(seconds);
    let harness = Harness::of(&["F16", "Q8_0", "Q5_0", "Q4_0"]).with_quality();
    let harness = harness.change(|experiment| {
        experiment.budget = Some(budget);
        experiment.workloads.quality.as_mut().unwrap().precision = Some(0.1);
    });
    (harness, Box::new(Budgeted::new(budget)))
}

fn measured_within(seconds: u64) -> Shown {
    let (mut harness, strategy) = within(seconds);
    harness.run_by(strategy, nothing_goes_wrong)
}

#[test]
fn with_time_enough_everything_is_measured_until_nothing_would_change() {
    let shown = measured_within(3600);
    let speed = |variants: &[&str]| -> Vec<String> {
        variants.iter().map(|variant| format!("{variant} tg4×2")).collect()
    };
    let quality = |part: &str, variants: &[&str]| -> Vec<String> {
        let reads = variants.iter().map(|variant| format!("{variant} quality {part}, reads F16"));
        reads.collect()
    };
    let reference = |part: &str| vec![format!("F16 quality {part}, writes")];
    let all = ["F16", "Q8_0", "Q5_0", "Q4_0"];
    let expected = [
        ["make Q8_0", "make Q5_0", "make Q4_0"].map(str::to_owned).to_vec(),
        // What visits cost.
        reference("0..4"),
        speed(&all[..1]),
        // What can be compared.
        reference("4..10"),
        quality("0..10", &all[1..2]),
        speed(&all[1..2]),
        // Something of each.
        quality("0..10", &all[2..]),
        speed(&all[2..]),
        // Intervals.
        speed(&all),
        speed(&all),
        // Precision. All speeds are the same, and no further round would change that.
        reference("10..40"),
        quality("10..40", &["Q8_0", "Q5_0"]),
        reference("40..116"),
        quality("40..100", &["Q8_0"]),
    ];
    assert_eq!(shown.jobs, expected.concat());
    assert!(shown.run.finished.is_some());
}

#[test]
fn with_too_little_time_whole_rows_are_measured() {
    let shown = measured_within(60);
    let run = &shown.run;
    assert!(run.active_seconds.unwrap() <= 60.0, "{:?}: {:?}", run.active_seconds, shown.jobs);
    let is_whole: Vec<bool> =
        run.trials.iter().map(|it| it.quality.is_some() && !it.visits.is_empty()).collect();
    assert!(is_whole[0] && is_whole[1] && !is_whole[3], "{is_whole:?}: {:?}", shown.jobs);
}

#[test]
fn a_visit_that_goes_a_tenth_beyond_the_budget_is_ended_there_and_what_was_measured_stays() {
    let (mut harness, strategy) = within(40);
    let stall = Fault::After(3, WorkerMessage::Silence);
    let shown = harness.run_by(strategy, nth(1, "F16 tg4×2", stall));
    let (run, first) = (&shown.run, &shown.run.trials[0]);
    let spent = run.active_seconds.unwrap();
    assert!((44.0..=45.0).contains(&spent), "{spent}: {:?}", shown.jobs);
    assert_eq!(shown.jobs.last().unwrap(), "F16 tg4×2", "nothing is begun after it");
    assert!(run.finished.is_some() && first.failure.is_none() && first.quality.is_some());
    assert!(first.left_out[0].reason.starts_with("the budget was exceeded"), "{first:?}");
}

#[test]
fn files_take_half_of_the_budget_at_most() {
    // Each takes three seconds; the reference is there.
    let shown = measured_within(12);
    let made = shown.jobs.iter().filter(|job| job.starts_with("make")).count();
    assert_eq!(made, 2, "{:?}", shown.jobs);
    assert!(shown.run.finished.is_some());
    assert!(shown.run.trials.iter().all(|trial| trial.failure.is_none()));
}

#[test]
fn a_run_that_goes_on_has_what_is_left_of_its_budget() {
    let (mut harness, strategy) = within(3600);
    let stop = Fault::After(2, WorkerMessage::Interrupted);
    let first = harness.run_by(strategy, nth(1, "Q8_0 quality 10..40, reads F16", stop));
    assert!(first.run.finished.is_none());
    let (_, strategy) = within(3600);
    let second = harness.run_by(strategy, nothing_goes_wrong);
    assert!(second.run.finished.is_some());
    assert_eq!(second.jobs[0], "F16 quality 0..40, writes", "{:?}", second.jobs);
    assert!(second.jobs.contains(&"Q8_0 quality 0..40, reads F16".to_owned()), "{:?}", second.jobs);
    assert!(second.jobs.iter().all(|job| !job.contains("tg4")), "{:?}", second.jobs);
    let (_, strategy) = within(10);
    let spent = harness.run_by(strategy, nothing_goes_wrong);
    assert_eq!(spent.jobs, [""; 0], "the time is over");
}

#[test]
fn the_budget_is_kept_to_the_tick() {
    let variants = variants().map(|(label, it)| {
        let odd = Some(if label == "F16" { 0.5 } else { 0.47 });
        (label, Parameters { odd, ..it })
    });
    let mut random = fastrand::Rng::with_seed(7);
    let text: String = (0..8 * 200).map(|_| random.lowercase()).collect();
    let mut rounds = Vec::new();
    for milliseconds in [1000, 1500, 2000, 3000, 5000, 20_000] {
        let budget = Duration::from_millis(milliseconds);
        let run = measured_by(Box::new(Budgeted::new(budget)), &variants, |experiment| {
            experiment.budget = Some(budget);
            let quality = experiment.workloads.quality.as_mut().unwrap();
            quality.text.clone_from(&text);
            quality.precision = Some(0.1);
        });
        let spent = run.active_seconds.unwrap();
        assert!(spent <= budget.as_secs_f64(), "{spent} s of {budget:?}");
        assert!(run.finished.is_some());
        let count: usize = run.trials.iter().map(|it| it.visits.len()).sum();
        rounds.push(count);
    }
    assert!(rounds.is_sorted() && rounds[0] < rounds[5], "more time, more rounds: {rounds:?}");
}

#[test]
fn a_pair_that_can_be_compared_comes_before_more_answers() {
    let variants = variants().map(|(label, it)| {
        let odd = Some(if label == "F16" { 0.5 } else { 0.47 });
        let template = Some("{{ messages[0].content }}".to_owned());
        (label, Parameters { odd, template, ..it })
    });
    let prompt = |at: u8| PlannedPrompt {
        domain: "prose".to_owned(),
        text: format!("why {}{}", char::from(b'a' + at % 26), char::from(b'a' + at / 26)),
    };
    for milliseconds in [100, 200, 800, 1000, 1200, 1400, 1600, 1800, 2000, 3000, 10_000] {
        let budget = Duration::from_millis(milliseconds);
        let run = measured_by(Box::new(Budgeted::new(budget)), &variants, |experiment| {
            experiment.budget = Some(budget);
            let quality = experiment.workloads.quality.as_mut().unwrap();
            let prompts = (0..100).map(prompt).collect();
            quality.answers = Some(AnswersPlan { prompts, max_tokens: 6, or_text: true });
            quality.precision = Some(0.01);
        });
        let chunks = run.trials[0].quality.as_ref().unwrap().chunks;
        let is_whole = |it: &TrialRecord| it.quality.is_some() && !it.visits.is_empty();
        let are_compared = run.trials.iter().all(is_whole);
        let told = format!("{budget:?}: {chunks} chunks, {:?} s", run.active_seconds);
        assert!(are_compared || chunks <= 4, "{told}");
        // Two rounds and a few chunks take 1.5 s.
        assert_eq!(are_compared, milliseconds >= 1600, "{told}");
        // What the first two visits take nothing tells.
        // Nor that one answer is longer than another.
        let is_kept = run.active_seconds.unwrap() <= budget.as_secs_f64() * 1.01;
        assert_eq!(is_kept, milliseconds >= 800, "{told}");
    }
}
