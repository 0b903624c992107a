//! `[[workloads.tasks]]`: what the user wrote, every value with its place.

use super::corpus::CorpusFile;
use crate::experiment::diagnostic::Problem;
use crate::experiment::file::{elsewhere, read_count, read_string, read_strings};
use crate::experiment::reader::{Located, TableReader};
use serde_json::{Map, Value};
use std::ops::Range;

/// One `[[workloads.tasks]]` table.
#[derive(Debug, Clone, Default)]
pub struct TaskFile {
    /// Where the table is, for what is missing in it.
    pub span: Range<usize>,
    /// `name`.
    pub name: Option<Located<String>>,
    /// `kind`: the use case.
    pub kind: Option<Located<String>>,
    /// `dataset`.
    pub dataset: Option<Located<String>>,
    /// `columns` of a table without a header.
    pub columns: Option<Vec<Located<String>>>,
    /// `fields`.
    pub fields: FieldsFile,
    /// `template` of the request.
    pub template: Option<Located<String>>,
    /// `continuation`: template of an alternative.
    pub continuation: Option<Located<String>>,
    /// `choices`: templates of the alternatives.
    pub choices: Option<Vec<Located<String>>>,
    /// `labels` of the alternatives, if they are the same for every example.
    pub labels: Option<Vec<Located<String>>>,
    /// `correct`: which alternative is right, if it is the same one for every example.
    pub correct: Option<Located<u32>>,
    /// `separator`.
    pub separator: Option<Located<String>>,
    /// `answer`: how it is answered.
    pub answer: Option<Located<String>>,
    /// `max_tokens`.
    pub max_tokens: Option<Located<u32>>,
    /// `stop`.
    pub stop: Option<Vec<Located<String>>>,
    /// `metrics`.
    pub metrics: Option<Vec<Located<String>>>,
    /// `corpus`: passages to be found.
    pub corpus: Option<CorpusFile>,
    /// `limit`.
    pub limit: Option<Located<u32>>,
    /// `format`, or `formats` to be compared.
    pub formats: Option<Vec<Located<String>>>,
    /// `chat_template_kwargs`: what the model's own template is given besides.
    pub chat_template_kwargs: Option<Located<Map<String, Value>>>,
}

/// `fields`: where in an example things are.
#[derive(Debug, Clone, Default)]
pub struct FieldsFile {
    /// `id`: what an example is called.
    pub id: Option<Located<String>>,
    /// `each`: the list of objects that hold one question each.
    pub each: Option<Located<String>>,
    /// `choices`: the list of alternatives.
    pub choices: Option<Located<String>>,
    /// `labels`: what the alternatives are called, in the same order.
    pub labels: Option<Located<String>>,
    /// `gold`: what is right.
    pub gold: Option<Located<String>>,
    /// `image`: the file of the picture that is shown.
    pub image: Option<Located<String>>,
}

impl TaskFile {
    pub fn read(
        mut table: TableReader<'_>,
        span: Range<usize>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let fields = table.table("fields", problems).map(|(fields, _)| fields);
        let format = read_strings(&mut table, "format", problems);
        let formats = read_strings(&mut table, "formats", problems);
        if let (Some(one), Some(_)) = (format.as_ref().and_then(|it| it.first()), &formats) {
            problems.push(one.problem("and 'formats' are both there").help("write one of them"));
        }
        let file = Self {
            span,
            name: read_string(&mut table, "name", problems),
            kind: read_string(&mut table, "kind", problems),
            dataset: read_string(&mut table, "dataset", problems),
            columns: read_strings(&mut table, "columns", problems),
            fields: fields.map(|fields| FieldsFile::read(fields, problems)).unwrap_or_default(),
            template: read_string(&mut table, "template", problems),
            continuation: read_string(&mut table, "continuation", problems),
            choices: read_strings(&mut table, "choices", problems),
            labels: read_strings(&mut table, "labels", problems),
            correct: read_count(&mut table, "correct", 0..=1000, problems),
            separator: read_string(&mut table, "separator", problems),
            answer: read_string(&mut table, "answer", problems),
            max_tokens: read_count(&mut table, "max_tokens", 1..=100_000, problems),
            stop: read_strings(&mut table, "stop", problems),
            metrics: read_strings(&mut table, "metrics", problems),
            corpus: table
                .table("corpus", problems)
                .map(|(corpus, span)| CorpusFile::read(corpus, span, problems)),
            limit: read_count(&mut table, "limit", 1..=u32::MAX, problems),
            formats: formats.or(format),
            chat_template_kwargs: table.json("chat_template_kwargs", problems),
        };
        table.finish(elsewhere, problems);
        file
    }
}

impl FieldsFile {
    fn read(mut table: TableReader<'_>, problems: &mut Vec<Problem>) -> Self {
        let file = Self {
            id: read_string(&mut table, "id", problems),
            each: read_string(&mut table, "each", problems),
            choices: read_string(&mut table, "choices", problems),
            labels: read_string(&mut table, "labels", problems),
            gold: read_string(&mut table, "gold", problems),
            image: read_string(&mut table, "image", problems),
        };
        table.finish(elsewhere, problems);
        file
    }
}
