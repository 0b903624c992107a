//! The weights of a graph: how each is stored, and its bytes, made from a tensor of the GGUF.

use super::blocks::{self, Packed};
use super::graph::int;
use super::search;
use crate::causes::Problem;
use crate::engine::llama::blocks as ggml;
use crate::engine::llama::gguf_file::GgufInput;
use crate::model::gguf::GgmlType;
use crate::onnx::proto::{Element, Tensor};
use half::f16;
use rayon::prelude::*;

/// Rows that are worked on at once.
const ROWS: usize = 64;
/// What is said of a weight that cannot be rounded.
const NOT_FINITE: &str = "has a weight that is not a finite number";
/// The largest whole number of 8 bits that weights are rounded to.
const MOST_INT8: f32 = 127.0;

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One row, floating point.
    Vector(Element),
    /// Rows as they are, floating point.
    Table(Element),
    /// Columns first, floating point: what `MatMul` wants.
    Transposed(Element),
    /// Rows in blocks with a scale each: what `MatMulNBits` wants.
    Blocks(BlockForm),
    /// Columns first, whole numbers with a scale per row: what `MatMulInteger` wants.
    Dynamic,
}

/// Blocks of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockForm {
    /// Bits of a weight.
    pub(super) bits: u8,
    /// Weights of a block.
    pub(super) block: usize,
    /// How zero points are stored; `None`: zero is in the middle.
    pub(super) zero_points: Option<ZeroPoints>,
    /// Where the numbers come from.
    pub(super) source: BlockSource,
    /// Rows are taken from it: its scales have as many dimensions as its weights.
    pub(super) is_table: bool,
}

/// How zero points are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZeroPoints {
    /// Whole numbers of as many bits as the weights: 4.
    Whole,
    /// Numbers of 32 bits.
    Float,
}

/// Where the numbers of blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockSource {
    /// The GGUF has them.
    Taken,
    /// Rounded to this format of ggml.
    Rounded(&'static str),
    /// Scales and zero points are searched for.
    Searched,
}

/// A weight of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weight {
    /// Its name in the graph.
    pub(super) name: String,
    /// The GGUF's tensor.
    pub(super) tensor: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// In how many heads rows come in pairs and go in halves; `None`: they stay as they are.
    pub(super) heads: Option<usize>,
    pub(super) form: Form,
}

