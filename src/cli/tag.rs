//! `quantbench tag RUN NAME…`: names that runs are found by.

use super::output;
use super::selection::{store_to_change, tag};
use crate::error::{Error, Outcome};
use crate::report::sanitize;
use clap::Args;

/// Flags of `quantbench tag`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The run, as `show` takes it
    pub run: String,
    /// Tags to give it; without any its tags are shown
    #[arg(value_name = "TAG", value_parser = tag)]
    pub tags: Vec<String>,
    /// A tag to take from it; repeatable
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub remove: Vec<String>,
}

/// Gives tags to a run and takes others, then prints what it has.
///
/// # Errors
/// If no run or several are meant, the store cannot be written, or a tag is to be taken that the run has not.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let store = store_to_change()?;
    let run = store.name_of(&arguments.run)?;
    let mut missing = Vec::new();
    let kept = store.annotate(&run, |kept| {
        missing.extend(arguments.remove.iter().filter(|tag| !kept.tags.remove(*tag)));
        kept.tags.extend(arguments.tags.iter().cloned());
    })?;
    for tag in missing {
        output::tell(&format!("note: {run} has no tag '{tag}'"));
    }
    let tags: Vec<&str> = kept.tags.iter().map(String::as_str).collect();
    let tags = if tags.is_empty() { "no tag".to_owned() } else { tags.join(" ") };
    output::print(format!("{}: {tags}\n", sanitize(&run)).as_bytes())?;
    Ok(Outcome::Done)
}
