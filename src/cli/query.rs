//! `quantbench query "SELECT …"`: SQL over stored runs.

use super::output;
use super::output::Destination;
use super::selection::{Selection, nothing};
use crate::error::{Error, Outcome};
use crate::report::long::csv;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::{Column, Group, Table};
use crate::report::terminal::{self, Look};
use crate::results::long::{self, Value};
use crate::results::query::Query;
use crate::results::store::Store;
use crate::units::{parse_within, significant};
use clap::{Args, ValueEnum};
use serde_json::{Map, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use strum::VariantArray as _;

/// More rows help nobody on a screen.
const ROWS_SHOWN: usize = 1000;

/// Digits of numbers that are read by people; files have all.
const DIGITS: usize = 6;

/// Flags of `quantbench query`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// One SELECT in `SQLite`'s SQL; without it the tables and their columns are shown
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,
    /// Which runs it sees.
    #[command(flatten)]
    pub selection: Selection,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the result to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Give no more rows than this; left out: 1000 in a table, all in other formats
    #[arg(long, value_name = "N", value_parser = parse_within(1_usize..))]
    pub rows: Option<usize>,
    /// Stop after this long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// How the rows of a query are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// CSV, numbers with all their digits
    Csv,
    /// JSON, an object per row
    Json,
}

/// Asks the stored runs.
///
/// # Errors
/// If the query is wrong or would write, or takes too long.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let Some(sql) = &arguments.sql else {
        let text = if arguments.format == Format::Json { tables_json()? } else { tables() };
        output::print(text.as_bytes())?;
        return Ok(Outcome::Done);
    };
    let query = Query::new(sql)?;
    let destination = Destination::open(arguments.output.as_deref())?;
    let store = Store::open_existing()?;
    let all = store.as_ref().map(Store::list).transpose()?.unwrap_or_default();
    let runs: Vec<_> = all.iter().filter(|run| arguments.selection.has(run)).collect();
    if runs.is_empty() {
        // Of no runs the answer is one too, but a person wants to know why it is empty.
        output::tell(&format!("note: {}", nothing(all.len())));
    }
    // As they were begun.
    for run in runs.into_iter().rev() {
        let record = store.as_ref().filter(|_| query.needs_records());
        let record = record.map(|store| store.load(&run.id)).transpose()?;
        query.add(run, record.as_ref())?;
    }
    let usual = if arguments.format == Format::Table { ROWS_SHOWN } else { usize::MAX };
    let most = arguments.rows.unwrap_or(usual);
    let (mut titles, mut rows, mut is_cut) = (Vec::new(), Vec::new(), false);
    let take = |row| {
        is_cut = rows.len() >= most;
        if !is_cut {
            rows.push(row);
        }
        !is_cut
    };
    query.run(arguments.timeout, |names| titles = names, take)?;
    let bytes = match arguments.format {
        Format::Table => table(&titles, &rows).into_bytes(),
        Format::Csv => csv(titles.iter().map(String::as_str), &rows)?,
        Format::Json => json(&titles, &rows, is_cut)?.into_bytes(),
    };
    destination.write(&bytes)?;
    if is_cut {
        output::tell(&format!("note: the first {most} rows; there are more (--rows)"));
    }
    Ok(Outcome::Done)
}

/// What may be asked, for programs.
fn tables_json() -> Result<String, Error> {
    let column = |it: long::Column| json!({ "name": it.name, "kind": it.kind.to_string(), "meaning": it.meaning });
    let tables = long::Table::VARIANTS.iter().map(|table| {
        let columns: Vec<_> = table.columns().into_iter().map(column).collect();
        json!({ "name": table.to_string(), "meaning": table.meaning(), "columns": columns })
    });
    output::json("quantbench.tables", json!({ "tables": tables.collect::<Vec<_>>() }))
}

/// What may be asked, as a person reads it.
fn tables() -> String {
    let mut text = String::new();
    for table in long::Table::VARIANTS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{table}: {}", table.meaning());
        let rows = table.columns().into_iter().map(|column| {
            [format!("  {}", column.name), column.kind.to_string(), column.meaning.to_owned()]
        });
        text += &terminal::text(
            &Table::of_words([("", Left), ("", Left), ("", Left)], rows),
            &Look::default(),
        );
        text.push('\n');
    }
    text + "$ quantbench query \"SELECT started, host, variant, value, low, high FROM figures WHERE metric = \
            'tg128_tokens_per_second' ORDER BY started\"\n"
}

/// A value as people read it.
fn text(value: &Value) -> String {
    let Value::Real(number) = value else { return sanitize(&value.to_string()) };
    let text = significant(*number, DIGITS);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn table(titles: &[String], rows: &[Vec<Value>]) -> String {
    let column = |(position, title): (usize, &String)| {
        let is_number = |row: &Vec<Value>| {
            matches!(row[position], Value::Integer(_) | Value::Real(_) | Value::Null)
        };
        let align = if rows.iter().all(is_number) { Right } else { Left };
        let cells = rows.iter().map(|row| Some(text(&row[position])));
        Column::of_words(&sanitize(title), align, cells.collect())
    };
    let columns = titles.iter().enumerate().map(column).collect();
    let groups = vec![Group { heading: String::new(), rows: (0..rows.len()).collect() }];
    terminal::text(&Table { columns, groups }, &Look::default())
}

fn json(titles: &[String], rows: &[Vec<Value>], is_cut: bool) -> Result<String, Error> {
    // An object holds a name once.
    let mut names: Vec<String> = Vec::new();
    for title in titles {
        let is_taken = |name: &String| names.contains(name);
        let numbered = (2..).map(|number| format!("{title}_{number}"));
        names.extend(std::iter::once(title.clone()).chain(numbered).find(|name| !is_taken(name)));
    }
    let value = |value: &Value| match value {
        Value::Null => json!(null),
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Bool(is) => json!(is),
        other => json!(other.to_string()),
    };
    let object =
        |row: &Vec<Value>| names.iter().cloned().zip(row.iter().map(value)).collect::<Map<_, _>>();
    let rows: Vec<_> = rows.iter().map(object).collect();
    output::json("quantbench.query", json!({ "columns": names, "is_cut": is_cut, "rows": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> (Vec<String>, Vec<Vec<Value>>) {
        let titles = ["variant", "value", "value", "n"].map(str::to_owned).to_vec();
        let row = |name: &str, value: Value| {
            vec![Value::Text(name.to_owned()), value.clone(), value, Value::Integer(5)]
        };
        (titles, vec![row("Q4_0\u{1b}[2J", Value::Real(12.345_678_9)), row("a,\"b\"", Value::Null)])
    }

    #[test]
    fn rows_are_shown_to_people_and_given_to_programs() {
        let (titles, rows) = answer();
        insta::assert_snapshot!(table(&titles, &rows), @r#"
        variant     value    value  n
        ──────────────────────────────
        Q4_0�[2J  12.3457  12.3457  5
        a,"b"                       5
        "#);
        let document: serde_json::Value =
            serde_json::from_str(&json(&titles, &rows, false).unwrap()).unwrap();
        assert_eq!(document["columns"], json!(["variant", "value", "value_2", "n"]));
        assert_eq!(document["rows"][0]["value_2"], json!(12.345_678_9));
        assert_eq!(
            (&document["format"], &document["version"]),
            (&json!("quantbench.query"), &json!(1))
        );
    }

    #[test]
    fn the_overview_names_every_column() {
        let text = tables();
        for column in long::Table::VARIANTS.iter().flat_map(|table| table.columns()) {
            assert!(text.contains(column.name) && text.contains(column.meaning), "{}", column.name);
        }
    }
}
