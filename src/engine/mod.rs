//! Engines: what computes a model. `mod.rs` is all that workloads know of one.
//!
//! [`llama`] is llama.cpp, [`onnxruntime`] is ONNX Runtime; [`toy`], in tests, is a model in plain Rust whose
//! probabilities and times are known exactly. An engine runs in the worker process: native code may abort, and then only a
//! trial is lost. Uses `experiment::settings`, `prompt` and `model`; used by `workload`, `quantize`,
//! `mix` and `worker`. Another engine is another folder here that implements the traits below.

pub mod batch;
pub mod clock;
pub mod error;
pub mod llama;
pub mod memory;
pub mod onnxruntime;
pub mod picture;
pub mod streams;
#[cfg(test)]
pub mod toy;

use crate::dataset::picture::Picture;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::Sampling;
use crate::model::architecture::{ArchitectureClass, Experts};
use crate::model::engine_name::EngineName;
use crate::model::gguf::SpecialTokens;
use crate::model::split::all_parts;
use crate::model::stored_types::StoredTypes;
use crate::prompt::piece::Prompt;
use batch::Batch;
use error::EngineError;
use memory::BufferMemory;

use picture::{EncodedPicture, PictureExtent};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// What computes models.
pub trait Engine: Debug + Send + Sync {
    /// Which engine it is; part of a trial's identity.
    fn name(&self) -> EngineName;

    /// Its version, as it names it; part of a trial's identity.
    fn version(&self) -> String;

    /// The devices that it can compute on.
    fn devices(&self) -> Vec<Device>;

    /// Those that it computes on under some settings.
    fn devices_for(&self, _settings: &Settings) -> Vec<Device> {
        self.devices()
    }

    /// Whether a model is computed on a device other than the processor under these settings.
    fn uses_gpu(&self, settings: &Settings) -> bool {
        let is_gpu = |device: Device| device.kind != "CPU" && device.kind != "accelerator";
        settings.gpu_layers != 0 && self.devices_for(settings).into_iter().any(is_gpu)
    }

    /// Whether contexts of one model evaluate side by side, each with threads of its own.
    fn divides_threads(&self, settings: &Settings) -> bool {
        !self.uses_gpu(settings)
    }

    /// Threads that are used where the settings name no number.
    fn default_threads(&self) -> u32;

    /// The files of a model, of which `path` is the first: what is dropped from the page cache before a cold load.
    fn files(&self, path: &Path) -> Vec<PathBuf> {
        all_parts(path)
    }

    /// Loads a model (its first file, if it is split).
    ///
    /// # Errors
    /// [`EngineError::Load`] with the engine's own words.
    fn load(
        &self,
        path: &Path,
        settings: &Settings,
        extent: LoadExtent,
    ) -> Result<Box<dyn Model>, EngineError>;
}

/// Starts the engine of this name, for the life of the process.
///
/// # Errors
/// Its library is not there or cannot be used, or this build is without it.
pub fn start(name: EngineName) -> Result<Box<dyn Engine>, EngineError> {
    match name {
        EngineName::LlamaCpp => Ok(Box::new(llama::backend::Backend::initialise())),
        #[cfg(feature = "onnx")]
        EngineName::OnnxRuntime => Ok(Box::new(onnxruntime::Runtime::start()?)),
        #[cfg(not(feature = "onnx"))]
        EngineName::OnnxRuntime => Err(EngineError::NotBuilt(name)),
        #[cfg(test)]
        EngineName::Toy => Ok(Box::new(toy::Toy::default())),
    }
}

/// A device that an engine can compute on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Short name, such as `CUDA0`.
    pub name: String,
    /// The device's own name.
    pub description: String,
    /// `CPU`, `GPU`, `integrated GPU` or `accelerator`.
    pub kind: String,
    /// The part of the engine that serves it, such as `CUDA`.
    pub backend: String,
    /// Memory, bytes.
    pub total_bytes: u64,
    /// Free memory, bytes.
    pub free_bytes: u64,
}

/// How much of a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadExtent {
    /// Weights and vocabulary.
    Everything,
    /// Vocabulary and metadata only.
    Vocabulary,
    /// Metadata; memory is counted but not taken.
    MemoryPlan {
        /// Whether the weights of experts lie on the host, whatever else is on a GPU.
        experts_on_host: bool,
    },
    /// As `Everything`, with weights that can be read back and overwritten: neither mapped from the
    /// file nor repacked for speed.
    Editable,
    /// As `Everything`, with weights that can be overwritten whole but not read back: not mapped from the file,
    /// and repacked for speed where the engine does so, again whenever they are overwritten.
    Overwritable,
}

impl LoadExtent {
    /// Metadata alone, all weights where the settings put them.
    pub const MEMORY_PLAN: Self = Self::MemoryPlan { experts_on_host: false };
}

/// What becomes of a cache of keys and values when a token is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheUse {
    /// The token's are written behind those that are there.
    InPlace,
    /// All are written anew, so that each token costs more than the one before.
    Copied,
}

