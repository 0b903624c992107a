//! Tests of comparisons on made-up runs.

use super::gate::{Gate, GateOutcome};
use super::*;
use crate::experiment::settings::Settings;
use crate::metrics::TaskMetric;
use crate::results::made_up::{LADDER, MadeUp, answered, fail, speed_test};
use crate::workload::Phase;
use serde_json::json;

/// A run of its own: other noise, another name. What does not depend on the machine is as in all others.
fn run(seed: u64) -> RunRecord {
    let made_up = MadeUp { seed, variants: LADDER[..3].to_vec(), ..MadeUp::default() };
    let mut run = made_up.run();
    let same = MadeUp { seed: 1, ..made_up }.run();
    run.id = format!("2026-11-23-{seed:04}");
    run.started += time::Duration::hours(i64::try_from(seed).unwrap());
    for (trial, same) in run.trials.iter_mut().zip(same.trials) {
        trial.quality = same.quality;
        trial.artifact.as_mut().unwrap().checksum = format!("c0ffee-{}", trial.label);
    }
    run
}

fn side(runs: &[&RunRecord]) -> Side {
    let member =
        |run: &&RunRecord| Member { name: run.id.clone(), run: (*run).clone(), part: Part::Own };
    Side(runs.iter().map(member).collect())
}

fn variant(run: &RunRecord, variant: &str) -> Side {
    let part = Part::Variant(variant.to_owned());
    Side(vec![Member { name: run.id.clone(), run: run.clone(), part }])
}

fn compared(base: &Side, new: &Side) -> Comparison {
    Comparison::of(base, new, &[], |_| false).unwrap()
}

fn of(comparison: &Comparison, metric: Metric) -> Vec<FigureChange> {
    let figures = comparison.figures().filter(|(_, figure)| figure.metric == metric);
    figures.map(|(_, figure)| figure.clone()).collect()
}

fn generation() -> Metric {
    Metric::Speed(speed_test("tg128"))
}

/// All of a run's speeds times this.
fn faster(run: &RunRecord, factor: f64) -> RunRecord {
    let mut run = run.clone();
    for visit in run.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
        for sample in visit.speed.iter_mut().flat_map(|record| &mut record.samples) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "nanoseconds of a test"
            )]
            let nanoseconds = (sample.nanoseconds as f64 / factor) as u64;
            sample.nanoseconds = nanoseconds;
        }
    }
    run
}

#[test]
fn one_run_against_one_shows_no_small_change_and_says_so() {
    let (base, new) = (run(1), run(2));
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    assert_eq!(comparison.form, Form::Runs { base: 1, new: 1, others: 0 });
    assert!(comparison.is_one_against_one());
    assert_eq!(comparison.pairs.len(), 3);
    assert_eq!(comparison.count(Verdict::Worse) + comparison.count(Verdict::Better), 0);
    let slower = compared(&side(&[&base]), &side(&[&faster(&new, 0.9)]));
    assert!(of(&slower, generation()).iter().all(|it| it.verdict == Verdict::NoDifference));
    let halved = compared(&side(&[&base]), &side(&[&faster(&new, 0.4)]));
    assert!(of(&halved, generation()).iter().all(|it| it.verdict == Verdict::Worse));
    let exact = of(&comparison, Metric::FileBytes)[0].change.unwrap();
    assert!(exact.exact && exact.value == 0.0);
}

#[test]
fn several_runs_on_each_side_show_what_one_does_not() {
    let base: Vec<RunRecord> = (1..=4).map(run).collect();
    let new: Vec<RunRecord> = (5..=8).map(|seed| faster(&run(seed), 0.9)).collect();
    let (base, new): (Vec<&RunRecord>, Vec<&RunRecord>) =
        (base.iter().collect(), new.iter().collect());
    let comparison = compared(&side(&base), &side(&new));
    assert_eq!(comparison.form, Form::Runs { base: 4, new: 4, others: 0 });
    for figure in of(&comparison, generation()) {
        assert_eq!(figure.verdict, Verdict::Worse, "{figure:?}");
        assert!((figure.change.unwrap().value + 0.1).abs() < 0.02);
    }
    assert!(
        of(&comparison, Metric::TtftMedianSeconds)
            .iter()
            .all(|it| it.verdict == Verdict::NoDifference)
    );
}

