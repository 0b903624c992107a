//! `quantbench plan MODEL`: what fits and how fast it will be, here or on a target, before anything is fetched, made or run.
//!
//! `outline` is a variant's header without its data, `speed` what is measured or predicted of it here; `shown` and
//! `speeds_shown` are the tables.

pub(super) mod outline;
mod shown;
mod speed;
mod speeds_shown;

use super::output::{self, Format};
use super::session::{Session, resolve_options};
use super::{native, profile};
use crate::causes::Problem;
use crate::decide::fit::{Demand, Forecast, Verdict, error_of};
use crate::decide::place::{Budget, HERE, Place, parse_budget};
use crate::engine::Device;
use crate::engine::onnxruntime::{self, library};
use crate::error::{Error, Outcome};
use crate::experiment::settings::{CacheType, Settings, SplitMode, TensorSplit};
use crate::experiment::{self, Overrides};
use crate::hardware::probe::Machine;
use crate::model::artifact::ArtifactRef;
use crate::model::engine_name::EngineName;
use crate::model::gguf::Header;
use crate::model::quantization::Quantization;
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::plan::{Plan, Variant};
use crate::results::recommendation::Predicted;
use crate::units::parse_within;
use crate::workload::jobs::PredictJob;
use clap::Args;
use outline::Outlines;
use speed::Speeds;
use std::path::{Path, PathBuf};

/// Tokens of context where nobody says how many and the model allows them.
const CONTEXT: u32 = 4096;

/// Flags of `quantbench plan`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A model as 'quantbench run' takes it, or an experiment
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Tokens of context of each sequence; 4096 if left out, or as many as the model was trained for
    #[arg(short, long, value_name = "TOKENS", value_parser = parse_within(1_u32..=16_777_216))]
    context: Option<u32>,
    /// Sequences side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_within(1_u32..=256))]
    parallel: u32,
    /// Type of the KV cache, and those that may take its place where it does not fit
    #[arg(
        long,
        value_name = "TYPES",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "f16,q8_0,q4_0"
    )]
    cache_types: Vec<CacheType>,
    /// Division over several GPUs
    #[arg(long, value_name = "MODE", ignore_case = true, default_value_t)]
    split_mode: SplitMode,
    /// Shares of the GPUs, such as 3/1 [as llama.cpp divides]
    #[arg(long, value_name = "SHARES", default_value_t, hide_default_value = true)]
    tensor_split: TensorSplit,
    /// Memory that may be taken, in place of what is free: host=6GiB,gpu0=8GiB
    #[arg(long, value_name = "DEVICE=SIZE", value_delimiter = ',', value_parser = parse_budget)]
    budget: Vec<Budget>,
    /// Plan for other machines, by name or figures, and for this one as 'here': pi5-8gb,4GiB@17GB/s,here
    #[arg(long = "target", value_name = "TARGET", value_delimiter = ',', value_parser = parse_target, conflicts_with = "budget")]
    targets: Vec<Target>,
    /// Threads that speeds are for [as llama-bench chooses]
    #[arg(long, value_name = "N", value_parser = parse_within(1_u32..=512))]
    threads: Option<u32>,
    /// Measure this machine first, as 'quantbench devices --measure' does, unless that was done before
    #[arg(long)]
    measure: bool,
    /// Plan these variants instead of the usual ones: `Q8_0,Q4_K_M`
    #[arg(long = "quant", value_name = "QUANTIZATION", value_delimiter = ',')]
    quantizations: Vec<Quantization>,
    /// Plan variants even of a source that is quantized already
    #[arg(long)]
    allow_requantize: bool,
    /// The library of ONNX Runtime; left out: `ORT_DYLIB_PATH`, else an installed wheel's, else the system's
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// A place that was asked for; `None`: this machine.
type Target = Option<Place>;

fn parse_target(text: &str) -> Result<Target, String> {
    if text.eq_ignore_ascii_case(HERE) { Ok(None) } else { Place::target(text).map(Some) }
}

/// One variant.
struct Planned {
    variant: Variant,
    /// What its file says or will say, or why that is not known.
    header: Result<Header, String>,
    demand: Demand,
    forecast: Result<Forecast, String>,
    /// One for each place.
    verdicts: Vec<Verdict>,
}

