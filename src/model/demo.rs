//! The demo model and its texts, compiled into the binary by the feature `demo`.

use super::cache::{Cache, CacheError, of_bytes};
use crate::causes::Problem;
use std::path::PathBuf;

/// Why the demo is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DemoError {
    /// Built without the feature.
    #[error("this build carries no demo model (it was built without the feature 'demo')")]
    NotBuiltIn,
}

impl From<DemoError> for Problem {
    fn from(error: DemoError) -> Self {
        Self::new(error.to_string())
    }
}

/// Whether the demo is in this build.
pub const BUILT_IN: bool = cfg!(feature = "demo");

/// The name of the demo model's file.
pub const FILE_NAME: &str = "quantbench-demo-F16.gguf";

/// The files of the demo.
#[derive(Debug, Clone, Copy)]
pub struct DemoFiles {
    /// The model's GGUF.
    pub model: &'static [u8],
    /// The test prompts, one JSON object per line.
    pub prompts: &'static str,
    /// The text that quality is measured on.
    pub evaluation: &'static str,
    /// The text that the demo model is calibrated on: nothing of it is in the evaluation text.
    pub calibration: &'static str,
    /// Data sets by name.
    tasks: &'static [(&'static str, &'static str)],
}

/// The files of the demo; an error where it is not in this build.
#[cfg(feature = "demo")]
pub const FILES: Result<DemoFiles, DemoError> = Ok(DemoFiles {
    model: include_bytes!("../../demo/model/quantbench-demo-F16.gguf"),
    prompts: include_str!("../../demo/prompts.jsonl"),
    evaluation: include_str!("../../demo/texts/evaluation.txt"),
    calibration: include_str!("../../demo/texts/calibration.txt"),
    tasks: &[
        ("classification", include_str!("../../demo/tasks/classification.jsonl")),
        ("passages", include_str!("../../demo/tasks/passages.jsonl")),
        ("questions", include_str!("../../demo/tasks/questions.jsonl")),
        ("retrieval", include_str!("../../demo/tasks/retrieval.jsonl")),
        ("summarization", include_str!("../../demo/tasks/summarization.jsonl")),
        ("translation", include_str!("../../demo/tasks/translation.jsonl")),
    ],
});

/// The files of the demo; an error where it is not in this build.
#[cfg(not(feature = "demo"))]
pub const FILES: Result<DemoFiles, DemoError> = Err(DemoError::NotBuiltIn);

/// A data set of the demo by its name, as JSON Lines; `None` if there is none of that name.
///
/// # Errors
/// When the demo is not in this build.
pub fn task(name: &str) -> Result<Option<&'static str>, DemoError> {
    let tasks = FILES.map(|files| files.tasks)?;
    Ok(tasks.iter().find(|(other, _)| *other == name).map(|(_, text)| *text))
}

/// The names of the demo's data sets.
pub fn task_names() -> impl Iterator<Item = &'static str> {
    FILES.map(|files| files.tasks).unwrap_or_default().iter().map(|(name, _)| *name)
}

/// The demo model as a file in the cache, written there if it is not yet, and its SHA-256.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn in_cache(cache: &Cache, model: &[u8]) -> Result<(PathBuf, String), CacheError> {
    let checksum = of_bytes(model);
    // In a folder named after its content: another version of the program has another demo.
    let path = cache.demo().join(&checksum[..16]).join(FILE_NAME);
    let is_there = std::fs::metadata(&path)
        .is_ok_and(|metadata| metadata.len() == model.len() as u64)
        && cache.checksum(&path, &mut |_| ())? == checksum;
    if !is_there {
        cache.check_space(model.len() as u64)?;
        cache.write(&path, model)?;
    }
    Ok((path, checksum))
}
