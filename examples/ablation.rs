//! The contribution of each part of GPTQ and AWQ: divergence of variants of them, on one model.
//!
//! `cargo run --release --example ablation -- ORIGINAL.gguf TYPE,… CALIBRATION.txt EVALUATION.txt VARIANT…`
//!
//! A VARIANT is `rtn`, `imatrix`, `gptq`, `awq`, or changes to the defaults of the last two, as in
//! `gptq:damping=0.001,sweeps=0`:
//! - `gptq`: `damping`, `sweeps`, `units` (tried per super-block), `matching` (`nothing`, `outputs`, `stream`)
//! - `awq`: `matrix` (use the importance matrix), `steps` (of the exponent; 0: no scaling), `weights` (their sizes are in the
//!   grid), `clip` (number of limits; 0: none), `through` (scale matrices too, not only norms), `rows`
//! - both: `tokens` (share of the calibration text)
//!
//! A VARIANT that ends in `.gguf` is evaluated as it is. EVALUATION is evaluated in chunks of 512 tokens.

use quantbench::engine::llama::backend::Backend;
use quantbench::engine::llama::model::Model;
use quantbench::engine::llama::quantize::{Importance, Rounding, quantize_file};
use quantbench::engine::{Engine as _, LoadExtent};
use quantbench::experiment::calibration::Matching;
use quantbench::experiment::settings::Settings;
use quantbench::model::artifact::ArtifactRef;
use quantbench::quantize::CalibrationText;
use quantbench::quantize::awq::{self, AwqParameters, AwqRequest};
use quantbench::quantize::gptq::{self, GptqParameters, GptqRequest, MatrixOutcome};
use quantbench::quantize::importance::{CalibrationRequest, ImportanceMatrix, calibrate};
use quantbench::workload::quality::{self, Reference};
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

type Answer<T> = Result<T, Box<dyn Error>>;

const CONTEXT: u32 = 512;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [original, types, calibration, evaluation, variants @ ..] = arguments.as_slice() else {
        return Err("usage: ablation ORIGINAL TYPE,… CALIBRATION EVALUATION VARIANT…".into());
    };
    let backend = Backend::initialise();
    let folder = tempfile::tempdir()?;
    let evaluation = std::fs::read_to_string(evaluation)?;
    let calibration = std::fs::read_to_string(calibration)?;
    let store = ArtifactRef::place("reference", &folder.path().join("reference"));
    let write = Reference::Write { file: store.clone(), budget_bytes: 16 << 30 };
    let original = Path::new(original);
    evaluate(backend, original, &evaluation, &write)?;
    let read = Reference::Read { file: store };
    let importance = importance(backend, original, &calibration, folder.path())?;
    let output = folder.path().join("variant.gguf");
    println!("{:<44} {:>9} {:>8}  loss, duration", "variant", "KLD", "±");
    for file_type in types.split(',') {
        let rounding = Rounding {
            input: original,
            output: &output,
            file_type: file_type.parse()?,
            threads: backend.default_threads(),
            allow_requantize: false,
            importance: Some(&importance),
            overrides: &[],
            metadata: &[],
        };
        for variant in variants {
            let is_made = Path::new(variant).extension().is_some_and(|end| end == "gguf");
            let note = if is_made {
                String::new()
            } else {
                make(backend, rounding, &calibration, variant)?
            };
            let made = if is_made { Path::new(variant) } else { &output };
            let (mean, error) = evaluate(backend, made, &evaluation, &read)?;
            let name = format!("{file_type} {variant}");
            println!("{name:<44} {mean:>9.5} {error:>8.5}  {note}");
        }
    }
    Ok(())
}

/// Makes a variant. Returns the mean loss relative to that of rounding alone, and the duration of each stage.
fn make(backend: Backend, rounding: Rounding<'_>, text: &str, variant: &str) -> Answer<String> {
    let (method, changes) = variant.split_once(':').unwrap_or((variant, ""));
    let changes: Answer<Vec<(&str, &str)>> = changes
        .split_terminator(',')
        .map(|change| {
            change.split_once('=').ok_or_else(|| format!("'{change}' is no name=value").into())
        })
        .collect();
    let changes = changes?;
    let share = changes.iter().find(|(name, _)| *name == "tokens");
    let share: f64 = share.map_or(Ok(1.0), |(_, share)| share.parse())?;
    let text = CalibrationText { text: beginning(text, share), context: CONTEXT, chunks: None };
    let changes = changes.into_iter().filter(|(name, _)| *name != "tokens");
    match method {
        "rtn" => quantize_file(backend, &Rounding { importance: None, ..rounding })?,
        "imatrix" => quantize_file(backend, &rounding)?,
        "gptq" => {
            quantize_file(backend, &rounding)?;
            return run_gptq(backend, rounding, text, changes);
        }
        "awq" => return run_awq(backend, rounding, text, changes),
        other => return Err(format!("'{other}' is no method").into()),
    }
    Ok(String::new())
}

