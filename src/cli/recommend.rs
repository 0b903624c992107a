//! `quantbench recommend MODEL`: measure no more than decides which variant meets what is required.

use super::plan::{self, Foreseen};
use super::run;
use super::session::{AGENT_VARIABLE, Session};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::experiment::recommend::{Asked, Order, Purpose};
use crate::experiment::requirements::{MEMORY, Requirement};
use crate::experiment::resolved::Experiment;
use crate::hardware::energy::{EnergyZone, energy_zones};
use crate::hardware::gpu::{Gpu, Gpus};
use crate::hardware::root::SystemRoot;
use crate::model::engine_name::EngineName;
use crate::model::file_type::FileType;
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::plan::Plan;
use crate::results::metric::Metric;
use crate::results::recommendation::Predicted;
use crate::results::record::RunRecord;
use crate::units::{parse_bytes, parse_within, to_f64};
use clap::Args;
use std::time::Duration;

/// Flags of `quantbench recommend`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Memory that it may take at its peak, such as 2GiB: of the process and of GPUs, for --context and --parallel
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = NEEDS)]
    max_memory: Option<u64>,
    /// Tokens a second that it has to generate at least
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, value_parser = positive, help_heading = NEEDS)]
    min_tps: Option<f64>,
    /// Time to the first token at most, such as 500ms: the 90th percentile over the prompts
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = NEEDS)]
    max_ttft: Option<Duration>,
    /// Divergence from the reference at most, nats
    #[arg(long, value_name = "NATS", allow_negative_numbers = true, value_parser = positive, help_heading = NEEDS)]
    max_kld: Option<f64>,
    /// Share of right answers to a task of the experiment at least: questions=0.7 (repeatable)
    #[arg(long, value_name = "TASK=SHARE", value_parser = accuracy, help_heading = NEEDS)]
    min_accuracy: Vec<(String, f64)>,
    /// Energy per generated token at most, joules
    #[arg(long, value_name = "JOULES", allow_negative_numbers = true, value_parser = positive, help_heading = NEEDS)]
    max_energy: Option<f64>,
    /// Tokens of context of each sequence that memory is planned for; 4096 if left out, or as many as the model was
    /// trained for
    #[arg(short, long, value_name = "TOKENS", value_parser = parse_within(1_u32..=16_777_216), help_heading = NEEDS)]
    context: Option<u32>,
    /// Sequences side by side that memory is planned for
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_within(1_u32..=256), help_heading = NEEDS)]
    parallel: u32,
    /// What it is for: needs of published service levels, unless they are said otherwise
    #[arg(long = "for", value_enum, value_name = "USE", help_heading = NEEDS)]
    purpose: Option<Purpose>,
    /// What is better among variants that meet everything; left out: what --for says, else closest
    #[arg(long, value_enum, value_name = "WHAT", help_heading = NEEDS)]
    prefer: Option<Order>,
    #[command(flatten)]
    run: run::Arguments,
}

/// Where flags stand in the help.
const NEEDS: &str = "What you need";

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|it| it.is_finite() && *it > 0.0);
    number.ok_or_else(|| "no number above 0".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    parse_bytes(text).and_then(|it| if it > 0 { Ok(it) } else { Err("no size above 0".to_owned()) })
}

fn time(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).ok().filter(|it| !it.is_zero());
    length.ok_or_else(|| "no time such as 500ms or 2s".to_owned())
}

fn accuracy(text: &str) -> Result<(String, f64), String> {
    let parts = text.split_once('=').and_then(|(task, share)| {
        let share = share.parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
        share.map(|share| (task.trim().to_owned(), share))
    });
    parts
        .filter(|(task, _)| !task.is_empty())
        .ok_or_else(|| "no task and share from 0 to 1, written like questions=0.7".to_owned())
}

impl Arguments {
    fn asked(&self) -> Asked {
        let milliseconds = |it: Duration| it.as_secs_f64() * 1000.0;
        let flags = [
            ("--max-memory", "max_memory", self.max_memory.map(to_f64)),
            ("--min-tps", "min_generation_tps", self.min_tps),
            ("--max-ttft", "max_ttft_ms", self.max_ttft.map(milliseconds)),
            ("--max-kld", "max_kld", self.max_kld),
            ("--max-energy", "max_joules_per_token", self.max_energy),
        ];
        let written = flags
            .into_iter()
            .filter_map(|(flag, key, limit)| Some((flag.to_owned(), key.to_owned(), limit?)));
        Asked {
            requirements: written.collect(),
            accuracies: self.min_accuracy.clone(),
            purpose: self.purpose,
            order: self.prefer,
            context: self.context,
            parallel: self.parallel,
        }
    }
}

/// Recommends: load, plan, measure what decides, report.
///
/// # Errors
/// As those of [`run::run`].
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    if arguments.run.against.is_some() {
        return Err(Error::Problem(Problem::new(
            "--against measures an earlier run again beside what 'quantbench run' is asked for; recommend decides by itself \
             what is measured",
        )));
    }
    run::execute(&arguments.run, Some(arguments.asked()))
}