#[test]
fn further_runs_of_the_same_trials_say_how_much_runs_differ() {
    let (base, new) = (side(&[&run(1)]), side(&[&faster(&run(2), 0.88)]));
    let others: Vec<RunRecord> = (3..9).map(run).collect();
    let comparison = Comparison::of(&base, &new, &others, |_| false).unwrap();
    assert_eq!(comparison.form, Form::Runs { base: 1, new: 1, others: 6 });
    assert!(of(&comparison, generation()).iter().all(|it| it.verdict == Verdict::Worse));
    let mut elsewhere = others;
    for run in &mut elsewhere {
        run.hosts[0].environment.cpu = "another".to_owned();
    }
    let comparison = Comparison::of(&base, &new, &elsewhere, |_| false).unwrap();
    assert_eq!(comparison.form, Form::Runs { base: 1, new: 1, others: 0 });
    assert!(of(&comparison, generation()).iter().all(|it| it.verdict == Verdict::NoDifference));
}

#[test]
fn variants_of_one_run_are_compared_round_by_round_where_they_took_turns() {
    let run = run(1);
    let (base, new) = (variant(&run, "F16"), variant(&run, "q8_0"));
    let comparison = compared(&base, &new);
    assert_eq!(comparison.form, Form::Interleaved);
    assert_eq!(comparison.pairs[0].name(), "llama-3.2-1b F16 → Q8_0");
    let speed = &of(&comparison, generation())[0];
    assert_eq!(speed.verdict, Verdict::Better);
    let interval = speed.change.unwrap().interval;
    assert!(interval.low > 0.7 && interval.high < 1.05, "{interval:?}");
    let mut in_a_row = run;
    for visit in &mut in_a_row.trials[1].visits {
        visit.started += time::Duration::hours(1);
    }
    let comparison = compared(&variant(&in_a_row, "F16"), &variant(&in_a_row, "Q8_0"));
    assert_eq!(comparison.form, Form::Runs { base: 1, new: 1, others: 0 });
}

#[test]
fn a_single_round_says_nothing_of_how_rounds_differ() {
    let run = MadeUp { rounds: 1, ..MadeUp::default() }.run();
    let comparison = compared(&variant(&run, "F16"), &variant(&run, "Q8_0"));
    let speed = &of(&comparison, generation())[0];
    assert_eq!(speed.verdict, Verdict::Incomparable);
    assert!(speed.why.as_ref().unwrap().contains("in one round"), "{speed:?}");
}

#[test]
fn what_differs_is_told_and_what_is_alike() {
    let (base, mut new) = (run(1), run(2));
    new.trials[0].engine.version = "0.7.0".to_owned();
    new.trials[1].artifact.as_mut().unwrap().checksum = "beef".to_owned();
    new.hosts[0].environment.governor = Some("powersave".to_owned());
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    let told: Vec<_> = comparison
        .differences
        .iter()
        .map(|it| (it.what, it.base.as_str(), it.new.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("engine", "llama.cpp 0.6.0", "llama.cpp 0.7.0"),
            ("file", "Q8_0 c0ffee-Q8_0", "Q8_0 beef"),
            ("governor", "performance", "powersave"),
        ]
    );
    assert!(comparison.alike.contains(&"threads") && !comparison.alike.contains(&"engine"));
    assert!(!comparison.alike.contains(&"machine"), "every machine calls itself local");
}

#[test]
fn figures_over_other_texts_prompts_and_references_are_not_compared() {
    let experiment = |text: &str, prompt: &str| {
        let latency = json!({ "prompts": [{ "id": "a", "text": prompt }], "format": "auto" });
        json!({ "workloads": { "quality": { "text": text, "context": 512 }, "latency": latency } })
    };
    let (mut base, mut new) = (run(1), run(2));
    base.experiment = experiment("once", "hello");
    new.experiment = experiment("once", "hello");
    let why = |base: &RunRecord, new: &RunRecord, metric: Metric| {
        let comparison = compared(&side(&[base]), &side(&[new]));
        let figure = of(&comparison, metric).into_iter().next_back().unwrap();
        figure.why
    };
    assert_eq!(why(&base, &new, Metric::Kld), None);
    let mut other = new.clone();
    other.trials[0].is_reference = false;
    other.trials[1].is_reference = true;
    assert!(
        why(&base, &other, Metric::Kld).unwrap().contains("another reference (Q8_0 and F16)")
            || why(&base, &other, Metric::Kld)
                .unwrap()
                .contains("another reference (F16 and Q8_0)")
    );
    new.experiment = experiment("twice", "goodbye");
    assert!(why(&base, &new, Metric::Kld).unwrap().contains("another text"));
    assert!(why(&base, &new, Metric::Perplexity).unwrap().contains("another text"));
    assert!(why(&base, &new, Metric::TtftMedianSeconds).unwrap().contains("other prompts"));
}

#[test]
fn a_change_of_divergence_shows_chunk_by_chunk() {
    let (base, mut new) = (run(1), run(2));
    let divergence = new.trials[2].quality.as_mut().unwrap().divergence.as_mut().unwrap();
    for chunk in &mut divergence.chunk_kld {
        *chunk *= 1.05;
    }
    divergence.kld.mean *= 1.05;
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    let [q8, q6] = of(&comparison, Metric::Kld).try_into().unwrap();
    assert_eq!((q8.verdict, q6.verdict), (Verdict::NoDifference, Verdict::Worse));
    assert!((q6.change.unwrap().value - 0.05).abs() < 1e-9);
}

