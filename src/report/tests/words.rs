//! What reports say in words, and that they claim no more than the figures support.

use super::{all_runs, table, three_settings, two_models, with_needs_and_failures};
use crate::report::columns;
use crate::report::findings::findings;
use crate::report::notes::caveats;
use crate::report::table::Mark;
use crate::results::made_up::{LADDER, MadeUp, Truth, fail};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::worker::protocol::Phase;
use crate::workload::measured::LeftOut;
use time::Duration;

fn said(run: &RunRecord) -> String {
    findings(run, &Summary::of(run)).join("\n")
}

#[test]
fn the_best_trade_off_is_told_in_numbers() {
    insta::assert_snapshot!(said(&MadeUp::default().run()), @r"Best trade-off: Q4_K_M. It is 3.1x smaller than F16, 2.7x faster at generation and its answers diverge by 0.031 nats (good; top token agrees 92.0 %). For less divergence take Q5_0 (0.015 nats, 11 % larger); for less size Q4_K_S (3.9 % smaller, 0.044 nats). Off the Pareto front of size, generation speed and divergence: Q4_0 (beaten by Q4_K_S).");
}

#[test]
fn a_choice_by_speeds_that_were_measured_once_says_so() {
    let run = MadeUp::default().run();
    let mut summary = Summary::of(&run);
    let said = |summary: &Summary| findings(&run, summary).concat();
    assert!(!said(&summary).contains("measured once"));
    summary.models[0].choice.as_mut().unwrap().rests_on_single_speeds = true;
    assert!(said(&summary).contains("Speed decides this, and speeds were measured once"));
}

#[test]
fn needs_come_first() {
    insta::assert_snapshot!(said(&with_needs_and_failures()), @r"3 of 12 trials meet the needs. Best trade-off among those that meet them: IQ4_XS. It is 3.3x smaller than F16, 2.8x faster at generation and its answers diverge by 0.046 nats (noticeable; top token agrees 90.4 %). Q4_K_S and IQ4_NL may be as good within the noise; size and divergence decide. Off the Pareto front of size, generation speed and divergence: Q4_0 (beaten by Q4_K_S).");
}

#[test]
fn if_none_meets_the_needs_the_closest_is_named() {
    let mut run = with_needs_and_failures();
    run.requirements.0[1].limit = 100.0;
    insta::assert_snapshot!(said(&run), @r"No trial meets all needs; IQ4_NL comes closest (speed reaches 35 % of its limit). Best trade-off regardless of them: Q4_K_M. It is 3.1x smaller than F16, 2.7x faster at generation and its answers diverge by 0.031 nats (good; top token agrees 92.0 %). For less divergence take Q5_0 (0.015 nats, 11 % larger); for less size Q4_K_S (3.9 % smaller, 0.044 nats). Off the Pareto front of size, generation speed and divergence: Q4_0 (beaten by Q4_K_S).");
}

#[test]
fn settings_are_named_where_there_are_several() {
    insta::assert_snapshot!(said(&three_settings()), @r"Best trade-off: Q4_K_M with defaults. It is 3.1x smaller than F16, 2.7x faster at generation and its answers diverge by 0.032 nats (good; top token agrees 92.0 %). For less divergence take Q8_0 (0.0012 nats, 1.6x larger). On the Pareto front of size, generation speed and divergence: F16, Q8_0, Q4_K_M and Q2_K.");
}

