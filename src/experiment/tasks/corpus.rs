//! `corpus`: the passages of a task that finds some of them, and how they are made to be found.

use super::question::text_of;
use crate::causes;
use crate::dataset::{Columns, DatasetError, Example};
use crate::experiment::diagnostic::Problem;
use crate::experiment::expand::Expansion;
use crate::experiment::inputs;
use crate::experiment::reader::Located;
use crate::files;
use crate::model::cache::of_bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the user wrote in `corpus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CorpusFile {
    pub passages: Option<Located<String>>,
    pub id: Located<String>,
    pub text: Located<String>,
    pub prefix: Located<String>,
    pub relevant: Option<Located<String>>,
    pub query: Option<Located<String>>,
    pub chunk: Located<u32>,
    pub encoder: Option<Located<String>>,
    pub top: Located<u32>,
}

/// The passages of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusPlan {
    /// Where they came from, as the user wrote it.
    pub source: String,
    /// Number of passages.
    pub passage_count: u32,
    /// What stands before a chunk that is embedded.
    pub prefix: String,
    /// Tokens of a chunk at most.
    pub chunk_tokens: u32,
    /// The model that embeds; `None`: the one that is measured.
    pub encoder: Option<PathBuf>,
    /// Template of the request that passages are put into; `None`: nothing is answered.
    pub template: Option<String>,
    /// Chunks put into a request.
    pub top: u32,
    /// Tells sets of passages and ways of cutting them apart: the first half of a SHA-256, hex.
    pub checksum: String,
    /// The passages; not stored with a run.
    #[serde(skip)]
    pub passages: Arc<Vec<String>>,
}

/// Reads the passages, and their places by name; `answers` says that a request with passages in it is answered.
pub(super) fn expand(
    file: &Located<CorpusFile>,
    template: Option<&Located<String>>,
    answers: bool,
    expansion: &mut Expansion<'_>,
) -> Option<(CorpusPlan, HashMap<String, usize>)> {
    let missing = |key: &str| Problem::new(file.span.clone(), format!("'corpus' has no '{key}'"));
    let Some(source) = &file.passages else {
        expansion.problems.push(missing("passages"));
        return None;
    };
    if file.relevant.is_none() {
        expansion
            .problems
            .push(missing("relevant").help("the field of a question that names its passage"));
    }
    if answers && file.query.is_none() {
        expansion
            .problems
            .push(missing("query").help("the template of what is embedded to find passages"));
    }
    let encoder = encoder(file, answers, expansion);
    let made = inputs::dataset(&source.value, expansion.origin.base, Columns::Header)
        .and_then(|dataset| Ok(passages(&dataset.examples, &file.id, &file.text, &dataset.path)?));
    let (texts, places) = made
        .map_err(|reason| expansion.problems.push(source.problem(causes::in_words(&reason))))
        .ok()?;
    let (prefix, chunk_tokens) = (file.prefix.value.clone(), *file.chunk);
    let plan = CorpusPlan {
        source: source.value.clone(),
        passage_count: u32::try_from(texts.len()).unwrap_or(u32::MAX),
        checksum: checksum(&texts, &prefix, chunk_tokens),
        prefix,
        chunk_tokens,
        encoder,
        template: template.filter(|_| answers).map(|template| template.value.clone()),
        top: *file.top,
        passages: Arc::new(texts),
    };
    Some((plan, places))
}

/// The file of the model that embeds, if another one than the measured one does.
fn encoder(
    file: &Located<CorpusFile>,
    answers: bool,
    expansion: &mut Expansion<'_>,
) -> Option<PathBuf> {
    let Expansion { origin, problems } = expansion;
    match (&file.encoder, answers) {
        (Some(written), true) => {
            let path = origin.base.join(&written.value);
            if let Err(error) = files::open(&path) {
                let message = format!("is '{}', which cannot be read: {error}", written.value);
                problems.push(written.problem(message));
            }
            Some(path)
        }
        (None, true) => {
            let problem = Problem::new(file.span.clone(), "'corpus' has no 'encoder'");
            problems.push(problem.help("write the GGUF file of the model that embeds"));
            None
        }
        (Some(written), false) => {
            let problem = written.problem("is for kind = \"rag\"");
            problems
                .push(problem.help("a retrieval task is answered by the model that is measured"));
            None
        }
        (None, false) => None,
    }
}

type Passages = (Vec<String>, HashMap<String, usize>);

fn passages(
    examples: &[Example],
    id: &str,
    text: &str,
    path: &Path,
) -> Result<Passages, DatasetError> {
    let mut texts = Vec::new();
    let mut places = HashMap::new();
    for example in examples {
        let read = |field: &str| text_of(example, field).map_err(|fault| fault.within(path));
        let name = read(id)?;
        if places.insert(name.clone(), texts.len()).is_some() {
            return Err(example.fault(format!("two passages are called '{name}'")).within(path));
        }
        texts.push(read(text)?);
    }
    if texts.is_empty() {
        return Err(DatasetError::empty(path));
    }
    Ok((texts, places))
}

fn checksum(texts: &[String], prefix: &str, chunk_tokens: u32) -> String {
    // Plain data always serializes.
    let bytes = serde_json::to_vec(&(texts, prefix, chunk_tokens)).unwrap_or_default();
    of_bytes(&bytes)[..32].to_owned()
}
