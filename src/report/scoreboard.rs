//! Rows of the public scoreboards of llama.cpp, with what one needs to believe them.
//!
//! Sources: llama.cpp's discussions "Performance of llama.cpp on Apple Silicon M-series" (#4167), "… with CUDA" (#15013)
//! and "… with Vulkan" (#10879), which ask for pp512 and tg128 of Llama 2 7B as llama-bench gives them (mean ± standard
//! deviation of the repetitions); for boards the tables of github.com/geerlingguy/ai-benchmarks.

use super::html::commands;
use super::next::source;
use super::notes;
use super::text::sanitize;
use super::{BenchFormat, RenderOptions, Renderer};
use crate::causes::Problem;
use crate::experiment::settings::FlashAttention;
use crate::experiment::workloads::SpeedTest;
use crate::hardware::usage::Usage;
use crate::model::source::Source;
use crate::results::each_once;
use crate::results::record::{Environment, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::statistics::sample::Sample;
use crate::units::{count, format_bytes, significant};
use crate::worker::protocol::Phase;

/// A public table of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Scoreboard {
    /// Single-board computers: system, CPU or GPU, generation, power
    Sbc,
    /// Apple Silicon: prompt and generation in F16, 8 and 4 bits
    Apple,
    /// GPUs through CUDA: pp512, tg128
    Cuda,
    /// GPUs through Vulkan: pp512, tg128
    Vulkan,
}

/// What a scoreboard asks for.
const PROMPT: SpeedTest = SpeedTest { prompt_tokens: 512, ..NOTHING };
const GENERATION: SpeedTest = SpeedTest { generated_tokens: 128, ..NOTHING };
const NOTHING: SpeedTest = SpeedTest {
    prompt_tokens: 0,
    generated_tokens: 0,
    depth: 0,
    sequences: 1,
    shares_depth: false,
    embeds: false,
};

/// The row that a scoreboard asks for, and its evidence.
///
/// # Errors
/// The run has nothing that belongs there.
pub(super) fn render(
    run: &RunRecord,
    summary: &Summary,
    board: Scoreboard,
) -> Result<String, Problem> {
    let trials: Vec<&TrialRecord> =
        run.trials.iter().filter(|trial| trial.failure.is_none()).collect();
    let machines = each_once(trials.iter().map(|trial| &trial.host));
    if machines.len() > 1 {
        let several =
            "a row is of one machine, and this run was measured on several; measure on one";
        return Err(Problem::new(several));
    }
    let used = |names: &[&str]| -> Result<Vec<&TrialRecord>, Problem> {
        let on = |trial: &&&TrialRecord| {
            backends(trial).iter().any(|own| names.iter().any(|it| own.starts_with(it)))
        };
        let found: Vec<&TrialRecord> = trials.iter().filter(on).copied().collect();
        if found.is_empty() {
            let own = each_once(trials.iter().flat_map(|trial| backends(trial).iter().cloned()));
            return Err(Problem::new(format!(
                "the scoreboard '{board}' lists what computed through {}, and trials of {} computed through {}",
                names[0],
                sanitize(&run.id),
                if own.is_empty() { "nothing".to_owned() } else { own.join(", ") }
            )));
        }
        Ok(found)
    };
    let rows = match board {
        Scoreboard::Cuda => gpu_rows(run, &used(&["CUDA"])?)?,
        Scoreboard::Vulkan => gpu_rows(run, &used(&["Vulkan"])?)?,
        Scoreboard::Apple => apple_rows(run, &trials)?,
        Scoreboard::Sbc => board_rows(run, summary, &trials)?,
    };
    Ok(format!("{}\n\n{}", rows.join("\n"), evidence(run, summary)?))
}

fn backends(trial: &TrialRecord) -> &[String] {
    trial.facts.as_ref().map_or(&[], |facts| facts.backends.as_slice())
}

/// Mean and standard deviation of a test's repetitions, tokens per second.
fn rate(trial: &TrialRecord, test: SpeedTest) -> Option<(f64, Option<f64>)> {
    let records =
        trial.visits.iter().flat_map(|visit| &visit.speed).filter(|record| record.test == test);
    let sample = Sample::new(
        records.flat_map(|record| &record.samples).map(|sample| sample.tokens_per_second()),
    )?;
    Some((sample.mean(), sample.standard_deviation()))
}

