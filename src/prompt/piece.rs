//! Prompts as pieces: special tokens where the format puts them, text everywhere else.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use serde::Serialize;

/// Part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "text")]
pub enum Piece {
    /// The text of one special token.
    Special(String),
    /// Text that stays text, whatever it looks like.
    Text(String),
}

impl Piece {
    /// The text of the piece.
    pub fn text(&self) -> &str {
        match self {
            Self::Special(text) | Self::Text(text) => text,
        }
    }
}

/// Finds the texts of special tokens, of several that begin at the same place the longest.
///
/// # Errors
/// There are too many.
pub(super) fn finder<'t>(
    special: impl Iterator<Item = &'t str>,
) -> Result<AhoCorasick, BuildError> {
    let special = special.filter(|text| !text.is_empty());
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(special)
}

/// A rendered prompt. No piece is empty and no two texts stand side by side.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Prompt {
    pieces: Vec<Piece>,
}

impl Prompt {
    /// A prompt that is nothing but text.
    pub fn plain(text: &str) -> Self {
        let mut prompt = Self::default();
        prompt.push_text(text);
        prompt
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The whole prompt as one text; special tokens are no longer marked.
    pub fn text(&self) -> String {
        self.pieces.iter().map(Piece::text).collect()
    }

    /// The special tokens, in order.
    pub fn special(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Special(text) => Some(text.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Adds text that stays text.
    pub fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }

    /// Adds text of the format itself: wherever one of `special` stands in it, that is a special
    /// token. Of several that begin at the same place the longest counts.
    pub fn push_marked<S: AsRef<str>>(&mut self, text: &str, special: &[S]) {
        match finder(special.iter().map(AsRef::as_ref)) {
            Ok(finder) => self.push_found(text, &finder),
            // More tokens than any format has.
            Err(_) => self.push_text(text),
        }
    }

    /// Adds text of a template: what `finder` finds in it are special tokens. It takes one pass however many
    /// there are, for a template is a stranger's.
    pub fn push_found(&mut self, text: &str, finder: &AhoCorasick) {
        let mut rest = 0;
        for found in finder.find_iter(text) {
            self.push_text(&text[rest..found.start()]);
            self.pieces.push(Piece::Special(text[found.range()].to_owned()));
            rest = found.end();
        }
        self.push_text(&text[rest..]);
    }

    /// Applies `change` to the text of every piece of text.
    #[must_use]
    pub fn map_text(self, change: impl Fn(&str) -> String) -> Self {
        let mut mapped = Self::default();
        for piece in self.pieces {
            match piece {
                Piece::Special(_) => mapped.pieces.push(piece),
                Piece::Text(text) => mapped.push_text(&change(&text)),
            }
        }
        mapped
    }

    /// What stands before `mark` and what behind it; `None` unless it stands in the text exactly once.
    pub fn split_at(&self, mark: &str) -> Option<(Self, Self)> {
        let (mut before, mut behind) = (Self::default(), None::<Self>);
        for piece in &self.pieces {
            match (piece, &mut behind) {
                (Piece::Text(text), None) if text.contains(mark) => {
                    let (start, end) = text.split_once(mark)?;
                    before.push_text(start);
                    let mut rest = Self::default();
                    rest.push_text(end);
                    behind = Some(rest);
                    if end.contains(mark) {
                        return None;
                    }
                }
                (Piece::Text(text), Some(_)) if text.contains(mark) => return None,
                (piece, Some(behind)) => behind.pieces.push(piece.clone()),
                (piece, None) => before.pieces.push(piece.clone()),
            }
        }
        behind.map(|behind| (before, behind))
    }

    /// The prompt without `token` at its very beginning.
    #[must_use]
    pub fn without_first(mut self, token: &str) -> Self {
        if self.pieces.first() == Some(&Piece::Special(token.to_owned())) {
            self.pieces.remove(0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_found_longest_first_and_texts_join() {
        let mut prompt = Prompt::default();
        prompt.push_text("a");
        prompt.push_marked("b<|x|>c<|x|>>", &["<|x|>", "<|x|>>"]);
        prompt.push_text("");
        let special = |text: &str| Piece::Special(text.to_owned());
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(prompt.pieces(), [text("ab"), special("<|x|>"), text("c"), special("<|x|>>")]);
        assert_eq!(prompt.text(), "ab<|x|>c<|x|>>");
    }

    #[test]
    fn a_prompt_is_split_where_a_mark_stands_once() {
        let mut prompt = Prompt::default();
        prompt.push_marked("<s>user: (here) what?<e>", &["<s>", "<e>"]);
        let (before, behind) = prompt.split_at("(here)").unwrap();
        assert_eq!(
            (before.text(), behind.text()),
            ("<s>user: ".to_owned(), " what?<e>".to_owned())
        );
        assert_eq!(behind.special().collect::<Vec<_>>(), ["<e>"]);
        // A special token is no text.
        assert_eq!(prompt.split_at("<s>"), None);
        assert_eq!(prompt.split_at("(there)"), None);
        assert_eq!(Prompt::plain("(here)(here)").split_at("(here)"), None);
        prompt.push_text("(here)");
        assert_eq!(prompt.split_at("(here)"), None);
        let (before, behind) = Prompt::plain("(here)").split_at("(here)").unwrap();
        assert!(before.pieces().is_empty() && behind.pieces().is_empty());
    }

    #[test]
    fn an_empty_token_is_found_nowhere() {
        let mut prompt = Prompt::default();
        prompt.push_marked("abc", &[""]);
        assert_eq!(prompt, Prompt::plain("abc"));
    }

    #[test]
    fn only_a_special_token_at_the_beginning_is_taken_away() {
        let mut prompt = Prompt::default();
        prompt.push_marked("<s>a", &["<s>"]);
        assert_eq!(prompt.without_first("<s>"), Prompt::plain("a"));
        assert_eq!(Prompt::plain("<s>a").without_first("<s>"), Prompt::plain("<s>a"));
    }
}
