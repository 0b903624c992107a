//! Checks a document against the table of keys: every value typed, within its bounds and with its place,
//! what is left out filled in, all problems at once.

use super::{Amount, EXPERIMENT, Key, Kind, Table};
use crate::experiment::diagnostic::Problem;
use crate::experiment::reader::{Located, Node, RawValue, Value, nearest};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tables of a file, as the keys have it; what is wrong goes to `problems`, and its default stands in
/// for it.
pub fn read(root: &DeTable<'_>, problems: &mut Vec<Problem>) -> Node {
    let entries = Check { problems }.table(&EXPERIMENT, "", "", Some(root), true);
    Located { value: Value::Table(entries), key: String::new(), span: 0..0 }
}

struct Check<'p> {
    problems: &'p mut Vec<Problem>,
}

impl Check<'_> {
    /// The entries of a table; with `fill`, keys that are left out have their defaults.
    fn table(
        &mut self,
        table: &'static Table,
        path: &str,
        header: &str,
        written: Option<&DeTable<'_>>,
        fill: bool,
    ) -> BTreeMap<String, Node> {
        let full =
            |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut entries = BTreeMap::new();
        let mut wrong = Vec::new();
        for key in table.keys {
            let raw = written.and_then(|written| self.written(key, written, full));
            let mut node = raw.as_ref().and_then(|raw| self.value(key, raw, fill));
            if raw.is_some() && node.is_none() {
                wrong.push(Located::nowhere(Value::Scalar(key.name.into())));
            }
            if fill {
                node = node.or_else(|| self.default(key, full(key.name)));
            }
            entries.extend(node.map(|node| (key.name.to_owned(), node)));
        }
        if table.repeated {
            // What is there but wrong is not missing.
            entries.insert("wrong".to_owned(), Located::nowhere(Value::List(wrong)));
        }
        for (name, value) in written.into_iter().flatten() {
            let (key, name): (_, &str) = (name, name.get_ref());
            if table.keys.iter().any(|known| known.name == name || known.alias == name) {
                continue;
            }
            let raw = Located { value: value.get_ref(), key: full(name), span: value.span() };
            if let Some(kind) = (table.further)(name) {
                let node = self.single(kind, &raw, fill);
                // What the name stands for may be wrong yet, or the value for it.
                let span = key.span().start..raw.span.end;
                let node = node.map(|node| Located { span, ..node });
                entries.extend(node.map(|node| (name.to_owned(), node)));
            } else {
                let place = if header.is_empty() { String::new() } else { format!(" in {header}") };
                let problem = Problem::new(key.span(), format!("unknown key '{name}'{place}"));
                self.problems.push(problem.help(hint(table, name)));
            }
        }
        entries
    }

    /// What is written of a key, under either of its names.
    fn written<'d>(
        &mut self,
        key: &Key,
        table: &'d DeTable<'d>,
        full: impl Fn(&str) -> String,
    ) -> Option<RawValue<'d>> {
        let find = |name: &str| {
            let value = table.get(name).filter(|_| !name.is_empty())?;
            Some(Located { value: value.get_ref(), key: full(name), span: value.span() })
        };
        let (own, other) = (find(key.name), find(key.alias));
        if let (Some(_), Some(other)) = (&own, &other) {
            let place = other.items().first().map_or(other.span.clone(), |it| it.span.clone());
            let (name, alias) = (full(key.name), full(key.alias));
            let message = format!("'{alias}' and '{name}' are two names of one list");
            self.problems.push(Problem::new(place, message).help("keep one of them"));
        }
        own.or(other)
    }

    /// The default of a key, checked as if it were written.
    fn default(&mut self, key: &Key, full: String) -> Option<Node> {
        if let Kind::Table(table) = key.kind {
            let entries = self.table(table, &full, "", None, true);
            return Some(Located { value: Value::Table(entries), key: full, span: 0..0 });
        }
        let value = DeValue::parse(key.default).ok().filter(|_| !key.default.is_empty())?;
        self.value(key, &Located { value: value.get_ref(), key: full, span: 0..0 }, true)
    }

    /// A value, or a list of them; `None` if nothing of it is right.
    fn value(&mut self, key: &Key, raw: &RawValue<'_>, fill: bool) -> Option<Node> {
        let is_list = key.amount != Amount::One || matches!(key.kind, Kind::Tables(_));
        if !is_list {
            return self.single(key.kind, raw, fill);
        }
        let items = raw.items();
        if items.is_empty() && key.amount == Amount::Swept {
            let problem = raw.problem("is an empty list");
            self.problems.push(problem.help("leave the key out for the default"));
        }
        let mut kept: Vec<Node> = Vec::new();
        for item in &items {
            let Some(node) = self.single(key.kind, item, true) else { continue };
            if kept.iter().any(|other| other.value == node.value) && is_set(key) {
                self.problems.push(node.problem(twice(key.kind, &node, item)));
            } else {
                kept.push(node);
            }
        }
        // A list of tables without a right one is still there; one without any is not.
        let is_there = match key.kind {
            Kind::Tables(_) => !items.is_empty(),
            _ => !kept.is_empty() || (items.is_empty() && key.amount != Amount::Swept),
        };
        is_there.then(|| raw.with(Value::List(kept)))
    }

    fn single(&mut self, kind: Kind, raw: &RawValue<'_>, fill: bool) -> Option<Node> {
        let value = match (kind, raw.value) {
            (Kind::Table(table) | Kind::OptionalTable(table), _) => {
                self.nested(table, &raw.key, raw, fill)
            }
            (Kind::OwnTable(table), _) => self.nested(table, &raw.key, raw, false),
            // They are called the same wherever they are written.
            (Kind::Tables(table), _) => self.nested(table, table.name, raw, true),
            (Kind::WholeOrAuto(..), DeValue::String(text)) if text == "auto" => {
                Ok(Value::Scalar(Json::Null))
            }
            (Kind::Choice(_, names), DeValue::Boolean(on)) if names.contains(&"on") => {
                Ok(Value::Scalar(if *on { "on" } else { "off" }.into()))
            }
            (Kind::Variables, DeValue::Table(table)) => {
                let before = self.problems.len();
                let map = self.variables(table, &raw.key);
                if self.problems.len() > before {
                    return None;
                }
                Ok(Value::Scalar(map.into()))
            }
            _ => scalar(kind, raw).map(Value::Scalar),
        };
        value.map_err(|problem| self.problems.push(problem)).ok().map(|value| raw.with(value))
    }

    fn nested(
        &mut self,
        table: &'static Table,
        path: &str,
        raw: &RawValue<'_>,
        fill: bool,
    ) -> Result<Value, Problem> {
        let DeValue::Table(written) = raw.value else { return Err(raw.type_problem("a table")) };
        let header = table.header(path);
        Ok(Value::Table(self.table(table, path, &header, Some(written), fill)))
    }

    fn variables(&mut self, table: &DeTable<'_>, path: &str) -> Map<String, Json> {
        let entry = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let name: &str = name.get_ref();
            let key = format!("{path}.{name}");
            let raw = Located { value: value.get_ref(), key, span: value.span() };
            Some((name.to_owned(), self.json(&raw)?))
        };
        table.iter().filter_map(entry).collect()
    }

    fn json(&mut self, raw: &RawValue<'_>) -> Option<Json> {
        let value = match raw.value {
            DeValue::Array(_) => {
                let items = raw.items();
                Ok(items.iter().filter_map(|item| self.json(item)).collect())
            }
            DeValue::Table(table) => Ok(self.variables(table, &raw.key).into()),
            DeValue::String(text) => Ok(text.as_ref().into()),
            DeValue::Boolean(value) => Ok((*value).into()),
            DeValue::Integer(_) => whole(raw, i64::MIN..=i64::MAX).map(Json::from),
            DeValue::Float(_) => number(raw, f64::MIN..=f64::MAX).map(Json::from),
            DeValue::Datetime(_) => Err(raw.type_problem("a string")),
        };
        value.map_err(|problem| self.problems.push(problem)).ok()
    }
}

