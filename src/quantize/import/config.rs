//! How a checkpoint was quantized: `quantize_config.json`, or `quantization_config` in `config.json`.
//!
//! The keys are those that `AutoGPTQ`, `GPTQModel` and `AutoAWQ` write.

use super::checkpoint::Checkpoint;
use super::error::ImportError;
use super::unpack::Packing;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read as _;
use std::path::Path;

/// No configuration or index is longer, bytes.
const LONGEST_JSON: u64 = 64 << 20;

/// Bits that GPTQ packs codes into.
const GPTQ_BITS: [u32; 4] = [2, 3, 4, 8];

/// The two kinds of checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum CheckpointKind {
    /// GPTQ.
    Gptq,
    /// AWQ.
    Awq,
}

/// How the weights of a checkpoint are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Order of the packed codes and meaning of the zero points.
    pub packing: Packing,
    /// Bits of a code.
    pub bits: u32,
    /// Columns that share a scale; `None`: all of a row.
    pub group: Option<usize>,
    /// Modules may have other bits and groups than these, which their shapes tell (`dynamic`).
    pub is_dynamic: bool,
    /// Every zero point has to be in the middle (AWQ's `zero_point = false`).
    pub is_symmetric: bool,
}

#[derive(Debug, Deserialize)]
struct Written {
    quant_method: Option<String>,
    #[serde(alias = "w_bit")]
    bits: Option<u32>,
    #[serde(alias = "q_group_size")]
    group_size: Option<i64>,
    checkpoint_format: Option<String>,
    /// A word for AWQ's packing, and a number of releases elsewhere.
    version: Option<serde_json::Value>,
    zero_point: Option<bool>,
    /// `GPTQModel`: other bits or groups for some modules.
    dynamic: Option<serde_json::Value>,
    /// compressed-tensors.
    config_groups: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct ModelFile {
    /// The older name is that of compressed-tensors.
    #[serde(alias = "compression_config")]
    quantization_config: Option<Written>,
}

impl Configuration {
    /// Reads the configuration of a folder.
    ///
    /// # Errors
    /// When there is none, or it says something that is not read.
    pub(crate) fn read(folder: &Path, kind: CheckpointKind) -> Result<Self, ImportError> {
        // AutoAWQ's older name for the same.
        for name in ["quantize_config.json", "quant_config.json"] {
            let path = folder.join(name);
            if path.exists() {
                return Self::from_written(&read_json(&path)?, kind, &path);
            }
        }
        let path = folder.join("config.json");
        let written =
            if path.exists() { read_json::<ModelFile>(&path)?.quantization_config } else { None };
        match written {
            Some(written) => Self::from_written(&written, kind, &path),
            None => Err(ImportError::Refused(format!(
                "{} has neither quantize_config.json nor a quantization_config in config.json: it is no GPTQ or \
                 AWQ checkpoint; one that is not quantized is a model itself, as in 'quantbench {}'",
                folder.display(),
                folder.display()
            ))),
        }
    }

    /// The configuration of one module of so many columns: where rules gave some modules another,
    /// shapes tell it.
    ///
    /// # Errors
    /// When the module is not whole, or its shapes are none of GPTQ's.
    pub(crate) fn of_module(
        self,
        checkpoint: &Checkpoint,
        name: &str,
        columns: usize,
    ) -> Result<Self, ImportError> {
        if !self.is_dynamic || columns == 0 {
            return Ok(self);
        }
        let first = |part: &str| {
            let name = format!("{name}.{part}");
            Ok::<_, ImportError>(checkpoint.shape(&name)?.first().copied().unwrap_or(0))
        };
        let (words, groups) = (first("qweight")?, first("scales")?);
        let bits = GPTQ_BITS
            .into_iter()
            .find(|&bits| Some(columns * bits as usize) == words.checked_mul(32));
        let is_own = groups == columns.div_ceil(self.group.unwrap_or(columns).min(columns));
        let group = match groups {
            _ if is_own => Some(self.group),
            1 => Some(None),
            0 => None,
            _ => Some(Some(columns / groups)).filter(|_| columns.is_multiple_of(groups * 32)),
        };
        match (bits, group) {
            (Some(bits), Some(group)) => Ok(Self { bits, group, ..self }),
            _ => Err(ImportError::mismatch(
                name,
                format!(
                    "{words} rows of words and {groups} groups are none of GPTQ's packings of {columns} \
                     columns"
                ),
            )),
        }
    }

