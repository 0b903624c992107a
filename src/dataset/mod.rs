//! Data sets: files of examples, one object per example.
//!
//! `read` takes JSON Lines, JSON, CSV and TSV as others publish them; `example` looks up what a field
//! holds, `picture` decodes what examples refer to. A data set is hostile input: whatever is wrong is
//! told with file and line. `standard` are the texts that the program brings. Uses `units` only; used by `experiment`, which turns examples into
//! questions, and by those who show pictures (`workload`, `engine`).

mod error;
mod example;
pub mod picture;
mod read;
pub mod standard;
#[cfg(test)]
mod tests;

pub use error::{DatasetError, Fault};
pub use example::Example;
pub use read::{Columns, parse, read};
