//! Ways of answering, and the contexts that answer side by side.

use super::beginning::Beginning;
use super::{Answered, TaskError};
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{ContextPurpose, ContextShape, Model, streams};
use crate::experiment::settings::Settings;
use crate::statistics::sample::to_f64;
use crate::workload::Progress;
use crate::workload::batched::BatchedContext;
use crate::workload::draft::Written;
use crate::workload::softmax::{index_of_maximum, log_sum_exp};
use std::ops::{ControlFlow, Range};

/// The answers to the questions of a group, in order.
type AnswerGroup =
    dyn Fn(&mut BatchedContext<'_>, Range<usize>) -> Result<Vec<Answer>, TaskError> + Sync;

/// How a model answers questions: encoded already, and cut into groups that are answered together.
pub(super) struct Answerer {
    /// Cut the same way whatever the number of threads, so that figures are the same too.
    pub(super) groups: Groups,
    /// The context that any group needs.
    pub(super) shape: ContextShape,
    /// What every text begins with; evaluated once with every context.
    pub(super) shared: Beginning,
    pub(super) answer: Box<AnswerGroup>,
}

/// How many questions are answered together, as an index of limits. On a processor every thread has a small group of its
/// own; a GPU is busy only with a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupSize {
    /// For a thread of a processor, and where there is no memory for more.
    Small = 0,
    /// For a GPU.
    Large = 1,
}

/// Questions that are answered together.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The questions of each group.
    pub(super) questions: Vec<Range<usize>>,
    /// The most that any group takes, of each.
    pub(super) most: Extent,
    /// Tokens that would be evaluated with one request at a time.
    pub(super) request_tokens: usize,
    /// Tokens that are evaluated before answers are written.
    pub(super) evaluated_tokens: usize,
}

/// What a group takes of a context.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    /// Tokens that are evaluated at once.
    pub(super) tokens: usize,
    /// Sequences.
    pub(super) sequences: usize,
    /// Tokens that are decoded after they were encoded.
    pub(super) decoded: usize,
}

impl Groups {
    /// Adds a group.
    pub(super) fn push(&mut self, questions: Range<usize>, extent: Extent) {
        self.questions.push(questions);
        self.most.tokens = self.most.tokens.max(extent.tokens);
        self.most.sequences = self.most.sequences.max(extent.sequences);
        self.most.decoded = self.most.decoded.max(extent.decoded);
        self.evaluated_tokens += extent.tokens;
    }

    /// A context for any group, in which up to `kept` tokens are kept and `at_once` decoded at once.
    pub(super) fn shape(&self, kept: usize, at_once: usize) -> ContextShape {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
        // llama.cpp wants room for one output of each sequence, and takes no batch larger than the context.
        let batch = narrow(self.most.tokens.max(at_once).max(self.most.sequences));
        let (tokens, sequences) = (narrow(kept).max(batch), narrow(self.most.sequences));
        ContextShape { tokens, sequences, batch, ubatch: batch }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// What the model wrote.
    Text(Written),
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
pub(super) struct Likelihood {
    /// Sum of the log-probabilities of its tokens, nats.
    pub(super) log_likelihood: f64,
    /// Whether each of its tokens is the most probable one.
    pub(super) is_greedy: bool,
}

/// One output, with what every probability in it needs.
pub(super) struct ScoredRow<'a> {
    logits: &'a [f32],
    normaliser: f32,
    most_probable: usize,
}

impl<'a> ScoredRow<'a> {
    pub(super) fn new(logits: &'a [f32]) -> Self {
        Self { logits, normaliser: log_sum_exp(logits), most_probable: index_of_maximum(logits) }
    }
}

/// How probable tokens are, each with the output that it is chosen from.
pub(super) fn likelihood<'l, 'r: 'l>(
    tokens: impl Iterator<Item = (i32, Option<&'l ScoredRow<'r>>)>,
) -> Likelihood {
    let mut likelihood = Likelihood { log_likelihood: 0.0, is_greedy: true };
    for (token, row) in tokens {
        let token = usize::try_from(token).unwrap_or(usize::MAX);
        let log_p = row.and_then(|row| Some(row.logits.get(token)? - row.normaliser));
        likelihood.log_likelihood += f64::from(log_p.unwrap_or(f32::NAN));
        likelihood.is_greedy &= row.is_some_and(|row| row.most_probable == token);
    }
    likelihood
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

/// Answers all groups, over as many contexts as there are threads: one thread each on a processor, one
/// context where layers are on a GPU.
pub(super) fn run(
    answerer: &Answerer,
    model: &dyn Model,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let Answerer { groups, shape, shared, answer } = answerer;
    let Groups { questions, request_tokens, evaluated_tokens, .. } = groups;
    let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads()).max(1);
    let open = |threads| {
        let settings = Settings { threads: Some(threads), ..settings.clone() };
        BatchedContext::open(model, &settings, *shape, ContextPurpose::Shared)
    };
    let mut contexts = if model.engine().divides_threads(settings) {
        let most = u32::try_from(questions.len()).unwrap_or(u32::MAX).max(1);
        streams::open(threads, most, model.tensor_bytes(), open, |first| first.context.own_bytes())?
    } else {
        vec![open(threads)?]
    };
    let mut memory = Vec::new();
    for batched in &contexts {
        add_memory(&mut memory, batched.context.memory());
    }
    let mut answers = Vec::new();
    let mut done = 0;
    streams::run(
        &mut contexts,
        0..questions.len(),
        |batched| shared.prepare(batched).map(|()| batched),
        |batched, group| answer(batched, questions[group].clone()),
        |found| {
            answers.extend(found);
            done += 1;
            progress(to_f64(done) / to_f64(questions.len()), "");
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(Answered {
        answers,
        request_tokens: *request_tokens as u64,
        evaluated_tokens: *evaluated_tokens as u64,
        memory,
        ..Answered::default()
    })
}

/// Answers all questions in groups as large as the machine makes use of and has memory for.
pub(super) fn run_in_groups(
    answerer: impl Fn(GroupSize) -> Answerer,
    model: &dyn Model,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    if model.engine().uses_gpu(settings) {
        match run(&answerer(GroupSize::Large), model, settings, progress) {
            Err(TaskError::Engine(EngineError::Context { .. })) => {}
            answered => return answered,
        }
    }
    run(&answerer(GroupSize::Small), model, settings, progress)
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
