//! The sequence, told as tests: what is visited in which order, and what a failure costs.

use super::harness::{Harness, failure, model, nothing_goes_wrong, nth};
use super::*;
use crate::experiment::settings::{FlashAttention, Settings};
use crate::host::{Exit, WorkerMessage};
use crate::orchestrator::plan::PlannedTrial;
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::orchestrator::scripted::{Fault, file_named};
use crate::orchestrator::strategy::{Known, Step, Strategy};
use crate::results::record::{Stage, TrialRecord};
use crate::worker::protocol::{Event, Phase};
use std::fs;

#[test]
fn variants_are_made_first_then_quality_is_measured_then_rounds_are_interleaved() {
    let shown = Harness::of(&["Q8_0", "F16", "Q4_0"]).with_quality().run(nothing_goes_wrong);
    assert_eq!(
        shown.jobs,
        [
            "make Q8_0",
            "make Q4_0",
            "F16 quality, writes",
            "Q8_0 quality, reads F16",
            "Q4_0 quality, reads F16",
            "Q8_0 tg4×2",
            "F16 tg4×2",
            "Q4_0 tg4×2",
            "F16 tg4×2",
            "Q8_0 tg4×2",
            "F16 tg4×2",
            "Q4_0 tg4×2",
            "F16 tg4×2",
        ]
    );
    assert_eq!(shown.events, ["m F16 found", "m Q8_0 made", "m Q4_0 made"]);
    assert!(shown.run.finished.is_some());
}

#[test]
fn every_figure_of_a_visit_is_recorded() {
    let mut harness = Harness::of(&["F16"]).with_prompts(&["a"]).with_quality();
    harness.experiment.workloads.cold_load = true;
    let run = harness.run(nothing_goes_wrong).run;
    let trial = &run.trials[0];
    assert_eq!(trial.artifact.as_ref().unwrap().checksum, "of m");
    assert_eq!(trial.facts.as_ref().unwrap().description, "F16");
    assert!((trial.quality.as_ref().unwrap().perplexity.mean - 20.0).abs() < f64::EPSILON);
    let visit = &trial.visits[0];
    let loads: Vec<(bool, f64)> =
        visit.loads.iter().map(|load| (load.cold, load.seconds)).collect();
    assert_eq!(loads, [(true, 2.0), (false, 0.5)]);
    assert_eq!(visit.speed.len(), 1);
    let rates: Vec<f64> =
        visit.speed[0].samples.iter().map(|sample| sample.tokens_per_second()).collect();
    assert_eq!(rates, [100.0, 200.0]);
    assert_eq!(visit.responses[0].text, "an answer to say a");
    let phases: Vec<String> = visit.usage.iter().map(|it| it.phase.to_string()).collect();
    assert_eq!(phases, ["start", "cold load", "load", "tg4", "latency"]);
    // Each event takes a second, the start before any of them none.
    let times: Vec<(f64, f64)> =
        visit.usage.iter().map(|it| (it.begin_seconds.unwrap(), it.end_seconds.unwrap())).collect();
    assert_eq!(times, [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 9.0), (9.0, 11.0)]);
    assert_eq!((visit.peak_rss_bytes, visit.pss_bytes), (Some(2 << 30), Some(1 << 20)));
}

#[test]
fn what_quality_and_tasks_use_is_recorded_too() {
    let run = Harness::of(&["F16", "Q8_0"]).with_quality().run(nothing_goes_wrong).run;
    for trial in &run.trials {
        let [stage] = trial.stages.as_slice() else { panic!("{:?}", trial.stages) };
        assert_eq!(stage.stage, Stage::Quality);
        let phases: Vec<String> = stage.usage.iter().map(|it| it.phase.to_string()).collect();
        assert_eq!(phases, ["start", "load", "quality"]);
        assert_eq!(stage.usage[2].usage.max_rss_bytes, Some(1 << 30));
        assert_eq!(stage.peak_rss_bytes, Some(2 << 30));
    }
}

#[test]
fn the_time_of_a_resumed_run_is_that_of_its_parts() {
    let mut harness = Harness::of(&["F16", "Q8_0"]);
    let whole = harness.run(nothing_goes_wrong).run.active_seconds.unwrap();
    let mut harness = Harness::of(&["F16", "Q8_0"]);
    let stop = Fault::After(2, WorkerMessage::Interrupted);
    let first = harness.run(nth(2, "F16 tg4×2", stop)).run;
    let before = first.active_seconds.unwrap();
    assert!(0.0 < before && before < whole, "{before} of {whole}");
    // The clock of the second part begins anew: the time between counts for nothing.
    let second = harness.run(nothing_goes_wrong).run;
    let lost = 3.0;
    let found = second.active_seconds.unwrap();
    assert!(
        (found - whole - lost).abs() < 1e-9,
        "{found} is not {whole} and {lost} of what was lost"
    );
}

