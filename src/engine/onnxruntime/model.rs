//! Models: a session with its tokenizer and what lies beside it.

use super::context::DecoderContext;
use super::encoder::EncoderContext;
use super::files::Beside;
use super::graph::GraphFacts;
use super::layout::{Layout, Output, Port};
use super::runtime::Runtime;
use super::tokenizer::Tokenizer;
use super::{failed, settings};
use crate::causes;
use crate::engine::error::EngineError;
use crate::engine::{CacheUse, Context, ContextPurpose, ContextShape, Engine, Model};
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use crate::model::gguf::SpecialTokens;
use crate::onnx::storage::{Role, Share, Stored};
use crate::prompt::piece::Prompt;
use crate::units::format_count;
use ort::session::Session;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rows of logits beyond the tokenizer's tokens that are taken for filling up: this part of them, or so many.
const MOST_PADDING: (usize, usize) = (16, 128);

/// Rows as wide as the widest that are held at once: both products of a gated layer, what comes of them, and as much again
/// of narrower ones.
const BETWEEN: usize = 6;

/// What a session of a whole model has beyond the smallest one, weights and their copies apart: 3.6 to 6 MiB for the demo
/// model's graphs (ONNX Runtime 1.32, 2026-12-01).
const SESSION_BYTES: u64 = 5 << 20;

/// What was loaded of a model.
#[derive(Debug)]
enum Loaded {
    /// Everything.
    Whole(Mutex<Session>),
    /// Nothing: memory is planned, in a process that has what the first session brings into it.
    Plan(#[expect(dead_code, reason = "its memory is counted")] Session),
}

/// A loaded model.
#[derive(Debug)]
pub(super) struct OnnxModel {
    runtime: Runtime,
    path: PathBuf,
    session: Loaded,
    pub(super) layout: Layout,
    pub(super) graph: GraphFacts,
    pub(super) beside: Beside,
    tokenizer: Tokenizer,
    ends: Vec<i32>,
    context_length: u32,
}

impl OnnxModel {
    /// Loads a model, or only what lies beside its weights, to plan memory by.
    ///
    /// # Errors
    /// The graph cannot be read or loaded, is not understood, or does not go with the files beside it.
    pub(super) fn load(
        runtime: &Runtime,
        path: &Path,
        settings: &Settings,
        is_plan: bool,
    ) -> Result<Self, EngineError> {
        let wrong =
            |reason: &dyn std::fmt::Display| failed(format!("load {}", path.display()), reason);
        let threads = settings.threads.unwrap_or_else(|| runtime.default_threads());
        let graph = GraphFacts::read(path).map_err(|error| wrong(&causes::in_words(&error)))?;
        let beside = Beside::read(path).map_err(|reason| wrong(&reason))?;
        let tokenizer = Tokenizer::read(&beside.tokenizer_file())?;
        let names = &graph.names;
        let mut builder = settings::builder(&runtime.environment, settings, threads)?;
        let (session, layout) = if is_plan {
            let session = builder.commit_from_memory(&super::graph::smallest());
            let session = session.map_err(|error| failed("plan memory", &error))?;
            (Loaded::Plan(session), Layout::of(&graph.inputs, &graph.outputs))
        } else {
            let session = builder.commit_from_file(path).map_err(|error| wrong(&error))?;
            let inputs = session.inputs().iter();
            let inputs = inputs.map(|it| Port::input(names, it.name(), it.dtype()));
            let outputs = session.outputs().iter();
            let outputs = outputs.map(|it| Port::output(names, it.name(), it.dtype()));
            let layout = Layout::of(&inputs.collect::<Vec<_>>(), &outputs.collect::<Vec<_>>());
            (Loaded::Whole(Mutex::new(session)), layout)
        };
        let layout = layout.map_err(|reason| wrong(&reason))?;
        check_vocabulary(&layout.output, tokenizer.size()).map_err(|reason| wrong(&reason))?;
        let context_length = beside.context_length().ok_or_else(|| {
            wrong(&"no config.json or genai_config.json beside it says how long a text may be (max_position_embeddings)")
        })?;
        let ends = tokenizer.ends(&beside);
        let (runtime, path) = (runtime.clone(), path.to_owned());
        Ok(Self { runtime, path, session, layout, graph, beside, tokenizer, ends, context_length })
    }

