//! Values of a graph's tensors, read from wherever they are.
//!
//! Used by `capture` and `partial`.

use super::{blocks, text};
use crate::engine::error::EngineError;
use crate::model::gguf::GgmlType;
use llama_cpp_sys_2 as sys;

/// Reads tensors, into memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    /// The rows that were read last.
    pub(super) rows: Vec<f32>,
    /// Which matrix (expert) each of them is multiplied with.
    pub(super) experts: Vec<u32>,
}

impl Reader {
    /// All rows of a tensor into `rows`, whatever its strides.
    pub(super) fn read(
        &mut self,
        tensor: &sys::ggml_tensor,
        name: &str,
    ) -> Result<(), EngineError> {
        let format = GgmlType::from_number(tensor.type_)
            .filter(|format| matches!(format.name(), "F32" | "F16" | "BF16"))
            .ok_or_else(|| failed(name, "its activations are in an unknown format"))?;
        let element = usize::try_from(format.block_bytes()).unwrap_or(4);
        if tensor.nb[0] != element {
            return Err(failed(name, "the values of its activations do not lie side by side"));
        }
        self.fetch(tensor, name)?;
        self.rows.clear();
        let row_bytes = columns(tensor) * element;
        for offset in row_offsets(tensor) {
            let row = self.bytes.get(offset..offset + row_bytes);
            let row = row.ok_or_else(|| failed(name, "its activations reach past their end"))?;
            blocks::dequantize(format, row, &mut self.rows)?;
        }
        Ok(())
    }

    /// The bytes that a tensor spans, from wherever it is, into `bytes`.
    fn fetch(&mut self, tensor: &sys::ggml_tensor, name: &str) -> Result<(), EngineError> {
        // SAFETY: the source of a view is alive as long as the view.
        let owner = unsafe { tensor.view_src.as_ref() }.unwrap_or(tensor);
        if owner.buffer.is_null() || tensor.data.is_null() {
            return Err(failed(name, "its activations are not in memory"));
        }
        // SAFETY: the tensor is alive.
        let size = unsafe { sys::ggml_nbytes(tensor) };
        self.bytes.resize(size, 0);
        // SAFETY: the tensor is allocated and computed, and the buffer has the bytes it spans.
        unsafe { sys::ggml_backend_tensor_get(tensor, self.bytes.as_mut_ptr().cast(), 0, size) };
        Ok(())
    }

    /// The vectors that a product multiplies its weight with, and which matrix of it each.
    pub(super) fn read_input(
        &mut self,
        product: &sys::ggml_tensor,
        weight: &sys::ggml_tensor,
        input: &sys::ggml_tensor,
        name: &str,
    ) -> Result<(), EngineError> {
        if product.op == sys::GGML_OP_MUL_MAT_ID {
            return self.read_expert_rows(product, input, name);
        }
        self.read(input, name)?;
        self.spread_over_matrices(weight, input);
        Ok(())
    }

    /// A plain product of a weight of several matrices: ggml gives each matrix an equal share of
    /// the input's third dimension, in order.
    fn spread_over_matrices(&mut self, weight: &sys::ggml_tensor, input: &sys::ggml_tensor) {
        self.experts.clear();
        if weight.ne[2] <= 1 {
            return;
        }
        let share = (input.ne[2] / weight.ne[2]).max(1);
        for i2 in (0..input.ne[3].max(1)).flat_map(|_| 0..input.ne[2]) {
            let matrix = u32::try_from(i2 / share).unwrap_or(0);
            self.experts.extend((0..input.ne[1]).map(|_| matrix));
        }
    }

    /// One row per token and chosen expert: the input has one row per token, or one per token and
    /// expert; the third operand names the experts, `[tokens, chosen]`.
    fn read_expert_rows(
        &mut self,
        node: &sys::ggml_tensor,
        input: &sys::ggml_tensor,
        name: &str,
    ) -> Result<(), EngineError> {
        let ids = operand(node, 2).ok_or_else(|| failed(name, "it has no choice of experts"))?;
        if ids.type_ != sys::GGML_TYPE_I32 || ids.nb[0] != 4 {
            return Err(failed(name, "its choice of experts is in an unknown format"));
        }
        self.fetch(ids, name)?;
        self.experts.clear();
        let chosen = columns(ids);
        for offset in row_offsets(ids) {
            let row = self.bytes.get(offset..offset + chosen * 4);
            let row = row.ok_or_else(|| failed(name, "its experts reach past their end"))?;
            let id = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            self.experts.extend(row.chunks_exact(4).map(id));
        }
        self.read(input, name)?;
        let per_token = usize::try_from(input.ne[1].max(1)).unwrap_or(1);
        if per_token < chosen {
            let width = columns(input);
            let given = std::mem::take(&mut self.rows);
            for token in given.chunks_exact(width * per_token) {
                for slot in 0..chosen {
                    let start = (slot % per_token) * width;
                    self.rows.extend_from_slice(&token[start..start + width]);
                }
            }
        }
        if self.rows.len() != self.experts.len() * columns(input) {
            return Err(failed(name, "its inputs are not as many as its experts"));
        }
        Ok(())
    }
}

/// Byte offsets of the rows of a tensor.
fn row_offsets(tensor: &sys::ggml_tensor) -> impl Iterator<Item = usize> + use<> {
    let [_, rows, planes, volumes] = tensor.ne.map(|size| usize::try_from(size).unwrap_or(0));
    let [_, row, plane, volume] = tensor.nb;
    (0..volumes).flat_map(move |i3| {
        (0..planes).flat_map(move |i2| (0..rows).map(move |i1| i1 * row + i2 * plane + i3 * volume))
    })
}

pub(super) fn operand(node: &sys::ggml_tensor, index: usize) -> Option<&sys::ggml_tensor> {
    // SAFETY: sources of a live node are alive, or null.
    unsafe { node.src[index].as_ref() }
}

pub(super) fn name_of(tensor: &sys::ggml_tensor) -> String {
    text(tensor.name.as_ptr())
}

pub(super) fn columns(tensor: &sys::ggml_tensor) -> usize {
    usize::try_from(tensor.ne[0]).unwrap_or(0)
}

pub(super) fn failed(name: &str, reason: &str) -> EngineError {
    EngineError::Capture { name: name.to_owned(), reason: reason.to_owned() }
}