#[test]
fn every_prompt_is_answered_once_by_every_trial_dealt_over_the_rounds() {
    let mut harness = Harness::of(&["F16"]).with_prompts(&["a", "b", "c", "d", "e"]);
    harness.experiment.rounds = 3;
    let shown = harness.run(nothing_goes_wrong);
    assert_eq!(
        shown.jobs,
        ["F16 tg4×2 prompts[a d]", "F16 tg4×2 prompts[b e]", "F16 tg4×2 prompts[c]"]
    );
}

#[test]
fn the_drift_control_is_measured_twice_per_round_with_the_time_of_each() {
    let run = Harness::of(&["F16", "Q8_0"]).run(nothing_goes_wrong).run;
    let anchors: Vec<(u32, f64, f64)> = run
        .drift_controls
        .iter()
        .map(|it| (it.round, it.at_seconds, it.tokens_per_second))
        .collect();
    // Making Q8_0 takes 3 s, each visit 7 s; the median of 100 and 200 tokens per second is 150.
    assert_eq!(anchors, [(0, 3.0, 150.0), (0, 17.0, 150.0), (1, 24.0, 150.0), (1, 38.0, 150.0)]);
}

#[test]
fn a_variant_in_the_cache_is_not_made_again() {
    let mut harness = Harness::of(&["Q8_0"]);
    assert_eq!(harness.run(nothing_goes_wrong).jobs[0], "make Q8_0");
    harness.stored = None;
    let shown = harness.run(nothing_goes_wrong);
    assert_eq!(shown.jobs, ["Q8_0 tg4×2", "Q8_0 tg4×2"]);
    assert_eq!(shown.events, ["m Q8_0 found"]);
}

#[test]
fn a_trial_that_fails_is_not_visited_again_and_the_others_are() {
    let killed = Exit { signal: Some(9), ..Exit::default() };
    let fault = Fault::After(5, WorkerMessage::Ended(killed));
    let shown = Harness::of(&["F16", "Q8_0", "Q4_0"]).run(nth(1, "Q8_0 tg4×2", fault));
    assert_eq!(
        shown.jobs[2..],
        [
            "F16 tg4×2",
            "Q8_0 tg4×2",
            "Q4_0 tg4×2",
            "F16 tg4×2", // with the drift control
            "F16 tg4×2",
            "Q4_0 tg4×2",
            "F16 tg4×2",
        ]
    );
    assert_eq!(
        failure(&shown.run, "Q8_0"),
        "tg4: the worker was killed, probably because memory ran out \
         (it had used 1.00 GiB; the machine has 4.00 GiB)"
    );
    assert_eq!(shown.run.trials[1].visits[0].speed[0].samples.len(), 1, "what was measured stays");
    assert_eq!(shown.run.trials[2].visits.len(), 2);
    assert!(shown.run.finished.is_some());
}

#[test]
fn every_way_a_worker_can_end_has_a_reason_and_a_phase() {
    let aborted = Exit {
        signal: Some(6),
        stderr_tail: vec!["x.c:1: GGML_ASSERT(ok) failed".to_owned()],
        ..Exit::default()
    };
    let refused = Event::Failed { message: "the file is no GGUF".to_owned() };
    let cases = [
        (Fault::NotStarted, "start: cannot start the worker worker: entity not found"),
        (
            Fault::After(0, WorkerMessage::Ended(Exit::default())),
            "start: the worker ended for an unknown reason",
        ),
        (
            Fault::After(2, WorkerMessage::Ended(aborted)),
            "load: the worker aborted: x.c:1: GGML_ASSERT(ok) failed",
        ),
        (
            Fault::After(4, WorkerMessage::Silence),
            "tg4: nothing happened for 10 min 00 s and the worker was ended (phase_limit)",
        ),
        (
            Fault::After(2, WorkerMessage::Unreadable("Segm".to_owned())),
            "load: the worker wrote something that is not an event and was ended: 'Segm'",
        ),
        (Fault::After(2, WorkerMessage::Event(Box::new(refused))), "load: the file is no GGUF"),
    ];
    for (fault, reason) in cases {
        let run = Harness::of(&["F16", "Q8_0"]).run(nth(1, "Q8_0 tg4×2", fault)).run;
        assert_eq!(failure(&run, "Q8_0"), reason);
        assert_eq!(run.trials[0].visits.len(), 2, "the other trial is whole");
    }
}

