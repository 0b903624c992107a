//! Blocks of 32 weights that are one part: `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0`, `IQ4_NL`.

use super::{Block, Layout, Levels, Minimum, bits, read_half};

/// The values of the non-linear 4-bit formats.
pub(super) static TABLE: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) static LAYOUTS: [Layout; 6] = [
    layout("Q4_0", 18, Levels::Integers(-8, 7), Minimum::Absent, pack_q4_0, unpack_q4_0),
    layout("Q4_1", 20, Levels::Integers(0, 15), Minimum::Free, pack_q4_1, unpack_q4_1),
    layout("Q5_0", 22, Levels::Integers(-16, 15), Minimum::Absent, pack_q5_0, unpack_q5_0),
    layout("Q5_1", 24, Levels::Integers(0, 31), Minimum::Free, pack_q5_1, unpack_q5_1),
    layout("Q8_0", 34, Levels::Integers(-127, 127), Minimum::Absent, pack_q8_0, unpack_q8_0),
    layout("IQ4_NL", 18, Levels::Table(&TABLE), Minimum::Absent, pack_iq4_nl, unpack_iq4_nl),
];

const fn layout(
    name: &'static str,
    bytes: usize,
    levels: Levels,
    minimum: Minimum,
    pack: fn(&Block, &mut [u8]),
    unpack: fn(&[u8], &mut Block),
) -> Layout {
    Layout { name, weights: 32, part: 32, bytes, levels, scale: None, minimum, pack, unpack }
}

/// Weight `j` in the low half of byte `j`, weight `j + 16` in the high half.
pub(super) fn pack_nibbles(codes: &[i8], add: i8, bytes: &mut [u8]) {
    for (j, byte) in bytes[..16].iter_mut().enumerate() {
        *byte = (bits(codes[j], add) & 15) | (bits(codes[j + 16], add) << 4);
    }
}

pub(super) fn unpack_nibbles(bytes: &[u8], subtract: i8, codes: &mut [i8]) {
    for (j, &byte) in bytes[..16].iter().enumerate() {
        codes[j] = (byte & 15).cast_signed() - subtract;
        codes[j + 16] = (byte >> 4).cast_signed() - subtract;
    }
}

/// The fifth bit of every code: weight `j` is bit `j` of 32.
fn pack_fifth_bits(codes: &[i8], add: i8, bytes: &mut [u8]) {
    for (j, &code) in codes[..32].iter().enumerate() {
        bytes[j / 8] |= (bits(code, add) >> 4 & 1) << (j % 8);
    }
}

/// Adds the fifth bits to codes unpacked from nibbles with nothing subtracted.
fn unpack_fifth_bits(bytes: &[u8], subtract: i8, codes: &mut [i8]) {
    for (j, code) in codes[..32].iter_mut().enumerate() {
        *code += ((bytes[j / 8] >> (j % 8) & 1) << 4).cast_signed() - subtract;
    }
}

fn begin(bytes: &[u8], block: &mut Block) {
    block.scale = read_half(bytes);
    block.minimum = half::f16::ZERO;
    block.scales[0] = 1;
    block.minimums[0] = 0;
}

/// ggml adds the second number where [`Block`] subtracts.
fn begin_with_minimum(bytes: &[u8], block: &mut Block) {
    begin(bytes, block);
    block.minimum = read_half(&bytes[2..]);
    block.minimums[0] = -1;
}

fn pack_q4_0(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    pack_nibbles(&block.codes, 8, &mut bytes[2..]);
}

fn unpack_q4_0(bytes: &[u8], block: &mut Block) {
    begin(bytes, block);
    unpack_nibbles(&bytes[2..], 8, &mut block.codes);
}

fn pack_q4_1(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    bytes[2..4].copy_from_slice(&block.minimum.to_le_bytes());
    pack_nibbles(&block.codes, 0, &mut bytes[4..]);
}

fn unpack_q4_1(bytes: &[u8], block: &mut Block) {
    begin_with_minimum(bytes, block);
    unpack_nibbles(&bytes[4..], 0, &mut block.codes);
}

fn pack_q5_0(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    pack_fifth_bits(&block.codes, 16, &mut bytes[2..]);
    pack_nibbles(&block.codes, 16, &mut bytes[6..]);
}

fn unpack_q5_0(bytes: &[u8], block: &mut Block) {
    begin(bytes, block);
    unpack_nibbles(&bytes[6..], 0, &mut block.codes);
    unpack_fifth_bits(&bytes[2..], 16, &mut block.codes);
}

fn pack_q5_1(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    bytes[2..4].copy_from_slice(&block.minimum.to_le_bytes());
    pack_fifth_bits(&block.codes, 0, &mut bytes[4..]);
    pack_nibbles(&block.codes, 0, &mut bytes[8..]);
}

fn unpack_q5_1(bytes: &[u8], block: &mut Block) {
    begin_with_minimum(bytes, block);
    unpack_nibbles(&bytes[8..], 0, &mut block.codes);
    unpack_fifth_bits(&bytes[4..], 0, &mut block.codes);
}

fn pack_q8_0(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    for (byte, code) in bytes[2..34].iter_mut().zip(&block.codes) {
        *byte = code.cast_unsigned();
    }
}

fn unpack_q8_0(bytes: &[u8], block: &mut Block) {
    begin(bytes, block);
    for (code, byte) in block.codes.iter_mut().zip(&bytes[2..34]) {
        *code = byte.cast_signed();
    }
}

fn pack_iq4_nl(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    pack_nibbles(&block.codes, 0, &mut bytes[2..]);
}

fn unpack_iq4_nl(bytes: &[u8], block: &mut Block) {
    begin(bytes, block);
    unpack_nibbles(&bytes[2..], 0, &mut block.codes);
}
