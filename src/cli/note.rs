//! `quantbench note RUN TEXT`: what a person wants to remember of a run.

use super::output;
use super::selection::{store_to_change, store_to_read};
use crate::error::{Error, Outcome};
use crate::report::sanitize;
use clap::Args;

/// Flags of `quantbench note`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The run, as `show` takes it
    pub run: String,
    /// The note, which takes the place of the one before; empty: none. Without it the note is shown
    pub text: Option<String>,
}

/// Keeps a note with a run, or prints the one that is kept.
///
/// # Errors
/// If no run or several are meant, the store cannot be written, or the note is too long.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let (run, note) = match &arguments.text {
        None => {
            let store = store_to_read()?;
            let run = store.name_of(&arguments.run)?;
            let header = store.list()?.into_iter().find(|header| header.id == run);
            (run, header.and_then(|header| header.annotations.note))
        }
        Some(text) => {
            let store = store_to_change()?;
            let run = store.name_of(&arguments.run)?;
            let text = Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
            (run.clone(), store.annotate(&run, |kept| kept.note = text)?.note)
        }
    };
    let note = note.as_deref().map_or_else(|| "no note".to_owned(), sanitize);
    output::print(format!("{}: {note}\n", sanitize(&run)).as_bytes())?;
    Ok(Outcome::Done)
}
