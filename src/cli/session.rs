//! Sessions: what `run` and `bench` share, from an experiment to its run.

use super::version;
use crate::error::Error;
use crate::experiment::resolved::Experiment;
use crate::host::Host;
use crate::host::agent::AgentHost;
use crate::host::interrupt::Interrupt;
use crate::model::cache::Cache;
use crate::model::hub::SECRET_VARIABLES;
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::display::{self, Verbosity};
use crate::orchestrator::event::Listener;
use crate::orchestrator::plan::{Plan, Variant};
use crate::orchestrator::sequence::Benchmark;
use crate::orchestrator::sources;
use crate::orchestrator::store_writer::StoreWriter;
use crate::orchestrator::strategy::Matrix;
use crate::results::record::{HostRecord, RunRecord};
use crate::results::store::Store;
use std::process::Stdio;
use time::OffsetDateTime;
use tokio::process::{Child, Command};

/// Names a command whose standard input and output lead to an agent, on which a run is measured instead of on this
/// machine.
const AGENT_VARIABLE: &str = "QUANTBENCH_AGENT";

/// The folder that a command works with.
pub(super) struct Session {
    pub(super) cache: Cache,
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
        Ok(Self { cache: Cache::open()?, verbosity })
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
            hosts: Vec::new(),
            requirements: experiment.requirements.clone(),
            experiment: expanded(experiment),
            trials: plan.empty_records(),
            drift_controls: Vec::new(),
        }
    }

    /// Measures. The run's `finished` is `None` if the user stopped it.
    pub(super) fn measure(&self, context: RunContext<'_>) -> Result<RunRecord, Error> {
        let system = |action| move |source| Error::System { action, source };
        let interrupt = Interrupt::listen().map_err(system("listen to signals"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("start the runtime"))?;
        runtime.block_on(async {
            match std::env::var(AGENT_VARIABLE).ok().filter(|command| !command.is_empty()) {
                Some(command) => {
                    let (host, _agent) = connect(&command, interrupt).await?;
                    self.measure_on(host, context).await
                }
                None => {
                    let host = version::local_host(interrupt);
                    self.measure_on(host.map_err(system("find this program"))?, context).await
                }
            }
        })
    }

    async fn measure_on(
        &self,
        mut host: impl Host,
        context: RunContext<'_>,
    ) -> Result<RunRecord, Error> {
        let environment = host.environment().await.map_err(Error::command)?;
        let host_record = HostRecord::new(host.name(), environment);
        let RunContext { experiment, plan, run, resumed, store } = context;
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
            host,
            listener: Box::new(listeners),
            host_record,
            run,
            resumed,
            noted: OffsetDateTime::now_utc(),
        };
        Ok(benchmark.run().await?)
    }
}

/// Starts the command of an agent and greets it. The agent ends when what is returned is dropped.
async fn connect(command: &str, interrupt: Interrupt) -> Result<(AgentHost, Child), Error> {
    let mut words = command.split_whitespace();
    let mut agent = Command::new(words.next().unwrap_or_default());
    agent.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    SECRET_VARIABLES.iter().for_each(|name| {
        agent.env_remove(name);
    });
    // In a group of its own it does not hear the terminal's Ctrl-C.
    #[cfg(unix)]
    agent.process_group(0);
    let started = agent.spawn().and_then(|mut agent| {
        let pipes = agent.stdin.take().zip(agent.stdout.take());
        pipes.map(|pipes| (agent, pipes)).ok_or_else(|| std::io::Error::other("it has no pipes"))
    });
    let failed = |source| Error::System { action: "start the agent", source };
    let (agent, (input, output)) = started.map_err(failed)?;
    let host = AgentHost::connect("agent", output, input, interrupt).await;
    Ok((host.map_err(Error::command)?, agent))
}

/// An experiment as it is stored with its run: plain data with string keys, which always serializes.
pub(super) fn expanded(experiment: &Experiment) -> serde_json::Value {
    serde_json::to_value(experiment).unwrap_or_default()
}
