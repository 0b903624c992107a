//! Which variants a list of quantizations asks for: ready ones are taken, the others made.

use super::{ReadyVariant, Resolved};
use crate::causes::Problem;
use crate::model::artifact::Artifact;
use crate::model::cache::{CalibrationKey, VariantKey};
use crate::model::file_type::FileType;
use crate::model::quantization::{Label, Method, Quantization};
use crate::model::repository::RemoteVariant;
use crate::model::size;
use std::path::PathBuf;

/// One variant to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// How its weights are stored.
    pub quantization: Quantization,
    /// The name in tables.
    pub label: String,
    /// Where its file is or how it is made.
    pub origin: Origin,
}

/// Where the file of a variant is or how it is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A file that is there already, taken as it is.
    Ready(Artifact),
    /// A file on the hub, fetched when its turn comes: what it will be, and where it is.
    Remote(Artifact, RemoteVariant),
    /// Made from a source, unless the cache has it.
    Make {
        /// The source's GGUF, or the first part of a split one.
        input: PathBuf,
        /// Where the source is fetched from, if it is not there.
        remote: Option<RemoteVariant>,
        /// Of a shape: the file with its header alone, which it is generated from.
        template: Option<PathBuf>,
        /// The type that it has in llama.cpp.
        file_type: FileType,
        /// Its address in the cache.
        key: VariantKey,
        /// Make it even though the source is already quantized.
        allow_requantize: bool,
        /// Bytes that the file will take at most.
        expected_bytes: u64,
    },
}

impl From<&ReadyVariant> for Variant {
    fn from(ReadyVariant { artifact, quantization, label, remote, .. }: &ReadyVariant) -> Self {
        let origin = match remote {
            None => Origin::Ready(artifact.clone()),
            Some(remote) => Origin::Remote(artifact.clone(), remote.clone()),
        };
        Self { quantization: *quantization, label: label.clone(), origin }
    }
}

/// How variants are made.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// From a source that is quantized already too, though errors add up: the user asked for it.
    pub allow_requantize: bool,
    /// What makes them, with its version.
    pub maker: &'a str,
    /// What a variant made by a method depends on besides its source.
    pub calibration: &'a dyn Fn(Method) -> Option<CalibrationKey>,
}

/// The variants that `quantizations` ask for, in that order; all ready ones if it is empty. A plain
/// name is met by a ready variant of any method.
///
/// # Errors
/// When a variant would have to be made from a source that is quantized already and that is refused,
/// or a folder lacks one that was asked for.
pub fn variants(
    resolved: &Resolved,
    quantizations: &[Quantization],
    making: Making<'_>,
) -> Result<Vec<Variant>, Problem> {
    if quantizations.is_empty() {
        let ready = resolved.ready.iter().filter(|ready| ready.by_default);
        let variants: Vec<Variant> = ready.map(Variant::from).collect();
        if variants.is_empty() {
            let labels: Vec<&str> = resolved.ready.iter().map(|it| it.label.as_str()).collect();
            return Err(Problem::new(format!(
                "none of the usual variants is there and fits this machine; name the one that is meant behind the \
                 repository's name and a colon, of {}",
                labels.join(", ")
            )));
        }
        return Ok(variants);
    }
    let mut variants = Vec::new();
    for &wanted in quantizations {
        let ready: Vec<&ReadyVariant> =
            resolved.ready.iter().filter(|ready| ready.quantization.meets(wanted)).collect();
        let ready = if ready.is_empty() { may_be(resolved, wanted) } else { ready };
        let found: Vec<Variant> = if ready.is_empty() {
            vec![make(resolved, wanted, making)?]
        } else {
            ready.into_iter().map(Variant::from).collect()
        };
        for variant in found {
            // A plain name and another may mean the same file.
            if !variants.contains(&variant) {
                variants.push(variant);
            }
        }
    }
    Ok(variants)
}

/// Graphs that may be what is asked for: they cannot be read, which their trials will tell.
fn may_be(resolved: &Resolved, wanted: Quantization) -> Vec<&ReadyVariant> {
    let Label::Onnx(_) = wanted.label else { return Vec::new() };
    let is_unknown =
        |it: &&ReadyVariant| matches!(it.quantization.label, Label::Onnx(own) if own.is_unknown());
    resolved.ready.iter().filter(is_unknown).collect()
}

fn make(resolved: &Resolved, wanted: Quantization, making: Making<'_>) -> Result<Variant, Problem> {
    let Some(source) = &resolved.source else {
        let present: Vec<String> =
            resolved.ready.iter().map(|ready| ready.quantization.to_string()).collect();
        return Err(Problem::new(format!(
            "{wanted} is not among the ready variants, which are {}",
            present.join(", ")
        )));
    };
    if !source.quantization.is_float() && !making.allow_requantize {
        return Err(Problem::new(format!(
            "cannot make {wanted} of {}, which is quantized already ({}): rounding twice adds up \
             errors; give an F32, F16 or BF16 source, allow it with --allow-requantize or \
             allow_requantize = true, or set quantizations = [] to measure it as it is",
            source.artifact.path.display(),
            source.quantization
        )));
    }
    let file_type = wanted.to_make().map_err(|error| Problem::new(error.to_string()))?;
    let key = VariantKey {
        source_checksum: source.artifact.checksum.clone(),
        quantization: wanted,
        maker: making.maker.to_owned(),
        calibration: (making.calibration)(wanted.method),
    };
    let origin = Origin::Make {
        input: source.artifact.path.clone(),
        remote: source.remote.clone(),
        template: source.template.clone(),
        file_type,
        key,
        allow_requantize: making.allow_requantize,
        expected_bytes: match &source.header {
            Some(header) => size::expected_bytes(header, file_type),
            None => size::expected_of(source.artifact.file_bytes, source.quantization, file_type),
        },
    };
    Ok(Variant { quantization: wanted, label: wanted.to_string(), origin })
}
