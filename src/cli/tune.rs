//! `quantbench tune MODEL`: the settings under which a model is fastest here, proved against llama.cpp's defaults.

mod found;
mod proof;
mod shown;
mod written;

use super::native;
use super::needs;
use super::output::{self, Destination, Format};
use super::plan::outline::Outlines;
use super::run::lock::RunLock;
use super::run::{RunError, budget, resume};
use super::session::{RunContext, Session, expanded, resolve_options};
use crate::causes::Problem;
use crate::decide::fit::{Demand, Verdict, lacks};
use crate::decide::place::Place;
use crate::engine::Device;
use crate::engine::Engine as _;
use crate::engine::llama::backend::Backend;
use crate::error::{Error, Outcome};
use crate::experiment::resolved::{Experiment, ModelPlan};
use crate::experiment::settings::{CacheType, Settings};
use crate::experiment::tuning::{Goal, Machine, Space, Use};
use crate::experiment::workloads::Workloads;
use crate::hardware::cgroup::Limits;
use crate::hardware::memory::Memory;
use crate::hardware::processor::Processor;
use crate::hardware::root::SystemRoot;
use crate::host::profile::usable_cpus;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::Header;
use crate::model::quantization::Quantization;
use crate::model::source::Source;
use crate::orchestrator::plan::{Plan, Variant};
use crate::orchestrator::strategy::Strategy;
use crate::orchestrator::strategy::tuning::{Method, Proof, Search};
use crate::results::record::RunRecord;
use crate::results::store::Store;
use crate::units::{count, parse_within};
use crate::workload::jobs::{MemoryQuestion, PredictJob};
use clap::{Args, ValueEnum};
use found::Found;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// Part of the budget that the search may take; the proof has the rest.
const SEARCH: f64 = 0.6;

/// Tokens of a prompt where nobody says what context is used.
const PROMPT: u32 = 512;

/// Tokens that are generated in a test.
const GENERATED: u32 = 32;

/// Requests side by side where throughput is asked for.
const PARALLEL: u32 = 4;

/// More divergence than rounding in another order gives, nats: what is taken without being asked for.
const HARMLESS: f64 = 0.001;

/// Parameters times tokens that a visit computes, about a second's work of two cores: what is small is repeated.
const WORK: u64 = 25_000_000_000;

