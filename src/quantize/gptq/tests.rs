//! Whole models: what GPTQ makes of them diverges less than what it began with.

use super::*;
use crate::engine::Model as _;
use crate::engine::llama::partial::PartialContext;
use crate::engine::llama::quantize::Rounding;
use crate::model::artifact::KeptTensor;
use crate::quantize::testing::made_up::{self, ARCHITECTURES, VOCABULARY};
use crate::quantize::testing::{THREADS, divergence, importance_of, log_probabilities, plan};
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

    fn gptq(&self, output: &Path) -> MethodReport {
        self.gptq_by(output, THREADS, SUMS_BYTES)
    }

    fn gptq_by(&self, output: &Path, threads: u32, memory: u64) -> MethodReport {
        let request = GptqRequest {
            source: &self.source,
            output,
            plan: &plan("", 96, None),
            threads,
            units: UNITS,
            memory,
        };
        run(Backend::initialise(), &request, &self.calibration, |_| ()).unwrap()
    }

    /// Mean divergence on the held-out texts.
    fn divergence(&self, output: &Path) -> f64 {
        let texts = self.held_out.chunks(CONTEXT);
        let count = u32::try_from(texts.len()).unwrap();
        let of = |text| {
            let [reference, other] =
                [&*self.source, output].map(|path| log_probabilities(path, text));
            divergence(&reference, &other)
        };
        texts.map(of).sum::<f64>() / f64::from(count)
    }
}

/// The tensors of layers that were stored, at least in part.
fn stored(output: &Path, report: &MethodReport) -> Vec<String> {
    let file = GgufInput::open(Backend::initialise(), output).unwrap();
    let entries = file.tensors().iter().map(|tensor| &tensor.entry);
    let quantized = entries.filter(|entry| entry.format.block_weights() > 1);
    let names = quantized.map(|entry| entry.name.clone());
    names.filter(|name| report.kept.iter().all(|kept| kept.tensor != *name)).collect()
}

fn named(name: &str) -> made_up::Architecture {
    ARCHITECTURES.into_iter().find(|architecture| architecture.name == name).unwrap()
}

/// The bytes of a tensor, matrix by matrix.
fn matrices(path: &Path, name: &str, count: usize) -> Vec<Vec<u8>> {
    let file = GgufInput::open(Backend::initialise(), path).unwrap();
    let bytes = file.bytes(file.find(name).unwrap());
    bytes.chunks(bytes.len() / count).map(<[u8]>::to_vec).collect()
}

#[test]
fn texts_side_by_side_make_the_same_file_as_one_after_the_other() {
    let scene = Scene::made_up(named("qwen3moe"), 5);
    let [alone, together] = [1, 3].map(|threads| {
        let output = scene.draft("Q4_0");
        scene.gptq_by(&output, threads, SUMS_BYTES);
        std::fs::read(output).unwrap()
    });
    assert!(alone == together);
}

#[test]
fn models_of_every_architecture_diverge_less_than_with_the_importance_matrix() {
    for architecture in ARCHITECTURES {
        let scene = Scene::made_up(architecture, 8);
        let output = scene.draft("Q4_0");
        let before = scene.divergence(&output);
        let report = scene.gptq(&output);
        let after = scene.divergence(&output);
        assert!(after < 0.7 * before, "{}: {after} after {before}", architecture.name);
        // All products of all layers, the choice of experts aside, which is not rounded.
        for KeptTensor { tensor, reason, .. } in &report.kept {
            let expected = ["token_embd.weight", "output.weight"].contains(&tensor.as_str());
            assert!(expected, "{tensor}: {reason}");
        }
        let stored = stored(&output, &report);
        assert!(stored.iter().any(|name| name.starts_with("blk.1.ffn_down")));
    }
}

#[test]
fn experts_that_see_too_little_stay_and_the_report_says_which() {
    let scene = Scene::made_up(named("qwen3moe"), 2);
    let output = scene.draft("Q4_0");
    let name = "blk.0.ffn_up_exps.weight";
    let before = matrices(&output, name, 3);
    let report = scene.gptq(&output);
    let after = matrices(&output, name, 3);
    // 192 tokens, two of three experts each: some see fewer than 2 · 64 vectors, some more.
    let left = report.kept.iter().find(|kept| kept.tensor.starts_with(name)).unwrap();
    assert_eq!(left.reason, "the text routes fewer vectors to it than twice its columns");
    let part = left.tensor.strip_prefix(name).unwrap().strip_prefix(": ").unwrap();
    let numbers = part.strip_prefix("matrices ").unwrap().strip_suffix(" of 3").unwrap();
    let numbers: Vec<usize> = numbers.split(", ").map(|number| number.parse().unwrap()).collect();
    for (matrix, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before == after, numbers.contains(&matrix), "matrix {matrix}, {part}");
    }
    assert!(!numbers.is_empty());
    // 96 columns are too many for all of them.
    assert!(report.kept.iter().any(|kept| kept.tensor == "blk.0.ffn_down_exps.weight"));
}

