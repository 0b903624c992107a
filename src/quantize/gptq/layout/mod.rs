//! The block layouts of ggml that GPTQ can write.
//!
//! A block has parts of 16 or 32 weights. A part has a scale and perhaps a minimum, which in super-blocks are integers
//! times a number that the block stores in half precision. A weight is `scale * level(code) - minimum`. Source:
//! `ggml-common.h` of ggml 0.26 and the `dequantize_row_*` functions beside it. Uses `half`; used by the search for scales
//! and codes and by the solver.

mod formats;

use half::f16;

/// Weights of the largest block.
pub(super) const MOST_WEIGHTS: usize = 256;
pub(super) const MOST_PARTS: usize = 16;

/// The levels that codes stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Levels {
    /// The code is the level; lowest and highest.
    Integers(i8, i8),
    /// The code is an index.
    Table(&'static [i8; 16]),
}

impl Levels {
    /// The level of a code.
    pub(super) fn value(self, code: i8) -> f32 {
        match self {
            Self::Integers(..) => f32::from(code),
            Self::Table(table) => f32::from(table[usize::from(code.cast_unsigned() & 15)]),
        }
    }

    /// Lowest and highest level.
    pub(super) fn ends(self) -> (f32, f32) {
        match self {
            Self::Integers(lowest, highest) => (f32::from(lowest), f32::from(highest)),
            Self::Table(table) => (f32::from(table[0]), f32::from(table[15])),
        }
    }
}

/// What the minimum of a part may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Minimum {
    Absent,
    /// The block's number itself, which ggml adds instead of subtracting it.
    Free,
    /// An integer from 0 to this, times the block's number.
    Integers(i16),
}

/// How a format stores a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// ggml's name of the format.
    pub(super) name: &'static str,
    /// Weights in a block.
    pub(super) weights: usize,
    /// Weights in a part: 16 or 32.
    pub(super) part: usize,
    /// Bytes of a block.
    pub(super) bytes: usize,
    pub(super) levels: Levels,
    /// Lowest and highest integer of a part's scale; `None` where the block is one part and its number is the scale.
    pub(super) scale: Option<(i16, i16)>,
    pub(super) minimum: Minimum,
    /// Offsets in bytes of the block's numbers for scales and for minimums.
    numbers_at: (usize, Option<usize>),
    /// Constants that are added to codes and to scales before they are stored.
    added: (u8, u8),
    codes: &'static [Field],
    /// Integers of parts; empty where the block is one part.
    scales: &'static [Field],
    /// Integers of parts; empty without minimums, or where the block is one part.
    minimums: &'static [Field],
}

/// Where some bits of each of several integers are.
#[derive(Debug, Clone, Copy)]
struct Field {
    /// The lowest of the bits.
    from: u32,
    /// As many ones as there are bits.
    mask: u8,
    /// The byte, and the lowest bit there, of the integer with this index.
    at: fn(usize) -> (usize, usize),
}

/// Stores an integer in bits that are zero.
fn store(fields: &[Field], index: usize, integer: u8, bytes: &mut [u8]) {
    for field in fields {
        let (byte, shift) = (field.at)(index);
        bytes[byte] |= (integer >> field.from & field.mask) << shift;
    }
}

fn load(fields: &[Field], index: usize, bytes: &[u8]) -> u8 {
    fields.iter().fold(0, |bits, field| {
        let (byte, shift) = (field.at)(index);
        bits | (bytes[byte] >> shift & field.mask) << field.from
    })
}

/// The numbers in a block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    /// The block's number for scales.
    pub(super) scale: f16,
    /// The block's number for minimums.
    pub(super) minimum: f16,
    /// The integer of each part's scale; 1 where the block is one part.
    pub(super) scales: [i16; MOST_PARTS],
    /// The integer of each part's minimum; -1 where the block is one part.
    pub(super) minimums: [i16; MOST_PARTS],
    pub(super) codes: [i8; MOST_WEIGHTS],
}

impl Default for Block {
    fn default() -> Self {
        Self {
            scale: f16::ZERO,
            minimum: f16::ZERO,
            scales: [1; MOST_PARTS],
            minimums: [1; MOST_PARTS],
            codes: [0; MOST_WEIGHTS],
        }
    }
}

impl Block {
    /// Exact: 11 bits times 8.
    pub(super) fn part_scale(&self, part: usize) -> f32 {
        self.scale.to_f32() * f32::from(self.scales[part])
    }

    /// Exact: 11 bits times 6.
    pub(super) fn part_minimum(&self, part: usize) -> f32 {
        self.minimum.to_f32() * f32::from(self.minimums[part])
    }
}

