//! Start of llama.cpp: [`Backend`] is the proof that it happened.

use super::model::Model;
use super::{devices, log, shim, text};
use crate::engine::error::EngineError;
use crate::engine::{self, Device, Engine, LoadExtent};
use crate::experiment::settings::Settings;
use crate::model::engine_name::EngineName;
use llama_cpp_sys_2 as sys;
use std::path::Path;
use std::sync::OnceLock;

/// Proof that llama.cpp is initialised; whatever needs that takes it.
///
/// It is never freed: freeing only matters to MPI, and a worker ends with its process.
#[derive(Debug, Clone, Copy)]
pub struct Backend(());

impl Backend {
    /// Initialises llama.cpp, once per process, and loads its back ends.
    pub fn initialise() -> Self {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            log::install();
            load_backend_modules();
            // SAFETY: called once, before any other use of llama.cpp.
            unsafe { sys::llama_backend_init() };
        });
        Self(())
    }

    /// The same in a process whose standard error a person reads: what llama.cpp logs is not shown.
    #[must_use]
    pub fn silent() -> Self {
        log::keep_silent();
        Self::initialise()
    }
}

impl Engine for Backend {
    fn name(&self) -> EngineName {
        EngineName::LlamaCpp
    }

    fn version(&self) -> String {
        // SAFETY: returns a string constant.
        match text(unsafe { sys::llama_version() }) {
            version if version.is_empty() => "unknown".to_owned(),
            version => version,
        }
    }

    fn devices(&self) -> Vec<Device> {
        devices::list(*self)
    }

    fn default_threads(&self) -> u32 {
        default_threads()
    }

    fn load(
        &self,
        path: &Path,
        settings: &Settings,
        extent: LoadExtent,
    ) -> Result<Box<dyn engine::Model>, EngineError> {
        Ok(Box::new(Model::load(*self, path, settings, extent)?))
    }
}

/// The number that llama-bench uses when none is given, or as many as this process has processors
/// (affinity) and processor time (control group) for, if that is less: an engine's threads wait for
/// each other, so one without a processor holds up all.
pub fn default_threads() -> u32 {
    // SAFETY: takes and keeps nothing.
    let threads = unsafe { shim::quantbench_default_threads() };
    let threads = u32::try_from(threads).unwrap_or(1);
    let allowed = std::thread::available_parallelism().map_or(usize::MAX, Into::into);
    threads.min(u32::try_from(allowed).unwrap_or(u32::MAX)).max(1)
}

/// In the portable build back ends are modules: in `backends/` beside the executable, where packages put it, beside the
/// executable, or where they were built (the tests' executables are one folder deeper).
#[cfg(feature = "portable")]
fn load_backend_modules() {
    use std::ffi::CString;
    let Ok(executable) = std::env::current_exe() else { return };
    let built = concat!(env!("QUANTBENCH_BUILT_DIR"), "/backends");
    let folders = ["backends", "../lib/quantbench/backends", "", built, &format!("../{built}")]
        .map(|folder| executable.with_file_name("").join(folder));
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        if let Some(folder) = folder.to_str().and_then(|folder| CString::new(folder).ok()) {
            // SAFETY: a terminated path that outlives the call.
            unsafe { sys::ggml_backend_load_all_from_path(folder.as_ptr()) };
        }
        // SAFETY: reads a counter.
        if unsafe { sys::ggml_backend_reg_count() } > 0 {
            return;
        }
    }
}

#[cfg(not(feature = "portable"))]
fn load_backend_modules() {}
