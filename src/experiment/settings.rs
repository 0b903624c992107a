//! Settings: the run-time choices of one trial, with llama-bench's names and defaults.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use strum::{Display, EnumIter, IntoStaticStr, VariantNames};

/// Number format of the K or the V cache, by ggml's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(IntoStaticStr, VariantNames, ValueEnum)]
#[strum(serialize_all = "lowercase")]
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
    #[strum(serialize = "iq4_nl")]
    #[value(name = "iq4_nl")]
    Iq4Nl,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q5_1")]
    Q5_1,
}

/// Whether attention runs as one fused operation. `Auto` leaves it to llama.cpp, per device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(VariantNames, Display, ValueEnum)]
#[strum(serialize_all = "lowercase")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(VariantNames, Display, ValueEnum)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "llama.cpp's own names")]
pub enum SplitMode {
    None,
    #[default]
    Layer,
    Row,
    Tensor,
}

/// How far ONNX Runtime rewrites a graph when it is loaded, in its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(VariantNames, Display, ValueEnum)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "ONNX Runtime's own names")]
pub enum GraphOptimization {
    Disable,
    Basic,
    Extended,
    #[default]
    All,
}

impl GraphOptimization {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// What ONNX Runtime computes with: its execution providers, by short names. What one leaves, the processor computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(VariantNames, Display, ValueEnum, EnumIter)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "ONNX Runtime's own names")]
pub enum Provider {
    #[default]
    Cpu,
    Cuda,
    Tensorrt,
    Migraphx,
    Openvino,
    Directml,
    Coreml,
    Xnnpack,
}

impl Provider {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }
}

/// Shares of the GPUs, in the order of the devices, as llama-bench writes them: `3/1`. None: as the engine divides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TensorSplit(Vec<u32>);

impl TensorSplit {
    /// What each GPU gets, in any unit.
    pub fn shares(&self) -> &[u32] {
        &self.0
    }

    /// Whether nothing is said of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for TensorSplit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MOST: u32 = 1_000_000;
        if text.is_empty() {
            return Ok(Self::default());
        }
        let shares = text.split('/').map(|share| share.trim().parse().ok());
        let shares: Option<Vec<u32>> = shares.map(|it| it.filter(|it| *it <= MOST)).collect();
        let of_something = |it: &Vec<u32>| it.iter().any(|share| *share > 0);
        shares.filter(of_something).map(Self).ok_or_else(|| {
            format!("'{text}' is no division; write whole numbers like 3/1, one for each GPU")
        })
    }
}

impl TryFrom<String> for TensorSplit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TensorSplit> for String {
    fn from(split: TensorSplit) -> Self {
        split.to_string()
    }
}

impl fmt::Display for TensorSplit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&shares.join("/"))
    }
}

/// Run-time choices of one trial. Names and defaults are llama-bench's, so that a figure can be laid
/// beside anyone's llama-bench figure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "run-time choices are independent")]
pub struct Settings {
    /// Threads of the CPU back end; `None`: llama-bench's default, the number of physical cores
    /// fit for arithmetic.
    pub threads: Option<u32>,
    /// Threads that read prompts and compute batches; `None`: as many as generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_batch: Option<u32>,
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
    /// Shares of the GPUs.
    #[serde(default, skip_serializing_if = "TensorSplit::is_empty")]
    pub tensor_split: TensorSplit,
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
    /// Whether weights are laid out anew for the kernels of the processor when they are loaded.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub repack: bool,
    /// Whether large products of weights on the host are computed on a GPU.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub op_offload: bool,
    /// Whether the weights of experts stay on the host, whatever else is on a GPU.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cpu_moe: bool,
    /// Whether ONNX Runtime's threads wait for work in a loop, which is faster and keeps processors busy.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub spinning: bool,
    /// How far ONNX Runtime rewrites the graph.
    #[serde(default, skip_serializing_if = "GraphOptimization::is_all")]
    pub graph_optimization: GraphOptimization,
    /// What ONNX Runtime computes with.
    #[serde(default, skip_serializing_if = "Provider::is_cpu")]
    pub provider: Provider,
}

// Keys that came later are not written where they have their defaults: trials of stored runs stay the same.
fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: None,
            threads_batch: None,
            gpu_layers: -1,
            flash_attention: FlashAttention::Auto,
            batch: 2048,
            ubatch: 512,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            split_mode: SplitMode::Layer,
            tensor_split: TensorSplit::default(),
            main_gpu: 0,
            kv_offload: true,
            mmap: true,
            swa_full: false,
            repack: true,
            op_offload: true,
            cpu_moe: false,
            spinning: true,
            graph_optimization: GraphOptimization::All,
            provider: Provider::Cpu,
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
    /// The same with another value of a key.
    ///
    /// # Errors
    /// The key or the value is none of a setting.
    pub fn with(&self, key: &str, value: &Value) -> Result<Self, serde_json::Error> {
        let mut settings = serde_json::to_value(self)?;
        settings[key] = value.clone();
        serde_json::from_value(settings)
    }

    /// What differs from the defaults, by llama-bench's short flags: `("t", "4")`.
    pub fn changed(&self) -> Vec<(&'static str, String)> {
        let count = |threads: Option<u32>| threads.map_or_else(String::new, |it| it.to_string());
        let values = |of: &Self| {
            [
                ("t", count(of.threads)),
                ("tb", count(of.threads_batch)),
                ("ngl", of.gpu_layers.to_string()),
                ("fa", of.flash_attention.to_string()),
                ("b", of.batch.to_string()),
                ("ub", of.ubatch.to_string()),
                ("ctk", <&str>::from(of.cache_type_k).to_owned()),
                ("ctv", <&str>::from(of.cache_type_v).to_owned()),
                ("sm", of.split_mode.to_string()),
                ("ts", of.tensor_split.to_string()),
                ("mg", of.main_gpu.to_string()),
                ("nkvo", u8::from(!of.kv_offload).to_string()),
                ("mmap", u8::from(of.mmap).to_string()),
                ("repack", u8::from(of.repack).to_string()),
                ("nopo", u8::from(!of.op_offload).to_string()),
                // llama-bench has none: these are ONNX Runtime's.
                ("spin", u8::from(of.spinning).to_string()),
                ("opt", of.graph_optimization.to_string()),
                ("ep", of.provider.to_string()),
            ]
        };
        let values = values(self).into_iter().zip(values(&Self::default()));
        let other = values.filter(|(own, default)| own != default).map(|(own, _)| own);
        let alone = [("swa-full", self.swa_full), ("cmoe", self.cpu_moe)];
        let alone = alone.into_iter().filter(|(_, is_set)| *is_set);
        other.chain(alone.map(|(flag, _)| (flag, String::new()))).collect()
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