#[test]
fn where_one_side_ended_early_all_is_over_the_chunks_that_both_have() {
    let (mut base, mut new) = (run(1), run(2));
    for (run, chunks) in [(&mut base, 40), (&mut new, 10)] {
        for trial in &mut run.trials {
            let quality = trial.quality.as_mut().unwrap();
            quality.chunks = chunks;
            quality.chunk_nll.truncate(chunks as usize);
            let Some(divergence) = &mut quality.divergence else { continue };
            divergence.chunk_kld.truncate(chunks as usize);
            // The first ten chunks are easier than those that come after them.
            let share = |chunk| if chunk < 10 { 0.9 } else { 0.5 };
            divergence.chunk_top_token_agreement = (0..chunks).map(share).collect();
            divergence.top_token_agreement.mean = if chunks == 10 { 0.9 } else { 0.6 };
        }
    }
    let compare = |base: &RunRecord, new: &RunRecord, metric: Metric| {
        of(&compared(&side(&[base]), &side(&[new])), metric).pop().unwrap()
    };
    let same_top = compare(&base, &new, Metric::TopTokenAgreement);
    assert_eq!((same_top.verdict, same_top.common_chunks), (Verdict::NoDifference, Some(10)));
    assert!((same_top.base.unwrap() - 0.9).abs() < 1e-12, "{same_top:?}");
    assert_eq!(compare(&base, &new, Metric::Perplexity).common_chunks, Some(10));
    let again = RunRecord { id: "2026-11-24-0009".to_owned(), ..base.clone() };
    assert_eq!(compare(&base, &again, Metric::Perplexity).common_chunks, None);
    let last = |run: &mut RunRecord, change: fn(&mut Vec<f64>)| {
        let quality = run.trials[2].quality.as_mut().unwrap();
        change(&mut quality.divergence.as_mut().unwrap().chunk_top_token_agreement);
    };
    last(&mut new, |chunks| chunks[3] = 0.2);
    let worse = compare(&base, &new, Metric::TopTokenAgreement);
    assert!((worse.change.unwrap().value + 7.0).abs() < 1e-9, "in points: {worse:?}");
    // Of runs stored before it was kept by chunk nothing can be said.
    last(&mut new, Vec::clear);
    let unknown = compare(&base, &new, Metric::TopTokenAgreement);
    assert_eq!(unknown.verdict, Verdict::Incomparable);
    assert!(unknown.why.unwrap().contains("over 40 chunks of the text in base and 10 in new"));
}

#[test]
fn a_disturbed_run_alone_says_nothing_of_speed_but_of_quality() {
    let (base, mut new) = (run(1), run(2));
    let usage = &mut new.trials[0].visits[0].usage[0].usage;
    usage.throttling.push("other programs took 60 % of the processor time".to_owned());
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    assert!(of(&comparison, generation()).iter().all(|it| it.verdict == Verdict::Incomparable));
    assert!(of(&comparison, Metric::Kld).iter().all(|it| it.verdict == Verdict::NoDifference));
    assert!(comparison.differences.iter().any(|it| it.what == "disturbed by"));

    // Neither do several, and beside one that was not they do not count.
    let (mut second, quiet) = (faster(&new, 3.0), run(3));
    second.id = "second".to_owned();
    let comparison = compared(&side(&[&base, &quiet]), &side(&[&new, &second]));
    assert!(of(&comparison, generation()).iter().all(|it| it.verdict == Verdict::Incomparable));
    let comparison = compared(&side(&[&base, &new]), &side(&[&quiet, &second]));
    let mixed = of(&comparison, generation());
    assert!(mixed.iter().all(|it| it.verdict == Verdict::NoDifference), "{mixed:?}");
}

#[test]
fn a_run_is_one_observation_however_often_it_is_named() {
    let (base, new) = (run(1), run(2));
    for (one, other) in [
        (side(&[&base, &base]), side(&[&new])),
        (side(&[&base]), side(&[&new, &new])),
        (side(&[&base, &new]), side(&[&new])),
    ] {
        let error = Comparison::of(&one, &other, &[], |_| false).unwrap_err();
        assert!(error.to_string().contains("is named twice"), "{error}");
    }
    let variants =
        |name: &str| Side([&base, &new].iter().flat_map(|run| variant(run, name).0).collect());
    assert!(Comparison::of(&variants("Q8_0"), &variants("Q6_K"), &[], |_| false).is_ok());
}

