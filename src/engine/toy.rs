//! A model in plain Rust for tests: every probability, embedding and time is known exactly.
//!
//! Its vocabulary is a begin mark, an end mark, and the characters of [`ALPHABET`]. After a token, the
//! next one of the vocabulary has probability `p`, and all others share the rest. Two variants that
//! differ in `p` therefore have a divergence of `p ln(p/q) + (1-p) ln((1-p)/(1-q))` at every token. A
//! file of it is its [`Parameters`] as JSON. It keeps a cache of tokens, and refuses to evaluate a token
//! whose predecessor is not there, as a real engine would answer wrongly.

use super::batch::Batch;
use super::clock::Clock;
use super::error::EngineError;
use super::memory::BufferMemory;
use super::{Context, ContextPurpose, ContextShape, Device, Engine, LoadExtent, Model};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::Sampling;
use crate::model::architecture::ArchitectureClass;
use crate::model::engine_name::EngineName;
use crate::model::gguf::SpecialTokens;
use crate::prompt::piece::Prompt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The characters that are tokens, from token 2 on. Others become the first of them.
pub(crate) const ALPHABET: &str = " abcdefghijklmnopqrstuvwxyz.,?\n'";

/// The token that begins a text.
pub(crate) const BEGIN: i32 = 0;

/// The token that ends generation.
pub(crate) const END: i32 = 1;

/// Tokens of the vocabulary.
pub(crate) const VOCABULARY: usize = ALPHABET.len() + 2;

/// A clock that moves only when it is told to.
#[derive(Debug, Clone, Default)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(crate) fn advance(&self, length: Duration) {
        let nanoseconds = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// What a file of the model says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    /// Probability of the next token of the vocabulary.
    pub(crate) p: f64,
    /// The same after tokens of odd numbers, if it is another.
    pub(crate) odd: Option<f64>,
    /// Time that loading takes.
    pub(crate) load: Duration,
    /// Time that a token of a batch of several takes.
    pub(crate) prompt_token: Duration,
    /// Time that a token takes that is evaluated alone.
    pub(crate) generated_token: Duration,
    /// What is added to that for every token before it.
    pub(crate) growth: Duration,
    /// By which part of its times it is slower after each load of the engine: a machine that grows hot.
    pub(crate) slowdown: f64,
    /// How it turns tokens into what it is used for.
    pub(crate) class: ArchitectureClass,
    /// Context length, tokens.
    pub(crate) context_length: u32,
    /// Bytes of its weights.
    pub(crate) tensor_bytes: u64,
    /// Its chat template.
    pub(crate) template: Option<String>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            p: 0.5,
            odd: None,
            load: Duration::from_millis(20),
            prompt_token: Duration::from_millis(1),
            generated_token: Duration::from_millis(10),
            growth: Duration::ZERO,
            slowdown: 0.0,
            class: ArchitectureClass::DecoderOnly,
            context_length: 4096,
            tensor_bytes: 1 << 20,
            template: None,
        }
    }
}

/// The engine, with the clock that its work moves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Toy {
    pub(crate) clock: ManualClock,
    loads: Arc<AtomicU64>,
}

impl Engine for Toy {
    fn name(&self) -> EngineName {
        EngineName::Toy
    }

    fn version(&self) -> String {
        "1".to_owned()
    }

    fn devices(&self) -> Vec<Device> {
        let device = |text: &str| text.to_owned();
        vec![Device {
            name: device("CPU"),
            description: device("toy"),
            kind: device("CPU"),
            backend: device("CPU"),
            total_bytes: 1 << 30,
            free_bytes: 1 << 30,
        }]
    }

    /// One: its clock is one, too.
    fn default_threads(&self) -> u32 {
        1
    }

