//! A folder of ready variants of one model, or of a checkpoint that becomes one.

use super::onnx;
use super::{PICKLES, ReadyVariant, ResolveOptions, Resolved, checksum, look, what_else};
use crate::causes::Problem;
use crate::model::cache::Cache;
use crate::model::convert;
use crate::model::gguf::{Header, Value};
use crate::model::quantization::Quantization;
use crate::model::source::Source;
use crate::model::split;
use std::path::{Path, PathBuf};

/// Every model file of the folder, by name; split models count once, other GGUFs not at all. A checkpoint without
/// any becomes one, which messages call `name`.
pub(super) fn resolve(
    folder: &Path,
    name: &str,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let mut models: Vec<(PathBuf, Header)> = Vec::new();
    for path in candidates(folder)? {
        let header = Header::read(&path)?;
        // An image encoder or an adapter often lies beside the models it belongs to.
        if what_else(&header).is_none() {
            models.push((path, header));
        }
    }
    let Some((first_path, first)) = models.first() else {
        if convert::is_converted(folder) {
            let (path, checksum) = convert::gguf_of(folder, name, cache, options)?;
            return super::single(path.clone(), super::read_model(&path)?, checksum);
        }
        if onnx::is_there(folder) {
            return onnx::folder(folder, cache, options);
        }
        let instead = checkpoint_in(folder);
        return Err(Problem::new(format!(
            "{} has no GGUF file of a model in it{instead}",
            folder.display()
        )));
    };
    if let Some((path, header)) = models.iter().find(|(_, header)| shape(header) != shape(first)) {
        return Err(Problem::new(format!(
            "{} and {} are different models ({}, {}); a folder holds variants of one model",
            first_path.display(),
            path.display(),
            shape(first),
            shape(header)
        )));
    }
    let names: Vec<String> = models
        .iter()
        .map(|(path, _)| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let mut ready = models
        .into_iter()
        .map(|(path, header)| {
            let checksum = checksum(&path, cache, options)?;
            super::ready(path, &header, checksum)
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    distinguish(&mut ready, &names);
    ready.sort_by_key(|variant| variant.quantization.precision_rank());
    Ok(Resolved { source: None, ready })
}

/// Which quantizations the folder holds, from most to fewest bits. Files that cannot be read are left
/// out: resolving will tell of them.
pub fn quantizations_in(folder: &Path) -> Vec<Quantization> {
    let stored = |path: PathBuf| look(&path).ok()?.map(|(_, quantization)| quantization);
    let mut found: Vec<Quantization> =
        candidates(folder).unwrap_or_default().into_iter().filter_map(stored).collect();
    found.sort_by_key(|quantization| quantization.precision_rank());
    found.dedup();
    if found.is_empty() {
        return onnx::quantizations_of(&[Source::Directory(folder.to_owned())]);
    }
    found
}

/// GGUF files of the folder, sorted by name; of a split model the first part, whether it is there or
/// not, so that a missing one is noticed.
fn candidates(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable =
        |source| Problem::because(format!("cannot read the folder {}", folder.display()), source);
    let mut paths = Vec::new();
    for file in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = file.map_err(unreadable)?.path();
        let is_gguf = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("gguf"));
        if is_gguf && path.is_file() {
            paths.push(split::all_parts(&path).swap_remove(0));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// What to do with weights of other programs that cannot be converted; empty where there are none.
pub fn checkpoint_in(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> =
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    let has = |is_it: fn(&str) -> bool| names.iter().any(|name| is_it(name));
    if has(|name| name.ends_with(".safetensors")) {
        return match convert::imported_by(folder) {
            Some(method) => format!(
                ": it is a checkpoint quantized by {method}; make a GGUF of it with 'quantbench import \
                 {method} {} --base MODEL.gguf -o OUT.gguf'",
                folder.display()
            ),
            None => ": it has safetensors, but not config.json and model*.safetensors, which are what can \
                  be converted"
                .to_owned(),
        };
    }
    if has(|name| name.starts_with("pytorch_model")) {
        return format!(": it has {PICKLES}; save them as safetensors");
    }
    String::new()
}

/// What variants of one model have in common.
fn shape(header: &Header) -> String {
    let number = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let width = header.get_own("embedding_length").and_then(Value::as_count);
    format!(
        "{} of {} layers and width {}",
        header.architecture(),
        number(header.layers()),
        number(width)
    )
}

/// Two variants with one label are called by their files' names.
pub(super) fn distinguish(ready: &mut [ReadyVariant], names: &[String]) {
    let labels: Vec<String> = ready.iter().map(|variant| variant.label.clone()).collect();
    for (variant, name) in ready.iter_mut().zip(names) {
        if labels.iter().filter(|label| **label == variant.label).count() > 1 {
            split::stem(name).clone_into(&mut variant.label);
        }
    }
}
