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
