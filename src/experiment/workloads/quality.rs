//! The quality workload: a text.

use crate::dataset::standard;
use crate::experiment::diagnostic::Problem;
use crate::experiment::expand::{Expansion, readable};
use crate::experiment::inputs::{self, EvaluationText};
use crate::experiment::keys::Kind::{Bytes, Flag, Number, Text, Whole};
use crate::experiment::keys::{CHUNKS, Key, Table};
use crate::experiment::reader::{Located, Many};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The text or the answers that perplexity and divergence are measured on, and how much of it.
///
/// Protocol of llama-perplexity: the text is cut into chunks of `context` tokens, each chunk's first
/// token is replaced by BOS if the model wants one, and the second half of each chunk is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityPlan {
    /// The text itself.
    pub text: String,
    /// Its parts, in order, if it has several: each is cut into chunks for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<TextDomain>,
    /// The prompts whose answers they are measured on, besides the text or in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersPlan>,
    /// Where the text came from, as the user wrote it.
    pub source: String,
    /// Tokens per chunk (`n_ctx` of llama-perplexity).
    pub context: u32,
    /// At most this many chunks; `None`: all of the text.
    pub chunks: Option<u32>,
    /// Compare with the reference too (KLD and the like), not only perplexity.
    pub divergence: bool,
    /// Stop once the 95 % interval of the mean KLD is within this fraction of the mean; `None`:
    /// use all chunks.
    pub precision: Option<f64>,
    /// Bytes that the reference's log-probabilities may take on disk. Above it, the top K per
    /// position and the mass of the rest are kept.
    pub reference_budget_bytes: u64,
}

/// A named part of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextDomain {
    /// Its name: a domain of the standard texts, or the file's.
    pub name: String,
    /// Its length.
    pub bytes: usize,
}

/// Prompts that the reference answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswersPlan {
    /// The prompts, domain by domain.
    pub prompts: Vec<PlannedPrompt>,
    /// Tokens of an answer at most.
    pub max_tokens: u32,
    /// Whether the text is only for models without a chat template.
    pub or_text: bool,
}

/// A prompt of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPrompt {
    /// The domain.
    pub domain: String,
    /// What is asked.
    pub text: String,
}

/// Tokens of an answer at most.
const MOST_ANSWER_TOKENS: u32 = 64;

impl AnswersPlan {
    /// The built-in prompts.
    pub(crate) fn standard(or_text: bool) -> Self {
        let prompts = standard::DOMAINS.iter().flat_map(|domain| {
            let prompt = |text: &str| PlannedPrompt {
                domain: domain.name.to_owned(),
                text: text.to_owned(),
            };
            domain.prompts().map(prompt)
        });
        Self { prompts: prompts.collect(), max_tokens: MOST_ANSWER_TOKENS, or_text }
    }
}

impl QualityPlan {
    /// How many domains have chunks of their own.
    pub fn domain_count(&self) -> usize {
        let Some(answers) = &self.answers else { return self.domains.len() };
        let mut names: Vec<&str> = answers.prompts.iter().map(|it| it.domain.as_str()).collect();
        names.dedup();
        names.len() + if answers.or_text { 0 } else { self.domains.len() }
    }

    /// What `auto` is, once it is known which models are measured. Whether another than the demo has a chat template
    /// is known only when it is loaded.
    pub(crate) fn choose_text(&mut self, only_demo: bool) {
        if self.source != inputs::AUTO {
            return;
        }
        // A build without the demo has the standard texts all the same.
        let demo = inputs::evaluation(inputs::DEMO, Path::new("")).ok().filter(|_| only_demo);
        if let Some(demo) = demo {
            inputs::DEMO.clone_into(&mut self.source);
            EvaluationText { text: self.text, domains: self.domains } = demo;
        } else if self.divergence {
            self.answers = Some(AnswersPlan::standard(true));
        } else {
            inputs::STANDARD.clone_into(&mut self.source);
        }
    }
}

