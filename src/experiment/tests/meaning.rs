//! What a file means: every key and every default.

use super::{PLAIN, load, names};
use crate::experiment::settings::{CacheType, FlashAttention, Settings};
use crate::experiment::{Overrides, parse};
use crate::model::source::Source;
use std::time::Duration;

#[test]
fn what_is_left_out_has_its_default() {
    let experiment = load(PLAIN);
    assert_eq!(experiment.name, "x");
    assert_eq!((experiment.rounds, experiment.repetitions), (5, 1));
    assert_eq!(experiment.cool_down, Duration::ZERO);
    assert_eq!(experiment.phase_limit, Duration::from_mins(10));
    assert_eq!(experiment.settings, [Settings::default()]);
    assert!(experiment.requirements.is_empty());
    assert!(experiment.workloads.cold_load);
    let speed: Vec<String> = experiment.workloads.speed.iter().map(ToString::to_string).collect();
    assert_eq!(speed, ["pp512", "tg128"]);
    assert_eq!(experiment.models[0].name, "model");
    assert_eq!(
        names(&experiment, 0),
        ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]
    );
    assert_eq!(experiment.models[0].reference, None);
}

#[test]
fn the_defaults_depend_on_what_the_source_is() {
    let with_source = |file: &str| names(&load(&PLAIN.replace("model.gguf", file)), 0);
    assert_eq!(with_source("model-BF16.gguf")[0], "BF16");
    assert!(with_source("model-Q4_K_M.gguf").is_empty(), "a quantized file is taken as it is");
}

#[test]
fn every_key_reaches_its_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    std::fs::write(in_folder("p.txt"), "one\ntwo\n").unwrap();
    std::fs::write(in_folder("t.txt"), "word ".repeat(1000)).unwrap();
    std::fs::write(in_folder("m.gguf"), "x").unwrap();
    let text = r#"
        quantizations = ["F32", "INT8", "int4"]
        reference = "FP32"
        [experiment]
        name = "mine"
        rounds = 2
        repetitions = 3
        cool_down = "1min 30s"
        phase_limit = "1h"
        [settings]
        threads = [1, "auto"]
        gpu_layers = 0
        flash_attention = true
        batch = 64
        ubatch = 0x20
        cache_type_k = "Q8_0"
        [workloads]
        cold_load = false
        speed = "tg16 @ d32"
        [workloads.latency]
        prompts = "p.txt"
        chat_template_kwargs = { enable_thinking = false }
        max_tokens = 5
        temperature = 1
        top_k = 40
        top_p = 0.9
        seed = 7
        [workloads.quality]
        text = "t.txt"
        context = 64
        chunks = 3
        precision = 0.05
        memory_budget = "1MiB"
        [requirements]
        max_memory = 1000
        min_generation_tps = 10
        max_ttft_ms = 1e3
        max_kld = 0.1
        max_perplexity_increase = 0.02
        [[models]]
        name = "first"
        source = "m.gguf"
        quantizations = "Q4_0"
        reference = "Q4_0"
        allow_requantize = true
        settings = { threads = 3, mmap = false, swa_full = true }
    "#;
    let experiment = parse(text.as_bytes(), &in_folder("e.toml"), &Overrides::default()).unwrap();
    assert_eq!(experiment.name, "mine");
    assert_eq!((experiment.rounds, experiment.repetitions), (2, 3));
    assert_eq!(experiment.cool_down, Duration::from_secs(90));
    assert_eq!(experiment.phase_limit, Duration::from_hours(1));
    let shown: Vec<String> = experiment.settings.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["t=1 ngl=0 fa=on b=64 ub=32 ctk=q8_0", "ngl=0 fa=on b=64 ub=32 ctk=q8_0"]);
    assert_eq!(experiment.workloads.speed[0].depth, 32);
    assert!(!experiment.workloads.cold_load);
    let latency = experiment.workloads.latency.unwrap();
    assert_eq!((latency.prompts.len(), latency.max_tokens), (2, 5));
    assert_eq!((latency.sampling.top_k, latency.sampling.seed), (40, 7));
    assert_eq!(latency.chat_template_kwargs["enable_thinking"], false);
    let quality = experiment.workloads.quality.unwrap();
    assert_eq!((quality.text.len(), quality.context, quality.chunks), (5000, 64, Some(3)));
    assert_eq!((quality.precision, quality.reference_budget_bytes), (Some(0.05), 1 << 20));
    let asked = experiment.requirements.0;
    let asked: Vec<(&str, f64)> = asked.iter().map(|it| (it.metric.as_str(), it.limit)).collect();
    assert_eq!(asked[..2], [("memory_bytes", 1000.0), ("generation_tokens_per_second", 10.0)]);
    assert_eq!(asked[2..4], [("ttft_p90_seconds", 1.0), ("kld_nats", 0.1)]);
    assert_eq!(asked[4], ("perplexity_increase", 0.02));
    let model = &experiment.models[0];
    assert_eq!(model.source, Source::File(in_folder("m.gguf")));
    assert_eq!(model.reference, model.quantizations.first().copied());
    assert!(model.allow_requantize);
    let shown: Vec<String> = model.settings.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(shown, ["t=3 ngl=0 fa=on b=64 ub=32 ctk=q8_0 mmap=0 swa-full"]);
}

