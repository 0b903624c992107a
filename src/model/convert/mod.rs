//! A checkpoint for transformers (safetensors, configuration, tokenizer) becomes a GGUF: llama.cpp's own converter
//! makes it, once, in the cache.

mod environment;
mod process;

use super::cache::{Cache, Reserved, VariantKey, of_texts};
use super::file_type::FileType;
use super::hub::SECRET_VARIABLES;
use super::resolve::ResolveOptions;
use crate::causes::Problem;
use crate::files::folder_of;
use crate::units::format_bytes;
use environment::Environment;
use safetensors::tensor::Metadata;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a checkpoint says of itself.
pub(super) const CONFIGURATION: &str = "config.json";

/// A longer configuration is none.
const LONGEST_CONFIGURATION: u64 = 1 << 20;

/// The format's own limit of a header, bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// Files of a tokenizer and of configurations end so.
const BESIDE: [&str; 6] = ["json", "jsonl", "txt", "model", "jinja", "tiktoken"];

/// Files that have a vocabulary end so; those of BERT and GPT-2 have `vocab` in their names.
const TOKENIZERS: [&str; 4] = ["tokenizer.json", "tekken.json", ".model", ".tiktoken"];

/// Whether the converter reads this file of a checkpoint. No code is among them.
pub(super) fn reads(path: &str) -> bool {
    // Of modules of an encoder, such as how it pools.
    if let Some((_, file)) = path.split_once('/') {
        return file == CONFIGURATION;
    }
    let extension = Path::new(path).extension().unwrap_or_default();
    is_weights(path) || BESIDE.iter().any(|own| extension == *own)
}

fn is_weights(path: &str) -> bool {
    path.starts_with("model") && path.ends_with(".safetensors")
}

/// Whether files of these paths are a checkpoint that can be converted.
pub(super) fn is_checkpoint<'a>(mut paths: impl Iterator<Item = &'a str> + Clone) -> bool {
    paths.clone().any(is_weights) && paths.any(|path| path == CONFIGURATION)
}

/// What a checkpoint of these paths lacks, in words that follow `it has`; `None`: nothing that names tell.
pub(super) fn lacks<'a>(mut paths: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let is_tokenizer = |path: &str| {
        let is_vocabulary =
            path.contains("vocab") && (path.ends_with("txt") || path.ends_with("json"));
        let ends = |end: &str| path.ends_with(end) && !path.contains('/');
        is_vocabulary || TOKENIZERS.iter().any(|end| ends(end))
    };
    // Of `model-00001-of-00003.safetensors` there are three.
    let parts = paths.clone().filter(|path| is_weights(path)).find_map(|path| {
        let (_, rest) = path.rsplit_once("-of-")?;
        let count: usize = rest.strip_suffix(".safetensors")?.parse().ok()?;
        Some((rest, count))
    });
    if let Some((rest, count)) = parts {
        let there = paths.clone().filter(|path| is_weights(path) && path.ends_with(rest)).count();
        if there < count {
            return Some(format!("{there} of {count} files of weights (model-…-of-{rest})"));
        }
    }
    let without = "no tokenizer (tokenizer.json, tokenizer.model or vocab.txt)";
    (!paths.any(is_tokenizer)).then(|| without.to_owned())
}

/// Whether a folder has no GGUF and is converted instead.
pub fn is_converted(folder: &Path) -> bool {
    let names = names_in(folder);
    let is_gguf = |name: &String| name.to_ascii_lowercase().ends_with(".gguf");
    is_checkpoint(names.iter().map(String::as_str))
        && !names.iter().any(is_gguf)
        && imported_by(folder).is_none()
}

/// The method that a checkpoint's weights are quantized by, if it is one whose codes `quantbench import` takes over.
pub(super) fn imported_by(folder: &Path) -> Option<&'static str> {
    let own = configuration(folder);
    match own["quantization_config"]["quant_method"].as_str() {
        Some("gptq") => Some("gptq"),
        Some("awq") => Some("awq"),
        None if folder.join("quantize_config.json").is_file() => Some("gptq"),
        None if folder.join("quant_config.json").is_file() => Some("awq"),
        _ => None,
    }
}

