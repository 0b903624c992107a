//! Blocks of ggml's formats as blocks of `MatMulNBits`, without rounding them again.
//!
//! Both store whole numbers with a scale per block; `MatMulNBits` computes (number − zero point) × scale. A format is known
//! here if its steps are even and no shorter than 16 weights. Layouts: ggml-quants.c of ggml 0.26, `dequantize_row_*`.

use super::weight::{BlockForm, ZeroPoints};
use crate::model::gguf::GgmlType;
use half::f16;

/// How blocks of a format of ggml are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Bits of a weight in `MatMulNBits`, which has 4 and 8.
    pub(super) bits: u8,
    /// Weights that share a scale.
    pub(super) block: usize,
    /// Blocks do not reach as far below zero as above.
    pub(super) has_zero_points: bool,
}

/// How the blocks of a format are taken over; `None`: they cannot be.
pub(super) fn known(format: GgmlType) -> Option<Known> {
    let known = |bits, block, has_zero_points| Some(Known { bits, block, has_zero_points });
    match format.name() {
        "Q4_0" => known(4, 32, false),
        "Q4_1" | "Q4_K" => known(4, 32, true),
        "Q5_0" | "Q8_0" => known(8, 32, false),
        "Q5_1" | "Q5_K" => known(8, 32, true),
        "Q6_K" => known(8, 16, false),
        _ => None,
    }
}

/// Rows in blocks.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Whole numbers, two in a byte where they have 4 bits, the first one in the low half.
    pub(super) numbers: Vec<u8>,
    /// One per block.
    pub(super) scales: Vec<f32>,
    /// One per block, or none at all.
    pub(super) zero_points: Vec<f32>,
    /// Blocks of a row.
    pub(super) blocks: usize,
}

impl Packed {
    /// Adds a block of whole numbers of 4 or 8 bits.
    pub(super) fn push(&mut self, bits: u8, numbers: &[u8], scale: f32, zero_point: Option<f32>) {
        if bits == 4 {
            self.numbers.extend(
                numbers.chunks(2).map(|two| two[0] | two.get(1).copied().unwrap_or(0) << 4),
            );
        } else {
            self.numbers.extend_from_slice(numbers);
        }
        self.scales.push(scale);
        self.zero_points.extend(zero_point);
    }

    /// A block of `number × scale + least`.
    fn push_from(&mut self, bits: u8, numbers: &mut [u8], scale: f32, least: f32) {
        if scale == 0.0 {
            // Every weight is `least`: (0 − −1) × least.
            numbers.fill(0);
            return self.push(bits, numbers, least, Some(-1.0));
        }
        self.push(bits, numbers, scale, Some(-least / scale));
    }
}

/// Rows of `columns` weights in one of the known formats; nothing of others.
pub(super) fn taken(format: GgmlType, bytes: &[u8], columns: usize) -> Packed {
    let mut packed = Packed::default();
    let Some(Known { block, .. }) = known(format) else { return packed };
    packed.blocks = columns / block;
    let size = usize::try_from(format.block_bytes()).unwrap_or(usize::MAX);
    for bytes in bytes.chunks_exact(size) {
        match format.name() {
            "Q4_0" => packed.push(4, &nibbles(&bytes[2..]), half(bytes), None),
            "Q4_1" => {
                packed.push_from(4, &mut nibbles(&bytes[4..]), half(bytes), half(&bytes[2..]));
            }
            "Q5_0" => {
                let mut numbers = nibbles(&bytes[6..]);
                fifth_bits(&mut numbers, &bytes[2..6]);
                packed.push(8, &numbers.map(|number| number + (128 - 16)), half(bytes), None);
            }
            "Q5_1" => {
                let mut numbers = nibbles(&bytes[8..]);
                fifth_bits(&mut numbers, &bytes[4..8]);
                packed.push_from(8, &mut numbers, half(bytes), half(&bytes[2..]));
            }
            "Q8_0" => {
                let numbers: Vec<u8> = bytes[2..].iter().map(|number| number ^ 0x80).collect();
                packed.push(8, &numbers, half(bytes), None);
            }
            "Q6_K" => six_bits(bytes, &mut packed),
            "Q4_K" => with_minimums(bytes, &bytes[16..], None, 4, &mut packed),
            "Q5_K" => with_minimums(bytes, &bytes[48..], Some(&bytes[16..48]), 8, &mut packed),
            _ => {}
        }
    }
    packed
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// 32 numbers: the low halves of 16 bytes, then the high ones.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|at| bytes[at % 16] >> (at / 16 * 4) & 15)
}

fn fifth_bits(numbers: &mut [u8; 32], bits: &[u8]) {
    for (at, number) in numbers.iter_mut().enumerate() {
        *number |= (bits[at / 8] >> (at % 8) & 1) << 4;
    }
}

/// A super-block of `Q6_K`: 128 bytes of low halves, 64 of upper bits, 16 scales, the scale of scales.
fn six_bits(bytes: &[u8], packed: &mut Packed) {
    let mut numbers = [0_u8; 256];
    for (at, number) in numbers.iter_mut().enumerate() {
        // Halves of 128 weights, in quarters of 32.
        let (part, quarter, place) = (at / 128, at % 128 / 32, at % 32);
        let low = bytes[part * 64 + quarter % 2 * 32 + place] >> (quarter / 2 * 4) & 15;
        let high = bytes[128 + part * 32 + place] >> (quarter * 2) & 3;
        *number = (low | high << 4) + (128 - 32);
    }
    let scale = half(&bytes[208..]);
    for (block, numbers) in numbers.chunks_exact(16).enumerate() {
        packed.push(8, numbers, scale * f32::from(bytes[192 + block].cast_signed()), None);
    }
}

