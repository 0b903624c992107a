//! Models: loaded weights with their vocabulary.

use super::backend::Backend;
use super::context::Context;
use super::handle::Handle;
use super::{ErrorText, devices, log, prompt, shim, text};
use crate::engine::error::EngineError;
use crate::engine::{self, ContextPurpose, ContextShape, Engine, LoadExtent};
use crate::experiment::settings::{Settings, SplitMode};
use crate::model::architecture::{ArchitectureClass, Experts};
use crate::model::engine_name::EngineName;
use crate::model::gguf::{Header, SpecialTokens, Value};
use crate::model::stored_types::StoredTypes;
use crate::prompt::piece::Prompt;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// The names of tensors with experts' weights, as llama.cpp's own `--cpu-moe` has them (common/common.h).
const EXPERT_TENSORS: &CStr = c"\\.ffn_(up|down|gate|gate_up)_(ch|)exps";

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    /// Contexts borrow the model, so none is left when this is freed.
    handle: Handle<sys::llama_model>,
    backend: Backend,
    extent: LoadExtent,
    path: PathBuf,
    /// The file's header, once it was asked for.
    header: OnceLock<Header>,
    /// What contexts compute with, and how strongly; llama.cpp frees them with the model.
    adapters: Vec<(NonNull<sys::llama_adapter_lora>, f32)>,
    /// Texts of the tokens that mark a chat, once they were asked for.
    pub(super) marks: OnceLock<Vec<String>>,
}

// SAFETY: a loaded model is only read, and llama.cpp evaluates several contexts of one model in
// several threads (its own server does); it is freed after the last context, by whichever thread.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Loads a GGUF (the first part, if it is split).
    ///
    /// # Errors
    /// [`EngineError::Load`] with llama.cpp's last error lines.
    pub fn load(
        backend: Backend,
        path: &Path,
        settings: &Settings,
        extent: LoadExtent,
    ) -> Result<Self, EngineError> {
        check(settings)?;
        let c_path = to_c_string(&path.to_string_lossy())?;
        // SAFETY: returns a plain struct.
        let mut parameters = unsafe { sys::llama_model_default_params() };
        parameters.n_gpu_layers = settings.gpu_layers;
        parameters.split_mode = match settings.split_mode {
            SplitMode::None => sys::LLAMA_SPLIT_MODE_NONE,
            SplitMode::Layer => sys::LLAMA_SPLIT_MODE_LAYER,
            SplitMode::Row => sys::LLAMA_SPLIT_MODE_ROW,
            SplitMode::Tensor => sys::LLAMA_SPLIT_MODE_TENSOR,
        };
        let shares = devices::shares(backend, settings)?;
        if !shares.is_empty() {
            parameters.tensor_split = shares.as_ptr();
        }
        parameters.main_gpu = i32::try_from(settings.main_gpu).unwrap_or(0);
        parameters.load_mode =
            if settings.mmap { sys::LLAMA_LOAD_MODE_AUTO } else { sys::LLAMA_LOAD_MODE_NONE };
        parameters.vocab_only = extent == LoadExtent::Vocabulary;
        parameters.no_alloc = matches!(extent, LoadExtent::MemoryPlan { .. });
        let on_host = [
            sys::llama_model_tensor_buft_override {
                pattern: EXPERT_TENSORS.as_ptr(),
                // SAFETY: takes nothing; the type lives as long as the program.
                buft: unsafe { sys::ggml_backend_cpu_buffer_type() },
            },
            // An empty entry ends the list.
            sys::llama_model_tensor_buft_override { pattern: ptr::null(), buft: ptr::null_mut() },
        ];
        let planned = extent == LoadExtent::MemoryPlan { experts_on_host: true };
        if settings.cpu_moe || planned {
            parameters.tensor_buft_overrides = on_host.as_ptr();
        }
        parameters.use_extra_bufts = settings.repack && extent != LoadExtent::Editable;
        if !matches!(extent, LoadExtent::Everything | LoadExtent::Vocabulary) {
            parameters.load_mode = sys::LLAMA_LOAD_MODE_NONE;
        }
        // SAFETY: the path is terminated and outlives the call, as does what the parameters point to, a list that ends
        // with an empty entry; the error buffer has the length given.
        let (handle, error) = ErrorText::of(|text, length| unsafe {
            let made = shim::quantbench_load_model(c_path.as_ptr(), parameters, text, length);
            Handle::new(made, sys::llama_model_free)
        });
        let path = path.to_owned();
        let Some(handle) = handle else {
            return Err(EngineError::Load { path, reason: error.reason() });
        };
        let (header, marks) = (OnceLock::new(), OnceLock::new());
        Ok(Self { handle, backend, extent, path, header, adapters: Vec::new(), marks })
    }

    fn header(&self) -> Result<&Header, EngineError> {
        if self.header.get().is_none() {
            let header = Header::read(&self.path).map_err(|error| self.unreadable(&error))?;
            // Another thread may have read the same in the meantime.
            let _ = self.header.set(header);
        }
        self.header.get().ok_or_else(|| self.unreadable(&"it has no header"))
    }

    fn unreadable(&self, reason: &dyn std::fmt::Display) -> EngineError {
        EngineError::Load { path: self.path.clone(), reason: reason.to_string() }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.handle.as_ptr()
    }

    /// How much of the model is loaded.
    #[must_use]
    pub fn extent(&self) -> LoadExtent {
        self.extent
    }

    /// Proof that llama.cpp is initialised.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Adapters, and how strongly each is applied.
    pub(super) fn adapters(&self) -> (Vec<*mut sys::llama_adapter_lora>, Vec<f32>) {
        self.adapters.iter().map(|(adapter, scale)| (adapter.as_ptr(), *scale)).unzip()
    }

    pub(super) fn vocabulary(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is alive; the vocabulary lives as long as it.
        unsafe { sys::llama_model_get_vocab(self.as_ptr()) }
    }

    /// Length of a token embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        // SAFETY: the model is alive.
        usize::try_from(unsafe { sys::llama_model_n_embd_inp(self.as_ptr()) }).unwrap_or(0)
    }

    /// Whether the file says how the tokens of a text become one embedding: by their mean, the first
    /// or the last of them (llama.h, `llama_pooling_type`). Rerankers, which yield a score instead,
    /// do not say so.
    pub(super) fn asks_for_pooling(&self) -> bool {
        let pooling = self.header().ok().and_then(|header| header.get_own("pooling_type"));
        pooling.and_then(Value::as_count).is_some_and(|pooling| (1..=3).contains(&pooling))
    }
}

