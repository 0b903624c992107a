//! Latency: real prompts answered one at a time, or side by side, every token's time kept.
//!
//! Definitions of MLPerf Client and GuideLLM: the clock starts when the request arrives (before
//! tokenization, but with the prompt in its format already: a model's own template is rendered in another
//! process, which would be measured too); TTFT ends when the first generated token has been sampled; ITL are the times
//! between following tokens, the first token having none.

use super::applicability::Applies;
use super::batched::BatchedContext;
use super::draft::{self, Draft, Limits};
use super::jobs::Target;
use super::measured::{LeftOut, ModelFacts, Response};
use super::speed::LONGEST_WARM_UP;
use super::{Measurement, Phase, Progress, Visit, Workload, WorkloadError};
use crate::engine::clock::Clock;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::{LatencyPlan, Sampling, TestPrompt};
use crate::model::architecture::ArchitectureClass;
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::piece::Prompt;
use crate::prompt::template::TemplateError;
use crate::statistics::sample::to_f64;
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
    /// Prompts are cut to so many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// How many are answered side by side; 0 and 1: one at a time.
    #[serde(default)]
    pub parallel: u32,
}

impl LatencyJob {
    /// The prompts of one round: prompt `i` is answered in round `i` modulo the number of rounds, so that over a
    /// run every prompt is answered once by every trial. `None`: there is none left for this one.
    pub(super) fn new(plan: &LatencyPlan, target: &Target) -> Option<Self> {
        let (round, rounds) = (target.round as usize, target.rounds.max(1) as usize);
        let prompts: Vec<TestPrompt> =
            plan.prompts.iter().skip(round).step_by(rounds).cloned().collect();
        // In a round more than planned each is answered already.
        (!prompts.is_empty() && round < rounds).then(|| Self {
            prompts,
            max_tokens: plan.max_tokens,
            sampling: plan.sampling,
            format: plan.format,
            chat_template_kwargs: plan.chat_template_kwargs.clone(),
            prompt_tokens: plan.prompt_tokens,
            parallel: plan.parallel,
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
        let Visit { model, settings, clock, observer, .. } = *visit;
        let Self { max_tokens, sampling, .. } = *self;
        let prompter = &visit.prompter(self.format, &self.chat_template_kwargs)?;
        let parallel = self.parallel.max(1);
        let answers = Answers { max_tokens, sampling, clock, prompter, parallel };
        let mut answered = |response| observer.measured(Measurement::Response(response));
        let progress = &mut visit.progress();
        let cut = self.prompt_tokens.map(|tokens| cut(model, &self.prompts, tokens)).transpose();
        let cut = cut.map_err(|error| WorkloadError::visit(&error))?;
        let prompts = cut.as_ref().unwrap_or(&self.prompts);
        let run = run(model, settings, prompts, answers, &mut answered, progress);
        let run = run.map_err(|error| match error {
            LatencyError::Template { .. } => WorkloadError::this_one(&error),
            error => WorkloadError::visit(&error),
        })?;
        run.left_out.into_iter().for_each(|left_out| visit.leave_out(left_out));
        Ok(run.memory)
    }
}

/// Prompts of so many tokens at most: what is too much is taken off their ends.
fn cut(
    model: &dyn Model,
    prompts: &[TestPrompt],
    tokens: u32,
) -> Result<Vec<TestPrompt>, EngineError> {
    let cut = |prompt: &TestPrompt| {
        let all = model.tokenize(&prompt.text, false, false)?;
        if all.len() <= tokens as usize {
            return Ok(prompt.clone());
        }
        let kept = all.iter().take(tokens as usize).flat_map(|&token| model.token_bytes(token));
        let text = String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).into_owned();
        Ok(TestPrompt { text, ..prompt.clone() })
    };
    prompts.iter().map(cut).collect()
}

/// Why the latency workload failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError {
    /// A native call failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A prompt has no tokens at all.
    #[error("prompt '{0}' is empty")]
    Empty(String),
    /// The model's chat template fails.
    #[error("prompt '{id}'")]
    Template {
        /// The prompt.
        id: String,
        /// What the template says.
        source: TemplateError,
    },
}

