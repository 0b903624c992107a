//! The scripted double: workers that say what a test wrote down, in a time that a test sets.
//!
//! A scripted worker knows its variant from the content of the file it is given (its "weights" are
//! its name), so a test sees which file the sequence really handed out. Every job is noted as one
//! line that says what was asked for; a test of the sequence compares these lines.

use crate::causes::Problem;
use crate::hardware::monitor::Watched;
use crate::hardware::usage::Usage;
use crate::host::interrupt::{Interrupt, Raise};
use crate::host::{Exit, Host, HostError, Worker, WorkerMessage};
use crate::results::record::{Environment, LOCAL};
use crate::worker::protocol::{Event, Job, Phase};
use crate::workload::jobs::VisitJob;
use crate::workload::measured::{
    Divergence, LoadSample, MeanWithError, ModelFacts, Quality, Response, SpeedSample,
};
use crate::workload::quality::{QualityJob, ReferenceUse};
use crate::workload::speed::SpeedJob;
use crate::workload::tasks::TaskJob;
use crate::workload::tasks::record::{ScoreRecord, TaskRecord};
use crate::workload::{Measurement, WorkloadJob};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use time::OffsetDateTime;

/// What a test makes of one job.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// The worker does its job.
    None,
    /// It never starts.
    NotStarted,
    /// It does its job, but after so many events this comes instead of the next.
    After(usize, WorkerMessage),
}

/// What a test sees of the scripted world.
#[derive(Clone)]
pub(super) struct Stage {
    jobs: Rc<RefCell<Vec<String>>>,
    now: Rc<Cell<OffsetDateTime>>,
    interrupt: Interrupt,
    raise: Raise,
}

/// Decides from the line of a job what becomes of it.
type Script = Box<dyn Fn(&str) -> Fault>;

pub(super) struct ScriptedHost {
    stage: Stage,
    script: Script,
}

impl ScriptedHost {
    /// Workers that do their jobs unless the script says otherwise.
    pub(super) fn new(script: impl Fn(&str) -> Fault + 'static) -> (Self, Stage) {
        let (interrupt, raise) = Interrupt::new();
        let stage = Stage {
            jobs: Rc::default(),
            now: Rc::new(Cell::new(OffsetDateTime::UNIX_EPOCH)),
            interrupt,
            raise,
        };
        (Self { stage: stage.clone(), script: Box::new(script) }, stage)
    }
}

impl Stage {
    /// The jobs so far, one line each.
    pub(super) fn jobs(&self) -> Vec<String> {
        self.jobs.borrow().clone()
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.now.get()
    }
}

impl Host for ScriptedHost {
    type Worker = ScriptedWorker;

    fn name(&self) -> &str {
        LOCAL
    }

    async fn environment(&mut self) -> Result<Environment, HostError> {
        Ok(Environment::default())
    }

    async fn start(&mut self, job: &Job) -> Result<ScriptedWorker, HostError> {
        let line = describe(job);
        let fault = (self.script)(&line);
        self.stage.jobs.borrow_mut().push(line);
        let mut script: VecDeque<WorkerMessage> =
            play(job).into_iter().map(|event| WorkerMessage::Event(Box::new(event))).collect();
        match fault {
            Fault::None => {}
            Fault::NotStarted => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(Problem::because("cannot start the worker worker", source).into());
            }
            Fault::After(events, said) => {
                script.truncate(events);
                script.push_back(said);
            }
        }
        Ok(ScriptedWorker { script, stage: self.stage.clone(), phases: vec![Phase::Start] })
    }

    fn now(&self) -> OffsetDateTime {
        self.stage.now.get()
    }

    async fn pause(&mut self, length: Duration) {
        self.stage.now.set(self.stage.now.get() + length);
    }

    fn interrupt(&self) -> &Interrupt {
        &self.stage.interrupt
    }
}

/// Says what its script says; each event takes one second.
pub(super) struct ScriptedWorker {
    script: VecDeque<WorkerMessage>,
    stage: Stage,
    phases: Vec<Phase>,
}

impl Worker for ScriptedWorker {
    async fn next(&mut self, limit: Duration) -> WorkerMessage {
        let said = self.script.pop_front().unwrap_or(WorkerMessage::Ended(Exit::default()));
        let length = if said == WorkerMessage::Silence { limit } else { Duration::from_secs(1) };
        self.stage.now.set(self.stage.now.get() + length);
        if said == WorkerMessage::Interrupted {
            self.stage.raise.raise();
        }
        if let WorkerMessage::Event(event) = &said
            && let Event::Phase(phase) = &**event
            && self.phases.last() != Some(phase)
        {
            self.phases.push(phase.clone());
        }
        said
    }