/// What a checkpoint is converted to: the floating point numbers of 16 bits that it has, or F16.
pub fn target(folder: &Path) -> Option<FileType> {
    let own = configuration(folder);
    let places = [&own, &own["text_config"]];
    let dtype = places.iter().find_map(|it| it["dtype"].as_str().or(it["torch_dtype"].as_str()));
    let is_bfloat = dtype.is_some_and(|dtype| dtype.ends_with("bfloat16"));
    (if is_bfloat { "BF16" } else { "F16" }).parse().ok()
}

/// `config.json`; null if it cannot be read.
fn configuration(folder: &Path) -> Value {
    let mut text = Vec::new();
    let path = folder.join(CONFIGURATION);
    let read = || {
        File::open(path).ok()?.take(LONGEST_CONFIGURATION).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    read().unwrap_or_default()
}

/// Files of a folder, with `config.json` of those within it, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { format!("{name}/{CONFIGURATION}") } else { name }
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.retain(|name| folder.join(name).is_file());
    names.sort();
    names
}

/// The GGUF of the checkpoint in `folder`, which messages call `name`: its path and checksum. It is made unless
/// the cache has it.
///
/// # Errors
/// A file cannot be read, there is no Python, its environment or the GGUF cannot be made.
pub(super) fn gguf_of(
    folder: &Path,
    name: &str,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<(PathBuf, String), Problem> {
    let files: Vec<String> = names_in(folder).into_iter().filter(|path| reads(path)).collect();
    if let Some(missing) = lacks(files.iter().map(String::as_str)) {
        return Err(Problem::new(format!("{name} cannot be converted: it has {missing}")));
    }
    if !configuration(folder).is_object() {
        let path = folder.join(CONFIGURATION);
        return Err(Problem::new(format!("{} is no configuration in JSON", path.display())));
    }
    let mut made_of = Vec::new();
    let mut bytes = 0;
    for file in &files {
        let path = folder.join(file);
        if is_weights(file) {
            check_header(&path)?;
        }
        let total = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        bytes += total;
        let tell = &mut |done| options.progress.tell("checking", file, done, total);
        made_of.extend([file.clone(), cache.checksum(&path, tell)?]);
    }
    let no_type = || Problem::new(format!("{name} has no type that llama.cpp knows"));
    let file_type = target(folder).ok_or_else(no_type)?;
    let key = VariantKey {
        source_checksum: of_texts(made_of.iter().map(String::as_str)),
        quantization: file_type.into(),
        maker: format!("convert_hf_to_gguf {}", Environment::version()),
        calibration: None,
    };
    let slot = cache.variant(&key);
    if let Some(artifact) = slot.existing()? {
        return Ok((artifact.path, artifact.checksum));
    }
    if !options.fetches {
        return Err(Problem::new(format!(
            "{name} is a folder of safetensors that has not been converted yet, and nothing is made now; \
             'quantbench inspect {}' converts it to {} of {file_type}",
            folder.display(),
            format_bytes(bytes)
        )));
    }
    let pending = match slot.reserve(bytes)?.unless_made()? {
        Reserved::Made(artifact) => return Ok((artifact.path, artifact.checksum)),
        Reserved::Pending(pending) => pending,
    };
    let environment = Environment::ready(cache, options)?;
    // The converter sees the files that the address is made of, and runs no code of the model's.
    let scratch = cache.scratch(name.rsplit('/').next().unwrap_or(name))?;
    link(folder, &files, scratch.path()).map_err(|source| {
        Problem::because(format!("cannot write to {}", scratch.path().display()), source)
    })?;
    let mut command = environment.converter();
    command.arg(scratch.path()).arg("--outfile").arg(pending.path());
    command.args(["--outtype", &file_type.name().to_ascii_lowercase()]);
    command.envs([("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_OFFLINE", "1")]);
    for variable in SECRET_VARIABLES {
        command.env_remove(variable);
    }
    let began = Instant::now();
    process::run(&format!("converting {name}"), command, &environment::listeners(options))?;
    let artifact = pending.commit(began.elapsed().as_secs_f64(), Vec::new())?;
    Ok((artifact.path, artifact.checksum))
}

/// What would stop the converter, before anything is installed for it.
fn check_header(path: &Path) -> Result<(), Problem> {
    let wrong = |why: String| {
        let shown = path.display();
        Problem::new(format!("{shown} is no safetensors file, or only a part of one: {why}"))
    };
    let read = |error: std::io::Error| wrong(error.to_string());
    let mut file = File::open(path).map_err(read)?;
    let total = file.metadata().map_err(read)?.len();
    let mut header = vec![0; 8];
    file.read_exact(&mut header).map_err(read)?;
    let length = u64::from_le_bytes(header[..8].try_into().unwrap_or_default());
    if length > LONGEST_HEADER.min(total - 8) {
        return Err(wrong(format!("a header of {length} bytes in a file of {total}")));
    }
    file.take(length).read_to_end(&mut header).map_err(read)?;
    let metadata: Metadata =
        serde_json::from_slice(&header[8..]).map_err(|error| wrong(error.to_string()))?;
    let ends = metadata.tensors().into_values().map(|tensor| tensor.data_offsets.1 as u64);
    let needed = 8 + length + ends.max().unwrap_or(0);
    if needed > total {
        return Err(wrong(format!("{needed} bytes are needed, {total} are there")));
    }
    Ok(())
}

/// Links to files of a folder, in a new one.
fn link(folder: &Path, files: &[String], place: &Path) -> std::io::Result<()> {
    let folder = fs::canonicalize(folder)?;
    for file in files {
        let link = place.join(file);
        fs::create_dir_all(folder_of(&link))?;
        symlink(folder.join(file), link)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_a_checkpoint_is_no_code_and_nothing_pickled() {
        for path in
            ["config.json", "model-00001-of-00002.safetensors", "spiece.model", "a/config.json"]
        {
            assert!(reads(path), "{path}");
        }
        for path in
            ["m.py", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors"]
        {
            assert!(!reads(path), "{path}");
        }
        assert!(is_checkpoint(["config.json", "model.safetensors"].into_iter()));
        assert!(!is_checkpoint(["config.json", "adapter_model.safetensors"].into_iter()));
        assert!(!is_checkpoint(["model.safetensors"].into_iter()));
    }

    #[test]
    fn what_a_checkpoint_lacks_is_told_from_names() {
        let lacks = |paths: &[&str]| lacks(paths.iter().copied());
        let weights = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json"];
        let said = lacks(&weights).unwrap();
        assert_eq!(said, "1 of 2 files of weights (model-…-of-00002.safetensors)");
        assert_eq!(lacks(&[&weights[..], &["model-00002-of-00002.safetensors"]].concat()), None);
        for tokenizer in ["tokenizer.json", "spiece.model", "vocab.txt", "qwen.tiktoken"] {
            assert_eq!(lacks(&["config.json", "model.safetensors", tokenizer]), None);
        }
        for other in ["tokenizer_config.json", "special_tokens_map.json", "1/tokenizer.json"] {
            let said = lacks(&["config.json", "model.safetensors", other]);
            assert!(said.is_some_and(|said| said.starts_with("no tokenizer")), "{other}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_converted_is_told_before_anything_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut whole = (header.len() as u64).to_le_bytes().to_vec();
        whole.extend(header);
        whole.extend([0; 8]);
        let checked = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check_header(&path).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&whole), Ok(()));
        for (bytes, why) in [
            (&whole[..whole.len() - 1], "bytes are needed"),
            (&[7; 100][..], "a header of"),
            (&whole[..5], "no safetensors file"),
            (&b"\x02\0\0\0\0\0\0\0xx"[..], "no safetensors file"),
        ] {
            let error = checked(bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_type_is_that_of_the_configuration_or_f16() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("{\"torch_dtype\": \"bfloat16\"}", "BF16"),
            ("{\"text_config\": {\"dtype\": \"torch.bfloat16\"}}", "BF16"),
            ("{\"dtype\": \"float16\", \"text_config\": {\"dtype\": \"bfloat16\"}}", "F16"),
            ("{\"torch_dtype\": \"float32\"}", "F16"),
            ("no JSON", "F16"),
        ] {
            fs::write(folder.path().join("config.json"), text).unwrap();
            assert_eq!(target(folder.path()).map(FileType::name), Some(expected), "{text}");
        }
    }
}
