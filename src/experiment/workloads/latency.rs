//! The latency workload: real prompts.

use crate::experiment::expand::{Expansion, chat_template_kwargs, lacks_demo, readable};
use crate::experiment::inputs;
use crate::experiment::keys::Kind::{Flag, Number, Text, Variables, Whole};
use crate::experiment::keys::{FORMAT, Key, Table};
use crate::experiment::reader::Located;
use crate::prompt::choice::FormatChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One test prompt of the latency workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPrompt {
    /// Name of the prompt within its file.
    pub id: String,
    /// What kind of text it is (story, question, …); free text, for the reader.
    #[serde(default)]
    pub kind: String,
    /// The prompt as the user would type it.
    pub text: String,
}

/// How the next token is chosen in the latency workload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Softmax temperature; 0 takes the most probable token.
    pub temperature: f32,
    /// Keep the `top_k` most probable tokens; 0 keeps all.
    pub top_k: i32,
    /// Keep the smallest set of tokens whose probabilities add up to `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Seed of the random draw.
    pub seed: u32,
}

impl Default for Sampling {
    /// Greedy: the same text from the same weights on every machine.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 42 }
    }
}

/// Real prompts, streamed through the sampler, every token's time kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyPlan {
    /// The prompts, all of them; each is answered once per run, dealt over the rounds.
    pub prompts: Vec<TestPrompt>,
    /// Where the prompts came from, as the user wrote it.
    pub source: String,
    /// Generation stops after this many tokens or at an end-of-generation token.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Which format prompts are put into.
    #[serde(default = "no_format")]
    pub format: FormatChoice,
    /// What the model's own template is given besides.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// Prompts are cut to so many tokens, their format not counted; `None`: they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// How many are answered side by side, greedily then; 0 and 1: one at a time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parallel: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The format of runs from before there was a choice.
fn no_format() -> FormatChoice {
    FormatChoice::None
}

#[rustfmt::skip]
pub(super) static KEYS: Table = Table::new(
    "workloads.latency",
    "Real prompts through prompt format and sampler, every token's time kept: time to first token and latency \
     between tokens.",
    &[
        Key::new("enabled", Flag, "whether it is measured").default("true"),
        Key::new("prompts", Text,
            "\"demo\", a .jsonl with {\"id\", \"kind\", \"text\"}, or a .txt with one per line").default("\"demo\""),
        Key::new("format", FORMAT,
            "\"auto\" is the model's own template, \"none\" no format; see `quantbench prompt list`")
            .default("\"auto\""),
        Key::new("chat_template_kwargs", Variables,
            "variables of the model's own template").example("{ enable_thinking = false }"),
        Key::new("max_tokens", Whole(1, 1_000_000), "tokens of an answer at the most").default("32"),
        Key::new("temperature", Number(0.0, 100.0), "0 always takes the most probable token").default("0.0"),
        Key::new("top_k", Whole(0, 1_000_000), "0 keeps all tokens").default("0"),
        Key::new("top_p", Number(0.0, 1.0), "1 keeps all tokens").default("1.0"),
        Key::new("seed", Whole(0, 4_294_967_295), "seed of the random draw").default("42"),
    ],
);

/// `[workloads.latency]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LatencyFile {
    pub enabled: Located<bool>,
    pub prompts: Located<String>,
    pub format: Located<FormatChoice>,
    pub chat_template_kwargs: Option<Located<Map<String, Value>>>,
    pub max_tokens: Located<u32>,
    pub temperature: Located<f32>,
    pub top_k: Located<i32>,
    pub top_p: Located<f32>,
    pub seed: Located<u32>,
}

/// Turns what was written into what it means.
pub(super) fn expand(file: &LatencyFile, expansion: &mut Expansion<'_>) -> Option<LatencyPlan> {
    if !*file.enabled || lacks_demo(expansion, &file.prompts) {
        return None;
    }
    let Expansion { origin, problems } = expansion;
    let prompts = inputs::prompts(&file.prompts, origin.base);
    let format = *file.format;
    let chat_template_kwargs =
        chat_template_kwargs(file.chat_template_kwargs.as_ref(), &[format], problems);
    Some(LatencyPlan {
        format,
        chat_template_kwargs,
        prompts: readable(prompts, &file.prompts, problems),
        source: file.prompts.value.clone(),
        max_tokens: *file.max_tokens,
        sampling: Sampling {
            temperature: *file.temperature,
            top_k: *file.top_k,
            top_p: *file.top_p,
            seed: *file.seed,
        },
        prompt_tokens: None,
        parallel: 0,
    })
}
