//! Tests of summaries over made-up runs.

use super::figure::Relation;
use super::made_up::{LADDER, MadeUp, Truth, fail, speed_test};
use super::metric::Metric;
use super::record::{RunRecord, SpeedRecord};
use super::summary::{Row, Summary};
use super::verdict::Standing;
use crate::experiment::requirements::Requirements;
use crate::experiment::settings::Settings;
use crate::worker::protocol::Phase;
use crate::workload::measured::{COMPARED_BY_TOKENS, LeftOut, SpeedSample};

fn row<'a>(summary: &'a Summary, label: &str) -> &'a Row {
    summary.rows.iter().find(|row| row.label == label).unwrap()
}

fn labels(summary: &Summary, rows: &[usize]) -> Vec<String> {
    rows.iter().map(|&row| summary.rows[row].label.clone()).collect()
}

fn close(found: f64, expected: f64, within: f64) {
    assert!((found - expected).abs() <= within * expected.abs(), "{found} is not {expected}");
}

fn generation() -> Metric {
    Metric::Speed(speed_test("tg128"))
}

#[test]
fn figures_are_those_that_were_made_up() {
    let summary = Summary::of(&MadeUp::default().run());
    let row = row(&summary, "Q4_K_M");
    close(row.value(Metric::FileBytes).unwrap(), 770.0 * 1_048_576.0, 1e-9);
    close(row.value(generation()).unwrap(), 33.4, 0.02);
    close(row.value(Metric::Kld).unwrap(), 0.0282 * 1.11, 0.03);
    close(row.value(Metric::ItlMedianSeconds).unwrap(), 1.02 / 33.4, 0.02);
    close(row.value(Metric::WarmLoadSeconds).unwrap(), 0.1377, 0.03);
    assert_eq!(row.figures[&generation()].estimate.n, 5);
    assert!(!row.is_unstable(generation()));
    assert_eq!(row.value(Metric::DeviceBytes), None, "no GPU, no device memory");
    assert_eq!(row.value(Metric::JoulesPerToken), None, "unreadable energy is not 0");
    assert_eq!((summary.rounds_done, summary.rounds_planned), (5, Some(5)));
}

#[test]
fn perplexity_over_other_tokens_is_compared_with_none() {
    let mut run = MadeUp::default().run();
    let other = run.trials.iter_mut().find(|trial| trial.label == "Q4_K_M").unwrap();
    other.quality.as_mut().unwrap().divergence = None;
    let (what, reason) = (COMPARED_BY_TOKENS.to_owned(), "its tokens differ".to_owned());
    other.left_out.push(LeftOut { what, reason });
    let summary = Summary::of(&run);
    for metric in [Metric::Kld, Metric::Perplexity, Metric::PerplexityIncrease] {
        assert_eq!(row(&summary, "Q4_K_M").value(metric), None);
        assert!(row(&summary, "Q8_0").value(metric).is_some());
    }
}

#[test]
fn energy_per_token_is_power_times_time_per_token() {
    let summary = Summary::of(&MadeUp { gpu: true, ..MadeUp::default() }.run());
    let row = row(&summary, "Q4_K_M");
    let per_token = 1.0 / row.value(generation()).unwrap();
    close(row.value(Metric::JoulesPerToken).unwrap(), 310.0 * per_token, 0.02);
    close(row.value(Metric::DeviceBytes).unwrap(), 770.0 * 1_048_576.0 + 6.0e8, 1e-6);
}

#[test]
fn repetitions_stand_in_for_rounds_if_there_was_only_one() {
    let mut run = MadeUp { rounds: 1, ..MadeUp::default() }.run();
    let one = Summary::of(&run);
    assert_eq!(one.rows[0].figures[&generation()].estimate.interval, None);
    let sample = |nanoseconds| SpeedSample { nanoseconds, tokens: 128 };
    run.trials[0].visits[0].speed = vec![SpeedRecord {
        test: speed_test("tg128"),
        samples: vec![sample(1_000_000_000), sample(1_010_000_000), sample(990_000_000)],
    }];
    let several = Summary::of(&run);
    let estimate = several.rows[0].figures[&generation()].estimate;
    assert_eq!(estimate.n, 3);
    close(estimate.value, 128.0, 1e-9);
    assert!(estimate.interval.is_some());
}

