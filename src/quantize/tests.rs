//! Methods behind one call, on the demo model with a short text.

use super::jobs::{CalibrateJob, CalibrationInput};
use super::*;
use crate::engine::llama::gguf_file::GgufInput;
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::parameters::{GptqSettings, Parameters};
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::Value;
use crate::model::resolve::METHOD_KEY;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const EXPERTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-experts-F16.gguf");

/// A folder with an importance matrix of the demo model.
struct Scene {
    folder: tempfile::TempDir,
    text: String,
}

impl Scene {
    fn new() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/texts/calibration.txt");
        let text = std::fs::read_to_string(path).unwrap().chars().take(3000).collect();
        let scene = Self { folder: tempfile::tempdir().unwrap(), text };
        let job = CalibrateJob {
            model: ArtifactRef::input("of the demo", Path::new(DEMO), 0),
            plan: CalibrationPlan { chunks: None, ..scene.plan() },
            output_weight: false,
            threads: Some(2),
            output: ArtifactRef::output(&scene.matrix()),
        };
        importance::calibrate(Backend::initialise(), &job, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        scene
    }

    fn plan(&self) -> CalibrationPlan {
        CalibrationPlan {
            text: self.text.clone(),
            source: "folder/words.txt".to_owned(),
            context: 128,
            chunks: Some(3),
            parameters: Parameters {
                gptq: GptqSettings { damping: 0.05, ..GptqSettings::default() },
            },
        }
    }

    fn matrix(&self) -> std::path::PathBuf {
        self.folder.path().join("matrix.gguf")
    }

    /// Makes a file. Returns the report, the progress events and the file.
    fn make(
        &self,
        input: &str,
        quantization: &str,
    ) -> Result<(Option<MethodReport>, Vec<Progress>, GgufInput), MethodError> {
        let quantization: crate::model::quantization::Quantization = quantization.parse().unwrap();
        let output = self.folder.path().join("out.gguf");
        let job = QuantizeJob {
            input: ArtifactRef::here(Path::new(input)),
            output: ArtifactRef::output(&output),
            file_type: quantization.to_make().unwrap(),
            types: None,
            method: quantization.method,
            threads: Some(2),
            allow_requantize: false,
            calibration: Some(CalibrationInput {
                importance: ArtifactRef::here(&self.matrix()),
                plan: Some(self.plan()),
                folder: ArtifactRef::scratch(self.folder.path()),
            }),
            generates: false,
        };
        let events = Arc::new(Mutex::new(Vec::new()));
        let on_progress = {
            let events = Arc::clone(&events);
            move |event| events.lock().unwrap().push(event)
        };
        let backend = Backend::initialise();
        let report = quantize(backend, &job, on_progress)?;
        let events = events.lock().unwrap().clone();
        Ok((report, events, GgufInput::open(backend, &output).unwrap()))
    }
}

fn text(file: &GgufInput, key: &str) -> Option<String> {
    file.header().get(key).and_then(Value::as_text).map(str::to_owned)
}

#[test]
fn files_say_how_they_were_made_and_differ_by_method() {
    let scene = Scene::new();
    let (_, _, rtn) = scene.make(DEMO, "Q4_0").unwrap();
    assert_eq!(text(&rtn, METHOD_KEY), None, "rtn gives what llama-quantize gives");
    let rtn = rtn.bytes(rtn.find("blk.0.attn_q.weight").unwrap()).to_vec();
    let (report, _, imatrix) = scene.make(DEMO, "imatrix:Q4_0").unwrap();
    assert_eq!(report, None);
    assert_eq!(text(&imatrix, METHOD_KEY).as_deref(), Some("imatrix"));
    assert_eq!(text(&imatrix, "quantize.imatrix.dataset").as_deref(), Some("words.txt"));
    assert_eq!(text(&imatrix, "quantbench.gptq.parameters"), None);
    let checksum = text(&imatrix, "quantbench.calibration.text_sha256").unwrap();
    assert_eq!(checksum, crate::model::cache::of_bytes(scene.text.as_bytes()));
    let imatrix = imatrix.bytes(imatrix.find("blk.0.attn_q.weight").unwrap()).to_vec();
    assert_ne!(imatrix, rtn);
    let (report, events, gptq) = scene.make(DEMO, "gptq:Q4_0").unwrap();
    let report = report.unwrap();
    assert!(report.chosen > 50, "{report:?}");
    assert!(report.kept.iter().any(|kept| kept.tensor == "token_embd.weight"), "{report:?}");
    assert_eq!(text(&gptq, METHOD_KEY).as_deref(), Some("gptq"));
    let parameters = text(&gptq, "quantbench.gptq.parameters").unwrap();
    assert_eq!(parameters, "damping 0.05, sweeps 4, matching stream");
    assert_ne!(gptq.bytes(gptq.find("blk.0.attn_q.weight").unwrap()), imatrix);
    assert!(
        events.iter().any(|event| matches!(event, Progress::Memory(parts) if parts.len() == 4))
    );
    let fractions: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Progress::Fraction(fraction, _) => Some(*fraction),
            Progress::Memory(_) | Progress::Note(_) => None,
        })
        .collect();
    assert!(fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
    assert!(fractions.len() > 100, "{} times", fractions.len());
}

#[test]
fn types_of_two_bits_are_made_with_the_matrix() {
    let scene = Scene::new();
    let (_, _, file) = scene.make(DEMO, "imatrix:IQ2_XS").unwrap();
    assert!(file.tensors().iter().any(|tensor| tensor.entry.format.name() == "IQ2_XS"));
}

#[test]
fn a_matrix_of_another_model_is_refused() {
    let scene = Scene::new();
    let error = scene.make(EXPERTS, "imatrix:Q4_0").unwrap_err();
    assert!(error.to_string().contains("is of another model: its sums for"), "{error}");
}
