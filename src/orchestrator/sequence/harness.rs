//! Harnesses: an experiment run through the sequence with scripted workers, in words that the
//! tests of the sequence read well in.

use super::*;
use crate::causes::Problem;
use crate::experiment::requirements::Requirements;
use crate::experiment::resolved::ModelPlan;
use crate::experiment::workloads::{LatencyPlan, QualityPlan, Sampling, TestPrompt, Workloads};
use crate::model::artifact::Artifact;
use crate::model::cache::VariantKey;
use crate::model::engine_name::EngineIdentity;
use crate::model::quantization::Quantization;
use crate::model::source::Source;
use crate::orchestrator::plan::{Origin, Variant};
use crate::orchestrator::scripted::{Fault, ScriptedHost, Stage, file_named};
use crate::orchestrator::strategy::Matrix;
use crate::prompt::choice::FormatChoice;
use crate::results::annotations::Annotations;
use crate::results::record::{Environment, HostRecord};
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use tempfile::TempDir;

/// An experiment under test, its folder, and what came of it.
pub(super) struct Harness {
    pub(super) experiment: Experiment,
    pub(super) folder: TempDir,
    pub(super) stored: Option<RunRecord>,
}

/// What one run of a harness showed.
pub(super) struct Shown {
    pub(super) run: RunRecord,
    pub(super) jobs: Vec<String>,
    pub(super) events: Vec<String>,
}

/// Notes events by name.
struct Notes(Rc<RefCell<Vec<String>>>);

impl Listener for Notes {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        let note = match event {
            BenchmarkEvent::VariantReady { name, made, .. } => {
                format!("{name} {}", if *made { "made" } else { "found" })
            }
            BenchmarkEvent::Paused(length) => format!("pause {} s", length.as_secs()),
            BenchmarkEvent::TrialChanged { position, run }
                if run.trials[*position].failure.is_some() =>
            {
                format!("{} failed", run.trials[*position].label)
            }
            _ => return Ok(()),
        };
        self.0.borrow_mut().push(note);
        Ok(())
    }
}

fn prompt(id: &str) -> TestPrompt {
    TestPrompt { id: id.to_owned(), kind: String::new(), text: format!("say {id}") }
}

pub(super) fn model(name: &str, quantizations: &[&str]) -> ModelPlan {
    let quantizations = quantizations.iter().map(|it| it.parse().unwrap()).collect();
    ModelPlan { quantizations, ..ModelPlan::new(name.to_owned(), Source::Demo) }
}

impl Harness {
    /// One model in these quantizations, `tg4` twice per visit, two rounds, nothing else.
    pub(super) fn of(quantizations: &[&str]) -> Self {
        let experiment = Experiment {
            name: "harness".to_owned(),
            models: vec![model("m", quantizations)],
            workloads: Workloads { speed: vec!["tg4".parse().unwrap()], ..Workloads::default() },
            rounds: 2,
            repetitions: 2,
            ..Experiment::default()
        };
        Self { experiment, folder: tempfile::tempdir().unwrap(), stored: None }
    }

    pub(super) fn with_quality(mut self) -> Self {
        self.experiment.workloads.quality = Some(QualityPlan {
            text: "a text".to_owned(),
            domains: Vec::new(),
            answers: None,
            source: "demo".to_owned(),
            context: 512,
            chunks: None,
            divergence: true,
            precision: None,
            reference_budget_bytes: 1 << 30,
        });
        self
    }

