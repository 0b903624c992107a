//! `quantbench tune MODEL`: the settings under which a model is fastest here, proved against llama.cpp's defaults.
//!
//! This file goes through it: `fitting` takes out what has no memory, `sequences` finds how many requests side by side are
//! worth it, a search runs (`orchestrator::strategy::tuning`), `proof` is the experiment that compares what it found with the
//! defaults. `found` is what came of it, `shown` says it, `written` are the settings for other programs.

mod fitting;
mod found;
mod proof;
mod sequences;
mod shown;
mod subject;
mod written;

use super::native;
use super::output::{self, Destination, Format};
use super::run::lock::RunLock;
use super::run::{RunError, budget, resume};
use super::session::{RunContext, Session, expanded};
use crate::causes::Problem;
use crate::engine::Device;
use crate::engine::onnxruntime::library;
use crate::error::{Error, Outcome};
use crate::experiment::resolved::Experiment;
use crate::experiment::tuning::{Goal, Machine, Space, Use};
use crate::model::engine_name::EngineName;
use crate::model::quantization::Quantization;
use crate::orchestrator::plan::Plan;
use crate::orchestrator::strategy::Strategy;
use crate::orchestrator::strategy::tuning::{Confirm, Method, Search};
use crate::results::record::RunRecord;
use crate::results::store::Store;
use crate::units::{count, parse_within};
use clap::{Args, ValueEnum};
use fitting::Fitting;
use found::Found;
use std::path::PathBuf;
use std::time::Duration;
use subject::{Network, Subject};
use time::OffsetDateTime;

/// Part of the budget that the search may take; the proof has the rest.
const SEARCH: f64 = 0.6;

/// Tokens of a prompt where nobody says what context is used.
const PROMPT: u32 = 512;

/// Tokens that are generated in a test.
const GENERATED: u32 = 32;

/// More divergence than rounding in another order gives, nats: what is taken without being asked for.
const HARMLESS: f64 = 0.001;

/// As long as a test may be repeated in a visit.
const REPEAT_WITHIN: Duration = Duration::from_millis(1500);

/// Parameters times tokens that a visit computes, about a second's work of two cores: what is small is repeated.
const WORK: u64 = 25_000_000_000;

/// Flags of `quantbench tune`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are independent")]
pub struct Arguments {
    /// A GGUF, an ONNX graph, owner/name on the Hugging Face hub, shape:NAME, or 'demo'
    #[arg(value_name = "MODEL")]
    model: String,
    /// What is to be fast
    #[arg(long = "for", value_enum, value_name = "GOAL", default_value_t = Goal::Balanced)]
    goal: Goal,
    /// Tokens of context that are used: prompts of half of it, and answers after half of it; left out: prompts of
    /// 512 tokens, and answers at the beginning
    #[arg(short, long, value_name = "TOKENS", value_parser = parse_within(64_u32..=16_777_216))]
    context: Option<u32>,
    /// Requests side by side; left out: 1, and for throughput as many as gain something
    #[arg(long, value_name = "N", value_parser = parse_within(1_u32..=256))]
    parallel: Option<u32>,
    /// Time that all of it may take; three rounds of the proof are made in any case
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = budget)]
    budget: Duration,
    /// Try quantized KV caches, too, and take what diverges from the defaults by so much at most (mean KLD in nats,
    /// such as 0.01)
    #[arg(long, value_name = "KLD", value_parser = loss)]
    allow_loss: Option<f64>,
    /// The library of ONNX Runtime; left out: `ORT_DYLIB_PATH`, else an installed wheel's, else the system's
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Tune this variant of the model
    #[arg(long, value_name = "QUANTIZATION")]
    quant: Option<Quantization>,
    /// Make the variant even of a source that is quantized already
    #[arg(long)]
    allow_requantize: bool,
    /// Write the settings as an experiment that 'quantbench run' takes
    #[arg(long, value_name = "FILE")]
    toml: Option<PathBuf>,
    /// Go on with the last one that was interrupted
    #[arg(long)]
    resume: bool,
    /// Do not ask before a large download
    #[arg(short, long)]
    yes: bool,
    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the result to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How settings are searched; 'random' draws from all of them, to compare with
    #[arg(long, value_enum, value_name = "HOW", default_value_t = SearchBy::Choices)]
    search: SearchBy,
    /// What random draws begin with
    #[arg(long, value_name = "N", default_value_t = 1, hide = true)]
    seed: u64,
}

/// How settings are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SearchBy {
    /// One choice after the other, then what gained together
    Choices,
    /// At random
    Random,
}

