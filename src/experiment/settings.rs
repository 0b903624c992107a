//! Settings: the run-time choices of one trial, with llama-bench's names and defaults.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Number format of the K or the V cache, by ggml's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are ggml's own type names")]
pub enum CacheType {
    F32,
    #[default]
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_1")]
    Q4_1,
    #[serde(rename = "iq4_nl")]
    #[value(name = "iq4_nl")]
    Iq4Nl,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q5_1")]
    Q5_1,
}

impl CacheType {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "self-explanatory")]
pub enum FlashAttention {
    // The numbers are those of older versions of llama-bench.
    #[default]
    #[value(alias = "-1")]
    Auto,
    #[value(aliases = ["1", "true"])]
    On,
    #[value(aliases = ["0", "false"])]
    Off,
}

/// How a model is divided over several GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
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

impl Settings {
    /// What differs from the defaults, by llama-bench's short flags: `("t", "4")`.
    #[must_use]
    pub fn changed(&self) -> Vec<(&'static str, String)> {
        let default = Self::default();
        let mut changed: Vec<(&'static str, String)> = Vec::new();
        let mut add = |flag, differs: bool, value: &dyn fmt::Display| {
            changed.extend(differs.then(|| (flag, value.to_string())));
        };
        add("t", self.threads != default.threads, &self.threads.unwrap_or_default());
        add("ngl", self.gpu_layers != default.gpu_layers, &self.gpu_layers);
        let on = self.flash_attention == FlashAttention::On;
        add("fa", self.flash_attention != default.flash_attention, if on { &"on" } else { &"off" });
        add("b", self.batch != default.batch, &self.batch);
        add("ub", self.ubatch != default.ubatch, &self.ubatch);
        add("ctk", self.cache_type_k != default.cache_type_k, &self.cache_type_k.name());
        add("ctv", self.cache_type_v != default.cache_type_v, &self.cache_type_v.name());
        let by_row = self.split_mode == SplitMode::Row;
        add("sm", self.split_mode != default.split_mode, if by_row { &"row" } else { &"none" });
        add("mg", self.main_gpu != default.main_gpu, &self.main_gpu);
        add("nkvo", !self.kv_offload, &1);
        add("mmap", !self.mmap, &0);
        add("swa-full", self.swa_full, &"");
        changed
    }
}

impl fmt::Display for Settings {
    /// Shows only what differs from the defaults: `t=4 fa=on`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.changed();
        let parts = changed.iter().map(|(flag, value)| match value.as_str() {
            "" => (*flag).to_owned(),
            value => format!("{flag}={value}"),
        });
        if changed.is_empty() {
            return formatter.pad("defaults");
        }
        formatter.pad(&parts.collect::<Vec<_>>().join(" "))
    }
}
