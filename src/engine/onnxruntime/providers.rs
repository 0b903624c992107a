//! Execution providers: what a library can compute a graph with, by the names that settings have for them.

use crate::engine::error::EngineError;
use crate::engine::onnxruntime::failed;
use crate::experiment::settings::Provider;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use strum::IntoEnumIterator as _;

/// What ONNX Runtime calls one.
pub(super) const fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => ep::CPU::NAME,
        Provider::Cuda => ep::CUDA::NAME,
        Provider::Tensorrt => ep::TensorRT::NAME,
        Provider::Migraphx => ep::MIGraphX::NAME,
        Provider::Openvino => ep::OpenVINO::NAME,
        Provider::Directml => ep::DirectML::NAME,
        Provider::Coreml => ep::CoreML::NAME,
        Provider::Xnnpack => ep::XNNPACK::NAME,
    }
}

/// Those that the loaded library was built with.
pub(super) fn available() -> Vec<Provider> {
    let is_there = |provider: &Provider| {
        let answer = match provider {
            Provider::Cpu => ep::CPU::is_available(),
            Provider::Cuda => ep::CUDA::is_available(),
            Provider::Tensorrt => ep::TensorRT::is_available(),
            Provider::Migraphx => ep::MIGraphX::is_available(),
            Provider::Openvino => ep::OpenVINO::is_available(),
            Provider::Directml => ep::DirectML::is_available(),
            Provider::Coreml => ep::CoreML::is_available(),
            Provider::Xnnpack => ep::XNNPACK::is_available(),
        };
        answer.unwrap_or(false)
    };
    Provider::iter().filter(is_there).collect()
}

/// Refuses one that the library has not.
///
/// # Errors
/// It names those that there are.
pub(super) fn check(asked: Provider, there: &[Provider]) -> Result<(), EngineError> {
    if there.contains(&asked) {
        return Ok(());
    }
    let names: Vec<String> = there.iter().map(ToString::to_string).collect();
    let reason = format!("its library has no such execution provider, but {}", names.join(", "));
    Err(failed(format!("compute with provider = \"{asked}\""), &reason))
}

/// What a session is told; nothing for the processor, which computes what others leave.
pub(super) fn dispatch(provider: Provider) -> Option<ExecutionProviderDispatch> {
    let dispatch = match provider {
        Provider::Cpu => return None,
        Provider::Cuda => ep::CUDA::default().build(),
        Provider::Tensorrt => ep::TensorRT::default().build(),
        Provider::Migraphx => ep::MIGraphX::default().build(),
        Provider::Openvino => ep::OpenVINO::default().build(),
        Provider::Directml => ep::DirectML::default().build(),
        Provider::Coreml => ep::CoreML::default().build(),
        Provider::Xnnpack => ep::XNNPACK::default().build(),
    };
    // Computed by the processor after all, figures would be of another thing than asked for.
    Some(dispatch.error_on_failure())
}

/// Whether one computes on a GPU.
pub(super) const fn is_gpu(provider: Provider) -> bool {
    match provider {
        Provider::Cuda | Provider::Tensorrt | Provider::Migraphx | Provider::Directml => true,
        Provider::Cpu | Provider::Openvino | Provider::Coreml | Provider::Xnnpack => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_the_library_lacks_is_refused_with_those_that_it_has() {
        let there = [Provider::Cpu, Provider::Xnnpack];
        assert_eq!(check(Provider::Cpu, &there), Ok(()));
        let told = check(Provider::Cuda, &there).unwrap_err().to_string();
        let expected = "ONNX Runtime cannot compute with provider = \"cuda\": its library has no such execution provider, \
                        but cpu, xnnpack";
        assert_eq!(told, expected);
        assert!(dispatch(Provider::Cpu).is_none() && dispatch(Provider::Cuda).is_some());
    }
}
