//! Divergences that were not measured, estimated from measured ones and the rounding errors of the weights.
//!
//! Divergence is quadratic in a small change of the weights, so it is proportional to the squared rounding error. With two
//! measured types a line through both on logarithmic scales fits the model's own exponent.

/// Divergences of all alternatives, from the errors of their weights: on a line between two measured ones on logarithmic
/// scales; with a single one, proportional to the error.
pub(super) fn interpolate(errors: &[f64], measured: &[Option<f64>]) -> Vec<f64> {
    let mut known: Vec<(f64, f64)> = errors
        .iter()
        .zip(measured)
        .filter_map(|(&error, measured)| Some((error, (*measured)?)))
        .filter(|&(error, kld)| error > 0.0 && kld > 0.0)
        .map(|(error, kld)| (error.ln(), kld.ln()))
        .collect();
    known.sort_by(|one, other| one.0.total_cmp(&other.0));
    errors
        .iter()
        .zip(measured)
        .map(|(&error, measured)| match (measured, known.is_empty()) {
            (Some(kld), _) => *kld,
            (None, true) => 0.0,
            (None, false) if error <= 0.0 => 0.0,
            (None, false) => line(&known, error.ln()).exp(),
        })
        .collect()
}

/// The value at `at` of the line through the two points around or next to it; slope 1 through a single one.
fn line(points: &[(f64, f64)], at: f64) -> f64 {
    let upper = points.partition_point(|point| point.0 < at).clamp(1, points.len().max(2) - 1);
    match (points.get(upper - 1), points.get(upper)) {
        (Some(&(x0, y0)), Some(&(x1, y1))) if x1 - x0 > 1e-9 => {
            y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        }
        (Some(&(x0, y0)), _) => y0 + at - x0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f64], wanted: &[f64]) {
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() <= 1e-9 * wanted.abs(), "{found} is not {wanted}");
        }
        assert_eq!(found.len(), wanted.len());
    }

    #[test]
    fn one_measurement_gives_the_others_in_proportion() {
        assert_close(&interpolate(&[4.0, 1.0, 0.0], &[None, Some(0.5), None]), &[2.0, 0.5, 0.0]);
    }

    #[test]
    fn two_measurements_give_a_power_law() {
        // KLD = error^1.5: within, below and above what was measured.
        let found = interpolate(&[16.0, 4.0, 9.0, 1.0], &[Some(64.0), Some(8.0), None, None]);
        assert_close(&found, &[64.0, 8.0, 27.0, 1.0]);
    }

    #[test]
    fn nothing_measured_above_zero_gives_zero() {
        assert_close(&interpolate(&[4.0, 1.0], &[Some(0.0), None]), &[0.0, 0.0]);
    }
}
