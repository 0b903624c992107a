//! The matrix of the demo models, against sums made another way.

use super::*;
use crate::engine::Model as _;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::capture::{CapturingContext, Flow, Sink, WeightInput};
use crate::engine::llama::gguf_file::{GgufOutput, Metadata, MetadataValue, TensorPlan};
use crate::engine::llama::model::Model;
use crate::engine::{ContextShape, LoadExtent};
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::parameters::Parameters;
use crate::experiment::settings::Settings;
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::GgmlType;
use crate::model::progress::Progress;
use crate::quantize::jobs::CalibrateJob;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const EXPERTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-experts-F16.gguf");
const CONTEXT: u32 = 32;
const CHUNKS: u32 = 5;

fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/texts/calibration.txt");
    fs::read_to_string(path).unwrap().chars().take(2000).collect()
}

fn job(model: &str, text: &str, output: &Path) -> CalibrateJob {
    let plan = CalibrationPlan {
        text: text.to_owned(),
        source: "demo".to_owned(),
        context: CONTEXT,
        chunks: Some(CHUNKS),
        parameters: Parameters::default(),
    };
    CalibrateJob {
        model: ArtifactRef::input("of the model", Path::new(model), 0),
        plan,
        output_weight: false,
        threads: Some(1),
        output: ArtifactRef::output(output),
    }
}

fn made(job: &CalibrateJob) -> (CalibrationReport, Vec<u8>) {
    let report = calibrate(Backend::initialise(), job, &mut |_| ControlFlow::Continue(())).unwrap();
    (report, fs::read(&job.output.path).unwrap())
}

#[test]
fn the_file_is_the_same_whatever_the_threads_and_wherever_it_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let (output, text) = (folder.path().join("matrix.gguf"), text());
    let one = job(DEMO, &text, &output);
    let (report, expected) = made(&one);
    assert_eq!((report.chunks, report.resumed), (CHUNKS, 0));
    assert_eq!(made(&CalibrateJob { threads: Some(3), ..one.clone() }).1, expected);
    for stop_after in 1..CHUNKS {
        let stopped = calibrate(Backend::initialise(), &one, &mut |event| match event {
            Progress::Fraction(_, note) if note == format!("chunk {stop_after} of {CHUNKS}") => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        assert!(matches!(stopped, Err(ImportanceError::Stopped)));
        assert!(folder.path().join("matrix.gguf.partial").exists());
        let (report, bytes) = made(&one);
        assert_eq!(report.resumed, stop_after);
        assert_eq!(bytes, expected, "after {stop_after}");
        assert!(!folder.path().join("matrix.gguf.partial").exists());
    }
}

#[test]
fn what_was_begun_on_another_text_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (output, text) = (folder.path().join("matrix.gguf"), text());
    let one = job(DEMO, &text, &output);
    let mut stop = |event| match event {
        Progress::Fraction(..) => ControlFlow::Break(()),
        Progress::Memory(_) | Progress::Note(_) => ControlFlow::Continue(()),
    };
    assert!(calibrate(Backend::initialise(), &one, &mut stop).is_err());
    let other = text.replace('e', "a");
    assert_eq!(made(&job(DEMO, &other, &output)).0.resumed, 0);
    // A shorter calibration does not need what a longer one had done.
    assert!(calibrate(Backend::initialise(), &one, &mut stop).is_err());
    let plan = CalibrationPlan { chunks: Some(CHUNKS + 1), ..one.plan.clone() };
    let more = CalibrateJob { plan, ..one };
    assert_eq!(made(&more).0.resumed, 1);
}

/// Sums of squares in the plainest way.
#[derive(Default)]
struct Plain {
    sums: BTreeMap<String, Vec<f64>>,
    rows: BTreeMap<String, usize>,
}

impl Sink for Plain {
    fn wants_weight(&mut self, weight: &str) -> bool {
        weight.starts_with("blk.")
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        let sums = self.sums.entry(input.weight.to_owned()).or_default();
        sums.resize(input.columns * input.matrices, 0.0);
        for (index, value) in input.rows.iter().enumerate() {
            let row = index / input.columns;
            let matrix = input.matrix_of_row.get(row).map_or(0, |&matrix| matrix as usize);
            sums[matrix * input.columns + index % input.columns] += f64::from(value * value);
        }
        *self.rows.entry(input.weight.to_owned()).or_default() += input.rows.len() / input.columns;
        Flow::Continue
    }
}

