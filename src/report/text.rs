//! Text for a terminal: cleaned of control characters, cut and wrapped by display width.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// One line of plain text: control characters, among them the escape that begins a terminal's
/// commands, and characters that turn the direction of writing become `�`; line ends and tabs
/// become spaces. Names of files and messages of native code are not to be trusted with a terminal.
pub fn sanitize(text: &str) -> String {
    let clean = text.chars().map(|character| match character {
        '\n' | '\r' | '\t' => ' ',
        other => shown(other),
    });
    clean.collect::<String>().trim().to_owned()
}

/// The same of text that keeps its lines and what they are indented by.
pub(super) fn sanitize_lines(text: &str) -> String {
    let clean = text.replace("\r\n", "\n").replace('\t', "    ");
    let clean = clean.chars().map(|it| if it == '\n' { it } else { shown(it) });
    clean.collect::<String>().trim_matches('\n').trim_end().to_owned()
}

/// A character as it may be shown.
fn shown(character: char) -> char {
    if character.is_control() || turns_direction(character) {
        return char::REPLACEMENT_CHARACTER;
    }
    character
}

/// Whether it turns the direction of what is written behind it.
pub(super) fn turns_direction(character: char) -> bool {
    let all = ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}', '\u{200e}'..='\u{200f}'];
    all.iter().any(|range| range.contains(&character))
}

/// Width in columns.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A name of at most `columns` columns: what is too much is taken out of its middle, since names of
/// variants differ at their ends.
pub(crate) fn shorten(name: &str, columns: usize) -> String {
    if width(name) <= columns || columns < 3 {
        return name.to_owned();
    }
    let tail_columns = (columns - 1) * 2 / 3;
    let head = take(name.chars(), columns - 1 - tail_columns);
    let tail: String = take(name.chars().rev(), tail_columns).chars().rev().collect();
    format!("{head}…{tail}")
}

fn take(characters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut left = columns;
    let fits = |character: &char| {
        let needed = character.width().unwrap_or(0);
        left.checked_sub(needed).map(|rest| left = rest).is_some()
    };
    characters.take_while(fits).collect()
}

/// Words as a sentence lists them: `a, b and c`.
pub(super) fn list<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// Keeps words on one line; shown as a space.
pub(super) const NO_BREAK_SPACE: &str = "\u{a0}";

/// A paragraph in lines of at most `columns` columns; lines after the first begin with `indent`.
pub(crate) fn wrap(paragraph: &str, columns: usize, indent: &str) -> Vec<String> {
    let options = textwrap::Options::new(columns.max(20))
        .subsequent_indent(indent)
        // Names with hyphens stay whole, so that they can be copied.
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let paragraph = paragraph.replace(" %", "\u{a0}%").replace(" nats", "\u{a0}nats");
    textwrap::wrap(&paragraph, options)
        .into_iter()
        .map(|line| line.replace(NO_BREAK_SPACE, " "))
        .collect()
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(sanitize("a\u{1b}[2Jb\nc\u{202e}d"), "a�[2Jb c�d");
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("Meta-Llama-3.1-8B-Instruct-Q4_K_M", 20), "Meta-Ll…truct-Q4_K_M");
        assert_eq!(shorten("Q4_K_M", 20), "Q4_K_M");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(width("千问"), 4);
        assert!(width(&shorten("千问大模型七十亿参数-Q4_K_M", 15)) <= 15);
    }

    #[test]
    fn lists_read_as_in_a_sentence() {
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list::<&str>(&[]), "");
    }

    proptest! {
        #[test]
        fn shortened_names_fit(name in "\\PC{0,60}", columns in 3_usize..40) {
            prop_assert!(width(&shorten(&name, columns)) <= columns);
        }

        #[test]
        fn nothing_that_controls_a_terminal_is_left(name in "(.|\\n){0,60}") {
            prop_assert!(!sanitize(&name).chars().any(char::is_control));
        }
    }
}
