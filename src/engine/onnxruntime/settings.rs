//! Settings of ONNX Runtime, and those of llama.cpp that it has not.

use super::{failed, providers};
use crate::engine::error::EngineError;
use crate::experiment::settings::{GraphOptimization, Settings};
use crate::model::engine_name::EngineName;
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

/// What a session is made with.
///
/// # Errors
/// ONNX Runtime does not take a setting.
pub(super) fn builder(
    environment: &Environment,
    settings: &Settings,
    threads: u32,
) -> Result<SessionBuilder, EngineError> {
    let level = match settings.graph_optimization {
        GraphOptimization::Disable => GraphOptimizationLevel::Disable,
        GraphOptimization::Basic => GraphOptimizationLevel::Level1,
        GraphOptimization::Extended => GraphOptimizationLevel::Level2,
        GraphOptimization::All => GraphOptimizationLevel::All,
    };
    let made = SessionBuilder::new(environment).and_then(|builder| {
        let builder = builder.with_intra_threads(threads as usize)?.with_inter_threads(1)?;
        let builder =
            builder.with_intra_op_spinning(settings.spinning)?.with_optimization_level(level)?;
        Ok(builder.with_execution_providers(providers::dispatch(settings.provider).as_slice())?)
    });
    made.map_err(|error| failed("use these settings", &error))
}

/// Refuses settings that only llama.cpp has.
///
/// # Errors
/// [`EngineError::Setting`] with the first of them.
pub(super) fn check(settings: &Settings) -> Result<(), EngineError> {
    let usual = Settings::default();
    // Weights lie on the processor whether all layers or none are to be on a GPU: there is none yet.
    let on_gpu = settings.gpu_layers > 0;
    let refused = [
        ("threads_batch", settings.threads_batch.is_some(), "one pool of threads computes all"),
        ("gpu_layers", on_gpu, "it computes on the processor"),
        ("flash_attention", settings.flash_attention != usual.flash_attention, IN_GRAPH),
        ("cache_type_k", settings.cache_type_k != usual.cache_type_k, IN_GRAPH),
        ("cache_type_v", settings.cache_type_v != usual.cache_type_v, IN_GRAPH),
        ("split_mode", settings.split_mode != usual.split_mode, "it computes on the processor"),
        ("tensor_split", !settings.tensor_split.is_empty(), "it computes on the processor"),
        ("main_gpu", settings.main_gpu != 0, "it computes on the processor"),
        ("kv_offload", !settings.kv_offload, "it computes on the processor"),
        ("mmap", !settings.mmap, "it reads files as it likes"),
        ("swa_full", settings.swa_full, IN_GRAPH),
        ("repack", !settings.repack, "it lays weights out as it likes"),
        ("op_offload", !settings.op_offload, "it computes on the processor"),
        ("cpu_moe", settings.cpu_moe, "it computes on the processor"),
    ];
    match refused.into_iter().find(|(_, is_set, _)| *is_set) {
        None => Ok(()),
        Some((setting, _, reason)) => {
            Err(EngineError::Setting { engine: EngineName::OnnxRuntime, setting, reason })
        }
    }
}

const IN_GRAPH: &str = "the graph says it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::settings::CacheType;

    #[test]
    fn what_only_llama_cpp_has_is_refused_by_name() {
        assert_eq!(check(&Settings::default()), Ok(()));
        let own = Settings { threads: Some(2), spinning: false, ..Settings::default() };
        assert_eq!(check(&own), Ok(()));
        let cache = Settings { cache_type_k: CacheType::Q8_0, ..Settings::default() };
        let error = check(&cache).unwrap_err().to_string();
        assert_eq!(error, "ONNX Runtime has no setting 'cache_type_k': the graph says it");
        let layers = Settings { gpu_layers: 4, ..Settings::default() };
        assert!(check(&layers).unwrap_err().to_string().contains("'gpu_layers'"));
        assert_eq!(check(&Settings { gpu_layers: 0, ..Settings::default() }), Ok(()));
    }
}
