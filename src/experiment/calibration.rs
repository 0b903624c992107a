//! Calibration: the text that methods of quantization look at, and how much of it.
//!
//! [`CalibrationFile`] is what the user wrote, [`CalibrationChoice`] what it means for all models, and
//! [`CalibrationPlan`] what one model's variants are made with.

use super::expand::Expansion;
use super::inputs::{self, InputError};
use super::parameters::{GptqFile, Parameters};
use super::reader::Located;
use crate::causes;
use crate::model::cache::{CalibrationKey, of_bytes};
use crate::model::quantization::Method;
use crate::model::source::Source;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// llama-imatrix's `n_ctx`.
pub const CONTEXT: u32 = 512;

/// Fewer tokens of a chunk llama-imatrix does not look at.
pub const SHORTEST_CONTEXT: u32 = 16;

/// What the variants of one model are calibrated on, and how their methods are set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPlan {
    /// The text itself.
    pub text: String,
    /// Where the text came from, as the user wrote it.
    pub source: String,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks; `None`: all of the text.
    pub chunks: Option<u32>,
    /// How methods are set.
    #[serde(flatten)]
    pub parameters: Parameters,
}

impl CalibrationPlan {
    /// What a variant made by `method` depends on; `None` if it depends on no text.
    pub fn key(&self, method: Method) -> Option<CalibrationKey> {
        method.is_calibrated().then(|| CalibrationKey {
            text_checksum: of_bytes(self.text.as_bytes()),
            context: self.context,
            chunks: self.chunks,
            parameters: self.parameters.of(method).unwrap_or_default(),
        })
    }
}

/// Why a model's variants cannot be calibrated; `Display` is a fragment.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// Only the demo model has a text of its own.
    #[error("there is no text to calibrate on")]
    NoText,
    /// The text cannot be used.
    #[error("the calibration text {reason}")]
    Input {
        /// Why not; a fragment.
        reason: String,
    },
}

impl From<InputError> for CalibrationError {
    fn from(error: InputError) -> Self {
        Self::Input { reason: causes::in_words(&error) }
    }
}

/// What `[calibration]` means, before it is known which model it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationChoice {
    text: Option<(String, String)>,
    context: u32,
    chunks: Option<u32>,
    parameters: Parameters,
}

impl Default for CalibrationChoice {
    fn default() -> Self {
        Self { text: None, context: CONTEXT, chunks: None, parameters: Parameters::default() }
    }
}

impl CalibrationChoice {
    /// Reads the text that is named, if one is.
    pub(super) fn new(file: &CalibrationFile, expansion: &mut Expansion<'_>) -> Self {
        let Expansion { origin, problems } = expansion;
        let read = |written: &Located<String>| match inputs::calibration_text(written, origin.base)
        {
            Ok(text) => Some((written.value.clone(), text)),
            Err(error) => {
                problems.push(written.problem(causes::in_words(&error)));
                None
            }
        };
        Self {
            text: file.text.as_ref().and_then(read),
            context: *file.context,
            chunks: file.chunks.as_deref().copied(),
            parameters: Parameters { gptq: file.gptq.read() },
        }
    }

    /// What flags say, without a text.
    pub fn of(context: Option<u32>, chunks: Option<u32>, parameters: Parameters) -> Self {
        Self { text: None, context: context.unwrap_or(CONTEXT), chunks, parameters }
    }

    /// Takes the text of a file instead.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn on_text(mut self, source: &str) -> Result<Self, CalibrationError> {
        let text = inputs::calibration_text(source, Path::new(""))?;
        self.text = Some((source.to_owned(), text));
        Ok(self)
    }

    /// What variants of a model are calibrated on: what was said, else the demo's text for the demo.
    ///
    /// # Errors
    /// There is neither.
    pub fn plan_for(&self, model: &Source) -> Result<CalibrationPlan, CalibrationError> {
        let (source, text) = match &self.text {
            Some(named) => named.clone(),
            None if *model == Source::Demo => {
                let text = inputs::calibration_text(inputs::DEMO, Path::new(""))?;
                (inputs::DEMO.to_owned(), text)
            }
            None => return Err(CalibrationError::NoText),
        };
        let Self { context, chunks, parameters, .. } = *self;
        Ok(CalibrationPlan { text, source, context, chunks, parameters })
    }
}

/// `[calibration]`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CalibrationFile {
    /// The text, or `demo`.
    pub text: Option<Located<String>>,
    /// Tokens per chunk.
    pub context: Located<u32>,
    /// At most this many chunks.
    pub chunks: Option<Located<u32>>,
    /// How GPTQ is set.
    pub gptq: Located<GptqFile>,
}