fn loss(text: &str) -> Result<f64, String> {
    let loss = text.parse().ok().filter(|loss: &f64| loss.is_finite() && *loss > 0.0);
    loss.ok_or_else(|| "no divergence such as 0.01 nats".to_owned())
}

/// Searches, proves and tells.
///
/// # Errors
/// The model cannot be had, does not fit, or is none that generates; or nothing can be kept.
pub fn run(arguments: &Arguments, devices: &[Device]) -> Result<Outcome, Error> {
    let began = OffsetDateTime::now_utc();
    if let Some(path) = &arguments.onnxruntime {
        library::choose(path);
    }
    let destination = Destination::open(arguments.output.as_deref())?;
    let toml = arguments.toml.as_deref().map(|path| Destination::open(Some(path))).transpose()?;
    let store = Store::open()?;
    let subject = Subject::find(arguments)?;
    destination.spare_inputs()?;
    toml.iter().try_for_each(Destination::spare_inputs)?;
    let used = used(arguments, &subject.network)?;
    let (store, session) = (&store, &subject.session);
    let (since, spent) = (None, 0.0);
    let tuning = Tuning { session, arguments, store, began, since, spent };
    let found = match tuning.tune(&subject, used, devices)? {
        Ok(found) => found,
        Err(outcome) => return Ok(outcome),
    };
    let text = match arguments.format {
        Format::Table => shown::table(&found),
        Format::Json => shown::json(&found)?,
    };
    destination.write(text.as_bytes())?;
    if let Some(toml) = toml {
        toml.write(written::toml(&found).as_bytes())?;
    }
    Ok(if found.is_interrupted() {
        tell_how_to_resume(found.last())
    } else if found.failure().is_some() {
        Outcome::TrialsFailed
    } else {
        Outcome::Done
    })
}

fn tell_how_to_resume(run: &RunRecord) -> Outcome {
    output::tell(&resume::how_to_resume(&run.id, std::env::args()));
    Outcome::Interrupted
}

/// `generation (one request at a time, tg32)`.
fn goal(used: &Use) -> String {
    let tests: Vec<String> = used.tests().iter().map(ToString::to_string).collect();
    let requests = match used.parallel {
        1 => "one request at a time".to_owned(),
        several => format!("{several} requests side by side"),
    };
    format!("{}: {requests}, {}", used.goal, tests.join(" and "))
}

/// The sizes that a use has.
fn used(arguments: &Arguments, network: &Network) -> Result<Use, Problem> {
    let goal = arguments.goal;
    let own = network.context_length.unwrap_or(u32::MAX);
    if let Some(context) = arguments.context.filter(|&context| context > own) {
        return Err(Problem::new(format!(
            "--context {context}: the model was trained for {own} tokens; ask for no more"
        )));
    }
    let half = arguments.context.map(|context| context / 2);
    Ok(Use {
        goal,
        prompt_tokens: half.unwrap_or(PROMPT).min(own / 2).max(1),
        generated_tokens: GENERATED.min(own / 8).max(1),
        depth: half.unwrap_or(0).min(own / 2),
        parallel: arguments.parallel.unwrap_or(1),
    })
}

fn machine(subject: &Subject, devices: &[Device]) -> Machine {
    let engine = subject.variant.engine.name;
    // ONNX Runtime computes on the processor.
    let is_used = |device: &&Device| engine == EngineName::LlamaCpp && device.kind.ends_with("GPU");
    let gpus = devices.iter().filter(is_used).count();
    Machine {
        engine,
        threads: native::default_threads(),
        processors: native::processors(),
        gpus: u32::try_from(gpus).unwrap_or(u32::MAX),
        layers: subject.network.layers.saturating_add(1),
        has_experts: subject.network.has_experts,
    }
}

/// What the runs share.
struct Tuning<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    store: &'a Store,
    /// When what comes before the next run began.
    began: OffsetDateTime,
    /// When the run before the next one began.
    since: Option<OffsetDateTime>,
    /// Seconds that were spent.
    spent: f64,
}

