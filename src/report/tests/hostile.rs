//! Runs of other machines may hold anything that has the right shape: whatever is read is shown, and nothing panics.

use super::*;
use crate::report::{Answers, Domains, Times, document_line};
use crate::results::exchange;
use serde_json::Value;

/// Every place of a document, as JSON pointers.
fn places(value: &Value, place: &str, all: &mut Vec<String>) {
    all.push(place.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                places(value, &format!("{place}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (position, value) in items.iter().enumerate() {
                places(value, &format!("{place}/{position}"), all);
            }
        }
        _ => {}
    }
}

/// Another value of the same kind.
fn mutated(value: &Value, random: &mut fastrand::Rng) -> Value {
    match value {
        Value::Number(_) => {
            let numbers = [
                "0",
                "-1",
                "1",
                "0.5",
                "1e308",
                "-1e-308",
                "18446744073709551615",
                "4294967295",
                "3",
            ];
            serde_json::from_str(numbers[random.usize(..numbers.len())]).unwrap()
        }
        Value::String(_) => {
            let texts = [
                "",
                "\u{1b}[2J\0<script>\u{202e}",
                "pp0",
                "Q4_0",
                "2026-11-23T10:43:00Z",
                "last",
                "%s/../",
            ];
            texts[random.usize(..texts.len())].into()
        }
        Value::Array(items) => match random.u8(..4) {
            0 => Value::Array(Vec::new()),
            1 => items.iter().take(1).cloned().collect(),
            2 => items.iter().chain(items).cloned().collect(),
            _ => items.iter().rev().cloned().collect(),
        },
        Value::Object(_) => Value::Null,
        Value::Bool(is) => (!is).into(),
        Value::Null => {
            [Value::from(0), Value::from("x"), Value::Array(Vec::new())][random.usize(..3)].clone()
        }
    }
}

#[test]
fn a_run_with_anything_in_it_is_shown_or_refused() {
    let run =
        MadeUp { variants: LADDER[..3].to_vec(), rounds: 2, prompts: 2, ..MadeUp::default() }.run();
    let line = document_line(&run).unwrap();
    let whole: Value = serde_json::from_slice(&line).unwrap();
    let mut all = Vec::new();
    places(&whole["run"], "/run", &mut all);
    let mut random = fastrand::Rng::with_seed(7);
    let options = RenderOptions::default();
    let mut read = 0;
    for _ in 0..1500 {
        let mut document = whole.clone();
        for _ in 0..random.usize(1..4) {
            let place = &all[random.usize(..all.len())];
            if let Some(value) = document.pointer_mut(place) {
                *value = mutated(value, &mut random);
            }
        }
        let Ok(runs) = exchange::read(document.to_string().as_bytes()) else { continue };
        read += 1;
        for format in [Format::Table, Format::Markdown, Format::Csv, Format::Json, Format::Jsonl] {
            let shown = render(format, &runs[0], &options);
            if let (Format::Table, Ok(shown)) = (format, shown) {
                let text = String::from_utf8(shown).unwrap();
                assert!(!text.contains(['\u{1b}', '\0', '\u{202e}']), "{text}");
            }
        }
        let _ = render(Domains, &runs[0], &options);
        let _ = render(Answers, &runs[0], &options);
        let _ = render(Times, &runs[0], &options);
        for table in <crate::results::long::Table as strum::VariantArray>::VARIANTS {
            let summary = crate::results::summary::Summary::of(&runs[0]);
            table.rows(&runs[0], &summary, &mut drop);
        }
    }
    assert!(read > 500, "only {read} of the changed runs could be read at all");
}
