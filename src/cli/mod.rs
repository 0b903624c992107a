//! The command line: one file per subcommand, flags → call → print.

pub mod bench;
pub mod cache;
pub mod calibrate;
pub mod compare;
pub mod completions;
pub mod deploy;
pub mod devices;
pub mod export;
pub mod files;
mod fitted;
mod foreseen;
pub mod import;
pub mod inspect;
pub mod list;
mod making;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod merge;
pub mod mix;
pub mod models;
mod native;
mod needs;
pub mod note;
pub mod onnx;
mod output;
pub mod plan;
mod profile;
pub mod prompt;
pub mod quantize;
pub mod query;
pub mod recipe;
pub mod recommend;
pub mod report;
pub mod rm;
pub mod run;
pub mod schema;
pub mod search;
pub mod selection;
mod session;
pub mod show;
pub mod tag;
pub mod trend;
pub mod tune;
pub mod version;
mod welcome;

use crate::error::{Error, Outcome};
use crate::host::interrupt;
use crate::model::source::{SHAPE, Source};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Variable with the level of the log on standard error (`debug` shows what workers write there).
const LOG_VARIABLE: &str = "QUANTBENCH_LOG";

/// Measures every quantization of a language model on this machine and tells which one to run.
#[derive(Debug, Parser)]
#[command(
    name = "quantbench",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    after_help = "quantbench MODEL is short for quantbench recommend MODEL: a GGUF, a folder of them, or owner/name on the \
                  Hugging Face hub.\n\nExit codes: 0 done; 1 no variant meets the requirements or fits, or a gate failed; 2 bad input, or a \
                  machine that does not allow it; 3 some trials failed; 130 interrupted (--resume \
                  goes on)."
)]
pub struct CommandLine {
    /// Print the version; with --verbose also what the program was built from.
    #[arg(short = 'V', long)]
    version: bool,
    /// Say more about the version.
    #[arg(long, requires = "version")]
    verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure every variant of an experiment and print one table to decide from
    Run(run::Arguments),
    /// Measure no more than decides which variant meets what you need
    Recommend(recommend::Arguments),
    /// Say what of a model fits, here or on another machine, before anything is fetched, made or run
    Plan(plan::Arguments),
    /// Measure the speed of GGUF files, with llama-bench's flags
    Bench(bench::Arguments),
    /// Find the settings under which a model is fastest here, and prove it against llama.cpp's defaults
    Tune(tune::Arguments),
    /// Make quantized variants of a model
    Quantize(quantize::Arguments),
    /// Choose a type for every tensor: the least divergence for a size, or the least size for a divergence
    Mix(mix::Arguments),
    /// Make the importance matrix of a model from a text
    Calibrate(calibrate::Arguments),
    /// Write a GPTQ or AWQ checkpoint as a GGUF, without rounding its weights again
    Import(import::Arguments),
    /// Write a model as ONNX files
    Onnx(onnx::Arguments),
    /// Find repositories of GGUFs on the Hugging Face hub
    Search(search::Arguments),
    /// List what a repository holds and what of it fits this machine
    Files(files::Arguments),
    /// List the models that other programs keep on this machine
    Models(models::Arguments),
    /// List the runs that are stored
    List(list::Arguments),
    /// Show a stored run
    Show(show::Arguments),
    /// Give a stored run tags, by which it is found
    Tag(tag::Arguments),
    /// Keep a note with a stored run
    Note(note::Arguments),
    /// Remove stored runs
    Rm(rm::Arguments),
    /// Write stored runs as files for other programs and other machines
    Export(export::Arguments),
    /// Take in runs that were measured on other machines
    Merge(merge::Arguments),
    /// Ask the stored runs in SQL
    Query(query::Arguments),
    /// Follow one figure over stored runs
    Trend(trend::Arguments),
    /// Say what changed between two runs, and how sure that is
    Compare(compare::Arguments),
    /// Make a page of runs that any browser opens; also charts, Markdown, rows of scoreboards
    Report(report::Arguments),
    /// Write a measured variant in the form that a server, systemd, a container or another program runs it from
    Deploy(deploy::Arguments),
    /// Show what a GGUF says about itself and the memory it will take
    Inspect(inspect::Arguments),
    /// List prompt formats, render a conversation, or detect a model's format
    Prompt(prompt::Arguments),
    /// List or clean the files that quantbench keeps between runs
    Cache(cache::Arguments),
    /// Show what this machine can run models with, and what is missing
    Devices(devices::Arguments),
    /// Answer assistants through standard input and output (Model Context Protocol)
    #[cfg(feature = "mcp")]
    Mcp(mcp::Arguments),
    /// Print the JSON schema of what commands print
    Schema(schema::Arguments),
    /// Print completions for a shell
    Completions(completions::Arguments),
    /// Measure one variant for an orchestrator that talks through standard input and output
    #[command(hide = true)]
    Worker,
    /// Have workers measure on this machine for a quantbench at the other end of standard input and output
    #[command(hide = true, name = crate::host::agent::AGENT_SUBCOMMAND)]
    Agent,
    /// Render templates for another process of this program, within limits of time and memory
    #[command(hide = true, name = crate::prompt::sandbox::SUBCOMMAND)]
    Renderer,
}

/// Why an agent ended, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct AgentError(String);