impl Tuning<'_> {
    /// All of it; an outcome instead, if there is nothing to show, which was told then.
    fn tune(
        mut self,
        subject: &Subject,
        mut used: Use,
        devices: &[Device],
    ) -> Result<Result<Found, Outcome>, Error> {
        let Arguments { budget, quiet, .. } = *self.arguments;
        let Subject { variant, network, .. } = subject;
        let fitting = Fitting::new(&used, variant, subject.path(), network, devices)?;
        let mut swept = Vec::new();
        if used.goal == Goal::Throughput && self.arguments.parallel.is_none() {
            let (experiment, counts) = sequences::planned(&subject.search, &used, &fitting)?;
            let proof = Confirm::new(budget.mul_f64(sequences::SWEEP));
            let run = self.measured(&experiment, subject.plan(&experiment)?, Box::new(proof))?;
            if run.finished.is_none() {
                return Ok(Err(tell_how_to_resume(&run)));
            }
            swept = sequences::speeds(&run, &used, &counts);
            used.parallel = sequences::best(&swept).unwrap_or(used.parallel);
        }
        let lossy = self.arguments.allow_loss.is_some();
        let mut space = Space::new(&used, &machine(subject, devices), lossy);
        let left_out = match fitting.keep_what_fits(&mut space, used.parallel)? {
            Ok(left_out) => left_out,
            Err(verdict) => {
                let name = variant.name();
                output::tell(&format!("{name}: {verdict}; 'quantbench plan' says what would"));
                return Ok(Err(Outcome::RequirementsUnmet));
            }
        };
        if !quiet {
            for reason in &left_out {
                output::tell(&format!("left out: {reason}"));
            }
            let (tried, goal) = (count(space.singles().len(), "setting"), goal(&used));
            let engine = variant.engine.name;
            output::tell(&format!("{tried} to try besides {engine}'s defaults, for {goal}"));
        }
        let method = match self.arguments.search {
            SearchBy::Choices => Method::Choices,
            SearchBy::Random => Method::Random(self.arguments.seed),
        };
        let experiment = subject.experiment(&space, &used);
        let strategy = Search::new(space.clone(), used.tests(), budget.mul_f64(SEARCH), method);
        let plan = subject.plan(&experiment)?;
        let searched = self.measured(&experiment, plan, Box::new(strategy))?;
        let limit = self.arguments.allow_loss.unwrap_or(HARMLESS);
        let mut found = Found::new(used, space, searched, limit, left_out);
        found.swept = swept;
        if found.search.finished.is_some() && !found.finalists.is_empty() {
            let experiment = proof::planned(&experiment, &found, subject.is_shape);
            let plan = self.session.plan(&experiment, &subject.options)?;
            let left = budget.saturating_sub(Duration::from_secs_f64(self.spent.max(0.0)));
            found.prove(self.measured(&experiment, plan, Box::new(Confirm::new(left)))?);
        }
        Ok(Ok(found))
    }

    /// The last run of the same, finished or not, that began after the one before it.
    fn stored(&self, experiment: &Experiment, plan: &Plan) -> Result<Option<RunRecord>, Error> {
        let name = &experiment.name;
        let runs = [self.store.latest_unfinished(name)?, self.store.earlier(name)?];
        let last = runs.into_iter().flatten().max_by_key(|run| run.started);
        let last = last.filter(|run| self.since.is_none_or(|since| run.started >= since));
        let Some(run) = last else { return Ok(None) };
        match resume::difference(&run, &expanded(experiment), plan) {
            Some(difference) => Err(RunError::Different { run: run.id, difference }.into()),
            None => Ok(Some(run)),
        }
    }

    /// Measures, or goes on, or takes what was measured. With `--resume` there has to be something to go on with.
    fn measured(
        &mut self,
        experiment: &Experiment,
        mut plan: Plan,
        strategy: Box<dyn Strategy>,
    ) -> Result<RunRecord, Error> {
        let resumes = self.arguments.resume;
        let stored = if resumes { self.stored(experiment, &plan)? } else { None };
        if stored.is_none() && resumes && self.since.is_none() {
            return Err(RunError::NothingToResume { name: experiment.name.clone() }.into());
        }
        let resumed = stored.is_some();
        let began = std::mem::replace(&mut self.began, OffsetDateTime::now_utc());
        let run = match stored {
            Some(run) => run,
            None => Session::new_run(experiment, &plan, self.store.fresh_id(began)?, began),
        };
        self.since = Some(run.started);
        if run.finished.is_some() {
            self.spent += run.active_seconds.unwrap_or(0.0);
            return Ok(run);
        }
        plan.adopt(&run.trials);
        let _lock = RunLock::take(self.session.cache.root(), &run.id)?;
        let (plan, store) = (&plan, Some(Store::open()?));
        let context = RunContext {
            experiment,
            plan,
            run,
            resumed,
            began,
            store,
            strategy,
            foreseen: Vec::new(),
            other_build: None,
        };
        let run = self.session.measure(context)?;
        self.began = OffsetDateTime::now_utc();
        self.spent += run.active_seconds.unwrap_or(0.0);
        Ok(run)
    }
}
