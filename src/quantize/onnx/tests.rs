//! Models as ONNX files: what graphs say, what is taken over, what is refused.

// The crate that reads them is the engine's.
#[cfg(feature = "onnx")]
mod vocabularies;

use super::*;
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::{Header, Tokens};
use crate::onnx::{external, read};
use std::fs;
use tempfile::TempDir;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");

fn demo(name: &str) -> std::path::PathBuf {
    Path::new(FOLDER).join(name)
}

/// Exports a model; returns the folder and what is said of it.
fn exported(
    input: &Path,
    target: Target,
    most_inside: Option<u64>,
) -> Result<(TempDir, ExportReport), String> {
    let folder = tempfile::tempdir().unwrap();
    let job = ExportJob {
        input: ArtifactRef::here(input),
        target,
        allow_requantize: false,
        output: ArtifactRef::output_named("graph", &folder.path().join(target.file_name())),
        data: ArtifactRef::output_named(
            "data",
            &folder.path().join(format!("{}_data", target.file_name())),
        ),
        most_inside,
    };
    let report = export(Backend::initialise(), &job, |_| ());
    report.map(|report| (folder, report)).map_err(|error| crate::causes::in_words(&error))
}

/// The same model in another type.
fn rounded(name: &str) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let rounding = crate::engine::llama::quantize::Rounding {
        input: &demo("quantbench-demo-chat-F16.gguf"),
        output: &path,
        file_type: name.parse().unwrap(),
        threads: 2,
        allow_requantize: false,
        importance: None,
        overrides: &[],
        metadata: &[],
    };
    crate::engine::llama::quantize::quantize_file(Backend::initialise(), &rounding).unwrap();
    (folder, path)
}

/// How weights are stored, in words without the last per cent.
fn words(report: &ExportReport) -> String {
    report.storage.to_string()
}

#[test]
fn a_graph_says_what_was_asked_for() {
    let path = demo("quantbench-demo-chat-F16.gguf");
    for (target, expected) in [
        (Target::Fp16, "F16"),
        (Target::Int8, "INT8 block 32 symmetric accuracy 4"),
        (Target::Int8Dynamic, "dynamic INT8 + 9 % INT8 block 32 symmetric"),
        (Target::Int4, "INT4 block 32 symmetric accuracy 4 + 9 % INT8 block 32 symmetric"),
    ] {
        let (folder, report) = exported(&path, target, None).unwrap();
        assert!(words(&report).starts_with(expected), "{target}: {}", words(&report));
        assert_eq!(report.notes, Vec::<String>::new());
        let graph = folder.path().join(target.file_name());
        let read = read(&graph).unwrap();
        assert_eq!(Storage::of(&read), report.storage, "{target}");
        assert_eq!(external::files(&graph, &read).unwrap(), []);
    }
}