/// Flags of `quantbench tune`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A GGUF, owner/name on the Hugging Face hub, shape:NAME, or 'demo'
    #[arg(value_name = "MODEL")]
    model: String,
    /// What is to be fast
    #[arg(long = "for", value_enum, value_name = "GOAL", default_value_t = Goal::Balanced)]
    goal: Goal,
    /// Tokens of context that are used: prompts of half of it, and answers after half of it; left out: prompts of
    /// 512 tokens, and answers at the beginning
    #[arg(short, long, value_name = "TOKENS", value_parser = parse_within(64_u32..=16_777_216))]
    context: Option<u32>,
    /// Requests side by side; 4 for throughput, else 1
    #[arg(long, value_name = "N", value_parser = parse_within(1_u32..=256))]
    parallel: Option<u32>,
    /// Time that all of it may take; three rounds of the proof are made in any case
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = budget)]
    budget: Duration,
    /// Try quantized KV caches, too, and take what diverges from the defaults by so much at most (mean KLD in nats,
    /// such as 0.01)
    #[arg(long, value_name = "KLD", value_parser = loss)]
    allow_loss: Option<f64>,
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
    let quiet = arguments.quiet;
    let source = Source::parse(&arguments.model, Path::new(""))
        .map_err(|error| Problem::new(format!("MODEL {error}")))?;
    let model = ModelPlan {
        quantizations: arguments.quant.into_iter().collect(),
        allow_requantize: arguments.allow_requantize,
        ..ModelPlan::new(source.default_name(), source)
    };
    let is_shape = matches!(model.source, Source::Shape(_));
    if is_shape && arguments.allow_loss.is_some() {
        return Err(Error::Problem(Problem::new(
            "--allow-loss needs a model with weights of its own: those of a shape are generated, so that what is lost cannot be measured",
        )));
    }
    let session = Session::open(quiet)?;
    let destination = Destination::open(arguments.output.as_deref())?;
    let toml = arguments.toml.as_deref().map(|path| Destination::open(Some(path))).transpose()?;
    let store = Store::open()?;
    let mut options = resolve_options(quiet);
    options.consent = needs::consent(quiet, arguments.yes);
    let mut search = Experiment {
        name: format!("tune {} for {}", model.name, arguments.goal),
        models: vec![model],
        budget: Some(arguments.budget.mul_f64(SEARCH)),
        ..Experiment::default()
    };
    let mut plan = session.plan(&search, &options)?;
    let [variant] = plan.variants.as_slice() else {
        let labels: Vec<&str> = plan.variants.iter().map(|it| it.label.as_str()).collect();
        return Err(Error::Problem(Problem::new(format!(
            "{} has {} variants ({}); name one with --quant",
            arguments.model,
            labels.len(),
            labels.join(", ")
        ))));
    };
    let outlines = Outlines::of(std::slice::from_ref(variant), &session.cache, &options)?;
    let path =
        outlines.paths.into_iter().next().unwrap_or_else(|| Err("it is not there".to_owned()));
    let path = path.map_err(Problem::new)?;
    let header = Header::read(&path)
        .map_err(|error| Problem::because(format!("cannot read {}", path.display()), error))?;
    if header.architecture_class() != ArchitectureClass::DecoderOnly {
        return Err(Error::Problem(Problem::new(format!(
            "{} is no model that continues texts; only of those are settings tuned",
            arguments.model
        ))));
    }
    let used = used(arguments, &header)?;
    let mut space = Space::new(&used, &machine(&header, devices), arguments.allow_loss.is_some());
    let Some(left_out) = keep_what_fits(&mut space, &used, variant, &path, &header, devices)?
    else {
        return Ok(Outcome::RequirementsUnmet);
    };
    search.settings = vec![space.base.clone()];
    search.workloads = Workloads { speed: used.tests(), ..Workloads::default() };
    let tokens: u64 = used.tests().iter().map(|test| u64::from(test.tokens())).sum();
    let work = header.parameters().saturating_mul(tokens).max(1);
    search.repetitions = u32::try_from((WORK / work).clamp(1, 8)).unwrap_or(1);
    plan = Plan::new(&search, vec![plan.variants.clone()])?;
    if !quiet {
        left_out.iter().for_each(|it| output::tell(&format!("left out: {it}")));
        let tried = count(space.singles().len(), "setting");
        output::tell(&format!("{tried} to try besides llama.cpp's defaults, for {}", goal(&used)));
    }
    let method = match arguments.search {
        SearchBy::Choices => Method::Choices,
        SearchBy::Random => Method::Random(arguments.seed),
    };
    let budget = search.budget.unwrap_or(arguments.budget);
    let strategy = Search::new(space.clone(), used.tests(), budget, method);
    let mut tuning = Tuning { session: &session, arguments, store: &store, began };
    let searched = tuning.searched(&search, plan, Box::new(strategy))?;
    let limit = arguments.allow_loss.unwrap_or(HARMLESS);
    let mut found = Found::new(used, space, searched, limit, left_out);
    if found.search.finished.is_some() && !found.finalists.is_empty() {
        let (experiment, plan) = proof::planned(&search, &found, is_shape, &session, &options)?;
        let spent = found.search.active_seconds.unwrap_or(0.0);
        let left = arguments.budget.saturating_sub(Duration::from_secs_f64(spent.max(0.0)));
        let proved = tuning.proved(&experiment, plan, &found.search, Box::new(Proof::new(left)))?;
        found.prove(proved);
    }
    let text = match arguments.format {
        Format::Table => shown::table(&found),
        Format::Json => shown::json(&found)?,
    };
    destination.write(text.as_bytes())?;
    if let Some(toml) = toml {
        toml.write(written::toml(&found).as_bytes())?;
    }
    Ok(if found.is_interrupted() {
        output::tell(&resume::how_to_resume(&found.last().id, std::env::args()));
        Outcome::Interrupted
    } else if found.failure().is_some() {
        Outcome::TrialsFailed
    } else {
        Outcome::Done
    })
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
fn used(arguments: &Arguments, header: &Header) -> Result<Use, Problem> {
    let goal = arguments.goal;
    let own = header.context_length().and_then(|it| u32::try_from(it).ok()).unwrap_or(u32::MAX);
    if let Some(context) = arguments.context.filter(|&context| context > own) {
        return Err(Problem::new(format!(
            "--context {context}: the model was trained for {own} tokens; ask for no more"
        )));
    }
    let fallback = if goal == Goal::Throughput { PARALLEL } else { 1 };
    let half = arguments.context.map(|context| context / 2);
    Ok(Use {
        goal,
        prompt_tokens: half.unwrap_or(PROMPT).min(own / 2).max(1),
        generated_tokens: GENERATED.min(own / 8).max(1),
        depth: half.unwrap_or(0).min(own / 2),
        parallel: arguments.parallel.unwrap_or(fallback),
    })
}

