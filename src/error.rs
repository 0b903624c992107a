//! Errors that end a command, and the exit codes they end it with.