fn in_words(rate: Option<(f64, Option<f64>)>) -> String {
    match rate {
        Some((mean, Some(deviation))) => format!("{mean:.2} ± {deviation:.2}"),
        Some((mean, None)) => format!("{mean:.2}"),
        None => "-".to_owned(),
    }
}

/// What is missing, with the command that measures it.
fn lacks(what: &str, run: &RunRecord) -> Problem {
    Problem::new(format!(
        "{} has no trial with {what}, which the scoreboard asks for; 'quantbench bench -m FILE -p 512 -n 128 -r 5' measures \
         them (FILE: Llama 2 7B in Q4_0; shape:llama-2-7b has its speed with generated weights)",
        sanitize(&run.id)
    ))
}

fn gpu_rows(run: &RunRecord, trials: &[&TrialRecord]) -> Result<Vec<String>, Problem> {
    let mut rows = vec![
        "| Chip | pp512 t/s | tg128 t/s | Commit | Comments |".to_owned(),
        "| --- | --: | --: | --- | --- |".to_owned(),
    ];
    for trial in trials {
        let (prompt, generation) = (rate(trial, PROMPT), rate(trial, GENERATION));
        if prompt.is_none() && generation.is_none() {
            continue;
        }
        let environment = run.environment_of(trial);
        let chip = environment.gpus.iter().map(|gpu| cell(gpu.split(" (").next().unwrap_or(gpu)));
        rows.push(format!(
            "| {} | {} | {} | {} | {} |",
            each_once(chip).join(", "),
            in_words(prompt),
            in_words(generation),
            commit(run, trial),
            comments(run, trial),
        ));
    }
    if rows.len() == 2 { Err(lacks("pp512 or tg128", run)) } else { Ok(rows) }
}

fn comments(run: &RunRecord, trial: &TrialRecord) -> String {
    let attention = match trial.settings.flash_attention {
        FlashAttention::On => "fa 1",
        FlashAttention::Off => "fa 0",
        FlashAttention::Auto => "fa auto",
    };
    let mut parts =
        vec![format!("{} {}", cell(&trial.model), cell(&trial.label)), attention.to_owned()];
    if is_generated(run, trial) {
        parts.push("generated weights".to_owned());
    }
    parts.join(", ")
}

fn is_generated(run: &RunRecord, trial: &TrialRecord) -> bool {
    matches!(source(run, trial), Some(Source::Shape(_)))
}

fn commit(run: &RunRecord, trial: &TrialRecord) -> String {
    cell(run.engine_version(trial))
}

fn apple_rows(run: &RunRecord, trials: &[&TrialRecord]) -> Result<Vec<String>, Problem> {
    let chip =
        |environment: &Environment| environment.cpu.strip_prefix("Apple ").map(str::to_owned);
    let Some(chip) = trials.first().and_then(|trial| chip(run.environment_of(trial))) else {
        return Err(Problem::new(format!(
            "the scoreboard 'apple' lists Apple's chips, and {} was measured on {}",
            sanitize(&run.id),
            sanitize(&run.environment().cpu)
        )));
    };
    let models = each_once(trials.iter().map(|trial| trial.model.as_str()));
    let mut rows = vec![
        "| Chip | BW [GB/s] | GPU Cores | F16 PP [t/s] | F16 TG [t/s] | Q8_0 PP [t/s] | Q8_0 TG [t/s] | Q4_0 PP [t/s] | Q4_0 TG [t/s] |".to_owned(),
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |".to_owned(),
    ];
    for model in models {
        let of = |name: &str, test: SpeedTest| {
            let own = trials
                .iter()
                .find(|trial| trial.model == model && trial.quantization.label.name() == name);
            own.and_then(|trial| rate(trial, test)).map(|(mean, _)| format!("{mean:.2}"))
        };
        let figures = ["F16", "Q8_0", "Q4_0"].map(|name| [of(name, PROMPT), of(name, GENERATION)]);
        if figures.iter().flatten().all(Option::is_none) {
            continue;
        }
        let figures =
            figures.into_iter().flatten().map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
        // What the chip's maker says of it no program can read.
        rows.push(format!(
            "| {} | ? | ? | {} |",
            cell(&chip),
            figures.collect::<Vec<_>>().join(" | ")
        ));
    }
    if rows.len() == 2 { Err(lacks("F16, Q8_0 or Q4_0 in pp512 or tg128", run)) } else { Ok(rows) }
}

