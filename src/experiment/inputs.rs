//! Inputs of the workloads: the test prompts and the text that quality is measured on.
//!
//! Both are read when the experiment is loaded, so that a missing or broken file is found before
//! anything runs and the stored experiment holds what was used.

use super::workloads::{TestPrompt, TextDomain};
use crate::dataset::{self, Columns, DatasetError, Example, standard};
use crate::files;
use crate::model::demo::{self, DemoError};
use crate::model::hub::{self, HubError, HubFile, HubOptions, RepoType};
use crate::model::progress::ProgressSink;
use crate::model::source::HubAddress;
use crate::model::text::without_secrets;
use crate::units::format_bytes;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The name of the built-in prompts and text.
pub const DEMO: &str = "demo";

/// The name of the standard texts.
pub const STANDARD: &str = "standard";

/// The name of the reference's answers to the built-in prompts.
pub const ANSWERS: &str = "answers";

/// The demo's text for the demo models; for others answers where there is a chat template, else the standard texts.
pub const AUTO: &str = "auto";

/// Larger inputs are refused: they are kept in memory and in the stored run.
const MOST_BYTES: u64 = 64 << 20;

/// Why an input cannot be used; `Display` is a fragment that follows the key's name.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read.
    #[error("cannot be read from {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It says something wrong, or names nothing.
    #[error("{0}")]
    Wrong(String),
    /// The data set is wrong.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The data set cannot be fetched.
    #[error("cannot be fetched")]
    Hub(#[from] HubError),
}

impl From<DemoError> for InputError {
    fn from(error: DemoError) -> Self {
        Self::Wrong(format!("is 'demo', but {error}"))
    }
}

/// The prompts named `source`: `demo` or a file, relative to `base`.
///
/// # Errors
/// When the file cannot be read or one of its prompts is wrong.
pub fn prompts(source: &str, base: &Path) -> Result<Vec<TestPrompt>, InputError> {
    if source == DEMO {
        return parse_jsonl(Path::new("demo/prompts.jsonl"), demo::FILES?.prompts);
    }
    let path = base.join(source);
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => parse_jsonl(&path, &read_text(&path)?),
        "txt" => parse_lines(&path, &read_text(&path)?),
        _ => Err(InputError::Wrong(format!(
            "is {}; prompts are read from .jsonl (objects with id, kind and text) or .txt (one prompt per line)",
            path.display()
        ))),
    }
}

/// The text named `source`: `demo` or a file, relative to `base`.
///
/// # Errors
/// When the file cannot be read or is no text.
pub fn text(source: &str, base: &Path) -> Result<String, InputError> {
    if source == DEMO {
        return Ok(demo::FILES?.evaluation.to_owned());
    }
    read_text(&base.join(source))
}

/// A text to evaluate, and its parts if it has several.
#[derive(Debug, Default)]
pub struct EvaluationText {
    /// The text itself.
    pub text: String,
    /// Its parts, in order.
    pub domains: Vec<TextDomain>,
}

impl EvaluationText {
    /// The standard texts.
    #[must_use]
    pub fn standard() -> Self {
        let mut all = Self::default();
        for domain in &standard::DOMAINS {
            let text = domain.evaluation();
            all.add(domain.name, Self { text, domains: Vec::new() });
        }
        all
    }

    /// Appends a text; one without parts becomes a part, named by the stem of its file.
    pub fn add(&mut self, source: &str, other: Self) {
        let name = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let whole = TextDomain { name, bytes: other.text.len() };
        self.domains.extend(if other.domains.is_empty() { vec![whole] } else { other.domains });
        self.text.push_str(&other.text);
    }
}

/// The text to evaluate named `source`: `standard`, `auto` (which is that until the models are known), `demo`
/// or a file, relative to `base`.
///
/// # Errors
/// When the file cannot be read or is no text.
pub fn evaluation(source: &str, base: &Path) -> Result<EvaluationText, InputError> {
    if [STANDARD, AUTO].contains(&source) {
        return Ok(EvaluationText::standard());
    }
    Ok(EvaluationText { text: text(source, base)?, domains: Vec::new() })
}

/// The calibration text named `source`: `standard`, `demo` or a file, relative to `base`.
///
/// # Errors
/// When the file cannot be read or is no text.
pub fn calibration_text(source: &str, base: &Path) -> Result<String, InputError> {
    match source {
        STANDARD => Ok(standard::calibration()),
        DEMO => Ok(demo::FILES?.calibration.to_owned()),
        file => read_text(&base.join(file)),
    }
}

