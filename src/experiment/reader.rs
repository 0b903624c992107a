//! Reading TOML tables by key, every value with the place it was written at.
//!
//! Serde's derive would do for values, but not for what a user needs when one is wrong: the position
//! of each value for checks across keys, all problems of a file at once, and the nearest right key.

use super::diagnostic::Problem;
use serde_json::{Map, Value};
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with the key and the place it was written at.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// What was written.
    pub value: T,
    /// The whole key: `workloads.speed`.
    pub key: String,
    /// Byte range of the value in the file.
    pub span: Range<usize>,
}

impl<T> Located<T> {
    /// The same place with another value.
    pub fn with<U>(&self, value: U) -> Located<U> {
        Located { value, key: self.key.clone(), span: self.span.clone() }
    }

    /// A problem at this value.
    pub fn problem(&self, message: impl std::fmt::Display) -> Problem {
        Problem::new(self.span.clone(), format!("'{}' {message}", self.key))
    }
}

/// One value of the file, not yet typed.
pub type RawValue<'a> = Located<&'a DeValue<'a>>;

/// Reads one table; what is not asked for is unknown.
#[derive(Debug)]
pub struct TableReader<'a> {
    table: &'a DeTable<'a>,
    path: String,
    known: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// Reads `table`, whose dotted name is `path` (empty for the whole file).
    pub fn new(table: &'a DeTable<'a>, path: impl Into<String>) -> Self {
        Self { table, path: path.into(), known: Vec::new() }
    }

    fn full_key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, if it was written.
    pub fn value(&mut self, key: &'static str) -> Option<RawValue<'a>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(Located { value: value.get_ref(), key: self.full_key(key), span: value.span() })
    }

    /// The table under `key`, if it was written.
    pub fn table(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<(Self, Range<usize>)> {
        let raw = self.value(key)?;
        raw.expect_table(problems).map(|table| (Self::new(table, raw.key), raw.span))
    }

    /// The table under `key` as JSON, for keys that are others' to know.
    pub fn json(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<Map<String, Value>>> {
        let raw = self.value(key)?;
        let table = raw.expect_table(problems)?;
        let before = problems.len();
        let map = json_table(table, &raw.key, problems);
        (problems.len() == before).then(|| raw.with(map))
    }

    /// Reports every key that was not asked for; `elsewhere` says where a key of another table
    /// belongs.
    pub fn finish(
        self,
        elsewhere: impl Fn(&str) -> Option<&'static str>,
        problems: &mut Vec<Problem>,
    ) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let place = match self.path.as_str() {
                "" => String::new(),
                "models" | "workloads.tasks" => format!(" in [[{}]]", self.path),
                path => format!(" in [{path}]"),
            };
            let problem = Problem::new(key.span(), format!("unknown key '{name}'{place}"));
            let help = match (nearest(name, self.known.iter().copied()), elsewhere(name)) {
                (Some(known), _) => format!("did you mean '{known}'?"),
                (None, Some(place)) => place.to_owned(),
                (None, None) => format!("known keys here: {}", self.known.join(", ")),
            };
            problems.push(problem.help(help));
        }
    }
}

/// The candidate that `name` was probably meant to be.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let lower: String = name.to_lowercase().chars().take(64).collect();
    candidates
        .map(|candidate| {
            (strsim::damerau_levenshtein(&candidate.to_lowercase(), &lower), candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

impl<'a> RawValue<'a> {
    fn type_problem(&self, wanted: &str) -> Problem {
        self.problem(format!("must be {wanted}, not {}", kind(self.value)))
    }

    /// The value as a table.
    pub fn expect_table(&self, problems: &mut Vec<Problem>) -> Option<&'a DeTable<'a>> {
        if let DeValue::Table(table) = self.value {
            return Some(table);
        }
        problems.push(self.type_problem("a table"));
        None
    }

    /// The items of a list; a single value is a list of one.
    pub fn items(&self) -> Vec<RawValue<'a>> {
        match self.value {
            DeValue::Array(items) => items
                .iter()
                .map(|item: &'a Spanned<DeValue<'a>>| Located {
                    value: item.get_ref(),
                    key: self.key.clone(),
                    span: item.span(),
                })
                .collect(),
            _ => vec![self.clone()],
        }
    }

    /// The value as text.
    pub fn string(&self, problems: &mut Vec<Problem>) -> Option<Located<String>> {
        if let DeValue::String(text) = self.value {
            return Some(self.with(text.clone().into_owned()));
        }
        problems.push(self.type_problem("a string"));
        None
    }

    /// The value as `true` or `false`.
    pub fn boolean(&self, problems: &mut Vec<Problem>) -> Option<Located<bool>> {
        if let DeValue::Boolean(value) = self.value {
            return Some(self.with(*value));
        }
        problems.push(self.type_problem("true or false"));
        None
    }

    /// The value as a whole number within `range`.
    pub fn integer(
        &self,
        range: &RangeInclusive<i64>,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<i64>> {
        let DeValue::Integer(integer) = self.value else {
            problems.push(self.type_problem("a whole number"));
            return None;
        };
        let value = i64::from_str_radix(integer.as_str(), integer.radix());
        match value {
            Ok(value) if range.contains(&value) => Some(self.with(value)),
            _ => {
                problems.push(self.problem(format!(
                    "is {integer}; it must be from {} to {}",
                    range.start(),
                    range.end()
                )));
                None
            }
        }
    }

    /// The value as a whole number within `range`, from 0 to `u32::MAX`.
    pub fn count(
        &self,
        range: RangeInclusive<u32>,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<u32>> {
        let range = i64::from(*range.start())..=i64::from(*range.end());
        let value = self.integer(&range, problems)?;
        u32::try_from(value.value).ok().map(|count| value.with(count))
    }

    /// The value as a finite number within `range`; whole numbers are numbers too.
    pub fn number(
        &self,
        range: &RangeInclusive<f64>,
        problems: &mut Vec<Problem>,
    ) -> Option<Located<f64>> {
        let text = match self.value {
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(float) => float.as_str().replace('_', ""),
            _ => {
                problems.push(self.type_problem("a number"));
                return None;
            }
        };
        match text.parse::<f64>() {
            Ok(value) if range.contains(&value) => Some(self.with(value)),
            _ => {
                problems.push(self.problem(out_of_range(&text, range)));
                None
            }
        }
    }
}

fn json_table(table: &DeTable<'_>, path: &str, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let raw =
            Located { value: value.get_ref(), key: format!("{path}.{name}"), span: value.span() };
        if let Some(value) = json(&raw, problems) {
            map.insert(name.to_owned(), value);
        }
    }
    map
}

fn json(raw: &RawValue<'_>, problems: &mut Vec<Problem>) -> Option<Value> {
    Some(match raw.value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Integer(_) => Value::from(raw.integer(&(i64::MIN..=i64::MAX), problems)?.value),
        DeValue::Float(_) => Value::from(raw.number(&(f64::MIN..=f64::MAX), problems)?.value),
        DeValue::Array(_) => {
            let items = raw.items();
            Value::Array(items.iter().filter_map(|item| json(item, problems)).collect())
        }
        DeValue::Table(table) => Value::Object(json_table(table, &raw.key, problems)),
        DeValue::Datetime(_) => {
            problems.push(raw.type_problem("a string"));
            return None;
        }
    })
}

fn out_of_range(text: &str, range: &RangeInclusive<f64>) -> String {
    if *range.end() >= f64::MAX {
        format!("is {text}; it must be {} or more", range.start())
    } else {
        format!("is {text}; it must be from {} to {}", range.start(), range.end())
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
