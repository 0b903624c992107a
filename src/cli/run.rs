//! `quantbench run`: measure an experiment and print what it says.

mod against;
mod dry_run;
pub(super) mod lock;
pub(super) mod resume;

pub use resume::RunError;

use super::compare::{self, Gates};
use super::foreseen;
use super::needs::{self, Scene};
use super::output::{self, Destination};
use super::recommend;
use super::session::{RunContext, Session, expanded, resolve_options, strategy};
use crate::causes::Problem;
use crate::engine::onnxruntime::library;
use crate::error::{Error, Outcome};
use crate::experiment::keys::LONGEST;
use crate::experiment::recommend::Asked;
use crate::experiment::resolved::Keep;
use crate::experiment::{self, Overrides};
use crate::model::quantization::Quantization;
use crate::orchestrator::event::SequenceError;
use crate::orchestrator::strategy::{Known, Matrix, Strategy as _};
use crate::report::compare::CompareFormat;
use crate::report::{self, Format, RenderOptions};
use crate::results::record::{Failure, RunRecord, TrialRecord};
use crate::results::store::Store;
use crate::results::summary::Summary;
use crate::results::{each_once, grouped};
use crate::units::parse_within;
use crate::workload::Phase;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use time::OffsetDateTime;

/// Flags of `quantbench run`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are independent")]
pub struct Arguments {
    /// The experiment, or a model to measure: a GGUF, a folder of them, owner/name on the Hugging Face hub, or
    /// shape:NAME for one with generated weights; without it models.toml of this folder, else the built-in experiment
    file: Option<PathBuf>,
    /// Measure only this model of the experiment, or this file, folder, repository or 'demo' (repeatable)
    #[arg(long = "model", value_name = "NAME|SOURCE")]
    models: Vec<String>,
    /// Make these variants of every model instead of the experiment's: `Q8_0,gptq:Q4_K_M`
    #[arg(long = "quant", value_name = "QUANTIZATION", value_delimiter = ',')]
    quantizations: Vec<Quantization>,
    /// The text that calibrated variants (imatrix:, gptq:, awq:) look at, instead of the experiment's
    #[arg(long, value_name = "FILE")]
    calibration: Option<String>,
    /// A low-rank adapter that llama.cpp applies to every variant, a GGUF, and how strongly: 1 if left out (repeatable)
    #[arg(long, value_name = "FILE[:SCALE]")]
    lora: Vec<String>,
    /// The same model as ONNX, measured beside its GGUFs: a folder, a file or owner/name (repeatable)
    #[arg(long, value_name = "SOURCE")]
    onnx: Vec<String>,
    /// The library of ONNX Runtime; left out: `ORT_DYLIB_PATH`, else an installed wheel's, else the system's
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Refused: what a draft model gains is not measured
    #[arg(long, value_name = "MODEL", hide = true)]
    draft: Option<String>,
    /// Keep only these models and quantizations, and the reference
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out these models and quantizations
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    skip: Vec<String>,
    /// Make variants even of a source that is quantized already
    #[arg(long)]
    allow_requantize: bool,
    /// Rounds in which every trial is visited once
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Timed repetitions of each speed test within a visit
    #[arg(long, value_name = "N")]
    repetitions: Option<u32>,
    /// Which of the files stay that are fetched or made for this run; where not all do, variants are measured one
    /// after the other
    #[arg(long, value_enum, value_name = "WHICH")]
    keep: Option<Keep>,
    /// Do not ask before a large download
    #[arg(short, long)]
    yes: bool,
    /// Time that the run may take, making variants included, such as 10min: what says most is measured first
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Option<Duration>,
    /// Show what would be measured and how much disk it takes, and stop
    #[arg(long)]
    dry_run: bool,
    /// Go on with the last run of this experiment that was interrupted; trials that failed stay
    /// failed
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,
    /// Measure the variants of this earlier run again, in turns with those asked for now, and show what changed: the run's
    /// name, its beginning, 'last', or a file that 'show --format json' wrote
    #[arg(long, value_name = "RUN", conflicts_with_all = ["budget", "dry_run"])]
    pub(super) against: Option<String>,
    /// Have another build of quantbench compute the earlier run's variants
    #[arg(long, value_name = "PROGRAM", requires = "against")]
    against_binary: Option<PathBuf>,
    /// What may not get worse.
    #[command(flatten)]
    gates: Gates,
    /// How to show the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write the result to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Width of the table, 40 or more
    #[arg(long, value_name = "N", default_value_t = RenderOptions::default().columns, value_parser = parse_within(40_usize..))]
    columns: usize,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Arguments {
    /// What is done before anything is read.
    fn take_first(&self) -> Result<(), Error> {
        if let Some(path) = &self.onnxruntime {
            library::choose(path);
        }
        refuse_draft(self.draft.as_deref())
    }

    fn overrides(&self, recommend: Option<Asked>) -> Overrides {
        Overrides {
            recommend,
            models: self.models.clone(),
            quantizations: self.quantizations.clone(),
            only: self.only.clone(),
            skip: self.skip.clone(),
            calibration: self.calibration.clone(),
            allow_requantize: self.allow_requantize,
            rounds: self.rounds,
            repetitions: self.repetitions,
            lora: self.lora.clone(),
            onnx: self.onnx.clone(),
            keep: self.keep,
            budget: self.budget,
        }
    }
}

pub(super) fn budget(text: &str) -> Result<Duration, String> {
    let no_time = |_| "no time such as 10min, 90s or 1h".to_owned();
    let length = humantime::parse_duration(text).map_err(no_time)?;
    if length < Duration::from_secs(1) {
        return Err("less than a second measures nothing".to_owned());
    }
    (length <= LONGEST).then_some(length).ok_or_else(|| "longer than 7 days".to_owned())
}

/// Runs the experiment: load, plan, measure, report.
///
/// # Errors
/// Anything that keeps the run from beginning or from being kept. Trials that fail are no error but
/// an outcome.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    execute(arguments, None)
}

