//! Sessions: what `run` and `bench` share, from an experiment to its run; and what starts workers, for every command.

use super::version;
use crate::error::Error;
use crate::experiment::resolved::Experiment;
use crate::hardware::probe::Machine;
use crate::model::cache::Cache;
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::display::{self, Verbosity};
use crate::orchestrator::environment::{environment, memory_bytes};
use crate::orchestrator::event::Listener;
use crate::orchestrator::interrupt::Interrupt;
use crate::orchestrator::plan::{Plan, Variant};
use crate::orchestrator::process::ProcessLauncher;
use crate::orchestrator::sequence::Benchmark;
use crate::orchestrator::sources;
use crate::orchestrator::store_writer::StoreWriter;
use crate::orchestrator::strategy::Matrix;
use crate::results::record::RunRecord;
use crate::results::store::Store;
use time::OffsetDateTime;
use tokio::runtime::{self, Runtime};

/// How to resolve sources, with progress shown unless nothing is to be shown.
pub(super) fn resolve_options(verbosity: Verbosity) -> ResolveOptions {
    ResolveOptions { progress: display::of_files(verbosity), ..ResolveOptions::from_environment() }
}

/// What starts workers, and the runtime in which they are listened to.
pub(super) struct Workers {
    pub(super) runtime: Runtime,
    pub(super) launcher: ProcessLauncher,
}

impl Workers {
    /// Ctrl-C ends the worker that runs, and what came of it says so.
    pub(super) fn start() -> Result<Self, Error> {
        let interrupt = Interrupt::listen();
        Self::until(
            interrupt.map_err(|source| Error::System { action: "listen to signals", source })?,
        )
    }

    pub(super) fn until(interrupt: Interrupt) -> Result<Self, Error> {
        let system = |action| move |source| Error::System { action, source };
        let launcher = ProcessLauncher::new(interrupt).map_err(system("find this program"))?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { runtime: runtime.map_err(system("start the runtime"))?, launcher })
    }
}

/// The machine and the folder that a command works with.
pub(super) struct Session {
    pub(super) cache: Cache,
    machine: Machine,
    verbosity: Verbosity,
}

/// A run that is about to begin or to go on.
pub(super) struct RunContext<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) plan: &'a Plan,
    pub(super) run: RunRecord,
    pub(super) resumed: bool,
    /// Where the run is kept; `None`: nowhere.
    pub(super) store: Option<Store>,
}

impl Session {
    pub(super) fn open(verbosity: Verbosity) -> Result<Self, Error> {
        Ok(Self { cache: Cache::open()?, machine: Machine::probe(), verbosity })
    }

    /// Finds the sources of an experiment and expands it into trials.
    pub(super) fn plan(
        &self,
        experiment: &Experiment,
        options: &ResolveOptions,
    ) -> Result<Plan, Error> {
        let (engine, maker) = (version::engine(), version::maker());
        let mut variants: Vec<Vec<Variant>> = Vec::new();
        for model in &experiment.models {
            variants.push(sources::variants_of(model, &self.cache, options, &engine, &maker)?);
        }
        Ok(Plan::new(experiment, variants)?)
    }

    /// The record of a run that begins now.
    pub(super) fn new_run(
        &self,
        experiment: &Experiment,
        plan: &Plan,
        id: String,
        started: OffsetDateTime,
    ) -> RunRecord {
        RunRecord {
            id,
            name: experiment.name.clone(),
            started,
            finished: None,
            active_seconds: None,
            environment: environment(&self.machine, &version::build()),
            requirements: experiment.requirements.clone(),
            experiment: expanded(experiment),
            trials: plan.empty_records(),
            drift_controls: Vec::new(),
        }
    }

    /// Measures. The run's `finished` is `None` if the user stopped it.
    pub(super) fn measure(&self, context: RunContext<'_>) -> Result<RunRecord, Error> {
        let RunContext { experiment, plan, run, resumed, store } = context;
        let Workers { runtime, launcher } = Workers::start()?;
        let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
        if let Some(store) = store {
            listeners.push(Box::new(StoreWriter::new(store)));
        }
        listeners.extend(display::for_standard_error(experiment, self.verbosity));
        let benchmark = Benchmark {
            experiment,
            plan: plan.clone(),
            strategy: Box::new(Matrix::default()),
            cache: &self.cache,
            launcher,
            listener: Box::new(listeners),
            machine_bytes: memory_bytes(&self.machine),
            run,
            resumed,
            noted: OffsetDateTime::now_utc(),
        };
        Ok(runtime.block_on(benchmark.run())?)
    }
}

/// An experiment as it is stored with its run: plain data with string keys, which always serializes.
pub(super) fn expanded(experiment: &Experiment) -> serde_json::Value {
    serde_json::to_value(experiment).unwrap_or_default()
}
