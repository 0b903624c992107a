//! How a checkpoint was quantized: `quantize_config.json`, or `quantization_config` in `config.json`.
//!
//! The keys are those that `AutoGPTQ`, `GPTQModel` and `AutoAWQ` write.

use super::error::ImportError;
use super::unpack::Packing;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read as _;
use std::path::Path;

/// No configuration or index is longer, bytes.
const LONGEST_JSON: u64 = 64 << 20;

/// The two kinds of checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    /// GPTQ.
    Gptq,
    /// AWQ.
    Awq,
}

impl CheckpointKind {
    /// The name of the method in a file's metadata.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Gptq => "gptq-import",
            Self::Awq => "awq-import",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gptq => "gptq",
            Self::Awq => "awq",
        }
    }
}

/// How the weights of a checkpoint are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    /// Order of the packed codes and meaning of the zero points.
    pub packing: Packing,
    /// Bits of a code.
    pub bits: u32,
    /// Columns that share a scale; `None`: all of a row.
    pub group: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Written {
    quant_method: Option<String>,
    #[serde(alias = "w_bit")]
    bits: Option<u32>,
    #[serde(alias = "q_group_size")]
    group_size: Option<i64>,
    checkpoint_format: Option<String>,
    version: Option<String>,
    zero_point: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ModelFile {
    quantization_config: Option<Written>,
}

impl Configuration {
    /// Reads the configuration of a folder.
    ///
    /// # Errors
    /// When there is none, or it says something that is not read.
    pub fn read(folder: &Path, kind: CheckpointKind) -> Result<Self, ImportError> {
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
            None => Err(ImportError::NoConfiguration { path: folder.to_owned() }),
        }
    }

    fn from_written(
        written: &Written,
        kind: CheckpointKind,
        path: &Path,
    ) -> Result<Self, ImportError> {
        let unsupported = |what: String| ImportError::Unsupported { path: path.to_owned(), what };
        if let Some(method) = &written.quant_method
            && !method.eq_ignore_ascii_case(kind.name())
        {
            return Err(unsupported(format!(
                "it was quantized by '{method}', not by '{}'",
                kind.name()
            )));
        }
        let bits = written.bits.unwrap_or(4);
        let allowed: &[u32] = match kind {
            CheckpointKind::Gptq => &[2, 3, 4, 8],
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
            CheckpointKind::Gptq => gptq_packing(written.checkpoint_format.as_deref()),
            CheckpointKind::Awq if written.zero_point == Some(false) => None,
            CheckpointKind::Awq => awq_packing(written.version.as_deref()),
        };
        let packing = packing.ok_or_else(|| {
            unsupported(match kind {
                CheckpointKind::Gptq => format!(
                    "checkpoint_format = '{}'; gptq and gptq_v2 are read",
                    written.checkpoint_format.as_deref().unwrap_or_default()
                ),
                CheckpointKind::Awq => format!(
                    "version = '{}', zero_point = {}; GEMM and GEMV with zero points are read",
                    written.version.as_deref().unwrap_or("gemm"),
                    written.zero_point.unwrap_or(true)
                ),
            })
        })?;
        Ok(Self { packing, bits, group })
    }
}

fn gptq_packing(format: Option<&str>) -> Option<Packing> {
    match format {
        None | Some("gptq") => Some(Packing::GptqV1),
        Some("gptq_v2") => Some(Packing::GptqV2),
        Some(_) => None,
    }
}

fn awq_packing(version: Option<&str>) -> Option<Packing> {
    match version.unwrap_or("gemm").to_ascii_lowercase().as_str() {
        "gemm" => Some(Packing::AwqGemm),
        "gemv" => Some(Packing::AwqGemv),
        _ => None,
    }
}

/// Reads a JSON file of bounded length.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    crate::files::open(path)
        .and_then(|file| file.take(LONGEST_JSON + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    let wrong = |problem: String| ImportError::Json { path: path.to_owned(), problem };
    if bytes.len() as u64 > LONGEST_JSON {
        return Err(wrong("it is longer than 64 MiB".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}
