//! How each weight of a network is stored in a graph of some target.

use super::blocks::{self, Known};
use super::target::Target;
use super::weight::{BlockForm, BlockSource, Form, ZeroPoints};
use crate::causes::Problem;
use crate::model::gguf::{GgmlType, Header};
use crate::onnx::proto::Element;
use crate::units::count;
use std::collections::HashMap;

/// Weights of a block that is rounded here.
const BLOCK: usize = 32;

/// What the weights of a file are stored as, and what of it has to be said.
#[derive(Debug)]
pub(super) struct Forms {
    target: Target,
    /// Of the tensors of the file.
    formats: HashMap<String, GgmlType>,
    /// Quantized blocks of fewer bits than the target asks for, or of a mix, are taken over.
    takes: bool,
    allow_requantize: bool,
    /// Weights that were taken over as they are.
    pub(super) taken: usize,
    /// Of them, with zero points that are no whole numbers.
    pub(super) floating: usize,
    /// Quantized weights that are rounded a second time.
    pub(super) again: usize,
}

impl Forms {
    pub(super) fn new(target: Target, header: &Header, allow_requantize: bool) -> Self {
        let of_layers = header.tensors.iter().filter(|tensor| tensor.name.starts_with("blk."));
        let known = of_layers.filter_map(|tensor| blocks::known(tensor.format));
        let bits = known.map(|known| known.bits).min();
        let takes = match target {
            Target::Int8 => bits.is_some(),
            // Eight bits throughout are not what was asked for.
            Target::Int4 | Target::Int4Kquant => bits == Some(4),
            _ => false,
        };
        let formats = header.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.format));
        let formats = formats.collect();
        Self { target, formats, takes, allow_requantize, taken: 0, floating: 0, again: 0 }
    }

    fn format(&self, name: &str) -> GgmlType {
        // `Network` has seen that it is there.
        self.formats.get(name).copied().unwrap_or(GgmlType::F32)
    }

    /// Of activations, and of weights that are not rounded.
    pub(super) fn element(&self) -> Element {
        if self.target == Target::Fp16 { Element::Float16 } else { Element::Float }
    }

    /// Whether matrices are multiplied as whole numbers.
    pub(super) fn is_dynamic(&self) -> bool {
        self.target == Target::Int8Dynamic
    }

    /// Of a matrix of a layer.
    pub(super) fn matrix(&mut self, name: &str) -> Result<Form, Problem> {
        let format = self.format(name);
        match self.target {
            Target::Fp32 | Target::Fp16 => return Ok(Form::Transposed(self.element())),
            Target::Int8Dynamic => {
                self.round_again(name, format)?;
                return Ok(Form::Dynamic);
            }
            Target::Int8 | Target::Int4 | Target::Int4Kquant => {}
        }
        if let Some(known) = blocks::known(format).filter(|_| self.takes) {
            return Ok(self.take(known, false));
        }
        self.round_again(name, format)?;
        let (bits, zero_points, source) = match self.target {
            Target::Int4 => (4, None, BlockSource::Rounded("Q4_0")),
            Target::Int4Kquant => (4, Some(ZeroPoints::Whole), BlockSource::Searched),
            _ => (8, None, BlockSource::Rounded("Q8_0")),
        };
        Ok(Form::Blocks(BlockForm { bits, block: BLOCK, zero_points, source, is_table: false }))
    }

    /// Of the embedding, whose rows, so wide, are taken; it may be the output as well.
    pub(super) fn table(&mut self, name: &str, width: usize) -> Form {
        if !self.target.rounds() || !width.is_multiple_of(BLOCK) {
            return Form::Table(self.element());
        }
        self.eight_bits(self.format(name), true)
    }

    /// Of the output, where it is not the embedding.
    pub(super) fn output(&mut self, name: &str) -> Result<Form, Problem> {
        match self.target {
            Target::Int4 | Target::Int4Kquant => Ok(self.eight_bits(self.format(name), false)),
            _ => self.matrix(name),
        }
    }

    /// Eight bits, or what is there; a table has no zero points, which `GatherBlockQuantized` has as whole numbers only.
    fn eight_bits(&mut self, format: GgmlType, is_table: bool) -> Form {
        match blocks::known(format) {
            Some(known) if !(is_table && known.has_zero_points) => self.take(known, is_table),
            _ => {
                self.again += usize::from(is_quantized(format));
                let source = BlockSource::Rounded("Q8_0");
                Form::Blocks(BlockForm {
                    bits: 8,
                    block: BLOCK,
                    zero_points: None,
                    source,
                    is_table,
                })
            }
        }
    }

    fn take(&mut self, known: Known, is_table: bool) -> Form {
        let Known { bits, block, has_zero_points } = known;
        self.taken += 1;
        self.floating += usize::from(has_zero_points);
        let zero_points = has_zero_points.then_some(ZeroPoints::Float);
        Form::Blocks(BlockForm { bits, block, zero_points, source: BlockSource::Taken, is_table })
    }

    fn round_again(&mut self, name: &str, format: GgmlType) -> Result<(), Problem> {
        if !is_quantized(format) {
            return Ok(());
        }
        self.again += 1;
        if self.allow_requantize {
            return Ok(());
        }
        Err(Problem::new(format!(
            "tensor '{name}' is {format}, which '{}' would round a second time; name a GGUF in F32, F16 or BF16, or add \
             --allow-requantize",
            self.target
        )))
    }

    /// What the user should know of it.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.taken > 0 {
            let taken = count(self.taken, "quantized weight");
            notes.push(format!("{taken} taken over as they are: they are not rounded again"));
        }
        if self.floating > 0 {
            let floating = count(self.floating, "weight");
            notes.push(format!(
                "{floating} with zero points that are no whole numbers, for which ONNX Runtime has no fast kernel: it unpacks \
                 them to 32 bits before it multiplies"
            ));
        }
        if self.again > 0 {
            notes.push(format!("{} rounded a second time", count(self.again, "quantized weight")));
        }
        notes
    }
}

fn is_quantized(format: GgmlType) -> bool {
    !matches!(format.name(), "F32" | "F16" | "BF16")
}
