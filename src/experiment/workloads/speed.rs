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
/// `tg128x16` does it for 16 sequences side by side, all at the same depth; its rate is that of all of them together.
/// `pp512x16`, `tg128x16 @ d512` and `pp512+tg128x16` are llama-batched-bench's `S_PP`, `S_TG` and `S` of 16 sequences;
/// `tg128x16 @ d512 shared` is its `-pps`: the 512 tokens are common to all, and kept once.
///
/// `embed128x8` embeds 8 texts of 128 random tokens in one batch; its rate is in texts per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpeedTest {
    /// Prompt tokens processed, of each sequence.
    pub prompt_tokens: u32,
    /// Tokens generated, of each sequence.
    pub generated_tokens: u32,
    /// Tokens in the context of each sequence before the clock starts.
    pub depth: u32,
    /// Sequences side by side, at least 1; texts, where they are embedded.
    pub sequences: u32,
    /// Whether those tokens are common to all sequences.
    pub shares_depth: bool,
    /// Whether texts are embedded.
    pub embeds: bool,
}

impl Default for SpeedTest {
    fn default() -> Self {
        Self {
            prompt_tokens: 0,
            generated_tokens: 0,
            depth: 0,
            sequences: 1,
            shares_depth: false,
            embeds: false,
        }
    }
}

impl SpeedTest {
    /// Tokens whose number is divided by the measured time.
    pub fn tokens(self) -> u32 {
        (self.prompt_tokens + self.generated_tokens) * self.sequences
    }

    /// Tokens of KV cache that it takes.
    pub fn cache_tokens(self) -> u32 {
        let depths = if self.shares_depth { 1 } else { self.sequences };
        self.tokens() + self.depth * depths
    }

    /// How many positions of a model's context the test reaches; texts side by side have the same ones.
    pub fn positions(self) -> u32 {
        self.prompt_tokens.saturating_add(self.generated_tokens).saturating_add(self.depth)
    }

    /// What the test's rate counts, in a word and as tables abbreviate it.
    pub fn unit(self) -> RateUnit {
        if self.embeds { RateUnit::Embeddings } else { RateUnit::Tokens }
    }

    /// Whether nothing but generation is timed.
    pub fn is_generation_only(self) -> bool {
        self.prompt_tokens == 0
    }

    /// Whether one sequence generates, and nothing else is timed.
    pub fn is_plain_generation(self) -> bool {
        self.is_generation_only() && self.sequences == 1
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
        if self.embeds {
            let name = format!("embed{}x{}", self.prompt_tokens, self.sequences);
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
        if self.shares_depth {
            name.push_str(" shared");
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
                 tg128@d4096, or with sequences side by side (at most {MOST_SEQUENCES}), like tg128x16@d512, \
                 or embed128x8 for embeddings of 8 texts of 128 tokens"
            )
        })
    }
}

/// No context is longer; it also keeps sums of tokens within `u32`.
const MOST_TOKENS: u32 = 100_000_000;

/// llama.cpp's limit.
const MOST_SEQUENCES: u32 = 256;

