//! From an example of a data set to a question: templates filled in, the right answer found.

use super::file::TaskFile;
use super::pictures::{PictureFile, Pictures};
use super::plan::Answering;
use crate::dataset::{Example, Fault};
use crate::experiment::reader::Located;
use crate::prompt::sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// One question, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its name within the data set: a field, or `line 12`.
    pub id: String,
    /// What is asked.
    pub asked: Asked,
}

impl Question {
    /// The picture that it shows.
    pub fn picture(&self) -> Option<&PictureFile> {
        let Asked::See { picture, .. } = &self.asked else { return None };
        Some(picture)
    }
}

/// What is asked, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Asked {
    /// Something is to be written.
    Write {
        /// The request.
        request: String,
        /// Answers that are right; at least one.
        references: Vec<String>,
    },
    /// Something is to be written about a picture.
    See {
        /// The picture.
        picture: PictureFile,
        /// The request that follows it.
        request: String,
        /// Answers that are right; at least one.
        references: Vec<String>,
    },
    /// The most probable of several continuations is to be found; with one, whether it is what the
    /// model itself would say.
    Choose {
        /// The alternatives; at least one.
        alternatives: Vec<Alternative>,
        /// Which is right.
        right: usize,
    },
    /// A passage is to be found.
    Find {
        /// What is embedded to find it.
        query: String,
        /// Which passage is right, by its place in the corpus.
        relevant: usize,
        /// What is then to be answered; `None`: nothing.
        answer: Option<Sought>,
    },
}

/// What is to be answered with the passages that were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sought {
    /// The fields of the example, for the template of the request.
    pub fields: Map<String, Value>,
    /// Answers that are right; at least one.
    pub references: Vec<String>,
}

/// One alternative: only the continuation is scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// The request; the same one for all alternatives unless the choice is within it.
    pub request: String,
    /// What follows it.
    pub continuation: String,
}

/// Makes questions of examples, of a task whose keys are there as its way of answering needs them.
pub(super) struct Maker<'t> {
    task: &'t TaskFile,
    answering: &'t Answering,
    sandbox: Sandbox,
    /// The places of passages by name.
    pub(super) places: HashMap<String, usize>,
    /// The pictures that questions show.
    pub(super) pictures: Pictures,
    /// How the field of the right choice is read where choices have no labels.
    reading: Reading,
}

/// How the field `gold` names a choice: the same way for a whole data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// By its number, from 0.
    Number,
    /// By its text.
    Text,
}

/// The templates of a task by name in its sandbox.
pub(super) const REQUEST: &str = "template";
pub(super) const CONTINUATION: &str = "continuation";
pub(super) const QUERY: &str = "query";

/// Name of the template of a choice.
pub(super) fn choice_name(position: usize) -> String {
    format!("choices[{position}]")
}

impl<'t> Maker<'t> {
    pub(super) fn new(task: &'t TaskFile, answering: &'t Answering) -> Self {
        Self {
            task,
            answering,
            sandbox: Sandbox::task(),
            places: HashMap::new(),
            pictures: Pictures::default(),
            reading: Reading::Number,
        }
    }

    /// Adds the template called so.
    pub(super) fn add(&self, name: &str, source: &str) -> Result<(), String> {
        self.sandbox.add(name, source).map_err(|fault| fault.to_string())
    }

    /// Makes a question of an example.
    pub(super) fn question(&self, example: &Example) -> Result<Question, Fault> {
        let id = match &self.task.fields.id {
            None => format!("line {}", example.line),
            Some(field) => text_of(example, field)?,
        };
        let asked = match self.answering {
            Answering::Generate { .. } => {
                let (request, references) = self.written(example)?;
                Asked::Write { request, references }
            }
            Answering::See { .. } => {
                let name = text_of(example, field(self.task.fields.image.as_ref()))?;
                let picture = self.pictures.look(&name).map_err(|reason| example.fault(reason))?;
                let (request, references) = self.written(example)?;
                Asked::See { picture, request, references }
            }
            Answering::Predict => self.predict(example)?,
            Answering::Retrieve => self.find(example, None)?,
            Answering::Augment { .. } => {
                let references = self.references(example)?;
                self.find(example, Some(Sought { fields: example.fields.clone(), references }))?
            }
            Answering::Choose => {
                let texts = self.choices(example)?;
                let alternatives = self.continued(example, &texts)?;
                let right = match &self.task.correct {
                    Some(right) => right.value,
                    None => self.right(example, &texts)?,
                };
                if right >= texts.len() {
                    let reason = format!("choice {right} is right of {}", texts.len());
                    return Err(example.fault(reason));
                }
                Asked::Choose { alternatives, right }
            }
        };
        Ok(Question { id, asked })
    }