#[test]
fn a_clock_that_stood_still_yields_no_speed() {
    let mut run = MadeUp::default().run();
    for visit in &mut run.trials[1].visits {
        visit.speed[1].samples[0].nanoseconds = 0;
    }
    let summary = Summary::of(&run);
    assert_eq!(summary.rows[1].value(generation()), None);
}

#[test]
fn trials_are_compared_with_the_reference_under_the_same_settings() {
    let settings = vec![
        Settings::default(),
        Settings { threads: Some(4), ..Settings::default() },
        Settings { threads: Some(2), ..Settings::default() },
    ];
    let mut run = MadeUp { settings, ..MadeUp::default() }.run();
    for trial in run.trials.iter_mut().skip(12) {
        trial.is_reference = false;
    }
    let summary = Summary::of(&run);
    assert_eq!(summary.rows[5].baseline, Some(0));
    assert_eq!(summary.rows[12].baseline, Some(0), "the same variant under other settings");
    assert_eq!(summary.rows[17].baseline, Some(12));
    close(summary.rows[17].ratios[&generation()].value, 33.4 / 12.1, 0.03);
    assert_eq!(summary.models.len(), 1);
    assert_eq!(summary.models[0].groups.len(), 3);
    assert_eq!(summary.models[0].groups[2].rows, (24..36).collect::<Vec<_>>());
}

#[test]
fn the_front_leaves_out_what_is_beaten_in_everything() {
    let summary = Summary::of(&MadeUp::default().run());
    let front = labels(&summary, &summary.models[0].front.members);
    for extreme in ["F16", "Q8_0", "Q2_K"] {
        assert!(front.contains(&extreme.to_owned()), "{extreme} is best in one figure");
    }
    let mut run = MadeUp::default().run();
    run.trials[4].artifact.as_mut().unwrap().file_bytes = 900 << 20;
    let summary = Summary::of(&run);
    let front = labels(&summary, &summary.models[0].front.members);
    assert!(!front.contains(&"Q5_0".to_owned()), "larger, slower and further off than Q5_K_M");
}

#[test]
fn the_best_trade_off_is_a_four_bit_variant_whatever_the_noise() {
    for seed in 1..40 {
        for noise in [0.002, 0.01, 0.03] {
            let summary = Summary::of(&MadeUp { noise, seed, ..MadeUp::default() }.run());
            let choice = summary.models[0].choice.clone().unwrap();
            let label = &summary.rows[choice.row].label;
            assert!(
                ["IQ4_XS", "Q4_K_M", "IQ4_NL", "Q4_K_S"].contains(&label.as_str()),
                "{label} with seed {seed} and noise {noise}"
            );
        }
    }
}

#[test]
fn the_best_trade_off_does_not_depend_on_what_else_was_measured() {
    let whole = Summary::of(&MadeUp::default().run());
    let chosen = whole.rows[whole.models[0].choice.clone().unwrap().row].label.clone();
    for without in ["F16", "Q2_K", "Q8_0", "Q3_K_M"].iter().filter(|label| **label != chosen) {
        let mut run = MadeUp::default().run();
        run.trials.retain(|trial| trial.label != *without);
        let summary = Summary::of(&run);
        let choice = summary.models[0].choice.clone().unwrap();
        assert_eq!(summary.rows[choice.row].label, chosen, "without {without}");
    }
}

#[test]
fn equal_variants_are_named_as_equal_and_the_smaller_one_is_taken() {
    let mut variants = LADDER.to_vec();
    variants.truncate(2);
    for (label, mebibytes) in [("Q4_K_M", 770.0), ("Q4_K_S", 769.9), ("IQ4_NL", 770.1)] {
        variants.push(super::made_up::Truth { label, mebibytes, ..LADDER[5] });
    }
    let summary = Summary::of(&MadeUp { variants, noise: 0.02, ..MadeUp::default() }.run());
    let choice = summary.models[0].choice.clone().unwrap();
    assert_eq!(summary.rows[choice.row].label, "Q4_K_S");
    assert_eq!(labels(&summary, &choice.equals), ["Q4_K_M", "IQ4_NL"]);
}

#[test]
fn without_quality_there_is_no_trade_off() {
    let summary = Summary::of(&MadeUp { quality: false, ..MadeUp::default() }.run());
    assert_eq!(summary.models[0].choice, None);
    assert_eq!(labels(&summary, &summary.models[0].front.members), ["Q2_K"]);
}

