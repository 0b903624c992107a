//! How often `recommend` answers as the exhaustive matrix does, and in what part of its time: replayed from recorded runs.
//!
//! `cargo run --release --example recommend_replay -- [--sets N] [--noise RUN.json] [--verbose] RUN…`
//!
//! A RUN is one of the store (`quantbench list`), or a file of `quantbench show --format json`, of one model of which
//! everything was measured, with ten times the usual rounds and much of the text: `benches/recommend/*.toml` are such
//! experiments. With `--noise`, rounds are as far from the median of their trial as those of another run were, drawn at
//! random: that of a machine in another mood. docs/RECOMMEND.md says what the figures mean.

use quantbench::experiment::resolved::Experiment;
use quantbench::orchestrator::replay::bars::{Graded, graded};
use quantbench::results::record::{OtherWork, RunRecord, TrialRecord};
use quantbench::results::store::Store;
use quantbench::workload::Phase;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_verbose = arguments.iter().any(|it| it == "--verbose");
    arguments.retain(|it| it != "--verbose");
    let mut sets = 60;
    if let Some(at) = arguments.iter().position(|it| it == "--sets") {
        sets = arguments.get(at + 1).ok_or("--sets N")?.parse()?;
        arguments.drain(at..at + 2);
    }
    let mut noise = None;
    if let Some(at) = arguments.iter().position(|it| it == "--noise") {
        noise = Some(arguments.get(at + 1).ok_or("--noise RUN.json")?.clone());
        arguments.drain(at..at + 2);
    }
    if arguments.is_empty() {
        return Err("usage: recommend_replay [--sets N] [--verbose] RUN…".into());
    }
    let store = Store::open()?;
    let mut all: Vec<Graded> = Vec::new();
    for name in &arguments {
        let mut recorded = load(&store, name)?;
        if let Some(noise) = &noise {
            disturb(&mut recorded, &load(&store, noise)?);
        }
        let mut experiment: Experiment = serde_json::from_value(recorded.experiment.clone())?;
        experiment.rounds = 5;
        let found = graded(&experiment, &recorded, sets, 1)?;
        if is_verbose {
            found.iter().for_each(show);
        }
        summarize(&format!("{} ({name})", recorded.name), &found);
        all.extend(found);
    }
    summarize("all", &all);
    Ok(())
}

fn load(store: &Store, name: &str) -> Result<RunRecord, Box<dyn Error>> {
    if Path::new(name).extension().is_none_or(|it| it != "json") {
        return Ok(store.load(name)?);
    }
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(name)?)?;
    Ok(serde_json::from_value(document["run"].take())?)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The median of all visits' times for a test that only generates, nanoseconds per token; and those times.
fn generation(trial: &TrialRecord) -> Option<(f64, Vec<f64>)> {
    let tests = trial.visits.iter().flat_map(|visit| &visit.speed);
    let samples =
        tests.filter(|it| it.test.is_generation_only()).filter_map(|it| it.samples.first());
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
    let times =
        samples.map(|it| it.nanoseconds as f64 / f64::from(it.tokens)).collect::<Vec<f64>>();
    let mut sorted = times.clone();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.get(sorted.len() / 2)?, times))
}

/// Gives the rounds of a run the noise of another's. What chunks and files took is made alike, too: the median of all; and peaks of memory
/// are the highest of the trial.
fn disturb(run: &mut RunRecord, other: &RunRecord) {
    let chunks = median(
        run.trials
            .iter()
            .flat_map(|it| &it.stages)
            .flat_map(|it| &it.usage)
            .filter(|it| it.phase == Phase::Quality)
            .map(|it| it.usage.seconds),
    );
    let files = median(
        run.trials
            .iter()
            .flat_map(|it| &it.other_times)
            .filter(|it| it.work == OtherWork::File && it.seconds > 0.1)
            .map(|it| it.seconds),
    );
    for trial in &mut run.trials {
        let peak = trial.visits.iter().filter_map(|visit| visit.peak_rss_bytes).max();
        trial.visits.iter_mut().for_each(|visit| visit.peak_rss_bytes = peak);
        let usage = trial.stages.iter_mut().flat_map(|it| &mut it.usage);
        usage.filter(|it| it.phase == Phase::Quality).for_each(|it| it.usage.seconds = chunks);
        let times = trial.other_times.iter_mut().filter(|it| it.seconds > 0.1);
        times.for_each(|it| it.seconds = files);
    }
    let of_trial = |trial: &TrialRecord| {
        let (median, times) = generation(trial).unwrap_or((1.0, Vec::new()));
        times.into_iter().map(move |time| time / median).collect::<Vec<f64>>()
    };
    let noise: Vec<f64> = other.trials.iter().flat_map(of_trial).collect();
    let mut random = fastrand::Rng::with_seed(5);
    for trial in &mut run.trials {
        let Some((median, _)) = generation(trial) else { continue };
        for visit in &mut trial.visits {
            for record in visit.speed.iter_mut().filter(|it| it.test.is_generation_only()) {
                for sample in &mut record.samples {
                    let time = median * noise[random.usize(0..noise.len())];
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "nanoseconds"
                    )]
                    let nanoseconds = (time * f64::from(sample.tokens)) as u64;
                    sample.nanoseconds = nanoseconds;
                }
            }
        }
    }
}

fn show(it: &Graded) {
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
    let [own, all, _] = it.seconds;
    let agrees = if it.recommended == it.exhaustive {
        "same"
    } else if it.is_as_good {
        "alike"
    } else {
        "DIFFERS"
    };
    println!(
        "{agrees}: {} (matrix {}, all {}) {:.0} of {:.0} s = {:.2}; {}",
        name(&it.recommended),
        name(&it.exhaustive),
        name(&it.truth),
        own,
        all,
        own / all,
        it.asked
    );
    it.open.iter().for_each(|it| println!("    open: {it}"));
    it.contradicted.iter().for_each(|it| println!("    contradicted: {it}"));
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn summarize(name: &str, all: &[Graded]) {
    let percent = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    let count = |is: &dyn Fn(&&Graded) -> bool| all.iter().filter(is).count();
    let same = count(&|it| it.recommended == it.exhaustive);
    let alike = count(&|it| it.recommended == it.exhaustive || it.is_as_good);
    let truth = count(&|it| it.exhaustive == it.truth);
    let own_truth = count(&|it| it.recommended == it.truth);
    let parts = |of: usize| {
        let mut parts: Vec<f64> = all.iter().map(|it| it.seconds[0] / it.seconds[of]).collect();
        parts.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let at = (part * (parts.len() as f64 - 1.0)) as usize;
            parts.get(at).copied().unwrap_or(f64::NAN)
        };
        format!(
            "median {:.2}, quartiles {:.2} and {:.2}, most {:.2}",
            at(0.5),
            at(0.25),
            at(0.75),
            at(1.0)
        )
    };
    let verdicts: usize = all.iter().map(|it| it.verdicts).sum();
    let wrong: usize = all.iter().map(|it| it.contradicted.len()).sum();
    println!(
        "{name}: {} sets; same answer as the matrix {same} ({:.1} %), or one as good {alike} ({:.1} %); \
         answer of all that was recorded: recommend {own_truth}, matrix {truth}",
        all.len(),
        percent(same, all.len()),
        percent(alike, all.len())
    );
    println!("  time, of a whole run's: {}", parts(2));
    println!("  time, of the matrix' with the same workloads: {}", parts(1));
    println!("  verdicts contradicted: {wrong} of {verdicts} ({:.2} %)", percent(wrong, verdicts));
}