impl Weight {
    /// The tensors that it is stored as, without data.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let tensor = |suffix: &str, element: Element, dims: &[usize]| Tensor {
            name: format!("{}{suffix}", self.name),
            dims: dims.iter().map(|&length| int(length)).collect(),
            data_type: element.into(),
            ..Tensor::default()
        };
        let (rows, columns) = (self.rows, self.columns);
        match self.form {
            Form::Vector(element) => vec![tensor("", element, &[columns])],
            Form::Table(element) => vec![tensor("", element, &[rows, columns])],
            Form::Transposed(element) => vec![tensor("", element, &[columns, rows])],
            Form::Dynamic => vec![
                tensor("", Element::Int8, &[columns, rows]),
                tensor("_scale", Element::Float, &[rows]),
            ],
            Form::Blocks(form) => {
                let blocks = columns.div_ceil(form.block);
                let bytes = form.block * usize::from(form.bits) / 8;
                let flat = [rows * blocks];
                let deep = [rows, blocks, 1];
                let scales = if form.is_table { deep.as_slice() } else { flat.as_slice() };
                let mut tensors = vec![
                    tensor("", Element::Uint8, &[rows, blocks, bytes]),
                    tensor("_scales", Element::Float, scales),
                ];
                match form.zero_points {
                    None => {}
                    Some(ZeroPoints::Float) => {
                        tensors.push(tensor("_zero_points", Element::Float, &flat));
                    }
                    Some(ZeroPoints::Whole) => {
                        let bytes = (blocks * usize::from(form.bits)).div_ceil(8);
                        tensors.push(tensor("_zero_points", Element::Uint8, &[rows * bytes]));
                    }
                }
                tensors
            }
        }
    }

    /// The data of its tensors, in the same order.
    ///
    /// # Errors
    /// A weight is not finite, or too large for 16 bits.
    pub(super) fn data(&self, input: &GgufInput) -> Result<Vec<Vec<u8>>, Problem> {
        let failed = |words: &str| Problem::new(format!("tensor '{}' {words}", self.tensor));
        let tensor = input.find(&self.tensor).ok_or_else(|| failed("is missing"))?;
        let format = tensor.entry.format;
        let bytes = input.bytes(tensor);
        let row_bytes = ggml::row_bytes(format, self.columns);
        let row_bytes = row_bytes.filter(|row| row.checked_mul(self.rows) == Some(bytes.len()));
        let row_bytes = row_bytes.ok_or_else(|| failed("has another size than its shape"))?;
        let order = row_order(self.rows, self.heads);
        let source = Source { format, bytes, row_bytes, columns: self.columns, order: &order };
        match self.form {
            Form::Vector(element) | Form::Table(element) => {
                let parts = source.each(|values| to_bytes(&values, element))?;
                parts
                    .into_iter()
                    .map(|part| part.map_err(failed))
                    .collect::<Result<Vec<_>, _>>()
                    .map(|parts| vec![parts.concat()])
            }
            Form::Transposed(element) => {
                let values = transposed(&source.values()?, self.columns);
                to_bytes(&values, element).map_err(failed).map(|bytes| vec![bytes])
            }
            Form::Dynamic => {
                let (mut codes, mut scales) = (Vec::new(), Vec::new());
                for part in source.each(|values| whole_numbers(&values, self.columns))? {
                    let part = part.ok_or_else(|| failed(NOT_FINITE))?;
                    codes.extend(part.0);
                    scales.extend(part.1);
                }
                let codes = transposed(&codes, self.columns);
                Ok(vec![bytemuck::cast_slice(&codes).to_vec(), floats(&scales)])
            }
            Form::Blocks(form) => {
                let parts: Vec<Result<Packed, Problem>> = match form.source {
                    BlockSource::Taken => {
                        source.each_stored(|bytes| Ok(blocks::taken(format, bytes, self.columns)))
                    }
                    BlockSource::Rounded(name) => source.each(|values| {
                        let format =
                            GgmlType::from_name(name).ok_or_else(|| failed("has no format"))?;
                        let (values, columns) = padded(values, self.columns, form.block);
                        let rounded = ggml::quantize(format, &values, columns, None);
                        let bytes = rounded.map_err(|error| {
                            Problem::because(
                                format!("tensor '{}' cannot be rounded", self.tensor),
                                error,
                            )
                        })?;
                        Ok(blocks::taken(format, &bytes, columns))
                    })?,
                    BlockSource::Searched => source.each(|values| {
                        if !values.iter().all(|value| value.is_finite()) {
                            return Err(failed(NOT_FINITE));
                        }
                        let (values, columns) = padded(values, self.columns, form.block);
                        Ok(search::searched(&values, columns))
                    })?,
                };
                let parts = parts.into_iter().collect::<Result<Vec<Packed>, _>>()?;
                Ok(blocks::joined(&parts, form))
            }
        }
    }
}

/// Rows of a tensor in the order in which they are written.
struct Source<'a> {
    format: GgmlType,
    bytes: &'a [u8],
    row_bytes: usize,
    columns: usize,
    order: &'a [usize],
}

impl Source<'_> {
    /// Makes something of several rows at a time, on all cores.
    fn each_stored<T: Send>(&self, make: impl Fn(&[u8]) -> T + Sync) -> Vec<T> {
        let rows = self.order.par_chunks(ROWS).map(|rows| {
            let row = |&row: &usize| &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes];
            make(&rows.iter().map(row).collect::<Vec<_>>().concat())
        });
        rows.collect()
    }

    /// The same of their values.
    fn each<T: Send>(&self, make: impl Fn(Vec<f32>) -> T + Sync) -> Result<Vec<T>, Problem> {
        let made = self.each_stored(|bytes| ggml::values(self.format, bytes).map(&make));
        let unreadable = |error| Problem::because("the weights cannot be read", error);
        made.into_iter().map(|it| it.map_err(unreadable)).collect()
    }

    fn values(&self) -> Result<Vec<f32>, Problem> {
        debug_assert!(self.columns > 0, "rows have weights");
        Ok(self.each(|values| values)?.concat())
    }
}