fn machine(header: &Header, devices: &[Device]) -> Machine {
    let root = SystemRoot::default();
    let limits = Limits::read(&root);
    let gpus = devices.iter().filter(|device| device.kind.ends_with("GPU")).count();
    let layers = header.layers().and_then(|layers| u32::try_from(layers).ok());
    Machine {
        threads: Backend::initialise().default_threads(),
        processors: usable_cpus(&Processor::read(&root), &limits),
        gpus: u32::try_from(gpus).unwrap_or(u32::MAX),
        layers: layers.unwrap_or(0).saturating_add(1),
        has_experts: header.experts().is_some(),
    }
}

/// Takes from a space what the memory plan refuses, and tells what. Where not all layers fit on a GPU, the defaults are
/// those with as many as do. `None`: nothing fits, which was told.
fn keep_what_fits(
    space: &mut Space,
    used: &Use,
    variant: &Variant,
    path: &Path,
    header: &Header,
    devices: &[Device],
) -> Result<Option<Vec<String>>, Problem> {
    let root = SystemRoot::default();
    let place = Place::here(&Memory::read(&root), &Limits::read(&root), devices, &[]);
    let place = place.map_err(Problem::new)?;
    let (engine, model) = (variant.engine.name, ArtifactRef::here(path));
    let predict = |questions: Vec<MemoryQuestion>| {
        native::predict_memory(PredictJob { engine, model: model.clone(), questions })
    };
    let sizes = used.prompt_tokens.max(used.depth);
    let context = sizes.saturating_add(used.generated_tokens).max(256);
    let layers = header.layers().and_then(|it| u32::try_from(it).ok()).unwrap_or(0) + 1;
    let demand = Demand {
        context,
        parallel: used.parallel,
        cache_types: vec![CacheType::F16],
        layers,
        has_experts: header.experts().is_some(),
        all_logits: place.has_gpu(),
    };
    let forecast = demand.forecast(&predict).map_err(Problem::new)?;
    let verdict = demand.judge(&forecast, &place, &predict);
    match &verdict {
        Verdict::Fits | Verdict::Unknown { .. } => {}
        Verdict::FitsWith { with } if with.iter().any(|it| it.gpu_layers.is_some()) => {
            let fewer = with.iter().find_map(|it| it.gpu_layers);
            let fewer = fewer.and_then(|it| i32::try_from(it).ok());
            space.base.gpu_layers = fewer.unwrap_or(space.base.gpu_layers);
        }
        other => {
            let words = other.in_words(layers);
            output::tell(&format!(
                "{}: {words}; 'quantbench plan' says what would",
                variant.name()
            ));
            return Ok(None);
        }
    }
    let question = |settings: &Settings| MemoryQuestion {
        settings: settings.clone(),
        tokens: context.saturating_mul(used.parallel),
        sequences: used.parallel,
        all_logits: place.has_gpu(),
        experts_on_host: false,
    };
    let singles = space.singles();
    let answers = predict(singles.iter().map(question).collect()).map_err(Problem::new)?;
    let mut refused: Vec<(Settings, String)> = Vec::new();
    for (settings, answer) in singles.into_iter().zip(answers) {
        match answer {
            Err(reason) => refused.push((settings, reason)),
            Ok(predicted) => {
                if let Some((bytes, of)) = lacks(&place, &predicted) {
                    let short = crate::units::format_bytes(bytes);
                    refused.push((settings, format!("it does not fit, {short} short ({of})")));
                }
            }
        }
    }
    space.retain(|settings| refused.iter().all(|(it, _)| it != settings));
    Ok(Some(refused.iter().map(|(settings, reason)| format!("{settings}: {reason}")).collect()))
}