/// A data set that was read, and the path that messages about it name.
pub struct Dataset {
    /// Where it is.
    pub path: PathBuf,
    /// Its examples.
    pub examples: Vec<Example>,
}

/// The data set named `source`: `demo:` and a name, a file on the hub (fetched once), or a file
/// relative to `base`.
///
/// # Errors
/// When it cannot be had or one of its examples is wrong.
pub fn dataset(source: &str, base: &Path, columns: Columns<'_>) -> Result<Dataset, InputError> {
    if let Some(name) = source.strip_prefix("demo:") {
        let unknown = || {
            let known = demo::task_names().collect::<Vec<_>>().join(", ");
            InputError::Wrong(format!("is 'demo:{name}', but the demo's data sets are {known}"))
        };
        let text = demo::task(name)?.ok_or_else(unknown)?;
        let path = PathBuf::from(format!("demo/tasks/{name}.jsonl"));
        let examples = dataset::parse(&path, text.as_bytes(), columns)?;
        return Ok(Dataset { path, examples });
    }
    let path = match source.strip_prefix("hf://") {
        None => base.join(source),
        Some(address) => {
            let wrong = || {
                InputError::Wrong(format!(
                    "is '{}', which names no data set on the hub; write 'hf://datasets/owner/name/file.jsonl' or \
                     'hf://datasets/owner/name@revision/file.jsonl', with a slash in a revision as %2F",
                    without_secrets(source)
                ))
            };
            let address = address.strip_prefix("datasets/").and_then(HubAddress::parse);
            let HubAddress { repository, revision, file } = address.ok_or_else(wrong)?;
            let file = HubFile {
                kind: RepoType::Dataset,
                repository: &repository,
                revision: revision.as_deref(),
                file: &file,
            };
            hub::fetch(file, &HubOptions::from_environment(), &ProgressSink::default())?
        }
    };
    let examples = dataset::read(&path, columns)?;
    Ok(Dataset { path, examples })
}

fn read_text(path: &Path) -> Result<String, InputError> {
    let unreadable = |source| InputError::Unreadable { path: path.to_owned(), source };
    let bytes = files::read_at_most(path, MOST_BYTES).map_err(unreadable)?;
    let wrong = |what: String| InputError::Wrong(format!("is {}, which is {what}", path.display()));
    let bytes = bytes.ok_or_else(|| wrong(format!("larger than {}", format_bytes(MOST_BYTES))))?;
    String::from_utf8(bytes).map_err(|error| {
        wrong(format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
    })
}

/// A line of a prompts file. `prompt` is what other tools call the text.
#[derive(Debug, Deserialize)]
struct PromptLine {
    #[serde(default)]
    id: Option<Name>,
    #[serde(default)]
    kind: Option<Name>,
    #[serde(alias = "prompt")]
    text: String,
}

/// What something is called: a text, or a number, as most files have it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or a number")]
enum Name {
    Text(String),
    Number(serde_json::Number),
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        match name {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
        }
    }
}

/// The lines with something in them, numbered from 1.
fn lines(content: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(content.trim_start_matches('\u{feff}').lines());
    lines.filter(|(_, line)| !line.trim().is_empty())
}

fn parse_jsonl(path: &Path, content: &str) -> Result<Vec<TestPrompt>, InputError> {
    let prompts = lines(content).map(|(number, line)| {
        let wrong = |column: usize, reason: &str| wrong_prompt(path, number, column, reason);
        let read: PromptLine = serde_json::from_str(line).map_err(|error| {
            // serde_json counts lines within this one line; ours says where it is in the file.
            let text = error.to_string();
            let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
            wrong(error.column().max(1), reason)
        })?;
        if read.text.trim().is_empty() {
            return Err(wrong(1, "the text is empty"));
        }
        let id = read.id.map_or_else(|| format!("line-{number}"), String::from);
        let kind = read.kind.map(String::from).unwrap_or_default();
        Ok((number, TestPrompt { id, kind, text: read.text }))
    });
    unique(path, prompts.collect::<Result<_, _>>()?)
}

fn wrong_prompt(path: &Path, line: usize, column: usize, reason: &str) -> InputError {
    let place = format!("{}:{line}:{column}", path.display());
    InputError::Wrong(format!("has a wrong prompt at {place}: {reason}"))
}