    /// Every phase used 1 GiB.
    async fn usage(&mut self) -> Watched<Phase> {
        let usage = Usage { max_rss_bytes: Some(1 << 30), ..Usage::default() };
        let phases = self.phases.drain(..).map(|phase| (phase, usage.clone()));
        Watched { phases: phases.collect(), ..Watched::default() }
    }

    async fn kill(&mut self) -> Exit {
        Exit { signal: Some(9), ..Exit::default() }
    }
}

/// One line that says what a job asks for.
fn describe(job: &Job) -> String {
    match job {
        Job::Quantize(job) => format!("make {}", job.file_type),
        Job::Import(_) => "import".to_owned(),
        Job::ExportOnnx(job) => format!("export {}", job.target),
        Job::Mix(_) | Job::ApplyRecipe(_) => "mix".to_owned(),
        Job::PredictMemory(_) | Job::PlanTypes(_) | Job::Devices { .. } => "predict".to_owned(),
        Job::Calibrate(_) => "calibrate".to_owned(),
        Job::Visit(visit) => describe_visit(visit),
    }
}

fn describe_visit(visit: &VisitJob) -> String {
    let mut words = vec![weights(visit)];
    if visit.settings != crate::experiment::settings::Settings::default() {
        words.push(format!("({})", visit.settings));
    }
    if visit.cold_load {
        words.push("cold".to_owned());
    }
    for workload in &visit.workloads {
        words.push(match workload {
            WorkloadJob::Speed(SpeedJob { test, repetitions, .. }) => {
                format!("{test}×{repetitions}")
            }
            WorkloadJob::Latency(latency) => {
                let ids: Vec<&str> =
                    latency.prompts.iter().map(|prompt| prompt.id.as_str()).collect();
                format!("prompts[{}]", ids.join(" "))
            }
            WorkloadJob::Quality(quality) => {
                let part =
                    quality.part.as_ref().map(|part| format!(" {}..{}", part.from, part.until));
                let part = part.unwrap_or_default();
                match &quality.reference {
                    ReferenceUse::None => format!("quality{part}"),
                    ReferenceUse::Write { .. } => format!("quality{part}, writes"),
                    ReferenceUse::Read { file } => {
                        let read = fs::read_to_string(&file.path).unwrap_or_default();
                        format!("quality{part}, reads {read}")
                    }
                }
            }
            other => other.workload().phase().to_string(),
        });
    }
    words.join(" ")
}

/// A GGUF without weights that is named so.
pub(super) fn file_named(name: &str) -> Vec<u8> {
    const KEY: &str = "general.name";
    const TEXT: u32 = 8;
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend((KEY.len() as u64).to_le_bytes());
    bytes.extend(KEY.as_bytes());
    bytes.extend(TEXT.to_le_bytes());
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes
}

/// The name in such a file.
fn weights(visit: &VisitJob) -> String {
    let bytes = fs::read(&visit.model.path).unwrap_or_default();
    let before = file_named("").len();
    String::from_utf8_lossy(bytes.get(before..).unwrap_or(b"no file")).into_owned()
}

/// Everything that a worker which does its job reports.
fn play(job: &Job) -> Vec<Event> {
    let mut events = vec![Event::Phase(Phase::Start)];
    match job {
        Job::Quantize(job) => {
            events.push(Event::Phase(Phase::Quantize));
            // The test sees by the missing file if this did not work.
            let _ = fs::write(&job.output.path, file_named(job.file_type.name()));
        }
        Job::Visit(visit) => play_visit(visit, &mut events),
        Job::Import(_) | Job::ExportOnnx(_) | Job::ApplyRecipe(_) => {
            events.push(Event::Phase(Phase::Quantize));
        }
        Job::Mix(_) => events.push(Event::Phase(Phase::Mix)),
        Job::Calibrate(job) => {
            events.push(Event::Phase(Phase::Calibrate));
            let _ = fs::write(&job.output.path, file_named("importance"));
        }
        Job::PredictMemory(_) | Job::PlanTypes(_) | Job::Devices { .. } => {
            events.push(Event::Phase(Phase::PredictMemory));
        }
    }
    events.push(Event::Done { peak_rss_bytes: Some(2 << 30), pss_bytes: Some(1 << 20) });
    events
}

