//! Sources: from what an experiment names to the variants that a plan is made of.

use super::plan::Variant;
use crate::causes::Problem;
use crate::experiment::default_quantizations;
use crate::experiment::resolved::ModelPlan;
use crate::model::artifact::Artifact;
use crate::model::cache::Cache;
use crate::model::engine_name::{EngineIdentity, EngineName};
use crate::model::progress::{Progress, ProgressSink};
use crate::model::quantization::{Method, Quantization};
use crate::model::resolve::{self, Making, Origin, ReadyVariant, ResolveOptions, Resolved};
use crate::model::source::Source;
use std::sync::Arc;

/// Finds or fetches a model's source and says which variants it comes to, in the order asked for.
///
/// This may take long: a hub is asked, a checksum is computed.
///
/// # Errors
/// The source is not there, is no GGUF, or cannot give the variants asked for.
pub fn variants_of(
    model: &ModelPlan,
    cache: &Cache,
    options: &ResolveOptions,
    engine: impl Fn(EngineName) -> EngineIdentity,
    maker: &str,
) -> Result<Vec<Variant>, Problem> {
    let resolved = resolve::resolve(&model.source, cache, options)?;
    let calibration = model.calibration.clone().map(Arc::new);
    let key = |method: Method| calibration.as_ref().and_then(|plan| plan.key(method));
    let making = Making { allow_requantize: model.allow_requantize, maker, calibration: &key };
    // Whether a repository is converted is known only now; of a file without a list the usual variants are made.
    let converted = resolved.source.as_ref().filter(|it| it.header.is_some());
    let quantizations = match (&model.source, converted) {
        (Source::Repository { .. }, Some(file)) if model.quantizations.is_empty() => {
            default_quantizations(&Source::File(file.artifact.path.clone()))
        }
        // As it is, a shape is what stands behind it, or F16.
        (Source::Shape(shape), Some(file)) if model.quantizations.is_empty() => {
            vec![shape.quantization.unwrap_or(file.quantization)]
        }
        _ => model.quantizations.clone(),
    };
    let variants = if model.onnx.is_empty() {
        resolve::variants(&resolved, &quantizations, making)?
    } else {
        let onnx = resolve::onnx_in(&model.onnx, cache, options)?;
        with_onnx(&resolved, onnx, &quantizations, making)?
    };
    let variants = each_file_once(variants, &options.progress);
    let adapters = resolve::adapters(&model.adapters, &resolved, cache, options)?;
    let projector = model.projector.as_ref();
    let projector = projector.map(|it| resolve::projector(it, cache, options)).transpose()?;
    let planned = |resolve::Variant { quantization, label, origin }| Variant {
        model: model.name.clone(),
        engine: engine(quantization.engine()),
        quantization,
        label,
        origin,
        calibration: calibration.clone().filter(|_| quantization.method.is_calibrated()),
        projector: projector.clone(),
        adapters: adapters.clone(),
        repeats: None,
    };
    Ok(variants.into_iter().map(planned).collect())
}

/// Of files with the same content the first stays; the others are told.
fn each_file_once(
    variants: Vec<resolve::Variant>,
    progress: &ProgressSink,
) -> Vec<resolve::Variant> {
    let mut kept: Vec<resolve::Variant> = Vec::new();
    for variant in variants {
        let same = file_of(&variant).and_then(|file| {
            let others = kept.iter().filter_map(file_of);
            let same =
                |other: &&Artifact| other.checksum == file.checksum && other.path != file.path;
            others.into_iter().find(same).map(|other| (file, other))
        });
        if let Some((file, other)) = same {
            let [name, other] = [file, other]
                .map(|it| it.path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            let told = format!("the same file as {other}, which is measured once");
            progress.say(&name, &Progress::Note(told));
            continue;
        }
        kept.push(variant);
    }
    kept
}

/// The file of a variant that is not made.
fn file_of(variant: &resolve::Variant) -> Option<&Artifact> {
    match &variant.origin {
        Origin::Ready(artifact) | Origin::Remote(artifact, _) => Some(artifact),
        Origin::Make { .. } => None,
    }
}

/// The variants of a model that is there as ONNX, too. Those that are named choose among both; where none of them is
/// ONNX, all that is ONNX is measured.
fn with_onnx(
    resolved: &Resolved,
    onnx: Vec<ReadyVariant>,
    quantizations: &[Quantization],
    making: Making<'_>,
) -> Result<Vec<resolve::Variant>, Problem> {
    let (named, others): (Vec<_>, Vec<_>) =
        quantizations.iter().partition(|it| it.engine() == EngineName::OnnxRuntime);
    let mut variants = if others.is_empty() && !named.is_empty() {
        Vec::new()
    } else {
        resolve::variants(resolved, &others, making)?
    };
    let onnx = Resolved { source: None, ready: onnx };
    variants.extend(resolve::variants(&onnx, &named, making)?);
    Ok(variants)
}