/// What both runs share.
struct Tuning<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    store: &'a Store,
    began: OffsetDateTime,
}

impl Tuning<'_> {
    fn searched(
        &mut self,
        experiment: &Experiment,
        plan: Plan,
        strategy: Box<dyn Strategy>,
    ) -> Result<RunRecord, Error> {
        let stored = if self.arguments.resume {
            let stored = self.stored(experiment, &plan)?;
            Some(
                stored
                    .ok_or_else(|| RunError::NothingToResume { name: experiment.name.clone() })?,
            )
        } else {
            None
        };
        self.measured(experiment, plan, stored, strategy)
    }

    fn proved(
        &mut self,
        experiment: &Experiment,
        plan: Plan,
        search: &RunRecord,
        strategy: Box<dyn Strategy>,
    ) -> Result<RunRecord, Error> {
        let stored = if self.arguments.resume { self.stored(experiment, &plan)? } else { None };
        let stored = stored.filter(|proof| proof.started >= search.started);
        self.measured(experiment, plan, stored, strategy)
    }

    /// The last run of the same, finished or not.
    fn stored(&self, experiment: &Experiment, plan: &Plan) -> Result<Option<RunRecord>, Error> {
        let name = &experiment.name;
        let runs = [self.store.latest_unfinished(name)?, self.store.earlier(name)?];
        let last = runs.into_iter().flatten().max_by_key(|run| run.started);
        let Some(run) = last else { return Ok(None) };
        match resume::difference(&run, &expanded(experiment), plan) {
            Some(difference) => Err(RunError::Different { run: run.id, difference }.into()),
            None => Ok(Some(run)),
        }
    }

    fn measured(
        &mut self,
        experiment: &Experiment,
        mut plan: Plan,
        stored: Option<RunRecord>,
        strategy: Box<dyn Strategy>,
    ) -> Result<RunRecord, Error> {
        if let Some(run) = stored.as_ref().filter(|run| run.finished.is_some()) {
            return Ok(run.clone());
        }
        let resumed = stored.is_some();
        let began = std::mem::replace(&mut self.began, OffsetDateTime::now_utc());
        let run = match stored {
            Some(run) => run,
            None => Session::new_run(experiment, &plan, self.store.fresh_id(began)?, began),
        };
        plan.adopt(&run.trials);
        let _lock = RunLock::take(self.session.cache.root(), &run.id)?;
        let (plan, store) = (&plan, Some(Store::open()?));
        let context = RunContext { experiment, plan, run, resumed, began, store, strategy };
        let run = self.session.measure(context)?;
        self.began = OffsetDateTime::now_utc();
        Ok(run)
    }
}
