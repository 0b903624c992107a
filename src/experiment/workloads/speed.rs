//! Throughput tests and their names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A throughput test with llama-bench's meaning: `pp512` processes a prompt of 512 random tokens,
/// `tg128` generates 128 tokens, `pp512+tg128` does one after the other; `@ d1024` does it with
/// 1024 tokens already in the context.
///
/// Source: llama.cpp, tools/llama-bench (no sampling and no tokenization in the measured time).
///
/// `pp512+tg128x8` does it with 8 sequences side by side, each with so many tokens, as llama-batched-bench does.
/// `embed128x8` embeds 8 texts of 128 random tokens in one batch; its rate is in texts per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpeedTest {
    /// Prompt tokens processed; of each text, where texts are embedded.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Tokens in the context before the clock starts.
    pub depth: u32,
    /// Texts embedded in one batch; 0: the test is not about embeddings.
    pub embedded_texts: u32,
    /// Sequences side by side, each with so many tokens; 0: one.
    pub sequences: u32,
}

impl SpeedTest {
    /// Tokens whose number is divided by the measured time.
    pub fn tokens(self) -> u32 {
        (self.prompt_tokens * self.embedded_texts.max(1) + self.generated_tokens)
            * self.sequences.max(1)
    }

    /// How many positions of a model's context the test reaches; texts side by side have the same ones.
    pub fn positions(self) -> u32 {
        self.prompt_tokens.saturating_add(self.generated_tokens).saturating_add(self.depth)
    }

    /// Whether texts are embedded.
    pub fn embeds(self) -> bool {
        self.embedded_texts > 0
    }

    /// What the test's rate counts, in a word and as tables abbreviate it.
    pub fn unit(self) -> RateUnit {
        if self.embeds() { RateUnit::Embeddings } else { RateUnit::Tokens }
    }

    /// Whether this is a plain generation test.
    pub fn is_generation_only(self) -> bool {
        self.prompt_tokens == 0
    }
}

/// What a rate counts per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateUnit {
    /// Tokens.
    Tokens,
    /// Embedded texts.
    Embeddings,
}

impl RateUnit {
    /// `tokens`, `embeddings`: for names of figures.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Embeddings => "embeddings",
        }
    }

    /// `t/s`, `emb/s`: for tables.
    pub fn short(self) -> &'static str {
        match self {
            Self::Tokens => "t/s",
            Self::Embeddings => "emb/s",
        }
    }
}

impl fmt::Display for SpeedTest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.embeds() {
            let name = format!("embed{}x{}", self.prompt_tokens, self.embedded_texts);
            return formatter.pad(&name);
        }
        let mut name = match (self.prompt_tokens, self.generated_tokens) {
            (prompt, 0) => format!("pp{prompt}"),
            (0, generated) => format!("tg{generated}"),
            (prompt, generated) => format!("pp{prompt}+tg{generated}"),
        };
        if self.sequences > 1 {
            name = format!("{name}x{}", self.sequences);
        }
        if self.depth > 0 {
            name = format!("{name} @ d{}", self.depth);
        }
        formatter.pad(&name)
    }
}

impl FromStr for SpeedTest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_speed_test(text).ok_or_else(|| {
            format!(
                "'{text}' is not a speed test; write pp512, tg128, pp512+tg128 or one of them with a depth, like \
                 tg128@d4096, pp512+tg128x8 for 8 sequences side by side, or embed128x8 for embeddings of 8 texts of 128 tokens"
            )
        })
    }
}

/// No context is longer; it also keeps sums of tokens within `u32`.
const MOST_TOKENS: u32 = 100_000_000;

/// llama.cpp's `LLAMA_MAX_SEQ`.
const MOST_SEQUENCES: u32 = 256;

fn parse_speed_test(text: &str) -> Option<SpeedTest> {
    let tokens = |count: &str| count.parse::<u32>().ok().filter(|&count| count <= MOST_TOKENS);
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if let Some(shape) = compact.strip_prefix("embed") {
        let (prompt, texts) = shape.split_once('x')?;
        let (prompt_tokens, embedded_texts) = (tokens(prompt)?, tokens(texts)?);
        let all = u64::from(prompt_tokens) * u64::from(embedded_texts);
        let test = SpeedTest { prompt_tokens, embedded_texts, ..SpeedTest::default() };
        return (1..=u64::from(MOST_TOKENS)).contains(&all).then_some(test);
    }
    let (test, depth) = match compact.split_once('@') {
        Some((test, depth)) => (test, tokens(depth.strip_prefix('d').unwrap_or(depth))?),
        None => (compact.as_str(), 0),
    };
    let (test, sequences) = match test.split_once('x') {
        Some((test, count)) => (test, count.parse::<u32>().ok().filter(|it| *it > 1)?),
        None => (test, 0),
    };
    if sequences > MOST_SEQUENCES {
        return None;
    }
    let mut parsed = SpeedTest { depth, sequences, ..SpeedTest::default() };
    for part in test.split('+') {
        if let Some(count) = part.strip_prefix("pp") {
            parsed.prompt_tokens = tokens(count)?;
        } else {
            parsed.generated_tokens = tokens(part.strip_prefix("tg")?)?;
        }
    }
    let each = SpeedTest { sequences: 0, ..parsed }.tokens();
    let all = u64::from(each) * u64::from(sequences.max(1));
    (1..=u64::from(MOST_TOKENS) * 2).contains(&all).then_some(parsed)
}

impl Serialize for SpeedTest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpeedTest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_the_same_test() {
        for name in [
            "pp512",
            "tg128",
            "pp512+tg128",
            "pp512 @ d1024",
            "tg32 @ d16",
            "embed128x8",
            "pp64+tg16x4 @ d8",
        ] {
            assert_eq!(name.parse::<SpeedTest>().unwrap().to_string(), name);
        }
        assert_eq!("tg128@4096".parse::<SpeedTest>().unwrap().depth, 4096);
    }

    #[test]
    fn a_test_without_tokens_is_refused() {
        for text in [
            "",
            "pp0",
            "512",
            "tg",
            "pp-1",
            "ppx",
            "pp512@",
            "pp4294967295+tg1",
            "tg1@d4294967295",
            "embed",
            "embed128",
            "embed0x8",
            "embed8x0",
            "tg8x",
            "tg8x1",
            "tg8x257",
            "tg100000000x256",
            "embed99999999x99999999",
        ] {
            assert!(text.parse::<SpeedTest>().is_err(), "{text}");
        }
    }
}
