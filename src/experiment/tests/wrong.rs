//! The exact text of what is said about a wrong file.

use super::{PLAIN, error};
use crate::experiment::{Overrides, parse};
use std::path::Path;

/// What is written, and what is said about it. Each case is put in front of [`PLAIN`].
const WRONG: &[(&str, &str)] = &[
    (
        "qantizations = [\"Q8_0\"]",
        "x.toml:1:1: unknown key 'qantizations'
  |
1 | qantizations = [\"Q8_0\"]
  | ^^^^^^^^^^^^
  = help: did you mean 'quantizations'?",
    ),
    (
        "[experiment]\nspeed = [\"pp512\"]",
        "x.toml:2:1: unknown key 'speed' in [experiment]
  |
2 | speed = [\"pp512\"]
  | ^^^^^
  = help: this key belongs in [workloads]",
    ),
    (
        "[requirements]\nlatency_budget = 3",
        "x.toml:2:1: unknown key 'latency_budget' in [requirements]
  |
2 | latency_budget = 3
  | ^^^^^^^^^^^^^^
  = help: known keys here: max_memory, min_generation_tps, max_ttft_ms, max_kld, max_perplexity_increase",
    ),
    (
        "quantizations = [\"Q8_0\", \"Q4_KM\"]",
        "x.toml:1:26: 'quantizations': 'Q4_KM' is not a quantization of llama.cpp; did you mean 'Q4_K_M'?
  |
1 | quantizations = [\"Q8_0\", \"Q4_KM\"]
  |                          ^^^^^^^",
    ),
    (
        "quantizations = [\"INT8\", \"Q8_0\"]",
        "x.toml:1:26: 'quantizations' has Q8_0 twice
  |
1 | quantizations = [\"INT8\", \"Q8_0\"]
  |                          ^^^^^^",
    ),
    (
        "variants = [\"gptq:IQ2_XS\"]\n[calibration]\ntext = \"nowhere.txt\"",
        "x.toml:1:13: 'variants': GPTQ does not write the formats of IQ2_XS
  |
1 | variants = [\"gptq:IQ2_XS\"]
  |             ^^^^^^^^^^^^^
  = help: write 'imatrix:IQ2_XS'

x.toml:3:8: 'calibration.text' cannot be read from nowhere.txt: No such file or directory (os error 2)
  |
3 | text = \"nowhere.txt\"
  |        ^^^^^^^^^^^^^",
    ),
    (
        "quantizations = [\"imatrix:F16\"]\nvariants = [\"Q8_0\"]",
        "x.toml:1:18: 'quantizations': weights in F16 are not rounded: there is nothing to choose
  |
1 | quantizations = [\"imatrix:F16\"]
  |                  ^^^^^^^^^^^^^
  = help: write 'F16'

x.toml:2:13: 'variants' and 'quantizations' are two names of one list
  |
2 | variants = [\"Q8_0\"]
  |             ^^^^^^
  = help: keep one of them",
    ),
    (
        "[calibration.gptq]\nmatching = \"all\"\ntext = \"x\"",
        "x.toml:2:12: 'calibration.gptq.matching' is 'all', which is no choice here
  |
2 | matching = \"all\"
  |            ^^^^^
  = help: one of: nothing, outputs, stream

x.toml:3:1: unknown key 'text' in [calibration.gptq]
  |
3 | text = \"x\"
  | ^^^^
  = help: this key belongs in [workloads.quality], or in [calibration]",
    ),
    (
        "quantizations = [\"IQ2_XXS\"]",
        "x.toml:1:18: 'quantizations': IQ2_XXS needs an importance matrix
  |
1 | quantizations = [\"IQ2_XXS\"]
  |                  ^^^^^^^^^
  = help: write 'imatrix:IQ2_XXS', which makes one from a calibration text",
    ),
    (
        "quantizations = [\"Q8_0\", \"Q4_0\"]\nreference = \"F16\"",
        "x.toml:2:13: 'reference' is F16, which is not among the quantizations
  |
2 | reference = \"F16\"
  |             ^^^^^
  = help: add F16 to them, or choose one of: Q8_0, Q4_0",
    ),
    (
        "[experiment]\nrounds = 0",
        "x.toml:2:10: 'experiment.rounds' is 0; it must be from 1 to 1000
  |
2 | rounds = 0
  |          ^",
    ),
    (
        "[experiment]\nrounds = \"five\"",
        "x.toml:2:10: 'experiment.rounds' must be a whole number, not a string
  |
2 | rounds = \"five\"
  |          ^^^^^^",
    ),
    (
        "[experiment]\ncool_down = \"5\"",
        "x.toml:2:13: 'experiment.cool_down' is '5', which is not a length of time
  |
2 | cool_down = \"5\"
  |             ^^^
  = help: write it like 500ms, 30s, 10min or 1h",
    ),
    (
        "[experiment]\nphase_limit = \"900years\"",
        "x.toml:2:15: 'experiment.phase_limit' is 900years; it must be from 1s to 7days
  |
2 | phase_limit = \"900years\"
  |               ^^^^^^^^^^",
    ),
    (
        "[settings]\nubatch = 4096",
        "x.toml:2:10: 'settings.ubatch' is 4096, more than 'settings.batch', which is 2048 (the default)
  |
2 | ubatch = 4096
  |          ^^^^
  = help: ubatch tokens of a batch are computed at once, so ubatch is at most batch",
    ),
    (
        "[settings]\nbatch = 0",
        "x.toml:2:9: 'settings.batch' is 0; it must be from 1 to 1048576
  |
2 | batch = 0
  |         ^",
    ),
    (
        "[settings]\nflash_attention = [\"on\", \"off\"]\ncache_type_v = [\"f16\", \"q8_0\"]",
        "x.toml:3:24: 'settings.cache_type_v' is q8_0, but 'settings.flash_attention' is off
  |
3 | cache_type_v = [\"f16\", \"q8_0\"]
  |                        ^^^^^^
  = help: llama.cpp quantizes the V cache only with flash_attention = \"on\" or \"auto\"",
    ),
    (
        "[settings]\nflash_attention = \"off\"\nsplit_mode = [\"layer\", \"tensor\"]",
        "x.toml:3:24: 'settings.split_mode' is tensor, but 'settings.flash_attention' is off
  |
3 | split_mode = [\"layer\", \"tensor\"]
  |                        ^^^^^^^^
  = help: llama.cpp divides tensors only with flash_attention = \"on\" or \"auto\"",
    ),
    (
        "[settings]\ntensor_split = \"3:1\"",
        "x.toml:2:16: 'settings.tensor_split': '3:1' is no division; write whole numbers like 3/1, one for each GPU
  |
2 | tensor_split = \"3:1\"
  |                ^^^^^",
    ),
    (
        "[settings]\ncache_type_k = \"q80\"",
        "x.toml:2:16: 'settings.cache_type_k' is 'q80', which is no choice here
  |
2 | cache_type_k = \"q80\"
  |                ^^^^^
  = help: did you mean 'q8_0'?",
    ),
    (
        "[settings]\nthreads = [2, 4, 2]",
        "x.toml:2:18: 'settings.threads' has this value twice
  |
2 | threads = [2, 4, 2]
  |                  ^",
    ),
    (
        "[requirements]\nmax_memory = \"lots\"",
        "x.toml:2:14: 'requirements.max_memory' is 'lots', which is not a size
  |
2 | max_memory = \"lots\"
  |              ^^^^^^
  = help: write it like 3.5GiB, 512MiB or 4GB",
    ),
    (
        "[requirements]\nmax_kld = 0.1",
        "x.toml:2:11: 'requirements.max_kld' asks for a divergence that is not measured
  |
2 | max_kld = 0.1
  |           ^^^
  = help: enable [workloads.quality] with divergence = true",
    ),
    (
        "[requirements]\nmin_top_token_agreement = 97.8",
        "x.toml:2:1: 'requirements.min_top_token_agreement' is a fraction, 1 at most
  |
2 | min_top_token_agreement = 97.8
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: 97 % is written 0.97; this may be meant: 0.978",
    ),
    (
        "[requirements]\nmax_joules_per_tokn = 0.1\nmin_pp64_tokens_per_second = 1",
        "x.toml:2:1: 'requirements.max_joules_per_tokn' is on 'joules_per_tokn', which is no figure
  |
2 | max_joules_per_tokn = 0.1
  | ^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: did you mean 'max_joules_per_token'?

x.toml:3:1: 'requirements.min_pp64_tokens_per_second' asks for a speed that is not measured
  |
3 | min_pp64_tokens_per_second = 1
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: add \"pp64\" to workloads.speed",
    ),
    (
        "[requirements]\nmin_file_bytes = 5\nmax_memory_bytes = 7\nmax_memory = \"7GiB\"\nmin_gpu_celsius = 3",
        "x.toml:2:1: 'requirements.min_file_bytes' refuses variants for being good: less is better
  |
2 | min_file_bytes = 5
  | ^^^^^^^^^^^^^^^^^^
  = help: write 'max_file_bytes'

x.toml:3:1: 'requirements.max_memory_bytes' is the second bound on memory_bytes
  |
3 | max_memory_bytes = 7
  | ^^^^^^^^^^^^^^^^^^^^
  = help: keep one of them",
    ),
    (
        "[requirements]\nmin_generation_tps = -1.5",
        "x.toml:2:22: 'requirements.min_generation_tps' is -1.5; it must be 0 or more
  |
2 | min_generation_tps = -1.5
  |                      ^^^^",
    ),
    (
        "[experiment]\nname = \"a\\u0007\"",
        "x.toml:2:8: 'experiment.name' has a control character in it
  |
2 | name = \"a\\u0007\"
  |        ^^^^^^^^^",
    ),
    (
        "[experiment\nname = 1",
        "x.toml:1:12: unclosed table, expected `]`
  |
1 | [experiment
  |            ^",
    ),
];

#[test]
fn what_is_wrong_is_said_with_place_key_and_remedy() {
    for (text, expected) in WRONG {
        assert_eq!(error(&format!("{text}\n{PLAIN}")), *expected);
    }
}

/// The same for tables of models; each case follows switched-off workloads.
const WRONG_MODELS: &[(&str, &str)] = &[
    (
        "",
        "x.toml:4:1: no model to measure
  |
4 |
  | ^
  = help: add [[models]] with source = \"path/to/model.gguf\", an hf:// file or \"demo\"",
    ),
    (
        "[[models]]\nname = \"a\"",
        "x.toml:3:1: this model has no source
  |
3 | [[models]]
  | ^^^^^^^^^^
  = help: add source = \"path/to/model.gguf\", an hf:// file or \"demo\"",
    ),
    (
        "[[models]]\nsource = \"absent.gguf\"",
        "x.toml:4:10: 'models.source' is 'absent.gguf', but there is no file or folder absent.gguf
  |
4 | source = \"absent.gguf\"
  |          ^^^^^^^^^^^^^",
    ),
    (
        "[[models]]\nsource = \"hf://a/b/c.gguf\"\nname = \"One\"\n[[models]]\nsource = \"hf://a/b/one.gguf\"",
        "x.toml:6:1: two models are called 'one'
  |
6 | [[models]]
  | ^^^^^^^^^^
  = help: give each of them a name of its own with name = \"…\"",
    ),
    (
        "[[models]]\nsource = \"hf://a/b/c.gguf\"\nname = \"int8\"",
        "x.toml:5:8: 'models.name' is 'int8', the name of a quantization
  |
5 | name = \"int8\"
  |        ^^^^^^
  = help: choose another, so that --only and --skip know which of the two is meant",
    ),
    (
        "[[models]]\nsource = \"hf://a/b/c.gguf\"\nthreads = 4",
        "x.toml:5:1: unknown key 'threads' in [[models]]
  |
5 | threads = 4
  | ^^^^^^^
  = help: this key belongs in [settings]",
    ),
    (
        "models = 1",
        "x.toml:3:10: 'models' must be a table, not a whole number
  |
3 | models = 1
  |          ^",
    ),
];

#[test]
fn what_is_wrong_with_a_model_is_said_at_its_table() {
    for (text, expected) in WRONG_MODELS {
        let text = format!(
            "workloads.latency.enabled = false\nworkloads.quality.enabled = false\n{text}\n"
        );
        assert_eq!(error(&text), *expected);
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let shown = error(&format!("[experiment]\nrounds = 0\nrepetition = 2\n{PLAIN}"));
    assert!(shown.contains("x.toml:2:10: ") && shown.contains("x.toml:3:1: "), "{shown}");
}

#[test]
fn too_many_combinations_are_refused_before_they_are_made() {
    let many: Vec<String> = (1..=200).map(|number| number.to_string()).collect();
    let many = many.join(", ");
    let shown = error(&format!(
        "{PLAIN}[settings]\nthreads = [{many}]\ngpu_layers = [{many}]\nbatch = [{many}]\nubatch = [{many}]\n"
    ));
    assert!(shown.contains("'settings' has 1600000000 combinations; at most 1000"), "{shown}");
}

#[test]
fn a_text_too_short_for_two_chunks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.txt"), "x".repeat(1023)).unwrap();
    let text = format!(
        "{}[workloads.quality]\ntext = \"t.txt\"\n",
        PLAIN.replace("quality.enabled = false\n", "")
    );
    let file = folder.path().join("x.toml");
    let load = || parse(text.as_bytes(), &file, &Overrides::default());
    let shown = load().unwrap_err().to_string();
    assert!(shown.contains("has 1023 bytes, too few for 2 chunks of 512 tokens"), "{shown}");
    std::fs::write(folder.path().join("t.txt"), "x".repeat(1024)).unwrap();
    assert!(load().is_ok(), "1024 bytes may be 1024 tokens");
}

#[test]
fn bytes_that_are_no_text_are_answered_with_their_place() {
    let error = parse(b"a = 1\nb = \xff\n", Path::new("x.toml"), &Overrides::default());
    let shown = error.unwrap_err().to_string();
    assert!(shown.starts_with("x.toml:2:5: this is no UTF-8 text"), "{shown}");
}

#[test]
fn a_quantized_source_is_not_quantized_again_unasked() {
    let folder = tempfile::tempdir().unwrap();
    crate::model::gguf::testing::Builder::model(7).write(&folder.path().join("m.gguf"));
    let text = PLAIN.replace("hf://owner/name/model", "m");
    let load = |more: &str| {
        let text = format!("{text}{more}");
        parse(text.as_bytes(), &folder.path().join("x.toml"), &Overrides::default())
            .map(|experiment| experiment.models[0].quantizations.len())
            .map_err(|error| error.to_string())
    };
    let shown = load("quantizations = [\"Q8_0\", \"Q4_0\"]").unwrap_err();
    assert!(
        shown.contains(
            "x.toml:6:26: 'models.quantizations' has Q4_0, but m.gguf is quantized already (Q8_0)"
        ),
        "{shown}"
    );
    assert_eq!(load("quantizations = [\"Q4_0\"]\nallow_requantize = true"), Ok(1));
    assert_eq!(load("quantizations = [\"Q8_0\"]"), Ok(1));
    assert_eq!(load(""), Ok(0), "taken as it is");
}
