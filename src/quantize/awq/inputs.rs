//! A relation's products, and what flows into them, as the searches take them.

use super::statistics::{Moment, Statistics, Tap};
use crate::engine::llama::gguf_file::InputTensor;
use crate::model::gguf::GgmlType;
use faer::Mat;

/// A weight to be rounded.
#[derive(Debug)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// How it will be stored.
    pub format: GgmlType,
    /// `[matrices, rows, columns]`.
    pub values: Vec<f32>,
    /// Columns.
    pub columns: usize,
    /// Rows of one matrix.
    pub rows: usize,
    /// 1, or the number of experts.
    pub matrices: usize,
}

impl Product {
    /// At most `most` rows of a matrix, evenly spread.
    #[must_use]
    pub fn sample(&self, matrix: usize, most: usize) -> Vec<f32> {
        let length = self.rows * self.columns;
        let rows = self.values[matrix * length..][..length].chunks_exact(self.columns);
        let step = self.rows.div_ceil(most).max(1);
        rows.step_by(step).flatten().copied().collect()
    }
}

/// What flows into a relation's products.
#[derive(Debug)]
pub struct Inputs {
    /// Of the plain products, if there are any, then of each expert.
    pub seconds: Vec<Mat<f32>>,
    /// The share of all vectors that each of them saw.
    pub shares: Vec<f64>,
    /// Σ|x| and the number of vectors, of each.
    sizes: Vec<(Vec<f64>, f64)>,
    /// Whether the first is that of plain products.
    has_plain: bool,
}

impl Inputs {
    /// Of a relation whose inputs were summed at these taps.
    #[must_use]
    pub fn new(taps: &[Tap], sums: &Statistics) -> Self {
        let moments = |tap: &Tap| sums.get(&tap.weight).map_or(&[][..], Vec::as_slice);
        let all: Vec<&Moment> = taps.iter().flat_map(moments).collect();
        let has_plain = taps.first().is_some_and(|tap| tap.matrices == 1);
        let experts: usize = all.iter().skip(usize::from(has_plain)).map(|m| m.vectors()).sum();
        #[expect(clippy::cast_precision_loss, reason = "numbers of tokens")]
        let share = |(index, moment): (usize, &&Moment)| {
            let of = if has_plain && index == 0 { moment.vectors() } else { experts };
            moment.vectors() as f64 / of.max(1) as f64
        };
        #[expect(clippy::cast_precision_loss, reason = "numbers of tokens")]
        let sizes = |moment: &&Moment| (moment.sizes().to_vec(), moment.vectors() as f64);
        Self {
            seconds: all.iter().map(|moment| moment.second()).collect(),
            shares: all.iter().enumerate().map(share).collect(),
            sizes: all.iter().map(sizes).collect(),
            has_plain,
        }
    }

    /// Which of the sums a matrix goes with.
    #[must_use]
    pub fn moment(&self, product: &Product, matrix: usize) -> usize {
        if product.matrices == 1 { 0 } else { usize::from(self.has_plain) + matrix }
    }

    /// The mean size of each column's inputs: of one expert, or of all vectors.
    #[must_use]
    pub fn sizes(&self, expert: Option<usize>) -> Vec<f64> {
        let first = usize::from(self.has_plain);
        let range = match expert {
            Some(expert) => first + expert..first + expert + 1,
            None if self.has_plain => 0..1,
            None => 0..self.sizes.len(),
        };
        let chosen = &self.sizes[range];
        let vectors: f64 = chosen.iter().map(|(_, vectors)| vectors).sum();
        let columns = chosen.first().map_or(0, |(sizes, _)| sizes.len());
        (0..columns)
            .map(|column| {
                chosen.iter().map(|(sizes, _)| sizes[column]).sum::<f64>() / vectors.max(1.0)
            })
            .collect()
    }
}

/// Matrices of a tensor: 1, or the number of experts.
#[must_use]
pub fn matrices(tensor: &InputTensor) -> usize {
    let product: u64 = tensor.entry.dimensions.iter().skip(2).product();
    usize::try_from(product).unwrap_or(1)
}
