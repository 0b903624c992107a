//! What each part of AWQ is worth: the divergence that variants of it leave, on one model and one file type.
//!
//! `cargo run --release --example awq_ablation -- ORIGINAL.gguf TYPE CALIBRATION.txt EVALUATION.txt VARIANT…`
//!
//! A VARIANT is `rtn`, `imatrix`, `default`, or changes to the default, as in `matrix=false,clip=0`: `matrix` (whether
//! rounding is weighted with the importance matrix), `steps` (of the exponent; 0: no scaling), `weights` (whether the weights'
//! sizes are in the grid), `clip` (steps of limits; 0: none), `through` (also from matrix to matrix), `rows`, `tokens` (the share of
//! the calibration text that is used). Evaluated is all of EVALUATION in chunks of 512 tokens.

use quantbench::engine::ContextShape;
use quantbench::engine::LoadExtent;
use quantbench::engine::llama::backend::Backend;
use quantbench::engine::llama::capture::{CapturingContext, Flow, Sink, WeightInput};
use quantbench::engine::llama::model::Model;
use quantbench::engine::llama::quantize::{Importance, Rounding, quantize_file};
use quantbench::engine::{Engine as _, Model as _};
use quantbench::experiment::settings::Settings;
use quantbench::model::quantization::FileType;
use quantbench::quantize::awq::{self, Parameters};
use quantbench::workload::quality::{self, Reference};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

type Answer<T> = Result<T, Box<dyn Error>>;

const CONTEXT: u32 = 512;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [original, file_type, calibration, evaluation, variants @ ..] = arguments.as_slice() else {
        return Err("usage: awq_ablation ORIGINAL TYPE CALIBRATION EVALUATION VARIANT…".into());
    };
    let backend = Backend::initialise();
    let folder = tempfile::tempdir()?;
    let evaluation = std::fs::read_to_string(evaluation)?;
    let calibration = std::fs::read_to_string(calibration)?;
    let store = folder.path().join("reference");
    let write = Reference::Write { path: &store, budget_bytes: 16 << 30 };
    let original = Path::new(original);
    evaluate(backend, original, &evaluation, write)?;
    let types: Vec<FileType> = file_type.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let importance = importance(backend, original, &calibration)?;
    println!(
        "{:<44} {:>9} {:>8} {:>7} {:>7}  seconds: all, rounding, evaluating, scales, limits",
        "variant", "KLD", "±", "scaled", "clipped"
    );
    for file_type in types {
        for variant in variants {
            let made = folder.path().join("variant.gguf");
            let note =
                make(backend, original, &made, file_type, &calibration, &importance, variant)?;
            let (mean, error) =
                evaluate(backend, &made, &evaluation, Reference::Read { path: &store })?;
            let name = format!("{variant}:{file_type}");
            println!("{name:<44} {mean:>9.5} {error:>8.5} {note}");
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "everything that a variant is made of")]
fn make(
    backend: Backend,
    source: &Path,
    output: &Path,
    file_type: FileType,
    text: &str,
    importance: &[Importance],
    variant: &str,
) -> Answer<String> {
    let threads = backend.default_threads();
    if matches!(variant, "rtn" | "imatrix") {
        let rounding = Rounding {
            input: source,
            output,
            file_type,
            threads,
            allow_requantize: false,
            importance: (variant == "imatrix").then_some(importance),
            overrides: &[],
            metadata: &[],
        };
        quantize_file(backend, &rounding)?;
        return Ok(String::new());
    }
    let Variant { parameters, matrix, share } = parse(variant)?;
    let folder = tempfile::tempdir()?;
    let request = awq::Request {
        source,
        output,
        file_type,
        overrides: &[],
        text: beginning(text, share),
        context: CONTEXT as usize,
        chunks: None,
        importance: matrix.then_some(importance),
        metadata: &[],
        folder: folder.path(),
        threads,
        allow_requantize: false,
        parameters,
    };
    let began = Instant::now();
    let report = awq::quantize(backend, &request, |_| ())?;
    let seconds = began.elapsed().as_secs_f64();
    let mut kinds: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for group in &report.groups {
        let kind = group.producer.split('.').nth(2).unwrap_or(&group.producer).to_owned();
        let entry = kinds.entry(kind).or_default();
        entry.0.push((group.scaled / group.before).ln());
        entry.1.extend(&group.exponents);
    }
    for (kind, (ratios, exponents)) in &kinds {
        eprintln!("  {kind}: {:.3} of the loss, exponents {exponents:.2?}", mean(ratios).exp());
    }
    for unscaled in &report.unscaled {
        eprintln!("  {}: {}", unscaled.weight, unscaled.reason);
    }
    let scaled: Vec<f64> =
        report.groups.iter().map(|group| (group.scaled / group.before).ln()).collect();
    let clipped: Vec<f64> =
        report.clipped.iter().map(|clipped| (clipped.after / clipped.before).ln()).collect();
    let times = report.times;
    Ok(format!(
        "{:>7.3} {:>7.3}  {seconds:.1} {:.1} {:.1} {:.1} {:.1}",
        mean(&scaled).exp(),
        mean(&clipped).exp(),
        times.rounding.as_secs_f64(),
        times.evaluating.as_secs_f64(),
        times.scales.as_secs_f64(),
        times.limits.as_secs_f64(),
    ))
}