    pub(super) fn with_prompts(mut self, ids: &[&str]) -> Self {
        self.experiment.workloads.latency = Some(LatencyPlan {
            prompts: ids.iter().map(|id| prompt(id)).collect(),
            source: "demo".to_owned(),
            max_tokens: 8,
            sampling: Sampling::default(),
            format: FormatChoice::None,
            chat_template_kwargs: serde_json::Map::new(),
            prompt_tokens: None,
            parallel: 0,
        });
        self
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut Experiment)) -> Self {
        change(&mut self.experiment);
        self
    }

    /// Variants as `sources.rs` would find them: F16 is the source itself, the others are made.
    pub(super) fn variants(&self) -> Vec<Vec<Variant>> {
        let source = self.folder.path().join("source-F16.gguf");
        fs::write(&source, file_named("F16")).unwrap();
        let variant = |model: &str, quantization: &Quantization| Variant {
            repeats: None,
            model: model.to_owned(),
            engine: EngineIdentity::default(),
            quantization: *quantization,
            label: quantization.to_string(),
            calibration: None,
            projector: None,
            adapters: Vec::new(),
            origin: if quantization.to_string() == "F16" {
                Origin::Ready(Artifact {
                    path: source.clone(),
                    checksum: format!("of {model}"),
                    file_bytes: 3,
                    quantize_seconds: None,
                    kept: Vec::new(),
                    deleted: false,
                })
            } else {
                Origin::Make {
                    input: source.clone(),
                    remote: None,
                    template: None,
                    key: VariantKey {
                        source_checksum: format!("of {model}"),
                        quantization: *quantization,
                        maker: "scripted".to_owned(),
                        calibration: None,
                    },
                    file_type: quantization.to_make().unwrap(),
                    allow_requantize: false,
                    expected_bytes: 10,
                }
            },
        };
        let variants_of = |model: &ModelPlan| {
            model.quantizations.iter().map(|it| variant(&model.name, it)).collect()
        };
        self.experiment.models.iter().map(variants_of).collect()
    }

    pub(super) fn plan(&self) -> Plan {
        Plan::new(&self.experiment, self.variants()).unwrap()
    }

    pub(super) fn run(&mut self, script: impl Fn(&str) -> Fault + 'static) -> Shown {
        self.run_by(Box::new(Matrix::default()), script)
    }

    /// Runs it as a strategy says, which nothing but what is known may tell what was done before.
    pub(super) fn run_by(
        &mut self,
        strategy: Box<dyn Strategy>,
        script: impl Fn(&str) -> Fault + 'static,
    ) -> Shown {
        let (host, stage) = ScriptedHost::new(script);
        self.run_with(strategy, host, &stage)
    }

    /// The record of a run that begins.
    pub(super) fn new_run(&self, plan: &Plan, started: OffsetDateTime) -> RunRecord {
        RunRecord {
            id: "run".to_owned(),
            name: self.experiment.name.clone(),
            started,
            finished: None,
            active_seconds: None,
            hosts: Vec::new(),
            requirements: Requirements::default(),
            experiment: serde_json::to_value(&self.experiment).unwrap(),
            trials: plan.empty_records(),
            drift_controls: Vec::new(),
            annotations: Annotations::default(),
        }
    }

    fn run_with(
        &mut self,
        strategy: Box<dyn Strategy>,
        host: ScriptedHost,
        stage: &Stage,
    ) -> Shown {
        let mut plan = self.plan();
        let cache = Cache::at(&self.folder.path().join("cache")).unwrap();
        let notes = Rc::new(RefCell::new(Vec::new()));
        let resumed = self.stored.is_some();
        let run = self.stored.take().unwrap_or_else(|| self.new_run(&plan, stage.now()));
        plan.adopt(&run.trials);
        let benchmark = Benchmark {
            experiment: &self.experiment,
            plan,
            strategy,
            cache: &cache,
            files: crate::model::resolve::ResolveOptions::from_environment(),
            host,
            host_record: HostRecord {
                environment: Environment { memory_bytes: 4 << 30, ..Environment::default() },
                ..HostRecord::default()
            },
            listener: Box::new(Notes(Rc::clone(&notes))),
            run,
            resumed,
            past: Vec::new(),
            foreseen: Vec::new(),
            noted: stage.now(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let run = runtime.block_on(benchmark.run()).unwrap();
        self.stored = Some(run.clone());
        let events = notes.borrow().clone();
        Shown { run, jobs: stage.jobs(), events }
    }
}

pub(super) fn nothing_goes_wrong(_: &str) -> Fault {
    Fault::None
}

/// The nth worker (from 1) whose job is this line meets this fault.
pub(super) fn nth(nth: usize, line: &'static str, fault: Fault) -> impl Fn(&str) -> Fault {
    let seen = RefCell::new(0);
    move |job| {
        if job == line {
            *seen.borrow_mut() += 1;
            if *seen.borrow() == nth {
                return fault.clone();
            }
        }
        Fault::None
    }
}

pub(super) fn failure(run: &RunRecord, label: &str) -> String {
    let trial = run.trials.iter().find(|trial| trial.label == label).unwrap();
    let failure = trial.failure.as_ref().unwrap();
    format!("{}: {}", failure.phase, failure.reason)
}
