//! How long a first run will take: from what this machine was measured to be, and the headers of the variants.

use super::plan::outline::Outlines;
use super::{native, profile};
use crate::decide::time::Variant;
use crate::decide::work::Work;
use crate::engine::Device;
use crate::experiment::resolved::Experiment;
use crate::hardware::probe::Machine;
use crate::model::cache::Cache;
use crate::model::gguf::Header;
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::cost::Spent;
use crate::orchestrator::plan::{Plan, PlannedTrial};
use std::path::Path;

/// What visits to each trial will take; nothing of those that nothing is known of. What is predicted is of processors.
pub(super) fn spent(
    experiment: &Experiment,
    plan: &Plan,
    cache: &Cache,
    options: &ResolveOptions,
) -> Vec<Option<Spent>> {
    let is_gpu = |device: &Device| device.kind.ends_with("GPU");
    // Within a budget everybody knows how long it will take; a recommendation ends when it is proved.
    if experiment.budget.is_some() || experiment.recommend.is_some() {
        return Vec::new();
    }
    let profile = profile::kept(&Machine::probe());
    let unknown = || vec![None; plan.trials.len()];
    if profile.is_none() || native::backend_devices().iter().any(is_gpu) {
        return unknown();
    }
    let Ok(outlines) = Outlines::of(&plan.variants, cache, options) else { return unknown() };
    let variants = outlines.paths.iter().map(|path| variant(path.as_deref().ok()?));
    let variants: Vec<Option<Variant>> = variants.collect();
    let spent = |trial: &PlannedTrial| {
        let threads = trial.settings.threads.unwrap_or_else(native::default_threads);
        let rates = profile::rates(profile.as_ref(), threads).ok()?;
        let workloads = experiment.workloads_of(trial.model_position);
        let variant = variants[trial.variant].as_ref()?;
        variant.spent(experiment, workloads, rates, trial.is_reference).ok()
    };
    plan.trials.iter().map(spent).collect()
}

fn variant(path: &Path) -> Option<Variant> {
    let header = Header::read(path).ok()?;
    let bytes = std::fs::metadata(path).ok()?.len();
    let vocabulary = header.vocabulary().unwrap_or(0);
    Some(Variant { work: Work::of(&header).ok()?, bytes, vocabulary })
}