#[rustfmt::skip]
pub(super) static KEYS: Table = Table::new(
    "workloads.quality",
    "Perplexity and divergence from the reference, by llama-perplexity's protocol.",
    &[
        Key::new("enabled", Flag, "whether it is measured").default("true"),
        Key::new("text", Text,
            "\"standard\" (texts in 15 domains: prose, code, languages …), \"answers\" (what the reference answers to \
             prompts of these domains, in its chat template), \"demo\" or a text file; of several, each has its \
             divergence. \"auto\" is \"demo\" for the demo models, \"answers\" for others with a chat template, and \
             \"standard\" for those without.")
            .many().default("\"auto\""),
        Key::new("context", Whole(8, 1_048_576),
            "tokens per chunk; the second half of each chunk is scored").default("512"),
        Key::new("chunks", CHUNKS, "at most this many chunks; left out: all of the text").shown("40"),
        Key::new("divergence", Flag, "compare with the reference, not only perplexity").default("true"),
        Key::new("precision", Number(0.0, 1.0),
            "0.1 stops once the KLD's 95 % interval is within ±10 %, or ±0.0001 nats; 0: never").default("0.1"),
        Key::new("memory_budget", Bytes,
            "disk for the reference's probabilities; above it the likeliest are kept").default("\"2GiB\""),
    ],
);

/// `[workloads.quality]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct QualityFile {
    pub enabled: Located<bool>,
    pub text: Many<String>,
    pub context: Located<u32>,
    pub chunks: Option<Located<u32>>,
    pub divergence: Located<bool>,
    pub precision: Located<f64>,
    /// Bytes.
    pub memory_budget: Located<u64>,
}

/// Turns what was written into what it means.
pub(super) fn expand(file: &QualityFile, expansion: &mut Expansion<'_>) -> Option<QualityPlan> {
    if !*file.enabled {
        return None;
    }
    let before = expansion.problems.len();
    let EvaluationText { text, domains } = evaluation(&file.text, expansion);
    let problems = &mut expansion.problems;
    // A text that cannot be had is not too short as well.
    if problems.len() == before {
        check_length(&text, file, problems);
    }
    let answers = file.text.iter().find(|source| source.value == inputs::ANSWERS);
    if let Some(source) = answers.filter(|_| !*file.divergence) {
        let problem = source.problem("has answers of the reference, but divergence is off");
        problems.push(problem.help("write text = \"standard\", or set divergence = true"));
    }
    if file.precision.is_written() && !*file.divergence {
        problems.push(
            file.precision
                .problem("asks for a precise divergence, but divergence is off")
                .help("remove it, or set divergence = true"),
        );
    }
    Some(QualityPlan {
        text,
        domains,
        answers: answers.map(|_| AnswersPlan::standard(false)),
        source: file.text.iter().map(|source| source.as_str()).collect::<Vec<_>>().join(", "),
        context: *file.context,
        chunks: file.chunks.as_deref().copied(),
        divergence: *file.divergence,
        precision: Some(*file.precision).filter(|&precision| precision > 0.0 && *file.divergence),
        reference_budget_bytes: *file.memory_budget,
    })
}

/// The text of what is named; of several, each is a domain or brings its own.
fn evaluation(sources: &Many<String>, expansion: &mut Expansion<'_>) -> EvaluationText {
    let Expansion { origin, problems } = expansion;
    let mut all = EvaluationText::default();
    if sources.is_empty() {
        problems.push(sources.problem("names no text").help("switch it off with enabled = false"));
    }
    for source in sources.iter() {
        if sources.len() > 1 && source.value == inputs::AUTO {
            let problem = source.problem("has 'auto' among others, which says nothing beside them");
            problems.push(problem.help("write 'standard' or 'demo'"));
            continue;
        }
        if source.value == inputs::ANSWERS {
            continue;
        }
        let read = inputs::evaluation(source, origin.base);
        let read: EvaluationText = readable(read, source, problems);
        if sources.len() > 1 {
            all.add(source, read);
        } else {
            all = read;
        }
    }
    all
}

/// A token is at least one byte, so a text of fewer bytes than two chunks have tokens cannot fill
/// them; the worker counts exactly, but only after a model was loaded.
fn check_length(text: &str, file: &QualityFile, problems: &mut Vec<Problem>) {
    let context = *file.context;
    let bytes = text.len() as u64;
    let needed = 2 * u64::from(context);
    let only_answers = file.text.iter().all(|source| source.value == inputs::ANSWERS);
    if bytes >= needed || only_answers {
        return;
    }
    let span = if file.text.is_written() { &file.text.span } else { &file.context.span };
    problems.push(
        Problem::new(
            span.clone(),
            format!(
                "'workloads.quality.text' has {bytes} bytes, too few for 2 chunks of {context} tokens"
            ),
        )
        .help(format!(
            "use a text of at least {needed} tokens (about {} bytes), or a smaller context",
            4 * needed
        )),
    );
}