/// The same for a recommendation, if one is asked for.
pub(super) fn execute(arguments: &Arguments, asked: Option<Asked>) -> Result<Outcome, Error> {
    arguments.take_first()?;
    let began = OffsetDateTime::now_utc();
    let overrides = arguments.overrides(asked);
    let mut experiment = experiment::load(arguments.file.as_deref(), &overrides)?;
    let quiet = arguments.quiet;
    if !quiet {
        experiment.left_out.iter().for_each(|it| output::tell(&format!("note: {it}")));
    }
    let format = against::format(arguments)?;
    let session = Session::open(quiet)?;
    if arguments.dry_run {
        return dry_run::run(&session, &experiment);
    }
    let destination = Destination::open(arguments.output.as_deref())?;
    let store = Store::open()?;
    let mut options = resolve_options(quiet);
    options.consent = needs::consent(quiet, arguments.yes);
    let plan = session.plan(&experiment, &options)?;
    let earlier = against::Earlier::of(arguments, &store, &mut experiment)?;
    let (mut plan, predicted) = recommend::foresee(&session, &mut experiment, &options, plan)?;
    if let Some(earlier) = &earlier {
        earlier.join(&session, &experiment, &mut plan)?;
    }
    // The models are known only now.
    destination.spare_inputs()?;
    let mut run = if arguments.resume {
        resume::unfinished_run(&store, &experiment.name, &expanded(&experiment), &plan)?
    } else {
        Session::new_run(&experiment, &plan, store.fresh_id(began)?, began)
    };
    recommend::note(&mut run, predicted);
    plan.adopt(&run.trials);
    let known = Known { experiment: &experiment, plan: &plan, run: &run, past: &[], foreseen: &[] };
    let ahead = Matrix::default().ahead(&known);
    let can_run =
        |it: &TrialRecord| it.predicted.as_ref().is_none_or(|it| it.does_not_fit.is_none());
    let visited = ahead.iter().map(|visit| visit.trial).filter(|&it| can_run(&run.trials[it]));
    let order = Scene::order(&plan, visited);
    let (cache, hub) = (&session.cache, &options.hub);
    let scene = Scene { experiment: &experiment, plan: &plan, order: &order, cache, hub };
    needs::announce(scene, quiet, arguments.yes)?;
    let _lock = lock::RunLock::take(session.cache.root(), &run.id)?;
    let (resumed, run_id) = (arguments.resume, run.id.clone());
    let store = Some(store);
    let strategy = strategy(&experiment);
    let foreseen = foreseen::spent(&experiment, &plan, &session.cache, &options);
    let (experiment, plan) = (&experiment, &plan);
    let other_build = earlier.as_ref().and_then(against::Earlier::other_build);
    let context = RunContext {
        experiment,
        plan,
        run,
        resumed,
        began,
        store,
        strategy,
        foreseen,
        other_build,
    };
    let resume = resume::how_to_resume(&run_id, std::env::args());
    let run = session.measure(context).inspect_err(|error| {
        if is_host_lost(error) {
            output::tell(&resume);
        }
    })?;
    if run.finished.is_none() {
        output::tell(&resume);
        return Ok(Outcome::Interrupted);
    }
    let compared = earlier.is_some().then_some(format);
    conclude(arguments, run, compared, destination)
}

