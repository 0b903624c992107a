//! What becomes of each tensor, and the file with all of it: the same model, scaled, in F32 where it changed.
//!
//! Uses the relations and `llama::gguf_file`; used by the entry point.

use super::AwqError;
use super::clip::Limits;
use super::relations::{Producer, Relation};
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{
    GgufInput, GgufOutput, InputTensor, MetadataValue, TensorPlan,
};
use crate::model::gguf::GgmlType;
use std::collections::HashMap;
use std::path::Path;

/// llama.cpp's number of the file type F32.
const FILE_TYPE_F32: u32 = 0;

/// What is done to one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    scalings: Vec<Scaling>,
    /// Limits of all its rows, applied last.
    pub limits: Option<Limits>,
}

#[derive(Debug, Clone, PartialEq)]
struct Scaling {
    place: Place,
    /// Sets of scales: 1 for all matrices, or one for each.
    sets: usize,
    /// `[sets, …]`.
    scales: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Columns are multiplied.
    Columns,
    /// Rows from this one on are divided.
    Rows(usize),
    /// Elements of a vector, or of each expert's vector, from this one on are divided.
    Elements(usize),
}

/// Changes, by tensor.
pub type Changes = HashMap<String, Change>;

/// Adds what a relation's scales, `[experts, channels]`, do to its tensors.
pub fn add_scales(changes: &mut Changes, relation: &Relation, scales: &[f32]) {
    let sets = relation.experts;
    let mut add = |weight: &str, place, scales: Vec<f32>| {
        changes.entry(weight.to_owned()).or_default().scalings.push(Scaling {
            place,
            sets,
            scales,
        });
    };
    let columns: Vec<f32> =
        scales.chunks_exact(relation.channels).flat_map(|set| relation.spread(set)).collect();
    for product in &relation.products {
        add(product, Place::Columns, columns.clone());
    }
    match &relation.producer {
        Producer::Vector { weight } => add(weight, Place::Elements(0), scales.to_vec()),
        Producer::Rows { weight, first } => add(weight, Place::Rows(*first), scales.to_vec()),
    }
    for bias in &relation.biases {
        add(&bias.weight, Place::Elements(bias.first), scales.to_vec());
    }
}

impl Change {
    /// Changes a tensor of rows of `columns`, `rows` in each matrix.
    pub fn apply(&self, values: &mut [f32], columns: usize, rows: usize) {
        for Scaling { place, sets, scales } in &self.scalings {
            let set = |index: usize| {
                let length = scales.len() / sets;
                let set = if *sets > 1 { index.min(sets - 1) } else { 0 };
                &scales[set * length..][..length]
            };
            match *place {
                Place::Columns => {
                    for (matrix, values) in values.chunks_exact_mut(rows * columns).enumerate() {
                        for row in values.chunks_exact_mut(columns) {
                            row.iter_mut().zip(set(matrix)).for_each(|(value, by)| *value *= by);
                        }
                    }
                }
                Place::Rows(first) => {
                    for (matrix, values) in values.chunks_exact_mut(rows * columns).enumerate() {
                        let rows = values.chunks_exact_mut(columns).skip(first);
                        for (row, by) in rows.zip(set(matrix)) {
                            for value in row {
                                *value /= by;
                            }
                        }
                    }
                }
                Place::Elements(first) => {
                    for (index, vector) in values.chunks_exact_mut(columns).enumerate() {
                        let elements = vector.iter_mut().skip(first);
                        elements.zip(set(index)).for_each(|(value, by)| *value /= by);
                    }
                }
            }
        }
        if let Some(limits) = &self.limits {
            limits.apply(values, columns);
        }
    }
}

impl Change {
    /// Divides squares of inputs, `[matrices, columns]`, as the inputs of changed columns are.
    pub fn divide_squares(&self, values: &mut [f32], columns: usize) {
        for Scaling { place, sets, scales } in &self.scalings {
            if *place != Place::Columns {
                continue;
            }
            let length = scales.len() / sets;
            for (matrix, values) in values.chunks_exact_mut(columns).enumerate() {
                let set = if *sets > 1 { matrix.min(sets - 1) } else { 0 };
                let scales = &scales[set * length..][..length];
                values.iter_mut().zip(scales).for_each(|(value, by)| *value /= by * by);
            }
        }
    }
}

/// A tensor of a file in f32.
///
/// # Errors
/// When its format holds no real numbers.
pub fn values(file: &GgufInput, tensor: &InputTensor) -> Result<Vec<f32>, AwqError> {
    let mut values = Vec::with_capacity(usize::try_from(tensor.entry.weights).unwrap_or(0));
    blocks::dequantize(tensor.entry.format, file.bytes(tensor), &mut values)?;
    Ok(values)
}

