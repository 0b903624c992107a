//! The changes to each tensor, and the scaled model as a file: F32 where it changed.
//!
//! Uses the relations and `llama::gguf_file`; used by the entry point.

use super::clip::Limits;
use super::relations::Relation;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufInput, GgufOutput, MetadataValue, TensorPlan};
use crate::model::gguf::GgmlType;
use crate::quantize::{MethodError, shape};
use std::collections::HashMap;
use std::path::Path;

/// llama.cpp's number of the file type F32.
const FILE_TYPE_F32: u32 = 0;

/// What is done to one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Change {
    scalings: Vec<TensorScaling>,
    /// Of all rows, applied last.
    pub(super) limits: Option<Limits>,
}

#[derive(Debug, Clone, PartialEq)]
struct TensorScaling {
    axis: Axis,
    /// Sets of scales: 1 for all matrices, or one for each.
    sets: usize,
    /// `[sets, …]`.
    scales: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    /// Columns are multiplied.
    Columns,
    /// Rows from this one on are divided.
    Rows(usize),
    /// Elements of a vector, or of each expert's vector, from this one on are divided.
    Elements(usize),
}

impl TensorScaling {
    /// The scales of one matrix.
    fn set(&self, matrix: usize) -> &[f32] {
        let length = self.scales.len() / self.sets;
        &self.scales[matrix.min(self.sets - 1) * length..][..length]
    }
}

/// Changes by the name of the tensor.
pub(super) type Changes = HashMap<String, Change>;

/// Adds the changes that a relation's scales, `[experts, channels]`, make to its tensors.
pub(super) fn add_scales(changes: &mut Changes, relation: &Relation, scales: &[f32]) {
    let sets = relation.experts;
    let mut add = |weight: &str, axis, scales: &[f32]| {
        let change = changes.entry(weight.to_owned()).or_default();
        change.scalings.push(TensorScaling { axis, sets, scales: scales.to_vec() });
    };
    let columns: Vec<f32> =
        scales.chunks_exact(relation.channels).flat_map(|set| relation.spread(set)).collect();
    for product in &relation.products {
        add(product, Axis::Columns, &columns);
    }
    let axis = relation.producer.first_row.map_or(Axis::Elements(0), Axis::Rows);
    add(&relation.producer.weight, axis, scales);
    for bias in &relation.biases {
        add(&bias.weight, Axis::Elements(bias.first), scales);
    }
}

impl Change {
    /// Changes a tensor of rows of `columns`, `rows` in each matrix.
    pub(super) fn apply(&self, values: &mut [f32], columns: usize, rows: usize) {
        for scaling in &self.scalings {
            if let Axis::Elements(first) = scaling.axis {
                for (index, vector) in values.chunks_exact_mut(columns).enumerate() {
                    let elements = vector.iter_mut().skip(first);
                    elements.zip(scaling.set(index)).for_each(|(value, by)| *value /= by);
                }
                continue;
            }
            for (matrix, values) in values.chunks_exact_mut(rows * columns).enumerate() {
                let (scales, all) = (scaling.set(matrix), values.chunks_exact_mut(columns));
                if let Axis::Rows(first) = scaling.axis {
                    for (row, by) in all.skip(first).zip(scales) {
                        for value in row {
                            *value /= by;
                        }
                    }
                } else {
                    for row in all {
                        row.iter_mut().zip(scales).for_each(|(value, by)| *value *= by);
                    }
                }
            }
        }
        if let Some(limits) = &self.limits {
            limits.apply(values, columns);
        }
    }

    /// Divides squares of inputs, `[matrices, columns]`, by the squares of the scales of their columns.
    pub(super) fn divide_squares(&self, values: &mut [f32], columns: usize) {
        for scaling in self.scalings.iter().filter(|scaling| scaling.axis == Axis::Columns) {
            for (matrix, values) in values.chunks_exact_mut(columns).enumerate() {
                let scales = scaling.set(matrix);
                values.iter_mut().zip(scales).for_each(|(value, by)| *value /= by * by);
            }
        }
    }
}

/// Writes the changed model: tensors that change in F32, all others as they are.
pub(super) fn write(source: &GgufInput, changes: &Changes, path: &Path) -> Result<(), MethodError> {
    let mut keys = source.metadata()?;
    keys.set("general.file_type", MetadataValue::U32(FILE_TYPE_F32))?;
    let plans: Vec<TensorPlan> = source
        .tensors()
        .iter()
        .map(|tensor| {
            let mut plan = TensorPlan::from(&tensor.entry);
            if changes.contains_key(&plan.name) {
                plan.format = GgmlType::F32;
            }
            plan
        })
        .collect();
    let mut output = GgufOutput::create(path, &keys, &plans)?;
    for tensor in source.tensors() {
        let name = &tensor.entry.name;
        let Some(change) = changes.get(name) else {
            output.write_tensor(name, source.bytes(tensor))?;
            continue;
        };
        let mut values = blocks::values(tensor.entry.format, source.bytes(tensor))?;
        let [columns, rows, _] = shape(&tensor.entry);
        change.apply(&mut values, columns, rows);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        output.write_tensor(name, &bytes)?;
    }
    Ok(output.finish()?)
}

#[cfg(test)]
mod tests {
    use super::super::relations::{Bias, Producer, Sharing};
    use super::*;

    fn relation(experts: usize) -> Relation {
        Relation {
            producer: Producer { weight: "up".to_owned(), first_row: Some(1) },
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
