//! Statistics of small samples: nothing here knows what was measured.

pub mod quantile;

pub use quantile::{quantile_of_sorted, student_t_975};
