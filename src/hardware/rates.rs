//! What a processor was measured to compute: rates of arithmetic by the type of weights, at one number of threads.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rate with the least and the most of its repetitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The upper quartile: whatever else runs makes repetitions slower, and none faster.
    pub value: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

/// How fast weights of one type are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TypeRate {
    /// Bytes of weights per second, a token at a time.
    pub generation: Rate,
    /// Floating point operations per second, 512 tokens at a time.
    pub prompt: Rate,
}

/// What was measured with one number of threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ComputeRates {
    /// Threads.
    pub threads: u32,
    /// By ggml's name of the type; types that are missing were not measured.
    pub types: BTreeMap<String, TypeRate>,
    /// Seconds that a layer takes for a generated token besides its weights and its attention.
    pub layer_seconds: f64,
    /// Seconds for each number that flows between the matrices of a layer, in prompts.
    pub element_seconds: f64,
    /// Seconds for each number of a key that a head of a generated token attends to, and of the value with it.
    pub generation_attention: f64,
    /// Seconds for each number of keys and values, halved, that is read from memory for a generated token, where the next
    /// token's lies so far behind it that nothing is read ahead.
    pub generation_keys: f64,
    /// What `generation_attention` is, for a token of a prompt.
    pub prompt_attention: f64,
    /// Seconds that it took to measure.
    pub seconds: f64,
}

impl ComputeRates {
    /// The same, where generation reads weights no faster than so many bytes per second.
    #[must_use]
    pub fn within(&self, bytes_per_second: f64) -> Self {
        let mut rates = self.clone();
        for rate in rates.types.values_mut() {
            let Rate { value, low, high } = &mut rate.generation;
            for it in [value, low, high] {
                *it = it.min(bytes_per_second);
            }
        }
        rates
    }

    /// With what was faster earlier, and the types that were measured only then.
    pub fn or_faster(&mut self, earlier: &Self) {
        for (name, old) in &earlier.types {
            let own = self.types.entry(name.clone()).or_insert(*old);
            for (own, old) in [(&mut own.generation, old.generation), (&mut own.prompt, old.prompt)]
            {
                if old.value > own.value {
                    *own = old;
                }
            }
        }
        for (own, old) in [
            (&mut self.layer_seconds, earlier.layer_seconds),
            (&mut self.element_seconds, earlier.element_seconds),
            (&mut self.generation_attention, earlier.generation_attention),
            (&mut self.generation_keys, earlier.generation_keys),
            (&mut self.prompt_attention, earlier.prompt_attention),
        ] {
            *own = own.min(old);
        }
    }
}

impl Rate {
    /// Of repetitions; `None` without any.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let value = *values.get(values.len() * 3 / 4)?;
        Some(Self { value, low: *values.first()?, high: *values.last()? })
    }

    /// Half of the distance between the ends, as a fraction of the rate.
    pub fn relative(self) -> f64 {
        (self.high - self.low) / 2.0 / self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_upper_quartile_and_both_ends() {
        let spread = Rate::of(vec![12.0, 8.0, 10.0, 9.0, 8.0]).unwrap();
        assert_eq!(spread, Rate { value: 10.0, low: 8.0, high: 12.0 });
        assert!((spread.relative() - 0.2).abs() < 1e-12);
        assert_eq!(Rate::of(Vec::new()), None);
    }

    #[test]
    fn memory_bounds_what_is_generated_and_no_prompt() {
        let spread = Rate { value: 40.0, low: 20.0, high: 50.0 };
        let types = [("Q4_K".to_owned(), TypeRate { generation: spread, prompt: spread })].into();
        let rates = ComputeRates { types, ..ComputeRates::default() }.within(30.0);
        let within = Rate { value: 30.0, low: 20.0, high: 30.0 };
        assert_eq!(rates.types["Q4_K"], TypeRate { generation: within, prompt: spread });
    }
}