fn board_rows(
    run: &RunRecord,
    summary: &Summary,
    trials: &[&TrialRecord],
) -> Result<Vec<String>, Problem> {
    let Some(test) = summary.generation else { return Err(lacks("tg128", run)) };
    let mut rows = vec![
        "| System | CPU/GPU | Model | Eval Rate | Power (Peak) |".to_owned(),
        "| :--- | :--- | :--- | :--- | :--- |".to_owned(),
    ];
    for trial in trials {
        let Some((mean, _)) = rate(trial, test) else { continue };
        let environment = run.environment_of(trial);
        let on_gpu =
            backends(trial).iter().any(|it| !["CPU", "BLAS", "ZenDNN"].contains(&it.as_str()));
        let memory = if environment.memory_bytes > 0 {
            format!(" ({})", format_bytes(environment.memory_bytes))
        } else {
            String::new()
        };
        let usage = trial.visits.iter().flat_map(|visit| &visit.usage);
        let watts = usage
            .filter(|usage| usage.phase == Phase::Speed(test))
            .filter_map(|it| watts(&it.usage));
        let power = watts.reduce(f64::max).map_or_else(
            || "N/A (at the wall: fill in)".to_owned(),
            |watts| format!("{} W (counters, without supply and board)", significant(watts, 3)),
        );
        rows.push(format!(
            "| {}{memory} | {} | {} {} | {mean:.2} Tokens/s | {power} |",
            cell(&environment.cpu),
            if on_gpu { "GPU" } else { "CPU" },
            cell(&trial.model),
            cell(&trial.label),
        ));
    }
    if rows.len() == 2 { Err(lacks("tg128", run)) } else { Ok(rows) }
}

/// Mean power over a phase, watts, of everything that was read.
fn watts(usage: &Usage) -> Option<f64> {
    usage.energy_joules().filter(|_| usage.seconds > 0.0).map(|joules| joules / usage.seconds)
}

/// What the row rests on: machine, engine, files, commands, all figures, and what to beware of.
fn evidence(run: &RunRecord, summary: &Summary) -> Result<String, Problem> {
    let mut lines = vec!["<details><summary>Evidence</summary>".to_owned(), String::new()];
    for host in &run.hosts {
        let it = &host.environment;
        let governor = it
            .governor
            .as_ref()
            .map(|name| format!(", governor {}", cell(name)))
            .unwrap_or_default();
        let rate = it.read_rates.iter().map(|rate| rate.bytes_per_second).reduce(f64::max);
        let rate = rate
            .map(|rate| format!(", memory measured at {} GB/s", significant(rate / 1e9, 3)))
            .unwrap_or_default();
        // What a file of another program does not say is left out.
        let cores = (it.physical_cores > 0).then(|| {
            format!(", {} of {} logical", count(it.physical_cores, "core"), it.logical_cpus)
        });
        let memory = (it.memory_bytes > 0).then(|| format!(", {}", format_bytes(it.memory_bytes)));
        let [cores, memory] = [cores, memory].map(Option::unwrap_or_default);
        lines.push(format!("- machine: {}{cores}{memory}{governor}{rate}", cell(&it.cpu)));
        lines.extend(it.gpus.iter().map(|gpu| format!("- GPU: {}", cell(gpu))));
        if !it.operating_system.is_empty() {
            lines.push(format!("- system: {}", cell(&it.operating_system)));
        }
        lines.push(format!("- engine: {}; {}", cell(&it.engines_in_words()), cell(&it.build)));
        lines.push(if it.quantbench.is_empty() {
            format!("- measured by: llama-bench, {}", cell(&run.id))
        } else {
            format!(
                "- measured by: quantbench {}, run {}, {} of every trial, interleaved",
                cell(&it.quantbench),
                cell(&run.id),
                count(summary.rounds_done, "round")
            )
        });
    }
    for trial in &run.trials {
        let Some(artifact) = &trial.artifact else { continue };
        let generated = if is_generated(run, trial) {
            "; **generated weights**: speed and memory hold, answers mean nothing"
        } else {
            ""
        };
        lines.push(format!(
            "- file: {} {}, {}, SHA-256 {}{generated}",
            cell(&trial.model),
            cell(&trial.label),
            format_bytes(artifact.file_bytes),
            cell(&artifact.checksum)
        ));
    }
    lines.extend(
        notes::cautions(run, summary).iter().map(|note| format!("- beware: {}", cell(note))),
    );
    lines.extend([String::new(), "```sh".to_owned()]);
    let commands = each_once(run.trials.iter().flat_map(|trial| commands(run, trial)));
    lines.extend(commands.into_iter().filter(|line| !line.starts_with('#')));
    lines.extend(["```".to_owned(), String::new()]);
    let table = BenchFormat::Md.render(run, summary, &RenderOptions::default())?;
    // Its last line names a build in llama-bench's way; which engine it was stands above.
    let table = String::from_utf8_lossy(&table);
    lines.extend(table.lines().filter(|line| line.starts_with('|')).map(str::to_owned));
    lines.extend([String::new(), "</details>".to_owned(), String::new()]);
    Ok(lines.join("\n"))
}

