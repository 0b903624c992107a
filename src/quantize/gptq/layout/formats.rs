//! The formats, bit by bit: `Q4_0` to `Q8_0` and `IQ4_NL` with blocks of 32 weights that are one part, `Q2_K` to `Q6_K` and
//! `IQ4_XS` with super-blocks of 256 weights in 8 or 16 parts.

use super::Levels::{Integers, Table};
use super::{Field, Layout, Levels, Minimum};

/// ggml's `kvalues_iq4nl`.
static TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) static LAYOUTS: [Layout; 12] = [
    block("Q4_0", 18, Integers(-8, 7), false, 8, &[nibbles::<2>()]),
    block("Q4_1", 20, Integers(0, 15), true, 0, &[nibbles::<4>()]),
    block("Q5_0", 22, Integers(-16, 15), false, 16, &[nibbles::<6>(), fifth_bits::<2>()]),
    block("Q5_1", 24, Integers(0, 31), true, 0, &[nibbles::<8>(), fifth_bits::<4>()]),
    block("Q8_0", 34, Integers(-127, 127), false, 0, &[field(0, 255, |j| (2 + j, 0))]),
    block("IQ4_NL", 18, Table(&TABLE), false, 0, &[nibbles::<2>()]),
    Layout {
        name: "Q2_K",
        part: 16,
        bytes: 84,
        levels: Integers(0, 3),
        scale: Some((0, 15)),
        minimum: Minimum::Integers(15),
        numbers_at: (80, Some(82)),
        codes: &[pairs::<16>(0)],
        scales: &[field(0, 15, |part| (part, 0))],
        minimums: &[field(0, 15, |part| (part, 4))],
        ..SUPER_BLOCK
    },
    Layout {
        name: "Q3_K",
        part: 16,
        bytes: 110,
        levels: Integers(-4, 3),
        scale: Some((-32, 31)),
        numbers_at: (108, None),
        added: (4, 32),
        codes: &[pairs::<32>(0), high_bits::<0>(2)],
        scales: &[
            field(0, 15, |part| (96 + part % 8, part / 8 * 4)),
            field(4, 3, |part| (104 + part % 4, part / 4 * 2)),
        ],
        ..SUPER_BLOCK
    },
    Layout {
        name: "Q4_K",
        bytes: 144,
        levels: Integers(0, 15),
        codes: &[halves::<16>()],
        ..Q4_K_OR_Q5_K
    },
    Layout {
        name: "Q5_K",
        bytes: 176,
        levels: Integers(0, 31),
        codes: &[halves::<48>(), high_bits::<16>(4)],
        ..Q4_K_OR_Q5_K
    },
    Layout {
        name: "Q6_K",
        part: 16,
        bytes: 210,
        levels: Integers(-32, 31),
        scale: Some((-128, 127)),
        numbers_at: (208, None),
        added: (32, 0),
        codes: &[
            field(0, 15, |i| (i / 128 * 64 + i / 32 % 2 * 32 + i % 32, i / 64 % 2 * 4)),
            pairs::<128>(4),
        ],
        scales: &[field(0, 255, |part| (192 + part, 0))],
        ..SUPER_BLOCK
    },
    Layout {
        name: "IQ4_XS",
        bytes: 136,
        levels: Table(&TABLE),
        scale: Some((-32, 31)),
        added: (0, 32),
        codes: &[field(0, 15, |i| (8 + i / 32 * 16 + i % 16, i / 16 % 2 * 4))],
        scales: &[
            field(0, 15, |part| (4 + part / 2, part % 2 * 4)),
            field(4, 3, |part| (2 + part / 4, part % 4 * 2)),
        ],
        ..SUPER_BLOCK
    },
];

const SUPER_BLOCK: Layout = Layout {
    name: "",
    weights: 256,
    part: 32,
    bytes: 0,
    levels: Integers(0, 0),
    scale: None,
    minimum: Minimum::Absent,
    numbers_at: (0, None),
    added: (0, 0),
    codes: &[],
    scales: &[],
    minimums: &[],
};

const fn block(
    name: &'static str,
    bytes: usize,
    levels: Levels,
    has_minimum: bool,
    added: u8,
    codes: &'static [Field],
) -> Layout {
    let (minimum, at) =
        if has_minimum { (Minimum::Free, Some(2)) } else { (Minimum::Absent, None) };
    let (numbers_at, added) = ((0, at), (added, 0));
    Layout { name, weights: 32, bytes, levels, minimum, numbers_at, added, codes, ..SUPER_BLOCK }
}

/// Scales and minimums have 6 bits each. For parts from 4 on, the two high bits are apart from the others.
const Q4_K_OR_Q5_K: Layout = Layout {
    scale: Some((0, 63)),
    minimum: Minimum::Integers(63),
    numbers_at: (0, Some(2)),
    scales: &[
        field(0, 15, |part| (part + if part < 4 { 4 } else { 8 }, 0)),
        field(4, 3, |part| (4 + part % 4, if part < 4 { 4 } else { 6 })),
    ],
    minimums: &[
        field(0, 15, |part| (part + 8, if part < 4 { 0 } else { 4 })),
        field(4, 3, |part| (8 + part % 4, if part < 4 { 4 } else { 6 })),
    ],
    ..SUPER_BLOCK
};

const fn field(from: u32, mask: u8, at: fn(usize) -> (usize, usize)) -> Field {
    Field { from, mask, at }
}

/// Code `j` in the low half of a byte, code `j + 16` in the high half.
const fn nibbles<const AT: usize>() -> Field {
    field(0, 15, |j| (AT + j % 16, j / 16 * 4))
}

/// Bit `j` of 32 belongs to code `j`.
const fn fifth_bits<const AT: usize>() -> Field {
    field(4, 1, |j| (AT + j / 8, j % 8))
}

/// Of each 128 codes, code `32 j + l` has bits `2 j` of byte `l`.
const fn pairs<const AT: usize>(from: u32) -> Field {
    field(from, 3, |i| (AT + i / 128 * 32 + i % 32, i / 32 % 4 * 2))
}

/// Code `32 k + l` has bit `k` of byte `l`.
const fn high_bits<const AT: usize>(from: u32) -> Field {
    field(from, 1, |i| (AT + i % 32, i / 32))
}

/// Of each 64 codes, the first 32 are in low halves of bytes, the others in high halves.
const fn halves<const AT: usize>() -> Field {
    field(0, 15, |i| (AT + i / 64 * 32 + i % 32, i / 32 % 2 * 4))
}