/// Whether the values of a list differ.
fn is_set(key: &Key) -> bool {
    key.amount == Amount::Swept || matches!(key.kind, Kind::Named(..))
}

fn twice(kind: Kind, node: &Node, item: &RawValue<'_>) -> String {
    let (Kind::Named(..), Value::Scalar(Json::String(name))) = (kind, &node.value) else {
        return "has this value twice".to_owned();
    };
    match item.value.as_str() {
        Some(written) if !written.eq_ignore_ascii_case(name) => {
            format!("has {name} twice ('{written}' is another name of it)")
        }
        _ => format!("has {name} twice"),
    }
}

/// What is said of a key that is not known.
fn hint(table: &Table, name: &str) -> String {
    let names =
        || table.keys.iter().flat_map(|key| [key.alias, key.name]).filter(|it| !it.is_empty());
    if let Some(known) = nearest(name, names()) {
        return format!("did you mean '{known}'?");
    }
    home_of(name)
        .unwrap_or_else(|| format!("known keys here: {}", names().collect::<Vec<_>>().join(", ")))
}

/// In which tables a key belongs that was written in another.
fn home_of(name: &str) -> Option<String> {
    let mut homes = Vec::new();
    collect(&EXPERIMENT, name, &mut homes);
    // Tasks have keys of all kinds; another table is meant more often.
    let others = |home: &&(&Table, &Key)| !home.0.name.starts_with("workloads.tasks");
    if homes.iter().any(|home| others(&home)) {
        homes.retain(|home| others(&home));
    }
    let (_, key) = homes.first()?;
    if let (Some(table), 1) = (key.kind.table(), homes.len()) {
        return Some(format!("this table is written {}", table.header(table.name)));
    }
    let place = |(table, _): &(&Table, _)| match table.name {
        "" => "at the top of the file, above the first [table]".to_owned(),
        name => format!("in {}", table.header(name)),
    };
    let places: Vec<String> = homes.iter().map(place).collect();
    Some(format!("this key belongs {}", places.join(", or ")))
}

