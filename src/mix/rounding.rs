//! Weights rounded to a type as llama.cpp rounds them, and read back.

use super::MixError;
use super::groups::Group;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufInput, InputTensor};
use crate::engine::llama::quantize::Importance;
use crate::model::gguf::GgmlType;
use crate::quantize::shape;
use rayon::prelude::*;
use std::collections::HashMap;

/// Weights that one thread rounds at a time.
const PIECE: usize = 1 << 16;

/// The original weights and the importance of their columns.
#[derive(Debug)]
pub(super) struct Original<'a> {
    file: &'a GgufInput,
    importance: HashMap<&'a str, &'a [f32]>,
}

#[derive(Debug)]
pub(super) struct Rounded {
    /// `[matrices, rows, columns]`.
    pub(super) values: Vec<f32>,
    /// Sum of squared errors over the sum of squared weights, both weighted by the importance of the columns.
    pub(super) error: f64,
}

impl<'a> Original<'a> {
    pub(super) fn new(file: &'a GgufInput, importance: Option<&'a [Importance]>) -> Self {
        let entries = importance.unwrap_or_default().iter();
        let importance = entries.map(|entry| (&*entry.weight, &*entry.values)).collect();
        Self { file, importance }
    }

    pub(super) fn has_importance(&self, tensor: &str) -> bool {
        self.importance.contains_key(tensor)
    }

    /// Checks that the importance fits the tensors of the groups.
    pub(super) fn check(&self, groups: &[Group]) -> Result<(), MixError> {
        for tensor in groups.iter().flat_map(|group| &group.tensors) {
            let Some(values) = self.importance.get(tensor.name.as_str()) else { continue };
            let [columns, _, matrices] = shape(tensor);
            let needed = columns.saturating_mul(matrices);
            if values.len() != needed {
                return Err(MixError::Refused(format!(
                    "the importance matrix has {} values for '{}', and the tensor needs {needed}; it is of another \
                     model",
                    values.len(),
                    tensor.name
                )));
            }
        }
        Ok(())
    }

    /// The bytes of a tensor in the file.
    pub(super) fn bytes(&self, name: &str) -> Result<&[u8], MixError> {
        Ok(self.file.bytes(self.find(name)?))
    }

    /// A tensor rounded to `format`.
    pub(super) fn rounded(&self, name: &str, format: GgmlType) -> Result<Rounded, MixError> {
        let tensor = self.find(name)?;
        let [columns, rows, _] = shape(&tensor.entry).map(|size| size.max(1));
        let original = blocks::values(tensor.entry.format, self.file.bytes(tensor))?;
        let importance = self.importance.get(name).copied();
        let piece = (PIECE / columns).max(1) * columns;
        // Pieces never cross from one matrix into the next: each has its own importance.
        let pieces: Vec<(usize, &[f32])> = original
            .chunks(rows.saturating_mul(columns))
            .enumerate()
            .flat_map(|(index, matrix)| matrix.chunks(piece).map(move |piece| (index, piece)))
            .collect();
        let rounded: Vec<(Vec<f32>, f64, f64)> = pieces
            .into_par_iter()
            .map(|(matrix, piece)| {
                let importance = importance
                    .and_then(|values| values.get(matrix * columns..(matrix + 1) * columns));
                let values = blocks::rounded(format, piece, columns, importance)?;
                let (error, power) = squares(piece, &values, columns, importance);
                Ok((values, error, power))
            })
            .collect::<Result<_, MixError>>()?;
        let (error, power) = rounded
            .iter()
            .fold((0.0, 0.0), |sum, (_, error, power)| (sum.0 + error, sum.1 + power));
        let values = rounded.into_iter().flat_map(|(values, ..)| values).collect();
        Ok(Rounded { values, error: if power > 0.0 { error / power } else { 0.0 } })
    }

    fn find(&self, name: &str) -> Result<&InputTensor, MixError> {
        let missing = || MixError::Refused(format!("the model has no tensor '{name}'"));
        self.file.find(name).ok_or_else(missing)
    }
}

/// Weighted sums of squared errors and of squared weights.
fn squares(
    original: &[f32],
    rounded: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for (original, rounded) in original.chunks(columns).zip(rounded.chunks(columns)) {
        for (column, (original, rounded)) in original.iter().zip(rounded).enumerate() {
            let weight = f64::from(importance.map_or(1.0, |importance| importance[column]));
            sums.0 += weight * f64::from(original - rounded).powi(2);
            sums.1 += weight * f64::from(*original).powi(2);
        }
    }
    sums
}
