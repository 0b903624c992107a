//! `quantbench completions`: completions for a shell, made from the command line's own definition.

use super::output;
use crate::error::{Error, Outcome};
use clap::{Args, Command};
use clap_complete::Shell;

/// Flags of `quantbench completions`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints completions.
///
/// # Errors
/// Standard output does not take them.
pub fn run(arguments: &Arguments, mut command: Command) -> Result<Outcome, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "quantbench", &mut script);
    output::print(&script)?;
    Ok(Outcome::Done)
}