#[test]
fn each_model_has_its_own_sentences() {
    insta::assert_snapshot!(said(&two_models()), @r"
    Best trade-off for llama-3.2-1b: Q5_K_M. It is 2.7x smaller than F16, 2.4x faster at generation and its answers diverge by 0.011 nats (good; top token agrees 95.1 %). For less divergence take Q6_K (0.0049 nats, 12 % larger); for less size Q5_0 (2.1 % smaller, 0.015 nats). All 5 are on the Pareto front of size, generation speed and divergence: none is beaten by another.
    Best trade-off for qwen-0.5b: Q5_K_M. It is 2.7x smaller than F16, 2.4x faster at generation and its answers diverge by 0.011 nats (good; top token agrees 95.1 %). For less divergence take Q6_K (0.0049 nats, 12 % larger); for less size Q5_0 (2.1 % smaller, 0.015 nats). All 5 are on the Pareto front of size, generation speed and divergence: none is beaten by another.
    ");
}

#[test]
fn without_quality_only_size_and_speed_are_spoken_of() {
    insta::assert_snapshot!(said(&MadeUp { quality: false, ..MadeUp::default() }.run()), @r"Quality was not measured, so no trade-off can be named; Q2_K is the smallest and generates fastest. On the Pareto front of size and generation speed: Q2_K.");
}

#[test]
fn perplexity_stands_in_for_divergence() {
    let mut run = MadeUp { variants: LADDER[..7].to_vec(), ..MadeUp::default() }.run();
    for trial in &mut run.trials {
        trial.quality.as_mut().unwrap().divergence = None;
    }
    insta::assert_snapshot!(said(&run), @r"Best trade-off: Q4_K_M. It is 3.1x smaller than F16, 2.7x faster at generation and 2.9 % higher in perplexity. For less perplexity take Q5_0 (a perplexity of 10.53, 11 % larger); for less size Q4_K_S (3.9 % smaller, a perplexity of 10.81). All 7 are on the Pareto front of size, generation speed and perplexity: none is beaten by another.");
}

#[test]
fn the_reference_may_be_the_best() {
    let poor = Truth { kld: 3.0, ..LADDER[1] };
    let run = MadeUp { variants: vec![LADDER[0], poor], ..MadeUp::default() }.run();
    insta::assert_snapshot!(said(&run), @r"Best trade-off: F16, the reference itself; no smaller one saves enough for what it loses. Both are on the Pareto front of size, generation speed and divergence: none is beaten by another.");
}

#[test]
fn a_failed_reference_leaves_its_comparisons_out() {
    let mut run = MadeUp { variants: LADDER[..4].to_vec(), ..MadeUp::default() }.run();
    fail(&mut run, 0, 0, Phase::Load, "killed by signal 9");
    for trial in &mut run.trials[1..] {
        trial.quality.as_mut().unwrap().divergence = None;
    }
    insta::assert_snapshot!(said(&run), @r"Best trade-off: Q5_K_M. It is 2.7x smaller than F16. For less perplexity take Q6_K (a perplexity of 10.44, 12 % larger). All 3 are on the Pareto front of size, generation speed and perplexity: none is beaten by another.");
}

#[test]
fn one_round_supports_no_claim_of_speed() {
    let run = MadeUp { rounds: 1, ..MadeUp::default() }.run();
    let said = said(&run);
    assert!(!said.contains("faster") && !said.contains("slower"), "{said}");
    assert!(caveats(&run, &Summary::of(&run)).join("\n").contains("prove nothing"));
}

#[test]
fn equal_speeds_are_called_equal_in_all_but_one_of_twenty_runs() {
    // The variant is as fast as the reference in truth; a 95 % interval may err 5 times of 100.
    let same = Truth { generation_speed: LADDER[0].generation_speed, ..LADDER[5] };
    let claims = (1..=200)
        .filter(|&seed| {
            let variants = vec![LADDER[0], same];
            let said = said(&MadeUp { variants, noise: 0.03, seed, ..MadeUp::default() }.run());
            assert!(said.contains("generation"), "{said}");
            said.contains("faster at generation") || said.contains("slower at generation")
        })
        .count();
    assert!(claims <= 20, "{claims} of 200 runs claim a difference that is none");
}

#[test]
fn a_real_difference_of_speed_is_claimed() {
    let faster = Truth { generation_speed: LADDER[0].generation_speed * 1.1, ..LADDER[5] };
    let claims = (1..=50)
        .filter(|&seed| {
            let variants = vec![LADDER[0], faster];
            let said = said(&MadeUp { variants, noise: 0.01, seed, ..MadeUp::default() }.run());
            said.contains("% faster at generation")
        })
        .count();
    assert!(claims >= 45, "only {claims} of 50 runs tell a difference of 10 %");
}

#[test]
fn what_limits_the_figures_is_said() {
    let mut run = MadeUp::default().run();
    run.finished = None;
    for trial in &mut run.trials {
        trial.visits.truncate(3);
    }
    for (round, control) in (0_u8..).zip(&mut run.drift_controls) {
        control.tokens_per_second = 100.0 - 2.0 * f64::from(round) + 0.1 * f64::from(round % 2);
    }
    run.trials[3].visits[1].usage[0].usage.throttling = vec!["thermal \u{1b}[5m limit".to_owned()];
    let divergence = run.trials[2].quality.as_mut().unwrap().divergence.as_mut().unwrap();
    divergence.stopped_early = true;
    divergence.kld_error_bound = 0.000_12;
    insta::assert_snapshot!(caveats(&run, &Summary::of(&run)).join("\n"), @r"
    The run has not finished: 3 of 5 rounds of every trial are stored; the same command with --resume goes on.
    The machine grew 8.3 % slower during the run (drift control: the reference measured again each round); comparisons are paired by round, absolute speeds are not.
    While measuring, thermal �[5m limit; speeds suffer from it.
    PPL and KLD over 10200 tokens of text, ended once the KLD was as precise as asked; the reference was not kept whole, which may change a KLD by up to 0.00012.
    Energy: n/a, no counter of this machine could be read ('quantbench devices' says why).
    ");
}

#[test]
fn a_choice_beside_other_programs_is_doubted_and_one_on_a_virtual_machine_is_not() {
    let told = |sign: &str| {
        let mut run = MadeUp::default().run();
        run.trials[3].visits[1].usage[0].usage.throttling = vec![sign.to_owned()];
        findings(&run, &Summary::of(&run)).concat()
    };
    let doubt = "Other programs ran meanwhile: measure again";
    assert!(told("other programs took 55 % of the processor time").contains(doubt));
    assert!(!told("the hypervisor withheld 2 % of the processor time").contains(doubt));
}

#[test]
fn fewer_processors_than_the_machine_has_are_told() {
    let mut run = MadeUp::default().run();
    let told = |run: &RunRecord| caveats(run, &Summary::of(run)).join("\n");
    assert!(!told(&run).contains("The run may use"), "{}", told(&run));
    run.hosts[0].environment.usable_cpus = Some(2);
    run.hosts[0].environment.cpu_quota_cores = Some(1.5);
    let notes = told(&run);
    let expected = "The run may use 2 of 16 processors (affinity) and the time of 1.50 of 16 processors \
                    (control group)";
    assert!(notes.contains(expected), "{notes}");
    assert!(notes.contains("; 8 threads are more than that, and wait for each other."), "{notes}");
    // A quota beyond what affinity leaves limits nothing.
    run.hosts[0].environment.cpu_quota_cores = Some(4.0);
    for trial in &mut run.trials {
        trial.facts.as_mut().unwrap().threads = 2;
    }
    let notes = told(&run);
    assert!(notes.contains("The run may use 2 of 16 processors (affinity).\n"), "{notes}");
}

#[test]
fn what_a_model_has_no_context_for_is_told_once() {
    let mut run = MadeUp::default().run();
    for trial in &mut run.trials {
        trial.facts.as_mut().unwrap().context_length = 128;
        let left_out =
            |what: &str| LeftOut { what: what.to_owned(), reason: "too long".to_owned() };
        trial.left_out = vec![left_out("prompt 'b'"), left_out("prompt 'a'")];
    }
    let notes = caveats(&run, &Summary::of(&run)).join("\n");
    let left_out = "Left out of llama-3.2-1b: prompt 'a' and prompt 'b'; too long.";
    assert_eq!(notes.matches(left_out).count(), 1, "{notes}");
    let beyond = "llama-3.2-1b was trained with a context of 128 tokens: figures beyond it (pp512 and \
                  PPL and KLD over chunks of 512) say little of its use.";
    assert_eq!(notes.matches(beyond).count(), 1, "{notes}");
    assert!(!caveats(&MadeUp::default().run(), &Summary::of(&run)).join("\n").contains("beyond"));
}

#[test]
fn perplexities_over_different_tokens_are_not_left_to_be_compared() {
    let mut run = MadeUp::default().run();
    let quality = run.trials[2].quality.as_mut().unwrap();
    quality.scored_tokens /= 2;
    quality.divergence.as_mut().unwrap().stopped_early = true;
    let notes = |run: &RunRecord| caveats(run, &Summary::of(run)).join("\n");
    let told = "each PPL is over the first chunks that all";
    assert!(notes(&run).contains(told), "{}", notes(&run));
    // Nor where time was short.
    let divergence = run.trials[2].quality.as_mut().unwrap().divergence.as_mut();
    divergence.unwrap().stopped_early = false;
    assert!(notes(&run).contains(told), "{}", notes(&run));
}

#[test]
fn a_reference_that_is_rounded_is_told() {
    let rounded = |reference: usize| {
        let mut run = MadeUp::default().run();
        for (at, trial) in run.trials.iter_mut().enumerate() {
            trial.is_reference = at == reference;
        }
        caveats(&run, &Summary::of(&run)).concat().contains("is rounded itself")
    };
    assert!(rounded(1) && !rounded(0));
}

#[test]
fn memory_that_is_short_has_a_column() {
    let fits = |mebibytes: u64| {
        let mut run = MadeUp::default().run();
        run.hosts[0].environment.memory_bytes = mebibytes << 20;
        let table = columns::comparison(&Summary::of(&run));
        let fits = table.columns.into_iter().find(|column| column.name() == "fits");
        fits.map(|fits| fits.cells.iter().map(|it| fits.words(it).0).collect::<Vec<_>>())
    };
    assert_eq!(fits(9000), None);
    // The first three take 2664, 1557 and 1271 MiB.
    assert_eq!(fits(1700).unwrap()[..3], ["no", "barely", "yes"]);
}

#[test]
fn where_all_figures_of_a_column_are_unstable_that_is_said_once() {
    let run = MadeUp { noise: 0.5, ..MadeUp::default() }.run();
    let shown = columns::comparison(&Summary::of(&run));
    let unstable: Vec<_> = shown.columns.iter().filter(|it| it.is_unstable).collect();
    assert!(unstable.iter().any(|column| column.name() == "pp512"));
    for column in unstable {
        assert!(!column.cells.iter().any(|cell| cell.has(Mark::Unstable)), "{}", column.name());
    }
    let text = table(&run, 200);
    let note = text.lines().find(|line| line.starts_with("All figures of"));
    assert!(note.is_some_and(|note| note.contains("pp512")), "{text}");
}

#[test]
fn every_failed_trial_is_explained() {
    let text = table(&with_needs_and_failures(), 100);
    assert!(text.contains("[1] Q5_K_M failed in load: no �[31msuch file"), "{text}");
    assert!(text.contains("Q5_K_M [1]"), "{text}");
}

#[test]
fn every_kind_of_run_is_spoken_of() {
    for (what, run) in all_runs() {
        assert!(!said(&run).is_empty(), "{what}");
    }
}

#[test]
fn a_run_of_any_length_reads_well() {
    let mut run = MadeUp::default().run();
    run.finished = Some(run.started + Duration::days(1));
    // It was interrupted, and resumed the next day.
    run.active_seconds = Some(7265.0);
    assert!(table(&run, 100).contains("2 h 01 min"));
    // Of a version that did not keep it.
    run.active_seconds = None;
    assert!(table(&run, 100).contains("24 h 00 min"));
}
