//! Every key of an experiment: its type, bounds, default and meaning.
//!
//! Sentences are written for `models.toml` and for docs/reference/experiment.md; after a change here,
//! `UPDATE=1 cargo test` writes both.

use super::Kind::{
    Bytes, Choice, Flag, Named, Number, OwnTable, Tables, Text, Time, Whole, WholeOrAuto,
};
use super::{Key, Kind, Table};
use crate::experiment::parameters::Matching;
use crate::experiment::resolved::Keep;
use crate::experiment::settings::{
    CacheType, FlashAttention, GraphOptimization, Provider, SplitMode, TensorSplit,
};
use crate::experiment::workloads::WORKLOADS;
use crate::model::quantization::Quantization;
use crate::prompt::choice::FormatChoice;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use strum::VariantNames as _;

/// More rounds or repetitions are a slip of the finger.
const ROUNDS: Kind = Whole(1, 1000);
/// Longer limits and pauses are a slip; it also keeps deadlines within the clock's range.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);
/// Tokens; above it no llama.cpp batch makes sense.
const BATCH: Kind = Whole(1, 1_048_576);
/// ggml's `GGML_MAX_N_THREADS`.
const THREADS: Kind = WholeOrAuto(1, 512);
pub(in crate::experiment) const CHUNKS: Kind = Whole(1, 1_000_000);
const CACHE_TYPE: Kind = Choice("no choice here", CacheType::VARIANTS);
const QUANTIZATION: Kind = Named("quantization", spelled::<Quantization>);
pub(in crate::experiment) const FORMAT: Kind = Named("prompt format", spelled::<FormatChoice>);

/// What a requirement is bounded by.
const BOUND: Kind = Number(0.0, f64::MAX);

/// A key that bounds a figure; whether there is such a figure is seen when it is known what is measured.
fn bound(key: &str) -> Option<Kind> {
    let figure = key.strip_prefix("min_").or_else(|| key.strip_prefix("max_"))?;
    Some(if figure.ends_with("_bytes") { Bytes } else { BOUND })
}

/// Reads a name and spells it as it is usually spelled.
pub(in crate::experiment) fn spelled<T: FromStr<Err: Display> + Display>(
    text: &str,
) -> Result<String, String> {
    text.parse::<T>().map(|it| it.to_string()).map_err(|error| error.to_string())
}

/// The whole file.
#[rustfmt::skip]
pub static EXPERIMENT: Table = Table::new(
    "",
    "An experiment for quantbench: which models, in which quantizations, under which settings, and what to \
     measure. `quantbench run` reads this file when it lies in the current folder; without one it runs this \
     very file, which is built into the program. A key that is left out has its default, which is the value \
     shown unless the comment says otherwise. `quantbench run --dry-run` shows what a file comes to. \
     docs/reference/experiment.md lists every key with what it may be.",
    &[
        Key::new("quantizations", QUANTIZATION,
            "Variants to make of every model, by llama.cpp's names, in the order of the table. FP32, FP16, INT8 and \
             INT4 are accepted as names of F32, F16, Q8_0 and Q4_0. Left out: the source's own precision, Q8_0, \
             Q6_K, Q5_K_M, Q4_K_M, Q3_K_M and Q2_K. A method stands before a colon: without one, weights are rounded \
             to the nearest value; \"imatrix:IQ3_XXS\" weighs them with an importance matrix, \"gptq:Q4_0\" chooses \
             them with GPTQ, \"awq:Q4_0\" scales columns before rounding (docs/QUANTIZATION.md says what each buys). \
             `variants` is another name of this key.")
            .many().alias("variants").shown(
                "[\n    \"F16\", \"BF16\", \"Q8_0\", \"Q6_K\", \"Q5_K_M\", \"Q5_0\",\n    \"Q4_K_M\", \"Q4_K_S\", \"Q4_0\", \"IQ4_XS\", \"Q3_K_M\", \"Q2_K\",\n]"),
        Key::new("reference", QUANTIZATION,
            "The variant that quality is measured against. Left out: the most precise of the list, one that is there before one that is made.").shown("\"F16\""),
        Key::new("experiment", Kind::Table(&RUN), ""),
        Key::new("settings", Kind::Table(&SETTINGS), ""),
        Key::new("workloads", Kind::Table(&WORKLOADS), ""),
        Key::new("calibration", Kind::Table(&CALIBRATION), ""),
        Key::new("requirements", Kind::Table(&REQUIREMENTS), ""),
        Key::new("models", Tables(&MODELS), ""),
    ],
);

