//! Latency: real prompts answered one at a time, every token's time kept.
//!
//! Definitions of MLPerf Client and GuideLLM: the clock starts when the request arrives (before
//! tokenization, but with the prompt in its format already: a model's own template is rendered in another
//! process, which would be measured too); TTFT ends when the first generated token has been sampled; ITL are the times
//! between following tokens, the first token having none.

use super::applicability::Applies;
use super::jobs::Target;
use super::measured::{LeftOut, ModelFacts, Response};
use super::seq2seq::SequenceToSequence;
use super::{Measurement, Phase, Visit, Workload, WorkloadError};
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::clock::Clock;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::{LatencyPlan, Sampling, TestPrompt};
use crate::model::architecture::ArchitectureClass;
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::piece::Prompt;
use crate::prompt::template::TemplateError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Answer these prompts, one at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyJob {
    /// The prompts of this visit.
    pub prompts: Vec<TestPrompt>,
    /// Generation stops after this many tokens.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Which format prompts are put into.
    pub format: FormatChoice,
    /// What the model's own template is given besides.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
}

impl LatencyJob {
    /// The prompts of one round: prompt `i` is answered in round `i` modulo the number of rounds, so that over a
    /// run every prompt is answered once by every trial. `None`: there is none left for this one.
    pub(super) fn new(plan: &LatencyPlan, target: &Target) -> Option<Self> {
        let (round, rounds) = (target.round as usize, target.rounds.max(1) as usize);
        let prompts: Vec<TestPrompt> =
            plan.prompts.iter().skip(round).step_by(rounds).cloned().collect();
        (!prompts.is_empty()).then(|| Self {
            prompts,
            max_tokens: plan.max_tokens,
            sampling: plan.sampling,
            format: plan.format,
            chat_template_kwargs: plan.chat_template_kwargs.clone(),
        })
    }
}

impl Workload for LatencyJob {
    fn phase(&self) -> Phase {
        Phase::Latency
    }

    fn applies(&self, facts: &ModelFacts) -> Applies {
        if facts.class.generates() { Applies::Yes } else { Applies::No }
    }

    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError> {
        let prompter = visit.prompter(self.format, &self.chat_template_kwargs)?;
        answer_all(self, visit, &prompter).map_err(|error| match error {
            LatencyError::Template { .. } => WorkloadError::this_one(&error),
            error => WorkloadError::visit(&error),
        })
    }
}

/// Why the latency workload failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum LatencyError {
    /// A native call failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A prompt has no tokens at all.
    #[error("prompt '{id}' is empty")]
    Empty {
        /// The prompt.
        id: String,
    },
    /// The model's chat template fails.
    #[error("prompt '{id}'")]
    Template {
        /// The prompt.
        id: String,
        /// What the template says.
        source: TemplateError,
    },
}

/// Answers every prompt that fits the model, after one warm-up that is not counted; returns what llama.cpp
/// allocated.
fn answer_all(
    job: &LatencyJob,
    visit: &Visit<'_>,
    prompter: &Prompter,
) -> Result<Vec<BufferMemory>, LatencyError> {
    let Visit { model, settings, clock, observer, .. } = *visit;
    let LatencyJob { max_tokens, sampling, .. } = *job;
    let reads_first = model.class() == ArchitectureClass::EncoderDecoder;
    let context = model.context_length();
    // What an encoder-decoder writes stands in a context of its own.
    let answer = if reads_first { 0 } else { max_tokens };
    let mut longest = 0;
    let mut fitting = Vec::new();
    for prompt in &job.prompts {
        let request = FormattedPrompt::new(prompter, prompt)?;
        let tokens = request.tokens(model)?.len();
        if tokens == 0 {
            return Err(LatencyError::Empty { id: prompt.id.clone() });
        }
        if tokens as u64 + u64::from(answer) > u64::from(context) {
            visit.leave_out(LeftOut {
                what: format!("prompt '{}'", prompt.id),
                reason: format!(
                    "with the answer it is longer than the context of {context} tokens"
                ),
            });
            continue;
        }
        longest = longest.max(tokens);
        fitting.push(request);
    }
    let Some(first) = fitting.first() else {
        return Ok(Vec::new());
    };
    let longest = u32::try_from(longest).unwrap_or(u32::MAX);
    let mut session = Session {
        model,
        clock,
        evaluation: if reads_first {
            Evaluation::Encoded(SequenceToSequence::new(model, settings, longest, max_tokens)?)
        } else {
            Evaluation::Decoded(Decoding::new(model, settings, longest.saturating_add(max_tokens))?)
        },
        max_tokens,
        sampling,
    };
    let memory = session.evaluation.context().memory();
    // The first evaluation of a context pays for page faults and graph building that no later one pays
    // for.
    session.max_tokens = max_tokens.min(2);
    session.answer(first)?;
    session.max_tokens = max_tokens;
    #[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
    for (index, request) in fitting.iter().enumerate() {
        let response = session.answer(request)?;
        let ttft = response.ttft_seconds().unwrap_or(f64::NAN) * 1e3;
        let fraction = (index + 1) as f64 / fitting.len() as f64;
        observer.progress(fraction, &format!("TTFT {ttft:.1} ms"));
        observer.measured(Measurement::Response(response));
    }
    Ok(memory)
}

