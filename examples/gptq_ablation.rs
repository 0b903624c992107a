//! What each part of GPTQ is worth: the divergence that variants of it leave, on one model and one file type.
//!
//! `cargo run --release --example gptq_ablation -- ORIGINAL.gguf DRAFT.gguf CALIBRATION.txt EVALUATION.txt VARIANT…`
//!
//! ORIGINAL is in floating point; DRAFT is what llama.cpp made of it with an importance matrix. A VARIANT is `draft` (as
//! it is), `default`, or changes to the default, as in `damping=0.001,sweeps=0,match=nothing`:
//! `damping`, `sweeps`, `units`, `match` (`nothing`, `outputs`, `stream`), `tokens`.
//! A name that ends in `.gguf` is evaluated as it is. Evaluated is all of EVALUATION in chunks of 512 tokens.

use quantbench::engine::Engine as _;
use quantbench::engine::LoadExtent;
use quantbench::engine::llama::backend::Backend;
use quantbench::engine::llama::model::Model;
use quantbench::experiment::settings::Settings;
use quantbench::quantize::gptq::{self, Match, Outcome, Parameters};
use quantbench::workload::quality::{self, Reference};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Answer<T> = Result<T, Box<dyn Error>>;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [original, draft, calibration, evaluation, variants @ ..] = arguments.as_slice() else {
        return Err("usage: gptq_ablation ORIGINAL DRAFT CALIBRATION EVALUATION VARIANT…".into());
    };
    let backend = Backend::initialise();
    let folder = tempfile::tempdir()?;
    let evaluation = std::fs::read_to_string(evaluation)?;
    let calibration = std::fs::read_to_string(calibration)?;
    let store = folder.path().join("reference");
    let write = Reference::Write { path: &store, budget_bytes: 16 << 30 };
    evaluate(backend, Path::new(original), &evaluation, write)?;
    println!(
        "{:<44} {:>9} {:>8} {:>7}  seconds: all, forward, moments, factors, rows",
        "variant", "KLD", "±", "loss"
    );
    for variant in variants {
        let ready = Path::new(variant).extension().is_some_and(|extension| extension == "gguf");
        let made = if ready { PathBuf::from(variant) } else { folder.path().join("variant.gguf") };
        let mut note = String::new();
        if !ready {
            std::fs::copy(draft, &made)?;
        }
        if !ready && variant != "draft" {
            let (parameters, share) = parameters(variant)?;
            note = run(backend, Path::new(original), &made, part(&calibration, share), parameters)?;
        }
        let (mean, error) =
            evaluate(backend, &made, &evaluation, Reference::Read { path: &store })?;
        let name = made
            .file_name()
            .filter(|_| ready)
            .map_or(variant.as_str().into(), |name| name.to_string_lossy());
        println!("{name:<44} {mean:>9.5} {error:>8.5} {note}");
    }
    Ok(())
}

/// The beginning of a text.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a length in memory"
)]
fn part(text: &str, share: f64) -> &str {
    let mut end = (text.len() as f64 * share) as usize;
    while !text.is_char_boundary(end) {
        end += 1;
    }
    &text[..end]
}

fn run(
    backend: Backend,
    source: &Path,
    output: &Path,
    text: &str,
    parameters: Parameters,
) -> Answer<String> {
    let began = Instant::now();
    let request = gptq::Request {
        source,
        output,
        text,
        context: 512,
        chunks: None,
        threads: backend.default_threads(),
        parameters,
    };
    let report = gptq::quantize(backend, &request, |_| ())?;
    let seconds = began.elapsed().as_secs_f64();
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut sum, mut count) = (0.0, 0.0);
    for matrix in &report.matrices {
        match &matrix.outcome {
            Outcome::Stored { before, passed, after, .. } => {
                sum += (after / before).ln();
                count += 1.0;
                let kind = matrix.name.split('.').nth(2).unwrap_or_default().to_owned();
                ratios.entry(kind).or_default().extend([passed / before, after / before]);
            }
            Outcome::Kept { reason } => eprintln!("kept {}: {reason}", matrix.name),
        }
    }
    for (kind, ratios) in ratios {
        let mean = |from: usize| {
            let picked: Vec<f64> = ratios.iter().skip(from).step_by(2).map(|x| x.ln()).collect();
            {
                #[expect(clippy::cast_precision_loss, reason = "a few hundred matrices")]
                let count = picked.len() as f64;
                (picked.iter().sum::<f64>() / count).exp()
            }
        };
        eprintln!("  {kind}: passed {:.3} after {:.3} of the draft's loss", mean(0), mean(1));
    }
    let times = report.times;
    let mean: f64 = (sum / f64::max(count, 1.0)).exp();
    Ok(format!(
        "{mean:>7.3}  {seconds:.1} {:.1} {:.1} {:.1} {:.1}",
        times.forward.as_secs_f64(),
        times.moments.as_secs_f64(),
        times.factors.as_secs_f64(),
        times.rows.as_secs_f64()
    ))
}

fn parameters(variant: &str) -> Answer<(Parameters, f64)> {
    let mut parameters = Parameters::default();
    let mut share = 1.0;
    for change in variant.split(',').filter(|change| *change != "default") {
        let (name, value) = change.split_once('=').ok_or("a variant is name=value,…")?;
        match name {
            "damping" => parameters.damping = value.parse()?,
            "sweeps" => parameters.work.sweeps = value.parse()?,
            "units" => parameters.work.effort.units = value.parse()?,
            "tokens" => share = value.parse()?,
            "match" => {
                parameters.matching = match value {
                    "nothing" => Match::Nothing,
                    "outputs" => Match::Outputs,
                    "stream" => Match::Stream,
                    other => return Err(format!("match={other}?").into()),
                }
            }
            other => return Err(format!("no parameter is called {other}").into()),
        }
    }
    Ok((parameters, share))
}

fn evaluate(
    backend: Backend,
    path: &Path,
    text: &str,
    reference: Reference<'_>,
) -> Answer<(f64, f64)> {
    let settings = Settings::default();
    let model = Model::load(backend, path, &settings, LoadExtent::Everything)?;
    let request = quality::Request { text, context: 512, chunks: None, reference, precision: None };
    let run = quality::run(&model, &settings, request, &mut |_, _| ())?;
    Ok(run
        .quality
        .divergence
        .map_or((0.0, 0.0), |divergence| (divergence.kld.mean, divergence.kld.standard_error)))
}