fn parse_speed_test(text: &str) -> Option<SpeedTest> {
    let tokens = |count: &str| count.parse::<u32>().ok().filter(|&count| count <= MOST_TOKENS);
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if let Some(shape) = compact.strip_prefix("embed") {
        let (prompt, texts) = shape.split_once('x')?;
        let (prompt_tokens, sequences) = (tokens(prompt)?, tokens(texts)?);
        let all = u64::from(prompt_tokens) * u64::from(sequences);
        let test = SpeedTest { prompt_tokens, sequences, embeds: true, ..SpeedTest::default() };
        return (1..=u64::from(MOST_TOKENS)).contains(&all).then_some(test);
    }
    let mut parsed = SpeedTest::default();
    let test = match compact.split_once('@') {
        Some((test, depth)) => {
            let depth = depth.strip_prefix('d').unwrap_or(depth);
            let (depth, shares) =
                depth.strip_suffix("shared").map_or((depth, false), |it| (it, true));
            (parsed.depth, parsed.shares_depth) = (tokens(depth)?, shares);
            test
        }
        None => compact.as_str(),
    };
    let test = match test.split_once('x') {
        Some((test, sequences)) => {
            parsed.sequences = tokens(sequences)?;
            test
        }
        None => test,
    };
    for part in test.split('+') {
        if let Some(count) = part.strip_prefix("pp") {
            parsed.prompt_tokens = tokens(count)?;
        } else {
            parsed.generated_tokens = tokens(part.strip_prefix("tg")?)?;
        }
    }
    let each = parsed.prompt_tokens + parsed.generated_tokens;
    let all = u64::from(each + parsed.depth) * u64::from(parsed.sequences);
    let is_meant = (1..=MOST_SEQUENCES).contains(&parsed.sequences)
        && (!parsed.shares_depth || parsed.sequences > 1 && parsed.depth > 0);
    (each > 0 && is_meant && all <= u64::from(MOST_TOKENS)).then_some(parsed)
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

/// What an entry of a list of speed tests names: one test, or, as `batched:pp512,tg128x16`, all that llama-batched-bench
/// measures of 16 prompts of 512 tokens and the 128 tokens that each generates: `pp512x16`, `tg128x16 @ d512` and
/// `pp512+tg128x16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeedTests(pub Vec<SpeedTest>);

impl fmt::Display for SpeedTests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(", "))
    }
}

impl FromStr for SpeedTests {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(parts) = text.trim().strip_prefix("batched:") else {
            return text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self);
        };
        let two = parts.split_once(',').and_then(|(prompt, generation)| {
            let (prompt, generation) = (parse_speed_test(prompt)?, parse_speed_test(generation)?);
            let is_meant = prompt
                == SpeedTest { prompt_tokens: prompt.prompt_tokens, ..SpeedTest::default() }
                && generation.is_generation_only()
                && generation.depth == 0;
            is_meant.then_some((prompt.prompt_tokens, generation))
        });
        let Some((prompt_tokens, generation)) = two else {
            return Err(format!(
                "'{text}' is not a batched test; write batched:pp512,tg128x16 for 16 sequences, each with a prompt of \
                 512 tokens, that generate 128 each"
            ));
        };
        let both = SpeedTest { prompt_tokens, ..generation };
        let prompts = SpeedTest { generated_tokens: 0, ..both };
        Ok(Self(vec![prompts, SpeedTest { depth: prompt_tokens, ..generation }, both]))
    }
}

impl<'de> Deserialize<'de> for SpeedTests {
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
            "pp512x16",
            "pp512+tg128x2",
            "tg128x16 @ d512",
            "tg128x16 @ d512 shared",
        ] {
            assert_eq!(name.parse::<SpeedTest>().unwrap().to_string(), name);
        }
        assert_eq!("tg128x1".parse::<SpeedTest>().unwrap().to_string(), "tg128");
        assert_eq!("tg128@4096".parse::<SpeedTest>().unwrap().depth, 4096);
    }

    #[test]
    fn a_batched_test_is_all_that_llama_batched_bench_measures() {
        let named = |text: &str| text.parse::<SpeedTests>().map(|tests| tests.to_string());
        assert_eq!(
            named("batched:pp512,tg128x16").unwrap(),
            "pp512x16, tg128x16 @ d512, pp512+tg128x16"
        );
        assert_eq!(named("tg128x4,pp1").unwrap(), "tg128x4, pp1");
        for text in
            ["batched:pp512", "batched:tg128,pp512", "batched:pp4@d2,tg1x2", "batched:pp1,tg1x300"]
        {
            assert!(named(text).is_err(), "{text}");
        }
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
            "embed99999999x99999999",
            "tg128x0",
            "tg128x",
            "tg128x257",
            "pp1000000x200",
            "tg128@d16shared",
            "tg128x4shared",
            "tg128x4@shared",
        ] {
            assert!(text.parse::<SpeedTest>().is_err(), "{text}");
        }
    }
}
