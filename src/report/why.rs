//! Why generation is as fast as it is: how near it comes to what this machine's memory gives.

use super::text::sanitize;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::{ModelSummary, Summary};
use crate::units::{count, format_bytes, significant, to_f64};

/// The back end of processors.
const PROCESSOR: &str = "CPU";

/// From this share of what memory gives on, it is memory that bounds generation.
const BOUND_BY_MEMORY: f64 = 0.7;

/// Below this share it is not.
const BOUND_BY_ARITHMETIC: f64 = 0.4;

/// More than memory gives, beyond the noise of either.
const BEYOND: f64 = 1.1;

/// By so much other threads have to read faster to be worth a word.
const WORTH_MORE_THREADS: f64 = 1.1;

/// A sentence about each model's best trade-off, or its reference; none where nobody measured the memory or a GPU
/// computes.
pub(super) fn notes(run: &RunRecord, summary: &Summary) -> Vec<String> {
    summary.models.iter().filter_map(|model| of_model(run, summary, model)).collect()
}

fn of_model(run: &RunRecord, summary: &Summary, model: &ModelSummary) -> Option<String> {
    let test = summary.generation?;
    let mut rows = model.groups.iter().flat_map(|group| &group.rows);
    let reference = rows.find(|&&row| summary.rows[row].is_reference).copied();
    let at = model.choice.as_ref().map(|choice| choice.row).or(reference)?;
    let (row, trial) = (&summary.rows[at], &run.trials[at]);
    let facts = trial.facts.as_ref()?;
    if facts.backends.iter().any(|it| it != PROCESSOR) {
        return None;
    }
    let rates = &run.environment_of(trial).read_rates;
    let own = rates.iter().rfind(|rate| rate.threads <= facts.threads)?.bytes_per_second;
    let most = rates.iter().max_by(|a, b| a.bytes_per_second.total_cmp(&b.bytes_per_second))?;
    let bytes = facts.bytes_per_token.filter(|&bytes| bytes > 0)?;
    let speed = row.value(Metric::Speed(test))?;
    let share = speed * to_f64(bytes) / own;
    let percent = significant(share * 100.0, 2);
    let name = sanitize(&row.label);
    let threads = count(facts.threads, "thread");
    let reads = format!(
        "{test} of {name} reads {} of weights a token, {percent} % of what this memory gives {threads} ({} GB/s)",
        format_bytes(bytes),
        significant(own / 1e9, 3)
    );
    let would_help = if share > BEYOND {
        "the caches hold part of them".to_owned()
    } else if share >= BOUND_BY_MEMORY {
        if most.bytes_per_second > own * WORTH_MORE_THREADS {
            let rate = significant(most.bytes_per_second / 1e9, 3);
            let more = count(most.threads, "thread");
            format!("fewer bytes per token would help, and so would {more} ({rate} GB/s)")
        } else {
            "fewer bytes per token would help, more threads would not".to_owned()
        }
    } else if share < BOUND_BY_ARITHMETIC {
        "it is arithmetic that bounds it: faster cores or more of them would help, fewer bytes per token hardly".to_owned()
    } else {
        "memory and arithmetic both bound it".to_owned()
    };
    Some(format!("{reads}: {would_help}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::bandwidth::ReadRate;
    use crate::results::made_up::MadeUp;

    /// What is told where one thread reads at `one` and eight at `eight` times what generation takes.
    fn told(one: f64, eight: f64) -> String {
        let mut run = MadeUp { noise: 0.0, ..MadeUp::default() }.run();
        let summary = Summary::of(&run);
        let at = summary.models[0].choice.as_ref().unwrap().row;
        let speed = summary.rows[at].value(Metric::Speed(summary.generation.unwrap())).unwrap();
        let bytes = run.trials[at].facts.as_ref().unwrap().bytes_per_token.unwrap();
        let taken = speed * to_f64(bytes);
        let rate = |threads, times: f64| ReadRate {
            threads,
            bytes_per_second: taken * times,
            lower_quartile: taken * times,
            upper_quartile: taken * times,
        };
        run.hosts[0].environment.read_rates =
            vec![rate(1, one), rate(8, eight), rate(16, eight * 1.3)];
        notes(&run, &summary).concat()
    }

    #[test]
    fn what_bounds_generation_is_told_from_its_share_of_what_memory_gives() {
        assert_eq!(
            notes(&MadeUp::default().run(), &Summary::of(&MadeUp::default().run())),
            [""; 0]
        );
        for (eight, expected) in [
            (1.25, "80 % of what this memory gives 8 threads"),
            (1.25, "fewer bytes per token would help, and so would 16 threads"),
            (2.0, "50 % of what"),
            (2.0, "both bound it"),
            (4.0, "25 % of what"),
            (4.0, "it is arithmetic that bounds it"),
            (0.5, "the caches hold part of them"),
        ] {
            let told = told(1.0, eight);
            assert!(told.contains(expected), "{told}");
        }
    }
}
