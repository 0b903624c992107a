//! Devices: what llama.cpp can compute on.

use super::backend::Backend;
use super::text;
use crate::engine::Device;
use crate::engine::error::EngineError;
use crate::experiment::settings::{Settings, SplitMode};
use crate::units::count;
use llama_cpp_sys_2 as sys;

/// All devices that this build of llama.cpp finds on this machine.
pub(super) fn list(_backend: Backend) -> Vec<Device> {
    // SAFETY: back ends are loaded; indices stay below the count; every pointer is checked by `text`
    // before it is read and points to constants of the back end.
    (0..unsafe { sys::ggml_backend_dev_count() })
        .filter_map(|index| {
            // SAFETY: the index is below the count.
            let device = unsafe { sys::ggml_backend_dev_get(index) };
            if device.is_null() {
                return None;
            }
            let (mut free, mut total) = (0, 0);
            // SAFETY: the device is valid, both targets outlive the call.
            unsafe { sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total) };
            // SAFETY: the device is valid; a device belongs to a registered back end.
            let registry = unsafe { sys::ggml_backend_dev_backend_reg(device) };
            Some(Device {
                // SAFETY: the device is valid; names are constants of the back end.
                name: text(unsafe { sys::ggml_backend_dev_name(device) }),
                // SAFETY: as above.
                description: text(unsafe { sys::ggml_backend_dev_description(device) }),
                // SAFETY: as above.
                kind: kind(unsafe { sys::ggml_backend_dev_type(device) }).to_owned(),
                backend: if registry.is_null() {
                    String::new()
                } else {
                    // SAFETY: not null.
                    text(unsafe { sys::ggml_backend_reg_name(registry) })
                },
                total_bytes: total as u64,
                free_bytes: free as u64,
            })
        })
        .collect()
}

/// What each device gets, as llama.cpp wants to be told; empty: as it divides by itself.
///
/// # Errors
/// [`EngineError::Division`]: the GPUs here cannot be used so.
pub(super) fn shares(backend: Backend, settings: &Settings) -> Result<Vec<f32>, EngineError> {
    let shares = settings.tensor_split.shares();
    let is_default = shares.is_empty()
        && settings.main_gpu == 0
        && !matches!(settings.split_mode, SplitMode::Row | SplitMode::Tensor);
    if is_default || settings.gpu_layers == 0 {
        return Ok(Vec::new());
    }
    let gpus = list(backend).into_iter().filter(|it| it.kind == "GPU").count();
    let mode = format!("split_mode = \"{}\"", settings.split_mode);
    let none = "there is no GPU that llama.cpp can use";
    if usize::try_from(settings.main_gpu).is_ok_and(|main| main > 0 && main >= gpus) {
        let setting = format!("main_gpu = {}", settings.main_gpu);
        let found = count(gpus, "GPU");
        let reason = match gpus {
            0 => none.to_owned(),
            _ => format!("llama.cpp finds {found}, which are counted from 0"),
        };
        return Err(EngineError::Division { setting, reason });
    }
    match settings.split_mode {
        SplitMode::Row | SplitMode::Tensor if gpus == 0 => {
            return Err(EngineError::Division { setting: mode, reason: none.to_owned() });
        }
        SplitMode::Row if !has_split_buffers() => {
            let reason = "this version of llama.cpp has no row split for these GPUs; \"tensor\" takes its place";
            return Err(EngineError::Division { setting: mode, reason: reason.to_owned() });
        }
        _ => {}
    }
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    if shares.len() != gpus {
        let setting = format!("tensor_split = \"{}\"", settings.tensor_split);
        let reason = format!(
            "it has {}, and llama.cpp finds {}",
            count(shares.len(), "share"),
            count(gpus, "GPU")
        );
        return Err(EngineError::Division { setting, reason });
    }
    // SAFETY: takes nothing.
    let room = unsafe { sys::llama_max_devices() };
    #[expect(clippy::cast_precision_loss, reason = "shares are at most a million")]
    let mut all: Vec<f32> = shares.iter().map(|&share| share as f32).collect();
    all.resize(room.max(all.len()), 0.0);
    Ok(all)
}

/// Whether the back end of a GPU divides matrices by rows.
fn has_split_buffers() -> bool {
    // SAFETY: back ends are loaded; indices stay below the count; a device is checked before it is asked, and a
    // device belongs to a registered back end; the name is terminated.
    (0..unsafe { sys::ggml_backend_dev_count() }).any(|index| unsafe {
        let device = sys::ggml_backend_dev_get(index);
        if device.is_null()
            || sys::ggml_backend_dev_type(device) != sys::GGML_BACKEND_DEVICE_TYPE_GPU
        {
            return false;
        }
        let registry = sys::ggml_backend_dev_backend_reg(device);
        let name = c"ggml_backend_split_buffer_type";
        !registry.is_null()
            && !sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr()).is_null()
    })
}

fn kind(number: sys::ggml_backend_dev_type) -> &'static str {
    match number {
        sys::GGML_BACKEND_DEVICE_TYPE_CPU => "CPU",
        sys::GGML_BACKEND_DEVICE_TYPE_GPU => "GPU",
        sys::GGML_BACKEND_DEVICE_TYPE_IGPU => "integrated GPU",
        _ => "accelerator",
    }
}
