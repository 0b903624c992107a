//! Text from strangers, made fit for a terminal.

use unicode_width::UnicodeWidthChar;

/// Replaces what would move the cursor or change the terminal's state: control characters, line
/// breaks included, and characters without width.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\t' | '\n' => ' ',
            character if character.width().unwrap_or(0) == 0 => '\u{fffd}',
            character => character,
        })
        .collect()
}

/// As [`printable`], cut to `columns` with an ellipsis where it is longer.
#[must_use]
pub fn shortened(text: &str, columns: usize) -> String {
    let mut used = 0;
    let mut kept = String::new();
    for character in printable(text).chars() {
        used += character.width().unwrap_or(0);
        if used > columns {
            kept.pop();
            kept.push('…');
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_replaced() {
        assert_eq!(printable("a\u{1b}[31m\tb\nc\r\u{200b}"), "a\u{fffd}[31m b c\u{fffd}\u{fffd}");
    }

    #[test]
    fn long_text_is_cut_with_an_ellipsis() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "ab…");
        assert_eq!(shortened("", 3), "");
    }
}