#[test]
fn lists_of_settings_are_swept_with_the_last_key_fastest() {
    let text = format!(
        "{PLAIN}[settings]\nflash_attention = [\"on\", \"off\"]\ncache_type_k = [\"f16\", \"q8_0\"]\n"
    );
    let settings = load(&text).settings;
    let pairs: Vec<_> =
        settings.iter().map(|one| (one.flash_attention, one.cache_type_k)).collect();
    let (on, off) = (FlashAttention::On, FlashAttention::Off);
    let (f16, q8) = (CacheType::F16, CacheType::Q8_0);
    assert_eq!(pairs, [(on, f16), (on, q8), (off, f16), (off, q8)]);
}

#[test]
fn of_several_texts_each_is_a_domain() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one.txt", "two.txt"] {
        std::fs::write(folder.path().join(name), "Words. ".repeat(400)).unwrap();
    }
    let quality = |text: &str| {
        let head = "workloads.latency.enabled = false\n";
        let models = "[[models]]\nsource = \"hf://a/b/c-F16.gguf\"\n";
        let text = format!("{head}workloads.quality.text = {text}\n{models}");
        let path = folder.path().join("e.toml");
        let parsed = crate::experiment::load::parse(text.as_bytes(), &path, &Overrides::default());
        parsed.map(|it| it.workloads.quality.unwrap()).map_err(|error| error.to_string())
    };
    let both = quality("[\"one.txt\", \"two.txt\"]").unwrap();
    let domains: Vec<(&str, usize)> =
        both.domains.iter().map(|it| (it.name.as_str(), it.bytes)).collect();
    assert_eq!(domains, [("one", 2800), ("two", 2800)]);
    assert_eq!((both.text.len(), both.source.as_str()), (5600, "one.txt, two.txt"));
    assert!(quality("\"one.txt\"").unwrap().domains.is_empty());
    assert_eq!(quality("[\"one.txt\", \"standard\"]").unwrap().domains.len(), 16);
    let error = quality("[\"auto\", \"one.txt\"]").unwrap_err();
    assert!(error.contains("has 'auto' among others"), "{error}");
    assert!(quality("[]").is_err());
}

#[test]
fn answers_are_measured_alone_beside_a_text_or_where_a_model_can_answer() {
    let quality = |keys: &str| {
        let models = "[[models]]\nsource = \"hf://a/b/c-F16.gguf\"\n";
        let text = format!("workloads.latency.enabled = false\n{keys}\n{models}");
        let path = std::path::Path::new("e.toml");
        let parsed = crate::experiment::load::parse(text.as_bytes(), path, &Overrides::default());
        parsed.map(|it| it.workloads.quality.unwrap()).map_err(|error| error.to_string())
    };
    let of = |keys: &str| {
        let plan = quality(keys).unwrap();
        let answers = plan.answers.map(|it| (it.prompts.len(), it.or_text));
        (plan.source, plan.domains.len(), answers)
    };
    let text = |value: &str| of(&format!("workloads.quality.text = {value}"));
    assert_eq!(text("\"answers\""), ("answers".to_owned(), 0, Some((120, false))));
    let both = text("[\"standard\", \"answers\"]");
    assert_eq!(both, ("standard, answers".to_owned(), 15, Some((120, false))));
    assert_eq!(text("\"standard\""), ("standard".to_owned(), 15, None));
    // Whether a model has a chat template is known once it is there.
    assert_eq!(text("\"auto\""), ("auto".to_owned(), 15, Some((120, true))));
    // Without a reference there is nobody who answers.
    let alone = "workloads.quality = { divergence = false }";
    assert_eq!(of(alone), ("standard".to_owned(), 15, None));
    let error =
        quality("workloads.quality = { text = \"answers\", divergence = false }").unwrap_err();
    assert!(error.contains("divergence is off"), "{error}");
}