/// `[experiment]`.
#[rustfmt::skip]
pub static RUN: Table = Table::new(
    "experiment",
    "How often and how patiently it is measured.",
    &[
        Key::new("name", Text,
            "Shown above the table and in `quantbench list`. Left out: the name of the file.").shown("\"demo\""),
        Key::new("rounds", ROUNDS,
            "How often every variant is visited, in interleaved rounds (A B C, A B C, …), so that a machine that \
             grows slower does so for all of them alike. Figures are medians over the rounds.").default("5"),
        Key::new("repetitions", ROUNDS,
            "Timed repetitions of each speed test within one visit; the rounds repeat it already.").default("1"),
        Key::new("budget", Time(Duration::from_secs(1), LONGEST),
            "Time that the run may take, making variants included: what says most is measured first, until nothing \
             would change. Left out: everything is measured.").example("\"10min\""),
        Key::new("cool_down", Time(Duration::ZERO, LONGEST),
            "pause before each visit, for machines that grow hot: \"0s\", \"30s\", \"2min\".").default("\"0s\""),
        Key::new("phase_limit", Time(Duration::from_secs(1), LONGEST),
            "A worker that says nothing for longer than this is ended, and its trial counts as failed.")
            .default("\"10min\""),
        Key::new("keep", Choice("no choice here", Keep::VARIANTS),
            "Which of the files stay that a run fetches or makes: \"all\", those that it recommends (\"best\"), or \
             \"none\". Where not all do, variants are measured one after the other, without interleaved rounds and \
             drift control, and a file is deleted after the last visit that needs it: disk for the source and one or \
             two variants is enough. What was there before stays.").default("\"all\""),
    ],
);

/// `[settings]`; its defaults are those of `Settings`.
#[rustfmt::skip]
pub static SETTINGS: Table = Table::new(
    "settings",
    "Run-time choices, with llama-bench's names and defaults. A list is swept: every variant is measured under \
     every combination, so `threads = [2, 4]` with `flash_attention = [\"on\", \"off\"]` makes four trials of \
     each variant.",
    &[
        Key::new("threads", THREADS,
            "\"auto\" is the number of usable physical cores fit for arithmetic").default("\"auto\"").swept(),
        Key::new("threads_batch", THREADS,
            "threads that read prompts; \"auto\" is as many as `threads`").default("\"auto\"").swept(),
        Key::new("gpu_layers", Whole(-1, 9999), "layers kept on the GPU; -1 is all of them").default("-1").swept(),
        Key::new("flash_attention", Choice("no choice here", FlashAttention::VARIANTS),
            "fused attention: \"auto\" (llama.cpp decides), \"on\", \"off\"").default("\"auto\"").swept(),
        Key::new("batch", BATCH, "tokens submitted at once").default("2048").swept(),
        Key::new("ubatch", BATCH, "tokens computed at once; at most `batch`").default("512").swept(),
        Key::new("cache_type_k", CACHE_TYPE,
            "of the K cache: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl").default("\"f16\"").swept(),
        Key::new("cache_type_v", CACHE_TYPE,
            "of the V cache; a quantized one needs flash attention").default("\"f16\"").swept(),
        Key::new("split_mode", Choice("no choice here", SplitMode::VARIANTS),
            "over several GPUs: \"none\" (one alone), \"layer\", \"row\" or \"tensor\" of each layer")
            .default("\"layer\"").swept(),
        Key::new("tensor_split", Kind::Named("shares of the GPUs", |text| text.parse::<TensorSplit>().map(String::from)),
            "how much each GPU gets; left out: as llama.cpp divides").example("\"3/1\"").swept(),
        Key::new("main_gpu", Whole(0, 1023), "the GPU used alone, or for small tensors").default("0").swept(),
        Key::new("kv_offload", Flag, "keep the KV cache on the GPU").default("true").swept(),
        Key::new("mmap", Flag, "map the file into memory instead of reading it").default("true").swept(),
        Key::new("swa_full", Flag,
            "sliding-window layers keep the whole context, not the window alone").default("false").swept(),
        Key::new("repack", Flag,
            "lay weights out anew for the processor's kernels when they are loaded").default("true").swept(),
        Key::new("op_offload", Flag,
            "compute large products of weights on the host on a GPU").default("true").swept(),
        Key::new("cpu_moe", Flag, "keep the weights of experts on the host").default("false").swept(),
        Key::new("spinning", Flag,
            "of ONNX Runtime (docs/ONNX.md): threads wait for work in a loop").default("true").swept(),
        Key::new("graph_optimization", Choice("no choice here", GraphOptimization::VARIANTS),
            "of ONNX Runtime: how far it rewrites the graph: \"disable\", \"basic\", \"extended\", \"all\"")
            .default("\"all\"").swept(),
        Key::new("provider", Choice("no execution provider", Provider::VARIANTS),
            "of ONNX Runtime: what it computes with, of those that its library has ('quantbench devices' lists them)")
            .default("\"cpu\"").swept(),
    ],
);

