//! Sources: from what an experiment names to the variants that a plan is made of.

use super::plan::{Origin, Variant};
use crate::experiment::resolved::ModelPlan;
use crate::model::cache::Cache;
use crate::model::resolve::{
    self, Requantize, ResolveError, ResolveOptions, Resolved, Variant as Resolvable,
};

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
    maker: &str,
) -> Result<Vec<Variant>, ResolveError> {
    let resolved = resolve::resolve(&model.source, cache, options)?;
    let requantize = if model.allow_requantize { Requantize::Allow } else { Requantize::Refuse };
    let variants = resolve::variants(&resolved, &model.quantizations, requantize, maker)?;
    Ok(variants.into_iter().filter_map(|variant| planned(variant, model, &resolved)).collect())
}

/// `None` only for a variant that would have to be made of nothing, which resolving refuses.
fn planned(variant: Resolvable, model: &ModelPlan, resolved: &Resolved) -> Option<Variant> {
    let model_name = model.name.clone();
    Some(match variant {
        Resolvable::Ready(ready) => Variant {
            model: model_name,
            quantization: ready.quantization,
            label: ready.label,
            origin: Origin::Ready(ready.artifact),
        },
        Resolvable::Make { quantization, label, key, expected_bytes } => Variant {
            model: model_name,
            quantization,
            label,
            origin: Origin::Make {
                input: resolved.source.as_ref()?.artifact.path.clone(),
                key,
                allow_requantize: model.allow_requantize,
                expected_bytes,
            },
        },
    })
}
