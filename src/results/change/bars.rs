//! What comparisons have to reach, on simulated runs: false alarms of whole comparisons, and a slowdown that is found.
//!
//! The noise is what runs of the demo model showed on a shared machine with two cores, 2026-11-30, one thread (docs/COMPARE.md):
//! medians of runs 1 to 3 % apart, visits of one run 1 % apart and now and then a disturbed one. Here it is larger.

use super::*;
use crate::results::made_up::{LADDER, MadeUp, speed_test};
use crate::results::record::VisitRecord;
use crate::units::to_f64;
use fastrand::Rng;

/// How a machine's speed varies, as fractions.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// From run to run.
    runs: f64,
    /// From the first round to the last.
    drift: f64,
    /// From round to round, alike for all trials.
    rounds: f64,
    /// From visit to visit.
    visits: f64,
    /// Part of the visits that something else slows by 10 to 40 %.
    disturbed: f64,
}

const CALM: Weather =
    Weather { runs: 0.02, drift: 0.01, rounds: 0.005, visits: 0.006, disturbed: 0.01 };
const RESTLESS: Weather =
    Weather { runs: 0.04, drift: 0.05, rounds: 0.02, visits: 0.02, disturbed: 0.03 };

fn normal(random: &mut Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// Everything that a visit timed takes so much longer.
fn slow(visit: &mut VisitRecord, factor: f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "nanoseconds")]
    let longer = |nanoseconds: &mut u64| *nanoseconds = (to_f64(*nanoseconds) * factor) as u64;
    let speed = visit.speed.iter_mut().flat_map(|record| &mut record.samples);
    speed.for_each(|sample| longer(&mut sample.nanoseconds));
    let answers = visit.responses.iter_mut().flat_map(|it| &mut it.token_nanoseconds);
    answers.for_each(longer);
    visit.loads.iter_mut().for_each(|load| load.seconds *= factor);
}

/// A run of two trials in five rounds on such a machine. `twins`: both are the same variant, called old and new; else
/// each run has the same two variants. The second trial is slower by a factor.
fn run(random: &mut Rng, weather: Weather, twins: bool, slower: f64) -> RunRecord {
    let variants = if twins { vec![LADDER[1], LADDER[1]] } else { LADDER[..2].to_vec() };
    let made_up = MadeUp {
        variants: variants.clone(),
        prompts: 10,
        noise: weather.visits / 2.0,
        seed: random.u64(..),
        ..MadeUp::default()
    };
    let mut run = made_up.run();
    // Of the same file under the same settings what is not timed is the same.
    let same = MadeUp { seed: 1, ..made_up }.run();
    run.id = format!("{:016x}", random.u64(..));
    let level = weather.runs * normal(random);
    let drift = weather.drift * (2.0 * random.f64() - 1.0);
    let rounds: Vec<f64> = (0..5).map(|_| weather.rounds * normal(random)).collect();
    for (position, trial) in run.trials.iter_mut().enumerate() {
        trial.quality = same.trials[if twins { 0 } else { position }].quality.clone();
        if twins {
            trial.label = ["old", "new"][position].to_owned();
        }
        for (number, visit) in trial.visits.iter_mut().enumerate() {
            let at = to_f64(number as u64) / 4.0;
            let mut factor = (level + drift * at + rounds[number]).exp();
            factor *= (weather.visits * normal(random)).exp();
            if random.f64() < weather.disturbed {
                factor *= 1.1 + 0.3 * random.f64();
            }
            slow(visit, if position == 1 { factor * slower } else { factor });
        }
    }
    run
}

fn side(runs: Vec<RunRecord>, part: Option<&str>) -> Side {
    let part = part.map_or(Part::Own, |variant| Part::Variant(variant.to_owned()));
    let member = |run: RunRecord| Member { name: run.id.clone(), run, part: part.clone() };
    Side(runs.into_iter().map(member).collect())
}

