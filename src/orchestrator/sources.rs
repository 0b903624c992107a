//! Sources: from what an experiment names to the variants that a plan is made of.

use super::plan::{Origin, Variant};
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::resolved::ModelPlan;
use crate::model::cache::Cache;
use crate::model::engine_name::{EngineIdentity, EngineName};
use crate::model::quantization::Method;
use crate::model::resolve::{
    self, Making, Requantize, ResolveError, ResolveOptions, Resolved, Variant as Resolvable,
};
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
) -> Result<Vec<Variant>, ResolveError> {
    let resolved = resolve::resolve(&model.source, cache, options)?;
    let requantize = if model.allow_requantize { Requantize::Allow } else { Requantize::Refuse };
    let calibration = model.calibration.clone().map(Arc::new);
    let key = |method: Method| calibration.as_ref().and_then(|plan| plan.key(method));
    let making = Making { requantize, maker, calibration: &key };
    let variants = resolve::variants(&resolved, &model.quantizations, making)?;
    let projector = model.projector.as_ref();
    let projector = projector.map(|it| resolve::projector(it, cache, options)).transpose()?;
    let planned = |variant| {
        let planned = planned(variant, model, calibration.as_ref(), &resolved)?;
        let engine = engine(planned.quantization.engine());
        Some(Variant { engine, projector: projector.clone(), ..planned })
    };
    Ok(variants.into_iter().filter_map(planned).collect())
}

/// `None` only for a variant that would have to be made of nothing, which resolving refuses.
fn planned(
    variant: Resolvable,
    model: &ModelPlan,
    calibration: Option<&Arc<CalibrationPlan>>,
    resolved: &Resolved,
) -> Option<Variant> {
    let model_name = model.name.clone();
    Some(match variant {
        Resolvable::Ready(ready) => Variant {
            model: model_name,
            quantization: ready.quantization,
            label: ready.label,
            origin: Origin::Ready(ready.artifact),
            engine: EngineIdentity::default(),
            projector: None,
        },
        Resolvable::Make { quantization, file_type, label, key, expected_bytes } => Variant {
            model: model_name,
            quantization,
            label,
            origin: Origin::Make {
                input: resolved.source.as_ref()?.artifact.path.clone(),
                key,
                file_type,
                allow_requantize: model.allow_requantize,
                expected_bytes,
                calibration: calibration.filter(|_| quantization.method.is_calibrated()).cloned(),
            },
            engine: EngineIdentity::default(),
            projector: None,
        },
    })
}
