//! The command line: one file per subcommand, flags → call → print.

pub mod cache;
pub mod devices;
pub mod inspect;

use std::process::ExitCode;

/// Runs the command given on the command line.
#[must_use]
pub fn main() -> ExitCode {
    crate::worker::main()
}
