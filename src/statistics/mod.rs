//! Statistics over small samples: medians, quantiles, 95 % intervals, paired comparisons, drift.
//!
//! Pure functions over numbers: nothing here knows what was measured. Used by `metrics` and `results`.
//!
//! `sample` holds observations and their quantiles, `estimate` a value with its interval, `interval`
//! makes one from the other, `paired` compares two samples observation by observation, `bootstrap`
//! does both for quantiles of observations that come in clusters and draws questions again,
//! `race` compares many in the same rounds, whose noise is a `spread`, `proportion` is about answers of yes or no, `trend` finds drift over time.

pub mod bootstrap;
pub mod estimate;
pub mod interval;
pub mod paired;
pub mod proportion;
pub mod race;
pub mod sample;
pub mod spread;
pub mod trend;