#[test]
fn partners_are_found_by_what_they_are_and_the_rest_is_told() {
    let base = run(1);
    let mut new = run(2);
    new.trials.swap(0, 2);
    new.trials[1].label = "my-file".to_owned();
    new.trials[0].settings = Settings { threads: Some(4), ..Settings::default() };
    new.trials.push({
        let mut added = new.trials[2].clone();
        added.label = "Q2_K".to_owned();
        added.artifact.as_mut().unwrap().checksum = "new".to_owned();
        added.facts.as_mut().unwrap().tensor_bytes = 1;
        added
    });
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    let names: Vec<String> = comparison.pairs.iter().map(PairChange::name).collect();
    assert_eq!(
        names,
        ["llama-3.2-1b F16", "llama-3.2-1b Q8_0 → my-file", "llama-3.2-1b Q6_K (defaults → t=4)"]
    );
    assert_eq!(comparison.only_new, ["llama-3.2-1b Q2_K"]);
    assert!(comparison.only_base.is_empty());
    let error = Comparison::of(&variant(&base, "Q8_0"), &variant(&base, "Q9"), &[], |_| false);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no variant 'Q9'; its variants are F16, Q8_0, Q6_K")
    );
    let error = Comparison::of(&side(&[&base]), &side(&[&base]), &[], |_| false);
    assert!(error.unwrap_err().to_string().contains("the same run"));
}

fn outcomes(gate: &str, comparison: &Comparison) -> Vec<GateOutcome> {
    let gate: Gate = gate.parse().unwrap();
    gate.check(comparison).unwrap().into_iter().map(|result| result.outcome).collect()
}

#[test]
fn a_gate_trips_on_what_is_shown_to_be_larger_than_its_limit() {
    let run = run(1);
    let comparison = compared(&variant(&run, "Q8_0"), &variant(&run, "F16"));
    // F16 generates at 54 % of Q8_0's speed.
    assert!(matches!(outcomes("tg128 -40%", &comparison)[0], GateOutcome::Tripped { .. }));
    let held = &outcomes("tg128 -60%", &comparison)[0];
    assert!(matches!(held, GateOutcome::Held { open: false, .. }), "{held:?}");
    let open = &outcomes("tg128 -46.3%", &comparison)[0];
    assert!(
        matches!(open, GateOutcome::Held { open: true, .. }),
        "significant, and not larger: {open:?}"
    );
    assert!(matches!(outcomes("file +50%", &comparison)[0], GateOutcome::Tripped { .. }));
    let wrong =
        |gate: &str| gate.parse::<Gate>().unwrap().check(&comparison).unwrap_err().to_string();
    assert!(wrong("tg128 +5%").contains("write 'tg128 -5%'"));
    assert!(wrong("tg12 -5%").contains("did you mean 'tg128'?"));
    assert!(wrong("flips 1%").contains("measure a task"));
}

#[test]
fn a_gate_that_cannot_be_judged_trips() {
    let (base, mut new) = (run(1), run(2));
    fail(&mut new, 1, 0, Phase::Load, "no memory");
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    let found = outcomes("tg128 -5%", &comparison);
    let GateOutcome::NotJudged { why } = &found[1] else { panic!("{found:?}") };
    assert_eq!(why, "it failed in new: no memory");
    assert!(matches!(found[0], GateOutcome::Held { open: true, .. }));
}

#[test]
fn answers_that_turned_are_counted_both_ways() {
    let (mut base, mut new) = (run(1), run(2));
    let right: Vec<f64> = (0..100).map(|at| f64::from(u8::from(at % 2 == 0))).collect();
    let mut turned = right.clone();
    (turned[0], turned[2], turned[4], turned[1]) = (0.0, 0.0, 0.0, 1.0);
    base.trials[1].tasks.push(answered("quiz", TaskMetric::Accuracy, right));
    new.trials[1].tasks.push(answered("quiz", TaskMetric::Accuracy, turned));
    new.trials[1].visits[0].responses[0].text = "Something else.".to_owned();
    let comparison = compared(&side(&[&base]), &side(&[&new]));
    let [quiz, prompts] = comparison.pairs[1].answers.clone().try_into().unwrap();
    assert_eq!((quiz.changed, quiz.to_right, quiz.to_wrong), (4, Some(1), Some(3)));
    assert_eq!((prompts.of.as_str(), prompts.asked, prompts.changed), ("prompts", 20, 1));
    assert!(matches!(outcomes("flips 1%", &comparison)[..], [GateOutcome::Tripped { .. }]));
    assert!(matches!(
        outcomes("flips 2%", &comparison)[..],
        [GateOutcome::Held { open: true, .. }]
    ));
    assert!(matches!(outcomes("quiz -10%", &comparison)[..], [GateOutcome::Held { .. }]));
}
