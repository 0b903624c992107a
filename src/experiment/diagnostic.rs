//! Diagnostics: what is wrong in an experiment file, shown the way compilers show it.
//!
//! A [`Problem`] knows where in the text it is; [`Diagnostics`] renders problems with file, line,
//! column, the offending line and a caret. Nothing here knows what an experiment is.

use crate::model::text::{printable, without_secrets};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use unicode_width::UnicodeWidthChar;

/// More problems than this in one file are counted, not shown.
const SHOWN: usize = 8;

/// Columns of a source line that are shown; longer lines are cut around the caret.
const LINE_WIDTH: usize = 100;

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Byte range in the text.
    pub span: Range<usize>,
    /// What is wrong: a fragment that names the key.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Problem {
    /// A problem without a remedy.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The problems of one file, each with the line it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: PathBuf,
    located: Vec<LocatedProblem>,
}

/// A problem with the part of the text that shows it, so that the text need not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LocatedProblem {
    line: usize,
    column: usize,
    message: String,
    help: Option<String>,
    excerpt: String,
    caret_start: usize,
    caret_width: usize,
}

impl Diagnostics {
    /// Locates `problems` in `text`, sorted by position.
    pub fn new(file: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.start);
        let located = problems.iter().map(|problem| locate(text, problem)).collect();
        Self { file: file.to_owned(), located }
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.located.len()
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// Line and column, both from 1; columns count characters. `offset` may lie anywhere.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

fn locate(text: &str, problem: &Problem) -> LocatedProblem {
    let start = text.floor_char_boundary(problem.span.start);
    let (line, column) = line_and_column(text, start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let end = text.floor_char_boundary(problem.span.end.clamp(start, line_end));

    let harmless = |text: &str| without_secrets(&printable(text));
    let before = harmless(&text[line_start..start]);
    let marked = harmless(&text[start..end]);
    let after = harmless(text[end..line_end].trim_end());
    let (before, cut) = keep_end(&before, LINE_WIDTH / 2);
    let prefix = if cut { "…" } else { "" };
    let caret_start = width(prefix) + width(&before);
    let (excerpt, cut) =
        keep_start(&format!("{prefix}{before}{marked}{after}"), LINE_WIDTH.max(caret_start + 1));
    let suffix = if cut { "…" } else { "" };
    let visible = width(&excerpt).saturating_sub(caret_start);
    LocatedProblem {
        line,
        column,
        message: harmless(&problem.message),
        help: problem.help.as_deref().map(harmless),
        caret_width: width(&marked).min(visible).max(1),
        caret_start,
        excerpt: format!("{excerpt}{suffix}"),
    }
}

fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

fn keep_start(text: &str, columns: usize) -> (String, bool) {
    let mut used = 0;
    let kept: String = text
        .chars()
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= columns
        })
        .collect();
    let cut = kept.len() < text.len();
    (kept, cut)
}

fn keep_end(text: &str, columns: usize) -> (String, bool) {
    let reversed: String = text.chars().rev().collect();
    let (kept, cut) = keep_start(&reversed, columns);
    (kept.chars().rev().collect(), cut)
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.located.iter().take(SHOWN).enumerate() {
            if index > 0 {
                formatter.write_str("\n\n")?;
            }
            problem.render(&self.file, formatter)?;
        }
        if self.located.len() > SHOWN {
            let more = self.located.len() - SHOWN;
            let plural = if more == 1 { "" } else { "s" };
            write!(formatter, "\n\nand {more} more problem{plural}")?;
        }
        Ok(())
    }
}

impl LocatedProblem {
    fn render(&self, file: &Path, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let file = printable(&file.display().to_string());
        writeln!(formatter, "{file}:{}:{}: {}", self.line, self.column, self.message)?;
        writeln!(formatter, "{margin} |")?;
        writeln!(formatter, "{}", format!("{number} | {}", self.excerpt).trim_end())?;
        let indent = " ".repeat(self.caret_start);
        write!(formatter, "{margin} | {indent}{}", "^".repeat(self.caret_width))?;
        if let Some(help) = &self.help {
            write!(formatter, "\n{margin} = help: {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, span: Range<usize>) -> String {
        Diagnostics::new(Path::new("x.toml"), text, vec![Problem::new(span, "wrong")]).to_string()
    }

    #[test]
    fn the_caret_stands_under_the_span() {
        assert_eq!(render("a = 1\nbc = 22\n", 6..8), "x.toml:2:1: wrong\n  |\n2 | bc = 22\n  | ^^");
    }

    #[test]
    fn wide_characters_move_the_caret_by_their_width() {
        assert_eq!(
            render("a = '界' # x", 8..9).lines().last(),
            Some("  |        ^"),
            "the ideograph is three bytes and two columns"
        );
    }

    #[test]
    fn the_end_of_the_text_and_spans_beyond_it_are_shown() {
        assert_eq!(render("a =", 3..3).lines().next(), Some("x.toml:1:4: wrong"));
        assert_eq!(render("a =", 50..70).lines().next(), Some("x.toml:1:4: wrong"));
        assert_eq!(render("", 0..0), "x.toml:1:1: wrong\n  |\n1 |\n  | ^");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        let shown = render("a = \"\u{1b}[31m\"", 0..1);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_around_the_caret() {
        let text = format!("a = '{}'", "x".repeat(1 << 20));
        let shown = render(&text, 600_000..600_010);
        assert!(shown.lines().all(|line| line.chars().count() < 120), "{shown}");
        assert!(shown.contains("x.toml:1:600001"));
    }

    #[test]
    fn many_problems_are_counted() {
        let problems = (0..20).map(|_| Problem::new(0..1, "wrong")).collect();
        let shown = Diagnostics::new(Path::new("x"), "abc", problems).to_string();
        assert!(shown.ends_with("and 12 more problems"), "{shown}");
    }
}
