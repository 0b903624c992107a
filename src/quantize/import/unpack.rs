//! Codes, scales and zero points out of the words that GPTQ and AWQ checkpoints pack them into.
//!
//! Layouts, as `AutoGPTQ` and `AutoAWQ` document them; `in` are a layer's columns, `out` its rows:
//! - GPTQ: `qweight` [in·bits/32, out], `qzeros` [groups, out·bits/32], `scales` [groups, out]. Codes
//!   lie in the words of a column as one stream of bits, the lowest first; with 3 bits a code may
//!   span two words. Version 1 stores zero points less one, modulo 2^bits.
//! - AWQ GEMM: `qweight` [in, out/8], `qzeros` [groups, out/8], `scales` [groups, out]; the eight codes
//!   of a word belong to the columns 0 2 4 6 1 3 5 7.
//! - AWQ GEMV: `qweight` [out, in/8], `qzeros` [out, words], `scales` [out, words·8], the last two padded.
//!
//! A weight is scale · (code − zero point).

use super::checkpoint::{Checkpoint, Words};
use super::config::Configuration;
use super::error::ImportError;

/// Which output a nibble of an AWQ GEMM word belongs to.
const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
/// Codes of 4 bits in a word.
const NIBBLES: usize = 8;

/// Order of the packed codes and meaning of the zero points, with their names in a file's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
pub(crate) enum Packing {
    /// GPTQ, zero points stored less one.
    #[strum(serialize = "gptq")]
    GptqV1,
    /// GPTQ, zero points stored as they are.
    #[strum(serialize = "gptq_v2")]
    GptqV2,
    /// AWQ for matrix products.
    #[strum(serialize = "gemm")]
    AwqGemm,
    /// AWQ for products with a vector.
    #[strum(serialize = "gemv")]
    AwqGemv,
}

/// Size of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerShape {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// Columns that share a scale and a zero point.
    pub group: usize,
}

impl LayerShape {
    /// Groups in a row.
    pub(crate) fn groups(self) -> usize {
        self.columns.div_ceil(self.group)
    }
}

/// A quantized layer: row by row.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Its size.
    pub shape: LayerShape,
    /// One code per weight.
    pub codes: Vec<u8>,
    /// One scale per row and group.
    pub scales: Vec<f32>,
    /// One zero point per row and group.
    pub zeros: Vec<u16>,
}

impl Layer {
    /// A weight: scale · (code − zero point).
    pub(crate) fn weight(&self, row: usize, column: usize) -> f32 {
        let group = row * self.shape.groups() + column / self.shape.group;
        let code = f32::from(self.codes[row * self.shape.columns + column]);
        self.scales[group] * (code - f32::from(self.zeros[group]))
    }
}

/// A module of a checkpoint: the tensors `NAME.qweight`, `NAME.qzeros`, …
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module<'a> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// How it is packed.
    pub configuration: Configuration,
    /// The module's name, such as `model.layers.0.self_attn.q_proj`.
    pub name: &'a str,
}

