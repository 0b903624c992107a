//! The methods of `quantbench quantize`: what they are calibrated on, from the flags.

use super::{Arguments, QuantizeError};
use crate::experiment::calibration::{
    CalibrationChoice, CalibrationError, CalibrationPlan, GptqSettings,
};
use crate::mix::recipe::Recipe;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, Scratch};
use crate::model::quantization::{Method, Quantization};
use crate::model::source::Source;
use crate::orchestrator::calibration::Ready;
use crate::quantize::jobs::CalibrationInput;
use std::fs;
use std::path::{Path, PathBuf};

/// What the files of one command are calibrated on.
#[derive(Debug)]
pub(super) enum Calibration {
    /// A text, from which the matrix is made or found in the cache.
    Text(Box<CalibrationPlan>),
    /// A matrix that is there, with a text for methods that need one as well.
    Matrix { path: PathBuf, text: Option<Box<CalibrationPlan>>, gptq: GptqSettings },
}

/// The quantizations asked for, with the method of `--method` where they name none. Of a recipe it is the type that
/// most weights have.
pub(super) fn quantizations(
    arguments: &Arguments,
    recipe: Option<&Recipe>,
) -> Result<Vec<Quantization>, QuantizeError> {
    if let Some(recipe) = recipe {
        let method = arguments.method.unwrap_or(Method::Rtn);
        return Ok(vec![Quantization { method, file_type: recipe.file_type }]);
    }
    let Some(method) = arguments.method else { return Ok(arguments.to.clone()) };
    let with_method = |&quantization: &Quantization| match quantization.method {
        Method::Rtn => Ok(Quantization { method, ..quantization }),
        own if own == method => Ok(quantization),
        _ => Err(QuantizeError::TwoMethods { quantization, method }),
    };
    arguments.to.iter().map(with_method).collect()
}

/// What the flags say about calibration; `None` if no quantization is calibrated.
pub(super) fn calibration(
    arguments: &Arguments,
    quantizations: &[Quantization],
    source: &Source,
) -> Result<Option<Calibration>, QuantizeError> {
    let calibrated = |method: Method| method.is_calibrated();
    let Some(first) = quantizations.iter().find(|it| calibrated(it.method)) else {
        return match flag_without_use(arguments) {
            Some(flag) => Err(QuantizeError::NothingCalibrated { flag }),
            None => Ok(None),
        };
    };
    if !quantizations.iter().any(|it| it.method == Method::Gptq) {
        let flags =
            [(arguments.damping.is_some(), "--damping"), (arguments.sweeps.is_some(), "--sweeps")];
        if let Some((_, flag)) = flags.into_iter().find(|(given, _)| *given) {
            return Err(QuantizeError::NoGptq { flag });
        }
    }
    let choice = choice(arguments)?;
    let Some(matrix) = &arguments.imatrix else {
        let plan = choice.plan_for(source).map_err(|reason| no_text(*first, reason))?;
        return Ok(Some(Calibration::Text(Box::new(plan))));
    };
    crate::files::open(matrix)
        .map_err(|source| QuantizeError::NoMatrix { path: matrix.clone(), source })?;
    let needs_text = |it: &&Quantization| matches!(it.method, Method::Gptq | Method::Awq);
    let text = match quantizations.iter().find(needs_text) {
        None => None,
        Some(which) => {
            let plan = choice.plan_for(source).map_err(|reason| no_text(*which, reason))?;
            Some(Box::new(plan))
        }
    };
    let path = std::path::absolute(matrix).unwrap_or_else(|_| matrix.clone());
    Ok(Some(Calibration::Matrix { path, text, gptq: gptq(arguments) }))
}

fn no_text(quantization: Quantization, reason: CalibrationError) -> QuantizeError {
    QuantizeError::NoText { quantization, reason }
}

/// A flag that only calibrated methods have a use for.
fn flag_without_use(arguments: &Arguments) -> Option<&'static str> {
    [
        (arguments.calibration.is_some(), "--calibration"),
        (arguments.imatrix.is_some(), "--imatrix"),
        (arguments.context.is_some(), "--context"),
        (arguments.chunks.is_some(), "--chunks"),
        (arguments.damping.is_some(), "--damping"),
        (arguments.sweeps.is_some(), "--sweeps"),
    ]
    .into_iter()
    .find_map(|(given, flag)| given.then_some(flag))
}

fn choice(arguments: &Arguments) -> Result<CalibrationChoice, QuantizeError> {
    let choice = CalibrationChoice::of(arguments.context, arguments.chunks, gptq(arguments));
    match &arguments.calibration {
        None => Ok(choice),
        Some(text) => choice.on_text(text).map_err(QuantizeError::Text),
    }
}

fn gptq(arguments: &Arguments) -> GptqSettings {
    let default = GptqSettings::default();
    GptqSettings {
        damping: arguments.damping.unwrap_or(default.damping),
        sweeps: arguments.sweeps.unwrap_or(default.sweeps),
        ..default
    }
}

/// What a worker is given for one file; the files it names live as long as this.
#[derive(Debug)]
pub(super) enum Given {
    Prepared(Ready, Box<CalibrationPlan>),
    Laid { input: CalibrationInput, _text: Scratch },
}

impl Given {
    /// Lays out what a matrix of the user's needs beside it.
    pub(super) fn with_matrix(
        cache: &Cache,
        matrix: &Path,
        text: Option<&CalibrationPlan>,
        gptq: GptqSettings,
    ) -> Result<Self, QuantizeError> {
        let scratch = cache.scratch("calibration-text")?;
        if let Some(plan) = text {
            fs::write(scratch.path(), &plan.text).map_err(|source| QuantizeError::Write {
                path: scratch.path().to_owned(),
                source,
            })?;
        }
        let folder = scratch.path().parent().unwrap_or(scratch.path()).to_owned();
        let input = CalibrationInput {
            importance: ArtifactRef::here(matrix),
            text: text.map(|_| ArtifactRef::here(scratch.path())),
            dataset: text.map_or_else(String::new, |plan| plan.source.clone()),
            context: text.map_or(0, |plan| plan.context),
            chunks: text.and_then(|plan| plan.chunks),
            gptq,
            folder: ArtifactRef::scratch(&folder),
        };
        Ok(Self::Laid { input, _text: scratch })
    }

    /// As the worker wants it.
    pub(super) fn input(&self) -> CalibrationInput {
        match self {
            Self::Prepared(ready, plan) => ready.input(plan),
            Self::Laid { input, .. } => input.clone(),
        }
    }
}
