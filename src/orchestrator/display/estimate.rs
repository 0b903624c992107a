//! Time left in words.

use crate::units::format_seconds;
use std::time::Duration;

/// Less of some work says nothing of the rest.
const TELLING: f64 = 0.02;

/// How long the rest of some work will take of which a fraction took `length`, in words.
pub(super) fn left(length: Duration, fraction: f64) -> String {
    if fraction < TELLING {
        return "time left not known yet".to_owned();
    }
    format!("about {} left", roughly(length.mul_f64((1.0 - fraction.min(1.0)) / fraction)))
}

/// An estimate, without digits that it cannot have.
pub fn roughly(length: Duration) -> String {
    let seconds = length.as_secs_f64().ceil();
    if seconds < 100.0 { format!("{seconds} s") } else { format_seconds(seconds) }
}
