//! What is written is read again by the header reader and by llama.cpp.

use super::*;
use crate::engine::LoadExtent;
use crate::engine::Model as _;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::model::Model;
use crate::experiment::settings::Settings;
use crate::model::gguf::testing::Builder;
use crate::model::gguf::{GgmlType, Header, Value};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path) -> Result<GgufInput, GgufFileError> {
    GgufInput::open(Backend::initialise(), path)
}

fn plan(name: &str, format: &str, dimensions: &[u64]) -> TensorPlan {
    TensorPlan {
        name: name.to_owned(),
        dimensions: dimensions.to_vec(),
        format: GgmlType::from_name(format).unwrap(),
    }
}

/// Writes all tensors of a file to another, with these keys.
fn copy(input: &GgufInput, metadata: &Metadata, path: &Path) {
    let plans: Vec<TensorPlan> =
        input.tensors().iter().map(|tensor| TensorPlan::from(&tensor.entry)).collect();
    let mut output = GgufOutput::create(path, metadata, &plans).unwrap();
    for tensor in input.tensors() {
        output.write_tensor(&tensor.entry.name, input.bytes(tensor)).unwrap();
    }
    output.finish().unwrap();
}

#[test]
fn a_copy_of_the_demo_model_says_the_same_and_loads() {
    let folder = folder();
    let path = folder.path().join("copy.gguf");
    let input = open(Path::new(DEMO)).unwrap();
    let mut metadata = input.metadata().unwrap();
    metadata.set("quantbench.method", MetadataValue::Text("gptq-import")).unwrap();
    copy(&input, &metadata, &path);
    let (original, copied) = (input.header(), Header::read(&path).unwrap());
    assert_eq!(original.tensors, copied.tensors);
    let (last, before) = copied.metadata.split_last().unwrap();
    assert_eq!(before, original.metadata);
    assert_eq!(last.1.as_text(), Some("gptq-import"));
    let again = open(&path).unwrap();
    for tensor in input.tensors() {
        let twin = again.find(&tensor.entry.name).unwrap();
        assert!(!input.bytes(tensor).is_empty());
        assert_eq!(again.bytes(twin), input.bytes(tensor), "{}", tensor.entry.name);
    }
    let backend = Backend::initialise();
    let model = Model::load(backend, &path, &Settings::default(), LoadExtent::Everything).unwrap();
    assert_eq!(model.parameters(), original.parameters());
}

#[test]
fn keys_of_every_type_are_set_replaced_and_removed() {
    let folder = folder();
    let path = folder.path().join("keys.gguf");
    let mut metadata = Metadata::new();
    let texts = ["ä".to_owned(), String::new(), "c".to_owned()];
    for (key, value) in [
        ("a", MetadataValue::Text("first")),
        ("b", MetadataValue::U32(7)),
        ("c", MetadataValue::U64(1 << 40)),
        ("d", MetadataValue::F32(0.5)),
        ("e", MetadataValue::Bool(true)),
        ("f", MetadataValue::Texts(&texts)),
        ("g", MetadataValue::Texts(&[])),
        ("h", MetadataValue::Bool(false)),
        ("a", MetadataValue::Text("second")),
    ] {
        metadata.set(key, value).unwrap();
    }
    metadata.remove("h");
    metadata.remove("never there");
    GgufOutput::create(&path, &metadata, &[]).unwrap().finish().unwrap();
    let header = Header::read(&path).unwrap();
    let keys: Vec<&str> = header.metadata.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["b", "c", "d", "e", "f", "g", "a"]);
    assert_eq!(header.get("a").unwrap().as_text(), Some("second"));
    assert_eq!(header.get("b"), Some(&Value::Unsigned(7)));
    assert_eq!(header.get("c"), Some(&Value::Unsigned(1 << 40)));
    assert_eq!(header.get("d"), Some(&Value::Float(0.5)));
    assert_eq!(header.get("e"), Some(&Value::Bool(true)));
    let Some(Value::Array { first, .. }) = header.get("f") else { panic!() };
    assert_eq!(first.iter().filter_map(Value::as_text).collect::<Vec<_>>(), texts);
    assert!(matches!(header.get("g"), Some(Value::Array { count: 0, .. })));
}

#[test]
fn keys_that_ggml_would_abort_on_are_refused() {
    let mut metadata = Metadata::new();
    let long = "x".repeat(70_000);
    for key in ["general.alignment", "", "a\0b", &long] {
        let error = metadata.set(key, MetadataValue::U32(32)).unwrap_err();
        assert!(matches!(error, GgufFileError::Key { .. }), "{error}");
    }
    assert!(metadata.set("a", MetadataValue::Text("x\0y")).is_err());
    assert!(metadata.set("a", MetadataValue::Texts(&["x\0y".to_owned()])).is_err());
}