fn parse_lines(path: &Path, content: &str) -> Result<Vec<TestPrompt>, InputError> {
    let prompts = lines(content).map(|(number, line)| {
        let id = format!("line-{number}");
        (number, TestPrompt { id, kind: String::new(), text: line.trim().to_owned() })
    });
    unique(path, prompts.collect())
}

fn unique(path: &Path, numbered: Vec<(usize, TestPrompt)>) -> Result<Vec<TestPrompt>, InputError> {
    if numbered.is_empty() {
        return Err(InputError::Wrong(format!("is {}, which has no prompt in it", path.display())));
    }
    let mut seen = std::collections::HashMap::new();
    for (line, prompt) in &numbered {
        if let Some(first) = seen.insert(prompt.id.as_str(), *line) {
            let reason = format!("the id '{}' is taken by line {first}", prompt.id);
            return Err(wrong_prompt(path, *line, 1, &reason));
        }
    }
    Ok(numbered.into_iter().map(|(_, prompt)| prompt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonl(content: &str) -> Result<Vec<TestPrompt>, String> {
        parse_jsonl(Path::new("p.jsonl"), content).map_err(|error| error.to_string())
    }

    #[test]
    fn prompts_are_read_from_objects_one_per_line() {
        let prompts = jsonl(
            "{\"id\":\"a\",\"kind\":\"story\",\"text\":\"Once\"}\n\n{\"prompt\":\"Two\\nlines\"}\n",
        )
        .unwrap();
        assert_eq!(prompts[0].kind, "story");
        assert_eq!((prompts[1].id.as_str(), prompts[1].text.as_str()), ("line-3", "Two\nlines"));
    }

    #[test]
    fn ids_and_kinds_may_be_numbers() {
        let prompts = jsonl(
            "{\"id\":1,\"kind\":2,\"text\":\"Once\"}\n{\"id\":1.5,\"kind\":null,\"text\":\"x\"}\n{\"id\":null,\"text\":\"y\"}",
        )
        .unwrap();
        let ids: Vec<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
        assert_eq!(ids, ["1", "1.5", "line-3"]);
        assert_eq!((prompts[0].kind.as_str(), prompts[1].kind.as_str()), ("2", ""));
        let error = jsonl("{\"id\":1,\"text\":\"x\"}\n{\"id\":\"1\",\"text\":\"y\"}").unwrap_err();
        assert!(error.ends_with("the id '1' is taken by line 1"), "{error}");
        let error = jsonl("{\"id\":[1],\"text\":\"x\"}").unwrap_err();
        assert!(error.contains("a text or a number"), "{error}");
    }

    #[test]
    fn a_wrong_prompt_is_named_with_file_line_and_column() {
        assert_eq!(
            jsonl("{\"text\":\"x\"}\n{\"text\":}").unwrap_err(),
            "has a wrong prompt at p.jsonl:2:9: expected value"
        );
        assert_eq!(
            jsonl("{\"id\":\"a\"}").unwrap_err(),
            "has a wrong prompt at p.jsonl:1:10: missing field `text`"
        );
        assert_eq!(
            jsonl("{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"a\",\"text\":\"y\"}").unwrap_err(),
            "has a wrong prompt at p.jsonl:2:1: the id 'a' is taken by line 1"
        );
        assert_eq!(
            jsonl("{\"text\":\" \"}").unwrap_err(),
            "has a wrong prompt at p.jsonl:1:1: the text is empty"
        );
        assert_eq!(jsonl("\n \n").unwrap_err(), "is p.jsonl, which has no prompt in it");
    }

    #[test]
    fn lines_of_a_text_file_are_prompts() {
        let prompts = parse_lines(Path::new("p.txt"), "\u{feff}first\r\n\n  second \n").unwrap();
        let texts: Vec<&str> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
        assert_eq!(texts, ["first", "second"]);
    }

    #[test]
    fn a_binary_file_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.txt"), b"ab\xff").unwrap();
        let error = text("t.txt", folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("which is not UTF-8 text (byte 2)"), "{error}");
        assert!(matches!(text("no.txt", folder.path()), Err(InputError::Unreadable { .. })));
        let error = prompts("t.csv", folder.path()).unwrap_err().to_string();
        assert!(error.contains("prompts are read from .jsonl"), "{error}");
    }
}
