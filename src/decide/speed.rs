//! How fast a model will be, from what it computes and what a machine was measured to.

use super::fit::Verdict;
use super::work::Work;
use crate::experiment::workloads::SpeedTest;
use crate::hardware::rates::{ComputeRates, Rate, TypeRate};
use crate::model::architecture::ArchitectureClass;
use crate::statistics::estimate::{Estimate, Interval};
use crate::units::count;
use serde::Serialize;
use std::collections::BTreeMap;

/// How far predictions are off, as the relative half width of a 95 % interval, for what generates and what reads a prompt:
/// from shapes that no rate was measured with (`benches/speed_prediction.py`; docs/PLAN.md has the figures).
const ERROR: [f64; 2] = [0.125, 0.11];

/// The same of what attention takes, which comes on top in proportion to its share of the time.
const ATTENTION_ERROR: f64 = 0.2;

/// The same for prompts of experts, of which each computes a part of the tokens.
const EXPERT_PROMPT_ERROR: f64 = 0.3;

/// The same for a target, whose memory alone is known.
const TARGET_ERROR: f64 = 0.5;

/// Of types that were not measured no more than this part of the weights may be; they are then taken to be like the others.
const MOST_UNKNOWN: f64 = 0.02;

/// What is predicted of one test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// Tokens per second.
    pub tokens_per_second: Estimate,
    /// What a token takes, seconds.
    pub parts: Parts,
}

/// What a token takes, by what takes it; seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parts {
    /// Weights, in matrices.
    pub weights: f64,
    /// Attention to the tokens before.
    pub attention: f64,
    /// Everything else.
    pub others: f64,
}

impl Parts {
    /// All of it.
    pub fn sum(self) -> f64 {
        self.weights + self.attention + self.others
    }
}

/// Predicts a throughput test.
///
/// # Errors
/// The model's types were not measured, or the test has no meaning for it; in words.
pub fn predict(work: &Work, rates: &ComputeRates, test: SpeedTest) -> Result<Prediction, String> {
    let parts = |test| parts(work, rates, test);
    let (generated, prompt) = (f64::from(test.generated_tokens), f64::from(test.prompt_tokens));
    let is_prompt = test.generated_tokens == 0;
    if !is_prompt && work.class == ArchitectureClass::EncoderOnly {
        return Err("it generates nothing".to_owned());
    }
    if !is_prompt && prompt > 0.0 {
        return Err("a prompt and a generation after it are predicted apart".to_owned());
    }
    let (parts, spread) = parts(test)?;
    let seconds = parts.sum();
    let share = parts.attention / seconds;
    let own = ERROR[usize::from(is_prompt)];
    let of_experts = if is_prompt && work.has_experts { EXPERT_PROMPT_ERROR } else { 0.0 };
    let errors = [own, spread * parts.weights / seconds, share * ATTENTION_ERROR, of_experts];
    let error = errors.iter().map(|it| it * it).sum::<f64>().sqrt();
    debug_assert!(generated + prompt > 0.0, "a test has tokens");
    Ok(Prediction { tokens_per_second: within(seconds.recip(), error), parts })
}

/// The tokens per second of a target, where they scale as its memory's bandwidth does.
pub fn scaled(here: Estimate, own: f64, target: f64, most: f64) -> Estimate {
    let scaled = within(here.value * target / own, TARGET_ERROR);
    let cut = |value: f64| value.min(most);
    scaled.map(cut)
}

/// A value with an interval that is as wide in proportion on both sides.
fn within(value: f64, error: f64) -> Estimate {
    let interval = Interval { low: value / (1.0 + error), high: value * (1.0 + error) };
    Estimate { value, interval: Some(interval), n: 1 }
}

/// With what the same model was measured to be in another variant, in proportion to what was predicted of that.
pub fn corrected(predicted: Estimate, ratio: f64) -> Estimate {
    predicted.map(|it| it * ratio)
}

/// What a place is for a variant, in a word; the rule stands in docs/PLAN.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Word {
    /// It cannot be told.
    Unknown,
    /// It does not fit.
    No,
    /// It fits with a change, or generates more slowly than people read.
    Limited,
    /// It fits.
    Possible,
    /// It fits, and generates as fast as an interactive service has to.
    Good,
}

/// Tokens per second from which on nobody waits for the next word: MLPerf Inference's limit for Llama 2 70B in its
/// interactive scenario, 40 ms for a token.
const INTERACTIVE: f64 = 25.0;

/// Tokens per second as people read: its limit in the server scenario, 200 ms.
const READING: f64 = 5.0;

impl Word {
    /// Of a verdict and the tokens per second that are generated there, where that is known, or no more than those.
    pub fn of(verdict: &Verdict, generated: Option<f64>, at_most: Option<f64>) -> Self {
        match verdict {
            Verdict::Unknown { .. } => Self::Unknown,
            Verdict::DoesNotFit { .. } => Self::No,
            Verdict::FitsWith { .. } => Self::Limited,
            Verdict::Fits => match (generated, at_most) {
                (Some(rate), _) if rate >= INTERACTIVE => Self::Good,
                (Some(rate), _) | (None, Some(rate)) if rate < READING => Self::Limited,
                _ => Self::Possible,
            },
        }
    }
}

