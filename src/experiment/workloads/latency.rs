//! The latency workload: real prompts.

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
}

/// The format of runs from before there was a choice.
fn no_format() -> FormatChoice {
    FormatChoice::None
}
