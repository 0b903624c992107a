//! Devices: what llama.cpp can compute on.

use super::backend::Backend;
use super::text;
use crate::engine::Device;
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

fn kind(number: sys::ggml_backend_dev_type) -> &'static str {
    match number {
        sys::GGML_BACKEND_DEVICE_TYPE_CPU => "CPU",
        sys::GGML_BACKEND_DEVICE_TYPE_GPU => "GPU",
        sys::GGML_BACKEND_DEVICE_TYPE_IGPU => "integrated GPU",
        _ => "accelerator",
    }
}