/// A loaded model: weights with their vocabulary. Several contexts may evaluate it at the same time.
pub trait Model: Debug + Send + Sync {
    /// What computes it.
    fn engine(&self) -> &dyn Engine;

    /// The engine's description, such as `llama 7B Q4_K - Medium`.
    fn description(&self) -> String;

    /// Decoder, encoder, or both.
    fn class(&self) -> ArchitectureClass;

    /// Number of weights.
    fn parameters(&self) -> u64;

    /// Weights that compute a token: fewer than all in a mixture of experts; `None` if the engine does
    /// not tell.
    fn active_parameters(&self) -> Option<u64> {
        None
    }

    /// The experts of a mixture of experts.
    fn experts(&self) -> Option<Experts> {
        None
    }

    /// Bytes of weights that are read for every generated token; `None` if the engine does not tell.
    fn bytes_per_token(&self) -> Option<u64> {
        None
    }

    /// The types that its weights are stored in; `None` if the engine does not tell.
    fn stored_types(&self) -> Option<StoredTypes> {
        None
    }

    /// What becomes of its cache when a token is added; `None`: it has none, or the engine does not tell.
    fn cache_use(&self) -> Option<CacheUse> {
        None
    }

    /// Whether sequences of a batch are evaluated side by side; if not, one after the other.
    fn evaluates_side_by_side(&self) -> bool {
        true
    }

    /// The model's own chat template, with the texts of the tokens that it may name; `None` if it has
    /// none.
    ///
    /// # Errors
    /// [`EngineError::Load`] if the model's files can no longer be read.
    fn chat_template(&self) -> Result<Option<(String, SpecialTokens)>, EngineError> {
        Ok(None)
    }

    /// Bytes of all tensors.
    fn tensor_bytes(&self) -> u64;

    /// Context length that it was trained with, tokens.
    fn context_length(&self) -> u32;

    /// How many positions a decoder has learnt embeddings of; `None`: it computes any position.
    fn learnt_positions(&self) -> Option<u32> {
        None
    }

    /// Number of layers.
    fn layers(&self) -> u32;

    /// Length of an embedding that it yields.
    fn embedding_width(&self) -> usize;

    /// Number of tokens in the vocabulary.
    fn vocabulary_size(&self) -> usize;

    /// The token that begins a text, if the model wants one there.
    fn beginning_token(&self) -> Option<i32>;

    /// The token that begins a text, whether or not the model wants one before each text.
    fn any_beginning_token(&self) -> Option<i32>;

    /// The token that a decoder after an encoder begins with.
    fn decoder_start_token(&self) -> Option<i32>;

    /// Whether a token ends generation.
    fn ends_generation(&self, token: i32) -> bool;

    /// The bytes of one token; empty for special tokens.
    fn token_bytes(&self, token: i32) -> Vec<u8>;

    /// Turns text into tokens. `add_special` puts the tokens around it that the model wants;
    /// `parse_special` turns the text of special tokens into those tokens.
    ///
    /// # Errors
    /// [`EngineError::Tokenize`] for a text that is too long for the engine.
    fn tokenize(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<i32>, EngineError>;

    /// Turns a prompt into tokens: special tokens where it has them, text that stays text elsewhere.
    /// No token is put in front.
    ///
    /// # Errors
    /// [`EngineError::Tokenize`] for a text that is too long for the engine.
    fn tokenize_rest(&self, rest: &Prompt) -> Result<Vec<i32>, EngineError>;

    /// As [`Self::tokenize_rest`], with the token in front that begins a text, if the model wants one and
    /// the prompt has none.
    ///
    /// # Errors
    /// [`EngineError::Tokenize`] for a text that is too long for the engine.
    fn tokenize_prompt(&self, prompt: &Prompt) -> Result<Vec<i32>, EngineError> {
        let mut tokens = self.tokenize_rest(prompt)?;
        if let Some(beginning) = self.beginning_token()
            && tokens.first() != Some(&beginning)
        {
            tokens.insert(0, beginning);
        }
        Ok(tokens)
    }

    /// Has every context from now on compute with an adapter, multiplied by `scale`.
    ///
    /// # Errors
    /// [`EngineError::Load`]; [`EngineError::Unsupported`] for an engine without adapters.
    fn adapt(&mut self, _path: &Path, _scale: f64) -> Result<(), EngineError> {
        Err(EngineError::Unsupported("apply adapters"))
    }

    /// Makes a context; threads come from the settings, or are the engine's default.
    ///
    /// # Errors
    /// [`EngineError::Context`], most often because memory is short.
    fn context(
        &self,
        settings: &Settings,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Box<dyn Context + '_>, EngineError>;

    /// Loads what turns pictures into something that this model can read.
    ///
    /// # Errors
    /// [`EngineError::Load`]; [`EngineError::Unsupported`] for an engine or a build without pictures.
    fn projector(
        &self,
        _path: &Path,
        _settings: &Settings,
    ) -> Result<Box<dyn Projector + '_>, EngineError> {
        Err(EngineError::Unsupported("read pictures"))
    }
}

/// Sizes of a context, besides the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextShape {
    /// Tokens of KV cache in all.
    pub tokens: u32,
    /// Sequences evaluated side by side; each gets an equal share of the tokens.
    pub sequences: u32,
    /// Tokens submitted at once.
    pub batch: u32,
    /// Tokens computed at once.
    pub ubatch: u32,
}