#[test]
fn perplexity_stands_in_for_divergence() {
    let mut run = MadeUp::default().run();
    for trial in &mut run.trials {
        trial.quality.as_mut().unwrap().divergence = None;
    }
    let summary = Summary::of(&run);
    let choice = summary.models[0].choice.clone().unwrap();
    assert!(summary.rows[choice.row].label.contains("Q4"), "{}", summary.rows[choice.row].label);
    let increase = row(&summary, "Q2_K").value(Metric::PerplexityIncrease).unwrap();
    close(increase, (0.61_f64 * 1.113 * 0.9).exp_m1(), 0.05);
}

#[test]
fn verdicts_judge_every_requirement() {
    let mut run = MadeUp::default().run();
    let memory = 1100.0 * 1_048_576.0;
    let needs = [("max_memory", memory), ("min_generation_tps", 34.0), ("max_kld", 0.05)];
    run.requirements = Requirements::of(&needs);
    let summary = Summary::of(&run);
    let outcomes = |label: &str| -> Vec<Standing> {
        let verdict = row(&summary, label).verdict.clone().unwrap();
        verdict.checks.iter().map(|check| check.outcome).collect()
    };
    assert_eq!(outcomes("F16"), [Standing::Missed, Standing::Missed, Standing::Met]);
    assert_eq!(outcomes("IQ4_NL"), [Standing::Met, Standing::Met, Standing::Met]);
    assert_eq!(outcomes("Q2_K"), [Standing::Met, Standing::Met, Standing::Missed]);
    assert!(!summary.requirements_unmet());
    let choice = summary.models[0].choice.clone().unwrap();
    assert!(row(&summary, &summary.rows[choice.row].label).verdict.as_ref().unwrap().is_met());

    run.requirements = Requirements::of(&[needs[0], needs[1], needs[2], ("max_ttft_ms", 0.001)]);
    assert!(Summary::of(&run).requirements_unmet());
}

#[test]
fn a_limit_within_the_interval_is_close() {
    let mut run = MadeUp::default().run();
    let value = Summary::of(&run).rows[5].value(generation()).unwrap();
    run.requirements = Requirements::of(&[("min_generation_tps", value * 1.001)]);
    let summary = Summary::of(&run);
    let check = &summary.rows[5].verdict.as_ref().unwrap().checks[0];
    assert_eq!((check.measured, check.outcome), (Some(generation()), Standing::Missed));
    assert!(check.close);
    close(check.excess(), 1.001, 1e-6);
}

#[test]
fn any_figure_can_be_required() {
    let mut run = MadeUp::default().run();
    let asked = ("min_pp512_tokens_per_second", 1.0);
    run.requirements = Requirements::of(&[asked, ("min_top_token_agreement", 0.9)]);
    let summary = Summary::of(&run);
    let outcomes = |label: &str| -> Vec<Standing> {
        let verdict = row(&summary, label).verdict.as_ref().unwrap();
        verdict.checks.iter().map(|check| check.outcome).collect()
    };
    assert_eq!(outcomes("F16"), [Standing::Met, Standing::Met], "the reference agrees with itself");
    assert_eq!(outcomes("Q8_0"), [Standing::Met, Standing::Met]);
    assert_eq!(outcomes("Q2_K"), [Standing::Met, Standing::Missed]);
}

#[test]
fn what_was_not_measured_is_not_met() {
    let mut run = MadeUp { prompts: 0, ..MadeUp::default() }.run();
    run.requirements = Requirements::of(&[("max_ttft_ms", 500.0)]);
    let summary = Summary::of(&run);
    assert_eq!(summary.rows[0].verdict.clone().unwrap().checks[0].outcome, Standing::NotMeasured);
    assert!(summary.requirements_unmet());
}

#[test]
fn failed_trials_keep_their_figures_but_win_nothing() {
    let mut run = MadeUp::default().run();
    fail(&mut run, 11, 2, Phase::Latency, "killed by signal 9, probably out of memory");
    let summary = Summary::of(&run);
    let failed = row(&summary, "Q2_K");
    assert!(failed.value(generation()).is_some() && failed.best.is_empty());
    assert!(!summary.models[0].front.members.contains(&11));
    assert!(row(&summary, "Q3_K_M").best.contains(&Metric::FileBytes));
    assert!(summary.any_failed());
    assert_eq!(summary.rounds_done, 5);
}