/// Shows a run that has ended: what changed, in the given format, or all of it.
fn conclude(
    arguments: &Arguments,
    run: RunRecord,
    compared: Option<CompareFormat>,
    destination: Destination,
) -> Result<Outcome, Error> {
    if let Some(problem) = none_loaded(&run) {
        // A run that holds nothing is in the way of those that do.
        Store::open()?.remove(&run.id)?;
        return Err(problem.into());
    }
    let color = output::may_color(&destination);
    let options = RenderOptions { columns: arguments.columns, color };
    if let Some(format) = compared {
        let ended = outcome(&run);
        let sides = compare::sides_of_one(run);
        let [base, new] = &sides;
        let compared =
            compare::compare([base, new], &[], &arguments.gates, format, &options, destination)?;
        return Ok(if ended == Outcome::Done { compared } else { ended });
    }
    destination.write(&report::render(arguments.format, &run, &options)?)?;
    Ok(outcome(&run))
}

/// Why not a single variant could be loaded, each cause once; `None` if one was.
fn none_loaded(run: &RunRecord) -> Option<Problem> {
    let failed = run.trials.iter().map(|trial| {
        // What a worker dies of may be anything: that is a trial to look at.
        let is_of_file = |it: &&Failure| {
            let died = it.reason.starts_with("the worker ");
            matches!(it.phase, Phase::Fetch | Phase::Start | Phase::Load) && !died
        };
        let failure = trial.failure.as_ref().filter(is_of_file)?;
        Some(((&trial.model, &failure.reason), trial.label.as_str()))
    });
    let causes = grouped(failed.collect::<Option<Vec<_>>>()?);
    let told = causes.into_iter().map(|((model, reason), labels)| {
        format!("cannot measure {} of {model}: {reason}", each_once(labels).join(", "))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| Problem::new(told.join("\n")))
}

fn refuse_draft(draft: Option<&str>) -> Result<(), Error> {
    draft.map_or(Ok(()), |draft| {
        Err(Error::Problem(Problem::new(format!(
            "--draft {draft}: draft models are not measured; measure {draft} as a model of its own"
        ))))
    })
}

/// Whether the run can go on as soon as its host is there again.
fn is_host_lost(error: &Error) -> bool {
    matches!(error, Error::Sequence(SequenceError::HostLost(_)))
}

/// A run whose trials failed is not whole, so that comes before what its other trials say of the
/// requirements.
fn outcome(run: &RunRecord) -> Outcome {
    let summary = Summary::of(run);
    if summary.any_failed() {
        Outcome::TrialsFailed
    } else if summary
        .recommendation
        .as_ref()
        .map_or(summary.requirements_unmet(), |it| it.chosen.is_none())
    {
        Outcome::RequirementsUnmet
    } else {
        Outcome::Done
    }
}
