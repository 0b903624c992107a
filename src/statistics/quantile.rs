//! Quantiles of samples and of Student's t.

/// Quantile by linear interpolation at rank `fraction · (n − 1)`: type 7 of Hyndman and Fan (1996),
/// the default of R and NumPy. NaN for an empty sample.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks lie between 0 and the sample's length"
)]
pub fn quantile_of_sorted(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let rank = fraction.clamp(0.0, 1.0) * last as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
}

/// The 97.5 % quantile of Student's t: half the width of a 95 % interval in standard errors.
///
/// Exact values for up to 4 degrees of freedom, above it the Cornish–Fisher expansion (Abramowitz
/// and Stegun 26.7.5), whose error is then below 0.005.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "degrees of freedom are few")]
pub fn student_t_975(degrees_of_freedom: usize) -> f64 {
    const NORMAL: f64 = 1.959_963_984_540_054;
    match degrees_of_freedom {
        0 => f64::INFINITY,
        1 => 12.706_204_736,
        2 => 4.302_652_730,
        3 => 3.182_446_305,
        4 => 2.776_445_105,
        many => {
            let (z, n) = (NORMAL, many as f64);
            let first = (z.powi(3) + z) / 4.0;
            let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
            let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
            z + first / n + second / n.powi(2) + third / n.powi(3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_ranks() {
        // numpy.quantile([1, 2, 4, 8], [0, .5, .9, 1]) → 1, 3, 6.8, 8
        let sample = [1.0, 2.0, 4.0, 8.0];
        for (fraction, expected) in [(0.0, 1.0), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile_of_sorted(&sample, fraction) - expected).abs() < 1e-12);
        }
        assert!(quantile_of_sorted(&[], 0.5).is_nan());
    }

    #[test]
    fn student_t_agrees_with_tables() {
        // R: qt(0.975, df)
        for (df, expected) in [(4, 2.776_445), (5, 2.570_582), (9, 2.262_157), (30, 2.042_272)] {
            assert!((student_t_975(df) - expected).abs() < 0.005, "{df}");
        }
    }
}
