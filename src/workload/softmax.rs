//! Log-softmax and divergence of one position, vectorised.
//!
//! Sums run in 16 f32 streams for 64 steps at a time and then in f64, so that the error stays near
//! 1e-7 for any vocabulary. Equal logits give bitwise equal log-probabilities, and therefore a
//! divergence of exactly 0.

use wide::f32x16;

const LANES: usize = 16;
/// Elements per f32 partial sum.
const BLOCK: usize = LANES * 64;

/// The log of the sum of the exponentials of `logits`.
///
/// NaN if a logit is NaN: a broken variant must show, not average out.
#[must_use]
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let maximum = maximum(logits);
    if maximum == f32::NEG_INFINITY || maximum.is_nan() {
        return maximum;
    }
    let shift = f32x16::splat(maximum);
    let sum = sum_blocks(logits, |streams| (streams - shift).exp(), |x| (x - maximum).exp());
    #[expect(clippy::cast_possible_truncation, reason = "log-probabilities are kept in f32")]
    let log = sum.ln() as f32;
    maximum + log
}

/// The largest value; NaN if one is NaN.
fn maximum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut streams = f32x16::splat(f32::NEG_INFINITY);
    let mut nan = f32x16::ZERO;
    for chunk in chunks {
        let values = f32x16::new(*chunk);
        streams = streams.fast_max(values);
        // 0 for every finite value and NaN for NaN, which then stays.
        nan += values * f32x16::ZERO;
    }
    let infinite_or_nan = nan.to_array().iter().any(|value| value.is_nan());
    let mut result = streams.to_array().into_iter().fold(f32::NEG_INFINITY, f32::max);
    result = rest.iter().copied().fold(result, f32::max);
    if (infinite_or_nan || rest.iter().any(|value| value.is_nan()))
        && values.iter().any(|value| value.is_nan())
    {
        return f32::NAN;
    }
    result
}

/// Sums `vector` over whole groups of streams and `scalar` over the rest.
fn sum_blocks(
    values: &[f32],
    vector: impl Fn(f32x16) -> f32x16,
    scalar: impl Fn(f32) -> f32,
) -> f64 {
    let mut sum = 0.0_f64;
    for block in values.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut streams = f32x16::ZERO;
        for chunk in chunks {
            streams += vector(f32x16::new(*chunk));
        }
        sum += f64::from(streams.reduce_add());
        sum += rest.iter().map(|&value| f64::from(scalar(value))).sum::<f64>();
    }
    sum
}

/// Turns logits into log-probabilities, in place.
pub fn log_softmax(row: &mut [f32]) {
    let normaliser = log_sum_exp(row);
    for value in row {
        *value -= normaliser;
    }
}

/// Index of the largest value; the first of equals. 0 for an empty slice.
#[must_use]
pub fn index_of_maximum(values: &[f32]) -> usize {
    let maximum = maximum(values);
    // The maximum is one of the values, so only the very same number counts.
    values.iter().position(|value| value.total_cmp(&maximum).is_eq()).unwrap_or(0)
}

/// KL(reference ‖ variant) in nats, from the reference's log-probabilities and the variant's
/// logits with their [`log_sum_exp`].
#[must_use]
pub fn divergence(reference: &[f32], logits: &[f32], normaliser: f32) -> f64 {
    let shift = f32x16::splat(normaliser);
    let mut sum = 0.0_f64;
    for (reference, logits) in reference.chunks(BLOCK).zip(logits.chunks(BLOCK)) {
        let (reference_chunks, reference_rest) = reference.as_chunks::<LANES>();
        let (logit_chunks, logit_rest) = logits.as_chunks::<LANES>();
        let mut streams = f32x16::ZERO;
        for (reference, logits) in reference_chunks.iter().zip(logit_chunks) {
            let log_p = f32x16::new(*reference);
            let log_q = f32x16::new(*logits) - shift;
            streams += log_p.exp() * (log_p - log_q);
        }
        sum += f64::from(streams.reduce_add());
        for (log_p, logit) in reference_rest.iter().zip(logit_rest) {
            sum += f64::from(log_p.exp() * (log_p - (logit - normaliser)));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact_log_sum_exp(logits: &[f32]) -> f64 {
        let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - maximum).exp()).sum();
        f64::from(maximum) + sum.ln()
    }

    fn exact_divergence(p: &[f32], q: &[f32]) -> f64 {
        let (norm_p, norm_q) = (exact_log_sum_exp(p), exact_log_sum_exp(q));
        p.iter()
            .zip(q)
            .map(|(&p, &q)| {
                let log_p = f64::from(p) - norm_p;
                log_p.exp() * (log_p - (f64::from(q) - norm_q))
            })
            .sum()
    }

    proptest! {
        #[test]
        fn agrees_with_f64_arithmetic(
            p in prop::collection::vec(-30.0_f32..30.0, 1..3000),
            noise in prop::collection::vec(-2.0_f32..2.0, 3000),
        ) {
            let q: Vec<f32> = p.iter().zip(&noise).map(|(p, noise)| p + noise).collect();
            prop_assert!((f64::from(log_sum_exp(&p)) - exact_log_sum_exp(&p)).abs() < 1e-5);
            let mut log_p = p.clone();
            log_softmax(&mut log_p);
            let measured = divergence(&log_p, &q, log_sum_exp(&q));
            prop_assert!((measured - exact_divergence(&p, &q)).abs() < 2e-5);
        }

        #[test]
        fn equal_logits_diverge_by_exactly_zero(
            logits in prop::collection::vec(-40.0_f32..40.0, 1..5000),
        ) {
            let mut log_p = logits.clone();
            log_softmax(&mut log_p);
            prop_assert_eq!(divergence(&log_p, &logits, log_sum_exp(&logits)).to_bits(), 0);
        }
    }

    #[test]
    fn a_nan_shows() {
        let mut logits = vec![0.5_f32; 40];
        logits[3] = f32::NAN;
        assert!(log_sum_exp(&logits).is_nan());
        logits[3] = 0.5;
        logits[39] = f32::NAN;
        assert!(log_sum_exp(&logits).is_nan());
    }

    #[test]
    fn masked_tokens_are_no_error() {
        let mut logits = vec![1.0_f32; 33];
        logits[5] = f32::NEG_INFINITY;
        assert!((f64::from(log_sum_exp(&logits)) - (1.0 + 32.0_f64.ln())).abs() < 1e-6);
    }

    #[test]
    fn the_first_of_equal_maxima_is_taken() {
        assert_eq!(index_of_maximum(&[1.0, 7.0, 7.0, -1.0]), 1);
        assert_eq!(index_of_maximum(&[]), 0);
    }
}