impl Layout {
    /// The layout of a format by ggml's name; `None` for a format that GPTQ cannot write.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        formats::LAYOUTS.iter().find(|layout| layout.name == name)
    }

    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        formats::LAYOUTS.iter()
    }

    pub(super) fn parts(&self) -> usize {
        self.weights / self.part
    }

    pub(super) fn pack(&self, block: &Block, bytes: &mut [u8]) {
        bytes[..self.bytes].fill(0);
        let (scale, minimum) = self.numbers_at;
        bytes[scale..scale + 2].copy_from_slice(&block.scale.to_le_bytes());
        if let Some(minimum) = minimum {
            bytes[minimum..minimum + 2].copy_from_slice(&block.minimum.to_le_bytes());
        }
        for (index, code) in block.codes[..self.weights].iter().enumerate() {
            store(self.codes, index, code.cast_unsigned().wrapping_add(self.added.0), bytes);
        }
        for part in 0..self.parts() {
            let low = |integer: i16| integer.to_le_bytes()[0];
            store(self.scales, part, low(block.scales[part]).wrapping_add(self.added.1), bytes);
            store(self.minimums, part, low(block.minimums[part]), bytes);
        }
    }

    pub(super) fn unpack(&self, bytes: &[u8], block: &mut Block) {
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (scale, minimum) = self.numbers_at;
        block.scale = half(scale);
        block.minimum = minimum.map_or(f16::ZERO, half);
        for (index, code) in block.codes[..self.weights].iter_mut().enumerate() {
            let stored = load(self.codes, index, bytes);
            *code = stored.wrapping_sub(self.added.0).cast_signed();
        }
        let is_one_part = self.scales.is_empty();
        for part in 0..self.parts() {
            let scale = load(self.scales, part, bytes).wrapping_sub(self.added.1).cast_signed();
            block.scales[part] = if is_one_part { 1 } else { scale.into() };
            block.minimums[part] = load(self.minimums, part, bytes).into();
        }
        if self.minimum == Minimum::Free {
            block.minimums[0] = -1;
        }
    }

    /// The weights that a block stands for: exactly what ggml computes from its bytes.
    pub(super) fn decode(&self, block: &Block, weights: &mut [f32]) {
        for (part, weights) in weights[..self.weights].chunks_exact_mut(self.part).enumerate() {
            let (scale, minimum) = (block.part_scale(part), block.part_minimum(part));
            let codes = &block.codes[part * self.part..][..self.part];
            for (weight, &code) in weights.iter_mut().zip(codes) {
                *weight = scale * self.levels.value(code) - minimum;
            }
        }
    }

    /// The weights that rows of bytes stand for.
    pub(super) fn decode_bytes(&self, bytes: &[u8], weights: &mut [f32]) {
        let mut block = Block::default();
        for (bytes, weights) in
            bytes.chunks_exact(self.bytes).zip(weights.chunks_exact_mut(self.weights))
        {
            self.unpack(bytes, &mut block);
            self.decode(&block, weights);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::blocks;
    use crate::model::gguf::GgmlType;

    /// A block with every field at random.
    fn random_block(layout: &Layout, random: &mut fastrand::Rng) -> Block {
        let mut half = || f16::from_f32((random.f32() - 0.5) * 10_f32.powi(random.i32(-5..=4)));
        let (scale, minimum) = (half(), half());
        let mut block = Block { scale, ..Block::default() };
        if layout.minimum == Minimum::Absent {
            block.minimums = [0; MOST_PARTS];
        } else {
            block.minimum = minimum;
        }
        for part in 0..layout.parts() {
            if let Some((least, most)) = layout.scale {
                block.scales[part] = random.i16(least..=most);
            }
            if let Minimum::Integers(most) = layout.minimum {
                block.minimums[part] = random.i16(0..=most);
            } else if layout.minimum == Minimum::Free {
                block.minimums[part] = -1;
            }
        }
        let (least, most) = match layout.levels {
            Levels::Integers(least, most) => (least, most),
            Levels::Table(_) => (0, 15),
        };
        for code in &mut block.codes[..layout.weights] {
            *code = random.i8(least..=most);
        }
        block
    }

    #[test]
    fn weights_are_exactly_those_of_ggml() {
        let mut random = fastrand::Rng::with_seed(6);
        for layout in Layout::all() {
            let format = GgmlType::from_name(layout.name).unwrap();
            assert_eq!(u64::try_from(layout.bytes), Ok(format.block_bytes()), "{}", layout.name);
            let mut bytes = vec![0; layout.bytes];
            for _ in 0..50 {
                layout.pack(&random_block(layout, &mut random), &mut bytes);
                let mut own = vec![0.0; layout.weights];
                layout.decode_bytes(&bytes, &mut own);
                let mut expected = Vec::new();
                blocks::dequantize(format, &bytes, &mut expected).unwrap();
                assert_eq!(own, expected, "{}", layout.name);
            }
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_and_every_bit_has_its_place() {
        let mut random = fastrand::Rng::with_seed(7);
        for layout in Layout::all() {
            let mut bytes = vec![0; layout.bytes];
            let mut seen = vec![0_u8; layout.bytes];
            for _ in 0..50 {
                let block = random_block(layout, &mut random);
                layout.pack(&block, &mut bytes);
                let mut again = Block::default();
                layout.unpack(&bytes, &mut again);
                let parts = layout.parts();
                assert_eq!(block.scale, again.scale, "{}", layout.name);
                assert_eq!(block.scales[..parts], again.scales[..parts], "{}", layout.name);
                let weights = |block: &Block| {
                    let mut weights = [0.0; MOST_WEIGHTS];
                    layout.decode(block, &mut weights);
                    weights.map(f32::to_bits)
                };
                assert_eq!(weights(&block), weights(&again), "{}", layout.name);
                seen.iter_mut().zip(&bytes).for_each(|(seen, byte)| *seen |= byte);
            }
            assert!(seen.iter().all(|&bits| bits == u8::MAX), "{}: unused bits", layout.name);
        }
    }
}
