//! Which of GPTQ's two conventions the zero points of a checkpoint are stored in.
//!
//! Version 1 stores them less one, version 2 as they are, and tools have labelled one as the other. Read
//! wrongly, every weight is off by one step. What is stored tells: the weights lie near those of a BASE in
//! floating point in one reading only; otherwise symmetric quantization puts all zero points in the
//! middle, and other weights lie around zero in one reading only.

use super::checkpoint::Checkpoint;
use super::config::Configuration;
use super::error::ImportError;
use super::plan::Modules;
use super::unpack::{Layer, Module, Packing};
use super::{float_weights, names};
use crate::engine::llama::gguf_file::GgufInput;
use crate::quantize::shape;
use std::collections::BTreeMap;

/// Modules that are compared; a checkpoint is of one convention.
const COMPARED: usize = 8;

/// What the label's reading has to be worse by to be given up: a step more or less in every weight is
/// worse by far than any rounding.
const FACTOR: f64 = 2.0;

/// Mean distance from zero, in steps, that weights may have and one reading only leaves them with.
const NEAR_ZERO: f64 = 0.25;

/// A checkpoint whose packing is to be found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) base: &'a GgufInput,
    pub(super) checkpoint: &'a Checkpoint,
    /// What the checkpoint says of itself.
    pub(super) configuration: Configuration,
    /// The modules by the tensor of BASE that they belong into.
    pub(super) quantized: &'a BTreeMap<String, Modules>,
}

impl<'a> Reading<'a> {
    /// The packing to read a checkpoint by, and a note if that is not what it says.
    pub(super) fn packing(self) -> Result<(Packing, Option<String>), ImportError> {
        let labelled = self.configuration.packing;
        let other = match labelled {
            Packing::GptqV1 => Packing::GptqV2,
            Packing::GptqV2 => Packing::GptqV1,
            Packing::AwqGemm | Packing::AwqGemv => return Ok((labelled, None)),
        };
        let [own, others] = self.compare(other)?;
        // Few bits may have all zero points beside the middle, so that a clear comparison counts first.
        let symmetric = if own.is_clear(&others) { None } else { self.symmetric()? };
        let evidence = match symmetric {
            Some(packing) if packing == labelled => None,
            Some(_) => Some("all of them are in the middle then".to_owned()),
            None => others.evidence_against(&own),
        };
        let Some(evidence) = evidence else { return Ok((labelled, None)) };
        let note = format!(
            "the zero points are read as those of {other}, though the checkpoint says {labelled}: {evidence}"
        );
        Ok((other, Some(note)))
    }

    /// A module, read by a packing.
    fn module(
        self,
        tensor: &str,
        name: &'a str,
        packing: Packing,
    ) -> Result<Module<'a>, ImportError> {
        let columns = self.base.find(tensor).map_or(0, |tensor| shape(&tensor.entry)[0]);
        let configuration = self.configuration.of_module(self.checkpoint, name, columns)?;
        let configuration = Configuration { packing, ..configuration };
        Ok(Module { checkpoint: self.checkpoint, configuration, name })
    }

    /// The reading that puts all zero points in the middle, if one does.
    fn symmetric(self) -> Result<Option<Packing>, ImportError> {
        let mut readings = vec![Packing::GptqV1, Packing::GptqV2];
        let modules = self
            .quantized
            .iter()
            .flat_map(|(tensor, modules)| modules.values().map(move |(name, _)| (tensor, name)));
        for (tensor, name) in modules {
            // What is stored, whatever it means.
            let module = self.module(tensor, name, Packing::GptqV2)?;
            let stored = module.zeros(module.shape()?)?;
            let middle = 1_u16 << (module.configuration.bits - 1);
            readings.retain(|reading| {
                let expected = if *reading == Packing::GptqV1 { middle - 1 } else { middle };
                stored.iter().all(|&zero| zero == expected)
            });
            if readings.is_empty() {
                return Ok(None);
            }
        }
        Ok(readings.pop())
    }

    /// How well the labelled and the other reading fit some modules.
    fn compare(self, other: Packing) -> Result<[ReadingFit; 2], ImportError> {
        let mut fits = [ReadingFit::default(); 2];
        let step = self.quantized.len().div_ceil(COMPARED).max(1);
        for (tensor, modules) in self.quantized.iter().step_by(step) {
            let Some((expert, (name, place))) = modules.first_key_value() else { continue };
            let mut layer = self.module(tensor, name, self.configuration.packing)?.layer()?;
            let other_zeros = self.module(tensor, name, other)?.zeros(layer.shape)?;
            let order = names::row_order(layer.shape.rows, place.heads).unwrap_or_default();
            let twin = self.base.find(tensor).and_then(|twin| {
                let size = layer.shape.rows * layer.shape.columns;
                let weights = float_weights(self.base.bytes(twin), twin.entry.format.name())?;
                weights.get(expert * size..(expert + 1) * size).map(<[f32]>::to_vec)
            });
            for fit in &mut fits {
                fit.add(&layer, &order, twin.as_deref());
                layer.zeros.clone_from(&other_zeros);
            }
        }
        Ok(fits)
    }
}

/// How well a reading fits.
#[derive(Debug, Clone, Copy, Default)]
struct ReadingFit {
    /// Squared distance from BASE, in steps; of weights that BASE has in floating point.
    distance: f64,
    compared: u64,
    /// Sum of all weights, in steps.
    sum: f64,
    weights: u64,
}

impl ReadingFit {
    fn add(&mut self, layer: &Layer, order: &[usize], twin: Option<&[f32]>) {
        let columns = layer.shape.columns;
        for (at, &row) in order.iter().enumerate() {
            for column in 0..columns {
                let scale = layer.scales[row * layer.shape.groups() + column / layer.shape.group];
                if scale == 0.0 {
                    continue;
                }
                let steps = f64::from(layer.weight(row, column)) / f64::from(scale);
                self.sum += steps;
                self.weights += 1;
                if let Some(twin) = twin {
                    let own = f64::from(twin[at * columns + column]) / f64::from(scale);
                    self.distance += (steps - own) * (steps - own);
                    self.compared += 1;
                }
            }
        }
    }

    /// Whether one of two readings is far nearer to BASE.
    fn is_clear(&self, other: &Self) -> bool {
        let (least, most) = (self.distance.min(other.distance), self.distance.max(other.distance));
        self.compared > 0 && least * FACTOR < most
    }

    /// Why this reading is right and the other is not, if that is clear.
    fn evidence_against(&self, other: &Self) -> Option<String> {
        #[expect(clippy::cast_precision_loss, reason = "counts of weights")]
        let mean = |sum: f64, count: u64| sum / count.max(1) as f64;
        if self.compared > 0 {
            let root = |fit: &Self| mean(fit.distance, fit.compared).sqrt();
            return (self.distance * FACTOR < other.distance).then(|| {
                format!(
                    "the weights are {:.2} steps from BASE's then, and {:.2} otherwise",
                    root(self),
                    root(other)
                )
            });
        }
        let (own, others) = (mean(self.sum, self.weights), mean(other.sum, other.weights));
        (own.abs() < NEAR_ZERO && others.abs() > 1.0 - NEAR_ZERO).then(|| {
            format!("the weights are around {own:.2} steps then, and around {others:.2} otherwise")
        })
    }
}
