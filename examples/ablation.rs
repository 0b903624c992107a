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
use quantbench::experiment::calibration::CalibrationPlan;
use quantbench::experiment::parameters::Parameters;
use quantbench::experiment::settings::Settings;
use quantbench::model::artifact::ArtifactRef;
use quantbench::quantize::MethodReport;
use quantbench::quantize::awq::{self, AwqParameters, AwqRequest};
use quantbench::quantize::gptq::{self, GptqRequest};
use quantbench::quantize::importance::{ImportanceMatrix, calibrate};
use quantbench::quantize::jobs::CalibrateJob;
use quantbench::workload::quality::{self, Reference};
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
    let store = folder.path().join("reference");
    let write = Reference::Write { path: &store, budget_bytes: 16 << 30 };
    let original = Path::new(original);
    evaluate(backend, original, &evaluation, write)?;
    let importance = importance(backend, original, &calibration, folder.path())?;
    let output = folder.path().join("variant.gguf");
    println!("{:<44} {:>9} {:>8}  tensors, duration", "variant", "KLD", "±");
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
            let (mean, error) =
                evaluate(backend, made, &evaluation, Reference::Read { path: &store })?;
            let name = format!("{file_type} {variant}");
            println!("{name:<44} {mean:>9.5} {error:>8.5}  {note}");
        }
    }
    Ok(())
}

/// Makes a variant. Returns what its method did, in a few words.
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
    let plan = CalibrationPlan {
        text: beginning(text, share).to_owned(),
        source: String::new(),
        context: CONTEXT,
        chunks: None,
        parameters: Parameters::default(),
    };
    let changes = changes.into_iter().filter(|(name, _)| *name != "tokens");
    match method {
        "rtn" => quantize_file(backend, &Rounding { importance: None, ..rounding })?,
        "imatrix" => quantize_file(backend, &rounding)?,
        "gptq" => {
            quantize_file(backend, &rounding)?;
            return run_gptq(backend, rounding, plan, changes);
        }
        "awq" => return run_awq(backend, rounding, &plan, changes),
        other => return Err(format!("'{other}' is no method").into()),
    }
    Ok(String::new())
}

fn run_gptq<'a>(
    backend: Backend,
    rounding: Rounding<'_>,
    mut plan: CalibrationPlan,
    changes: impl Iterator<Item = (&'a str, &'a str)>,
) -> Answer<String> {
    let (settings, mut units) = (&mut plan.parameters.gptq, gptq::UNITS);
    for (name, value) in changes {
        match name {
            "damping" => settings.damping = value.parse()?,
            "sweeps" => settings.sweeps = value.parse()?,
            "units" => units = value.parse()?,
            "matching" => {
                let named = value.parse();
                settings.matching = named.map_err(|_| format!("'{value}' is no matching"))?;
            }
            other => return Err(format!("gptq has no parameter '{other}'").into()),
        }
    }
    let Rounding { input: source, output, threads, .. } = rounding;
    let began = Instant::now();
    let memory = gptq::SUMS_BYTES;
    let request = GptqRequest { source, output, plan: &plan, threads, units, memory };
    let report = gptq::quantize(backend, &request, |_| ())?;
    Ok(told(&report, began))
}

fn run_awq<'a>(
    backend: Backend,
    mut rounding: Rounding<'_>,
    plan: &CalibrationPlan,
    changes: impl Iterator<Item = (&'a str, &'a str)>,
) -> Answer<String> {
    let mut parameters = AwqParameters::default();
    for (name, value) in changes {
        match name {
            "matrix" if value == "false" => rounding.importance = None,
            "matrix" if value == "true" => {}
            "steps" => parameters.exponents = value.parse()?,
            "weights" => parameters.weights = value.parse()?,
            "clip" => parameters.limits.steps = value.parse()?,
            "through" => parameters.through_matrices = value.parse()?,
            "rows" => parameters.rows = value.parse()?,
            other => return Err(format!("awq has no parameter '{other}={value}'").into()),
        }
    }
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let request = AwqRequest { rounding, plan, folder: folder.path(), parameters };
    let report = awq::quantize(backend, &request, |_| ())?;
    Ok(told(&report, began))
}

/// How many tensors were left, and the duration; names what was left.
fn told(report: &MethodReport, began: Instant) -> String {
    for kept in &report.kept {
        eprintln!("  kept {}: {}", kept.tensor, kept.reason);
    }
    format!("{} chosen, {} kept, {:.1?}", report.chosen, report.kept.len(), began.elapsed())
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
    let plan = CalibrationPlan {
        text: text.to_owned(),
        source: String::new(),
        context: CONTEXT,
        chunks: None,
        parameters: Parameters::default(),
    };
    let job = CalibrateJob {
        model: ArtifactRef::here(model),
        plan,
        output_weight: false,
        threads: None,
        output: ArtifactRef::output(&output),
    };
    calibrate(backend, &job, &mut |_| ControlFlow::Continue(()))?;
    Ok(ImportanceMatrix::read(backend, &output)?.importance())
}

/// Mean divergence from the reference, and its standard error.
fn evaluate(
    backend: Backend,
    path: &Path,
    text: &str,
    reference: Reference<'_>,
) -> Answer<(f64, f64)> {
    let settings = Settings::default();
    let model = Model::load(backend, path, &settings, LoadExtent::Everything)?;
    let request = quality::QualityRequest {
        text,
        domains: &[],
        context: CONTEXT,
        chunks: None,
        reference,
        precision: None,
        answers: None,
        part: None,
    };
    let divergence = quality::run(&model, &settings, request, &mut |_, _| ())?.quality.divergence;
    Ok(divergence.map_or((0.0, 0.0), |it| (it.kld.mean, it.kld.standard_error)))
}
