//! The weights of a relation and the sums over their inputs, as the searches take them.

use super::statistics::{Moment, Statistics, Tap};
use crate::engine::llama::quantize::Importance;
use crate::model::gguf::GgmlType;
use crate::statistics::sample::to_f64;
use faer::Mat;

/// A weight to be rounded.
pub(super) struct Product {
    pub(super) name: String,
    pub(super) format: GgmlType,
    /// `[matrices, rows, columns]`.
    pub(super) values: Vec<f32>,
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// 1, or the number of experts.
    pub(super) matrices: usize,
}

impl Product {
    /// At most `most` rows of a matrix, evenly spread.
    pub(super) fn sample(&self, matrix: usize, most: usize) -> Vec<f32> {
        let length = self.rows * self.columns;
        let rows = self.values[matrix * length..][..length].chunks_exact(self.columns);
        let step = self.rows.div_ceil(most).max(1);
        rows.step_by(step).flatten().copied().collect()
    }

    /// The importance of the columns of one matrix, for inputs divided by `scales`.
    pub(super) fn importance(
        &self,
        all: Option<&[Importance]>,
        matrix: usize,
        scales: Option<&[f32]>,
    ) -> Option<Vec<f32>> {
        let entry = all?.iter().find(|entry| entry.weight == self.name)?;
        let values = entry.values.chunks_exact(self.columns).nth(matrix)?;
        Some(match scales {
            None => values.to_vec(),
            Some(scales) => divided_by_squares(values, scales),
        })
    }
}

/// Mean squares of inputs once these are divided by `scales`.
pub(super) fn divided_by_squares(values: &[f32], scales: &[f32]) -> Vec<f32> {
    values.iter().zip(scales).map(|(value, scale)| value / (scale * scale)).collect()
}

/// Sums over the inputs of a relation's weights.
pub(super) struct Inputs<'a> {
    /// Of the dense weights, if there are any, then of each expert.
    moments: Vec<&'a Moment>,
    /// Second moments, in the same order.
    pub(super) seconds: Vec<Mat<f32>>,
    /// The share of all vectors that each of them saw.
    pub(super) shares: Vec<f64>,
    /// 1 if the first is that of dense weights, else 0.
    first_expert: usize,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(taps: &[Tap], sums: &'a Statistics) -> Self {
        let of_tap = |tap: &Tap| sums.get(&tap.weight).map_or(&[][..], Vec::as_slice);
        let moments: Vec<&Moment> = taps.iter().flat_map(of_tap).collect();
        let first_expert = usize::from(taps.first().is_some_and(|tap| tap.matrices == 1));
        let of_experts: usize = moments.iter().skip(first_expert).map(|m| m.vectors).sum();
        let share = |(index, moment): (usize, &&Moment)| {
            let all = if index < first_expert { moment.vectors } else { of_experts };
            to_f64(moment.vectors) / to_f64(all.max(1))
        };
        Self {
            seconds: moments.iter().map(|moment| moment.second()).collect(),
            shares: moments.iter().enumerate().map(share).collect(),
            moments,
            first_expert,
        }
    }

    /// Index of a matrix's second moment.
    pub(super) fn moment(&self, product: &Product, matrix: usize) -> usize {
        if product.matrices == 1 { 0 } else { self.first_expert + matrix }
    }

    /// Mean absolute input of each column: of one expert, or over all vectors.
    pub(super) fn sizes(&self, expert: Option<usize>) -> Vec<f64> {
        let moments = match expert {
            Some(expert) => &self.moments[self.first_expert + expert..][..1],
            None if self.first_expert > 0 => &self.moments[..1],
            None => &self.moments,
        };
        let vectors: f64 = moments.iter().map(|moment| to_f64(moment.vectors)).sum();
        let columns = moments.first().map_or(0, |moment| moment.sizes.len());
        (0..columns)
            .map(|column| moments.iter().map(|moment| moment.sizes[column]).sum::<f64>())
            .map(|sum| sum / vectors.max(1.0))
            .collect()
    }
}
