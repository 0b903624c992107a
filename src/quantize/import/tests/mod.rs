//! Weight by weight: checkpoints that a test packed itself, against the file made from them.

#![expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]

mod packing;
mod reading;

use super::*;
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::{GgmlType, Value};
use packing::{Rounded, Tensors, round};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const COLUMNS: usize = 128;
const HEADS: usize = 2;
/// Tensors of BASE with their modules and rows.
const LAYERS: [(&str, &str, usize); 3] = [
    ("blk.0.attn_q", "model.layers.0.self_attn.q_proj", 64),
    ("blk.0.attn_k", "model.layers.0.self_attn.k_proj", 32),
    ("blk.0.ffn_up", "model.layers.0.mlp.up_proj", 32),
];

struct Scene {
    folder: TempDir,
    /// The weights of each layer in the order of the checkpoint.
    weights: Vec<Vec<Vec<f32>>>,
}

/// What a checkpoint row is called in a GGUF: half `j` of pair `i` becomes row 2i + j of its head.
fn row_in_gguf(name: &str, rows: usize, row: usize) -> usize {
    let heads = match name {
        "blk.0.attn_q" => HEADS,
        "blk.0.attn_k" => 1,
        _ => return row,
    };
    let size = rows / heads;
    let (head, within) = (row / size, row % size);
    let (j, i) = (within / (size / 2), within % (size / 2));
    head * size + 2 * i + j
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let plan = |name: &str, dimensions: &[u64]| TensorPlan {
            name: format!("{name}.weight"),
            dimensions: dimensions.to_vec(),
            format: GgmlType::from_name("F32").unwrap(),
        };
        let mut plans = vec![plan("token_embd", &[32, 2]), plan("blk.0.attn_norm", &[32])];
        plans.extend(LAYERS.map(|(name, _, rows)| plan(name, &[COLUMNS as u64, rows as u64])));
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", MetadataValue::Text("llama")).unwrap();
        metadata.set("llama.attention.head_count", MetadataValue::U32(HEADS as u32)).unwrap();
        metadata.set("llama.attention.head_count_kv", MetadataValue::U32(1)).unwrap();
        let path = folder.path().join("base.gguf");
        let mut output = GgufOutput::create(&path, &metadata, &plans).unwrap();
        output.write_tensor("token_embd.weight", &floats(&[0.25; 64])).unwrap();
        output.write_tensor("blk.0.attn_norm.weight", &floats(&[1.0; 32])).unwrap();
        let mut weights = Vec::new();
        for (name, _, rows) in LAYERS {
            let own: Vec<Vec<f32>> =
                (0..rows).map(|_| (0..COLUMNS).map(|_| random.f32() - 0.4).collect()).collect();
            let mut stored = vec![Vec::new(); rows];
            for (row, line) in own.iter().enumerate() {
                stored[row_in_gguf(name, rows, row)] = line.clone();
            }
            output.write_tensor(&format!("{name}.weight"), &floats(&stored.concat())).unwrap();
            weights.push(own);
        }
        output.finish().unwrap();
        fs::create_dir(folder.path().join("checkpoint")).unwrap();
        Self { folder, weights }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, json: &str) {
        fs::write(self.path("checkpoint/quantize_config.json"), json).unwrap();
    }

    fn rounded(&self, bits: u32, group: usize, zero: Option<u32>) -> Vec<Rounded> {
        self.weights.iter().map(|weights| round(weights, bits, group, zero)).collect()
    }

    fn write(&self, tensors: &Tensors) {
        tensors.write(&self.path("checkpoint/model.safetensors"));
    }

    fn import(&self, kind: CheckpointKind) -> Result<GgufInput, ImportError> {
        self.import_with_note(kind).map(|(made, _)| made)
    }

    fn import_with_note(
        &self,
        kind: CheckpointKind,
    ) -> Result<(GgufInput, Option<String>), ImportError> {
        let (checkpoint, output) = (self.path("checkpoint"), self.path("out.gguf"));
        let base = self.path("base.gguf");
        let (checkpoint, base) = (ArtifactRef::here(&checkpoint), ArtifactRef::here(&base));
        let job = ImportJob { checkpoint, kind, base, output: ArtifactRef::output(&output) };
        let backend = Backend::initialise();
        let note = import(backend, &job, |_| {})?;
        Ok((GgufInput::open(backend, &output)?, note))
    }

    /// Every weight of the result is the checkpoint's, up to `tolerance` times scale · zero.
    fn check(made: &GgufInput, layers: &[Rounded], format: &str, tolerance: f32) {
        for ((name, _, rows), layer) in LAYERS.into_iter().zip(layers) {
            let tensor = made.find(&format!("{name}.weight")).unwrap();
            assert_eq!(tensor.entry.format.name(), format);
            let found = decoded(made.bytes(tensor), format);
            for row in 0..rows {
                for column in 0..COLUMNS {
                    let expected = layer.weight(row, column);
                    let at = row_in_gguf(name, rows, row) * COLUMNS + column;
                    let group = column / layer.group;
                    let minimum = layer.scales[row][group] * layer.zeros[row][group] as f32;
                    let off = (found[at] - expected).abs();
                    assert!(off <= tolerance * minimum, "{name} {row} {column}: {off}");
                }
            }
        }
    }
}