/// What a token of a test takes, and the relative spread of what that was measured with.
pub(super) fn parts(
    work: &Work,
    rates: &ComputeRates,
    test: SpeedTest,
) -> Result<(Parts, f64), String> {
    let depth = f64::from(test.depth);
    if test.generated_tokens > 0 {
        let (weights, spread) = seconds(&work.bytes, rates, |rate| rate.generation)?;
        let before = depth + f64::from(test.generated_tokens) / 2.0;
        let attention = work.attended(before) * rates.generation_attention
            + work.scattered(before) * rates.generation_keys;
        let others = work.layers * rates.layer_seconds;
        return Ok((Parts { weights, attention, others }, spread));
    }
    let tokens = f64::from(test.prompt_tokens).max(1.0);
    let (weights, spread) = seconds(&work.operations, rates, |rate| rate.prompt)?;
    let (last, _) = seconds(&work.last_bytes, rates, |rate| rate.generation)?;
    // A decoder's tokens attend to those before them, an encoder's to all.
    let is_encoder = work.class == ArchitectureClass::EncoderOnly;
    let before = if is_encoder { tokens } else { depth + tokens / 2.0 };
    let attention = work.attended(before) * rates.prompt_attention;
    let others = work.elements * rates.element_seconds + work.layers * rates.layer_seconds / tokens;
    Ok((Parts { weights: weights + last / tokens, attention, others }, spread))
}

/// What amounts of each type take at the rates of their types, and the spread of these.
fn seconds(
    amounts: &BTreeMap<&'static str, f64>,
    rates: &ComputeRates,
    of: impl Fn(&TypeRate) -> Rate,
) -> Result<(f64, f64), String> {
    let all: f64 = amounts.values().sum();
    let (mut seconds, mut known, mut spread) = (0.0, 0.0, 0.0);
    let mut unknown = Vec::new();
    for (&name, amount) in amounts {
        match rates.types.get(name) {
            Some(rate) => {
                let rate = of(rate);
                seconds += amount / rate.value;
                known += amount;
                spread += rate.relative() * amount / rate.value;
            }
            None => unknown.push(name),
        }
    }
    if all > 0.0 && known < all * (1.0 - MOST_UNKNOWN) {
        let names = unknown.join(", ");
        return Err(format!("{names} was not measured with {}", count(rates.threads, "thread")));
    }
    if all <= 0.0 {
        return Ok((0.0, 0.0));
    }
    Ok((seconds * all / known, spread / seconds))
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    fn work() -> Work {
        let header = crate::model::gguf::Header::read(
            &std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("demo/model/quantbench-demo-F16.gguf"),
        );
        Work::of(&header.unwrap()).unwrap()
    }

    fn of(test: &str, spread: f64) -> Prediction {
        predict(&work(), &rates(spread), test.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_generated_token_takes_its_bytes_its_layers_and_its_attention() {
        let (work, it) = (work(), of("tg128", 0.0));
        let bytes: f64 = work.bytes.values().sum();
        let expected = bytes / 10e9 + work.layers * 1e-5 + work.attended(64.0) * 6e-10;
        assert!((it.tokens_per_second.value * expected - 1.0).abs() < 1e-9);
        assert!(it.parts.weights > 0.0 && it.parts.attention > 0.0 && it.parts.others > 0.0);
    }

    #[test]
    fn depth_slows_and_widens() {
        for (at_0, deep) in [("tg16", "tg16@d500"), ("pp16", "pp16@d500")] {
            let [at_0, deep] = [at_0, deep].map(|test| of(test, 0.0).tokens_per_second);
            assert!(deep.value < at_0.value);
            assert!(deep.relative_half_width() > at_0.relative_half_width());
        }
    }

    #[test]
    fn what_was_measured_with_a_spread_is_predicted_with_a_wider_interval() {
        let widths = [0.0, 0.3].map(|it| of("tg16", it).tokens_per_second.relative_half_width());
        assert!(widths[0] < widths[1], "{widths:?}");
    }

    #[test]
    fn types_that_were_not_measured_are_not_made_up() {
        let mut rates = rates(0.0);
        rates.types.clear();
        let error = predict(&work(), &rates, "tg16".parse().unwrap()).unwrap_err();
        assert_eq!(error, "F16 was not measured with 1 thread");
    }

    #[test]
    fn a_word_says_whether_it_fits_and_is_as_fast_as_people_read() {
        let fits = |rate, at_most| Word::of(&Verdict::Fits, rate, at_most);
        assert_eq!(fits(Some(25.0), None), Word::Good);
        assert_eq!(fits(Some(24.9), Some(90.0)), Word::Possible);
        assert_eq!(fits(Some(4.9), Some(90.0)), Word::Limited);
        assert_eq!(
            (fits(None, Some(90.0)), fits(None, Some(4.0))),
            (Word::Possible, Word::Limited)
        );
        let with = Verdict::FitsWith { with: Vec::new() };
        assert_eq!(Word::of(&with, Some(99.0), None), Word::Limited);
        let not = Verdict::DoesNotFit { short_bytes: 1, of: "host".to_owned() };
        assert_eq!(Word::of(&not, Some(99.0), None), Word::No);
    }

    #[test]
    fn a_target_is_no_faster_than_its_memory() {
        let here = of("tg16", 0.0);
        let own = here.tokens_per_second.value;
        let there = scaled(here.tokens_per_second, 10e9, 20e9, own * 2.5);
        assert!((there.value / own - 2.0).abs() < 1e-9);
        let ends = there.interval.unwrap();
        assert!((ends.high / own - 2.5).abs() < 1e-9 && ends.low < own * 1.4);
    }
}