/// How prompts are answered.
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// Generation stops after this many tokens.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What times are taken from.
    pub clock: &'a dyn Clock,
    /// Puts prompts into a format.
    pub prompter: &'a Prompter,
    /// How many are answered side by side, greedily if it is more than one. A model that reads first answers one at a
    /// time.
    pub parallel: u32,
}

/// What answering took.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRun {
    /// What the engine allocated.
    pub memory: Vec<BufferMemory>,
    /// The prompts that do not fit the model's context with their answers.
    pub left_out: Vec<LeftOut>,
}

/// Answers every prompt that fits the model, after one warm-up that is not counted; `answered` gets each
/// answer.
///
/// # Errors
/// When evaluation fails.
pub fn run(
    model: &dyn Model,
    settings: &Settings,
    prompts: &[TestPrompt],
    answers: Answers<'_>,
    answered: &mut dyn FnMut(Response),
    progress: Progress<'_>,
) -> Result<LatencyRun, LatencyError> {
    let Answers { max_tokens, sampling, prompter, parallel, .. } = answers;
    let reads_first = model.class() == ArchitectureClass::EncoderDecoder;
    let context = model.context_length();
    // What an encoder-decoder writes stands in a context of its own.
    let answer = if reads_first { 0 } else { max_tokens };
    let mut longest = 0;
    let (mut fitting, mut left_out) = (Vec::new(), Vec::new());
    for prompt in prompts {
        let request = FormattedPrompt::new(prompter, prompt)?;
        let tokens = request.tokens(model)?.len();
        if tokens == 0 {
            return Err(LatencyError::Empty(prompt.id.clone()));
        }
        if tokens as u64 + u64::from(answer) > u64::from(context) {
            left_out.push(LeftOut {
                what: format!("prompt '{}'", prompt.id),
                reason: format!(
                    "with the answer it is longer than the context of {context} tokens"
                ),
            });
            continue;
        }
        longest = longest.max(tokens);
        fitting.push((tokens, request));
    }
    let shortest = fitting.iter().min_by_key(|(tokens, _)| *tokens);
    let Some(((short, shortest), (first, _))) = shortest.zip(fitting.first()) else {
        return Ok(LatencyRun { memory: Vec::new(), left_out });
    };
    let ratio = to_f64(*first) / to_f64(*short);
    let longest = u32::try_from(longest).unwrap_or(u32::MAX);
    let batched = if reads_first {
        BatchedContext::for_source(model, settings, longest, max_tokens)?
    } else {
        let (batch, ubatch) = (settings.batch, settings.ubatch);
        // llama.cpp rounds the share of each of several sequences up to a multiple of 256.
        let own = longest.saturating_add(max_tokens);
        let own = if parallel > 1 { own.next_multiple_of(256) } else { own };
        let tokens = own.saturating_mul(parallel);
        let shape = ContextShape { tokens, sequences: parallel, batch, ubatch };
        BatchedContext::open(model, settings, shape, ContextPurpose::Separate)?
    };
    let memory = batched.context.memory();
    let mut session = Session { batched, reads_first, sampling, clock: answers.clock };
    // The first evaluation of a context pays for page faults and graph building that no later one pays
    // for.
    let warm_up = session.answer(shortest, max_tokens.min(2))?;
    let seconds = warm_up.ttft_seconds().unwrap_or_default() * ratio;
    if ratio > 1.0 && seconds < LONGEST_WARM_UP.as_secs_f64() {
        session.answer(&fitting[0].1, max_tokens.min(2))?;
    }
    let at_once = if reads_first { 1 } else { parallel.max(1) as usize };
    let mut done = 0;
    for group in fitting.chunks(at_once) {
        let responses = match group {
            [(_, request)] => vec![session.answer(request, max_tokens)?],
            group => session.answer_together(group, max_tokens)?,
        };
        for response in responses {
            done += 1;
            let ttft = response.ttft_seconds().unwrap_or(f64::NAN) * 1e3;
            progress(to_f64(done) / to_f64(fitting.len()), &format!("TTFT {ttft:.1} ms"));
            answered(response);
        }
    }
    Ok(LatencyRun { memory, left_out })
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
    batched: BatchedContext<'model>,
    /// An encoder reads the prompt, then a decoder begins; else a decoder goes on where the prompt ends.
    reads_first: bool,
    sampling: Sampling,
    clock: &'model dyn Clock,
}

