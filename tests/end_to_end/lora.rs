//! Adapters: applied to every variant, told with the figures, and refused where they do not fit.

use crate::tiny_model;
use crate::world::{Ended, World};
use serde_json::Value;

const SHORT: [&str; 9] =
    ["run", "models.toml", "--quiet", "--quant", "F16,Q8_0", "--rounds", "1", "--format", "json"];

/// Keys and perplexities of the trials.
fn measured(ended: Ended) -> Vec<(String, f64)> {
    let run = ended.expect(0).run_record();
    let trial = |trial: &Value| {
        let perplexity = trial["quality"]["perplexity"]["mean"].as_f64().unwrap();
        (trial["key"].as_str().unwrap().to_owned(), perplexity)
    };
    run["trials"].as_array().unwrap().iter().map(trial).collect()
}

#[test]
fn an_adapter_changes_every_variant_as_strongly_as_asked_and_is_named() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    tiny_model::write_adapter(&world.path("style.gguf"), "llama");
    let run = |more: &[&str]| measured(world.run(&[&SHORT[..], more].concat()));
    let plain = run(&[]);
    let nothing = run(&["--lora", "style.gguf:0"]);
    let whole = run(&["--lora", "style.gguf"]);
    let half = run(&["--lora", "style.gguf:0.5"]);
    for at in 0..2 {
        let perplexity = |of: &[(String, f64)]| of[at].1;
        assert!((perplexity(&plain) - perplexity(&nothing)).abs() < 1e-9, "{plain:?} {nothing:?}");
        assert!((perplexity(&plain) - perplexity(&whole)).abs() > 1e-3, "{plain:?} {whole:?}");
        assert!((perplexity(&half) - perplexity(&whole)).abs() > 1e-4, "{half:?} {whole:?}");
    }
    let keys: std::collections::BTreeSet<&String> =
        [&plain, &nothing, &whole, &half].into_iter().flatten().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 8, "each is a trial of its own");
    let shown = world.run(&["show"]).expect(0).stdout;
    assert!(shown.contains("tiny with style.gguf:0.5"), "{shown}");
    let json = world.run(&["show", "--format", "json"]).expect(0).run_record();
    assert_eq!(json["trials"][1]["adapters"][0]["scale"], 0.5);

    // The same from a file.
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("models.toml", &format!("{text}lora = [\"style.gguf:0.5\"]\n"));
    assert_eq!(run(&[]), half);
}

#[test]
fn what_cannot_be_applied_is_refused_before_anything_is_measured() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    tiny_model::write_adapter(&world.path("other.gguf"), "qwen3");
    let refused = |more: &[&str], parts: &[&str]| {
        let ended = world.run(&[&SHORT[..], more].concat()).expect_message(2, parts);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    let of_other = ["is an adapter for the architecture 'qwen3'", "the model's is 'llama'"];
    refused(&["--lora", "other.gguf"], &of_other);
    refused(&["--lora", "tiny-F16.gguf"], &["is no adapter (LoRA): it holds a model"]);
    refused(&["--lora", "text.txt"], &["is no GGUF file"]);
    refused(&["--lora", "none.gguf:1"], &["--lora is 'none.gguf:1', but there is no file"]);
    refused(&["--draft", "small.gguf"], &["--draft small.gguf: draft models are not measured"]);
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("models.toml", &format!("{text}lora = [\"none.gguf\"]\n"));
    world.run(&SHORT).expect_message(2, &["models.toml:", "'models.lora' is 'none.gguf'"]);
    world.run(&["list"]).expect(0);
}