    fn load(
        &self,
        path: &Path,
        _settings: &Settings,
        extent: LoadExtent,
    ) -> Result<Box<dyn Model>, EngineError> {
        let failed = |reason: String| EngineError::Load { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let parameters: Parameters =
            serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        if !matches!(extent, LoadExtent::MemoryPlan { .. }) {
            self.clock.advance(parameters.load);
        }
        let loads_before = self.loads.fetch_add(1, Ordering::SeqCst);
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let pace = 1.0 + parameters.slowdown * loads_before as f64;
        Ok(Box::new(ToyModel { engine: self.clone(), parameters, pace }))
    }
}

#[derive(Debug)]
struct ToyModel {
    engine: Toy,
    parameters: Parameters,
    /// What its times are multiplied by.
    pace: f64,
}

/// The token of a character.
pub(crate) fn token_of(character: char) -> i32 {
    let place = ALPHABET.chars().position(|it| it == character).unwrap_or(0);
    i32::try_from(place).unwrap_or(0) + 2
}

impl ToyModel {
    /// Log-probabilities of what follows a token.
    fn row(&self, token: i32) -> impl Iterator<Item = f32> + use<> {
        let successor = (usize::try_from(token).unwrap_or(0) + 1) % VOCABULARY;
        let odd = self.parameters.odd.filter(|_| token % 2 == 1);
        let p = odd.unwrap_or(self.parameters.p);
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let rest = (1.0 - p) / (VOCABULARY - 1) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
        (0..VOCABULARY).map(move |it| if it == successor { p } else { rest }.ln() as f32)
    }
}

impl Model for ToyModel {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn description(&self) -> String {
        "toy".to_owned()
    }

    fn class(&self) -> ArchitectureClass {
        self.parameters.class
    }

    fn parameters(&self) -> u64 {
        1 << 20
    }

    fn chat_template(&self) -> Result<Option<(String, SpecialTokens)>, EngineError> {
        let tokens = SpecialTokens { all: Vec::new(), beginning: None, end: None };
        Ok(self.parameters.template.clone().map(|template| (template, tokens)))
    }

    fn tensor_bytes(&self) -> u64 {
        self.parameters.tensor_bytes
    }

    fn context_length(&self) -> u32 {
        self.parameters.context_length
    }

    fn layers(&self) -> u32 {
        1
    }

    fn embedding_width(&self) -> usize {
        VOCABULARY
    }

    fn vocabulary_size(&self) -> usize {
        VOCABULARY
    }

    fn beginning_token(&self) -> Option<i32> {
        Some(BEGIN)
    }

    fn any_beginning_token(&self) -> Option<i32> {
        Some(BEGIN)
    }

    fn decoder_start_token(&self) -> Option<i32> {
        Some(BEGIN)
    }

    fn ends_generation(&self, token: i32) -> bool {
        token == END
    }

    fn token_bytes(&self, token: i32) -> Vec<u8> {
        let place = usize::try_from(token - 2).ok();
        place.and_then(|place| ALPHABET.as_bytes().get(place)).copied().into_iter().collect()
    }

    fn tokenize(
        &self,
        text: &str,
        add_special: bool,
        _parse_special: bool,
    ) -> Result<Vec<i32>, EngineError> {
        let beginning = add_special.then_some(BEGIN);
        Ok(beginning.into_iter().chain(text.chars().map(token_of)).collect())
    }

    fn tokenize_rest(&self, rest: &Prompt) -> Result<Vec<i32>, EngineError> {
        self.tokenize(&rest.text(), false, true)
    }

    fn context(
        &self,
        _settings: &Settings,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Box<dyn Context + '_>, EngineError> {
        let sequences = vec![Sequence::default(); shape.sequences as usize];
        Ok(Box::new(ToyContext {
            model: self,
            shape,
            is_shared: purpose == ContextPurpose::Shared,
            sequences,
            logits: Vec::new(),
            embeddings: BTreeMap::new(),
        }))
    }
}

/// The tokens of a sequence by their positions.
type Sequence = BTreeMap<i32, i32>;

#[derive(Debug)]
struct ToyContext<'model> {
    model: &'model ToyModel,
    shape: ContextShape,
    is_shared: bool,
    sequences: Vec<Sequence>,
    logits: Vec<f32>,
    embeddings: BTreeMap<i32, Vec<f32>>,
}

impl ToyContext<'_> {
    fn spend(&self, tokens: usize, last_position: i32) {
        let Parameters { prompt_token, generated_token, growth, .. } = &self.model.parameters;
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let before = u32::try_from(last_position).unwrap_or(0);
        let alone = *generated_token + *growth * before;
        let length = if tokens == 1 { alone } else { *prompt_token * tokens };
        self.model.engine.clock.advance(length.mul_f64(self.model.pace));
    }

    fn sequence(&mut self, number: i32) -> Option<&mut Sequence> {
        self.sequences.get_mut(usize::try_from(number).ok()?)
    }
}