/// How often any figure of a comparison of the same with the same is called better or worse.
fn false_alarms(times: u32, weather: Weather, each: usize, others: usize) -> f64 {
    let mut random = Rng::with_seed(7);
    let mut alarms = 0;
    for _ in 0..times {
        let mut some = |count: usize| {
            (0..count).map(|_| run(&mut random, weather, false, 1.0)).collect::<Vec<_>>()
        };
        let (base, new, others) = (side(some(each), None), side(some(each), None), some(others));
        let comparison = Comparison::of(&base, &new, &others, |_| false).unwrap();
        alarms += u32::from(is_alarm(&comparison));
    }
    f64::from(alarms) / f64::from(times)
}

fn is_alarm(comparison: &Comparison) -> bool {
    comparison.count(Verdict::Better) + comparison.count(Verdict::Worse) > 0
}

fn in_turns(random: &mut Rng, weather: Weather, slower: f64) -> Comparison {
    let run = run(random, weather, true, slower);
    let (old, new) = (side(vec![run.clone()], Some("old")), side(vec![run], Some("new")));
    let comparison = Comparison::of(&old, &new, &[], |_| false).unwrap();
    assert_eq!(comparison.form, Form::Interleaved);
    comparison
}

fn false_alarms_in_turns(times: u32, weather: Weather) -> f64 {
    let mut random = Rng::with_seed(8);
    let alarms = (0..times).filter(|_| is_alarm(&in_turns(&mut random, weather, 1.0))).count();
    to_f64(alarms as u64) / f64::from(times)
}

/// How often generation is called worse that takes 5 % longer, in five rounds.
fn found(times: u32, weather: Weather) -> f64 {
    let mut random = Rng::with_seed(9);
    let generation = Metric::Speed(speed_test("tg128"));
    let is_found = |comparison: &Comparison| {
        let mut figures = comparison.figures();
        figures.any(|(_, it)| it.metric == generation && it.verdict == Verdict::Worse)
    };
    let found =
        (0..times).filter(|_| is_found(&in_turns(&mut random, weather, 1.0 / 0.95))).count();
    to_f64(found as u64) / f64::from(times)
}

#[test]
fn the_same_is_seldom_called_different_and_a_slowdown_is_found() {
    for (each, others) in [(1, 0), (3, 0), (1, 5)] {
        let alarms = false_alarms(40, RESTLESS, each, others);
        assert!(alarms <= 0.05, "{each} runs against {each}, {others} others: {alarms}");
    }
    let alarms = false_alarms_in_turns(60, RESTLESS);
    assert!(alarms <= 0.05, "in turns: {alarms}");
    let found = found(60, CALM);
    assert!(found >= 0.9, "{found}");
}

/// `cargo test --release --lib change::bars -- --ignored`: minutes; the figures are in `compare-bars.txt` of the
/// folder for temporary files.
#[test]
#[ignore = "takes minutes; what is above is the same, shorter"]
fn bars() {
    let mut lines = Vec::new();
    for (name, weather) in [("calm", CALM), ("restless", RESTLESS)] {
        let mut told = Vec::new();
        for (each, others) in [(1, 0), (3, 0), (1, 5)] {
            let alarms = false_alarms(1000, weather, each, others);
            told.push(format!("{each} against {each} ({others} others) {:.1} %", alarms * 100.0));
            assert!(alarms <= 0.05, "{told:?}");
        }
        let alarms = false_alarms_in_turns(1000, weather);
        let found = found(1000, weather);
        let line = format!(
            "{name}: {}; in turns {:.1} %; 5 % slower found {:.1} %",
            told.join(", "),
            alarms * 100.0,
            found * 100.0
        );
        lines.push(line);
        assert!(alarms <= 0.05, "{alarms}");
    }
    assert!(found(1000, CALM) >= 0.88);
    std::fs::write(std::env::temp_dir().join("compare-bars.txt"), lines.join("\n")).unwrap();
}