    /// The session, for as long as nobody else evaluates.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn session(&self) -> ort::Result<MutexGuard<'_, Session>> {
        match &self.session {
            Loaded::Whole(session) => Ok(session.lock().unwrap_or_else(PoisonError::into_inner)),
            Loaded::Plan(_) => Err(ort::Error::new("its weights are not loaded")),
        }
    }

    /// Whether memory alone is planned.
    pub(super) fn is_plan(&self) -> bool {
        matches!(self.session, Loaded::Plan(_))
    }

    /// About the bytes that a context of so many tokens takes for what it computes, `rows` of them at once: logits, what
    /// each token gives to each, what lies between the widest matrices of a layer, and copies of weights.
    pub(super) fn compute_bytes(&self, rows: u32, tokens: u32) -> u64 {
        let given = match self.layout.output {
            Output::Embedding { .. } => 0,
            Output::Logits { width, .. } | Output::Hidden { width, .. } => width,
        };
        let heads = if self.graph.heads > 0 { self.graph.heads } else { self.beside.heads() };
        let between = BETWEEN.saturating_mul(self.graph.widest);
        let attention = heads.saturating_mul(tokens as usize);
        let row = given.saturating_add(between).saturating_add(attention) as u64;
        let computed = u64::from(rows).saturating_mul(row).saturating_mul(size_of::<f32>() as u64);
        computed.saturating_add(self.graph.sum(copied_bytes)).saturating_add(SESSION_BYTES)
    }

    fn wrong(&self, reason: &dyn std::fmt::Display) -> EngineError {
        failed(format!("load {}", self.path.display()), reason)
    }
}

/// Bytes of what a session keeps of weights beyond those of the file: matrices once more, as its kernels want them, and what
/// has 16 bits in 32 instead, which the processor multiplies.
fn copied_bytes(share: &Share) -> u64 {
    let is_half = matches!(share.stored, Stored::F16 | Stored::Bf16);
    let floats = share.weights.saturating_mul(size_of::<f32>() as u64);
    let kept = if is_half { floats } else { share.bytes };
    let packed = if share.role == Role::Matrix { kept } else { 0 };
    kept.saturating_sub(share.bytes).saturating_add(packed)
}

/// Logits may be filled up to a round number; but a graph with fewer of them than tokens, or many more, is of another model.
fn check_vocabulary(output: &Output, tokens: usize) -> Result<(), String> {
    let Output::Logits { width, .. } = *output else { return Ok(()) };
    let (part, few) = MOST_PADDING;
    let fits = width >= tokens && width - tokens <= (tokens / part).max(few);
    if fits {
        return Ok(());
    }
    Err(format!(
        "it has logits for {width} tokens and the tokenizer beside it {tokens}: they are of different models"
    ))
}

impl Model for OnnxModel {
    fn engine(&self) -> &dyn Engine {
        &self.runtime
    }

    fn description(&self) -> String {
        let family = self.beside.family().unwrap_or("model");
        format!("{family} {} {}", format_count(self.parameters()), self.graph.storage)
    }

    fn class(&self) -> ArchitectureClass {
        match self.layout.output {
            Output::Logits { .. } => ArchitectureClass::DecoderOnly,
            Output::Hidden { .. } | Output::Embedding { .. } => ArchitectureClass::EncoderOnly,
        }
    }

    fn parameters(&self) -> u64 {
        self.graph.sum(|share| share.weights)
    }

    /// All but the tables that rows are taken from.
    fn bytes_per_token(&self) -> Option<u64> {
        Some(self.graph.sum(|share| if share.role == Role::Embedding { 0 } else { share.bytes }))
    }

    fn chat_template(&self) -> Result<Option<(String, SpecialTokens)>, EngineError> {
        let template = self.beside.chat_template().map_err(|reason| self.wrong(&reason))?;
        Ok(template.map(|template| (template, self.tokenizer.special(&self.beside))))
    }