impl engine::Model for Model {
    fn engine(&self) -> &dyn Engine {
        &self.backend
    }

    fn description(&self) -> String {
        let mut buffer = [0; 256];
        // SAFETY: the model is alive; the buffer has the length given and is terminated by the call.
        unsafe { sys::llama_model_desc(self.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };
        text(buffer.as_ptr())
    }

    fn parameters(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_params(self.as_ptr()) }
    }

    fn tensor_bytes(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_size(self.as_ptr()) }
    }

    fn context_length(&self) -> u32 {
        // SAFETY: the model is alive.
        u32::try_from(unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) }).unwrap_or(0)
    }

    fn layers(&self) -> u32 {
        // SAFETY: the model is alive.
        u32::try_from(unsafe { sys::llama_model_n_layer(self.as_ptr()) }).unwrap_or(0)
    }

    // llama.cpp knows whether there is an encoder and a decoder; embedding models that it counts as
    // decoders are recognised by their family.
    fn class(&self) -> ArchitectureClass {
        // SAFETY: the model is alive.
        let (encoder, decoder) = unsafe {
            (
                sys::llama_model_has_encoder(self.as_ptr()),
                sys::llama_model_has_decoder(self.as_ptr()),
            )
        };
        match (encoder, decoder) {
            (_, false) => ArchitectureClass::EncoderOnly,
            (true, true) => ArchitectureClass::EncoderDecoder,
            (false, true) => self.header().map(Header::architecture_class).unwrap_or_default(),
        }
    }

    fn embedding_width(&self) -> usize {
        // SAFETY: the model is alive.
        usize::try_from(unsafe { sys::llama_model_n_embd_out(self.as_ptr()) }).unwrap_or(0)
    }

    fn decoder_start_token(&self) -> Option<i32> {
        // SAFETY: the model and with it the vocabulary are alive.
        let (start, padding) = unsafe {
            (
                sys::llama_model_decoder_start_token(self.as_ptr()),
                sys::llama_vocab_pad(self.vocabulary()),
            )
        };
        // T5 begins with padding; files that name no other token mean that.
        let token = if start >= 0 { start } else { padding };
        (token >= 0).then_some(token)
    }

    fn vocabulary_size(&self) -> usize {
        // SAFETY: the vocabulary is alive.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocabulary()) }).unwrap_or(0)
    }

    fn beginning_token(&self) -> Option<i32> {
        // SAFETY: the vocabulary is alive.
        let (wanted, token) = unsafe {
            (
                sys::llama_vocab_get_add_bos(self.vocabulary()),
                sys::llama_vocab_bos(self.vocabulary()),
            )
        };
        (wanted && token >= 0).then_some(token)
    }

    fn any_beginning_token(&self) -> Option<i32> {
        // SAFETY: the vocabulary is alive.
        let token = unsafe { sys::llama_vocab_bos(self.vocabulary()) };
        (token >= 0).then_some(token)
    }

    fn ends_generation(&self, token: i32) -> bool {
        // SAFETY: the vocabulary is alive.
        unsafe { sys::llama_vocab_is_eog(self.vocabulary(), token) }
    }

    fn tokenize(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<i32>, EngineError> {
        let failed = || EngineError::Tokenize { bytes: text.len() };
        let length = i32::try_from(text.len()).map_err(|_| failed())?;
        // A token is at least one byte; two more for the special tokens around.
        let mut tokens = vec![0; text.len() + 2];
        for _ in 0..2 {
            // SAFETY: pointers and lengths belong together; the vocabulary is alive.
            let count = unsafe {
                sys::llama_tokenize(
                    self.vocabulary(),
                    text.as_ptr().cast(),
                    length,
                    tokens.as_mut_ptr(),
                    i32::try_from(tokens.len()).map_err(|_| failed())?,
                    add_special,
                    parse_special,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                tokens.truncate(count);
                return Ok(tokens);
            }
            // Negative: so many tokens are needed.
            let needed = usize::try_from(count.checked_neg().ok_or_else(failed)?);
            tokens.resize(needed.map_err(|_| failed())?, 0);
        }
        Err(failed())
    }

    fn token_bytes(&self, token: i32) -> Vec<u8> {
        let mut buffer = vec![0_u8; 64];
        for _ in 0..2 {
            // SAFETY: the buffer has the length given; the vocabulary is alive.
            let count = unsafe {
                sys::llama_token_to_piece(
                    self.vocabulary(),
                    token,
                    buffer.as_mut_ptr().cast(),
                    i32::try_from(buffer.len()).unwrap_or(0),
                    0,
                    false,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                buffer.truncate(count);
                return buffer;
            }
            buffer.resize(usize::try_from(count.unsigned_abs()).unwrap_or(64), 0);
        }
        Vec::new()
    }

    fn active_parameters(&self) -> Option<u64> {
        self.header().ok().map(Header::active_parameters)
    }

    fn experts(&self) -> Option<Experts> {
        self.header().ok().and_then(Header::experts)
    }

    fn learnt_positions(&self) -> Option<u32> {
        let mut tensors = self.header().ok()?.tensors.iter();
        let embeddings = tensors.find(|tensor| tensor.name == "position_embd.weight")?;
        embeddings.dimensions.get(1).and_then(|&rows| u32::try_from(rows).ok())
    }

    fn bytes_per_token(&self) -> Option<u64> {
        self.header().ok().map(Header::bytes_per_token)
    }

    fn stored_types(&self) -> Option<StoredTypes> {
        self.header().ok().map(StoredTypes::of)
    }

    fn chat_template(&self) -> Result<Option<(String, SpecialTokens)>, EngineError> {
        let Some(template) = self.header()?.chat_template() else { return Ok(None) };
        let tokens = SpecialTokens::read(&self.path).map_err(|error| self.unreadable(&error))?;
        Ok(Some((template.to_owned(), tokens)))
    }

    fn tokenize_rest(&self, rest: &Prompt) -> Result<Vec<i32>, EngineError> {
        prompt::tokenize(self, rest)
    }

    fn adapt(&mut self, path: &Path, scale: f64) -> Result<(), EngineError> {
        let c_path = to_c_string(&path.to_string_lossy())?;
        log::forget_errors();
        // SAFETY: the model is alive, and borrowed by no context; the path is terminated and outlives the call. What
        // is made belongs to the model, which frees it.
        let made = unsafe { sys::llama_adapter_lora_init(self.as_ptr(), c_path.as_ptr()) };
        let failed = || EngineError::Load { path: path.to_owned(), reason: log::take_errors() };
        let adapter = NonNull::new(made).ok_or_else(failed)?;
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp's precision")]
        self.adapters.push((adapter, scale as f32));
        Ok(())
    }

    fn context(
        &self,
        settings: &Settings,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Box<dyn engine::Context + '_>, EngineError> {
        Ok(Box::new(Context::new(self, settings, shape, purpose)?))
    }

    #[cfg(feature = "multimodal")]
    fn projector(
        &self,
        path: &Path,
        settings: &Settings,
    ) -> Result<Box<dyn engine::Projector + '_>, EngineError> {
        Ok(Box::new(super::projector::Projector::load(self, path, settings)?))
    }
}

/// Refuses settings that only ONNX Runtime has.
fn check(settings: &Settings) -> Result<(), EngineError> {
    let usual = Settings::default();
    let refused = [
        ("spinning", settings.spinning != usual.spinning, "its threads wait as they like"),
        (
            "graph_optimization",
            settings.graph_optimization != usual.graph_optimization,
            "it builds graphs itself",
        ),
        ("provider", settings.provider != usual.provider, "its back ends are those of its build"),
    ];
    match refused.into_iter().find(|(_, is_set, _)| *is_set) {
        None => Ok(()),
        Some((setting, _, reason)) => {
            Err(EngineError::Setting { engine: EngineName::LlamaCpp, setting, reason })
        }
    }
}

/// A string as C wants it.
pub(super) fn to_c_string(text: &str) -> Result<CString, EngineError> {
    CString::new(text).map_err(|_| EngineError::ZeroByte(text.replace('\0', "\\0")))
}
