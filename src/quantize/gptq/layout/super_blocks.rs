//! Blocks of 256 weights in 8 or 16 parts: `Q2_K` to `Q6_K` and `IQ4_XS`.

use super::plain::{TABLE, pack_nibbles, unpack_nibbles};
use super::{Block, Layout, Levels, MOST_PARTS, Minimum, bits, read_half};
use half::f16;

pub(super) static LAYOUTS: [Layout; 6] = [
    Layout {
        name: "Q2_K",
        weights: 256,
        part: 16,
        bytes: 84,
        levels: Levels::Integers(0, 3),
        scale: Some((0, 15)),
        minimum: Minimum::Integers(15),
        pack: pack_q2_k,
        unpack: unpack_q2_k,
    },
    Layout {
        name: "Q3_K",
        weights: 256,
        part: 16,
        bytes: 110,
        levels: Levels::Integers(-4, 3),
        scale: Some((-32, 31)),
        minimum: Minimum::Absent,
        pack: pack_q3_k,
        unpack: unpack_q3_k,
    },
    Layout {
        name: "Q4_K",
        weights: 256,
        part: 32,
        bytes: 144,
        levels: Levels::Integers(0, 15),
        scale: Some((0, 63)),
        minimum: Minimum::Integers(63),
        pack: pack_q4_k,
        unpack: unpack_q4_k,
    },
    Layout {
        name: "Q5_K",
        weights: 256,
        part: 32,
        bytes: 176,
        levels: Levels::Integers(0, 31),
        scale: Some((0, 63)),
        minimum: Minimum::Integers(63),
        pack: pack_q5_k,
        unpack: unpack_q5_k,
    },
    Layout {
        name: "Q6_K",
        weights: 256,
        part: 16,
        bytes: 210,
        levels: Levels::Integers(-32, 31),
        scale: Some((-128, 127)),
        minimum: Minimum::Absent,
        pack: pack_q6_k,
        unpack: unpack_q6_k,
    },
    Layout {
        name: "IQ4_XS",
        weights: 256,
        part: 32,
        bytes: 136,
        levels: Levels::Table(&TABLE),
        scale: Some((-32, 31)),
        minimum: Minimum::Absent,
        pack: pack_iq4_xs,
        unpack: unpack_iq4_xs,
    },
];

/// The two low bits of every code: of each 128 weights, weight `32 j + l` is in bits `2 j` of byte `l`.
fn pack_pairs(codes: &[i8], add: i8, bytes: &mut [u8]) {
    for (weight, &code) in codes.iter().enumerate() {
        let (half, j, l) = (weight / 128, weight % 128 / 32, weight % 32);
        bytes[half * 32 + l] |= (bits(code, add) & 3) << (2 * j);
    }
}

fn unpack_pairs(bytes: &[u8], subtract: i8, codes: &mut [i8]) {
    for (weight, code) in codes.iter_mut().enumerate() {
        let (half, j, l) = (weight / 128, weight % 128 / 32, weight % 32);
        *code = (bytes[half * 32 + l] >> (2 * j) & 3).cast_signed() - subtract;
    }
}

/// One more bit of every code: weight `32 k + l` is bit `k` of byte `l`.
fn pack_high_bits(codes: &[i8], add: i8, from: u32, bytes: &mut [u8]) {
    for (weight, &code) in codes.iter().enumerate() {
        bytes[weight % 32] |= (bits(code, add) >> from & 1) << (weight / 32);
    }
}

fn unpack_high_bits(bytes: &[u8], to: u32, codes: &mut [i8]) {
    for (weight, code) in codes.iter_mut().enumerate() {
        *code += ((bytes[weight % 32] >> (weight / 32) & 1) << to).cast_signed();
    }
}

/// Of each 64 weights the first 32 in low halves of bytes, the others in high halves.
fn pack_halves(codes: &[i8], bytes: &mut [u8]) {
    for (bytes, codes) in bytes[..128].chunks_exact_mut(32).zip(codes.chunks_exact(64)) {
        for (l, byte) in bytes.iter_mut().enumerate() {
            *byte = (bits(codes[l], 0) & 15) | (bits(codes[l + 32], 0) << 4);
        }
    }
}