#[test]
fn data_is_aligned_even_where_the_original_was_aligned_otherwise() {
    let folder = folder();
    let [from, to] = ["from.gguf", "to.gguf"].map(|name| folder.path().join(name));
    // The builder pads to 32 bytes, so the header is made long enough for that to be 64.
    let built = (0..32)
        .map(|length| {
            let filler = "x".repeat(length);
            Builder::model(7).u32("general.alignment", 64).string("filler", &filler).tensor(
                "a",
                0,
                &[8],
            )
        })
        .find(|built| built.header().len().next_multiple_of(32) % 64 == 0);
    built.unwrap().write(&from);
    let input = open(&from).unwrap();
    copy(&input, &input.metadata().unwrap(), &to);
    let header = Header::read(&to).unwrap();
    assert_eq!(header.get("general.alignment"), None);
    assert_eq!(header.tensors, input.header().tensors);
}

#[test]
fn tensors_that_ggml_would_abort_on_are_refused() {
    let folder = folder();
    let path = folder.path().join("out.gguf");
    let refused = |plans: &[TensorPlan], part: &str| {
        let error = GgufOutput::create(&path, &Metadata::new(), plans).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!path.exists());
    };
    refused(&[plan("a", "F32", &[4]), plan("a", "F32", &[4])], "another tensor");
    refused(&[plan(&"n".repeat(64), "F32", &[4])], "1 to 63");
    refused(&[plan("", "F32", &[4])], "1 to 63");
    refused(&[plan("a\0", "F32", &[4])], "none of them zero");
    refused(
        &[plan("a", "Q4_0", &[48, 2])],
        "it has rows of 48 weights, which Q4_0 cannot store (blocks of 32)",
    );
    refused(&[plan("a", "F32", &[])], "dimensions");
    refused(&[plan("a", "F32", &[1, 1, 1, 1, 1])], "dimensions");
    refused(&[plan("a", "F32", &[1 << 40, 1 << 40])], "impossible");
}

#[test]
fn data_is_taken_in_order_and_whole() {
    let folder = folder();
    let path = folder.path().join("out.gguf");
    let plans = [plan("a", "F32", &[3]), plan("b", "F32", &[1])];
    let mut output = GgufOutput::create(&path, &Metadata::new(), &plans).unwrap();
    assert!(matches!(output.write_tensor("b", &[0; 4]), Err(GgufFileError::Order { .. })));
    assert!(matches!(output.write_tensor("a", &[0; 8]), Err(GgufFileError::Bytes { .. })));
    output.write_tensor("a", &[1; 12]).unwrap();
    output.write_tensor("b", &[2; 4]).unwrap();
    let error = output.write_tensor("c", &[]).unwrap_err();
    assert!(error.to_string().contains("the turn is over"), "{error}");
    output.finish().unwrap();
    let input = open(&path).unwrap();
    assert_eq!(input.bytes(input.find("b").unwrap()), [2; 4]);
    let unfinished = GgufOutput::create(&path, &Metadata::new(), &plans).unwrap().finish();
    assert!(matches!(unfinished, Err(GgufFileError::Unfinished { missing: 2, all: 2 })));
    // And such a file is refused.
    assert!(open(&path).is_err());
}

#[test]
fn a_split_model_becomes_a_whole_one() {
    let folder = folder();
    let part = |number: u32| folder.path().join(format!("m-{number:05}-of-00002.gguf"));
    Builder::new()
        .string("general.architecture", "llama")
        .key("split.no", 2, &0_u16.to_le_bytes())
        .key("split.count", 2, &2_u16.to_le_bytes())
        .tensor("one", 0, &[8])
        .write(&part(1));
    Builder::new().tensor("two", 1, &[32]).write(&part(2));
    let input = open(&part(2)).unwrap();
    let whole = folder.path().join("whole.gguf");
    copy(&input, &input.metadata().unwrap(), &whole);
    let again = open(&whole).unwrap();
    assert_eq!(again.header().metadata.len(), 1);
    for name in ["one", "two"] {
        let (before, after) = (input.find(name).unwrap(), again.find(name).unwrap());
        assert_eq!(input.bytes(before), again.bytes(after));
    }
    fs::remove_file(part(2)).unwrap();
    assert!(open(&part(1)).unwrap_err().to_string().contains("is not there"));
}

#[test]
fn strings_that_would_be_cut_off_are_refused() {
    let folder = folder();
    let path = folder.path().join("zero.gguf");
    Builder::model(7).strings("last", &["a", "b\0c"]).write(&path);
    let error = open(&path).unwrap().metadata().unwrap_err();
    assert!(matches!(error, GgufFileError::ZeroByteInside { .. }), "{error}");
    Builder::model(7).string("last", "b\0c").write(&path);
    assert!(open(&path).unwrap().metadata().is_err());
}

#[test]
fn files_that_are_cut_off_or_lie_are_refused() {
    let folder = folder();
    let path = folder.path().join("bad.gguf");
    let whole = Builder::model(7).bytes();
    let header = Builder::model(7).header().len();
    for length in (0..whole.len()).step_by(37) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(open(&path).is_err(), "{length} bytes");
    }
    for at in (0..header).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&path, &bytes).unwrap();
        // Whatever is accepted has all its bytes.
        if let Ok(input) = open(&path) {
            for tensor in input.tensors() {
                assert_eq!(input.bytes(tensor).len() as u64, tensor.entry.bytes);
            }
        }
    }
    assert!(open(folder.path()).is_err());
}