/// What a context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextPurpose {
    /// Sequences that have nothing in common.
    Separate,
    /// As `Separate`, of which never more than one token's logits are asked at a time: texts are continued.
    Generation,
    /// Sequences that have beginnings in common: all of them share the tokens of the cache, so that a
    /// token may belong to several, and copying a sequence costs nothing.
    Shared,
    /// One embedding per sequence, pooled as the model asks, or by the mean of its tokens where it asks
    /// for nothing. Texts are evaluated whole: `shape.ubatch` must hold all tokens of a batch.
    Embeddings,
}

/// A model being evaluated, with its KV cache.
pub trait Context: Debug + Send {
    /// The sizes that it was made with.
    fn shape(&self) -> ContextShape;

    /// Evaluates a batch. Devices may still be computing when this returns; see [`Self::synchronize`].
    ///
    /// # Errors
    /// [`EngineError::Decode`].
    fn decode(&mut self, batch: &mut Batch) -> Result<(), EngineError>;

    /// Runs a batch through the encoder, all of it at once. In a model with a decoder, what follows
    /// through [`Self::decode`] attends to it; in a model without, [`Self::embedding`] has the result.
    ///
    /// # Errors
    /// [`EngineError::Decode`]; [`EngineError::BatchFull`] for more tokens than are computed at once.
    fn encode(&mut self, batch: &mut Batch) -> Result<(), EngineError>;

    /// Waits until everything submitted is computed.
    fn synchronize(&mut self);

    /// Logits of `outputs` outputs of the last batch, in order, `[outputs, vocabulary]`.
    ///
    /// # Errors
    /// [`EngineError::NoLogits`] if the last batch asked for fewer.
    fn all_logits(&mut self, outputs: usize) -> Result<&[f32], EngineError>;

    /// The embedding of a sequence of the last batch. Not normalised.
    ///
    /// # Errors
    /// [`EngineError::NoEmbedding`] if the last batch had no such sequence.
    fn embedding(&mut self, sequence: i32) -> Result<&[f32], EngineError>;

    /// Chooses how [`Self::sample`] samples, from its first draw on.
    ///
    /// # Errors
    /// [`EngineError::NoSampler`] if memory is short.
    fn begin_sampling(&mut self, sampling: Sampling) -> Result<(), EngineError>;

    /// Samples a token from the last output of the last batch; greedily if nothing else was chosen.
    ///
    /// # Errors
    /// [`EngineError::NoLogits`] if there is no output.
    fn sample(&mut self) -> Result<i32, EngineError>;

    /// Empties the KV cache of all sequences.
    fn clear_memory(&mut self);

    /// Gives the sequence `to` everything that the sequence `from` has.
    fn copy_sequence(&mut self, from: i32, to: i32);

    /// Removes a sequence; what it has in common with others stays theirs.
    fn remove_sequence(&mut self, sequence: i32);

    /// Saves the state of one sequence.
    ///
    /// # Errors
    /// [`EngineError::State`].
    fn save_sequence(&mut self, sequence: i32) -> Result<Vec<u8>, EngineError>;

    /// Restores the state of one sequence.
    ///
    /// # Errors
    /// [`EngineError::State`].
    fn restore_sequence(&mut self, sequence: i32, state: &[u8]) -> Result<(), EngineError>;

    /// Reads a picture from `position` on; returns the position behind it.
    ///
    /// # Errors
    /// [`EngineError::Picture`]; [`EngineError::Unsupported`] for a picture of another engine or model.
    fn read_picture(
        &mut self,
        _picture: &mut EncodedPicture,
        _position: i32,
    ) -> Result<i32, EngineError> {
        Err(EngineError::Unsupported("read pictures"))
    }

    /// What was allocated for weights, KV cache and computation, per kind of buffer.
    fn memory(&self) -> Vec<BufferMemory>;

    /// Bytes that it takes besides the weights.
    fn own_bytes(&self) -> u64 {
        self.memory().iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes).sum()
    }
}

/// What turns a picture into embeddings that a model reads in place of tokens.
pub trait Projector: Debug {
    /// Bytes of its weights and buffers.
    fn bytes(&self) -> u64;

    /// Whether all of a part of a picture must be in one batch, since its embeddings attend to each other.
    fn reads_at_once(&self) -> bool;

    /// The extent of a picture of this size, in pixels.
    ///
    /// # Errors
    /// [`EngineError::Picture`].
    fn measure(&self, width: u32, height: u32) -> Result<PictureExtent, EngineError>;

    /// Encodes a picture.
    ///
    /// # Errors
    /// [`EngineError::Picture`].
    fn encode(&mut self, picture: &Picture) -> Result<EncodedPicture, EngineError>;
}
