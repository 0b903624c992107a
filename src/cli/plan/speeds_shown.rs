//! How speeds are shown: a table of those of this machine, and what each place is for each variant in a word.

use super::Planned;
use super::shown::{Row, rows};
use super::speed::{Origin, Speed, Speeds};
use crate::decide::place::Place;
use crate::decide::speed::Word;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::{Column, Group, Table};
use crate::report::terminal::{self, Look};
use crate::statistics::estimate::Estimate;
use crate::units::{count, significant};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The word for a row, and what is generated there per second.
pub(super) fn judged(row: &Row<'_>, speeds: &Speeds, at: usize) -> (Word, Option<Estimate>) {
    let generated = speeds.generation(at, row.planned, row.place);
    let word = row.planned.verdicts.get(row.at).map_or(Word::Unknown, |verdict| {
        Word::of(verdict, generated.map(|it| it.value), row.most_tokens_per_second())
    });
    (word, generated)
}

/// `34 ±10 %`.
fn with_error(estimate: Estimate) -> String {
    let value = significant(estimate.value, 3);
    match estimate.relative_half_width() {
        Some(half) => format!("{value} ±{:.0} %", half * 100.0),
        None => value,
    }
}

/// Where a variant's speeds are from: `measured pp512, tg128; else predicted`.
fn origins(of: &[Result<Speed, String>]) -> String {
    let known: Vec<&Speed> = of.iter().filter_map(|it| it.as_ref().ok()).collect();
    let words = [
        (Origin::Measured, "measured"),
        (Origin::Corrected, "corrected"),
        (Origin::Predicted, "predicted"),
    ];
    let parts = words.map(|(origin, word)| {
        let own = known.iter().filter(|it| it.origin == origin);
        (origin, word, own.map(|it| it.test.as_str()).collect::<Vec<_>>())
    });
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, _, tests)| !tests.is_empty())
        .map(|(origin, word, tests)| {
            if tests.len() == known.len() {
                word.to_owned()
            } else if origin == Origin::Predicted {
                format!("else {word}")
            } else {
                format!("{word} {}", tests.join(", "))
            }
        })
        .collect();
    parts.join("; ")
}

/// Speeds of this machine, below what fits; and why there are none.
pub(super) fn table(planned: &[Planned], places: &[Place], speeds: &Speeds) -> String {
    if !places.iter().any(Place::is_here) {
        return String::new();
    }
    let threads = count(speeds.threads, "thread");
    if let Some(reason) = speeds.missing() {
        return format!("\nspeed with {threads}: not predicted, {}\n", sanitize(&reason));
    }
    let names = planned.iter().map(|it| Some(super::shown::name_of(it, planned)));
    let mut columns = vec![Column::of_words("variant", Left, names.collect())];
    for (at, test) in speeds.tests.iter().enumerate() {
        let cell = |of: &Vec<Result<Speed, String>>| match of.get(at)? {
            Ok(speed) => Some(with_error(speed.tokens_per_second)),
            Err(_) => Some("?".to_owned()),
        };
        let cells = speeds.of.iter().map(cell).collect();
        columns.push(Column::of_words(&test.to_string(), Right, cells));
    }
    let origin = |of: &Vec<Result<Speed, String>>| Some(origins(of));
    columns.push(Column::of_words("from", Left, speeds.of.iter().map(origin).collect()));
    let rows = (0..planned.len()).collect();
    let table = Table { columns, groups: vec![Group { heading: String::new(), rows }] };
    let table = terminal::text(&table, &Look::default());
    let mut text = format!("\nspeed with {threads}, tokens per second:\n\n{table}");
    let date = speeds.measured.as_deref().unwrap_or("no date");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "pp512 reads a prompt of 512 tokens, tg128 generates 128; @ d: behind so many tokens, at the end of the context\n\
         predicted: from what this machine was measured to compute ({date}), with what 19 of 20 measurements lie within"
    );
    let has = |origin: Origin| {
        speeds.of.iter().flatten().any(|it| it.as_ref().is_ok_and(|it| it.origin == origin))
    };
    if has(Origin::Measured) {
        text.push_str("measured: in a stored run of the same tensors here\n");
    }
    if has(Origin::Corrected) {
        text.push_str(
            "corrected: predicted, times how far off other variants were when they were measured\n",
        );
    }
    let reasons: BTreeSet<&String> =
        speeds.of.iter().flatten().filter_map(|it| it.as_ref().err()).collect();
    for reason in &reasons {
        let _ = writeln!(text, "?: {}", sanitize(reason));
    }
    if reasons.iter().any(|it| it.contains("not measured")) {
        text.push_str("'quantbench devices --measure' goes on with what was not measured\n");
    }
    text
}

/// One word for each variant and place.
pub(super) fn view(planned: &[Planned], places: &[Place], speeds: &Speeds) -> String {
    if places.len() < 2 {
        return String::new();
    }
    let all = rows(planned, places);
    let names = planned.iter().map(|it| Some(super::shown::name_of(it, planned)));
    let mut columns = vec![Column::of_words("variant", Left, names.collect())];
    for at_place in all.chunks(planned.len().max(1)) {
        let title = at_place.first().map_or("", |row| row.place.name.as_str());
        let cells = at_place.iter().enumerate().map(|(at, row)| {
            let (word, generated) = judged(row, speeds, at);
            let shown = word != Word::No && word != Word::Unknown;
            let rate = generated.filter(|_| shown).map(|it| {
                let about = if row.place.is_here() { "" } else { "~" };
                format!(" {about}{} t/s", significant(it.value, 2))
            });
            let is_unknown = rate.is_none() && shown && row.place.is_here();
            let unknown = || if is_unknown { " ? t/s".to_owned() } else { String::new() };
            Some(format!("{word}{}", rate.unwrap_or_else(unknown)))
        });
        columns.push(Column::of_words(&sanitize(title), Left, cells.collect()));
    }
    if speeds.quality.iter().any(Option::is_some) {
        let words = speeds.quality.iter().map(|it| it.map(str::to_owned)).collect();
        columns.push(Column::of_words("quality", Left, words));
    }
    let groups = vec![Group { heading: String::new(), rows: (0..planned.len()).collect() }];
    let table = terminal::text(&Table { columns, groups }, &Look::default());
    format!(
        "\n{table}good: it fits and generates 25 tokens per second or more; possible: it fits; limited: it fits with a change, or \
         generates fewer than 5; no: it does not fit; ?: how fast is not known, and does not count\n~: this machine's speed in the proportion of the memories' bandwidths, \
         half as much or half as much again\n"
    )
}
