//! Decisions before anything is measured: what fits where.
//!
//! `place` is memory that a model may take, here or on a target (`targets.toml`); `fit` is what a model needs, as the
//! engine predicts it, and the verdict. Nothing is loaded or printed here: whoever calls hands in what predicts.

pub mod fit;
pub mod place;

#[cfg(test)]
mod tests;
