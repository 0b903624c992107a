//! Settings: the run-time choices of one trial, with llama-bench's names and defaults.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Number format of the K or the V cache, by ggml's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are ggml's own type names")]
pub enum CacheType {
    F32,
    #[default]
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    #[serde(rename = "iq4_nl")]
    Iq4Nl,
    Q5_0,
    Q5_1,
}

impl CacheType {
    /// All types, in the order in which an error lists them.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Iq4Nl,
        Self::Q5_0,
        Self::Q5_1,
    ];

    /// ggml's name of the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Iq4Nl => "iq4_nl",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
        }
    }
}

/// Whether attention runs as one fused operation. `Auto` leaves it to llama.cpp, per device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "self-explanatory")]
pub enum FlashAttention {
    #[default]
    Auto,
    On,
    Off,
}

/// How a model is divided over several GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "llama.cpp's own names")]
pub enum SplitMode {
    None,
    #[default]
    Layer,
    Row,
}

/// Run-time choices of one trial. Names and defaults are llama-bench's, so that a figure can be laid
/// beside anyone's llama-bench figure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Threads of the CPU back end; `None`: llama-bench's default, the number of physical cores
    /// fit for arithmetic.
    pub threads: Option<u32>,
    /// Layers kept on the GPU; -1: all.
    pub gpu_layers: i32,
    /// Fused attention.
    pub flash_attention: FlashAttention,
    /// Tokens submitted at once (`n_batch`).
    pub batch: u32,
    /// Tokens computed at once (`n_ubatch`).
    pub ubatch: u32,
    /// Format of the K cache.
    pub cache_type_k: CacheType,
    /// Format of the V cache.
    pub cache_type_v: CacheType,
    /// Division over several GPUs.
    pub split_mode: SplitMode,
    /// Index of the GPU used alone or for small tensors.
    pub main_gpu: u32,
    /// Whether the KV cache and its operations are kept on the GPU.
    pub kv_offload: bool,
    /// Whether the file is memory-mapped when loaded.
    pub mmap: bool,
    /// Whether layers that attend to a sliding window keep the whole context in the KV cache, not the
    /// window alone.
    #[serde(default)]
    pub swa_full: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: None,
            gpu_layers: -1,
            flash_attention: FlashAttention::Auto,
            batch: 2048,
            ubatch: 512,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            split_mode: SplitMode::Layer,
            main_gpu: 0,
            kv_offload: true,
            mmap: true,
            swa_full: false,
        }
    }
}

impl Settings {
    /// The settings under every combination of some values of keys, those of the last key varying fastest; what is not
    /// among the keys has its default.
    ///
    /// # Errors
    /// A key or a value is none of a setting.
    pub fn sweep(axes: &[(&str, Vec<Value>)]) -> Result<Vec<Self>, serde_json::Error> {
        let mut all = vec![serde_json::to_value(Self::default())?];
        for (key, values) in axes {
            let with = |settings: &Value, value: &Value| {
                let mut settings = settings.clone();
                settings[*key] = value.clone();
                settings
            };
            let vary = |settings: &Value| values.iter().map(|it| with(settings, it)).collect();
            all = all.iter().flat_map::<Vec<Value>, _>(vary).collect();
        }
        serde_json::from_value(Value::Array(all))
    }
}

impl fmt::Display for Settings {
    /// Shows only what differs from the defaults, in llama-bench's spelling: `t=4 fa=on`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        let mut parts: Vec<String> = Vec::new();
        if let Some(threads) = self.threads {
            parts.push(format!("t={threads}"));
        }
        if self.gpu_layers != default.gpu_layers {
            parts.push(format!("ngl={}", self.gpu_layers));
        }
        match self.flash_attention {
            FlashAttention::Auto => {}
            FlashAttention::On => parts.push("fa=on".to_owned()),
            FlashAttention::Off => parts.push("fa=off".to_owned()),
        }
        if self.batch != default.batch {
            parts.push(format!("b={}", self.batch));
        }
        if self.ubatch != default.ubatch {
            parts.push(format!("ub={}", self.ubatch));
        }
        if self.cache_type_k != default.cache_type_k {
            parts.push(format!("ctk={}", self.cache_type_k.name()));
        }
        if self.cache_type_v != default.cache_type_v {
            parts.push(format!("ctv={}", self.cache_type_v.name()));
        }
        match self.split_mode {
            SplitMode::Layer => {}
            SplitMode::None => parts.push("sm=none".to_owned()),
            SplitMode::Row => parts.push("sm=row".to_owned()),
        }
        if self.main_gpu != default.main_gpu {
            parts.push(format!("mg={}", self.main_gpu));
        }
        if !self.kv_offload {
            parts.push("nkvo=1".to_owned());
        }
        if !self.mmap {
            parts.push("mmap=0".to_owned());
        }
        if self.swa_full {
            parts.push("swa-full".to_owned());
        }
        if parts.is_empty() {
            return formatter.pad("defaults");
        }
        formatter.pad(&parts.join(" "))
    }
}