#[expect(clippy::match_wildcard_for_single_variants, reason = "the script knows no other")]
fn play_visit(visit: &VisitJob, events: &mut Vec<Event>) {
    let facts = ModelFacts { description: weights(visit), ..ModelFacts::default() };
    let loaded = |cold, seconds| Event::Loaded {
        sample: LoadSample { cold, seconds },
        facts: facts.clone(),
    };
    if visit.cold_load {
        events.extend([Event::Phase(Phase::ColdLoad), loaded(true, 2.0)]);
    }
    events.extend([Event::Phase(Phase::Load), loaded(false, 0.5)]);
    for workload in &visit.workloads {
        events.push(Event::Phase(workload.workload().phase()));
        let mut measured = |measurement| events.push(Event::Measured(measurement));
        match workload {
            WorkloadJob::Speed(SpeedJob { test, repetitions, .. }) => {
                // 100, 200, 300 … tokens per second, of each thread where they are counted.
                let threads = u64::from(visit.settings.threads.unwrap_or(1));
                for nth in 1..=u64::from(*repetitions) {
                    let nanoseconds = u64::from(test.tokens()) * 10_000_000 / (nth * threads);
                    let sample = SpeedSample { nanoseconds, tokens: test.tokens() };
                    measured(Measurement::Speed { test: *test, sample });
                }
            }
            WorkloadJob::Latency(latency) => {
                for prompt in &latency.prompts {
                    measured(Measurement::Response(Response {
                        prompt_id: prompt.id.clone(),
                        prompt_tokens: 3,
                        text: format!("an answer to {}", prompt.text),
                        token_nanoseconds: vec![10_000_000, 20_000_000],
                        finish_reason: "length".to_owned(),
                    }));
                }
            }
            WorkloadJob::Quality(quality) => {
                if let ReferenceUse::Write { file, .. } = &quality.reference {
                    let _ = fs::write(&file.path, weights(visit));
                }
                let reads = matches!(quality.reference, ReferenceUse::Read { .. });
                measured(Measurement::Quality(measured_quality(quality, &weights(visit), reads)));
            }
            WorkloadJob::Task(task) => measured(Measurement::Task(answered(task))),
            _ => {}
        }
    }
}

/// Two questions, one of them answered right.
fn answered(task: &TaskJob) -> TaskRecord {
    let score = |&metric| ScoreRecord { metric, counts: vec![1.0, 0.0] };
    TaskRecord {
        task: task.plan.name,
        format: "none".to_owned(),
        open_thought: None,
        questions: 2,
        too_long: Vec::new(),
        scores: task.plan.metrics.iter().map(score).collect(),
        answers: Vec::new(),
        request_tokens: 40,
        evaluated_tokens: 10,
        seconds: 1.0,
        retrieval: None,
        vision: None,
    }
}

/// Chunks of the text.
const CHUNKS: u32 = 2;

/// Chunks of the text of an experiment that asks for precision.
const CHUNKS_OF_PARTS: u32 = 100;

/// After how many chunks of such a text the divergence of a variant is precise.
fn precise_after(variant: &str) -> u32 {
    match variant {
        "Q4_0" => 10,
        "Q5_0" => 30,
        _ => u32::MAX,
    }
}

fn measured_quality(job: &QualityJob, variant: &str, compared: bool) -> Quality {
    let figure = |mean| MeanWithError { mean, standard_error: 0.0 };
    let available = if job.precision.is_some() { CHUNKS_OF_PARTS } else { CHUNKS };
    let until = job.part.as_ref().map_or(available, |part| part.until.min(available));
    let chunks = if compared { until.min(precise_after(variant)) } else { until };
    // As many as it takes until ±10 % of their mean are known from their spread.
    let wide = |at: u32| if at.is_multiple_of(2) { 0.5 } else { 1.5 };
    let narrow = |at: u32| if at.is_multiple_of(2) { 0.75 } else { 1.25 };
    let kld = |at| 0.01 * if precise_after(variant) > 30 { wide(at) } else { narrow(at) };
    Quality {
        perplexity: figure(20.0),
        context: 512,
        chunks,
        chunks_available: available,
        scored_tokens: 510,
        chunk_nll: vec![3.0; chunks as usize],
        domains: Vec::new(),
        seconds: 1.0,
        divergence: compared.then(|| Divergence {
            kld: figure(0.01),
            kld_median: 0.005,
            kld_90: 0.02,
            kld_95: 0.03,
            kld_99: 0.05,
            kld_999: 0.1,
            kld_max: 0.2,
            top_token_agreement: figure(0.95),
            delta_p_mean: figure(-0.001),
            delta_p_rms: figure(0.01),
            log_perplexity_ratio: figure(0.002),
            chunk_kld: (0..chunks).map(kld).collect(),
            chunk_top_token_agreement: vec![0.95; chunks as usize],
            stopped_early: chunks == precise_after(variant) && chunks < available,
            kld_error_bound: 0.0,
        }),
        reference_store: None,
        answers: 0,
        worst_answers: Vec::new(),
    }
}
