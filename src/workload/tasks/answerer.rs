//! Ways of answering, and the contexts that answer side by side.

use super::TaskError;
use super::record::Work;
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::streams;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::workload::Progress;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

/// How a model answers questions: encoded already, and cut into groups that are answered together.
pub trait Answerer: Sync {
    /// The groups, each as its number of questions; cut the same way whatever the number of threads, so
    /// that figures are the same too.
    fn groups(&self) -> &[usize];

    /// How much there is to evaluate.
    fn work(&self) -> Work;

    /// The context that any group needs.
    fn shape(&self, settings: &Settings) -> ContextShape;

    /// What is done once with every context.
    ///
    /// # Errors
    /// Evaluation fails.
    fn prepare(&self, stream: &mut Stream<'_>) -> Result<(), TaskError>;

    /// The answers to the questions of a group, in order.
    ///
    /// # Errors
    /// Evaluation fails.
    fn answer(&self, stream: &mut Stream<'_>, group: usize) -> Result<Vec<Answer>, TaskError>;
}

/// How many questions are answered together. On a processor every thread has a small group of its own; a GPU
/// is busy only with a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSize {
    /// For a thread of a processor, and where there is no memory for more.
    Small,
    /// For a GPU.
    Large,
}

impl GroupSize {
    /// The limit for groups of this size.
    pub(super) fn limit(self, small: usize, large: usize) -> usize {
        match self {
            Self::Small => small,
            Self::Large => large,
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What the model wrote.
    Text(String),
    /// How probable each alternative is to it.
    Alternatives(Vec<Likelihood>),
    /// The passages found, the nearest first, and what was answered with them.
    Found {
        /// By their places in the corpus.
        passages: Vec<usize>,
        /// `None`: nothing was to be answered.
        text: Option<String>,
    },
    /// How near each alternative is to the request: the cosine of their embeddings.
    Similarities(Vec<f64>),
}

/// How probable an alternative is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Sum of the log-probabilities of its tokens, nats.
    pub log_likelihood: f64,
    /// Whether each of its tokens is the most probable one.
    pub is_greedy: bool,
}

impl Answer {
    pub(super) fn is_not_a_number(&self) -> bool {
        match self {
            Self::Text(_) | Self::Found { .. } => false,
            Self::Alternatives(found) => found.iter().any(|it| it.log_likelihood.is_nan()),
            Self::Similarities(found) => found.iter().any(|cosine| cosine.is_nan()),
        }
    }
}

/// A context with its batch.
#[derive(Debug)]
pub struct Stream<'model> {
    /// What is evaluated.
    pub model: &'model dyn Model,
    /// The context.
    pub context: Box<dyn Context + 'model>,
    /// Room for as many tokens as the context takes at once.
    pub batch: Batch,
}

impl<'model> Stream<'model> {
    /// A stream whose sequences share their tokens.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn open(
        model: &'model dyn Model,
        settings: &Settings,
        shape: ContextShape,
        threads: u32,
    ) -> Result<Self, TaskError> {
        let settings = Settings { threads: Some(threads), ..settings.clone() };
        let context = model.context(&settings, shape, ContextPurpose::Shared)?;
        Ok(Self { model, context, batch: Batch::with_capacity(shape.batch as usize) })
    }
}

/// What all groups together came to.
#[derive(Debug)]
pub(super) struct Done {
    /// How much there was to evaluate.
    pub(super) work: Work,
    /// One per question, in order.
    pub(super) answers: Vec<Answer>,
    /// What llama.cpp allocated.
    pub(super) memory: Vec<BufferMemory>,
}

/// The answers of one group.
type Answered = (usize, Result<Vec<Answer>, TaskError>);

/// Answers all groups, over as many streams as there are threads: one thread each on a processor, one
/// stream where layers are on a GPU.
pub(super) fn run<A: Answerer>(
    answerer: &A,
    model: &dyn Model,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<Done, TaskError> {
    let groups = answerer.groups();
    let mut streams = open(answerer, model, settings)?;
    let mut memory = Vec::new();
    for stream in &streams {
        add_memory(&mut memory, stream.context.memory());
    }
    let next = AtomicUsize::new(0);
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); groups.len()];
    std::thread::scope(|scope| {
        let (sender, answered) = mpsc::channel();
        for stream in &mut streams {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || work(answerer, stream, next, &sender));
        }
        drop(sender);
        for (over, (group, result)) in answered.into_iter().enumerate() {
            match result {
                Ok(found) => answers[group] = found,
                Err(error) => {
                    next.store(groups.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
            progress((over + 1) as f64 / groups.len() as f64, "");
        }
        Ok(())
    })?;
    let answers = answers.into_iter().flatten().collect();
    Ok(Done { work: answerer.work(), answers, memory })
}

/// Answers all questions in groups as large as the machine makes use of and has memory for.
pub(super) fn run_in_groups<A: Answerer>(
    answerer: impl Fn(GroupSize) -> A,
    model: &dyn Model,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<Done, TaskError> {
    if model.engine().uses_gpu(settings) {
        match run(&answerer(GroupSize::Large), model, settings, progress) {
            Err(TaskError::Engine(EngineError::Context { .. })) => {}
            done => return done,
        }
    }
    run(&answerer(GroupSize::Small), model, settings, progress)
}

fn open<'model, A: Answerer>(
    answerer: &A,
    model: &'model dyn Model,
    settings: &Settings,
) -> Result<Vec<Stream<'model>>, TaskError> {
    let shape = answerer.shape(settings);
    let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads()).max(1);
    if model.engine().uses_gpu(settings) {
        return Ok(vec![Stream::open(model, settings, shape, threads)?]);
    }
    let first = Stream::open(model, settings, shape, 1)?;
    let buffers = first.context.memory();
    let bytes: u64 = buffers.iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes).sum();
    let most = u32::try_from(answerer.groups().len()).unwrap_or(u32::MAX).max(1);
    let count = streams::that_fit(threads.min(most), bytes, model.tensor_bytes());
    let each = threads / count;
    let first = if each == 1 { first } else { Stream::open(model, settings, shape, each)? };
    let others = (1..count).map(|_| Stream::open(model, settings, shape, each));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Takes groups until none is left, one fails or nobody listens.
fn work<A: Answerer>(
    answerer: &A,
    stream: &mut Stream<'_>,
    next: &AtomicUsize,
    sender: &Sender<Answered>,
) {
    let mut prepared = answerer.prepare(stream);
    loop {
        let group = next.fetch_add(1, Ordering::Relaxed);
        if group >= answerer.groups().len() {
            return;
        }
        let result = prepared.clone().and_then(|()| answerer.answer(stream, group));
        if prepared.is_ok() {
            prepared = result.as_ref().map(|_| ()).map_err(Clone::clone);
        }
        if sender.send((group, result)).is_err() || prepared.is_err() {
            return;
        }
    }
}

/// Adds up what several contexts allocated; the weights are there once.
fn add_memory(sum: &mut Vec<BufferMemory>, buffers: Vec<BufferMemory>) {
    for buffer in buffers {
        match sum.iter_mut().find(|other| other.buffer == buffer.buffer) {
            Some(other) => {
                other.kv_bytes += buffer.kv_bytes;
                other.compute_bytes += buffer.compute_bytes;
                other.context += buffer.context;
            }
            None => sum.push(buffer),
        }
    }
}
