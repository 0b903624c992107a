//! Statistics over small samples: medians, quantiles, 95 % intervals, paired comparisons, drift.
//!
//! Pure functions over numbers: nothing here knows what was measured. Used by `results`.

pub mod estimate;