#[test]
fn weights_lie_beside_a_graph_that_they_do_not_fit_in() {
    let path = demo("quantbench-demo-chat-F16.gguf");
    let (inside, whole) = exported(&path, Target::Fp16, None).unwrap();
    let (beside, split) = exported(&path, Target::Fp16, Some(1 << 20)).unwrap();
    assert_eq!((whole.is_split, split.is_split), (false, true));
    let graph = beside.path().join("model_fp16.onnx");
    let read_beside = read(&graph).unwrap();
    let [(data, bytes)] = external::files(&graph, &read_beside).unwrap().try_into().unwrap();
    assert_eq!(data.file_name().unwrap(), "model_fp16.onnx_data");
    assert_eq!(fs::metadata(&data).unwrap().len(), bytes);
    // The same weights in both.
    let whole = fs::read(inside.path().join("model_fp16.onnx")).unwrap();
    let beside = fs::read(&data).unwrap();
    let read_inside = read(&inside.path().join("model_fp16.onnx")).unwrap();
    let tensors = |model: &crate::onnx::proto::Model| model.graph.clone().unwrap().initializer;
    let mut compared = 0;
    for tensor in tensors(&read_inside) {
        let Some(left) = tensor.left else { continue };
        let twin = tensors(&read_beside).into_iter().find(|it| it.name == tensor.name).unwrap();
        let Some(place) = external::External::of(&twin).unwrap() else { continue };
        let at = |bytes: &[u8], offset: u64| {
            let start = usize::try_from(offset).unwrap();
            bytes[start..start + usize::try_from(left.length).unwrap()].to_vec()
        };
        assert_eq!(at(&whole, left.offset), at(&beside, place.offset), "{}", tensor.name);
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn what_is_quantized_is_taken_over_or_refused() {
    let (_folder, path) = rounded("Q4_0");
    let (_graph, report) = exported(&path, Target::Int4, None).unwrap();
    assert!(words(&report).starts_with("INT4 block 32 symmetric"), "{}", words(&report));
    assert!(report.notes[0].contains("29 quantized weights taken over"), "{:?}", report.notes);
    let error = exported(&path, Target::Int8Dynamic, None).unwrap_err();
    assert!(error.contains("'blk.0.attn_q.weight' is Q4_0"), "{error}");

    let (_folder, path) = rounded("Q8_0");
    let (_graph, report) = exported(&path, Target::Int8, None).unwrap();
    assert_eq!(words(&report), "INT8 block 32 symmetric accuracy 4");
    // Eight bits are not four.
    let error = exported(&path, Target::Int4, None).unwrap_err();
    assert!(error.contains("--allow-requantize"), "{error}");

    let (_folder, path) = rounded("Q4_1");
    let (_graph, report) = exported(&path, Target::Int4, None).unwrap();
    assert!(words(&report).starts_with("INT4 block 32 asymmetric"), "{}", words(&report));
    assert!(report.notes[1].contains("no whole numbers"), "{:?}", report.notes);
}

#[test]
fn an_encoder_becomes_graphs_of_the_same_forms() {
    let path = demo("quantbench-demo-embed-F16.gguf");
    for (target, expected) in [
        (Target::Fp32, "F32"),
        (Target::Fp16, "F16"),
        (Target::Int8, "INT8 block 32 symmetric accuracy 4 + 5 % F32"),
        (Target::Int8Dynamic, "dynamic INT8 + 12 % INT8 block 32 symmetric"),
        (Target::Int4, "INT4 block 32 symmetric accuracy 4 + 12 % INT8 block 32 symmetric"),
    ] {
        let (folder, report) = exported(&path, target, None).unwrap();
        assert!(words(&report).starts_with(expected), "{target}: {}", words(&report));
        assert!(report.notes[0].contains("classify are left out"), "{:?}", report.notes);
        let graph = read(&folder.path().join(target.file_name())).unwrap().graph.unwrap();
        let names = |values: &[crate::onnx::proto::ValueInfo]| -> Vec<String> {
            values.iter().map(|value| value.name.clone()).collect()
        };
        // The file knows no kinds of segments.
        assert_eq!(names(&graph.input), ["input_ids", "attention_mask"]);
        assert_eq!(names(&graph.output), ["last_hidden_state"]);
    }
}

#[test]
fn an_encoder_that_is_not_understood_says_why() {
    use crate::model::gguf::Value;
    let whole = Header::read(&demo("quantbench-demo-embed-F16.gguf")).unwrap();
    for (key, value, expected) in [
        ("bert.pooling_type", Value::Unsigned(3), "the number 3 of 'pooling_type'"),
        ("bert.attention.causal", Value::Bool(true), "'attention.causal'"),
        ("bert.attention.head_count", Value::Unsigned(5), "5 heads and a width of 256"),
        ("bert.block_count", Value::Unsigned(1 << 30), "says 1073741824 layers"),
        ("bert.block_count", Value::Unsigned(4), "'blk.3.attn_q.weight' is missing"),
        ("bert.block_count", Value::Unsigned(2), "a tensor 'blk.2."),
        ("bert.context_length", Value::Unsigned(128), "what its model says needs [256, 128]"),
    ] {
        let mut header = whole.clone();
        header.metadata.retain(|(name, _)| name != key);
        header.metadata.push((key.to_owned(), value));
        let error = Network::of(&header).unwrap_err().to_string();
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn models_that_are_not_exported_say_why() {
    for (name, expected) in [
        ("quantbench-demo-translate-F16.gguf", "architecture 't5'"),
        ("quantbench-demo-experts-F16.gguf", "'expert_count', which is not exported"),
    ] {
        let error = exported(&demo(name), Target::Fp32, None).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    use crate::model::gguf::Value;
    let whole = Header::read(&demo("quantbench-demo-chat-F16.gguf")).unwrap();
    let refused = |key: &str, value: Value| {
        let mut header = whole.clone();
        header.metadata.retain(|(name, _)| name != key);
        header.metadata.push((key.to_owned(), value));
        Network::of(&header).unwrap_err().to_string()
    };
    for (key, value, expected) in [
        ("llama.block_count", Value::Unsigned(1 << 30), "says 1073741824 layers"),
        ("llama.block_count", Value::Unsigned(3), "a tensor 'blk.3."),
        ("llama.block_count", Value::Unsigned(5), "'blk.4.attn_norm.weight' is missing"),
        ("llama.attention.head_count", Value::Unsigned(0), "does not say 'attention.head_count'"),
        ("llama.attention.head_count_kv", Value::Unsigned(3), "which cannot be"),
        ("llama.feed_forward_length", Value::Unsigned(128), "what its model says needs"),
        ("llama.rope.scaling.type", Value::Text("yarn".to_owned()), "'yarn', which is not"),
        ("llama.rope.dimension_count", Value::Unsigned(32), "turns a part of each head"),
        ("llama.attention.sliding_window", Value::Unsigned(512), "sliding_window"),
    ] {
        let error = refused(key, value);
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn the_files_beside_the_graphs_say_what_the_gguf_says() {
    let path = demo("quantbench-demo-chat-F16.gguf");
    let header = Header::read(&path).unwrap();
    let network = Network::of(&header).unwrap();
    let tokens = Tokens::read(&path).unwrap();
    let texts = texts(&header, &network, &tokens).unwrap();
    let json = |name: &str| -> serde_json::Value {
        let (_, text) = texts.iter().find(|(it, _)| *it == name).unwrap();
        serde_json::from_str(text).unwrap()
    };
    let config = json("config.json");
    assert_eq!(config["num_key_value_heads"], 2);
    assert_eq!(config["rope_theta"], 10_000.0);
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&0.into(), &4.into()));
    let tokenizer = json("tokenizer.json");
    assert_eq!(tokenizer["added_tokens"].as_array().unwrap().len(), 5);
    assert_eq!(tokenizer["model"]["vocab"]["<|im_start|>"], 3);
    assert_eq!(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
    let of_tokenizer = json("tokenizer_config.json");
    assert!(of_tokenizer["chat_template"].as_str().unwrap().contains("<|im_start|>"));
    assert_eq!(of_tokenizer["pad_token"], "<pad>");
    // A vocabulary of another size than the embedding.
    let short = Tokens { texts: tokens.texts[1..].to_vec(), ..tokens };
    let error = super::texts(&header, &network, &short).unwrap_err().to_string();
    assert!(error.contains("639 tokens and the embedding 640 rows"), "{error}");
}

#[test]
fn three_hundred_damaged_models_are_refused_or_exported() {
    let whole = ["chat", "embed"].map(|name| demo(&format!("quantbench-demo-{name}-F16.gguf")));
    let whole = whole.map(|path| fs::read(path).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut random = fastrand::Rng::with_seed(11);
    let (mut refused, mut described) = (0, 0);
    for nth in 0..300 {
        let mut bytes = whole[nth % 2].clone();
        for _ in 0..random.usize(1..4) {
            // Keys and tensor entries; not the weights.
            let at = random.usize(..30_000);
            bytes[at] = random.u8(..);
        }
        fs::write(&path, &bytes).unwrap();
        let Ok(header) = Header::read(&path) else { continue };
        let Ok(tokens) = Tokens::read(&path) else { continue };
        let texts = Network::of(&header).and_then(|network| texts(&header, &network, &tokens));
        *(if texts.is_ok() { &mut described } else { &mut refused }) += 1;
    }
    assert!(refused > 0 && described > 0, "{refused} {described}");
}
