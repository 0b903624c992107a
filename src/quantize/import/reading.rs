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
use super::unpack::{Module, Packing};
use super::{float_weights, names};
use crate::engine::llama::gguf_file::GgufInput;
use std::collections::BTreeMap;

/// Modules that are compared; a checkpoint is of one convention.
const COMPARED: usize = 8;

/// What the label's reading has to be worse by to be given up: a step more or less in every weight is
/// worse by far than any rounding.
const FACTOR: f64 = 2.0;

/// Mean distance from zero, in steps, that weights may have and one reading only leaves them with.
const NEAR_ZERO: f64 = 0.25;

/// The packing to read a checkpoint by, and a note if that is not what it says.
pub(super) fn packing(
    base: &GgufInput,
    checkpoint: &Checkpoint,
    configuration: Configuration,
    quantized: &BTreeMap<String, Modules>,
) -> Result<(Packing, Option<String>), ImportError> {
    let labelled = configuration.packing;
    let other = match labelled {
        Packing::GptqV1 => Packing::GptqV2,
        Packing::GptqV2 => Packing::GptqV1,
        Packing::AwqGemm | Packing::AwqGemv => return Ok((labelled, None)),
    };
    let [own, others] = compare(base, checkpoint, configuration, quantized, other)?;
    // Few bits may have all zero points beside the middle, so that a clear comparison counts first.
    let evidence = if own.is_clear(&others) {
        others.evidence_against(&own)
    } else {
        match symmetric(base, checkpoint, configuration, quantized)? {
            Some(packing) if packing == labelled => None,
            Some(_) => Some("all of them are in the middle then".to_owned()),
            None => others.evidence_against(&own),
        }
    };
    Ok(match evidence {
        None => (labelled, None),
        Some(evidence) => {
            let note = format!(
                "the zero points are read as those of {}, though the checkpoint says {}: {evidence}",
                other.name(),
                labelled.name()
            );
            (other, Some(note))
        }
    })
}

/// The reading that puts all zero points in the middle, if one does.
fn symmetric(
    base: &GgufInput,
    checkpoint: &Checkpoint,
    configuration: Configuration,
    quantized: &BTreeMap<String, Modules>,
) -> Result<Option<Packing>, ImportError> {
    let mut readings = vec![Packing::GptqV1, Packing::GptqV2];
    for (tensor, modules) in quantized {
        for (name, _) in modules.values() {
            let configuration = configuration.of_module(checkpoint, name, columns(base, tensor))?;
            // What is stored, whatever it means.
            let configuration = Configuration { packing: Packing::GptqV2, ..configuration };
            let module = Module { checkpoint, configuration, name };
            let stored = module.zeros(module.shape()?)?;
            let middle = 1_u16 << (configuration.bits - 1);
            readings.retain(|reading| {
                let expected = if *reading == Packing::GptqV1 { middle - 1 } else { middle };
                stored.iter().all(|&zero| zero == expected)
            });
            if readings.is_empty() {
                return Ok(None);
            }
        }
    }
    Ok(readings.pop())
}

/// How well a reading fits.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    /// Squared distance from BASE, in steps; of weights that BASE has in floating point.
    distance: f64,
    compared: u64,
    /// Sum of all weights, in steps.
    sum: f64,
    weights: u64,
}

impl Fit {
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

/// How well the labelled and the other reading fit some modules.
fn compare(
    base: &GgufInput,
    checkpoint: &Checkpoint,
    configuration: Configuration,
    quantized: &BTreeMap<String, Modules>,
    other: Packing,
) -> Result<[Fit; 2], ImportError> {
    let mut fits = [Fit::default(); 2];
    let step = quantized.len().div_ceil(COMPARED).max(1);
    for (tensor, modules) in quantized.iter().step_by(step) {
        let Some((expert, (name, place))) = modules.first_key_value() else { continue };
        let configuration = configuration.of_module(checkpoint, name, columns(base, tensor))?;
        let mut layer = Module { checkpoint, configuration, name }.layer()?;
        let reread = Module {
            checkpoint,
            configuration: Configuration { packing: other, ..configuration },
            name,
        };
        let other_zeros = reread.zeros(layer.shape)?;
        let order = names::row_order(layer.shape.rows, place.heads).unwrap_or_default();
        let twin = base.find(tensor).and_then(|twin| {
            let size = layer.shape.rows * layer.shape.columns;
            let weights = float_weights(base.bytes(twin), twin.entry.format.name())?;
            weights.get(expert * size..(expert + 1) * size).map(<[f32]>::to_vec)
        });
        for fit in &mut fits {
            fit.add(&layer, &order, twin.as_deref());
            layer.zeros.clone_from(&other_zeros);
        }
    }
    Ok(fits)
}

impl Fit {
    fn add(&mut self, layer: &super::unpack::Layer, order: &[usize], twin: Option<&[f32]>) {
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
}

/// Columns of a tensor of BASE.
fn columns(base: &GgufInput, tensor: &str) -> usize {
    let columns = base.find(tensor).and_then(|tensor| tensor.entry.dimensions.first().copied());
    columns.and_then(|columns| usize::try_from(columns).ok()).unwrap_or(0)
}
