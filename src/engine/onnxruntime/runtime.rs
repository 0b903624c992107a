//! The library, loaded: [`Runtime`] is the proof.

use super::files::folder_of;
use super::library::{self, Library, LibraryError};
use super::model::OnnxModel;
use super::{failed, graph, providers, settings};
use crate::engine::error::EngineError;
use crate::engine::llama::backend;
use crate::engine::{Device, Engine, LoadExtent, Model};
use crate::experiment::settings::{Provider, Settings};
use crate::model::engine_name::EngineName;
use ort::environment::Environment;
use ort::logging::LogLevel;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use sysinfo::System;

/// The one environment of a process. It is never dropped: its threads end with the process.
static LOADED: OnceLock<Result<Environment, EngineError>> = OnceLock::new();

/// ONNX Runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(super) environment: Environment,
    library: Library,
}

impl Runtime {
    /// Finds and loads the library, once per process.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn start() -> Result<Self, EngineError> {
        let library = library::find()?;
        let environment = LOADED.get_or_init(|| load(&library)).clone()?;
        Ok(Self { environment, library })
    }
}

fn load(library: &Library) -> Result<Environment, EngineError> {
    let path = &library.path;
    // What would be loaded is looked at first: loading runs it.
    library.version()?;
    let other = |reason: String| LibraryError::Other { path: path.clone(), reason };
    let loaded = ort::init_from(path).map_err(|error| other(error.to_string()))?;
    let environment = loaded.with_telemetry(false).build();
    let environment = environment.map_err(|error| failed("start", &error))?;
    // Advice about graphs; what is wrong comes as an error.
    environment.set_log_level(LogLevel::Error);
    Ok(environment)
}

fn device(provider: Provider) -> Device {
    let is_cpu = provider == Provider::Cpu;
    let memory = || {
        let mut system = System::new().ok()?;
        system.refresh_memory();
        Some((system.total_memory(), system.available_memory()))
    };
    let (total_bytes, free_bytes) = is_cpu.then(memory).flatten().unwrap_or_default();
    let kind = match provider {
        Provider::Cpu => "CPU",
        it if providers::is_gpu(it) => "GPU",
        _ => "accelerator",
    };
    Device {
        name: provider.to_string(),
        description: providers::name(provider).to_owned(),
        kind: kind.to_owned(),
        backend: if is_cpu { "CPU".to_owned() } else { provider.to_string() },
        total_bytes,
        free_bytes,
    }
}

impl Engine for Runtime {
    fn name(&self) -> EngineName {
        EngineName::OnnxRuntime
    }

    fn version(&self) -> String {
        self.library.version().unwrap_or_default()
    }

    /// One for each execution provider. What memory those on other devices have, the library does not tell.
    fn devices(&self) -> Vec<Device> {
        providers::available().into_iter().map(device).collect()
    }

    /// What is asked for, and the processor, which computes what that leaves.
    fn devices_for(&self, settings: &Settings) -> Vec<Device> {
        let asked = Some(settings.provider).filter(|asked| *asked != Provider::Cpu);
        asked.into_iter().chain([Provider::Cpu]).map(device).collect()
    }

    fn uses_gpu(&self, settings: &Settings) -> bool {
        providers::is_gpu(settings.provider)
    }

    /// A session has one pool of threads, and its evaluations come one after the other.
    fn divides_threads(&self, _settings: &Settings) -> bool {
        false
    }

    /// As many as llama.cpp takes, so that both are measured alike.
    fn default_threads(&self) -> u32 {
        backend::default_threads()
    }

    fn files(&self, path: &Path) -> Vec<PathBuf> {
        let weights = graph::files_of(path).unwrap_or_default();
        let tokenizer = folder_of(path).join("tokenizer.json");
        let tokenizer = Some(tokenizer).filter(|it| it.is_file());
        std::iter::once(path.to_owned()).chain(weights).chain(tokenizer).collect()
    }

    fn load(
        &self,
        path: &Path,
        settings: &Settings,
        extent: LoadExtent,
    ) -> Result<Box<dyn Model>, EngineError> {
        settings::check(settings)?;
        providers::check(settings.provider, &providers::available())?;
        match extent {
            LoadExtent::Everything | LoadExtent::MemoryPlan { .. } => {
                let is_plan = extent != LoadExtent::Everything;
                Ok(Box::new(OnnxModel::load(self, path, settings, is_plan)?))
            }
            LoadExtent::Vocabulary | LoadExtent::Editable | LoadExtent::Overwritable => {
                Err(EngineError::Unsupported("load part of a model or change its weights"))
            }
        }
    }
}
