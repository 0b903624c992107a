//! Recommendations: what is made and measured, and what is not.

use super::harness::{Harness, nothing_goes_wrong, nth};
use super::*;
use crate::experiment::recommend::{Order, Recommend as Asked};
use crate::experiment::requirements::Requirements;
use crate::host::WorkerMessage;
use crate::orchestrator::scripted::Fault;
use crate::orchestrator::strategy::{Other, Recommend};
use crate::results::recommendation::{Predicted, Recommendation, Status};
use serde_json::json;

const VARIANTS: [&str; 4] = ["F16", "Q8_0", "Q5_0", "Q4_0"];

fn asked(order: Order, keys: &[(&str, f64)]) -> (Harness, Box<Recommend>) {
    let budget = Duration::from_hours(1);
    let harness = Harness::of(&VARIANTS).with_quality().change(|experiment| {
        experiment.budget = Some(budget);
        experiment.requirements = Requirements::of(keys);
        experiment.recommend = Some(Asked { order, ..Asked::default() });
        experiment.workloads.quality.as_mut().unwrap().precision = Some(0.0);
    });
    let mut harness = harness;
    let plan = harness.plan();
    let mut run = harness.new_run(&plan, OffsetDateTime::UNIX_EPOCH);
    run.requirements = harness.experiment.requirements.clone();
    harness.stored = Some(run);
    (harness, Box::new(Recommend::new(order, budget)))
}

fn statuses(run: &RunRecord) -> Vec<Status> {
    let found = Recommendation::of(run).unwrap();
    found.candidates.iter().map(|it| it.status).collect()
}

#[test]
fn where_the_reference_meets_everything_nothing_else_is_made() {
    let (mut harness, strategy) = asked(Order::Closest, &[("min_generation_tps", 10.0)]);
    let shown = harness.run_by(strategy, nothing_goes_wrong);
    assert_eq!(shown.jobs, ["F16 tg4×2"; 2]);
    assert_eq!(Recommendation::of(&shown.run).unwrap().chosen, Some(0));
    assert!(shown.run.finished.is_some());
    assert!(shown.run.trials[1].artifact.is_none());
}

#[test]
fn what_cannot_be_met_is_shown_of_each_with_the_least_that_shows_it() {
    let (mut harness, strategy) = asked(Order::Closest, &[("min_generation_tps", 1e6)]);
    let shown = harness.run_by(strategy, nothing_goes_wrong);
    let each = |variant: &str| {
        let make = (variant != "F16").then(|| format!("make {variant}"));
        make.into_iter().chain([format!("{variant} tg4×2"), format!("{variant} tg4×2")])
    };
    assert_eq!(shown.jobs, VARIANTS.into_iter().flat_map(each).collect::<Vec<_>>());
    assert_eq!(statuses(&shown.run), [Status::RuledOut; 4]);
    let found = Recommendation::of(&shown.run).unwrap();
    assert!(found.chosen.is_none() && found.nearest.is_some());
}

#[test]
fn what_is_predicted_not_to_fit_is_never_made() {
    let keys = [("max_memory", 2e9), ("min_generation_tps", 1e6)];
    let (mut harness, strategy) = asked(Order::Closest, &keys);
    for (at, trial) in harness.stored.as_mut().unwrap().trials.iter_mut().enumerate() {
        let peak_bytes = [1_200_000_000, 3_000_000_000, 1_100_000_000, 1_000_000_000][at];
        let does_not_fit = (at == 2).then(|| "does not fit: 5 GiB short (host)".to_owned());
        let error_bytes = 1 << 24;
        trial.predicted =
            Some(Predicted { file_bytes: 10, peak_bytes, error_bytes, tokens: 4096, does_not_fit });
    }
    let shown = harness.run_by(strategy, nothing_goes_wrong);
    let made: Vec<&String> = shown.jobs.iter().filter(|job| job.starts_with("make")).collect();
    assert_eq!(made, ["make Q4_0"]);
    assert_eq!(statuses(&shown.run)[1..3], [Status::RuledOut, Status::DoesNotFit]);
}

#[test]
fn a_recommendation_that_was_interrupted_goes_on() {
    let keys = [("max_kld", 0.05), ("min_generation_tps", 10.0)];
    let (mut harness, strategy) = asked(Order::Smallest, &keys);
    let stop = Fault::After(2, WorkerMessage::Interrupted);
    let first = harness.run_by(strategy, nth(1, "F16 tg4×2", stop));
    assert!(first.run.finished.is_none());
    let strategy = Box::new(Recommend::new(Order::Smallest, Duration::from_hours(1)));
    let second = harness.run_by(strategy, nothing_goes_wrong);
    assert!(second.run.finished.is_some());
    assert!(Recommendation::of(&second.run).unwrap().chosen.is_some(), "{:?}", second.jobs);
}

fn threads(counts: &[u32]) -> Vec<Other> {
    counts.iter().map(|&count| ("threads", json!(count))).collect()
}

#[test]
fn what_only_speed_keeps_from_meeting_everything_is_tried_with_other_threads() {
    // 150 tokens a second by itself, 900 with six threads.
    let (mut harness, strategy) = asked(Order::Smallest, &[("min_generation_tps", 800.0)]);
    let shown = harness.run_by(Box::new(strategy.adjusting(threads(&[6, 2]))), nothing_goes_wrong);
    let found = Recommendation::of(&shown.run).unwrap();
    let chosen = &shown.run.trials[found.chosen.unwrap()];
    assert_eq!(chosen.settings.threads, Some(6), "{:?}", shown.jobs);
    assert!(shown.jobs[..11].iter().all(|job| !job.contains("(t=")), "last: {:?}", shown.jobs);
    let not_there = shown.run.trials.iter().filter(|it| it.settings.threads.is_some());
    assert!(not_there.count() <= 4, "{:?}", shown.jobs);
    // What is too large is not tried with any.
    let (mut harness, strategy) = asked(Order::Smallest, &[("max_kld", 1e-9)]);
    let shown = harness.run_by(Box::new(strategy.adjusting(threads(&[6, 2]))), nothing_goes_wrong);
    assert!(shown.run.trials.iter().all(|it| it.settings.threads.is_none()), "{:?}", shown.jobs);
}
