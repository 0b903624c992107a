//! Calibration: the text that methods of quantization look at, and how much of it.
//!
//! [`CalibrationFile`] is what the user wrote, [`CalibrationChoice`] what it means for all models, and
//! [`CalibrationPlan`] what one model's variants are made with.

use super::expand::Expansion;
use super::inputs::{self, InputError};
use super::parameters::{GptqFile, Parameters};
use super::reader::Located;
use crate::causes;
use crate::dataset::standard;
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
    pub fn on_text(mut self, source: &str) -> Result<Self, InputError> {
        let text = inputs::calibration_text(source, Path::new(""))?;
        self.text = Some((source.to_owned(), text));
        Ok(self)
    }

    /// What variants of a model are calibrated on: what was said, else the demo's text for the demo and the standard
    /// texts for others.
    pub fn plan_for(&self, model: &Source) -> CalibrationPlan {
        let demo = || {
            let text = inputs::calibration_text(inputs::DEMO, Path::new(""));
            Some((inputs::DEMO.to_owned(), text.ok().filter(|_| *model == Source::Demo)?))
        };
        let standard = || (inputs::STANDARD.to_owned(), standard::calibration());
        let (source, text) = self.text.clone().or_else(demo).unwrap_or_else(standard);
        let Self { context, chunks, parameters, .. } = *self;
        CalibrationPlan { text, source, context, chunks, parameters }
    }
}

/// `[calibration]`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CalibrationFile {
    /// The text's file, `demo` or `standard`.
    pub text: Option<Located<String>>,
    /// Tokens per chunk.
    pub context: Located<u32>,
    /// At most this many chunks.
    pub chunks: Option<Located<u32>>,
    /// How GPTQ is set.
    pub gptq: Located<GptqFile>,
}