    fn tensor_bytes(&self) -> u64 {
        self.graph.sum(|share| share.bytes)
    }

    fn context_length(&self) -> u32 {
        self.context_length
    }

    fn learnt_positions(&self) -> Option<u32> {
        self.graph.positions
    }

    fn cache_use(&self) -> Option<CacheUse> {
        let shares = self.graph.shares_caches;
        let used = if shares { CacheUse::InPlace } else { CacheUse::Copied };
        (!self.layout.caches.is_empty()).then_some(used)
    }

    fn evaluates_side_by_side(&self) -> bool {
        false
    }

    fn layers(&self) -> u32 {
        u32::try_from(self.layout.layers().max(self.beside.layers())).unwrap_or(u32::MAX)
    }

    fn embedding_width(&self) -> usize {
        self.layout.output.width()
    }

    /// As many as there are logits: GGUFs count tokens that fill up, too.
    fn vocabulary_size(&self) -> usize {
        match self.layout.output {
            Output::Logits { width, .. } => width,
            Output::Hidden { .. } | Output::Embedding { .. } => self.tokenizer.size(),
        }
    }

    fn beginning_token(&self) -> Option<i32> {
        self.tokenizer.beginning()
    }

    fn any_beginning_token(&self) -> Option<i32> {
        let named = || self.beside.named_token("bos_token").and_then(|it| self.tokenizer.token(it));
        self.tokenizer.beginning().or_else(|| self.beside.beginning()).or_else(named)
    }

    fn decoder_start_token(&self) -> Option<i32> {
        None
    }

    fn ends_generation(&self, token: i32) -> bool {
        self.ends.contains(&token)
    }

    fn token_bytes(&self, token: i32) -> Vec<u8> {
        self.tokenizer.bytes(token)
    }

    fn tokenize(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<i32>, EngineError> {
        self.tokenizer.tokens(text, add_special, parse_special)
    }

    fn tokenize_rest(&self, rest: &Prompt) -> Result<Vec<i32>, EngineError> {
        self.tokenizer.rest(rest)
    }

    fn context(
        &self,
        settings: &Settings,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Box<dyn Context + '_>, EngineError> {
        settings::check(settings)?;
        match (self.class(), purpose) {
            (ArchitectureClass::EncoderOnly, _) => Ok(Box::new(EncoderContext::new(self, shape)?)),
            (_, ContextPurpose::Embeddings) => {
                Err(EngineError::Unsupported("embed texts with a decoder"))
            }
            _ => Ok(Box::new(DecoderContext::new(self, shape, purpose)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_there_twice_and_those_of_sixteen_bits_in_floats() {
        let share = |stored, role, bytes| Share { stored, role, tensors: 1, weights: 100, bytes };
        for (stored, role, bytes, expected) in [
            (Stored::F32, Role::Matrix, 400, 400),
            (Stored::F32, Role::Embedding, 400, 0),
            (Stored::F16, Role::Matrix, 200, 600),
            (Stored::F16, Role::Embedding, 200, 200),
            (Stored::DynamicInt { bits: 8 }, Role::Matrix, 104, 104),
            (Stored::F32, Role::Vector, 400, 0),
        ] {
            assert_eq!(copied_bytes(&share(stored, role, bytes)), expected, "{stored:?} {role:?}");
        }
    }

    #[test]
    fn logits_may_be_filled_up_but_not_of_another_model() {
        let logits = |width| Output::Logits { name: "logits".to_owned(), width };
        for (width, tokens) in [(4096, 4096), (151_936, 151_665), (32_064, 32_011), (64, 60)] {
            assert_eq!(check_vocabulary(&logits(width), tokens), Ok(()), "{width} {tokens}");
        }
        for (width, tokens) in [(32_000, 49_152), (151_936, 49_152)] {
            let error = check_vocabulary(&logits(width), tokens).unwrap_err();
            assert!(error.contains(&format!("{width} tokens")), "{error}");
        }
    }
}
