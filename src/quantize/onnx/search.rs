//! Scales and zero points of 4 bits, searched for as K-quants search for theirs.
//!
//! Every block is rounded with several scales; of each, least squares give the best scale for the numbers that came out,
//! and the one with the least weighted error is taken. Weights are those of ggml's `quantize_row_q4_K_ref`: large
//! weights matter more. Unlike there, scales are stored in full, and zero points are whole numbers.

use super::blocks::Packed;

/// Weights of a block.
const BLOCK: usize = 32;
/// The largest number of 4 bits.
const MOST: f32 = 15.0;
/// How far scales are varied, in steps of the range, and how many are tried on either side.
const STEP: f32 = 0.15;
const STEPS: i16 = 5;

/// Rows of whole blocks, rounded.
pub(super) fn searched(values: &[f32], columns: usize) -> Packed {
    let mut packed = Packed { blocks: columns / BLOCK, ..Packed::default() };
    for block in values.chunks_exact(BLOCK) {
        let best = search(block);
        packed.push(4, &best.numbers, best.scale, Some(best.zero_point));
    }
    packed
}

struct Rounded {
    numbers: [u8; BLOCK],
    scale: f32,
    zero_point: f32,
}

fn search(values: &[f32]) -> Rounded {
    let (mut least, mut most, mut squares) = (0.0_f32, 0.0_f32, 0.0_f32);
    for &value in values {
        (least, most) = (least.min(value), most.max(value));
        squares += value * value;
    }
    let mut best = Rounded { numbers: [8; BLOCK], scale: 0.0, zero_point: 8.0 };
    if most <= least {
        return best;
    }
    let typical = (squares / 32.0).sqrt();
    let weight = |value: f32| typical + value.abs();
    // What least squares explain of the weighted squares: the more, the less error.
    let mut explained = 0.0;
    for step in -STEPS..=STEPS {
        let inverse = (MOST + f32::from(step) * STEP) / (most - least);
        let zero = -least * inverse;
        for zero_point in [zero.floor(), zero.ceil()] {
            let zero_point = zero_point.clamp(0.0, MOST);
            let (mut cross, mut own) = (0.0_f32, 0.0_f32);
            for &value in values {
                let level = rounded(value, inverse, zero_point) - zero_point;
                cross += weight(value) * value * level;
                own += weight(value) * level * level;
            }
            if own > 0.0 && cross * cross > explained * own {
                explained = cross * cross / own;
                best.scale = cross / own;
                best.zero_point = zero_point;
                for (number, &value) in best.numbers.iter_mut().zip(values) {
                    *number = to_number(rounded(value, inverse, zero_point));
                }
            }
        }
    }
    best
}

fn rounded(value: f32, inverse: f32, zero_point: f32) -> f32 {
    (value * inverse + zero_point).round_ties_even().clamp(0.0, MOST)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 15")]
fn to_number(value: f32) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::backend::Backend;
    use crate::engine::llama::blocks as ggml;
    use crate::model::gguf::GgmlType;

    /// A normal distribution, nearly: sums of twelve.
    fn normal(random: &mut fastrand::Rng) -> f32 {
        (0..12).map(|_| random.f32()).sum::<f32>() - 6.0
    }

    fn values(packed: &Packed) -> Vec<f32> {
        let numbers = packed.numbers.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        let value = |(at, number): (usize, u8)| {
            (f32::from(number) - packed.zero_points[at / BLOCK]) * packed.scales[at / BLOCK]
        };
        numbers.enumerate().map(value).collect()
    }

    fn error(values: &[f32], rounded: &[f32]) -> f32 {
        values.iter().zip(rounded).map(|(value, rounded)| (value - rounded).powi(2)).sum()
    }

    #[test]
    fn a_search_leaves_less_error_than_rounding_to_the_nearest() {
        let _backend = Backend::initialise();
        let mut random = fastrand::Rng::with_seed(5);
        let weights: Vec<f32> = (0..256 * 64).map(|_| normal(&mut random)).collect();
        let searched = error(&weights, &values(&searched(&weights, 256)));
        for (name, share) in [("Q4_0", 0.85), ("Q4_1", 1.0)] {
            let format = GgmlType::from_name(name).unwrap();
            let rounded = ggml::rounded(format, &weights, 256, None).unwrap();
            let error = error(&weights, &rounded);
            assert!(searched < share * error, "{name}: {searched} {error}");
        }
    }

    #[test]
    fn blocks_of_nothing_and_of_one_sign_are_stored() {
        let mut block = [0.0_f32; BLOCK];
        assert_eq!(values(&searched(&block, 32)), block);
        for (at, value) in block.iter_mut().enumerate() {
            *value = if at % 2 == 0 { 1.5 } else { 3.0 };
        }
        for sign in [1.0, -1.0] {
            let signed = block.map(|value| value * sign);
            let rounded = values(&searched(&signed, 32));
            assert!(error(&signed, &rounded) < 1e-3, "{sign}: {rounded:?}");
        }
    }
}
