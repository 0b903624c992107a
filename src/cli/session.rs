//! Sessions: what `run` and `bench` share, from an experiment to its run; and what starts workers, for every command.

use super::{native, version};
use crate::error::Error;
use crate::experiment::resolved::Experiment;
use crate::hardware::cgroup::Limits;
use crate::hardware::memory::Memory;
use crate::hardware::root::SystemRoot;
use crate::host::Host;
use crate::host::agent::AgentHost;
use crate::host::interrupt::Interrupt;
use crate::host::local::LocalHost;
use crate::model::cache::Cache;
use crate::model::hub::SECRET_VARIABLES;
use crate::model::resolve::ResolveOptions;
use crate::model::stop::{Heard, Stop};
use crate::orchestrator::cost::Spent;
use crate::orchestrator::display;
use crate::orchestrator::event::Listener;
use crate::orchestrator::plan::{Plan, Variant};
use crate::orchestrator::sequence::Benchmark;
use crate::orchestrator::sources;
use crate::orchestrator::strategy::{Budgeted, Matrix, Recommend, Strategy};
use crate::results::annotations::Annotations;
use crate::results::record::{HostRecord, RunRecord};
use crate::results::store::Store;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::process::{Child, Command};
use tokio::runtime::{self, Runtime};

/// How to resolve sources, with progress shown unless nothing is to be shown.
pub(super) fn resolve_options(quiet: bool) -> ResolveOptions {
    let most_bytes = usable_memory().unwrap_or(u64::MAX);
    let progress = display::of_files(quiet);
    let mut options = ResolveOptions::from_environment();
    options.hub.progress = progress.clone();
    let stop = Stop::new(|| {
        let interrupt = Interrupt::listen().ok()?;
        Some(Box::new(move || interrupt.is_raised()) as Heard)
    });
    ResolveOptions { most_bytes, progress, stop, ..options }
}

/// Memory that a model may take here, bytes: a tenth is left to others.
pub(super) fn usable_memory() -> Option<u64> {
    let root = SystemRoot::default();
    let own = Memory::read(&root).total_bytes.known().copied();
    let limit = Limits::read(&root).memory_bytes.known().copied();
    own.into_iter().chain(limit).min().map(|bytes| bytes / 10 * 9)
}

fn system(action: &str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::System { action: action.to_owned(), source }
}

/// This machine as a host, and the runtime in which its workers are listened to.
pub(super) struct Workers {
    pub(super) runtime: Runtime,
    pub(super) host: LocalHost,
}

impl Workers {
    /// Ctrl-C ends the worker that runs, and what came of it says so.
    pub(super) fn start() -> Result<Self, Error> {
        Self::until(Interrupt::listen().map_err(system("listen to signals"))?)
    }

    pub(super) fn until(interrupt: Interrupt) -> Result<Self, Error> {
        let host = version::local_host(interrupt).map_err(system("find this program"))?;
        Ok(Self { runtime: runtime()?, host })
    }
}

pub(super) fn runtime() -> Result<Runtime, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("start the runtime"))
}

/// Whether workers run on another machine.
pub(super) fn is_elsewhere() -> bool {
    std::env::var(AGENT_VARIABLE).is_ok_and(|command| !command.is_empty())
}

/// Names a command whose standard input and output lead to an agent, on which a run is measured instead of on this
/// machine.
pub(super) const AGENT_VARIABLE: &str = "QUANTBENCH_AGENT";

/// The folder that a command works with.
pub(super) struct Session {
    pub(super) cache: Cache,
    quiet: bool,
}

/// A run that is about to begin or to go on.
pub(super) struct RunContext<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) plan: &'a Plan,
    pub(super) run: RunRecord,
    pub(super) resumed: bool,
    /// When the command began to find its sources.
    pub(super) began: OffsetDateTime,
    /// Where the run is kept; `None`: nowhere.
    pub(super) store: Option<Store>,
    /// Says what comes next.
    pub(super) strategy: Box<dyn Strategy>,
    /// What visits to each trial are predicted to take.
    pub(super) foreseen: Vec<Option<Spent>>,
    /// Another build whose workers compute some trials: the version of its engine, and its program.
    pub(super) other_build: Option<(String, PathBuf)>,
}

impl Session {
    pub(super) fn open(quiet: bool) -> Result<Self, Error> {
        Ok(Self { cache: Cache::open()?, quiet })
    }