#[rustfmt::skip]
static CALIBRATION: Table = Table::new(
    "calibration",
    "What the methods imatrix, gptq and awq look at: a text, in chunks, through the model. A text like what the \
     model will read is best; left out, the demo models have one of their own, and others the standard texts.",
    &[
        Key::new("text", Text,
            "\"standard\", \"demo\" or a text file").example("\"demo\""),
        // Of a shorter chunk llama-imatrix looks at nothing.
        Key::new("context", Whole(16, 1_048_576), "tokens per chunk").default("512"),
        Key::new("chunks", CHUNKS, "at most this many chunks; left out: all of the text").example("128"),
        Key::new("gptq", Kind::Table(&GPTQ), ""),
    ],
);

#[rustfmt::skip]
static GPTQ: Table = Table::new(
    "calibration.gptq",
    "How GPTQ is done (docs/GPTQ.md).",
    &[
        Key::new("damping", Number(0.0, 1.0),
            "part of the mean diagonal that is added to the Hessian's diagonal").default("0.01"),
        Key::new("sweeps", Whole(0, 100),
            "times that every part of every block is chosen anew after GPTQ's pass").default("4"),
        Key::new("matching", Choice("no choice here", Matching::VARIANTS),
            "\"nothing\" (as published), \"outputs\" of the original, its residual \"stream\"").default("\"stream\""),
    ],
);

#[rustfmt::skip]
static REQUIREMENTS: Table = Table {
    further: bound,
    ..Table::new(
        "requirements",
        "What you need. Each variant gets a verdict, and `quantbench run` ends with exit code 1 if none meets \
         all of it. Nothing is asked for by default. Besides the keys below, min_ or max_ before the name of \
         any figure, in the unit of the name (what is shown in per cent is a fraction, 0 to 1): \
         max_joules_per_token, min_pp512_tokens_per_second, min_task_questions_acc.",
        &[
            Key::new("max_memory", Bytes, "peak memory of the process and of the GPU").example("\"8GiB\""),
            Key::new("min_generation_tps", BOUND, "tokens per second of the first generation test").example("10.0"),
            Key::new("max_ttft_ms", BOUND, "90th percentile of the time to first token").example("500.0"),
            Key::new("max_kld", BOUND, "mean divergence from the reference, nats").example("0.05"),
            Key::new("max_perplexity_increase", BOUND,
                "0.02 allows 2 % more than the reference's perplexity").example("0.02"),
        ],
    )
};

#[rustfmt::skip]
static MODELS: Table = Table {
    repeated: true,
    ..Table::new(
        "models",
        "One table per model.",
        &[
            Key::new("source", Text,
                "\"demo\" is the small model built into the program; \"path/model-F16.gguf\" a GGUF, or the first \
                 part of a split one, relative to this file; \"path/folder\" a folder of ready variants, \
                 `quantizations` choosing among them, or of safetensors, of which they are made; \"hf://owner/name/model.gguf\" a file on the Hugging Face hub, \
                 fetched once (a revision is written \"hf://owner/name@revision/model.gguf\", a slash in it as %2F, \
                 though refs/pr/1 may stay as it is; HF_TOKEN is used); \"shape:llama-3.2-1b\" a \
                 network with generated weights, of which speed and memory are measured; \"ollama:name:tag\" a model that Ollama has on this \
                 machine.").shown("\"demo\""),
            Key::new("name", Text, "left out: the file's name").example("\"demo\""),
            Key::new("onnx", Text,
                "the same model as ONNX, measured beside its GGUFs (docs/ONNX.md): folders, files or repositories, all of \
                 whose graphs are variants unless `quantizations` names some (\"onnx-int4\")").many().not_shown(),
            Key::new("quantizations", QUANTIZATION,
                "instead of the list above; [] takes the file as it is")
                .many().alias("variants").example("[\"Q8_0\", \"Q4_K_M\"]"),
            Key::new("reference", QUANTIZATION, "instead of the one above").example("\"Q8_0\""),
            Key::new("settings", OwnTable(&SETTINGS),
                "instead of the keys of [settings] that it names").example("{ threads = 4 }"),
            Key::new("workloads", OwnTable(&WORKLOADS),
                "instead of the keys of [workloads] that it names").example("{ speed = [\"pp128\", \"tg32\"] }"),
            Key::new("allow_requantize", Flag,
                "make variants even of a source that is quantized already").default("false").example("false"),
            Key::new("mmproj", Text,
                "the projector of a model that sees, for tasks with pictures (docs/ARCHITECTURES.md): a GGUF file, \
                 or its hf:// address").not_shown(),
            Key::new("lora", Text,
                "adapters (LoRA, as GGUF files) that llama.cpp applies to every variant: \"style.gguf\", or \
                 \"style.gguf:0.5\" to apply half of it").many().not_shown(),
        ],
    )
};