/// Text in a cell or a line of Markdown.
fn cell(text: &str) -> String {
    super::markdown::escape(&sanitize(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::{LADDER, MadeUp};

    fn rendered(run: &RunRecord, board: Scoreboard) -> Result<String, Problem> {
        render(run, &Summary::of(run), board)
    }

    fn run(gpu: bool) -> RunRecord {
        MadeUp { variants: vec![LADDER[0], LADDER[1], LADDER[7]], gpu, ..MadeUp::default() }.run()
    }

    #[test]
    fn a_gpu_has_a_row_with_both_tests_and_its_evidence() {
        let text = rendered(&run(true), Scoreboard::Cuda).unwrap();
        let row = text.lines().nth(2).unwrap();
        assert!(row.starts_with("| NVIDIA H200 | ") && row.contains(" ± "), "{row}");
        assert!(row.contains("llama-3.2-1b F16, fa auto"), "{row}");
        for part in [
            "SHA-256 c0ffee",
            "quantbench bench -m ",
            "-p 512 -n 128",
            "governor performance",
            "| pp512 |",
        ] {
            assert!(
                text.contains(part) || text.contains(&part.replace("| pp512 |", "pp512")),
                "{part}\n{text}"
            );
        }
    }

    #[test]
    fn a_row_is_refused_where_it_would_be_false() {
        let message = |run: &RunRecord, board| rendered(run, board).unwrap_err().to_string();
        let on_processor = run(false);
        assert!(message(&on_processor, Scoreboard::Cuda).contains("computed through CPU"));
        assert!(message(&run(true), Scoreboard::Vulkan).contains("computed through CUDA"));
        assert!(message(&on_processor, Scoreboard::Apple).contains("AMD Ryzen 7 7840U"));
        let mut other = on_processor;
        for visit in other.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
            visit.speed.clear();
        }
        assert!(
            message(&other, Scoreboard::Sbc).contains("quantbench bench -m FILE -p 512 -n 128")
        );
    }

    #[test]
    fn apple_s_row_has_three_types_of_weights_side_by_side() {
        let mut run = run(false);
        run.hosts[0].environment.cpu = "Apple M3 Max".to_owned();
        let text = rendered(&run, Scoreboard::Apple).unwrap();
        let row: Vec<&str> = text.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        assert_eq!(row[1..4], ["M3 Max", "?", "?"]);
        assert!(row[4..10].iter().all(|figure| figure.parse::<f64>().is_ok()), "{row:?}");
    }

    #[test]
    fn a_board_names_its_model_and_says_that_power_is_missing() {
        let text = rendered(&run(false), Scoreboard::Sbc).unwrap();
        let row = text.lines().nth(2).unwrap();
        assert!(row.contains("AMD Ryzen 7 7840U (32.0 GiB) | CPU | llama-3.2-1b F16 |"), "{row}");
        assert!(row.contains("Tokens/s | N/A"), "{row}");
    }

    #[test]
    fn names_cannot_break_the_table() {
        let mut run = run(true);
        run.trials[0].label = "a|b\n| c`<script>".to_owned();
        let text = rendered(&run, Scoreboard::Cuda).unwrap();
        assert!(text.lines().nth(2).unwrap().contains("a\\|b \\| c\\`\\<script\\>"), "{text}");
    }
}