    fn from_written(
        written: &Written,
        kind: CheckpointKind,
        path: &Path,
    ) -> Result<Self, ImportError> {
        let unsupported = |what: String| ImportError::file(path, what);
        let is_compressed = written.config_groups.is_some()
            || written.quant_method.as_deref() == Some("compressed-tensors");
        if is_compressed {
            return Err(unsupported(
                "it is a checkpoint of compressed-tensors (llm-compressor), whose packing is not \
                 read; take the model that it was made from, or save it decompressed, and convert \
                 that with llama.cpp's convert_hf_to_gguf.py"
                    .to_owned(),
            ));
        }
        if let Some(method) = &written.quant_method
            && !method.eq_ignore_ascii_case(kind.into())
        {
            let remedy = match method.to_ascii_lowercase().as_str() {
                other @ ("gptq" | "awq") => format!("use 'quantbench import {other}'"),
                _ => "gptq and awq are read".to_owned(),
            };
            return Err(unsupported(format!(
                "it was quantized by '{method}', not by '{kind}'; {remedy}"
            )));
        }
        let bits = written.bits.unwrap_or(4);
        let allowed: &[u32] = match kind {
            CheckpointKind::Gptq => &GPTQ_BITS,
            CheckpointKind::Awq => &[4],
        };
        if !allowed.contains(&bits) {
            return Err(unsupported(format!("bits = {bits}; {allowed:?} are read")));
        }
        let group = match written.group_size.unwrap_or(128) {
            -1 => None,
            size @ (32 | 64 | 128 | 256 | 512 | 1024) => usize::try_from(size).ok(),
            other => {
                return Err(unsupported(format!(
                    "group_size = {other}; 32, 64, 128, 256, 512, 1024 and -1 are read"
                )));
            }
        };
        let packing = match kind {
            CheckpointKind::Gptq => match written.checkpoint_format.as_deref() {
                None | Some("gptq") => Packing::GptqV1,
                Some("gptq_v2") => Packing::GptqV2,
                Some(other) => {
                    return Err(unsupported(format!(
                        "checkpoint_format = '{other}'; gptq and gptq_v2 are read"
                    )));
                }
            },
            CheckpointKind::Awq => {
                let version = match &written.version {
                    None | Some(serde_json::Value::Null) => "gemm".to_owned(),
                    Some(serde_json::Value::String(version)) => version.clone(),
                    Some(other) => other.to_string(),
                };
                match version.to_ascii_lowercase().as_str() {
                    "gemm" => Packing::AwqGemm,
                    "gemv" => Packing::AwqGemv,
                    _ => {
                        let what = format!("version = '{version}'; GEMM and GEMV are read");
                        return Err(unsupported(what));
                    }
                }
            }
        };
        let is_empty = |value: &serde_json::Value| match value {
            serde_json::Value::Object(rules) => rules.is_empty(),
            value => value.is_null() || value == &serde_json::Value::Bool(false),
        };
        let is_dynamic = kind == CheckpointKind::Gptq
            && written.dynamic.as_ref().is_some_and(|dynamic| !is_empty(dynamic));
        let is_symmetric = kind == CheckpointKind::Awq && written.zero_point == Some(false);
        Ok(Self { packing, bits, group, is_dynamic, is_symmetric })
    }
}

/// Reads a JSON file of bounded length.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    crate::files::open(path)
        .and_then(|file| file.take(LONGEST_JSON + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST_JSON {
        return Err(ImportError::file(path, "it is longer than 64 MiB"));
    }
    serde_json::from_slice(&bytes).map_err(|error| ImportError::file(path, error))
}