/// Plans every variant of a model. Of a file that is not here only the header is read.
///
/// # Errors
/// The model cannot be found, or a budget is for a device that is not there.
pub fn run(arguments: &Arguments, devices: &[Device]) -> Result<Outcome, Error> {
    if let Some(path) = &arguments.onnxruntime {
        library::choose(path);
    }
    let overrides = Overrides {
        quantizations: arguments.quantizations.clone(),
        allow_requantize: arguments.allow_requantize,
        ..Overrides::default()
    };
    let machine = Machine::probe();
    if arguments.measure {
        let threads = arguments.threads.unwrap_or_else(native::default_threads);
        let kept = profile::kept(&machine);
        if profile::rates(kept.as_ref(), threads).is_err()
            && profile::measure(&machine, threads)?.is_none()
        {
            return Ok(Outcome::Interrupted);
        }
    }
    let places =
        places(arguments, devices, &machine).map_err(|it| Error::Problem(Problem::new(it)))?;
    let experiment = experiment::load(Some(&arguments.model), &overrides)?;
    let session = Session::open(arguments.quiet)?;
    let mut options = resolve_options(arguments.quiet);
    (options.fetches, options.reads_whole_files) = (false, false);
    // What does not fit is told, not left out.
    options.most_bytes = u64::MAX;
    let mut variants = session.plan(&experiment, &options)?.variants;
    // A reference that nobody asked for has no say in what fits.
    let is_asked = |it: &Variant| {
        let mut asked = arguments.quantizations.iter();
        arguments.quantizations.is_empty() || asked.any(|&asked| it.quantization.meets(asked))
    };
    variants.retain(is_asked);
    let outlines = Outlines::of(&variants, &session.cache, &options)?;
    // Memory of processors is taken when it is touched, that of GPUs at once.
    let is_gpu = |device: &Device| device.kind.ends_with("GPU");
    let all_logits = arguments.targets.is_empty() && devices.iter().any(is_gpu);
    let planned: Vec<Planned> = variants
        .into_iter()
        .zip(&outlines.paths)
        .map(|(variant, path)| plan(variant, path.as_deref(), arguments, &places, all_logits))
        .collect();
    let speeds = Speeds::of(&planned, &machine, devices, arguments.threads);
    let text = match arguments.format {
        Format::Table => shown::table(&planned, &places, &speeds),
        Format::Json => shown::json(&planned, &places, &speeds)?,
    };
    output::print(text.as_bytes())?;
    let fits = planned.iter().flat_map(|it| &it.verdicts).any(|it| *it == Verdict::Fits);
    Ok(if fits { Outcome::Done } else { Outcome::RequirementsUnmet })
}

/// What a plan says of a variant.
pub(super) struct Foreseen {
    pub(super) predicted: Predicted,
    /// Why its memory is not known, in words.
    pub(super) unknown: Option<String>,
}

/// What a plan says of every variant for so many tokens of context and sequences on this machine.
pub(super) fn foresee(
    session: &Session,
    plan: &Plan,
    options: &ResolveOptions,
    context: Option<u32>,
    parallel: u32,
) -> Result<Vec<Foreseen>, Error> {
    let devices = native::backend_devices();
    let arguments = Arguments { context, parallel, ..Arguments::of_this_machine() };
    let places = places(&arguments, &devices, &Machine::probe())
        .map_err(|it| Error::Problem(Problem::new(it)))?;
    let outlines = Outlines::of(&plan.variants, &session.cache, options)?;
    let is_gpu = |device: &Device| device.kind.ends_with("GPU");
    let all_logits = devices.iter().any(is_gpu);
    let foreseen = plan.variants.iter().zip(&outlines.paths).map(|(variant, path)| {
        let planned = self::plan(variant.clone(), path.as_deref(), &arguments, &places, all_logits);
        let (peak, unknown) = match planned.forecast.as_deref() {
            Ok([(_, Ok(predicted)), ..]) => (places[0].shares(predicted).iter().sum(), None),
            Ok([]) => (0, None),
            Ok([(_, Err(reason)), ..]) | Err(reason) => (0, Some(reason.clone())),
        };
        let layers = planned.demand.layers;
        let verdict = planned.verdicts.first();
        let verdict = verdict
            .filter(|it| matches!(it, Verdict::DoesNotFit { .. } | Verdict::FitsWith { .. }));
        // Of a file that is to be made the outline knows its size.
        let outlined = path.as_deref().ok().and_then(|path| std::fs::metadata(path).ok());
        let bytes = outlined.map_or(u64::MAX, |it| it.len()).min(variant.expected_bytes());
        let predicted = Predicted {
            file_bytes: bytes,
            peak_bytes: peak,
            error_bytes: error_of(peak),
            tokens: planned.demand.context.saturating_mul(planned.demand.parallel),
            does_not_fit: verdict.map(|it| it.in_words(layers)),
        };
        Foreseen { predicted, unknown }
    });
    Ok(foreseen.collect())
}