/// Weights of blocks, by the definition of the formats in ggml.
fn decoded(bytes: &[u8], format: &str) -> Vec<f32> {
    let half = |at: &[u8]| f16::from_le_bytes([at[0], at[1]]).to_f32();
    let nibbles = |quants: &[u8]| -> Vec<f32> {
        let low = quants.iter().map(|byte| byte & 15);
        low.chain(quants.iter().map(|byte| byte >> 4)).map(f32::from).collect()
    };
    let block = |block: &[u8]| -> Vec<f32> {
        let d = half(block);
        match format {
            "Q4_0" => nibbles(&block[2..]).iter().map(|q| d * (q - 8.0)).collect(),
            "Q4_1" => {
                let m = half(&block[2..]);
                nibbles(&block[4..]).iter().map(|q| d * q + m).collect()
            }
            "Q8_0" => block[2..].iter().map(|&q| d * f32::from(q.cast_signed())).collect(),
            _ => vec![d],
        }
    };
    let size = match format {
        "Q4_0" => 18,
        "Q4_1" => 20,
        "Q8_0" => 34,
        _ => 2,
    };
    bytes.chunks(size).flat_map(block).collect()
}

fn gptq(layers: &[Rounded], stored_less: u32) -> Tensors {
    let mut tensors = Tensors::default();
    for ((_, module, _), layer) in LAYERS.into_iter().zip(layers) {
        tensors.gptq(module, layer, stored_less);
    }
    tensors
}

#[test]
fn gptq_of_every_width_group_and_version_keeps_every_weight() {
    for (bits, group, zero, format, tolerance) in [
        (4, 32, None, "Q4_1", 6e-4),
        (4, 64, Some(8), "Q4_0", 0.0),
        (4, 128, None, "Q4_1", 6e-4),
        (2, 32, None, "Q4_0", 0.0),
        (3, 64, None, "Q4_0", 0.0),
        (3, 32, Some(4), "Q4_0", 0.0),
        (8, 32, Some(128), "Q8_0", 0.0),
        (8, 128, None, "F16", 1e-3),
    ] {
        for (version, stored_less) in [("gptq", 1), ("gptq_v2", 0)] {
            let scene = Scene::new();
            let layers = scene.rounded(bits, group, zero);
            scene.configure(&format!(
                "{{\"bits\":{bits},\"group_size\":{group},\"desc_act\":false,\
                 \"checkpoint_format\":\"{version}\"}}"
            ));
            scene.write(&gptq(&layers, stored_less));
            let made = scene.import(CheckpointKind::Gptq).unwrap();
            Scene::check(&made, &layers, format, tolerance);
        }
    }
}

fn awq(layers: &[Rounded]) -> Tensors {
    let mut tensors = Tensors::default();
    for ((_, module, _), layer) in LAYERS.into_iter().zip(layers) {
        tensors.awq_gemm(module, layer);
    }
    tensors
}

