//! Reports: one small file per output format behind one trait.
//!
//! A report turns a run's record and its summary into bytes; it measures, stores and prints nothing.
//! `columns` says which columns there are and what stands in them, `numbers` how figures are
//! written, `findings`, `notes`, `limits` and `tasks` what is said in words, `chart` draws;
//! `architectures` is a comparison of its own. Uses `results`; used by
//! the command line.

pub mod architectures;
mod chart;
mod columns;
mod csv;
mod findings;
mod format;
mod header;
mod json;
mod jsonl;
mod limits;
mod llama_bench;
mod markdown;
mod next;
mod notes;
mod numbers;
mod table;
mod tasks;
mod text;
mod types;

#[cfg(test)]
mod tests;

pub use format::{Format, RenderOptions, ReportError, render};
pub use text::{quoted, sanitize};