    /// The request of an example, and what would be right.
    fn written(&self, example: &Example) -> Result<(String, Vec<String>), Fault> {
        let references = self.references(example)?;
        let request = self.render(REQUEST, example)?;
        if request.trim().is_empty() {
            return Err(example.fault("the template yields no text"));
        }
        Ok((request, references))
    }

    fn find(&self, example: &Example, answer: Option<Sought>) -> Result<Asked, Fault> {
        let query = self.render(QUERY, example)?;
        let corpus = self.task.corpus.as_ref();
        let field = field(corpus.and_then(|corpus| corpus.relevant.as_ref()));
        let name = text_of(example, field)?;
        let relevant =
            self.places.get(&name).copied().ok_or_else(|| {
                example.fault(format!("'{field}' is '{name}', which is no passage"))
            })?;
        Ok(Asked::Find { query, relevant, answer })
    }

    fn predict(&self, example: &Example) -> Result<Asked, Fault> {
        let gold = self.references(example)?.swap_remove(0);
        Ok(Asked::Choose { alternatives: self.continued(example, &[gold])?, right: 0 })
    }

    /// The texts of the field `gold`: one, or a list.
    fn references(&self, example: &Example) -> Result<Vec<String>, Fault> {
        let field = self.gold();
        let texts = texts(example, field)?;
        match texts.iter().position(|text| text.trim().is_empty()) {
            Some(_) => Err(example.fault(format!("the field '{field}' holds an empty answer"))),
            None if texts.is_empty() => {
                Err(example.fault(format!("the field '{field}' holds no answer")))
            }
            None => Ok(texts),
        }
    }

    /// The texts of the choices.
    fn choices(&self, example: &Example) -> Result<Vec<String>, Fault> {
        let templates = self.task.choices.as_ref().map_or(0, |choices| choices.len());
        let texts = match &self.task.fields.choices {
            Some(field) => texts(example, field)?,
            None => (0..templates)
                .map(|position| self.render(&choice_name(position), example))
                .collect::<Result<_, _>>()?,
        };
        if texts.len() < 2 {
            return Err(example.fault(format!("there are {} choices, too few", texts.len())));
        }
        Ok(texts)
    }

    /// Each choice with the request before it.
    fn continued(&self, example: &Example, choices: &[String]) -> Result<Vec<Alternative>, Fault> {
        let continuations = if self.task.continuation.is_written() {
            self.render_each(CONTINUATION, example, choices)?
        } else {
            choices.to_vec()
        };
        if continuations.iter().any(String::is_empty) {
            return Err(example.fault("a choice is empty"));
        }
        let requests = self.render_each(REQUEST, example, choices)?;
        let alternative = |(request, continuation)| Alternative { request, continuation };
        Ok(requests.into_iter().zip(continuations).map(alternative).collect())
    }

    /// Settles how the field `gold` of a whole data set names choices. Golds that are all numbers, be it as
    /// text, are numbers of choices unless every one is also the text of one; then nobody can tell.
    pub(super) fn settle_reading(&mut self, examples: &[Example]) -> Result<(), Fault> {
        let TaskFile { labels, correct, fields, .. } = self.task;
        let is_named = labels.is_some() || fields.labels.is_some() || correct.is_some();
        if *self.answering != Answering::Choose || is_named {
            return Ok(());
        }
        let field = self.gold();
        // Faults of an example are reported when its question is made.
        let golds = || examples.iter().filter_map(|it| Some((it, it.get(field).ok()?)));
        if golds().any(|(_, value)| !value.is_null() && number(value).is_none()) {
            self.reading = Reading::Text;
            return Ok(());
        }
        let mut doubtful = None;
        for (example, value) in golds() {
            if !value.is_string() && !self.chooses_numbers(example) {
                self.reading = Reading::Number;
                return Ok(());
            }
            let (Ok(gold), Ok(texts)) = (text(example, field, value), self.choices(example)) else {
                continue;
            };
            // What rules one reading out in one example rules it out in all.
            match (number(value).and_then(|it| texts.get(it)), texts.contains(&gold)) {
                (Some(_), false) => {
                    self.reading = Reading::Number;
                    return Ok(());
                }
                (None, true) => {
                    self.reading = Reading::Text;
                    return Ok(());
                }
                (Some(numbered), true) if *numbered != gold => {
                    doubtful = Some(example.fault(format!(
                        "'{field}' is '{gold}', which may be the text of a choice or the number of another \
                         ('{numbered}'), and no example tells; for numbers write labels = [\"0\", \"1\", …], \
                         for texts name the field of the choices as 'labels' in 'fields' too"
                    )));
                }
                _ => {}
            }
        }
        doubtful.map_or(Ok(()), Err)
    }

