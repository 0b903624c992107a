//! The block layouts of ggml that GPTQ can write: what numbers a block holds and how its bytes hold them.
//!
//! Every layout here is the same idea with other figures: a block is cut into parts of 16 or 32 weights;
//! a part has a scale and perhaps a minimum, themselves integers times a number that the block stores
//! in half precision; a weight is `scale * level(code) - minimum`. Source of the figures and of the
//! bits: `ggml-common.h` of ggml 0.26 and the `dequantize_row_*` functions beside it. Uses `half`;
//! used by the search for scales and codes and by the solver.

mod plain;
mod super_blocks;

use half::f16;

/// Most weights in a block.
pub const MOST_WEIGHTS: usize = 256;
/// Most parts in a block.
pub const MOST_PARTS: usize = 16;

/// The values that codes stand for, before scale and minimum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Levels {
    /// The integers from the first to the second.
    Integers(i8, i8),
    /// Code `i` stands for the table's `i`th value.
    Table(&'static [i8; 16]),
}

impl Levels {
    /// The value of a code.
    #[must_use]
    pub fn value(self, code: i8) -> f32 {
        match self {
            Self::Integers(..) => f32::from(code),
            Self::Table(table) => f32::from(table[usize::from(code.cast_unsigned() & 15)]),
        }
    }

    /// Least and greatest value.
    #[must_use]
    pub fn ends(self) -> (f32, f32) {
        match self {
            Self::Integers(lowest, highest) => (f32::from(lowest), f32::from(highest)),
            Self::Table(table) => (f32::from(table[0]), f32::from(table[15])),
        }
    }
}

/// What the minimum of a part may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minimum {
    /// There is none.
    Absent,
    /// One number in half precision for the block.
    Free,
    /// An integer from 0 to this, times the block's number.
    Integers(i16),
}

/// How one of ggml's formats arranges a block.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// ggml's name of the format.
    pub name: &'static str,
    /// Weights in a block.
    pub weights: usize,
    /// Weights in a part: 16 or 32.
    pub part: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// What codes stand for.
    pub levels: Levels,
    /// Least and greatest integer that a part's scale may be, times the block's number; `None` where
    /// the block is one part and its number is the scale.
    pub scale: Option<(i16, i16)>,
    /// What a part's minimum may be.
    pub minimum: Minimum,
    pack: fn(&Block, &mut [u8]),
    unpack: fn(&[u8], &mut Block),
}

/// The numbers in a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The block's number for scales.
    pub scale: f16,
    /// The block's number for minimums.
    pub minimum: f16,
    /// The integer of each part's scale; 1 where the block is one part.
    pub scales: [i16; MOST_PARTS],
    /// The integer of each part's minimum.
    pub minimums: [i16; MOST_PARTS],
    /// The code of each weight.
    pub codes: [i8; MOST_WEIGHTS],
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
    /// Scale of a part. Exact: 11 bits times 8.
    #[must_use]
    pub fn part_scale(&self, part: usize) -> f32 {
        self.scale.to_f32() * f32::from(self.scales[part])
    }

    /// What a part subtracts. Exact: 11 bits times 6.
    #[must_use]
    pub fn part_minimum(&self, part: usize) -> f32 {
        self.minimum.to_f32() * f32::from(self.minimums[part])
    }
}

impl Layout {
    /// The layout of a format by ggml's name; `None` for a format that GPTQ cannot write.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        plain::LAYOUTS.iter().chain(&super_blocks::LAYOUTS).find(|layout| layout.name == name)
    }

    /// Every layout.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = &'static Self> {
        plain::LAYOUTS.iter().chain(&super_blocks::LAYOUTS)
    }

    /// Number of parts in a block.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.weights / self.part
    }

    /// Writes a block's bytes.
    pub fn pack(&self, block: &Block, bytes: &mut [u8]) {
        bytes[..self.bytes].fill(0);
        (self.pack)(block, bytes);
    }

    /// Reads a block's bytes.
    pub fn unpack(&self, bytes: &[u8], block: &mut Block) {
        (self.unpack)(bytes, block);
    }

    /// The weights that a block stands for: exactly what ggml computes from its bytes.
    pub fn decode(&self, block: &Block, weights: &mut [f32]) {
        for (part, weights) in weights[..self.weights].chunks_exact_mut(self.part).enumerate() {
            let (scale, minimum) = (block.part_scale(part), block.part_minimum(part));
            let codes = &block.codes[part * self.part..][..self.part];
            for (weight, &code) in weights.iter_mut().zip(codes) {
                *weight = scale * self.levels.value(code) - minimum;
            }
        }
    }

    /// The weights that rows of bytes stand for.
    pub fn decode_bytes(&self, bytes: &[u8], weights: &mut [f32]) {
        let mut block = Block::default();
        for (bytes, weights) in
            bytes.chunks_exact(self.bytes).zip(weights.chunks_exact_mut(self.weights))
        {
            self.unpack(bytes, &mut block);
            self.decode(&block, weights);
        }
    }
}

/// Half precision from two bytes.
fn read_half(bytes: &[u8]) -> f16 {
    f16::from_le_bytes([bytes[0], bytes[1]])
}

/// The bits of a code that are stored, seen as an unsigned number.
fn bits(code: i8, add: i8) -> u8 {
    code.wrapping_add(add).cast_unsigned()
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
