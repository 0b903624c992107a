//! Values of a file, each with its key and its place, and tables merged over defaults.

use super::diagnostic::Problem;
pub(crate) use crate::model::text::nearest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use toml::de::DeValue;

/// A value with the key and the place it was written at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Located<T> {
    /// What was written.
    pub value: T,
    /// The whole key: `workloads.speed`.
    pub key: String,
    /// Byte range of the value in the file; `0..0`, where no value can be, for a default.
    pub span: Range<usize>,
}

/// A list of values.
pub(crate) type Many<T> = Located<Vec<Located<T>>>;

/// One value of the file, not yet typed.
pub(crate) type RawValue<'a> = Located<&'a DeValue<'a>>;

/// A checked value, which serde turns into its type.
pub(crate) type Node = Located<Value>;

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A single value.
    Scalar(serde_json::Value),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(BTreeMap<String, Node>),
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Located<T> {
    /// The same place with another value.
    pub fn with<U>(&self, value: U) -> Located<U> {
        Located { value, key: self.key.clone(), span: self.span.clone() }
    }

    /// A value that was not written.
    pub fn nowhere(value: T) -> Self {
        Self { value, key: String::new(), span: 0..0 }
    }

    /// Whether it was written, and is not a default.
    pub fn is_written(&self) -> bool {
        self.span.end > 0
    }

    /// A problem at this value.
    pub fn problem(&self, message: impl std::fmt::Display) -> Problem {
        Problem::new(self.span.clone(), format!("'{}' {message}", self.key))
    }
}

impl Node {
    /// This value, with the keys of tables that it lacks from `base`.
    pub fn over(self, base: Self) -> Self {
        let Self { value, key, span } = self;
        let value = match (value, base.value) {
            (Value::Table(own), Value::Table(mut entries)) => {
                for (name, own) in own {
                    let own = match entries.remove(&name) {
                        Some(base) => own.over(base),
                        None => own,
                    };
                    entries.insert(name, own);
                }
                Value::Table(entries)
            }
            (value, _) => value,
        };
        Self { value, key, span }
    }

    /// The entries of a table.
    pub fn entries(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        if let Value::Table(entries) = &mut self.value { Some(entries) } else { None }
    }
}

impl RawValue<'_> {
    /// That the value is of another type.
    pub fn type_problem(&self, wanted: &str) -> Problem {
        self.problem(format!("must be {wanted}, not {}", kind(self.value)))
    }

    /// The items of a list; a single value is a list of one.
    pub fn items(&self) -> Vec<Self> {
        let DeValue::Array(items) = self.value else { return vec![self.clone()] };
        let span = |own| if self.is_written() { own } else { 0..0 };
        items
            .iter()
            .map(|item| Located {
                value: item.get_ref(),
                key: self.key.clone(),
                span: span(item.span()),
            })
            .collect()
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