impl Module<'_> {
    fn part(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    fn is_gemv(&self) -> bool {
        self.configuration.packing == Packing::AwqGemv
    }

    /// The module's size, from the shape of its codes.
    ///
    /// # Errors
    /// When there are no codes, or their shape is impossible.
    pub(crate) fn shape(&self) -> Result<LayerShape, ImportError> {
        let name = self.part("qweight");
        let bits = self.configuration.bits as usize;
        let &[first, second] = self.checkpoint.shape(&name)? else {
            return Err(ImportError::tensor(&name, "is no matrix"));
        };
        let codes = |words: usize| {
            words.checked_mul(32).filter(|all| all % bits == 0).map(|all| all / bits)
        };
        let sizes = match self.configuration.packing {
            Packing::GptqV1 | Packing::GptqV2 => codes(first).map(|columns| (second, columns)),
            Packing::AwqGemm => codes(second).map(|rows| (rows, first)),
            Packing::AwqGemv => codes(second).map(|columns| (first, columns)),
        };
        match sizes {
            Some((rows, columns)) if rows > 0 && columns > 0 && columns % 32 == 0 => {
                let group = self.configuration.group.unwrap_or(columns).min(columns);
                Ok(LayerShape { rows, columns, group })
            }
            _ => Err(ImportError::tensor(
                &name,
                format!("has the shape [{first}, {second}], which is no multiple of 32 columns"),
            )),
        }
    }

    /// Zero points, row by row.
    ///
    /// # Errors
    /// When they are missing or of the wrong shape.
    pub(crate) fn zeros(&self, shape: LayerShape) -> Result<Vec<u16>, ImportError> {
        let name = self.part("qzeros");
        if self.configuration.is_symmetric && !self.checkpoint.has(&name) {
            return Ok(vec![8; shape.rows * shape.groups()]);
        }
        let packed = self.checkpoint.words(&name)?;
        let (groups, bits) = (shape.groups(), self.configuration.bits);
        let row_words = (shape.rows * bits as usize).div_ceil(32);
        let fits = if self.is_gemv() {
            packed.shape[0] == shape.rows && packed.shape[1] * NIBBLES >= groups
        } else {
            packed.shape == [groups, row_words]
        };
        if !fits {
            return Err(wrong_shape(&name, &packed.shape, shape));
        }
        let mask = (1_u32 << bits) - 1;
        let less = u32::from(self.configuration.packing == Packing::GptqV1);
        let mut zeros = Vec::with_capacity(shape.rows * groups);
        for row in 0..shape.rows {
            for group in 0..groups {
                let stored = match self.configuration.packing {
                    Packing::GptqV1 | Packing::GptqV2 => {
                        field(|word| packed.words[group * row_words + word], row, bits)
                    }
                    Packing::AwqGemm => awq_field(&packed, group, row),
                    Packing::AwqGemv => {
                        field(|word| packed.words[row * packed.shape[1] + word], group, bits)
                    }
                };
                zeros.push(u16::try_from((stored + less) & mask).unwrap_or(u16::MAX));
            }
        }
        Ok(zeros)
    }

    /// Scales, row by row.
    fn scales(&self, shape: LayerShape) -> Result<Vec<f32>, ImportError> {
        let name = self.part("scales");
        let stored = self.checkpoint.numbers(&name)?;
        let groups = shape.groups();
        let fits = match stored.shape[..] {
            [first, width] if self.is_gemv() => first == shape.rows && width >= groups,
            _ => stored.shape == [groups, shape.rows],
        };
        if !fits {
            return Err(wrong_shape(&name, &stored.shape, shape));
        }
        let width = stored.shape[1];
        let at = |row: usize, group: usize| {
            if self.is_gemv() { row * width + group } else { group * width + row }
        };
        let row = |row| (0..groups).map(move |group| (row, group));
        let places = (0..shape.rows).flat_map(row);
        Ok(places.map(|(row, group)| stored.values[at(row, group)]).collect())
    }

    /// Codes, row by row.
    fn codes(&self, shape: LayerShape) -> Result<Vec<u8>, ImportError> {
        let packed = self.checkpoint.words(&self.part("qweight"))?;
        let bits = self.configuration.bits;
        let mut codes = Vec::with_capacity(shape.rows * shape.columns);
        for row in 0..shape.rows {
            codes.extend((0..shape.columns).map(|column| {
                let code = match self.configuration.packing {
                    Packing::GptqV1 | Packing::GptqV2 => {
                        field(|word| packed.words[word * shape.rows + row], column, bits)
                    }
                    Packing::AwqGemm => awq_field(&packed, column, row),
                    Packing::AwqGemv => {
                        field(|word| packed.words[row * packed.shape[1] + word], column, bits)
                    }
                };
                code.to_le_bytes()[0]
            }));
        }
        Ok(codes)
    }

    /// The whole layer.
    ///
    /// # Errors
    /// When a tensor is missing or of the wrong shape, or columns were quantized in another order
    /// than they are stored in.
    pub(crate) fn layer(&self) -> Result<Layer, ImportError> {
        let shape = self.shape()?;
        self.check_order(shape)?;
        let (codes, scales) = (self.codes(shape)?, self.scales(shape)?);
        let zeros = self.zeros(shape)?;
        Ok(Layer { shape, codes, scales, zeros })
    }

    /// With `desc_act` a column's group is told by `g_idx`. Blocks of a GGUF hold neighbouring
    /// columns, so that only groups of neighbours can be stored. Another order of the columns could
    /// move into the layer before; but what attention and the residual stream share cannot be
    /// reordered for one reader, and a checkpoint in that order has it in all its layers.
    fn check_order(&self, shape: LayerShape) -> Result<(), ImportError> {
        let name = self.part("g_idx");
        if !self.checkpoint.has(&name) {
            return Ok(());
        }
        let groups = self.checkpoint.vector(&name)?;
        if groups.len() != shape.columns {
            let problem = format!("has {} entries for {} columns", groups.len(), shape.columns);
            return Err(ImportError::tensor(&name, problem));
        }
        let stray = groups
            .iter()
            .enumerate()
            .position(|(column, &group)| group as usize != column / shape.group);
        match stray {
            None => Ok(()),
            Some(column) => Err(ImportError::tensor(
                &name,
                format!(
                    "puts column {column} into group {} instead of {} (desc_act without \
                     static_groups): a GGUF's blocks hold neighbouring columns, and the order \
                     cannot move into the layer before; quantize with desc_act = false or \
                     static_groups = true",
                    groups[column],
                    column / shape.group
                ),
            )),
        }
    }
}

fn wrong_shape(name: &str, found: &[usize], shape: LayerShape) -> ImportError {
    let problem = format!(
        "has the shape {found:?}, which does not fit {} rows of {} columns in groups of {}",
        shape.rows, shape.columns, shape.group
    );
    ImportError::tensor(name, problem)
}

/// The code at a position of a stream of bits in 32-bit words, the lowest bits first.
fn field(word: impl Fn(usize) -> u32, index: usize, bits: u32) -> u32 {
    let bit = index * bits as usize;
    let (at, shift) = (bit / 32, bit % 32);
    let low = u64::from(word(at)) >> shift;
    let spans = shift + bits as usize > 32;
    let high = if spans { u64::from(word(at + 1)) << (32 - shift) } else { 0 };
    let mask = (1_u64 << bits) - 1;
    u32::try_from((low | high) & mask).unwrap_or(0)
}

/// The code of an output in a row of AWQ GEMM words.
fn awq_field(packed: &Words, row: usize, output: usize) -> u32 {
    let nibble = AWQ_ORDER.iter().position(|&own| own == output % NIBBLES).unwrap_or(0);
    packed.words[row * packed.shape[1] + output / NIBBLES] >> (4 * nibble) & 0xf
}
