//! One example: its fields, and where it stands in the file.

use super::error::Fault;
use serde_json::{Map, Value};

/// One example of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Line in the file, from 1, that it begins in.
    pub line: usize,
    /// The fields by name.
    pub fields: Map<String, Value>,
}

impl Example {
    /// What stands in `field`: the field of that name, or a way through nested objects and lists
    /// such as `answers.text` or `choices.0`.
    ///
    /// # Errors
    /// There is no such field; the fault names those that there are.
    pub fn get(&self, field: &str) -> Result<&Value, Fault> {
        if let Some(value) = self.fields.get(field) {
            return Ok(value);
        }
        let (first, rest) = field.split_once('.').unwrap_or((field, ""));
        let mut found = self.fields.get(first);
        for step in rest.split('.').filter(|step| !step.is_empty()) {
            found = match found {
                Some(Value::Object(object)) => object.get(step),
                Some(Value::Array(items)) => {
                    step.parse::<usize>().ok().and_then(|position| items.get(position))
                }
                _ => None,
            };
        }
        found.ok_or_else(|| {
            let known: Vec<&str> = self.fields.keys().map(String::as_str).take(20).collect();
            self.fault(format!("there is no field '{field}'; there are {}", known.join(", ")))
        })
    }

    /// One example for each object in the list `field`, with its own fields beside those of the
    /// whole: a paragraph with several questions becomes several examples.
    ///
    /// # Errors
    /// The field is not a list of objects.
    pub fn each(&self, field: &str) -> Result<Vec<Self>, Fault> {
        let wrong = || self.fault(format!("the field '{field}' is no list of objects"));
        let items = self.get(field)?.as_array().ok_or_else(wrong)?;
        items
            .iter()
            .map(|item| {
                let own = item.as_object().ok_or_else(wrong)?;
                let mut fields = self.fields.clone();
                fields.remove(field);
                fields.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
                Ok(Self { line: self.line, fields })
            })
            .collect()
    }

    /// A fault of this example.
    pub fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault { line: self.line, reason: reason.into() }
    }
}
