//! The Jinja environment that chat templates and task templates are rendered in.
//!
//! What transformers gives chat templates: blocks trimmed, Python's methods on strings, lists and
//! dictionaries, `raise_exception`, `strftime_now`, and `tojson` as Python writes JSON. What it does
//! not give: time without end. A template is a stranger's program, so it has fuel; what fuel does not limit,
//! `sandbox` does.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize as _;
use time::OffsetDateTime;
use time::format_description::parse_strftime_borrowed;

/// Instructions that one rendering may take: a long conversation takes some thousands.
const FUEL: u64 = 5_000_000;

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// An environment for chat templates; `now` is what `strftime_now` tells.
pub(crate) fn environment(now: OffsetDateTime) -> Environment<'static> {
    let mut environment = Environment::new();
    // These delimiters are the default ones, which always build.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |format: String| strftime(now, &format));
    environment.add_filter("tojson", to_json);
    environment
}

/// An environment for the templates of tasks: what is not there is an error rather than an empty
/// text, and a line end at the end stays.
pub(crate) fn strict_environment() -> Environment<'static> {
    let mut environment = environment(OffsetDateTime::UNIX_EPOCH);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

/// What a template that refused its input said; `None` for any other error.
pub(crate) fn raised(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}

/// An error of a template in one line: what is wrong, and in which line of it.
pub(crate) fn in_words(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

fn strftime(now: OffsetDateTime, format: &str) -> Result<String, Error> {
    let wrong = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    let items = parse_strftime_borrowed(format)
        .map_err(|error| wrong(format!("'{format}' is no format of a date: {error}")))?;
    now.format(&items).map_err(|error| wrong(format!("the date cannot be written: {error}")))
}

/// `json.dumps(value, ensure_ascii=False)` of Python, or with an indent.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted as in transformers; their defaults are what is written anyway.
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)),
    };
    written
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
        .map(|()| String::from_utf8_lossy(&bytes).into_owned())
}

/// A space after every comma and colon, as Python writes JSON.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn render(template: &str) -> Result<String, Error> {
        let now = OffsetDateTime::from_unix_timestamp(1_795_430_580).unwrap();
        environment(now).render_str(
            template,
            context! { list => vec![1, 2], word => "<a> \"ü\"", pair => context! { a => 1 } },
        )
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        assert_eq!(render("{{ list | tojson }}").unwrap(), "[1, 2]");
        assert_eq!(render("{{ word | tojson }}").unwrap(), "\"<a> \\\"ü\\\"\"");
        assert_eq!(render("{{ pair | tojson }}").unwrap(), "{\"a\": 1}");
        assert_eq!(render("{{ pair | tojson(indent=2) }}").unwrap(), "{\n  \"a\": 1\n}");
    }

    #[test]
    fn dates_are_written_as_c_writes_them() {
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}").unwrap(), "23 Nov 2026");
        assert!(render("{{ strftime_now('%!') }}").is_err());
    }

    #[test]
    fn what_a_template_refuses_with_is_told_from_a_fault_in_it() {
        let refusal = render("{{ raise_exception('no system') }}").unwrap_err();
        assert_eq!(raised(&refusal).as_deref(), Some("no system"));
        let fault = render("a\n{{ 1 / 0 }}").unwrap_err();
        assert_eq!(raised(&fault), None);
        assert!(in_words(&fault).ends_with("(line 2 of the template)"), "{}", in_words(&fault));
    }

    #[test]
    fn a_template_without_end_ends() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(render(endless).is_err());
    }

    #[test]
    fn pythons_methods_are_there() {
        assert_eq!(render("{{ ' a-b '.strip().split('-')[1].upper() }}").unwrap(), "B");
        assert_eq!(render("{{ word.startswith('<a') }}").unwrap(), "True");
    }
}