/// Columns and rows of a tensor's matrices.
#[must_use]
pub fn shape(tensor: &InputTensor) -> (usize, usize) {
    let size = |index: usize| {
        let size = tensor.entry.dimensions.get(index).copied().unwrap_or(1);
        usize::try_from(size).unwrap_or(0)
    };
    (size(0), size(1))
}

/// Writes the changed model: tensors that change in F32, all others as they are.
///
/// # Errors
/// When the file cannot be written or a tensor cannot be read.
pub fn write(source: &GgufInput, changes: &Changes, path: &Path) -> Result<(), AwqError> {
    let mut keys = source.metadata()?;
    keys.set("general.file_type", MetadataValue::U32(FILE_TYPE_F32))?;
    let single = GgmlType::from_name("F32");
    let plans: Vec<TensorPlan> = source
        .tensors()
        .iter()
        .map(|tensor| {
            let mut plan = TensorPlan::from(&tensor.entry);
            if let Some(single) = single.filter(|_| changes.contains_key(&plan.name)) {
                plan.format = single;
            }
            plan
        })
        .collect();
    let mut output = GgufOutput::create(path, &keys, &plans)?;
    for tensor in source.tensors() {
        let name = &tensor.entry.name;
        match changes.get(name) {
            None => output.write_tensor(name, source.bytes(tensor))?,
            Some(change) => {
                let mut values = values(source, tensor)?;
                let (columns, rows) = shape(tensor);
                change.apply(&mut values, columns, rows);
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                output.write_tensor(name, &bytes)?;
            }
        }
    }
    Ok(output.finish()?)
}

#[cfg(test)]
mod tests {
    use super::super::relations::{Bias, Sharing};
    use super::*;

    fn relation(experts: usize) -> Relation {
        Relation {
            producer: Producer::Rows { weight: "up".to_owned(), first: 1 },
            biases: vec![Bias { weight: "bias".to_owned(), first: 1 }],
            products: vec!["down".to_owned()],
            channels: 2,
            columns: 2,
            sharing: None,
            experts,
        }
    }

    fn applied(
        changes: &Changes,
        name: &str,
        values: &[f32],
        columns: usize,
        rows: usize,
    ) -> Vec<f32> {
        let mut values = values.to_vec();
        changes[name].apply(&mut values, columns, rows);
        values
    }

    #[test]
    fn rows_and_biases_are_divided_from_the_first_channel_on_and_columns_multiplied() {
        let mut changes = Changes::new();
        add_scales(&mut changes, &relation(1), &[2.0, 4.0]);
        let up = applied(&changes, "up", &[8.0; 6], 2, 3);
        assert_eq!(up, [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]);
        assert_eq!(applied(&changes, "bias", &[8.0; 3], 3, 1), [8.0, 4.0, 2.0]);
        assert_eq!(applied(&changes, "down", &[1.0; 4], 2, 2), [2.0, 4.0, 2.0, 4.0]);
        let mut squares = vec![16.0, 16.0];
        changes["down"].divide_squares(&mut squares, 2);
        assert_eq!(squares, vec![4.0, 1.0]);
        changes["up"].divide_squares(&mut squares, 2);
        assert_eq!(squares, vec![4.0, 1.0]);
    }

    #[test]
    fn every_expert_has_its_own_scales() {
        let mut changes = Changes::new();
        add_scales(&mut changes, &relation(2), &[2.0, 4.0, 8.0, 16.0]);
        let up = applied(&changes, "up", &[16.0; 6], 1, 3);
        assert_eq!(up, [16.0, 8.0, 4.0, 16.0, 2.0, 1.0]);
        // One bias vector per expert.
        let bias = applied(&changes, "bias", &[16.0; 6], 3, 2);
        assert_eq!(bias, [16.0, 8.0, 4.0, 16.0, 2.0, 1.0]);
        assert_eq!(applied(&changes, "down", &[1.0; 4], 2, 1), [2.0, 4.0, 8.0, 16.0]);
        let mut squares = vec![64.0; 4];
        changes["down"].divide_squares(&mut squares, 2);
        assert_eq!(squares, vec![16.0, 4.0, 1.0, 0.25]);
    }

    #[test]
    fn heads_that_read_the_same_values_share_scales() {
        let relation = Relation {
            columns: 8,
            channels: 4,
            sharing: Some(Sharing { width: 2, heads: 2 }),
            ..relation(1)
        };
        assert_eq!(
            relation.spread(&[1.0, 2.0, 3.0, 4.0]),
            [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]
        );
    }
}