/// Where every row of the graph is in the GGUF. Converters bring the two numbers of a row pair that is turned together next
/// to each other; checkpoints, and so graphs, have one in each half of a head.
fn row_order(rows: usize, heads: Option<usize>) -> Vec<usize> {
    let Some(heads) = heads else { return (0..rows).collect() };
    let head = rows / heads;
    let place =
        |row: usize| row / head * head + row % head % (head / 2) * 2 + row % head / (head / 2);
    (0..rows).map(place).collect()
}

fn transposed<T: Copy + Default + Send + Sync>(values: &[T], columns: usize) -> Vec<T> {
    let rows = values.len() / columns.max(1);
    let mut turned = vec![T::default(); values.len()];
    turned.par_chunks_mut(rows.max(1)).enumerate().for_each(|(column, to)| {
        for (row, to) in to.iter_mut().enumerate() {
            *to = values[row * columns + column];
        }
    });
    turned
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn to_bytes(values: &[f32], element: Element) -> Result<Vec<u8>, &'static str> {
    if element != Element::Float16 {
        return Ok(floats(values));
    }
    let mut bytes = Vec::with_capacity(values.len() * 2);
    for &value in values {
        let half = f16::from_f32(value);
        if !half.is_finite() {
            return Err("has a weight that 16 bits cannot hold");
        }
        bytes.extend(half.to_le_bytes());
    }
    Ok(bytes)
}

/// Rows filled up to whole blocks with zeros, and their length then.
fn padded(values: Vec<f32>, columns: usize, block: usize) -> (Vec<f32>, usize) {
    let whole = columns.next_multiple_of(block);
    if whole == columns {
        return (values, columns);
    }
    let mut rows = Vec::with_capacity(values.len() / columns * whole);
    for row in values.chunks_exact(columns) {
        rows.extend_from_slice(row);
        rows.resize(rows.len() + whole - columns, 0.0);
    }
    (rows, whole)
}

/// Rows as whole numbers from -127 to 127, with their scales; `None` if one is not finite.
#[expect(clippy::cast_possible_truncation, reason = "the numbers are at most 127")]
fn whole_numbers(values: &[f32], columns: usize) -> Option<(Vec<i8>, Vec<f32>)> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let (mut codes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks_exact(columns) {
        let largest = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = largest / MOST_INT8;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        codes.extend(row.iter().map(|value| (value * inverse).round() as i8));
        scales.push(scale);
    }
    Some((codes, scales))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_turned_together_go_into_the_halves_of_their_head() {
        // Two heads of four: the GGUF has pairs next to each other.
        assert_eq!(row_order(8, Some(2)), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(row_order(3, None), [0, 1, 2]);
    }

    #[test]
    fn rows_are_filled_up_and_turned() {
        assert_eq!(padded(vec![1.0, 2.0, 3.0, 4.0], 2, 3), (vec![1.0, 2.0, 0.0, 3.0, 4.0, 0.0], 3));
        assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn whole_numbers_reach_as_far_as_the_largest_weight_of_a_row() {
        let (codes, scales) = whole_numbers(&[0.5, -1.0, 0.0, 0.0, 254.0, 1.0], 2).unwrap();
        assert_eq!(whole_numbers(&[f32::NAN, 1.0], 2), None);
        assert_eq!(codes, [64, -127, 0, 0, 127, 1]);
        assert_eq!(scales, [1.0 / 127.0, 0.0, 2.0]);
    }

    #[test]
    fn weights_that_sixteen_bits_cannot_hold_are_refused() {
        assert_eq!(to_bytes(&[1.0], Element::Float16), Ok(vec![0, 0x3c]));
        assert!(to_bytes(&[70_000.0], Element::Float16).is_err());
    }
}