#[test]
fn the_whole_row_can_be_one_group_and_order_may_be_told_where_it_changes_nothing() {
    let scene = Scene::new();
    let layers = scene.rounded(4, COLUMNS, None);
    scene.configure(r#"{"bits":4,"group_size":-1,"desc_act":true,"quant_method":"gptq"}"#);
    let mut tensors = gptq(&layers, 1);
    let index = format!("{}.g_idx", LAYERS[0].1);
    tensors.words(&index, &vec![vec![0]; COLUMNS]);
    tensors.0.get_mut(&index).unwrap().1 = vec![COLUMNS];
    scene.write(&tensors);
    let made = scene.import(CheckpointKind::Gptq).unwrap();
    Scene::check(&made, &layers, "Q4_1", 6e-4);
}

#[test]
fn columns_in_another_order_are_refused_by_name() {
    let scene = Scene::new();
    let layers = scene.rounded(4, 32, None);
    scene.configure(r#"{"bits":4,"group_size":32,"desc_act":true}"#);
    let mut tensors = gptq(&layers, 1);
    let index = format!("{}.g_idx", LAYERS[2].1);
    let groups: Vec<Vec<u32>> = (0..COLUMNS as u32).map(|column| vec![column % 4]).collect();
    tensors.words(&index, &groups);
    tensors.0.get_mut(&index).unwrap().1 = vec![COLUMNS];
    scene.write(&tensors);
    let error = scene.import(CheckpointKind::Gptq).unwrap_err().to_string();
    assert!(error.contains(&index) && error.contains("static_groups = true"), "{error}");
}

#[test]
fn awq_of_both_packings_keeps_every_weight_and_takes_the_scaled_norm() {
    for (version, group) in [("GEMM", 32), ("GEMM", 128), ("GEMV", 32), ("GEMV", 64), ("GEMV", 128)]
    {
        let scene = Scene::new();
        let layers = scene.rounded(4, group, None);
        fs::write(
            scene.path("checkpoint/config.json"),
            format!(
                "{{\"quantization_config\":{{\"quant_method\":\"awq\",\"bits\":4,\
                 \"group_size\":{group},\"zero_point\":true,\"version\":\"{version}\"}}}}"
            ),
        )
        .unwrap();
        let mut tensors = Tensors::default();
        for ((_, module, _), layer) in LAYERS.into_iter().zip(&layers) {
            match version {
                "GEMM" => tensors.awq_gemm(module, layer),
                _ => tensors.awq_gemv(module, layer),
            }
        }
        tensors.floats("model.layers.0.input_layernorm.weight", &[0.5; 32]);
        tensors.floats("model.layers.0.self_attn.q_proj.bias", &[0.0; 64]);
        scene.write(&tensors);
        let made = scene.import(CheckpointKind::Awq).unwrap();
        Scene::check(&made, &layers, "Q4_1", 6e-4);
        let bytes = |name: &str| made.bytes(made.find(name).unwrap()).to_vec();
        assert_eq!(bytes("blk.0.attn_norm.weight"), floats(&[0.5; 32]));
        assert_eq!(bytes("token_embd.weight"), floats(&[0.25; 64]));
        let text = |key: &str| made.header().get(key).and_then(Value::as_text);
        assert_eq!(text("quantbench.method"), Some("awq-import"));
        assert_eq!(text("quantbench.import.packing"), Some(version.to_lowercase().as_str()));
        assert_eq!(made.header().file_type().unwrap().name(), "Q4_1");
    }
}

#[test]
fn a_matrix_that_was_left_out_of_quantization_is_the_checkpoint_s_too() {
    let scene = Scene::new();
    let layers = scene.rounded(4, 32, None);
    let config = r#"{"quantization_config":{"quant_method":"awq","bits":4,"group_size":32,"zero_point":true,"version":"GEMM"}}"#;
    fs::write(scene.path("checkpoint/config.json"), config).unwrap();
    let mut tensors = Tensors::default();
    let (plain, packed) = LAYERS.split_first().unwrap();
    for ((_, module, _), layer) in packed.iter().zip(&layers[1..]) {
        tensors.awq_gemm(module, layer);
    }
    // Scaled with the norm before it; its rows are in the order of the checkpoint.
    let scaled: Vec<Vec<f32>> = scene.weights[0]
        .iter()
        .map(|row| row.iter().map(|weight| weight * 2.0).collect())
        .collect();
    tensors.halves(&format!("{}.weight", plain.1), &scaled);
    tensors.floats("model.layers.0.input_layernorm.weight", &[0.5; 32]);
    scene.write(&tensors);
    let made = scene.import(CheckpointKind::Awq).unwrap();
    let tensor = made.find(&format!("{}.weight", plain.0)).unwrap();
    assert_eq!(tensor.entry.format.name(), "F32");
    let words = made.bytes(tensor).as_chunks::<4>().0;
    let found: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
    for (row, line) in scaled.iter().enumerate() {
        for (column, &weight) in line.iter().enumerate() {
            let at = row_in_gguf(plain.0, plain.2, row) * COLUMNS + column;
            assert!((found[at] - weight).abs() < 1e-3, "{row} {column}");
        }
    }
}

#[test]
fn several_files_with_an_index_are_one_checkpoint() {
    let scene = Scene::new();
    let layers = scene.rounded(4, 32, None);
    scene.configure(r#"{"bits":4,"group_size":32}"#);
    let (mut first, mut second) = (gptq(&layers, 1), Tensors::default());
    let names: Vec<String> = first.0.keys().filter(|name| name.contains("mlp")).cloned().collect();
    for name in names {
        second.0.insert(name.clone(), first.0.remove(&name).unwrap());
    }
    first.write(&scene.path("checkpoint/a.safetensors"));
    second.write(&scene.path("checkpoint/b.safetensors"));
    let index = |extra: &str| {
        let entry = |(file, tensors): (&str, &Tensors)| {
            let lines = tensors.0.keys().map(|name| format!("\"{name}\":\"{file}.safetensors\""));
            lines.collect::<Vec<_>>().join(",")
        };
        let map = [("a", &first), ("b", &second)].map(entry).join(",");
        let text = format!("{{\"weight_map\":{{{map}{extra}}}}}");
        fs::write(scene.path("checkpoint/model.safetensors.index.json"), text).unwrap();
    };
    index("");
    let made = scene.import(CheckpointKind::Gptq).unwrap();
    Scene::check(&made, &layers, "Q4_1", 6e-4);
    let refused = |part: &str| {
        let error = scene.import(CheckpointKind::Gptq).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    index(",\"x\":\"a.safetensors\"");
    refused("'x', which no file has");
    index(",\"x\":\"../base.gguf\"");
    refused("no plain file name");
    index(",\"x\":\"c.safetensors\"");
    refused("c.safetensors");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let scene = Scene::new();
    let layers = scene.rounded(4, 32, None);
    let good = r#"{"bits":4,"group_size":32}"#;
    let refused = |json: &str, tensors: &Tensors, kind, part: &str| {
        scene.configure(json);
        scene.write(tensors);
        let error = scene.import(kind).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let (gptq_kind, awq) = (CheckpointKind::Gptq, CheckpointKind::Awq);
    let whole = gptq(&layers, 1);
    refused(r#"{"bits":5}"#, &whole, gptq_kind, "bits = 5");
    refused(r#"{"bits":4,"group_size":0}"#, &whole, gptq_kind, "group_size = 0");
    refused(r#"{"checkpoint_format":"marlin"}"#, &whole, gptq_kind, "marlin");
    refused(r#"{"quant_method":"awq"}"#, &whole, gptq_kind, "by 'awq'");
    refused(r#"{"bits":4,"version":"gemv_fast"}"#, &whole, awq, "gemv_fast");
    refused("{", &whole, gptq_kind, "quantize_config.json");
    refused(r#"{"bits":4,"group_size":64}"#, &whole, gptq_kind, "does not fit");
    refused(good, &Tensors::default(), gptq_kind, "no module is quantized");
    let without = |part: &str| {
        let mut tensors = gptq(&layers, 1);
        tensors.0.remove(&format!("{}.{part}", LAYERS[0].1));
        tensors
    };
    refused(good, &without("scales"), gptq_kind, "q_proj.scales' of the checkpoint is missing");
    refused(good, &without("qzeros"), gptq_kind, "q_proj.qzeros' of the checkpoint is missing");
    let module = |name: &str, layer: &Rounded| {
        let mut tensors = gptq(&layers, 1);
        tensors.gptq(name, layer, 1);
        tensors
    };
    let elsewhere = "model.layers.1.mlp.up_proj";
    refused(good, &module(elsewhere, &layers[2]), gptq_kind, "BASE has no tensor 'blk.1.ffn_up");
    refused(good, &module("model.x", &layers[2]), gptq_kind, "no tensor is known");
    refused(good, &module(LAYERS[2].1, &layers[0]), gptq_kind, "64 rows, 'blk.0.ffn_up.weight'");
    let mut turned: Vec<Vec<f32>> = scene.weights[2].clone();
    turned.iter_mut().flatten().for_each(|weight| *weight = -*weight);
    let stranger = round(&turned, 4, 32, None);
    refused(good, &module(LAYERS[2].1, &stranger), gptq_kind, "BASE is of another model");
}

#[test]
fn damaged_files_are_refused_or_read_and_never_more() {
    let scene = Scene::new();
    scene.configure(r#"{"bits":4,"group_size":32}"#);
    let path = scene.path("checkpoint/model.safetensors");
    scene.write(&gptq(&scene.rounded(4, 32, None), 1));
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(scene.import(CheckpointKind::Gptq).is_err(), "{length} bytes");
    }
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        bytes[random.usize(..1200)] = random.u8(..);
        fs::write(&path, &bytes).unwrap();
        let _ = scene.import(CheckpointKind::Gptq);
    }
}
