//! Diagnostics: what is wrong in an experiment file, shown the way compilers show it.
//!
//! A [`Problem`] knows where in the text it is; [`Diagnostics`] renders problems with file, line,
//! column, the offending line and a caret. Nothing here knows what an experiment is.

use crate::model::text::{printable, without_secrets};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

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

/// The problems of one file, as they are shown, so that its text need not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    count: usize,
    shown: Vec<String>,
}

impl Diagnostics {
    /// Shows `problems` in `text`, sorted by position.
    pub fn new(file: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.start);
        let shown = problems.iter().take(SHOWN).map(|problem| render(file, text, problem));
        Self { count: problems.len(), shown: shown.collect() }
    }
}

/// Line and column, both from 1; columns count characters. `offset` may lie anywhere.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

fn render(file: &Path, text: &str, problem: &Problem) -> String {
    let start = text.floor_char_boundary(problem.span.start);
    let (line, column) = line_and_column(text, start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let end = text.floor_char_boundary(problem.span.end.clamp(start, line_end));

    let line_text = &text[line_start..line_end];
    let excerpt = without_secrets(line_text);
    let place = moved(line_text, &excerpt, start - line_start)
        ..moved(line_text, &excerpt, end - line_start);
    let excerpt =
        Snippet::source(excerpt).line_start(line).annotation(AnnotationKind::Primary.span(place));
    let excerpt = Group::with_level(Level::ERROR).element(excerpt);
    let excerpt = Renderer::plain().term_width(LINE_WIDTH).render(&[excerpt]);
    let harmless = |text: &str| without_secrets(&printable(text));
    let (file, message) = (printable(&file.display().to_string()), harmless(&problem.message));
    let help = problem.help.as_ref().map_or_else(String::new, |help| {
        let margin = " ".repeat(line.to_string().len());
        format!("\n{margin} = help: {}", harmless(help))
    });
    format!("{file}:{line}:{column}: {message}\n{excerpt}{help}")
}

/// Where `offset` of a line is in the same line without secrets; of one within a secret, where that was.
fn moved(line: &str, without_secrets: &str, offset: usize) -> usize {
    if without_secrets.ends_with(&line[offset..]) {
        return without_secrets.len() - (line.len() - offset);
    }
    let pairs = line[..offset].chars().zip(without_secrets.chars());
    pairs.take_while(|(one, other)| one == other).map(|(same, _)| same.len_utf8()).sum()
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown.join("\n\n"))?;
        if self.count > SHOWN {
            let more = self.count - SHOWN;
            let plural = if more == 1 { "" } else { "s" };
            write!(formatter, "\n\nand {more} more problem{plural}")?;
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
    fn no_line_shows_what_is_secret_in_an_address() {
        let text = "m = { source = 'https://me:pw@host/f?key=1', nmae = 1 }";
        let span = |part: &str| text.find(part).map(|at| at..at + part.len()).unwrap();
        let marked = |span: Range<usize>| {
            let shown = render(text, span);
            let [line, carets]: [&str; 2] = shown
                .lines()
                .skip(2)
                .map(|line| &line[4..])
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            assert_eq!(line, "m = { source = 'https://…@host/f?…', nmae = 1 }");
            let place = |at: usize| line.char_indices().nth(at).map_or(line.len(), |(it, _)| it);
            let start = carets.find('^').unwrap();
            line[place(start)..place(carets.len())].to_owned()
        };
        assert_eq!(marked(span("m =")), "m =");
        assert_eq!(marked(span("'https://me:pw@host/f?key=1'")), "'https://…@host/f?…'");
        assert_eq!(marked(span("nmae")), "nmae");
        // Within the secret itself.
        assert_eq!(marked(span("pw@host")).chars().next(), Some('…'));
        marked(span("e:p"));
    }

    #[test]
    fn many_problems_are_counted() {
        let problems = (0..20).map(|_| Problem::new(0..1, "wrong")).collect();
        let shown = Diagnostics::new(Path::new("x"), "abc", problems).to_string();
        assert!(shown.ends_with("and 12 more problems"), "{shown}");
    }
}
