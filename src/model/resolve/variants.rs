//! Which variants a list of quantizations asks for: ready ones are taken, the others made.

use super::{ReadyVariant, ResolveError, Resolved};
use crate::model::cache::{CalibrationKey, VariantKey};
use crate::model::file_type::FileType;
use crate::model::quantization::{Method, Quantization};
use crate::model::size;

/// One variant to measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Variant {
    /// It is there.
    Ready(ReadyVariant),
    /// It has to be made from the source, unless the cache has it.
    Make {
        /// What to make.
        quantization: Quantization,
        /// The type that it has in llama.cpp.
        file_type: FileType,
        /// The name in tables.
        label: String,
        /// Its address in the cache.
        key: VariantKey,
        /// How large it will be at most, bytes.
        expected_bytes: u64,
    },
}

impl Variant {
    /// How its weights are stored.
    #[must_use]
    pub fn quantization(&self) -> Quantization {
        match self {
            Self::Ready(ready) => ready.quantization,
            Self::Make { quantization, .. } => *quantization,
        }
    }

    /// The name in tables.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Ready(ready) => &ready.label,
            Self::Make { label, .. } => label,
        }
    }
}

/// Whether a source that is quantized already may be quantized again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requantize {
    /// Refuse: errors add up.
    Refuse,
    /// The user asked for it.
    Allow,
}

/// How variants are made.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// Whether from a source that is quantized already.
    pub requantize: Requantize,
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
) -> Result<Vec<Variant>, ResolveError> {
    if quantizations.is_empty() {
        return Ok(resolved.ready.iter().cloned().map(Variant::Ready).collect());
    }
    let mut variants = Vec::new();
    for &wanted in quantizations {
        let ready: Vec<&ReadyVariant> =
            resolved.ready.iter().filter(|ready| meets(ready.quantization, wanted)).collect();
        if ready.is_empty() {
            variants.push(make(resolved, wanted, making)?);
        } else {
            variants.extend(ready.into_iter().cloned().map(Variant::Ready));
        }
    }
    Ok(variants)
}

fn meets(present: Quantization, wanted: Quantization) -> bool {
    present.label == wanted.label
        && (present.method == wanted.method || wanted.method == Method::Rtn)
}

fn make(
    resolved: &Resolved,
    wanted: Quantization,
    making: Making<'_>,
) -> Result<Variant, ResolveError> {
    let Some(source) = &resolved.source else {
        let present = resolved.ready.iter().map(|ready| ready.quantization.to_string()).collect();
        return Err(ResolveError::NotReady { wanted, present });
    };
    if !source.quantization.is_float() && making.requantize == Requantize::Refuse {
        return Err(ResolveError::AlreadyQuantized {
            wanted,
            path: source.artifact.path.clone(),
            own: source.quantization,
        });
    }
    let file_type = wanted.to_make()?;
    Ok(Variant::Make {
        quantization: wanted,
        file_type,
        label: wanted.to_string(),
        key: VariantKey {
            source_checksum: source.artifact.checksum.clone(),
            quantization: wanted,
            maker: making.maker.to_owned(),
            calibration: (making.calibration)(wanted.method),
        },
        expected_bytes: size::expected_bytes(&source.header, file_type),
    })
}
