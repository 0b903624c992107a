//! Drift: whether a figure that should stay put moves with time.

use super::estimate::{Estimate, Interval};
use super::interval::student_t;
use super::sample::{Sample, to_f64};

/// One measurement at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When, in any unit.
    pub at: f64,
    /// What was measured.
    pub value: f64,
}

/// Change from the first to the last point as a fraction of the median (−0.03: 3 % less at the
/// end), along the least-squares line, with the 95 % interval of its slope (Student's t with n − 2
/// degrees of freedom). `None` with fewer than three points, no time between them, or a median
/// that is not positive.
pub fn relative_change(points: &[Point]) -> Option<Estimate> {
    if points.len() < 3 {
        return None;
    }
    let times = Sample::new(points.iter().map(|point| point.at))?;
    let values = Sample::new(points.iter().map(|point| point.value))?;
    let span = times.maximum() - times.minimum();
    let (mean_time, mean_value, median) = (times.mean(), values.mean(), values.median());
    if span <= 0.0 || median <= 0.0 {
        return None;
    }
    let spread: f64 = points.iter().map(|point| (point.at - mean_time).powi(2)).sum();
    let slope =
        points.iter().map(|point| (point.at - mean_time) * (point.value - mean_value)).sum::<f64>()
            / spread;
    let residuals: f64 = points
        .iter()
        .map(|point| (point.value - mean_value - slope * (point.at - mean_time)).powi(2))
        .sum();
    let degrees = points.len() - 2;
    let error = (residuals / to_f64(degrees) / spread).sqrt();
    let half = student_t(degrees) * error;
    let scale = span / median;
    let interval = Interval { low: (slope - half) * scale, high: (slope + half) * scale };
    Some(Estimate { value: slope * scale, interval: Some(interval), n: points.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        (0..).zip(values).map(|(at, &value)| Point { at: f64::from(at), value }).collect()
    }

    #[test]
    fn a_machine_that_grows_hot_shows_as_a_fall() {
        let change = relative_change(&points(&[100.0, 98.1, 96.0, 93.9, 92.0])).unwrap();
        assert!((change.value + 0.084_166_7).abs() < 1e-6, "{change:?}");
        assert!(change.interval.unwrap().high < -0.07);
    }

    #[test]
    fn noise_without_direction_is_no_drift() {
        let change = relative_change(&points(&[100.0, 103.0, 98.0, 101.0, 99.0])).unwrap();
        assert!(change.interval.unwrap().contains(0.0));
    }

    #[test]
    fn the_slope_and_its_interval_are_those_of_scipy() {
        // SciPy: stats.linregress(range(5), [2, 4, 5, 4, 5]): slope 0.6; with its stderr and
        // stats.t.ppf(0.975, 3): -0.3001317 to 1.5001317.
        let change = relative_change(&points(&[2.0, 4.0, 5.0, 4.0, 5.0])).unwrap();
        assert!((change.value - 0.6 * 4.0 / 4.0).abs() < 1e-9);
        assert!((change.interval.unwrap().low + 0.300_132).abs() < 1e-5);
    }

    #[test]
    fn too_few_or_simultaneous_points_have_no_trend() {
        assert_eq!(relative_change(&points(&[1.0, 2.0])), None);
        let same = [Point { at: 1.0, value: 2.0 }; 4];
        assert_eq!(relative_change(&same), None);
    }
}