/// A prompt, and what it is in its format.
struct FormattedPrompt<'p> {
    prompt: &'p TestPrompt,
    /// `None`: the text as it is.
    rendered: Option<Prompt>,
}

impl<'p> FormattedPrompt<'p> {
    fn new(prompter: &Prompter, prompt: &'p TestPrompt) -> Result<Self, LatencyError> {
        let rendered = match prompter {
            Prompter::Plain => None,
            _ => Some(
                prompter
                    .request(&prompt.text)
                    .map_err(|source| LatencyError::Template { id: prompt.id.clone(), source })?,
            ),
        };
        Ok(Self { prompt, rendered })
    }

    /// The prompt as the model sees it.
    fn tokens(&self, model: &dyn Model) -> Result<Vec<i32>, EngineError> {
        match &self.rendered {
            // Without a format the model's own special tokens go around the text, at its end too.
            None => model.tokenize(&self.prompt.text, true, false),
            Some(rendered) => model.tokenize_prompt(rendered),
        }
    }
}

struct Session<'model> {
    model: &'model dyn Model,
    clock: &'model dyn Clock,
    evaluation: Evaluation<'model>,
    max_tokens: u32,
    sampling: Sampling,
}

/// How a model comes from a prompt to the tokens after it.
enum Evaluation<'model> {
    /// A decoder goes on where the prompt ends.
    Decoded(Decoding<'model>),
    /// An encoder reads the prompt, then a decoder begins.
    Encoded(SequenceToSequence<'model>),
}

impl<'model> Evaluation<'model> {
    fn context(&mut self) -> &mut (dyn Context + 'model) {
        match self {
            Self::Decoded(decoding) => decoding.context.as_mut(),
            Self::Encoded(encoded) => encoded.context(),
        }
    }

    /// Evaluates the prompt; returns the position of the first token of the answer.
    fn submit(&mut self, prompt: &[i32]) -> Result<usize, EngineError> {
        match self {
            Self::Decoded(decoding) => decoding.submit(prompt).map(|()| prompt.len()),
            // The start token has the first position.
            Self::Encoded(encoded) => encoded.begin(prompt).map(|()| 1),
        }
    }

    fn follow(&mut self, token: i32, position: usize) -> Result<(), EngineError> {
        let position = i32::try_from(position).unwrap_or(i32::MAX);
        match self {
            Self::Decoded(decoding) => decoding.follow(token, position),
            Self::Encoded(encoded) => encoded.follow(token, position),
        }
    }
}

impl Session<'_> {
    fn answer(&mut self, request: &FormattedPrompt<'_>) -> Result<Response, LatencyError> {
        // Emptying the cache and making the sampler belong to the end of the request before.
        self.evaluation.context().clear_memory();
        self.evaluation.context().begin_sampling(self.sampling)?;
        let model = self.model;
        let start = self.clock.now();
        let tokens = request.tokens(model)?;
        let mut position = self.evaluation.submit(&tokens)?;
        let mut text = Vec::new();
        let mut token_nanoseconds = Vec::new();
        let mut finish_reason = "length";
        while token_nanoseconds.len() < self.max_tokens as usize {
            let token = self.evaluation.context().sample()?;
            if model.ends_generation(token) {
                finish_reason = "stop";
                break;
            }
            text.extend(model.token_bytes(token));
            token_nanoseconds
                .push(u64::try_from(self.clock.since(start).as_nanos()).unwrap_or(u64::MAX));
            if token_nanoseconds.len() == self.max_tokens as usize {
                break;
            }
            self.evaluation.follow(token, position)?;
            position += 1;
        }
        Ok(Response {
            prompt_id: request.prompt.id.clone(),
            prompt_tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            text: String::from_utf8_lossy(&text).into_owned(),
            token_nanoseconds,
            finish_reason: finish_reason.to_owned(),
        })
    }
}

/// A decoder with its context.
struct Decoding<'model> {
    context: Box<dyn Context + 'model>,
    batch: Batch,
}

impl<'model> Decoding<'model> {
    fn new(
        model: &'model dyn Model,
        settings: &Settings,
        tokens: u32,
    ) -> Result<Self, EngineError> {
        let shape =
            ContextShape { tokens, sequences: 1, batch: settings.batch, ubatch: settings.ubatch };
        let context = model.context(settings, shape, ContextPurpose::Separate)?;
        Ok(Self { context, batch: Batch::with_capacity(settings.batch as usize) })
    }

    fn follow(&mut self, token: i32, position: i32) -> Result<(), EngineError> {
        self.batch.clear();
        self.batch.add(token, position, 0, true)?;
        self.context.decode(&mut self.batch)
    }

    /// Evaluates the prompt; output only for its last token.
    fn submit(&mut self, tokens: &[i32]) -> Result<(), EngineError> {
        let batch_size = self.context.shape().batch as usize;
        let last = tokens.len() - 1;
        for (batch_index, part) in tokens.chunks(batch_size).enumerate() {
            self.batch.clear();
            for (offset, &token) in part.iter().enumerate() {
                let position = batch_index * batch_size + offset;
                let signed = i32::try_from(position).unwrap_or(i32::MAX);
                self.batch.add(token, signed, 0, position == last)?;
            }
            self.context.decode(&mut self.batch)?;
        }
        Ok(())
    }
}