impl Context for ToyContext<'_> {
    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn decode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        let tokens = batch.len();
        let failed =
            |reason: &str| EngineError::Decode { tokens, code: -1, reason: reason.to_owned() };
        self.logits.clear();
        let mut sequences = batch.sequences.iter();
        for index in 0..tokens {
            let (token, position) = (batch.tokens[index], batch.positions[index]);
            let count = usize::try_from(batch.sequence_counts[index]).unwrap_or(0);
            if count > 1 && !self.is_shared {
                return Err(failed(
                    "a token of several sequences in a context that shares nothing",
                ));
            }
            for &number in sequences.by_ref().take(count) {
                let sequence = self.sequence(number).ok_or_else(|| failed("no such sequence"))?;
                if position > 0 && !sequence.contains_key(&(position - 1)) {
                    return Err(failed("the token before is not in the cache"));
                }
                sequence.insert(position, token);
            }
            if batch.outputs[index] != 0 {
                self.logits.extend(self.model.row(token));
            }
        }
        self.spend(tokens, batch.positions.last().copied().unwrap_or(0));
        Ok(())
    }

    fn encode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        let tokens = batch.len();
        if tokens > self.shape.ubatch as usize {
            return Err(EngineError::BatchFull { capacity: self.shape.ubatch as usize });
        }
        self.embeddings.clear();
        for (&token, &sequence) in batch.tokens.iter().zip(&batch.sequences) {
            let counts = self.embeddings.entry(sequence).or_insert_with(|| vec![0.0; VOCABULARY]);
            counts[usize::try_from(token).unwrap_or(0)] += 1.0;
        }
        self.spend(tokens, 0);
        Ok(())
    }

    fn synchronize(&mut self) {}

    fn all_logits(&mut self, outputs: usize) -> Result<&[f32], EngineError> {
        let missing = EngineError::NoLogits { index: i32::try_from(outputs).unwrap_or(i32::MAX) };
        let start = self.logits.len().checked_sub(outputs * VOCABULARY).ok_or(missing)?;
        Ok(&self.logits[start..])
    }

    fn embedding(&mut self, sequence: i32) -> Result<&[f32], EngineError> {
        let found = self.embeddings.get(&sequence);
        found.map(Vec::as_slice).ok_or(EngineError::NoEmbedding { sequence })
    }

    fn begin_sampling(&mut self, _sampling: Sampling) -> Result<(), EngineError> {
        Ok(())
    }

    /// The most probable token, whatever was chosen: it has no chance about it.
    fn sample(&mut self) -> Result<i32, EngineError> {
        let row = self.all_logits(1)?;
        let best = row.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1));
        Ok(best.map_or(END, |(token, _)| i32::try_from(token).unwrap_or(END)))
    }

    fn clear_memory(&mut self) {
        self.sequences.iter_mut().for_each(Sequence::clear);
    }

    fn copy_sequence(&mut self, from: i32, to: i32) {
        let copied = self.sequence(from).cloned().unwrap_or_default();
        if let Some(sequence) = self.sequence(to) {
            sequence.extend(copied);
        }
    }

    fn remove_sequence(&mut self, sequence: i32) {
        if let Some(sequence) = self.sequence(sequence) {
            sequence.clear();
        }
    }

    fn save_sequence(&mut self, sequence: i32) -> Result<Vec<u8>, EngineError> {
        let sequence = self.sequence(sequence).ok_or(EngineError::State("save"))?;
        serde_json::to_vec(sequence).map_err(|_| EngineError::State("save"))
    }

    fn restore_sequence(&mut self, sequence: i32, state: &[u8]) -> Result<(), EngineError> {
        let saved = serde_json::from_slice(state).map_err(|_| EngineError::State("restore"))?;
        *self.sequence(sequence).ok_or(EngineError::State("restore"))? = saved;
        Ok(())
    }

    fn memory(&self) -> Vec<BufferMemory> {
        vec![BufferMemory {
            buffer: "CPU".to_owned(),
            on_device: false,
            weights_bytes: self.model.parameters.tensor_bytes,
            kv_bytes: u64::from(self.shape.tokens) * 8,
            compute_bytes: u64::from(self.shape.ubatch) * 8,
            context: self.shape.tokens,
        }]
    }
}