#[test]
fn a_variant_that_cannot_be_made_fails_its_trials_under_all_settings() {
    let refused = Event::Failed { message: "no such type".to_owned() };
    let fault = Fault::After(2, WorkerMessage::Event(Box::new(refused)));
    let flash = Settings { flash_attention: FlashAttention::On, ..Settings::default() };
    let shown = Harness::of(&["F16", "Q8_0"])
        .change(|experiment| experiment.settings = vec![Settings::default(), flash])
        .change(|experiment| experiment.rounds = 1)
        .run(nth(1, "make Q8_0", fault));
    assert_eq!(shown.jobs, ["make Q8_0", "F16 tg4×2", "F16 (fa=on) tg4×2"]);
    assert_eq!(failure(&shown.run, "Q8_0"), "quantize: no such type");
    assert_eq!(shown.events, ["m F16 found", "Q8_0 failed", "Q8_0 failed"]);
}

#[test]
fn without_its_reference_a_trial_still_gets_its_perplexity() {
    let fault = Fault::After(3, WorkerMessage::Ended(Exit::default()));
    let shown =
        Harness::of(&["F16", "Q8_0"]).with_quality().run(nth(1, "F16 quality, writes", fault));
    assert_eq!(shown.jobs[1..3], ["F16 quality, writes", "Q8_0 quality"]);
    assert!(shown.run.trials[1].quality.as_ref().unwrap().divergence.is_none());
}

#[test]
fn every_model_has_a_reference_of_its_own() {
    let shown = Harness::of(&["Q8_0", "F16"])
        .change(|experiment| experiment.models.push(model("n", &["Q4_0", "Q2_K"])))
        .with_quality()
        .change(|experiment| experiment.rounds = 1)
        .run(nothing_goes_wrong);
    assert_eq!(
        shown.jobs[3..7],
        [
            "F16 quality, writes",
            "Q8_0 quality, reads F16",
            "Q4_0 quality, writes",
            "Q2_K quality, reads Q4_0"
        ]
    );
}

#[test]
fn what_others_are_made_of_is_the_reference_and_not_a_wider_copy_of_it() {
    for (quantizations, expected) in [
        (&["F32", "Q8_0", "F16"][..], "F16"),
        (&["Q8_0", "BF16", "F32"], "F32"),
        (&["Q4_0", "Q8_0"], "Q8_0"),
    ] {
        let plan = Harness::of(quantizations).plan();
        let references = plan.trials.iter().filter(|trial| trial.is_reference);
        let labels: Vec<&str> =
            references.map(|trial| &*plan.variants[trial.variant].label).collect();
        assert_eq!(labels, [expected]);
    }
}

