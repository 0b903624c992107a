//! Runs as documents: what `show --format json` and `export` write, and `merge` reads.

use super::annotations::check_name;
use super::record::RunRecord;
use crate::causes::Problem;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The name of the format, in its field `format`.
pub const FORMAT: &str = "quantbench.run";

/// Raised when a field changes its meaning or goes; new fields may come at any time.
pub const VERSION: u32 = 3;

/// What every document begins with.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u32,
}

#[derive(Deserialize)]
struct Document {
    run: RunRecord,
}

/// The runs in a text: one document, or several behind one another, as in a file with one a line.
///
/// # Errors
/// It is no JSON, holds something else or no run, or is of a later version.
pub fn read(text: &[u8]) -> Result<Vec<RunRecord>, Problem> {
    for head in each::<Head>(text) {
        let Head { format, version } = head.map_err(|source| {
            Problem::because(
                "it is neither a store nor a run that 'quantbench export' wrote",
                source,
            )
        })?;
        if format != FORMAT {
            let what = match format.as_str() {
                "" => "JSON of another program".to_owned(),
                format => format!("'{format}'"),
            };
            return Err(Problem::new(format!(
                "it holds {what}, which is no run; 'quantbench export RUN -o FILE.json' writes one"
            )));
        }
        if version > VERSION {
            return Err(Problem::new(format!(
                "it is of version {version}, and this quantbench knows up to {VERSION}; update quantbench"
            )));
        }
    }
    let mut runs = Vec::new();
    for document in each::<Document>(text) {
        let number = runs.len() + 1;
        let Document { run } = document.map_err(|source| {
            Problem::because(format!("run {number} in it cannot be read"), source)
        })?;
        check(&run)?;
        runs.push(run);
    }
    if runs.is_empty() {
        return Err(Problem::new("it is empty"));
    }
    Ok(runs)
}

fn each<T: DeserializeOwned>(text: &[u8]) -> impl Iterator<Item = serde_json::Result<T>> {
    serde_json::Deserializer::from_slice(text).into_iter()
}

/// Whether a run may be stored that was not measured here: its name becomes part of file names.
///
/// # Errors
/// Its name, or what is kept with it, is not what quantbench writes.
pub fn check(run: &RunRecord) -> Result<(), Problem> {
    check_name("a run", &run.id)?;
    if run.id == "last" {
        return Err(Problem::new(
            "'last' cannot be the name of a run: it means the one begun last",
        ));
    }
    run.annotations.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::in_words;
    use crate::results::made_up::MadeUp;
    use serde_json::{Value, json};

    fn document() -> Value {
        let run =
            MadeUp { variants: crate::results::made_up::LADDER[..2].to_vec(), ..MadeUp::default() }
                .run();
        json!({"format": FORMAT, "version": VERSION, "run": run, "summary": {"later": 1}})
    }

    fn refused(text: &str) -> String {
        in_words(&read(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn one_document_or_one_a_line_is_read() {
        let one = serde_json::to_string_pretty(&document()).unwrap();
        let run = read(one.as_bytes()).unwrap().remove(0);
        assert_eq!(run.trials.len(), 2);
        let lines = format!("{}\n{}\n", document(), document());
        assert_eq!(read(lines.as_bytes()).unwrap(), [run.clone(), run]);
    }

    #[test]
    fn what_is_no_run_is_told_as_what_it_is() {
        assert!(refused("").contains("it is empty"));
        assert!(refused("GGUF").contains("neither a store nor a run"));
        assert!(refused("[1, 2]").contains("neither a store nor a run"));
        assert!(refused("{}").contains("JSON of another program"));
        assert!(
            refused(r#"{"format": "quantbench.trial", "version": 1}"#)
                .contains("'quantbench.trial', which is no run")
        );
        assert!(
            refused(r#"{"format": "quantbench.run", "version": 99}"#).contains("knows up to 3")
        );
        assert!(
            refused(r#"{"format": "quantbench.run", "version": 3}"#)
                .contains("run 1 in it cannot be read")
        );
        let whole = document().to_string();
        assert!(refused(&whole[..whole.len() / 2]).contains("EOF"));
        assert!(refused(&format!("{whole}{}", &whole[..9])).contains("EOF"));
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert!(
            refused(&format!(
                r#"{{"format": "quantbench.run", "version": 3, "run": {{"experiment": {deep}}}}}"#
            ))
            .contains("recursion")
        );
    }

    #[test]
    fn a_run_whose_name_would_leave_its_folder_is_refused() {
        for id in ["../../etc/passwd", "", "last", "a\u{1b}[2J", "-rf"] {
            let mut document = document();
            document["run"]["id"] = id.into();
            assert!(refused(&document.to_string()).contains("cannot be the name of a run"), "{id}");
        }
        let mut document = document();
        document["run"]["annotations"] = json!({"tags": ["a b"]});
        assert!(refused(&document.to_string()).contains("a tag"));
    }
}