fn collect(table: &'static Table, name: &str, homes: &mut Vec<(&'static Table, &'static Key)>) {
    for key in table.keys {
        if key.name == name || key.alias == name {
            homes.push((table, key));
        }
        match key.kind {
            Kind::OwnTable(_) => {}
            kind => kind.table().into_iter().for_each(|inner| collect(inner, name, homes)),
        }
    }
}

/// A single value that is no table, in its usual spelling and unit.
fn scalar(kind: Kind, raw: &RawValue<'_>) -> Result<Json, Problem> {
    let text = || raw.value.as_str().ok_or_else(|| raw.type_problem("a string"));
    Ok(match kind {
        Kind::Text => text()?.into(),
        Kind::Named(_, read) => {
            let wrong = |error| Problem::new(raw.span.clone(), format!("'{}': {error}", raw.key));
            read(text()?).map_err(wrong)?.into()
        }
        Kind::Choice(what, names) => choice(what, names, text()?, raw)?.into(),
        Kind::Flag => match raw.value {
            DeValue::Boolean(value) => (*value).into(),
            _ => return Err(raw.type_problem("true or false")),
        },
        Kind::Whole(least, most) | Kind::WholeOrAuto(least, most) => {
            whole(raw, least..=most)?.into()
        }
        Kind::Number(least, most) => number(raw, least..=most)?.into(),
        Kind::Time(least, most) => {
            let length = time(text()?, raw, &(least..=most))?;
            serde_json::json!({ "secs": length.as_secs(), "nanos": length.subsec_nanos() })
        }
        Kind::Bytes => bytes(raw)?.into(),
        Kind::Variables => return Err(raw.type_problem("a table")),
        Kind::Table(_) | Kind::OptionalTable(_) | Kind::OwnTable(_) | Kind::Tables(_) => {
            return Err(raw.type_problem("a value"));
        }
    })
}

fn choice(
    what: &str,
    names: &[&'static str],
    text: &str,
    raw: &RawValue<'_>,
) -> Result<&'static str, Problem> {
    if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(*name);
    }
    let help = match nearest(text, names.iter().copied()) {
        Some(name) => format!("did you mean '{name}'?"),
        None => format!("one of: {}", names.join(", ")),
    };
    Err(raw.problem(format!("is '{text}', which is {what}")).help(help))
}

/// A whole number, in any base.
fn whole(raw: &RawValue<'_>, range: RangeInclusive<i64>) -> Result<i64, Problem> {
    let DeValue::Integer(integer) = raw.value else {
        return Err(raw.type_problem("a whole number"));
    };
    let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        let (least, most) = range.into_inner();
        raw.problem(format!("is {integer}; it must be from {least} to {most}"))
    })
}

/// A finite number; whole numbers are numbers too.
fn number(raw: &RawValue<'_>, range: RangeInclusive<f64>) -> Result<f64, Problem> {
    let text = match raw.value {
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.as_str().replace('_', ""),
        _ => return Err(raw.type_problem("a number")),
    };
    text.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| {
        let (least, most) = range.into_inner();
        let within = if most >= f64::MAX {
            format!("{least} or more")
        } else {
            format!("from {least} to {most}")
        };
        raw.problem(format!("is {text}; it must be {within}"))
    })
}

/// A length of time such as `30s` or `1h 30min`.
fn time(
    text: &str,
    raw: &RawValue<'_>,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, Problem> {
    let length = humantime::parse_duration(text).map_err(|_| {
        raw.problem(format!("is '{text}', which is not a length of time"))
            .help("write it like 500ms, 30s, 10min or 1h")
    })?;
    if range.contains(&length) {
        return Ok(length);
    }
    let [length, least, most] =
        [length, *range.start(), *range.end()].map(|it| humantime::format_duration(it).to_string());
    Err(raw.problem(format!("is {length}; it must be from {least} to {most}")))
}

/// A size such as `2GiB`, or a whole number of bytes.
fn bytes(raw: &RawValue<'_>) -> Result<u64, Problem> {
    let Some(text) = raw.value.as_str() else {
        return whole(raw, 1..=i64::MAX).map(i64::unsigned_abs);
    };
    match crate::units::parse_bytes(text) {
        Ok(0) => Err(raw.problem("is 0; it must be more")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(raw
            .problem(format!("is '{text}', which is not a size"))
            .help("write it like 3.5GiB, 512MiB or 4GB")),
    }
}