fn unpack_halves(bytes: &[u8], codes: &mut [i8]) {
    for (bytes, codes) in bytes[..128].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        for (l, &byte) in bytes.iter().enumerate() {
            codes[l] = (byte & 15).cast_signed();
            codes[l + 32] = (byte >> 4).cast_signed();
        }
    }
}

/// A part's integer as the low bits of a byte; callers keep it in range.
fn low(number: i16, add: i16) -> u8 {
    number.wrapping_add(add).to_le_bytes()[0]
}

fn pack_q2_k(block: &Block, bytes: &mut [u8]) {
    for (part, byte) in bytes[..16].iter_mut().enumerate() {
        *byte = low(block.scales[part], 0) | (low(block.minimums[part], 0) << 4);
    }
    pack_pairs(&block.codes, 0, &mut bytes[16..80]);
    bytes[80..82].copy_from_slice(&block.scale.to_le_bytes());
    bytes[82..84].copy_from_slice(&block.minimum.to_le_bytes());
}

fn unpack_q2_k(bytes: &[u8], block: &mut Block) {
    for (part, &byte) in bytes[..16].iter().enumerate() {
        block.scales[part] = i16::from(byte & 15);
        block.minimums[part] = i16::from(byte >> 4);
    }
    unpack_pairs(&bytes[16..80], 0, &mut block.codes);
    block.scale = read_half(&bytes[80..]);
    block.minimum = read_half(&bytes[82..]);
}

/// Scales of 6 bits: four low bits of parts 0 to 7 and 8 to 15 in the halves of eight bytes, two high bits
/// in the four bytes after them.
fn pack_q3_k(block: &Block, bytes: &mut [u8]) {
    pack_high_bits(&block.codes, 4, 2, &mut bytes[..32]);
    pack_pairs(&block.codes, 4, &mut bytes[32..96]);
    for part in 0..16 {
        let scale = low(block.scales[part], 32);
        bytes[96 + part % 8] |= (scale & 15) << (4 * (part / 8));
        bytes[104 + part % 4] |= (scale >> 4 & 3) << (2 * (part / 4));
    }
    bytes[108..110].copy_from_slice(&block.scale.to_le_bytes());
}

fn unpack_q3_k(bytes: &[u8], block: &mut Block) {
    unpack_pairs(&bytes[32..96], 4, &mut block.codes);
    unpack_high_bits(&bytes[..32], 2, &mut block.codes);
    for part in 0..16 {
        let low = bytes[96 + part % 8] >> (4 * (part / 8)) & 15;
        let high = bytes[104 + part % 4] >> (2 * (part / 4)) & 3;
        block.scales[part] = i16::from(low | high << 4) - 32;
    }
    block.minimum = f16::ZERO;
    block.minimums = [0; MOST_PARTS];
    block.scale = read_half(&bytes[108..]);
}

/// Scales and minimums of 6 bits in 12 bytes: parts 0 to 3 in the low bits of bytes 0 to 3 and 4 to 7;
/// parts 4 to 7 with four bits each in bytes 8 to 11 and two in the high bits of the others.
fn pack_six_bits(block: &Block, bytes: &mut [u8]) {
    for part in 0..4 {
        bytes[part] |= low(block.scales[part], 0);
        bytes[part + 4] |= low(block.minimums[part], 0);
        let (scale, minimum) = (low(block.scales[part + 4], 0), low(block.minimums[part + 4], 0));
        bytes[part + 8] |= (scale & 15) | (minimum << 4);
        bytes[part] |= scale >> 4 << 6;
        bytes[part + 4] |= minimum >> 4 << 6;
    }
}

fn unpack_six_bits(bytes: &[u8], block: &mut Block) {
    for part in 0..4 {
        block.scales[part] = i16::from(bytes[part] & 63);
        block.minimums[part] = i16::from(bytes[part + 4] & 63);
        block.scales[part + 4] = i16::from((bytes[part + 8] & 15) | (bytes[part] >> 6 << 4));
        block.minimums[part + 4] = i16::from((bytes[part + 8] >> 4) | (bytes[part + 4] >> 6 << 4));
    }
}

