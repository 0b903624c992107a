//! Mutations of the repository's own models.toml: nothing written in a file may crash the program,
//! and whatever is wrong is answered with the file's name and a position.

use crate::experiment::{ExperimentError, Overrides, parse};
use proptest::prelude::*;
use std::path::Path;

const TOUR: &str = include_str!("../../../models.toml");

/// Text that a hostile or careless hand may leave in a file.
const FRAGMENTS: &[&str] = &[
    "[",
    "[[models]]",
    "]]",
    "=",
    "\"",
    "\"\"\"",
    "'''",
    "{",
    "}",
    ",",
    "#",
    "\0",
    "\u{1b}[2J",
    "\u{feff}",
    "\u{202e}",
    "9223372036854775808",
    "-9223372036854775809",
    "1e999",
    "nan",
    "1979-05-27",
    "0x",
    "a.b.c = 1",
    "models = []",
    "source = \"/dev/null\"",
    "\r",
    "\\u{110000}",
    "[settings]\nthreads = [1, 2]",
    "ü",
    "quantizations = 1",
];

/// What the program says; `None` if the file is fine.
fn answer(bytes: &[u8]) -> Option<String> {
    match parse(bytes, Path::new("tour.toml"), &Overrides::default()) {
        Ok(_) => None,
        Err(ExperimentError::Invalid(diagnostics)) => Some(diagnostics.to_string()),
        Err(other) => panic!("a wrong file is told of as such, not as {other}"),
    }
}

/// Whether `shown` begins with the file, a line and a column that lie within `bytes`.
fn names_a_place(shown: &str, bytes: &[u8]) -> bool {
    let place = |shown: &str| {
        let mut parts = shown.strip_prefix("tour.toml:")?.splitn(3, ':');
        let line = parts.next()?.parse::<usize>().ok()?;
        let column = parts.next()?.parse::<usize>().ok()?;
        Some((line, column, parts.next()?.trim().len()))
    };
    let lines = String::from_utf8_lossy(bytes).matches('\n').count() + 1;
    place(shown).is_some_and(|(line, column, message)| {
        (1..=lines).contains(&line) && column >= 1 && message > 0
    })
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(shown) = answer(bytes) {
        prop_assert!(names_a_place(&shown, bytes), "{shown}");
        prop_assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_truncated_file_is_answered_with_a_place(end in 0..TOUR.len()) {
        check(&TOUR.as_bytes()[..end])?;
    }

    #[test]
    fn a_file_with_flipped_bits_is_answered_with_a_place(
        flips in prop::collection::vec((0..TOUR.len(), 0..8_u32), 1..6)
    ) {
        let mut bytes = TOUR.as_bytes().to_vec();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        check(&bytes)?;
    }

    #[test]
    fn a_file_with_lines_moved_and_doubled_is_answered_with_a_place(
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8)
    ) {
        let mut lines: Vec<&str> = TOUR.lines().collect();
        for (from, to) in moves {
            let line = lines[from.index(lines.len())];
            lines.insert(to.index(lines.len()), line);
        }
        check(lines.join("\n").as_bytes())?;
    }

    #[test]
    fn a_file_with_foreign_text_in_it_is_answered_with_a_place(
        splices in prop::collection::vec((0..=TOUR.len(), 0..FRAGMENTS.len()), 1..5)
    ) {
        let mut text = TOUR.to_owned();
        for (at, fragment) in splices {
            text.insert_str(text.floor_char_boundary(at), FRAGMENTS[fragment]);
        }
        check(text.as_bytes())?;
    }

    #[test]
    fn a_file_of_random_bytes_is_answered_with_a_place(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        check(&bytes)?;
    }
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    for open in ["[", "{a=", "[[", "a."] {
        let text = format!("x = {}", open.repeat(100_000));
        assert!(answer(text.as_bytes()).is_some(), "{open}");
        let text = format!("{}x = 1", open.repeat(100_000));
        assert!(answer(text.as_bytes()).is_some(), "{open}");
    }
}