impl Session<'_> {
    fn answer(
        &mut self,
        request: &FormattedPrompt<'_>,
        max_tokens: u32,
    ) -> Result<Response, LatencyError> {
        let Self { batched, clock, .. } = self;
        // Emptying the cache and making the sampler belong to the end of the request before.
        batched.context.clear_memory();
        batched.context.begin_sampling(self.sampling)?;
        let model = batched.model;
        let start = clock.now();
        let tokens = request.tokens(model)?;
        let mut position = if self.reads_first {
            batched.begin_answer(&tokens)?
        } else {
            batched.read(&tokens, 0, true)?
        };
        let mut text = Vec::new();
        let mut token_nanoseconds = Vec::new();
        let mut finish_reason = "length";
        while token_nanoseconds.len() < max_tokens as usize {
            let token = batched.context.sample()?;
            if model.ends_generation(token) {
                finish_reason = "stop";
                break;
            }
            text.extend(model.token_bytes(token));
            token_nanoseconds
                .push(u64::try_from(clock.since(start).as_nanos()).unwrap_or(u64::MAX));
            if token_nanoseconds.len() == max_tokens as usize {
                break;
            }
            position = batched.read(&[token], position, true)?;
        }
        Ok(Response {
            prompt_id: request.prompt.id.clone(),
            prompt_tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            text: String::from_utf8_lossy(&text).into_owned(),
            token_nanoseconds,
            finish_reason: finish_reason.to_owned(),
        })
    }

    /// Answers several requests side by side: all prompts are read, then every answer grows by one token at a time. All
    /// clocks start together.
    fn answer_together(
        &mut self,
        requests: &[(usize, FormattedPrompt<'_>)],
        max_tokens: u32,
    ) -> Result<Vec<Response>, LatencyError> {
        let Self { batched, clock, .. } = self;
        batched.context.clear_memory();
        let start = clock.now();
        let now = || u64::try_from(clock.since(start).as_nanos()).unwrap_or(u64::MAX);
        let (mut drafts, mut first, mut prompt_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, (_, request)) in (0..).zip(requests) {
            let tokens = request.tokens(batched.model)?;
            let position = batched.read_into(sequence, &tokens, 0, true)?;
            drafts.push(Draft::begin(sequence, position, batched.context.all_logits(1)?));
            first.push(now());
            prompt_tokens.push(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        }
        let mut times = vec![Vec::new(); requests.len()];
        let limits = Limits { max_tokens: max_tokens as usize, stops: Vec::new() };
        let mut taken = |at: usize| {
            let time = if times[at].is_empty() { first[at] } else { now() };
            times[at].push(time);
        };
        let answers = draft::write_watched(batched, drafts, &limits, &mut taken)?;
        let mut responses = Vec::new();
        for (at, (times, written)) in times.into_iter().zip(answers).enumerate() {
            let is_stopped = written.tokens.len() > times.len();
            responses.push(Response {
                prompt_id: requests[at].1.prompt.id.clone(),
                prompt_tokens: prompt_tokens[at],
                text: written.text,
                token_nanoseconds: times,
                finish_reason: if is_stopped { "stop" } else { "length" }.to_owned(),
            });
        }
        Ok(responses)
    }
}