fn run_gptq<'a>(
    backend: Backend,
    rounding: Rounding<'_>,
    text: CalibrationText<'_>,
    changes: impl Iterator<Item = (&'a str, &'a str)>,
) -> Answer<String> {
    let mut parameters = GptqParameters::default();
    let settings = &mut parameters.settings;
    for (name, value) in changes {
        match name {
            "damping" => settings.damping = value.parse()?,
            "sweeps" => settings.sweeps = value.parse()?,
            "units" => parameters.units = value.parse()?,
            "matching" => {
                let named = Matching::ALL.into_iter().find(|matching| matching.name() == value);
                settings.matching = named.ok_or_else(|| format!("'{value}' is no matching"))?;
            }
            other => return Err(format!("gptq has no parameter '{other}'").into()),
        }
    }
    let Rounding { input: source, output, threads, .. } = rounding;
    let began = Instant::now();
    let request = GptqRequest { source, output, text, threads, parameters };
    let report = gptq::quantize(backend, &request, |_| ())?;
    let mut passed_ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for matrix in &report.matrices {
        match &matrix.outcome {
            MatrixOutcome::Stored { before, passed, after, .. } => {
                passed_ratios.entry(kind(&matrix.name)).or_default().push(passed / before);
                ratios.entry(kind(&matrix.name)).or_default().push(after / before);
            }
            MatrixOutcome::Kept { reason } => eprintln!("  kept {}: {reason}", matrix.name),
        }
    }
    for (kind, passed) in &passed_ratios {
        let (passed, after) = (mean(passed), mean(&ratios[kind]));
        eprintln!("  {kind}: loss {passed:.3} after the pass, {after:.3} after the sweeps");
    }
    let ratios: Vec<f64> = ratios.into_values().flatten().collect();
    Ok(format!("{:.3}, {:.1?}: {:.1?}", mean(&ratios), began.elapsed(), report.times))
}

fn run_awq<'a>(
    backend: Backend,
    mut rounding: Rounding<'_>,
    text: CalibrationText<'_>,
    changes: impl Iterator<Item = (&'a str, &'a str)>,
) -> Answer<String> {
    let mut parameters = AwqParameters::default();
    for (name, value) in changes {
        match name {
            "matrix" if value == "false" => rounding.importance = None,
            "matrix" if value == "true" => {}
            "steps" => parameters.scales.steps = value.parse()?,
            "weights" => parameters.scales.weights = value.parse()?,
            "clip" => parameters.limits.steps = value.parse()?,
            "through" => parameters.through_matrices = value.parse()?,
            "rows" => parameters.rows = value.parse()?,
            other => return Err(format!("awq has no parameter '{other}={value}'").into()),
        }
    }
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let request = AwqRequest { rounding, text, folder: folder.path(), parameters };
    let report = awq::quantize(backend, &request, |_| ())?;
    let mut kinds: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for group in &report.groups {
        let (ratios, exponents) = kinds.entry(kind(&group.producer)).or_default();
        ratios.push(group.scaled / group.before);
        exponents.extend(&group.exponents);
    }
    for (kind, (ratios, exponents)) in &kinds {
        eprintln!("  {kind}: loss {:.3}, exponents {exponents:.2?}", mean(ratios));
    }
    for unscaled in &report.unscaled {
        eprintln!("  {}: {}", unscaled.weight, unscaled.reason);
    }
    let scaled: Vec<f64> = kinds.into_values().flat_map(|(ratios, _)| ratios).collect();
    let clipped: Vec<f64> =
        report.clipped.iter().map(|clipped| clipped.after / clipped.before).collect();
    let (scaled, clipped, times) = (mean(&scaled), mean(&clipped), report.times);
    Ok(format!("{scaled:.3} scaled, {clipped:.3} clipped, {:.1?}: {times:.1?}", began.elapsed()))
}

/// The part of a tensor's name after its layer.
fn kind(name: &str) -> String {
    name.split('.').nth(2).unwrap_or(name).to_owned()
}

/// Geometric mean.
#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len().max(1) as f64).exp()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a length in memory"
)]
fn beginning(text: &str, share: f64) -> &str {
    &text[..text.floor_char_boundary((text.len() as f64 * share) as usize)]
}

fn importance(
    backend: Backend,
    model: &Path,
    text: &str,
    folder: &Path,
) -> Answer<Vec<Importance>> {
    let output = folder.join("imatrix.gguf");
    let request = CalibrationRequest {
        model,
        model_checksum: "",
        text: CalibrationText { text, context: CONTEXT, chunks: None },
        dataset: "",
        output_weight: false,
        threads: None,
        output: &output,
    };
    calibrate(backend, &request, &mut |_| ControlFlow::Continue(()))?;
    Ok(ImportanceMatrix::read(backend, &output)?.importance())
}

/// Mean divergence from the reference, and its standard error.
fn evaluate(
    backend: Backend,
    path: &Path,
    text: &str,
    reference: &Reference,
) -> Answer<(f64, f64)> {
    let settings = Settings::default();
    let model = Model::load(backend, path, &settings, LoadExtent::Everything)?;
    let request = quality::QualityRequest {
        text,
        context: CONTEXT,
        chunks: None,
        reference,
        precision: None,
    };
    let divergence = quality::run(&model, &settings, request, &mut |_, _| ())?.quality.divergence;
    Ok(divergence.map_or((0.0, 0.0), |it| (it.kld.mean, it.kld.standard_error)))
}
