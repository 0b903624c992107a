//! `quantbench show RUN`: a stored run in any format.

use super::output::{Destination, may_color};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::report::{self, Answers, Domains, Format, RenderOptions, Times};
use crate::results::store::{NO_RUN, Store};
use crate::units::parse_within;
use clap::Args;
use std::path::PathBuf;

/// Flags of `quantbench show`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The run's name, its beginning, or the letters behind its date; 'last' is the one begun last
    #[arg(default_value = "last")]
    pub run: String,
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Show the divergence on each domain of the text instead
    #[arg(long, conflicts_with = "format")]
    pub domains: bool,
    /// Show the prompts whose answers moved most instead, with the reference's answer and the variant's
    #[arg(long, conflicts_with_all = ["format", "domains"])]
    pub answers: bool,
    /// Show where the time of the run went instead, seconds
    #[arg(long, conflicts_with_all = ["format", "domains", "answers"])]
    pub times: bool,
    /// Width of the table, 40 or more
    #[arg(long, value_name = "N", default_value_t = RenderOptions::default().columns, value_parser = parse_within(40_usize..))]
    pub columns: usize,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Shows a stored run, finished or not.
///
/// # Errors
/// If no run or several are meant, the store cannot be read, or the result not be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let store = Store::open_existing()?.ok_or_else(|| Problem::new(NO_RUN))?;
    let run = store.load(&arguments.run)?;
    let destination = Destination::open(arguments.output.as_deref())?;
    let color = may_color(&destination);
    let options = RenderOptions { columns: arguments.columns, color };
    let bytes = if arguments.domains {
        report::render(Domains, &run, &options)?
    } else if arguments.answers {
        report::render(Answers, &run, &options)?
    } else if arguments.times {
        report::render(Times, &run, &options)?
    } else {
        report::render(arguments.format, &run, &options)?
    };
    destination.write(&bytes)?;
    Ok(Outcome::Done)
}