struct Variant {
    parameters: Parameters,
    matrix: bool,
    share: f64,
}

fn parse(variant: &str) -> Answer<Variant> {
    let mut parsed = Variant { parameters: Parameters::default(), matrix: true, share: 1.0 };
    let parameters = &mut parsed.parameters;
    for change in variant.split(',').filter(|change| *change != "default") {
        let (name, value) = change.split_once('=').ok_or("a variant is name=value,…")?;
        match name {
            "matrix" => parsed.matrix = value.parse()?,
            "tokens" => parsed.share = value.parse()?,
            "steps" => parameters.scales.steps = value.parse()?,
            "weights" => parameters.scales.weights = value.parse()?,
            "clip" => parameters.limits.steps = value.parse()?,
            "through" => parameters.through_matrices = value.parse()?,
            "rows" => parameters.rows = value.parse()?,
            other => return Err(format!("no parameter is called {other}").into()),
        }
    }
    Ok(parsed)
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The beginning of a text.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a length in memory"
)]
fn beginning(text: &str, share: f64) -> &str {
    &text[..text.floor_char_boundary((text.len() as f64 * share) as usize)]
}

/// Mean squares of the inputs of every weight.
#[derive(Default)]
struct Squares(BTreeMap<String, (Vec<f64>, Vec<f64>)>);

impl Sink for Squares {
    fn wants_weight(&mut self, _: &str) -> bool {
        true
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        let columns = input.columns;
        let (sums, counts) = self
            .0
            .entry(input.weight.to_owned())
            .or_insert_with(|| (vec![0.0; columns * input.matrices], vec![0.0; input.matrices]));
        for (matrix, row) in input.rows_with_matrix() {
            counts[matrix] += 1.0;
            for (sum, value) in sums[matrix * columns..].iter_mut().zip(row) {
                *sum += f64::from(value * value);
            }
        }
        Flow::Continue
    }
}

fn importance(backend: Backend, path: &Path, text: &str) -> Answer<Vec<Importance>> {
    let settings = Settings { gpu_layers: 0, ..Settings::default() };
    let model = Model::load(backend, path, &settings, LoadExtent::Everything)?;
    let mut tokens = model.tokenize(text, true, false)?;
    tokens.truncate(tokens.len() / CONTEXT as usize * CONTEXT as usize);
    let shape = ContextShape { tokens: CONTEXT, sequences: 1, batch: CONTEXT, ubatch: CONTEXT };
    let mut context = CapturingContext::new(&model, &settings, shape)?;
    let mut squares = Squares::default();
    for piece in tokens.chunks_mut(CONTEXT as usize) {
        if let Some(beginning) = model.beginning_token() {
            piece[0] = beginning;
        }
        context.evaluate(piece, &mut squares)?;
    }
    let entries = squares.0.into_iter().map(|(weight, (sums, counts))| {
        let columns = sums.len() / counts.len();
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp takes f32")]
        let values = sums
            .iter()
            .enumerate()
            .map(|(index, sum)| (sum / f64::max(counts[index / columns], 1.0)) as f32)
            .collect();
        Importance { weight, values }
    });
    Ok(entries.collect())
}

fn evaluate(
    backend: Backend,
    path: &Path,
    text: &str,
    reference: Reference<'_>,
) -> Answer<(f64, f64)> {
    let settings = Settings::default();
    let model = Model::load(backend, path, &settings, LoadExtent::Everything)?;
    let request =
        quality::Request { text, context: CONTEXT, chunks: None, reference, precision: None };
    let run = quality::run(&model, &settings, request, &mut |_, _| ())?;
    Ok(run
        .quality
        .divergence
        .map_or((0.0, 0.0), |divergence| (divergence.kld.mean, divergence.kld.standard_error)))
}