#[test]
fn the_best_of_a_column_are_all_that_noise_does_not_separate() {
    let summary = Summary::of(&MadeUp::default().run());
    let best = |metric: Metric| -> Vec<&str> {
        let rows = summary.rows.iter().filter(|row| row.best.contains(&metric));
        rows.map(|row| row.label.as_str()).collect()
    };
    assert_eq!(best(Metric::FileBytes), ["Q2_K"]);
    assert_eq!(best(generation()), ["Q2_K"]);
    assert_eq!(best(Metric::Kld), ["Q8_0"]);
    let prompt = best(Metric::Speed(speed_test("pp512")));
    assert!(prompt.contains(&"Q4_0"), "{prompt:?}");
}

#[test]
fn a_perplexity_over_an_easier_beginning_of_the_text_is_not_the_best() {
    let mut run = MadeUp::default().run();
    let reference = run.trials[0].quality.clone().unwrap();
    // The first half is easy; the worst variant stopped there, and its own perplexity is the lowest.
    let half = reference.chunk_nll.len() / 2;
    for trial in &mut run.trials {
        let quality = trial.quality.as_mut().unwrap();
        quality.chunk_nll[..half].iter_mut().for_each(|nll| *nll -= 2.0);
    }
    let last = run.trials.last_mut().unwrap().quality.as_mut().unwrap();
    last.chunk_nll.truncate(half);
    let chunks = f64::from(u32::try_from(half).unwrap());
    last.perplexity.mean = (last.chunk_nll.iter().sum::<f64>() / chunks).exp();
    assert!(last.perplexity.mean < reference.perplexity.mean);
    let summary = Summary::of(&run);
    assert!(row(&summary, "F16").best.contains(&Metric::Perplexity));
    assert!(!row(&summary, "Q2_K").best.contains(&Metric::Perplexity));
    // What stands side by side is of the same chunks.
    let first: f64 = run.trials[0].quality.as_ref().unwrap().chunk_nll[..half].iter().sum();
    let shown = row(&summary, "F16").value(Metric::Perplexity).unwrap();
    assert!((shown - (first / chunks).exp()).abs() < 1e-9, "{shown}");
    let last = run.trials.last().unwrap().quality.as_ref().unwrap().perplexity.mean;
    assert!((row(&summary, "Q2_K").value(Metric::Perplexity).unwrap() - last).abs() < 1e-12);
    assert!(shown < last);
}

#[test]
fn an_empty_run_and_one_of_failures_are_summarized() {
    let empty = RunRecord { trials: Vec::new(), ..MadeUp::default().run() };
    assert_eq!(Summary::of(&empty).rows, []);
    let mut run = MadeUp::default().run();
    for trial in 0..12 {
        fail(&mut run, trial, 0, Phase::Load, "no such file");
    }
    run.requirements = Requirements::of(&[("max_kld", 1.0)]);
    let summary = Summary::of(&run);
    assert_eq!(summary.models[0].choice, None);
    assert!(summary.models[0].front.members.is_empty());
    assert!(!summary.requirements_unmet(), "no verdict over what failed");
}

#[test]
fn drift_and_throttling_are_found() {
    let mut run = MadeUp::default().run();
    for (round, control) in (0_u8..).zip(&mut run.drift_controls) {
        control.tokens_per_second = 100.0 - 2.0 * f64::from(round) + 0.1 * f64::from(round % 2);
    }
    let hot = "package temperature at its limit".to_owned();
    run.trials[3].visits[1].usage[0].usage.throttling = vec![hot.clone(), hot.clone()];
    let withheld = |percent: u32| format!("{percent} % withheld");
    run.trials[3].visits[0].usage[0].usage.throttling = vec![withheld(9), withheld(12)];
    run.trials[4].visits[0].usage[0].usage.throttling = vec![withheld(3)];
    let summary = Summary::of(&run);
    let drift = summary.drift.unwrap();
    close(drift.value, -0.083, 0.02);
    assert!(!drift.interval.unwrap().contains(0.0));
    assert_eq!(summary.throttling, [withheld(12), hot]);
}

