//! `quantbench import`: the demo model as a checkpoint, imported and measured.

use crate::world::World;
use quantbench::engine::llama::backend::Backend;
use quantbench::engine::llama::gguf_file::GgufInput;
use quantbench::model::gguf::Value;
use std::fs;
use std::path::Path;

#[path = "../../src/quantize/import/tests/packing.rs"]
mod packing;

use packing::{Tensors, round};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");

/// Modules of a layer, their names in a GGUF, and in how many heads their rows are reordered there.
fn modules(input: &GgufInput) -> Vec<(&'static str, &'static str, Option<usize>)> {
    let count = |key: &str| {
        let value = input.header().get_own(key).and_then(Value::as_count);
        Some(usize::try_from(value.unwrap()).unwrap())
    };
    vec![
        ("self_attn.q_proj", "attn_q", count("attention.head_count")),
        ("self_attn.k_proj", "attn_k", count("attention.head_count_kv")),
        ("self_attn.v_proj", "attn_v", None),
        ("self_attn.o_proj", "attn_output", None),
        ("mlp.gate_proj", "ffn_gate", None),
        ("mlp.up_proj", "ffn_up", None),
        ("mlp.down_proj", "ffn_down", None),
    ]
}

/// Rows of a tensor of the demo model, in the order that a checkpoint has them in.
fn rows(input: &GgufInput, name: &str, heads: Option<usize>) -> Vec<Vec<f32>> {
    let tensor = input.find(name).unwrap();
    let columns = usize::try_from(tensor.entry.dimensions[0]).unwrap();
    let halves = input.bytes(tensor).chunks(2);
    let values: Vec<f32> =
        halves.map(|half| half::f16::from_le_bytes([half[0], half[1]]).to_f32()).collect();
    let stored: Vec<Vec<f32>> = values.chunks(columns).map(<[f32]>::to_vec).collect();
    let Some(heads) = heads else { return stored };
    let size = stored.len() / heads;
    let place = |row: usize| {
        let (head, within) = (row / size, row % size);
        head * size + 2 * (within % (size / 2)) + within / (size / 2)
    };
    (0..stored.len()).map(|row| stored[place(row)].clone()).collect()
}

/// Writes the demo model's layers as a checkpoint.
fn checkpoint(world: &World, name: &str, configuration: &str) {
    let input = GgufInput::open(Backend::initialise(), Path::new(DEMO)).unwrap();
    let mut tensors = Tensors::default();
    for layer in 0..input.header().layers().unwrap() {
        for (module, tensor, heads) in modules(&input) {
            let weights = rows(&input, &format!("blk.{layer}.{tensor}.weight"), heads);
            let rounded = round(&weights, 4, 32, None);
            let module = format!("model.layers.{layer}.{module}");
            match name {
                "gptq" => tensors.gptq(&module, &rounded, 1),
                _ => tensors.awq_gemm(&module, &rounded),
            }
        }
    }
    fs::create_dir(world.path(name)).unwrap();
    world.write(&format!("{name}/quantize_config.json"), configuration);
    tensors.write(&world.path(&format!("{name}/model.safetensors")));
}

#[test]
fn an_imported_checkpoint_is_as_good_as_its_bits_allow() {
    let world = World::new();
    checkpoint(&world, "gptq", r#"{"bits":4,"group_size":32,"desc_act":false}"#);
    checkpoint(&world, "awq", r#"{"w_bit":4,"q_group_size":32,"version":"GEMM"}"#);
    fs::create_dir(world.path("variants")).unwrap();
    fs::copy(DEMO, world.path("variants/demo-F16.gguf")).unwrap();
    let file = "variants/demo-Q4_1.gguf";
    let import = ["import", "gptq", "gptq", "--base", DEMO, "-o", file, "--quiet"];
    assert!(world.run(&import).expect(0).stdout.contains(file));
    world.run(&import).expect_message(2, &["is there already", "--force"]);
    // Both pack the same codes, so both give the same weights.
    world.run(&["import", "awq", "awq", "--base", DEMO, "-o", "awq.gguf"]).expect(0);
    let backend = Backend::initialise();
    let [one, other] =
        [file, "awq.gguf"].map(|name| GgufInput::open(backend, &world.path(name)).unwrap());
    for (one_tensor, other_tensor) in one.tensors().iter().zip(other.tensors()) {
        assert_eq!(one.bytes(one_tensor), other.bytes(other_tensor));
    }
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/texts/evaluation.txt"));
    let text: String = text.unwrap().lines().take(120).collect::<Vec<_>>().join("\n");
    world.write("text.txt", &text);
    world.write(
        "models.toml",
        "[experiment]\nrounds = 1\n[workloads]\nspeed = [\"tg4\"]\n\
         [workloads.quality]\ntext = \"text.txt\"\ncontext = 128\n\
         [[models]]\nname = \"demo\"\nsource = \"variants\"\n",
    );
    let arguments = ["run", "--quiet", "--format", "json"];
    let record = world.run(&arguments).expect(0).run_record();
    let trials = record["trials"].as_array().unwrap();
    let perplexity: Vec<f64> = trials
        .iter()
        .map(|trial| trial["quality"]["perplexity"]["mean"].as_f64().unwrap())
        .collect();
    assert_eq!(perplexity.len(), 2);
    let ratio = perplexity[1].max(perplexity[0]) / perplexity[0].min(perplexity[1]);
    // Rows in a wrong order would make it many times larger.
    assert!(ratio > 1.0 && ratio < 1.2, "{perplexity:?}");
}

#[test]
fn what_cannot_be_imported_is_refused_and_leaves_no_file() {
    let world = World::new();
    let import = |folder: &str, base: &str, parts: &[&str]| {
        let arguments = ["import", "gptq", folder, "--base", base, "-o", "out.gguf"];
        world.run(&arguments).expect_message(2, parts);
        assert!(!world.path("out.gguf").exists());
    };
    import("nowhere", "tiny-F16.gguf", &["cannot import nowhere", "quantize_config.json"]);
    checkpoint(&world, "gptq", r#"{"bits":4,"group_size":32}"#);
    import("gptq", "tiny-F16.gguf", &["BASE"]);
    import("gptq", "nowhere.gguf", &["nowhere.gguf"]);
    fs::write(world.path("gptq/model.safetensors"), [0xff; 100]).unwrap();
    import("gptq", "tiny-F16.gguf", &["no usable safetensors"]);
}
