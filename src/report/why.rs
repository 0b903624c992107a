//! Why generation is as fast as it is: how near it comes to what this machine's memory gives.

use super::text::sanitize;
use crate::hardware::rates::ComputeRates;
use crate::model::size::main_format;
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord};
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

/// A type that is computed with at this share of what memory gives keeps up with it.
const KEEPS_UP: f64 = 0.85;

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
    let computed = computed(run, trial, facts.threads);
    let keeps_up = computed.as_ref().map(|it| it.rate >= own * KEEPS_UP);
    let would_help = if share > BEYOND {
        "the caches hold part of them".to_owned()
    } else if let Some(Computed { name, rate, .. }) = &computed
        && speed * to_f64(bytes) > rate * BEYOND
    {
        // A busy machine was measured; nothing can be said by it.
        format!(
            "more than it took of {name} when it was measured ({} GB/s): measure it again when nothing else runs \
             ('quantbench devices --measure')",
            significant(rate / 1e9, 3)
        )
    } else if let Some(Computed { name, rate, more }) = computed.filter(|_| keeps_up == Some(false))
    {
        let rate = significant(rate / 1e9, 3);
        let more = more.map_or_else(
            || "faster cores or more of them would help".to_owned(),
            |threads| format!("{} would help", count(threads, "thread")),
        );
        format!(
            "it is arithmetic that bounds it, which takes {name} at {rate} GB/s: {more}, fewer bytes of another type perhaps"
        )
    } else if share >= BOUND_BY_MEMORY || keeps_up == Some(true) {
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

/// How fast the weights of a trial are computed with.
struct Computed {
    /// ggml's name of the type that most of them have.
    name: &'static str,
    /// Bytes per second.
    rate: f64,
    /// More threads that were measured to be faster.
    more: Option<u32>,
}

/// What the machine's profile says of a trial's type with so many threads; `None`: it was not measured.
fn computed(run: &RunRecord, trial: &TrialRecord, threads: u32) -> Option<Computed> {
    let name = main_format(trial.quantization.file_type()?)?.name();
    let all = &run.environment_of(trial).compute_rates;
    let of = |rates: &ComputeRates| Some(rates.types.get(name)?.generation.value);
    let rate = of(all.iter().find(|rates| rates.threads == threads)?)?;
    let faster = |rates: &&ComputeRates| {
        rates.threads > threads && of(rates).is_some_and(|it| it > rate * WORTH_MORE_THREADS)
    };
    let more = all.iter().find(faster).map(|rates| rates.threads);
    Some(Computed { name, rate, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::bandwidth::ReadRate;
    use crate::hardware::rates::{Rate, TypeRate};
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
    fn what_was_measured_of_a_type_decides_what_bounds_it() {
        let told = |of_memory: f64, more: f64| {
            let mut run = MadeUp { noise: 0.0, ..MadeUp::default() }.run();
            let summary = Summary::of(&run);
            let at = summary.models[0].choice.as_ref().unwrap().row;
            let name = main_format(run.trials[at].quantization.file_type().unwrap()).unwrap();
            let threads = run.trials[at].facts.as_ref().unwrap().threads;
            let speed = summary.rows[at].value(Metric::Speed(summary.generation.unwrap())).unwrap();
            let bytes = run.trials[at].facts.as_ref().unwrap().bytes_per_token.unwrap();
            let memory = 2.0 * speed * to_f64(bytes);
            let (lower_quartile, upper_quartile) = (memory, memory);
            let environment = &mut run.hosts[0].environment;
            environment.read_rates = vec![ReadRate {
                threads,
                bytes_per_second: memory,
                lower_quartile,
                upper_quartile,
            }];
            let rates = |threads: u32, value: f64| {
                let generation = Rate { value, low: value, high: value };
                let rate = TypeRate { generation, prompt: generation };
                let types = [(name.name().to_owned(), rate)].into();
                ComputeRates { threads, types, ..ComputeRates::default() }
            };
            environment.compute_rates =
                vec![rates(threads, memory * of_memory), rates(2 * threads, memory * more)];
            notes(&run, &summary).concat()
        };
        let busy = told(0.4, 0.9);
        assert!(busy.contains("when it was measured"), "{busy}");
        let arithmetic = told(0.5, 0.9);
        assert!(
            arithmetic.contains("it is arithmetic that bounds it, which takes"),
            "{arithmetic}"
        );
        assert!(arithmetic.contains("16 threads would help"), "{arithmetic}");
        assert!(told(0.5, 0.5).contains("faster cores or more of them"));
        assert!(told(0.95, 0.95).contains("fewer bytes per token would help"));
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