#[test]
fn the_same_prompts_in_another_order_are_the_same_prompts() {
    let run = MadeUp::default().run();
    let mut shuffled = run.clone();
    for trial in &mut shuffled.trials {
        trial.visits.reverse();
    }
    let (own, other) = (Summary::of(&run), Summary::of(&shuffled));
    assert_eq!(
        own.rows[3].figures[&Metric::Ttft90Seconds],
        other.rows[3].figures[&Metric::Ttft90Seconds]
    );
    let faster = &own.rows[7].figures[&Metric::TtftMedianSeconds];
    assert_eq!(faster.relation(&own.rows[0].figures[&Metric::TtftMedianSeconds]), Relation::Lower);
}

#[test]
fn a_few_bytes_are_no_reason_to_take_a_variant_that_diverges_more() {
    let q4_0 = LADDER[7];
    let nearly = Truth { mebibytes: q4_0.mebibytes - 0.001, kld: q4_0.kld * 1.7, ..LADDER[5] };
    let summary =
        Summary::of(&MadeUp { variants: vec![LADDER[0], q4_0, nearly], ..MadeUp::default() }.run());
    let model = &summary.models[0];
    assert_eq!(model.choice.as_ref().map(|choice| choice.row), Some(1));
    assert_eq!(model.smaller, None);
    assert_eq!(labels(&summary, &model.front.members), ["F16", "Q4_0"]);
    for label in ["Q4_0", "Q4_K_M"] {
        assert!(row(&summary, label).best.contains(&Metric::FileBytes), "{label}");
    }
}

#[test]
fn a_smaller_file_is_advised_only_where_it_does_not_lose_far_more_than_it_saves() {
    let q4_0 = LADDER[7];
    // 2 % fewer weights would lose 0.076 · 2.33 · 0.02 = 0.0036 nats.
    for (more_nats, advised) in [(0.006, Some(2)), (0.009, None), (0.04, None)] {
        let kld = q4_0.kld + more_nats / 1.113;
        let smaller = Truth { mebibytes: q4_0.mebibytes * 0.98, kld, ..LADDER[5] };
        let variants = vec![LADDER[0], q4_0, smaller];
        let summary = Summary::of(&MadeUp { variants, ..MadeUp::default() }.run());
        assert_eq!(summary.models[0].choice.as_ref().map(|choice| choice.row), Some(1));
        assert_eq!(summary.models[0].smaller, advised, "{more_nats} nats more");
    }
}

#[test]
fn with_few_chunks_no_interval_leaves_what_a_figure_can_be_and_little_is_beaten() {
    let variants = vec![LADDER[0], LADDER[1], LADDER[4], LADDER[5]];
    let mut run = MadeUp { variants, ..MadeUp::default() }.run();
    for trial in &mut run.trials {
        let quality = trial.quality.as_mut().unwrap();
        quality.chunk_nll.truncate(2);
        quality.chunk_nll[1] *= 2.0;
        if let Some(divergence) = &mut quality.divergence {
            divergence.chunk_kld.truncate(2);
            divergence.chunk_kld[1] *= 2.0;
            divergence.top_token_agreement.standard_error = 0.2;
        }
    }
    let summary = Summary::of(&run);
    for row in &summary.rows {
        for (metric, low, high) in [
            (Metric::Perplexity, 1.0, f64::INFINITY),
            (Metric::Kld, 0.0, f64::INFINITY),
            (Metric::TopTokenAgreement, 0.0, 1.0),
        ] {
            let Some(figure) = row.figures.get(&metric) else { continue };
            let interval = figure.estimate.interval.unwrap();
            assert!(interval.low >= low && interval.high <= high, "{metric:?} {interval:?}");
            assert!(interval.contains(figure.estimate.value), "{metric:?} {interval:?}");
        }
    }
    assert_eq!(summary.models[0].front.members, [0, 1, 2, 3]);
}

#[test]
fn no_speed_is_below_zero_however_it_varied() {
    let mut run = MadeUp { rounds: 2, ..MadeUp::default() }.run();
    for sample in &mut run.trials[0].visits[1].speed[1].samples {
        sample.nanoseconds *= 50;
    }
    let speed = Summary::of(&run).rows[0].figures[&generation()].estimate;
    assert_eq!(speed.interval.map(|interval| interval.low), Some(0.0));
    assert!(speed.half_width() > Some(speed.value), "{speed:?}");
}
