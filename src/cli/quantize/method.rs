//! The methods of `quantbench quantize`: what they are calibrated on, from the flags.

use super::{Arguments, QuantizeError};
use crate::experiment::calibration::{CalibrationChoice, CalibrationPlan};
use crate::mix::recipe::Recipe;
use crate::model::quantization::{Method, Quantization};
use crate::model::source::Source;
use std::path::PathBuf;

/// What the files of one command are calibrated on.
#[derive(Debug, Default)]
pub(super) struct Calibration {
    /// The text.
    plan: Option<CalibrationPlan>,
    /// A matrix of the user's.
    pub(super) matrix: Option<PathBuf>,
}

/// The quantizations asked for, with the method of `--method` where they name none. Of a recipe it is the type that
/// most weights have.
pub(super) fn quantizations(
    arguments: &Arguments,
    recipe: Option<&Recipe>,
) -> Result<Vec<Quantization>, QuantizeError> {
    if let Some(recipe) = recipe {
        let method = arguments.method.unwrap_or(Method::Rtn);
        return Ok(vec![Quantization { method, ..recipe.file_type.into() }]);
    }
    let Some(method) = arguments.method else { return Ok(arguments.to.clone()) };
    let with_method = |&quantization: &Quantization| match quantization.method {
        Method::Rtn => Ok(Quantization { method, ..quantization }),
        own if own == method => Ok(quantization),
        _ => Err(QuantizeError::TwoMethods { quantization, method }),
    };
    arguments.to.iter().map(with_method).collect()
}

impl Calibration {
    /// What the flags say.
    pub(super) fn new(
        arguments: &Arguments,
        quantizations: &[Quantization],
        source: &Source,
    ) -> Result<Self, QuantizeError> {
        if !quantizations.iter().any(|it| it.method.is_calibrated()) {
            return match flag_without_use(arguments) {
                Some(flag) => Err(QuantizeError::NothingCalibrated { flag }),
                None => Ok(Self::default()),
            };
        }
        let mut of_methods = arguments.parameters.given().into_iter();
        let is_used = |method| quantizations.iter().any(|it| it.method == method);
        if let Some((flag, method)) = of_methods.find(|&(_, method)| !is_used(method)) {
            return Err(QuantizeError::OtherMethod { flag, method });
        }
        let parameters = arguments.parameters.read();
        let mut choice = CalibrationChoice::of(arguments.context, arguments.chunks, parameters);
        if let Some(text) = &arguments.calibration {
            choice = choice.on_text(text).map_err(QuantizeError::Text)?;
        }
        if let Some(path) = &arguments.imatrix {
            let failed = |source| QuantizeError::NoMatrix { path: path.clone(), source };
            crate::files::open(path).map_err(failed)?;
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let matrix = arguments.imatrix.as_ref().map(absolute);
        let needs_text = |method: Method| match &matrix {
            Some(_) => method.needs_text(),
            None => method.is_calibrated(),
        };
        let plan = quantizations.iter().any(|it| needs_text(it.method));
        Ok(Self { plan: plan.then(|| choice.plan_for(source)), matrix })
    }

    /// What a method is given: beside a matrix of the user's, a text only if it looks at one.
    pub(super) fn plan_for(&self, method: Method) -> Option<&CalibrationPlan> {
        self.plan.as_ref().filter(|_| self.matrix.is_none() || method.needs_text())
    }
}

/// A flag that only calibrated methods have a use for.
fn flag_without_use(arguments: &Arguments) -> Option<&'static str> {
    let common = [
        (arguments.calibration.is_some(), "--calibration"),
        (arguments.imatrix.is_some(), "--imatrix"),
        (arguments.context.is_some(), "--context"),
        (arguments.chunks.is_some(), "--chunks"),
    ];
    let common = common.into_iter().find_map(|(given, flag)| given.then_some(flag));
    common.or_else(|| arguments.parameters.given().first().map(|(flag, _)| *flag))
}
