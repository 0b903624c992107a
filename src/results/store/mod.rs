//! The store: every run in one SQLite file, so that a killed run loses at most the trial under way.
//!
//! `database` opens the file and lists runs, `save` and `load` do what they say, `merge` takes in
//! what other stores hold, `schema` makes and
//! migrates the tables, `error` says what can go wrong. A row holds one record as JSON (readable with SQLite's own JSON functions); visits and
//! responses have rows of their own, so that saving a growing trial writes only what is new.

mod database;
mod error;
mod load;
mod merge;
#[cfg(test)]
mod merge_tests;
mod save;
mod schema;
#[cfg(test)]
mod tests;

pub use database::{RunHeader, Store};
pub use error::NO_RUN;
pub use merge::{Fate, Merged, Source};