fn pack_q4_k(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    bytes[2..4].copy_from_slice(&block.minimum.to_le_bytes());
    pack_six_bits(block, &mut bytes[4..16]);
    pack_halves(&block.codes, &mut bytes[16..]);
}

fn unpack_q4_k(bytes: &[u8], block: &mut Block) {
    block.scale = read_half(bytes);
    block.minimum = read_half(&bytes[2..]);
    unpack_six_bits(&bytes[4..16], block);
    unpack_halves(&bytes[16..], &mut block.codes);
}

fn pack_q5_k(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    bytes[2..4].copy_from_slice(&block.minimum.to_le_bytes());
    pack_six_bits(block, &mut bytes[4..16]);
    pack_high_bits(&block.codes, 0, 4, &mut bytes[16..48]);
    pack_halves(&block.codes, &mut bytes[48..]);
}

fn unpack_q5_k(bytes: &[u8], block: &mut Block) {
    block.scale = read_half(bytes);
    block.minimum = read_half(&bytes[2..]);
    unpack_six_bits(&bytes[4..16], block);
    unpack_halves(&bytes[48..], &mut block.codes);
    unpack_high_bits(&bytes[16..48], 4, &mut block.codes);
}

/// Of each 128 weights four low bits of the first and second 32 in the low halves of 64 bytes, of the third
/// and fourth in the high halves; two high bits arranged as in [`pack_pairs`].
fn pack_q6_k(block: &Block, bytes: &mut [u8]) {
    for (weight, &code) in block.codes.iter().enumerate() {
        let (half, j, l) = (weight / 128, weight % 128 / 32, weight % 32);
        let code = bits(code, 32);
        bytes[half * 64 + j % 2 * 32 + l] |= (code & 15) << (4 * (j / 2));
        bytes[128 + half * 32 + l] |= (code >> 4 & 3) << (2 * j);
    }
    for (byte, &scale) in bytes[192..208].iter_mut().zip(&block.scales) {
        *byte = low(scale, 0);
    }
    bytes[208..210].copy_from_slice(&block.scale.to_le_bytes());
}

fn unpack_q6_k(bytes: &[u8], block: &mut Block) {
    for (weight, code) in block.codes.iter_mut().enumerate() {
        let (half, j, l) = (weight / 128, weight % 128 / 32, weight % 32);
        let low = bytes[half * 64 + j % 2 * 32 + l] >> (4 * (j / 2)) & 15;
        let high = bytes[128 + half * 32 + l] >> (2 * j) & 3;
        *code = (low | high << 4).cast_signed() - 32;
    }
    for (scale, byte) in block.scales.iter_mut().zip(&bytes[192..208]) {
        *scale = i16::from(byte.cast_signed());
    }
    block.minimum = f16::ZERO;
    block.minimums = [0; MOST_PARTS];
    block.scale = read_half(&bytes[208..]);
}

fn pack_iq4_xs(block: &Block, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&block.scale.to_le_bytes());
    for part in 0..8 {
        let scale = low(block.scales[part], 32);
        bytes[2 + part / 4] |= (scale >> 4 & 3) << (2 * (part % 4));
        bytes[4 + part / 2] |= (scale & 15) << (4 * (part % 2));
        pack_nibbles(&block.codes[part * 32..], 0, &mut bytes[8 + part * 16..]);
    }
}

fn unpack_iq4_xs(bytes: &[u8], block: &mut Block) {
    block.scale = read_half(bytes);
    block.minimum = f16::ZERO;
    block.minimums = [0; MOST_PARTS];
    for part in 0..8 {
        let high = bytes[2 + part / 4] >> (2 * (part % 4)) & 3;
        let low = bytes[4 + part / 2] >> (4 * (part % 2)) & 15;
        block.scales[part] = i16::from(low | high << 4) - 32;
        unpack_nibbles(&bytes[8 + part * 16..], 0, &mut block.codes[part * 32..]);
    }
}