/// Foresees the memory of every trial, and takes a reference that can be run here. What does not fit is never fetched or
/// made.
pub(super) fn foresee(
    session: &Session,
    experiment: &mut Experiment,
    options: &ResolveOptions,
    plan: Plan,
) -> Result<(Plan, Vec<Predicted>), Error> {
    let Some(asked) = experiment.recommend.clone() else { return Ok((plan, Vec::new())) };
    compared_with_more(experiment, &plan)?;
    energy_is_counted(experiment)?;
    let mut foreseen = plan::foresee(session, &plan, options, asked.context, asked.parallel)?;
    leave_out_unpredicted(experiment, &plan, &mut foreseen)?;
    let can_run = |at: usize| foreseen[at].predicted.does_not_fit.is_none();
    let reference = plan.trials.iter().find(|trial| trial.is_reference).map(|it| it.variant);
    let mut plan = plan;
    if let Some(reference) = reference.filter(|&at| !can_run(at)) {
        let fitting = (0..plan.variants.len()).filter(|&at| can_run(at) && at != reference);
        let best = fitting.min_by_key(|&at| plan.variants[at].quantization.precision_rank());
        if let (Some(best), Some(model)) = (best, experiment.models.first_mut()) {
            model.reference = Some(plan.variants[best].quantization);
            plan = session.plan(experiment, options)?;
        }
    }
    let predicted = plan.trials.iter().map(|trial| foreseen[trial.variant].predicted.clone());
    let predicted = predicted.collect();
    Ok((plan, predicted))
}

/// Refuses a need that is about the distance from a reference which is itself as coarse as what is compared.
fn compared_with_more(experiment: &Experiment, plan: &Plan) -> Result<(), Error> {
    let is_comparison = |it: &&Requirement| {
        Metric::named(&it.metric).is_some_and(|metric| metric.descriptor().is_comparison)
    };
    let Some(need) = experiment.requirements.0.iter().find(is_comparison) else { return Ok(()) };
    let reference = plan.trials.iter().find(|it| it.is_reference).or(plan.trials.first());
    let own = reference.map(|it| plan.variants[it.variant].quantization);
    let coarsest = "Q8_0".parse::<FileType>().map_or(usize::MAX, FileType::precision_rank);
    match own.filter(|own| own.precision_rank() > coarsest) {
        None => Ok(()),
        Some(own) => Err(Error::Problem(Problem::new(format!(
            "{} is asked for, which is how far a variant is from a more precise one, and the most precise one here is {own}; \
             name one with --quant (such as F16,{own}), or take a source that is not quantized, or ask for speed and \
             memory alone",
            need.metric
        )))),
    }
}

/// Leaves out, where memory is limited, what an engine does not tell the memory of: what its tests fill says too little.
///
/// # Errors
/// Nothing is left.
fn leave_out_unpredicted(
    experiment: &Experiment,
    plan: &Plan,
    foreseen: &mut [Foreseen],
) -> Result<(), Error> {
    if !experiment.requirements.0.iter().any(|it| it.metric == MEMORY) {
        return Ok(());
    }
    let mut reason = None;
    for (variant, told) in plan.variants.iter().zip(&mut *foreseen) {
        let unknown = told.unknown.as_ref();
        let unknown = unknown.filter(|_| variant.engine.name == EngineName::OnnxRuntime);
        if let Some(unknown) = unknown {
            told.predicted.does_not_fit =
                Some(format!("what it takes for a context is not known: {unknown}"));
            reason = Some((variant.label.clone(), unknown.clone()));
        }
    }
    let is_left = foreseen.iter().any(|it| it.predicted.does_not_fit.is_none());
    let Some((label, reason)) = reason.filter(|_| !is_left) else { return Ok(()) };
    Err(Error::Problem(Problem::new(format!(
        "a limit on memory is asked for, no variant is known to fit, and what {label} takes for a context is not known before \
         it is filled ({reason}); leave --max-memory out and measure at that depth (tg128@d4096)"
    ))))
}

/// Refuses a need that is about energy where nothing counts it: measuring would find that out too, at its end.
fn energy_is_counted(experiment: &Experiment) -> Result<(), Error> {
    let needs = &experiment.requirements.0;
    let is_asked = needs.iter().any(|it| it.metric == Metric::JoulesPerToken.descriptor().name);
    // Another machine's counters are not seen from here.
    if !is_asked || std::env::var_os(AGENT_VARIABLE).is_some() {
        return Ok(());
    }
    let root = SystemRoot::default();
    let zones = energy_zones(&root);
    let is_read = |it: &EnergyZone| it.counted && it.counter_microjoules.known().is_some();
    let gpus = Gpus::read(&root).nvidia;
    let tells = |gpu: &Gpu| !gpu.unreadable.iter().any(|it| it.what == "power");
    if zones.known().is_some_and(|it| it.iter().any(is_read))
        || gpus.known().is_some_and(|it| it.iter().any(tells))
    {
        return Ok(());
    }
    Err(Error::Problem(Problem::new(
        "energy is asked for, and no counter of this machine can be read ('quantbench devices' says why); leave \
         --max-energy out",
    )))
}

/// Notes in a run that begins what was predicted.
pub(super) fn note(run: &mut RunRecord, predicted: Vec<Predicted>) {
    for (trial, predicted) in run.trials.iter_mut().zip(predicted) {
        trial.predicted = Some(predicted);
    }
}