    /// Which choice is right: the field `gold` holds a label, else a number from 0 or the text of the
    /// choice.
    fn right(&self, example: &Example, choices: &[String]) -> Result<usize, Fault> {
        let field = self.gold();
        let value = example.get(field)?;
        let gold = text(example, field, value)?;
        let labels = match (&self.task.labels, &self.task.fields.labels) {
            (Some(labels), _) => Some(TaskFile::texts(Some(labels))),
            (None, Some(field)) => Some(texts(example, field)?),
            (None, None) => None,
        };
        let found = match (&labels, self.reading) {
            (Some(labels), _) => labels.iter().position(|label| *label == gold),
            (None, Reading::Number) => number(value),
            (None, Reading::Text) => choices.iter().position(|choice| *choice == gold),
        };
        found.filter(|&right| right < choices.len()).ok_or_else(|| {
            let what = if labels.is_some() { "label" } else { "choice" };
            let others = match (&labels, self.reading, number(value)) {
                (None, Reading::Text, Some(_)) => {
                    "; others of the data set are texts of choices, so this one is read as such"
                }
                _ => "",
            };
            let reason =
                format!("'{field}' is '{gold}', which is no {what} of this example{others}");
            example.fault(reason)
        })
    }

    /// The field of the right answer.
    fn gold(&self) -> &'t str {
        field(self.task.fields.gold.as_ref())
    }

    /// Whether the choices of an example are numbers rather than texts.
    fn chooses_numbers(&self, example: &Example) -> bool {
        let Some(field) = &self.task.fields.choices else { return false };
        let items = example.get(field).ok().and_then(Value::as_array);
        items.is_some_and(|items| items.iter().any(Value::is_number))
    }

    fn render(&self, name: &str, example: &Example) -> Result<String, Fault> {
        let mut rendered = self.filled(name, example, vec![example.fields.clone()])?;
        Ok(rendered.pop().unwrap_or_default())
    }

    /// A template filled in once for each choice.
    fn render_each(
        &self,
        name: &str,
        example: &Example,
        choices: &[String],
    ) -> Result<Vec<String>, Fault> {
        let with_choice = |choice: &String| {
            let mut fields = example.fields.clone();
            fields.insert("choice".to_owned(), Value::String(choice.clone()));
            fields
        };
        self.filled(name, example, choices.iter().map(with_choice).collect())
    }

    fn filled(
        &self,
        name: &str,
        example: &Example,
        values: Vec<Map<String, Value>>,
    ) -> Result<Vec<String>, Fault> {
        let known = values.first().into_iter().flat_map(Map::keys).take(20);
        let known: Vec<String> = known.cloned().collect();
        self.sandbox.render(name, values).map_err(|reason| {
            let known = known.join(", ");
            example.fault(format!("'{name}' cannot be filled in: {reason}; there are {known}"))
        })
    }
}

/// The name of a field. Checked when the task was read: without it there is no such question.
fn field(written: Option<&Located<String>>) -> &str {
    written.map_or("", |written| &written.value)
}

/// A value as the number of a choice: a whole number, or the text of one.
fn number(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The text of a field.
pub(super) fn text_of(example: &Example, field: &str) -> Result<String, Fault> {
    text(example, field, example.get(field)?)
}

/// The text of a value that is one.
fn text(example: &Example, field: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(example.fault(format!("the field '{field}' is no text")))
        }
    }
}

/// The texts of a field that is a list; a single one is a list of one.
fn texts(example: &Example, field: &str) -> Result<Vec<String>, Fault> {
    match example.get(field)? {
        Value::Array(items) => items.iter().map(|item| text(example, field, item)).collect(),
        value => Ok(vec![text(example, field, value)?]),
    }
}