/// Runs the command given on the command line and returns the program's exit code.
#[must_use]
pub fn main() -> ExitCode {
    crate::files::survive_size_limit();
    let arguments = bench::flags::spell_out(std::env::args_os().collect());
    run_command(&with_command(arguments))
}

/// `quantbench MODEL` is `quantbench recommend MODEL`, where no command has that name; with `--keep` it is `quantbench run`,
/// since within a budget all files are needed.
fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(first) = arguments.get(1).and_then(|first| first.to_str()) else { return arguments };
    let is_flag = first.starts_with('-');
    let is_command = CommandLine::command().get_subcommands().any(|it| it.get_name() == first);
    let ends = |end: &str| first.to_ascii_lowercase().ends_with(end);
    let is_path = first.contains(['/', ':']) || ends(".gguf") || ends(".onnx");
    let is_model = is_path || Source::parse(first, Path::new("")).is_ok();
    if is_flag || is_command || first == "help" || !is_model {
        return arguments;
    }
    let is_experiment = !first.starts_with(SHAPE) && first.to_ascii_lowercase().ends_with(".toml");
    let is_kept = |it: &OsString| it.to_str().is_some_and(|it| it.starts_with("--keep"));
    let is_run = is_experiment || arguments.iter().any(is_kept);
    arguments.insert(1, if is_run { "run" } else { "recommend" }.into());
    arguments
}

/// What is wrong with the first word, where it resembles no command: whoever wrote it may have meant a model.
fn neither_command_nor_model(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let is_first = arguments.get(1).is_some_and(|first| first.as_os_str() == word.as_str());
    let is_like_one = error.get(ContextKind::SuggestedSubcommand).is_some();
    (is_first && !is_like_one).then(|| {
        format!(
            "error: '{word}' is no command, and no model: nothing here has that name, and on the Hugging Face hub \
             names are owner/name ('quantbench search {word}' finds them, 'quantbench --help' lists commands)"
        )
    })
}

/// What takes in runs, for who tries to import them: checkpoints are imported.
fn meant_to_merge(arguments: &[OsString]) -> Option<String> {
    let (command, file) = (arguments.get(1)?, arguments.get(2)?);
    let ending = Path::new(file).extension().and_then(|ending| ending.to_str())?;
    let is_of_runs = ["json", "jsonl", "sqlite"].contains(&ending);
    (command == "import" && is_of_runs).then(|| {
        let file = crate::report::quoted(&crate::report::sanitize(&file.to_string_lossy()));
        format!("\nhelp: stored runs are taken in by 'quantbench merge {file}'")
    })
}

fn run_command(arguments: &[OsString]) -> ExitCode {
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            if let Some(message) = neither_command_nor_model(&error, arguments) {
                output::tell(&message);
                return Outcome::Refused.into();
            }
            // Help goes to standard output and is no error; whoever closed the pipe has read enough.
            let is_lost = error.print().is_err_and(|it| it.kind() != io::ErrorKind::BrokenPipe);
            if let Some(message) = meant_to_merge(arguments) {
                output::tell(&message);
            }
            let is_refused = error.use_stderr() || is_lost;
            return if is_refused { Outcome::Refused.into() } else { ExitCode::SUCCESS };
        }
    };
    start_log();
    let result = match line.command {
        Some(Command::Agent) => {
            let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
            crate::host::agent::main(version::build(), input, output)
                .map(|()| Outcome::Done)
                .map_err(|reason| Error::command(AgentError(reason)))
        }
        Some(Command::Worker) => return crate::worker::main(),
        Some(Command::Renderer) => return crate::prompt::sandbox::main(),
        Some(command) => dispatch(command),
        None if line.version => version::run(line.verbose),
        None => welcome::run(),
    };
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            if let Some(message) = error.message() {
                output::tell(&message);
            }
            let is_interrupted = interrupt::was_raised();
            if is_interrupted { Outcome::Interrupted } else { error.outcome() }.into()
        }
    }
}

fn dispatch(command: Command) -> Result<Outcome, Error> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Recommend(arguments) => recommend::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments, &native::backend_devices()),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments, &native::backend_devices()),
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Mix(arguments) => mix::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Onnx(arguments) => onnx::run(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Files(arguments) => files::run(&arguments),
        Command::Models(arguments) => models::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Tag(arguments) => tag::run(&arguments),
        Command::Note(arguments) => note::run(&arguments),
        Command::Rm(arguments) => rm::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Trend(arguments) => trend::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Deploy(arguments) => deploy::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments, &native::predict_memory),
        Command::Prompt(arguments) => prompt::run(&arguments),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments, &native::backend_devices()),
        #[cfg(feature = "mcp")]
        Command::Mcp(arguments) => mcp::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, CommandLine::command()),
        Command::Agent | Command::Worker | Command::Renderer => Ok(Outcome::Done),
    }
}

/// The log is for those who look for a fault: nothing is set up unless it is asked for.
fn start_log() {
    let Ok(filter) = std::env::var(LOG_VARIABLE) else { return };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    // It fails only where a log is set up already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn no_flag_has_a_second_name_that_help_does_not_show() {
        fn check(command: &clap::Command) {
            for flag in command.get_arguments() {
                let (all, shown) = (flag.get_all_aliases(), flag.get_visible_aliases());
                assert_eq!(all, shown, "{} --{}", command.get_name(), flag.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&CommandLine::command());
    }
}