#[test]
fn in_several_passes_experts_become_what_they_become_in_one() {
    let scene = Scene::made_up(named("qwen2moe"), 4);
    let draft = scene.draft("Q4_0");
    let output = scene.folder.path().join("passes.gguf");
    std::fs::copy(&draft, &output).unwrap();
    scene.gptq(&draft);
    scene.gptq_by(&output, THREADS, 1);
    for name in ["blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"] {
        let (one, several) = (matrices(&draft, name, 3), matrices(&output, name, 3));
        assert!(one == several, "{name}");
    }
}

#[test]
fn the_demo_model_of_experts_diverges_less_than_with_the_importance_matrix() {
    let demo = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(path);
    let source = demo("model/quantbench-demo-experts-F16.gguf");
    let text = std::fs::read_to_string(demo("texts/world.txt")).unwrap();
    let backend = Backend::initialise();
    let settings = Settings::default();
    let vocabulary = Model::load(backend, &source, &settings, LoadExtent::Vocabulary).unwrap();
    let half = |odd: usize| {
        let lines: Vec<&str> = text.lines().skip(odd).step_by(2).collect();
        vocabulary.tokenize(&lines.join("\n"), true, false).unwrap()
    };
    let (mut calibration, mut held_out) = (half(0), half(1));
    calibration.truncate(64 * CONTEXT);
    held_out.truncate(24 * CONTEXT);
    let scene = Scene { folder: tempfile::tempdir().unwrap(), source, calibration, held_out };
    let output = scene.draft("Q4_0");
    let before = scene.divergence(&output);
    let report = scene.gptq(&output);
    let after = scene.divergence(&output);
    assert!(after < 0.7 * before, "{after} after {before}");
    let experts = stored(&output, &report).iter().filter(|name| name.contains("_exps")).count();
    assert_eq!(experts, 2 * 3);
}

#[test]
fn a_model_that_is_no_decoder_is_refused() {
    let model =
        concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-translate-F16.gguf");
    let request = GptqRequest {
        source: Path::new(model),
        output: Path::new(model),
        plan: &plan(
            "translate: Two teachers sold the round tree in the field on Sunday.",
            16,
            None,
        ),
        threads: THREADS,
        units: UNITS,
        memory: SUMS_BYTES,
    };
    let error = quantize(Backend::initialise(), &request, |_| ()).unwrap_err();
    assert!(error.to_string().contains("this one is encoder-decoder"), "{error}");
}

/// The inputs of the last group of products.
fn last_inputs(path: &Path, extent: LoadExtent, replace: &[(&str, Vec<u8>)]) -> Vec<f32> {
    let settings = Settings { gpu_layers: 0, ..Settings::default() };
    let model = Model::load(Backend::initialise(), path, &settings, extent).unwrap();
    if extent == LoadExtent::Overwritable {
        let weights = Weights::of(&model).unwrap();
        assert!(weights.read("blk.0.ffn_up.weight").unwrap_err().to_string().contains("not to be"));
        for (name, bytes) in replace {
            weights.write(name, bytes).unwrap();
        }
    }
    let context = u32::try_from(CONTEXT).unwrap();
    let mut context = PartialContext::new(&model, context, THREADS).unwrap();
    let plan = GptqPlan::new(context.graph());
    let last = plan.groups.last().unwrap();
    let part =
        plan.flow.part(None, vec![(last.step, crate::engine::llama::partial::ProbeKind::Input)]);
    let tokens: Vec<i32> = (0..96).map(|position| position * 7 % 37 + 1).collect();
    context.evaluate(&tokens, &part, &[]).unwrap().remove(0).rows
}

#[test]
fn weights_overwritten_in_memory_are_those_that_the_file_has_then() {
    let scene = Scene::made_up(named("llama"), 2);
    let output = scene.draft("Q4_0");
    let before = last_inputs(&output, LoadExtent::Everything, &[]);
    let (name, other) = ("blk.0.ffn_up.weight", "blk.0.ffn_gate.weight");
    let file = GgufInput::open(Backend::initialise(), &output).unwrap();
    let (up, gate) = (file.find(name).unwrap(), file.find(other).unwrap());
    assert_eq!(up.entry.format, gate.entry.format);
    let bytes = file.bytes(gate).to_vec();
    let replaced = last_inputs(&output, LoadExtent::Overwritable, &[(name, bytes.clone())]);
    let mut writable = OpenOptions::new().write(true).open(&output).unwrap();
    overwrite(&mut writable, &file, up, &bytes).unwrap();
    assert_eq!(replaced, last_inputs(&output, LoadExtent::Everything, &[]));
    assert_ne!(replaced, before);
}
