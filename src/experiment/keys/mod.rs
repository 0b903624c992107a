//! The keys of an experiment: one table of them (`table`), which reading, hints, defaults, `models.toml`
//! and `docs/reference/experiment.md` are made from. Those of workloads stand with what they mean, in
//! `experiment/workloads/`.

mod check;
mod table;
mod tasks;

pub use check::read;
pub(in crate::experiment) use table::{CHUNKS, FORMAT, spelled};
pub use table::{EXPERIMENT, LONGEST, RUN, SETTINGS};
pub(in crate::experiment) use tasks::TASKS;

use std::fmt;
use std::time::Duration;

/// A table of a file.
#[derive(Debug)]
pub struct Table {
    /// Its name in brackets; empty for the file itself.
    pub name: &'static str,
    /// Whether it may be there several times: `[[models]]`.
    pub repeated: bool,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys, in the order in which they are shown; settings vary in it, the last one fastest.
    pub keys: &'static [Key],
    /// What values of further keys are; `None`: there is no such key.
    pub further: fn(&str) -> Option<Kind>,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Another name of it, or nothing.
    pub alias: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// How many values it has.
    pub amount: Amount,
    /// What it is when it is left out, in TOML; empty: `doc` says what that means.
    pub default: &'static str,
    /// What `models.toml` has in place of the default.
    pub shown: Shown,
    /// What it means.
    pub doc: &'static str,
}

/// How many values a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// One.
    One,
    /// A list; a single value is a list of one.
    Many,
    /// A list that is swept; a single value is a list of one.
    Swept,
}

/// What `models.toml` has for a key.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    /// The default.
    Default,
    /// Another value.
    Value(&'static str),
    /// A value that is commented out.
    Example(&'static str),
    /// Nothing: another document describes it.
    No,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A name: what it names, and a function that checks it and gives its usual spelling.
    Named(&'static str, fn(&str) -> Result<String, String>),
    /// One of some words, and what another word would be.
    Choice(&'static str, &'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number, from and to.
    Whole(i64, i64),
    /// The same, or `"auto"`.
    WholeOrAuto(i64, i64),
    /// A number, from and to.
    Number(f64, f64),
    /// A length of time, from and to.
    Time(Duration, Duration),
    /// A size.
    Bytes,
    /// A table; what is left out of it has its default, also if all is.
    Table(&'static Table),
    /// A table; it is there only if it is written.
    OptionalTable(&'static Table),
    /// Keys that differ from those of the same table of the experiment.
    OwnTable(&'static Table),
    /// Tables.
    Tables(&'static Table),
    /// A table of values of JSON, whose keys are others' to know.
    Variables,
}

impl Table {
    /// A table that is there once.
    pub(in crate::experiment) const fn new(
        name: &'static str,
        doc: &'static str,
        keys: &'static [Key],
    ) -> Self {
        Self { name, repeated: false, doc, keys, further: |_| None }
    }

    /// The header of it when its dotted name is `path`.
    pub fn header(&self, path: &str) -> String {
        if self.repeated { format!("[[{path}]]") } else { format!("[{path}]") }
    }

    /// The bounds of a whole number.
    pub fn bounds(&self, name: &str) -> Option<(i64, i64)> {
        self.keys.iter().find(|key| key.name == name).and_then(|key| match key.kind {
            Kind::Whole(least, most) | Kind::WholeOrAuto(least, most) => Some((least, most)),
            _ => None,
        })
    }
}

impl Key {
    /// A key with one value and without default.
    pub(in crate::experiment) const fn new(
        name: &'static str,
        kind: Kind,
        doc: &'static str,
    ) -> Self {
        let (alias, default) = ("", "");
        Self { name, alias, kind, amount: Amount::One, default, shown: Shown::Default, doc }
    }

    /// With a default.
    pub(in crate::experiment) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// With another name.
    pub(in crate::experiment) const fn alias(self, alias: &'static str) -> Self {
        Self { alias, ..self }
    }

    /// With a list of values.
    pub(in crate::experiment) const fn many(self) -> Self {
        Self { amount: Amount::Many, ..self }
    }

    /// With a list of values that is swept.
    pub(in crate::experiment) const fn swept(self) -> Self {
        Self { amount: Amount::Swept, ..self }
    }

    /// With another value than the default in `models.toml`.
    pub(in crate::experiment) const fn shown(self, value: &'static str) -> Self {
        Self { shown: Shown::Value(value), ..self }
    }

    /// Commented out in `models.toml`.
    pub(in crate::experiment) const fn example(self, value: &'static str) -> Self {
        Self { shown: Shown::Example(value), ..self }
    }

    /// Not in `models.toml`.
    pub(in crate::experiment) const fn not_shown(self) -> Self {
        Self { shown: Shown::No, ..self }
    }
}

impl Kind {
    /// The table that is meant.
    pub fn table(self) -> Option<&'static Table> {
        match self {
            Self::Table(table)
            | Self::OptionalTable(table)
            | Self::OwnTable(table)
            | Self::Tables(table) => Some(table),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    /// What may be written, for a reader of the reference.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => formatter.write_str("text"),
            Self::Named(what, _) => formatter.write_str(what),
            Self::Choice(_, names) => write!(formatter, "`{}`", names.join("`, `")),
            Self::Flag => formatter.write_str("`true`, `false`"),
            Self::Whole(least, most) => write!(formatter, "{least} to {most}"),
            Self::WholeOrAuto(least, most) => write!(formatter, "`auto`, or {least} to {most}"),
            Self::Number(least, most) if *most >= f64::MAX => {
                write!(formatter, "number, {least} or more")
            }
            Self::Number(least, most) => write!(formatter, "number, {least} to {most}"),
            Self::Time(least, most) => {
                let [least, most] = [least, most].map(|it| humantime::format_duration(*it));
                write!(formatter, "time (`30s`, `1h 30min`), {least} to {most}")
            }
            Self::Variables => formatter.write_str("table"),
            Self::Bytes => formatter.write_str("size (`512MiB`, `4GB`), or bytes"),
            Self::Table(table) | Self::OptionalTable(table) => {
                write!(formatter, "[{}]", table.name)
            }
            Self::OwnTable(table) => write!(formatter, "keys of [{}]", table.name),
            Self::Tables(table) => write!(formatter, "[[{}]]", table.name),
        }
    }
}