#[test]
fn a_named_reference_that_is_not_there_is_refused() {
    let mut harness = Harness::of(&["Q8_0", "Q4_0"]);
    harness.experiment.models[0].reference = Some("F32".parse().unwrap());
    let error = Plan::new(&harness.experiment, harness.variants()).unwrap_err();
    let expected = "F32 is the reference of model 'm' but not among its variants (Q8_0, Q4_0)";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_pause_comes_before_every_visit() {
    let mut harness = Harness::of(&["F16"]);
    harness.experiment.cool_down = Duration::from_secs(20);
    assert_eq!(harness.run(nothing_goes_wrong).events, ["m F16 found", "pause 20 s", "pause 20 s"]);
}

#[test]
fn an_interrupted_run_keeps_what_was_measured_and_goes_on_where_it_stopped() {
    let mut harness = Harness::of(&["F16", "Q8_0"]).with_quality().with_prompts(&["a", "b"]);
    let stop = Fault::After(4, WorkerMessage::Interrupted);
    let first = harness.run(nth(1, "Q8_0 tg4×2 prompts[b]", stop));
    assert_eq!(first.run.finished, None);
    assert_eq!(first.jobs.last().unwrap(), "Q8_0 tg4×2 prompts[b]");
    let visits = |run: &RunRecord| -> Vec<usize> {
        run.trials.iter().map(|trial| trial.visits.len()).collect()
    };
    assert_eq!(visits(&first.run), [2, 1]);
    let second = harness.run(nothing_goes_wrong);
    assert_eq!(second.jobs, ["Q8_0 tg4×2 prompts[b]", "F16 tg4×2"]);
    assert_eq!(visits(&second.run), [2, 2]);
    assert_eq!(second.run.drift_controls.len(), 4);
    assert!(second.run.finished.is_some());
}

#[test]
fn a_reference_is_evaluated_again_when_a_resumed_run_needs_it() {
    let mut harness = Harness::of(&["F16", "Q8_0", "Q4_0"]).with_quality();
    let stop = Fault::After(2, WorkerMessage::Interrupted);
    harness.run(nth(1, "Q4_0 quality, reads F16", stop));
    let shown = harness.run(nothing_goes_wrong);
    assert_eq!(shown.jobs[..2], ["F16 quality, writes", "Q4_0 quality, reads F16"]);
}

/// Of a text of 100 chunks `Q4_0` takes 10 to be precise, `Q5_0` 30, and `Q8_0` all.
fn until_precise() -> Harness {
    Harness::of(&["F16", "Q8_0", "Q5_0", "Q4_0"]).with_quality().change(|experiment| {
        experiment.workloads.speed.clear();
        experiment.rounds = 0;
        experiment.workloads.quality.as_mut().unwrap().precision = Some(0.1);
    })
}

fn of_quality(jobs: Vec<String>) -> Vec<String> {
    jobs.into_iter().filter(|job| job.contains("quality")).collect()
}

#[test]
fn the_reference_is_evaluated_as_far_as_variants_need_it() {
    let mut harness = until_precise();
    let shown = harness.run(nothing_goes_wrong);
    let visits = of_quality(shown.jobs);
    let (first, second) = (["Q8_0", "Q5_0", "Q4_0"], ["Q8_0", "Q5_0"]);
    let reads = |part: &str, variants: &[&str]| -> Vec<String> {
        let reads = |it: &&str| format!("{it} quality {part}, reads F16");
        let writes = format!("F16 quality {part}, writes");
        std::iter::once(writes).chain(variants.iter().map(reads)).collect()
    };
    // Of Q8_0 half a mean either way: after 40 chunks 105 seem to be needed, and a tenth more.
    let expected = [reads("0..10", &first), reads("10..40", &second), reads("40..116", &["Q8_0"])];
    assert_eq!(visits, expected.concat());
    let chunks = |run: &RunRecord| -> Vec<u32> {
        run.trials.iter().map(|trial| trial.quality.as_ref().unwrap().chunks).collect()
    };
    assert_eq!(chunks(&shown.run), [100, 100, 30, 10]);
    assert_eq!(shown.run.trials[1].stages.len(), 3, "what each visit used is kept");
    let mut without = until_precise();
    without.experiment.models = vec![model("m", &["F16", "Q5_0", "Q4_0"])];
    assert_eq!(chunks(&without.run(nothing_goes_wrong).run)[1..], [30, 10]);
    let reference = chunks(without.stored.as_ref().unwrap())[0];
    assert!((30..50).contains(&reference), "{reference}");
}

#[test]
fn what_was_not_precise_is_evaluated_from_the_beginning_when_a_run_goes_on() {
    let mut harness = until_precise();
    let stop = Fault::After(2, WorkerMessage::Interrupted);
    harness.run(nth(1, "Q8_0 quality 10..40, reads F16", stop));
    let visits = of_quality(harness.run(nothing_goes_wrong).jobs);
    assert_eq!(
        visits,
        [
            "F16 quality 0..40, writes",
            "Q8_0 quality 0..40, reads F16",
            "Q5_0 quality 0..40, reads F16",
            "F16 quality 40..116, writes",
            "Q8_0 quality 40..116, reads F16",
        ]
    );
}

#[test]
fn a_reference_that_fails_half_way_takes_no_figures_away() {
    let mut harness = until_precise();
    let fault = Fault::After(2, WorkerMessage::Silence);
    let run = harness.run(nth(1, "F16 quality 10..40, writes", fault)).run;
    let chunks: Vec<u32> =
        run.trials.iter().map(|trial| trial.quality.as_ref().unwrap().chunks).collect();
    assert_eq!(chunks, [10; 4]);
    assert!(run.trials[1].quality.as_ref().unwrap().divergence.is_some());
    assert!(run.finished.is_some());
}

#[test]
fn an_interruption_while_a_variant_is_made_leaves_no_file_behind() {
    let mut harness = Harness::of(&["F16", "Q8_0"]);
    let stop = Fault::After(2, WorkerMessage::Interrupted);
    let shown = harness.run(nth(1, "make Q8_0", stop));
    assert_eq!(shown.jobs, ["make Q8_0"]);
    let left: Vec<_> = walk(harness.folder.path())
        .into_iter()
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes == file_named("Q8_0")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(harness.run(nothing_goes_wrong).jobs[0], "make Q8_0");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn no_scratch_file_is_left_after_a_run() {
    let mut harness = Harness::of(&["F16", "Q8_0"]).with_quality();
    harness.run(nothing_goes_wrong);
    let texts = walk(harness.folder.path()).into_iter();
    let left: Vec<_> =
        texts.filter(|path| fs::read_to_string(path).is_ok_and(|text| text == "a text")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_key_changes_with_what_is_measured_and_with_nothing_else() {
    let key = |change: fn(&mut Experiment)| {
        Harness::of(&["Q8_0"]).change(change).plan().trials[0].key.clone()
    };
    let plain = key(|_| {});
    assert_eq!(plain, key(|experiment| experiment.rounds = 9));
    assert_eq!(plain, key(|experiment| experiment.name = "other".to_owned()));
    assert_eq!(
        plain,
        key(|experiment| experiment.models[0].quantizations.push("F16".parse().unwrap()))
    );
    assert_ne!(plain, key(|experiment| experiment.settings[0].batch = 512));
    assert_ne!(plain, key(|experiment| experiment.workloads.speed.clear()));
    assert_ne!(
        plain,
        key(|experiment| experiment.models[0].name = "other".to_owned()),
        "another source"
    );
}

#[test]
fn a_failure_names_the_phase_in_which_it_happened() {
    let fault = Fault::After(2, WorkerMessage::Silence);
    let run = Harness::of(&["Q8_0"]).run(nth(1, "Q8_0 tg4×2", fault)).run;
    assert_eq!(run.trials[0].failure.as_ref().unwrap().phase, Phase::Load);
}

/// Measures F16 once, then with twice as many threads as long as that is faster than before, which the
/// scripted worker never is.
struct Doubling;

impl Strategy for Doubling {
    fn next(&mut self, known: &Known<'_>) -> Step {
        let trials = &known.run.trials;
        let unvisited = |trial: &TrialRecord| trial.visits.is_empty() && trial.failure.is_none();
        if let Some(trial) = trials.iter().position(unvisited) {
            return Step::Visit(PlannedVisit { trial, purpose: Purpose::Round(0) });
        }
        let threads = 1 << trials.len();
        if threads > 4 {
            return Step::Done;
        }
        let first = &known.plan.trials[0];
        let settings = Settings { threads: Some(threads), ..first.settings.clone() };
        let key = format!("{} with {threads} threads", first.key);
        Step::Add(Box::new(PlannedTrial { key, settings, is_reference: false, ..first.clone() }))
    }

    fn ahead(&self, _known: &Known<'_>) -> Vec<PlannedVisit> {
        vec![PlannedVisit { trial: 0, purpose: Purpose::Round(0) }]
    }
}

#[test]
fn a_strategy_adds_trials_while_a_run_goes_on() {
    let mut harness = Harness::of(&["Q8_0"]);
    let shown = harness.run_by(Box::new(Doubling), nothing_goes_wrong);
    assert_eq!(shown.jobs, ["make Q8_0", "Q8_0 tg4×2", "Q8_0 (t=2) tg4×2", "Q8_0 (t=4) tg4×2"]);
    let visits: Vec<usize> = shown.run.trials.iter().map(|trial| trial.visits.len()).collect();
    assert_eq!(visits, [1, 1, 1]);
    assert!(shown.run.trials.iter().all(|trial| trial.artifact.is_some()));
    assert!(shown.run.finished.is_some());
}

#[test]
fn trials_that_were_added_are_there_when_an_interrupted_run_goes_on() {
    let mut harness = Harness::of(&["Q8_0"]);
    let stop = Fault::After(3, WorkerMessage::Interrupted);
    let shown = harness.run_by(Box::new(Doubling), nth(1, "Q8_0 (t=2) tg4×2", stop));
    assert_eq!(shown.run.trials.len(), 2);
    assert!(shown.run.finished.is_none());
    let shown = harness.run_by(Box::new(Doubling), nothing_goes_wrong);
    assert_eq!(shown.jobs, ["Q8_0 (t=2) tg4×2", "Q8_0 (t=4) tg4×2"]);
    assert!(shown.run.finished.is_some());
}
