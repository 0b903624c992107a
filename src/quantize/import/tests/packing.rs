//! Checkpoints written for tests, with the packing that `AutoGPTQ` and `AutoAWQ` publish: word by word,
//! case by case, and nothing shared with the code that reads them.

#![allow(
    dead_code,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers; the end-to-end tests use a part of it"
)]

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::Path;

/// A layer rounded to codes: `[row][column]` and `[row][group]`.
pub(crate) struct Rounded {
    pub bits: u32,
    pub group: usize,
    pub codes: Vec<Vec<u32>>,
    pub scales: Vec<Vec<f32>>,
    pub zeros: Vec<Vec<u32>>,
}

/// The tensors of a checkpoint.
#[derive(Default)]
pub(crate) struct Tensors(pub BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

/// Rounds rows of weights to nearest; `zero` is the zero point, or one per group is chosen.
pub(crate) fn round(weights: &[Vec<f32>], bits: u32, group: usize, zero: Option<u32>) -> Rounded {
    let largest = (1_u32 << bits) - 1;
    let mut rounded = Rounded { bits, group, codes: vec![], scales: vec![], zeros: vec![] };
    for row in weights {
        let (mut codes, mut scales, mut zeros) = (vec![], vec![], vec![]);
        for part in row.chunks(group) {
            let low = part.iter().copied().fold(0.0, f32::min);
            let high = part.iter().copied().fold(0.0, f32::max);
            let range = match zero {
                Some(zero) => 2.0 * high.max(-low) * largest as f32 / (2 * zero - 1) as f32,
                None => high - low,
            };
            let scale = half::f16::from_f32(range / largest as f32).to_f32();
            let zero = zero.unwrap_or((-low / scale).round() as u32);
            codes.extend(part.iter().map(|weight| {
                ((weight / scale).round() + zero as f32).clamp(0.0, largest as f32) as u32
            }));
            scales.push(scale);
            zeros.push(zero);
        }
        rounded.codes.push(codes);
        rounded.scales.push(scales);
        rounded.zeros.push(zeros);
    }
    rounded
}

impl Rounded {
    pub(crate) fn weight(&self, row: usize, column: usize) -> f32 {
        let group = column / self.group;
        let relative = self.codes[row][column] as f32 - self.zeros[row][group] as f32;
        self.scales[row][group] * relative
    }

    fn groups(&self) -> usize {
        self.scales[0].len()
    }
}

/// Packs values along one line into words as GPTQ does.
fn gptq_line(values: &[u32], bits: u32) -> Vec<u32> {
    if bits != 3 {
        let per_word = 32 / bits as usize;
        let word = |part: &[u32]| {
            part.iter().enumerate().fold(0, |word, (at, value)| word | value << (at as u32 * bits))
        };
        return values.chunks(per_word).map(word).collect();
    }
    // 32 values in three words: 10 and a part, the rest and 10 and a part, the rest and 10.
    let three = |part: &[u32]| {
        let mut words = [0_u32; 3];
        for (at, &value) in part.iter().enumerate() {
            match at {
                0..10 => words[0] |= value << (3 * at),
                10 => {
                    words[0] |= (value & 3) << 30;
                    words[1] |= value >> 2 & 1;
                }
                11..21 => words[1] |= value << (3 * (at - 11) + 1),
                21 => {
                    words[1] |= (value & 1) << 31;
                    words[2] |= value >> 1 & 3;
                }
                _ => words[2] |= value << (3 * (at - 22) + 2),
            }
        }
        words
    };
    values.chunks(32).flat_map(three).collect()
}

fn transposed<T: Copy>(lines: &[Vec<T>]) -> Vec<Vec<T>> {
    (0..lines[0].len()).map(|at| lines.iter().map(|line| line[at]).collect()).collect()
}

impl Tensors {
    pub(crate) fn words(&mut self, name: &str, lines: &[Vec<u32>]) {
        let bytes = lines.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (Dtype::I32, vec![lines.len(), lines[0].len()], bytes));
    }

    pub(crate) fn halves(&mut self, name: &str, lines: &[Vec<f32>]) {
        let halves = lines.iter().flatten().map(|&value| half::f16::from_f32(value));
        let bytes = halves.flat_map(half::f16::to_le_bytes).collect();
        self.0.insert(name.to_owned(), (Dtype::F16, vec![lines.len(), lines[0].len()], bytes));
    }

    pub(crate) fn floats(&mut self, name: &str, values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (Dtype::F32, vec![values.len()], bytes));
    }

    /// `stored_less` is 1 for version 1.
    pub(crate) fn gptq(&mut self, module: &str, layer: &Rounded, stored_less: u32) {
        let columns: Vec<Vec<u32>> =
            layer.codes.iter().map(|row| gptq_line(row, layer.bits)).collect();
        let mask = (1 << layer.bits) - 1;
        let zeros: Vec<Vec<u32>> = transposed(&layer.zeros)
            .iter()
            .map(|line| {
                let stored: Vec<u32> =
                    line.iter().map(|zero| zero.wrapping_sub(stored_less) & mask).collect();
                gptq_line(&stored, layer.bits)
            })
            .collect();
        self.words(&format!("{module}.qweight"), &transposed(&columns));
        self.words(&format!("{module}.qzeros"), &zeros);
        self.halves(&format!("{module}.scales"), &transposed(&layer.scales));
    }

    pub(crate) fn awq_gemm(&mut self, module: &str, layer: &Rounded) {
        let order = [0, 2, 4, 6, 1, 3, 5, 7];
        let pack = |line: &Vec<u32>| -> Vec<u32> {
            let word = |part: &[u32]| (0..8).fold(0, |word, at| word | part[order[at]] << (4 * at));
            line.chunks(8).map(word).collect()
        };
        let lines = |values: &[Vec<u32>]| transposed(values).iter().map(pack).collect::<Vec<_>>();
        self.words(&format!("{module}.qweight"), &lines(&layer.codes));
        self.words(&format!("{module}.qzeros"), &lines(&layer.zeros));
        self.halves(&format!("{module}.scales"), &transposed(&layer.scales));
    }

    pub(crate) fn awq_gemv(&mut self, module: &str, layer: &Rounded) {
        let multiple = match layer.group {
            64 => 2,
            32 => 4,
            _ => 1,
        };
        let width = layer.groups().div_ceil(8).div_ceil(multiple) * multiple;
        let padded = |line: &Vec<u32>| {
            let mut line = line.clone();
            line.resize(width * 8, 0);
            gptq_line(&line, 4)
        };
        let scales: Vec<Vec<f32>> = layer
            .scales
            .iter()
            .map(|line| {
                let mut line = line.clone();
                line.resize(width * 8, 0.0);
                line
            })
            .collect();
        let codes: Vec<Vec<u32>> = layer.codes.iter().map(|row| gptq_line(row, 4)).collect();
        self.words(&format!("{module}.qweight"), &codes);
        self.words(
            &format!("{module}.qzeros"),
            &layer.zeros.iter().map(padded).collect::<Vec<_>>(),
        );
        self.halves(&format!("{module}.scales"), &scales);
    }

    pub(crate) fn write(&self, path: &Path) {
        let views = self.0.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}
