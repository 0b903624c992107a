//! `[[workloads.tasks]]` as it was written, every value with its place; `keys` says what each key means.

use super::corpus::CorpusFile;
use super::plan::UseCase;
use crate::experiment::reader::{Located, Many};
use crate::metrics::TaskMetric;
use crate::prompt::choice::FormatChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One `[[workloads.tasks]]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskFile {
    /// Keys whose values are wrong; each is reported already.
    pub wrong: Many<String>,
    pub name: Option<Located<String>>,
    pub kind: Option<Located<UseCase>>,
    pub dataset: Option<Located<String>>,
    pub columns: Option<Many<String>>,
    pub fields: Located<FieldsFile>,
    pub template: Option<Located<String>>,
    pub continuation: Located<String>,
    pub choices: Option<Many<String>>,
    pub labels: Option<Many<String>>,
    pub correct: Option<Located<usize>>,
    pub separator: Option<Located<String>>,
    pub answer: Option<Located<String>>,
    pub max_tokens: Located<u32>,
    pub stop: Option<Many<String>>,
    pub metrics: Option<Many<TaskMetric>>,
    pub corpus: Option<Located<CorpusFile>>,
    pub limit: Option<Located<usize>>,
    pub formats: Option<Many<FormatChoice>>,
    pub chat_template_kwargs: Option<Located<Map<String, Value>>>,
}

/// `fields`: where in an example things are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FieldsFile {
    pub id: Option<Located<String>>,
    pub each: Option<Located<String>>,
    pub choices: Option<Located<String>>,
    pub labels: Option<Located<String>>,
    pub gold: Option<Located<String>>,
    pub image: Option<Located<String>>,
}

impl TaskFile {
    /// The texts of a list.
    pub(crate) fn texts(list: Option<&Many<String>>) -> Vec<String> {
        list.iter().flat_map(|list| list.iter()).map(|text| text.value.clone()).collect()
    }
}