/// A super-block of `Q4_K` or `Q5_K`: scales of scales and of minimums, eight of each in 6 bits, then the weights.
fn with_minimums(
    bytes: &[u8],
    weights: &[u8],
    fifth: Option<&[u8]>,
    bits: u8,
    packed: &mut Packed,
) {
    let (scale, least) = (half(bytes), half(&bytes[2..]));
    let six = &bytes[4..16];
    for block in 0..8 {
        let (own_scale, own_least) = match block {
            0..4 => (six[block] & 63, six[block + 4] & 63),
            _ => (
                six[block + 4] & 15 | six[block - 4] >> 6 << 4,
                six[block + 4] >> 4 | six[block] >> 6 << 4,
            ),
        };
        let mut numbers: [u8; 32] = std::array::from_fn(|at| {
            let low = weights[block / 2 * 32 + at] >> (block % 2 * 4) & 15;
            low | fifth.map_or(0, |fifth| fifth[at] >> block & 1) << 4
        });
        let scale = scale * f32::from(own_scale);
        packed.push_from(bits, &mut numbers, scale, -least * f32::from(own_least));
    }
}

/// The tensors of a weight: numbers, scales, zero points.
pub(super) fn joined(parts: &[Packed], form: BlockForm) -> Vec<Vec<u8>> {
    let numbers = parts.iter().flat_map(|part| &part.numbers).copied().collect();
    let floats = |get: fn(&Packed) -> &Vec<f32>| {
        parts.iter().flat_map(get).flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
    };
    let mut data = vec![numbers, floats(|part| &part.scales)];
    match form.zero_points {
        None => {}
        Some(ZeroPoints::Float) => data.push(floats(|part| &part.zero_points)),
        Some(ZeroPoints::Whole) => {
            let rows = parts.iter().flat_map(|part| part.zero_points.chunks(part.blocks.max(1)));
            data.push(rows.flat_map(halves).collect());
        }
    }
    data
}

/// The zero points of a row, two in a byte.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "they are from 0 to 15"
)]
fn halves(row: &[f32]) -> impl Iterator<Item = u8> + '_ {
    row.chunks(2).map(|two| two[0] as u8 | (two.get(1).copied().unwrap_or(0.0) as u8) << 4)
}

#[cfg(test)]
mod tests {
    use super::super::weight::BlockSource;
    use super::*;
    use crate::engine::llama::backend::Backend;
    use crate::engine::llama::blocks as ggml;

    /// What MatMulNBits makes of blocks.
    fn values(packed: &Packed, known: Known) -> Vec<f32> {
        let middle = if known.bits == 4 { 8.0 } else { 128.0 };
        let numbers: Vec<u8> = match known.bits {
            4 => packed.numbers.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect(),
            _ => packed.numbers.clone(),
        };
        let value = |(at, number): (usize, u8)| {
            let block = at / known.block;
            let zero = packed.zero_points.get(block).copied().unwrap_or(middle);
            (f32::from(number) - zero) * packed.scales[block]
        };
        numbers.into_iter().enumerate().map(value).collect()
    }

    fn weights() -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut weights: Vec<f32> = (0..1024).map(|_| random.f32() * 2.0 - 0.7).collect();
        weights[512..544].fill(0.0);
        weights[544..576].fill(0.25);
        weights
    }

    #[test]
    fn blocks_that_are_taken_over_mean_what_they_meant() {
        let _backend = Backend::initialise();
        let mut tried = 0;
        for format in GgmlType::all() {
            let Some(known) = known(format) else { continue };
            let bytes = ggml::quantize(format, &weights(), 512, None).unwrap();
            let expected = ggml::values(format, &bytes).unwrap();
            let packed = taken(format, &bytes, 512);
            assert_eq!(packed.blocks * 2, packed.scales.len(), "{format}");
            assert_eq!(packed.zero_points.is_empty(), !known.has_zero_points, "{format}");
            for (found, expected) in values(&packed, known).iter().zip(&expected) {
                // Zero points cost the rounding of one division.
                let allowed = if known.has_zero_points { 2e-6 } else { 0.0 };
                assert!((found - expected).abs() <= allowed, "{format}: {found} {expected}");
            }
            tried += 1;
        }
        assert_eq!(tried, 8);
    }

    #[test]
    fn whole_zero_points_share_bytes_within_a_row() {
        let form = BlockForm {
            bits: 4,
            block: 32,
            zero_points: Some(ZeroPoints::Whole),
            source: BlockSource::Searched,
            is_table: false,
        };
        let mut packed = Packed { blocks: 3, ..Packed::default() };
        for zero_point in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] {
            packed.push(4, &[1, 2, 3, 4], 0.5, Some(zero_point));
        }
        let [numbers, scales, zero_points] = joined(&[packed], form).try_into().unwrap();
        assert_eq!(numbers[..4], [0x21, 0x43, 0x21, 0x43]);
        assert_eq!(scales.len(), 24);
        assert_eq!(zero_points, [0x21, 0x03, 0x54, 0x06]);
    }
}
