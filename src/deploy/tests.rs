//! Forms of a made-up run's variant.

use super::*;

#[test]
fn names_are_those_that_every_form_takes() {
    assert_eq!(named("SmolLM2-135M-Instruct.Q4_1-Q4_K_M"), "smollm2-135m-instruct-q4-1-q4-k-m");
    assert_eq!(named("7B--ü"), "model-7b");
    let long = named(&format!("{}-Q4_K_M", "x".repeat(90)));
    assert!(long.len() <= 60 && long.ends_with("q4-k-m"), "{long}");
}

#[test]
fn words_of_systemd_say_what_they_say() {
    assert_eq!(services::word("/usr/bin/x-1.2:3"), "/usr/bin/x-1.2:3");
    assert_eq!(services::word("50% $HOME"), "\"50%% $$HOME\"");
    assert_eq!(services::word("a\"b\\c"), "\"a\\\"b\\\\c\"");
}

fn deployment() -> Deployment {
    Deployment {
        name: "m".to_owned(),
        title: "Q8_0 of m".to_owned(),
        file: "/a b/m, 1.gguf".into(),
        copy_of: None,
        settings: Settings { threads: Some(4), mmap: false, ..Settings::default() },
        adapters: Vec::new(),
        context: 8080,
        parallel: 1,
        port: 8080,
        peak_bytes: Some(1000),
        uses_gpu: false,
        embeds: false,
        baseline: serde_json::Value::Null,
    }
}

#[test]
fn the_port_alone_is_left_to_llama_swap() {
    let (files, _) = deployment().artefacts(Target::LlamaSwap).unwrap();
    let text = files[0].text.replace("\n      ", " ");
    assert!(text.contains("--ctx-size 8080") && text.contains("--port ${PORT}"), "{text}");
    assert!(text.contains("--threads 4") && text.contains("--no-mmap"), "{text}");
}

#[test]
fn what_a_quadlet_cannot_mount_is_refused() {
    let error = deployment().artefacts(Target::Quadlet).unwrap_err();
    assert!(error.to_string().contains("write to another folder with -o"), "{error}");
}
