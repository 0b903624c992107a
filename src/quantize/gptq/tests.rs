//! Whole models: what GPTQ makes of them diverges less than what it began with.

use super::*;
use crate::llama::quantize::Rounding;
use crate::quantize::testing::made_up::{self, ARCHITECTURES, VOCABULARY};
use crate::quantize::testing::{THREADS, divergence, importance_of, log_probabilities};
use std::path::PathBuf;

/// Longer than the window of the layers that have one.
const CONTEXT: usize = 96;

/// A model, the same rounded with an importance matrix, and texts.
struct Scene {
    folder: tempfile::TempDir,
    source: PathBuf,
    calibration: Vec<i32>,
    held_out: Vec<i32>,
}

impl Scene {
    fn made_up(architecture: made_up::Architecture, texts: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.gguf");
        made_up::write(architecture, &source);
        let mut random = fastrand::Rng::with_seed(21);
        let vocabulary = i32::try_from(VOCABULARY).unwrap();
        let mut tokens = |count: usize| (0..count).map(|_| random.i32(0..vocabulary)).collect();
        let (calibration, held_out) = (tokens(texts * CONTEXT), tokens(CONTEXT));
        Self { folder, source, calibration, held_out }
    }

    /// Rounds with the importance matrix.
    fn draft(&self, file_type: &str) -> PathBuf {
        let texts: Vec<&[i32]> = self.calibration.chunks(CONTEXT).collect();
        let importance = importance_of(&self.source, &texts);
        let output = self.folder.path().join("made.gguf");
        let rounding = Rounding {
            input: &self.source,
            output: &output,
            file_type: file_type.parse().unwrap(),
            threads: THREADS,
            allow_requantize: false,
            importance: Some(&importance),
            overrides: &[],
            metadata: &[],
        };
        crate::quantize::rtn::quantize(Backend::initialise(), &rounding, |_| ()).unwrap();
        output
    }

    fn gptq(&self, output: &Path, parameters: Parameters) -> Report {
        let request = Request {
            source: &self.source,
            output,
            text: "",
            context: CONTEXT,
            chunks: None,
            threads: THREADS,
            parameters,
        };
        run(Backend::initialise(), &request, &self.calibration, |_| ()).unwrap()
    }

    fn divergence(&self, output: &Path) -> f64 {
        let [reference, other] =
            [&*self.source, output].map(|path| log_probabilities(path, &self.held_out));
        divergence(&reference, &other)
    }
}

/// What was stored, by name.
fn stored(report: &Report) -> Vec<&str> {
    let stored =
        report.matrices.iter().filter(|matrix| matches!(matrix.outcome, Outcome::Stored { .. }));
    stored.map(|matrix| matrix.name.as_str()).collect()
}

#[test]
fn models_of_every_architecture_diverge_less_than_with_the_importance_matrix() {
    for architecture in ARCHITECTURES {
        let scene = Scene::made_up(architecture, 12);
        let output = scene.draft("Q4_0");
        let before = scene.divergence(&output);
        let report = scene.gptq(&output, Parameters::default());
        let after = scene.divergence(&output);
        println!("{}: {before:.5} {after:.5}", architecture.name);
        for matrix in &report.matrices {
            if let Outcome::Kept { reason } = &matrix.outcome {
                println!("  {} {:?} {}: {reason}", matrix.name, matrix.part, matrix.format);
            }
        }
        assert!(after < 0.9 * before, "{}: {after} after {before}", architecture.name);
    }
}