#[test]
fn the_sums_are_those_of_what_flows_into_each_weight() {
    let folder = tempfile::tempdir().unwrap();
    let (output, text) = (folder.path().join("matrix.gguf"), text());
    let backend = Backend::initialise();
    for path in [DEMO, EXPERTS] {
        let mut short = job(path, &text, &output);
        short.plan.chunks = Some(2);
        made(&short);
        let matrix = ImportanceMatrix::read(backend, &output).unwrap();
        let settings = Settings { threads: Some(1), ..Settings::default() };
        let model =
            Model::load(backend, Path::new(path), &settings, LoadExtent::Everything).unwrap();
        let shape = ContextShape { tokens: CONTEXT, sequences: 1, batch: CONTEXT, ubatch: CONTEXT };
        let mut context = CapturingContext::new(&model, &settings, shape).unwrap();
        let tokens = model.tokenize(&text, true, false).unwrap();
        let mut plain = Plain::default();
        for chunk in tokens.chunks(CONTEXT as usize).take(2) {
            let mut chunk = chunk.to_vec();
            chunk[0] = model.beginning_token().unwrap_or(chunk[0]);
            context.evaluate(&chunk, &mut plain).unwrap();
        }
        assert_eq!((matrix.chunks, matrix.chunk_size), (2, CONTEXT));
        assert!(matrix.weights.keys().eq(plain.sums.keys()), "{path}");
        for (name, sums) in &matrix.weights {
            let expected = &plain.sums[name];
            assert_eq!(sums.squares.len(), expected.len());
            for (sum, expected) in sums.squares.iter().zip(expected) {
                assert!((f64::from(*sum) - expected).abs() <= 1e-6 * expected, "{name}");
            }
            let counted: u64 = sums.counts.iter().sum();
            assert_eq!(counted, plain.rows[name] as u64, "{name}");
        }
    }
}

#[test]
fn experts_have_a_count_each() {
    let folder = tempfile::tempdir().unwrap();
    let (output, text) = (folder.path().join("matrix.gguf"), text());
    made(&job(EXPERTS, &text, &output));
    let matrix = ImportanceMatrix::read(Backend::initialise(), &output).unwrap();
    let (_, experts) =
        matrix.weights.iter().find(|(name, _)| name.contains("ffn_down_exps")).unwrap();
    assert!(experts.counts.len() > 1);
    assert_eq!(experts.squares.len(), experts.counts.len() * experts.columns);
    let (_, router) =
        matrix.weights.iter().find(|(name, _)| name.contains("ffn_gate_inp")).unwrap();
    assert_eq!(router.counts, [u64::from(CHUNKS * CONTEXT)]);
}

#[test]
fn an_expert_that_no_token_chose_counts_all_columns_alike() {
    let sums = Sums { columns: 2, squares: vec![8.0, 4.0, 0.0, 0.0], counts: vec![4, 0] };
    assert_eq!(sums.means(), [2.0, 1.0, 1.0, 1.0]);
    let weights = BTreeMap::from([
        ("blk.0.a.weight".to_owned(), sums),
        ("blk.0.b.weight".to_owned(), Sums { columns: 1, squares: vec![0.0], counts: vec![0] }),
    ]);
    let matrix = ImportanceMatrix { weights, ..ImportanceMatrix::default() };
    // A weight that was never used says nothing.
    assert_eq!(matrix.importance().len(), 1);
}

#[test]
fn what_is_no_importance_matrix_is_refused() {
    let backend = Backend::initialise();
    let refused = |path: &Path, part: &str| {
        let error = ImportanceMatrix::read(backend, path).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(Path::new(DEMO), "general.type");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.gguf");
    let write = |tensors: &[(&str, &[f32])]| {
        let mut keys = Metadata::new();
        keys.set("general.type", MetadataValue::Text("imatrix")).unwrap();
        let plans: Vec<TensorPlan> = tensors
            .iter()
            .map(|(name, values)| TensorPlan {
                name: (*name).to_owned(),
                dimensions: vec![values.len() as u64],
                format: GgmlType::F32,
            })
            .collect();
        let mut file = GgufOutput::create(&path, &keys, &plans).unwrap();
        for (name, values) in tensors {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            file.write_tensor(name, &bytes).unwrap();
        }
        file.finish().unwrap();
    };
    write(&[("a.weight.in_sum2", &[1.0, 2.0])]);
    refused(&path, "no a.weight.counts");
    write(&[("a.weight.in_sum2", &[1.0, 2.0, 3.0]), ("a.weight.counts", &[1.0, 1.0])]);
    refused(&path, "3 sums and 2 counts");
    write(&[("a.weight.in_sum2", &[1.0, f32::NAN]), ("a.weight.counts", &[1.0])]);
    refused(&path, "not finite");
    write(&[("other", &[1.0])]);
    refused(&path, "no sums");
}

#[test]
fn too_little_text_or_context_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("matrix.gguf");
    let refused = |job: &CalibrateJob, part: &str| {
        let result = calibrate(Backend::initialise(), job, &mut |_| ControlFlow::Continue(()));
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    };
    refused(&job(DEMO, "a few words", &output), "at least that many");
    let mut short = job(DEMO, "x", &output);
    short.plan.context = 8;
    refused(&short, "at least 16");
}

#[test]
fn a_wrong_bit_in_a_sum_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (output, text) = (folder.path().join("matrix.gguf"), text());
    let (_, mut bytes) = made(&job(DEMO, &text, &output));
    let damaged = folder.path().join("damaged.gguf");
    let at = bytes.len() * 3 / 4 / 4 * 4;
    bytes[at] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    assert!(ImportanceMatrix::read(Backend::initialise(), &output).is_ok());
    let error = ImportanceMatrix::read(Backend::initialise(), &damaged).unwrap_err().to_string();
    assert!(error.contains("it is damaged"), "{error}");
}
