//! The command line: one file per subcommand, flags → call → print.

use std::process::ExitCode;

/// Runs the command given on the command line.
#[must_use]
pub fn main() -> ExitCode {
    crate::worker::main()
}