impl Arguments {
    /// What is planned for where nothing is said.
    fn of_this_machine() -> Self {
        Self {
            model: PathBuf::new(),
            context: None,
            parallel: 1,
            cache_types: vec![CacheType::F16, CacheType::Q8_0],
            split_mode: SplitMode::default(),
            tensor_split: TensorSplit::default(),
            budget: Vec::new(),
            targets: Vec::new(),
            threads: None,
            measure: false,
            quantizations: Vec::new(),
            allow_requantize: false,
            onnxruntime: None,
            format: Format::Table,
            quiet: true,
        }
    }
}

fn places(
    arguments: &Arguments,
    devices: &[Device],
    machine: &Machine,
) -> Result<Vec<Place>, String> {
    let here = || {
        let budget = |it: String| format!("--budget: {it}");
        let mut here = Place::here(&machine.memory, &machine.limits, devices, &arguments.budget)
            .map_err(budget)?;
        // A GPU's memory was not measured.
        if here.pools.len() == 1 {
            let kept = profile::kept(machine);
            let rates = kept.into_iter().flat_map(|profile| profile.read_rates);
            here.bandwidth = rates.map(|rate| rate.bytes_per_second).reduce(f64::max);
        }
        Ok(here)
    };
    if arguments.targets.is_empty() {
        return here().map(|here| vec![here]);
    }
    let targets = arguments.targets.iter();
    targets.map(|target| target.clone().map_or_else(here, Ok)).collect()
}

fn plan(
    variant: Variant,
    path: Result<&Path, &String>,
    arguments: &Arguments,
    places: &[Place],
    all_logits: bool,
) -> Planned {
    let engine = variant.engine.name;
    let is_onnx = engine == EngineName::OnnxRuntime;
    let path = path.map_err(Clone::clone);
    let header = path.clone().and_then(|path| {
        if is_onnx {
            return Err(
                "how fast ONNX Runtime is, nothing predicts, and no stored run has measured it"
                    .to_owned(),
            );
        }
        Header::read(path).map_err(|error| error.to_string())
    });
    // A graph tells of itself where memory is predicted.
    let known = if is_onnx {
        path
    } else {
        path.and_then(|path| header.as_ref().map(|_| path).map_err(Clone::clone))
    };
    let of_header = header.as_ref().ok();
    let count = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
    let own = of_header.and_then(|header| count(header.context_length()));
    let own = own.or_else(|| onnxruntime::context_length(known.as_ref().ok().filter(|_| is_onnx)?));
    let layers = of_header.and_then(|header| count(header.layers()));
    let demand = Demand {
        context: arguments.context.unwrap_or_else(|| own.map_or(CONTEXT, |own| own.min(CONTEXT))),
        parallel: arguments.parallel,
        settings: Settings {
            split_mode: arguments.split_mode,
            tensor_split: arguments.tensor_split.clone(),
            ..Settings::default()
        },
        cache_types: arguments.cache_types.clone(),
        layers: layers.unwrap_or(0).saturating_add(1),
        has_experts: of_header.and_then(Header::experts).is_some(),
        all_logits,
    };
    let predict = |questions| {
        let model = ArtifactRef::here(known.clone()?);
        native::predict_memory(PredictJob { engine, model, questions })
    };
    let forecast = demand.forecast(&predict);
    let judge = |place: &Place| match &forecast {
        Ok(forecast) => demand.judge(forecast, place, &predict),
        Err(reason) => Verdict::Unknown { reason: reason.clone() },
    };
    let verdicts = places.iter().map(judge).collect();
    Planned { variant, header, demand, forecast, verdicts }
}