    /// Finds the sources of an experiment and expands it into trials.
    pub(super) fn plan(
        &self,
        experiment: &Experiment,
        options: &ResolveOptions,
    ) -> Result<Plan, Error> {
        let maker = version::maker();
        let mut variants: Vec<Vec<Variant>> = Vec::new();
        for model in &experiment.models {
            variants.push(sources::variants_of(
                model,
                &self.cache,
                options,
                version::engine,
                &maker,
            )?);
        }
        Ok(Plan::new(experiment, variants)?)
    }

    /// The record of a run that begins now.
    pub(super) fn new_run(
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
            hosts: Vec::new(),
            requirements: experiment.requirements.clone(),
            experiment: expanded(experiment),
            trials: plan.empty_records(),
            drift_controls: Vec::new(),
            annotations: Annotations::default(),
        }
    }

    /// Measures. The run's `finished` is `None` if the user stopped it.
    pub(super) fn measure(&self, context: RunContext<'_>) -> Result<RunRecord, Error> {
        let named = std::env::var(AGENT_VARIABLE).ok().filter(|command| !command.is_empty());
        let Some(command) = named else {
            let Workers { runtime, host } = Workers::start()?;
            let host = match context.other_build.clone() {
                Some((version, program)) => host.with_other(version, program),
                None => host,
            };
            return runtime.block_on(self.measure_on(host, context));
        };
        let interrupt = Interrupt::listen().map_err(system("listen to signals"))?;
        runtime()?.block_on(async {
            let (host, _agent) = connect(&command, interrupt).await?;
            self.measure_on(host, context).await
        })
    }

    async fn measure_on(
        &self,
        mut host: impl Host,
        context: RunContext<'_>,
    ) -> Result<RunRecord, Error> {
        let environment = host.environment().await.map_err(Error::command)?;
        let host_record = HostRecord::new(host.name(), environment);
        let RunContext { experiment, plan, run, resumed, began, store, strategy, foreseen, .. } =
            context;
        // That they cannot be read is no reason not to measure.
        let past = store.as_ref().and_then(|store| store.earlier(&run.name).ok());
        let mut past = past.flatten().map_or_else(Vec::new, |earlier| earlier.trials);
        past.retain(|trial| trial.host == host_record.id);
        let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
        if let Some(store) = store {
            listeners.push(Box::new(store));
        }
        if !self.quiet {
            listeners.push(display::for_standard_error(experiment));
        }
        let benchmark = Benchmark {
            experiment,
            plan: plan.clone(),
            strategy,
            cache: &self.cache,
            files: resolve_options(self.quiet),
            host,
            listener: Box::new(listeners),
            host_record,
            run,
            resumed,
            past,
            foreseen,
            noted: began,
        };
        Ok(benchmark.run().await?)
    }
}

/// What an experiment by itself goes by.
pub(super) fn strategy(experiment: &Experiment) -> Box<dyn Strategy> {
    match (&experiment.recommend, experiment.budget) {
        (Some(asked), budget) => {
            let strategy = Recommend::new(asked.order, budget.unwrap_or(Duration::MAX));
            Box::new(strategy.adjusting(native::other_settings()))
        }
        (None, Some(budget)) => Box::new(Budgeted::new(budget)),
        (None, None) => Box::new(Matrix::default()),
    }
}

/// Starts the command of an agent and greets it. The agent ends when what is returned is dropped.
async fn connect(command: &str, interrupt: Interrupt) -> Result<(AgentHost, Child), Error> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut agent = Command::new(program);
    agent.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    for name in SECRET_VARIABLES {
        agent.env_remove(name);
    }
    // In a group of its own it does not hear the terminal's Ctrl-C.
    #[cfg(unix)]
    agent.process_group(0);
    let started = agent.spawn().and_then(|mut agent| {
        let pipes = agent.stdin.take().zip(agent.stdout.take());
        pipes.map(|pipes| (agent, pipes)).ok_or_else(|| std::io::Error::other("it has no pipes"))
    });
    let (agent, (input, output)) =
        started.map_err(system(&format!("start '{program}', which {AGENT_VARIABLE} names")))?;
    let host = AgentHost::connect("agent", output, input, interrupt).await;
    Ok((host.map_err(Error::command)?, agent))
}

/// An experiment as it is stored with its run: plain data with string keys, which always serializes.
pub(super) fn expanded(experiment: &Experiment) -> serde_json::Value {
    serde_json::to_value(experiment).unwrap_or_default()
}
