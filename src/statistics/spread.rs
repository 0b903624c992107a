//! A standard deviation that was estimated, with how sure that is.

/// Spread of observations around their centres, pooled over several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Standard deviation.
    pub deviation: f64,
    /// Degrees of freedom of it.
    pub degrees: usize,
}
