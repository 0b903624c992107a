//! Decisions before anything is measured: what fits where, and how fast it will be.
//!
//! `place` is memory that a model may take, here or on a target (`targets.toml`); `fit` is what a model needs, as the
//! engine predicts it, and the verdict; whoever calls hands in what predicts. `work` is what a model computes, `speed` how
//! fast that will be with the rates that `rating` has workers measure once, `time` how long visits will take by that. Nothing is printed here.

pub mod fit;
pub mod place;
pub mod rating;
pub mod speed;
pub mod time;
pub mod work;

#[cfg(test)]
mod tests;
