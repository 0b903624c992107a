//! `quantbench report --architectures`: classes of architecture by use case, in one table.

use super::output::Destination;
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::report::architectures;
use crate::results::store::{NO_RUN, Store};
use clap::Args;
use std::path::PathBuf;

/// Flags of `quantbench report`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The run's name, its beginning, or the letters behind its date; 'last' is the one begun last
    #[arg(default_value = "last")]
    pub run: String,
    /// Compare classes of architecture: what was measured of each in each use case
    #[arg(long, required = true)]
    pub architectures: bool,
    /// The variants to compare, by their label, such as `Q4_K_M` [the references]
    #[arg(long, value_name = "LABEL")]
    pub variant: Option<String>,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Prints the comparison in Markdown.
///
/// # Errors
/// If no run or several are meant, the store cannot be read, or the run says nothing of
/// architectures.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let store = Store::open_existing()?.ok_or_else(|| Problem::new(NO_RUN))?;
    let run = store.load(&arguments.run)?;
    let text = architectures::render(&run, arguments.variant.as_deref()).map_err(Error::command)?;
    Destination::open(arguments.output.as_deref())?.write(text.as_bytes())?;
    Ok(Outcome::Done)
}
