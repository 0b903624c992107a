//! Weights as a type would store them: rounded as llama.cpp rounds them, and read back.

use super::MixError;
use super::groups::{Group, columns};
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufInput, InputTensor};
use crate::engine::llama::quantize::Importance;
use crate::model::gguf::GgmlType;
use rayon::prelude::*;
use std::collections::HashMap;

/// Weights rounded by one thread at a time.
const PIECE: usize = 1 << 16;

/// The original weights, and what matters in them.
#[derive(Debug)]
pub struct Original<'a> {
    file: &'a GgufInput,
    importance: HashMap<&'a str, &'a [f32]>,
}

/// Rounded weights.
#[derive(Debug)]
pub struct Rounded {
    /// The weights, `[matrices, rows, columns]`.
    pub values: Vec<f32>,
    /// Sum of squared rounding errors over the sum of squared weights, both weighted by the importance of
    /// the columns if there is one.
    pub error: f64,
}

impl<'a> Original<'a> {
    /// The weights of a file.
    #[must_use]
    pub fn new(file: &'a GgufInput, importance: Option<&'a [Importance]>) -> Self {
        let importance = importance.unwrap_or_default();
        let importance = importance
            .iter()
            .map(|entry| (entry.weight.as_str(), entry.values.as_slice()))
            .collect();
        Self { file, importance }
    }

    /// Whether the columns of a tensor are weighed.
    #[must_use]
    pub fn is_weighed(&self, tensor: &str) -> bool {
        self.importance.contains_key(tensor)
    }

    /// Looks whether the importance suits the tensors of the groups.
    ///
    /// # Errors
    /// [`MixError::Importance`].
    pub fn check(&self, groups: &[Group]) -> Result<(), MixError> {
        for tensor in groups.iter().flat_map(|group| &group.tensors) {
            let Some(values) = self.importance.get(tensor.name.as_str()) else { continue };
            let matrices: u64 = tensor.dimensions.iter().skip(2).product();
            let needed = usize::try_from(matrices).unwrap_or(usize::MAX);
            let needed = needed.saturating_mul(columns(tensor));
            if values.len() != needed {
                let (name, found) = (tensor.name.clone(), values.len());
                return Err(MixError::Importance { name, found, needed });
            }
        }
        Ok(())
    }

    /// The bytes of a tensor as they are in the file.
    ///
    /// # Errors
    /// [`MixError::NoTensor`].
    pub fn bytes(&self, name: &str) -> Result<&[u8], MixError> {
        Ok(self.file.bytes(self.find(name)?))
    }

    /// A tensor as `format` would store it.
    ///
    /// # Errors
    /// When the file has no such tensor or it cannot be stored so.
    pub fn rounded(&self, name: &str, format: GgmlType) -> Result<Rounded, MixError> {
        let tensor = self.find(name)?;
        let columns = columns(&tensor.entry).max(1);
        let rows = tensor.entry.dimensions.get(1).copied().unwrap_or(1);
        let matrix = usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(columns);
        let mut original = Vec::new();
        blocks::dequantize(tensor.entry.format, self.file.bytes(tensor), &mut original)?;
        let importance = self.importance.get(name).copied();
        let piece = (PIECE / columns).max(1) * columns;
        // Pieces never cross from one matrix into the next: each has its own importance.
        let pieces: Vec<(usize, &[f32])> = original
            .chunks(matrix)
            .enumerate()
            .flat_map(|(index, matrix)| matrix.chunks(piece).map(move |piece| (index, piece)))
            .collect();
        let rounded: Vec<(Vec<f32>, f64, f64)> = pieces
            .into_par_iter()
            .map(|(matrix, piece)| {
                let importance = importance
                    .and_then(|values| values.get(matrix * columns..(matrix + 1) * columns));
                let bytes = blocks::quantize(format, piece, columns, importance)?;
                let mut values = Vec::with_capacity(piece.len());
                blocks::dequantize(format, &bytes, &mut values)?;
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
        self.file.find(name).ok_or_else(|| MixError::NoTensor { name: name.to_owned() })
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
