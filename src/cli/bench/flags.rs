//! llama-bench's flags: those of several letters after one dash, and what their values mean.

use super::lists::Numbers;
use crate::experiment::workloads::SpeedTest;
use std::ffi::OsString;

/// llama-bench's flags of several letters after one dash, with the long form that clap reads.
const SHORT_FORMS: [(&str, &str); 11] = [
    ("-pg", "--pg"),
    ("-ub", "--ubatch-size"),
    ("-ngl", "--n-gpu-layers"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-sm", "--split-mode"),
    ("-ts", "--tensor-split"),
    ("-mg", "--main-gpu"),
    ("-nkvo", "--no-kv-offload"),
    ("-npl", "--parallel"),
];

/// Replaces llama-bench's short forms by long ones, so that clap does not read `-ngl 99` as
/// `-n gl 99`. Only arguments of `bench` are touched.
#[must_use]
pub fn spell_out(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_none_or(|command| command != "bench") {
        return arguments;
    }
    for argument in arguments.iter_mut().skip(2) {
        let long = SHORT_FORMS.iter().find(|(short, _)| argument == short).map(|(_, long)| long);
        if let Some(long) = long {
            *argument = OsString::from(long);
        }
    }
    arguments
}

/// Why a value is not what a flag takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {wanted}")]
pub struct ValueError {
    text: String,
    wanted: &'static str,
}

fn wrong(text: &str, wanted: &'static str) -> ValueError {
    ValueError { text: text.to_owned(), wanted }
}

/// Reads `512,128`: a prompt of 512 tokens and 128 generated ones.
pub(super) fn prompt_and_generation(text: &str) -> Result<SpeedTest, ValueError> {
    let numbers = text.split_once(',').and_then(|(prompt, generated)| {
        Some((prompt.trim().parse().ok()?, generated.trim().parse().ok()?))
    });
    match numbers {
        Some((prompt_tokens, generated_tokens)) if prompt_tokens > 0 && generated_tokens > 0 => {
            Ok(SpeedTest { prompt_tokens, generated_tokens, ..SpeedTest::default() })
        }
        _ => Err(wrong(text, "a prompt length and a generation length like 512,128")),
    }
}

/// One value of `-nkvo`: 1 keeps the KV cache off the GPU.
pub(super) fn kv_offload(text: &str) -> Result<bool, ValueError> {
    match text {
        "0" => Ok(true),
        "1" => Ok(false),
        _ => Err(wrong(text, "0 or 1")),
    }
}

/// The numbers of a flag that may be given several times, or llama-bench's default.
pub(super) fn numbers<T: Copy>(given: &[Numbers<T>], default: T) -> Vec<T> {
    let all: Vec<T> = given.iter().flat_map(|numbers| numbers.0.iter().copied()).collect();
    if all.is_empty() { vec![default] } else { all }
}

/// Values of a flag that may be given several times, or llama-bench's default.
pub(super) fn values<T: Clone>(given: &[T], default: T) -> Vec<T> {
    if given.is_empty() { vec![default] } else { given.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::settings::{CacheType, FlashAttention};
    use clap::ValueEnum;

    fn spelled(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        spell_out(words)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn short_forms_of_bench_are_spelled_out_and_others_are_left() {
        assert_eq!(
            spelled("quantbench bench m.gguf -ngl 99 -p 512 -pg 1,2"),
            "quantbench bench m.gguf --n-gpu-layers 99 -p 512 --pg 1,2"
        );
        assert_eq!(spelled("quantbench run -pg"), "quantbench run -pg");
    }

    #[test]
    fn values_read_as_llama_bench_reads_them() {
        assert_eq!(prompt_and_generation("512,128").unwrap().to_string(), "pp512+tg128");
        assert!(prompt_and_generation("512").is_err());
        assert!(prompt_and_generation("0,5").is_err());
        assert_eq!(CacheType::from_str("Q8_0", true), Ok(CacheType::Q8_0));
        assert_eq!(FlashAttention::from_str("1", true), Ok(FlashAttention::On));
        assert_eq!(FlashAttention::from_str("-1", true), Ok(FlashAttention::Auto));
        assert_eq!(kv_offload("1"), Ok(false));
    }
}
