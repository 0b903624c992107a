//! Text from strangers, made fit for a terminal.

use unicode_width::UnicodeWidthChar;

/// Replaces what would move the cursor or change the terminal's state: control characters, line
/// breaks included, and characters without width.
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

/// Hides what may be a secret in web addresses: name and password before the host, and the query.
pub fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "'\"`<>".contains(c));
        let (address, behind) = after.split_at(end.unwrap_or(after.len()));
        let (place, query) = match address.split_once('?') {
            Some((place, _)) => (place, "?…"),
            None => (address, ""),
        };
        // In addresses of the hub an @ further on begins a revision; elsewhere a password may have
        // a slash in it that should have been escaped.
        let host_end = place.find('/').filter(|_| before.ends_with("hf://"));
        match place[..host_end.unwrap_or(place.len())].rfind('@') {
            Some(at) => shown.extend(["…", &place[at..], query]),
            None => shown.extend([place, query]),
        }
        rest = behind;
    }
    shown + rest
}

/// The candidate that `name` was probably meant to be.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let lower: String = name.to_lowercase().chars().take(64).collect();
    candidates
        .map(|candidate| {
            (strsim::damerau_levenshtein(&candidate.to_lowercase(), &lower), candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_replaced() {
        assert_eq!(printable("a\u{1b}[31m\tb\nc\r\u{200b}"), "a\u{fffd}[31m b c\u{fffd}\u{fffd}");
    }

    #[test]
    fn names_passwords_and_queries_of_addresses_are_hidden() {
        for (text, expected) in [
            ("no address: a@b?c", "no address: a@b?c"),
            ("at http://me:pw@h:1/x, 'hf://a:b@o/n'", "at http://…@h:1/x, 'hf://…@o/n'"),
            ("hf://o/n@main/f.gguf", "hf://o/n@main/f.gguf"),
            ("socks5://u:p/w@h \"https://h/f?sig=1\" end", "socks5://…@h \"https://h/f?…\" end"),
            ("https://a@b@h", "https://…@h"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }

    #[test]
    fn long_text_is_cut_with_an_ellipsis() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "ab…");
        assert_eq!(shortened("", 3), "");
    }
}
