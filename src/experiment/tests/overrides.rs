//! What the command line changes.

use super::{PLAIN, names};
use crate::experiment::resolved::Experiment;
use crate::experiment::{Overrides, parse};
use crate::model::gguf::testing::Builder;
use crate::model::source::Source;
use std::path::Path;

fn apply(text: &str, overrides: &Overrides) -> Result<Experiment, String> {
    parse(text.as_bytes(), Path::new("x.toml"), overrides).map_err(|error| error.to_string())
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn two_models() -> String {
    let second = "[[models]]\nsource = \"hf://owner/name/Other.gguf\"\n";
    format!("quantizations = [\"F16\", \"Q8_0\", \"Q4_K_M\"]\n{PLAIN}{second}")
}

/// [`two_models`] with divergence measured, on a text of its own.
fn compared() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.txt");
    std::fs::write(&path, "word ".repeat(1000)).unwrap();
    let quality = format!("quality.text = '{}'", path.display());
    (folder, two_models().replace("quality.enabled = false", &quality))
}

#[test]
fn numbers_replace_the_files() {
    let overrides = Overrides { rounds: Some(2), repetitions: Some(4), ..Overrides::default() };
    let experiment = apply(PLAIN, &overrides).unwrap();
    assert_eq!((experiment.rounds, experiment.repetitions), (2, 4));
    let overrides = Overrides { rounds: Some(0), ..Overrides::default() };
    assert_eq!(apply(PLAIN, &overrides).unwrap_err(), "--rounds 0 must be from 1 to 1000");
}

#[test]
fn models_are_chosen_by_name_in_any_case() {
    let overrides = Overrides { models: list(&["OTHER"]), ..Overrides::default() };
    let experiment = apply(&two_models(), &overrides).unwrap();
    assert_eq!(experiment.models.len(), 1);
    assert_eq!(experiment.models[0].name, "Other");
}

#[test]
fn a_source_on_the_command_line_gets_the_files_quantizations() {
    let overrides = Overrides { models: list(&["hf://a/b/new-F32.gguf"]), ..Overrides::default() };
    let experiment = apply(&two_models(), &overrides).unwrap();
    assert_eq!(experiment.models[0].name, "new-F32");
    assert_eq!(names(&experiment, 0), ["F16", "Q8_0", "Q4_K_M"]);
    let overrides = Overrides { models: list(&["hf://a/b/c-Q4_0.gguf"]), ..Overrides::default() };
    let experiment = apply(&two_models(), &overrides).unwrap();
    assert!(names(&experiment, 0).is_empty(), "a quantized file is taken as it is");
}

#[test]
fn a_name_that_is_neither_model_nor_source_is_answered_with_the_nearest() {
    let overrides = Overrides { models: list(&["othr"]), ..Overrides::default() };
    assert_eq!(
        apply(&two_models(), &overrides).unwrap_err(),
        "--model 'othr' is no model of this experiment, and as a source it is 'othr', but there is \
         no file or folder othr; did you mean 'Other'?"
    );
}

#[test]
fn names_of_one_kind_add_up_and_names_of_two_kinds_narrow() {
    let overrides = Overrides { only: list(&["q8_0", "INT8", "f16"]), ..Overrides::default() };
    let experiment = apply(&two_models(), &overrides).unwrap();
    assert_eq!(names(&experiment, 0), ["F16", "Q8_0"]);
    assert_eq!(names(&experiment, 1), ["F16", "Q8_0"]);
    let overrides = Overrides { only: list(&["other", "Q4_K_M"]), ..Overrides::default() };
    let experiment = apply(&two_models(), &overrides).unwrap();
    assert_eq!(experiment.models.len(), 1);
    assert_eq!(names(&experiment, 0), ["Q4_K_M"]);
}

#[test]
fn what_quality_is_measured_against_stays_unless_it_is_skipped() {
    let (_folder, text) = compared();
    let overrides = Overrides { only: list(&["Q4_K_M"]), ..Overrides::default() };
    assert_eq!(names(&apply(&text, &overrides).unwrap(), 0), ["F16", "Q4_K_M"]);
    let overrides =
        Overrides { only: list(&["Q4_K_M"]), skip: list(&["F16"]), ..Overrides::default() };
    assert_eq!(names(&apply(&text, &overrides).unwrap(), 0), ["Q4_K_M"]);
    let quantizations = vec!["Q6_K".parse().unwrap()];
    let overrides = Overrides { quantizations, ..Overrides::default() };
    let text = format!("reference = \"Q8_0\"\n{text}");
    assert_eq!(names(&apply(&text, &overrides).unwrap(), 0), ["Q8_0", "Q6_K"]);
}

#[test]
fn skipping_drops_and_skipping_everything_is_refused() {
    let overrides = Overrides { skip: list(&["model", "Q8_0"]), ..Overrides::default() };
    let experiment = apply(&two_models(), &overrides).unwrap();
    assert_eq!(experiment.models.len(), 1);
    assert_eq!(names(&experiment, 0), ["F16", "Q4_K_M"]);
    let overrides = Overrides { skip: list(&["model", "other"]), ..Overrides::default() };
    assert_eq!(
        apply(&two_models(), &overrides).unwrap_err(),
        "--only and --skip leave no variant to measure; known: model, Other, F16, Q8_0, Q4_K_M"
    );
}

#[test]
fn a_name_that_matches_nothing_is_answered_with_the_nearest() {
    let overrides = Overrides { only: list(&["Q4_K_S"]), ..Overrides::default() };
    assert_eq!(
        apply(&two_models(), &overrides).unwrap_err(),
        "--only 'Q4_K_S' is neither a model nor a quantization of this experiment; \
         did you mean 'Q4_K_M'?"
    );
    let overrides = Overrides { skip: list(&["banana"]), ..Overrides::default() };
    assert_eq!(
        apply(&two_models(), &overrides).unwrap_err(),
        "--skip 'banana' is neither a model nor a quantization of this experiment; \
         known: model, Other, F16, Q8_0, Q4_K_M"
    );
}

#[test]
fn a_quantization_that_cannot_be_made_is_refused_on_the_command_line_too() {
    let quantizations = vec!["awq:F16".parse().unwrap()];
    let overrides = Overrides { quantizations, ..Overrides::default() };
    assert_eq!(
        apply(PLAIN, &overrides).unwrap_err(),
        "--quant awq:F16: weights in F16 are not rounded: there is nothing to choose; write 'F16'"
    );
}

#[test]
fn a_calibrated_variant_looks_at_the_standard_texts_unless_one_is_named() {
    let quantizations = vec!["gptq:Q4_0".parse().unwrap()];
    let overrides = Overrides { quantizations, ..Overrides::default() };
    let plan = apply(PLAIN, &overrides).unwrap().models[0].calibration.clone().unwrap();
    assert_eq!((plan.source.as_str(), plan.text.len() > 150_000), ("standard", true));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.txt");
    std::fs::write(&path, "some words").unwrap();
    let calibration = Some(path.display().to_string());
    let overrides = Overrides { calibration, ..overrides };
    let experiment = apply(PLAIN, &overrides).unwrap();
    let plan = experiment.models[0].calibration.clone().unwrap();
    assert_eq!((plan.text.as_str(), plan.context), ("some words", 512));
    // What is not calibrated carries no text.
    let overrides = Overrides { quantizations: vec!["Q8_0".parse().unwrap()], ..overrides };
    assert_eq!(apply(PLAIN, &overrides).unwrap().models[0].calibration, None);
}

#[test]
fn what_a_folder_holds_is_chosen_from_like_a_list() {
    let (folder, text) = compared();
    let path = folder.path().join("ready");
    std::fs::create_dir(&path).unwrap();
    for file_type in [15, 7, 1] {
        Builder::model(file_type).write(&path.join(format!("{file_type}.gguf")));
    }
    std::fs::write(path.join("broken.gguf"), b"GGUF").unwrap();
    let models = vec![path.display().to_string()];
    let with = |only: &[&str], skip: &[&str]| {
        let overrides = Overrides {
            models: models.clone(),
            only: list(only),
            skip: list(skip),
            ..Overrides::default()
        };
        apply(&text, &overrides).map(|experiment| names(&experiment, 0))
    };
    assert_eq!(with(&[], &[]), Ok(vec![]), "all of it");
    assert_eq!(with(&["Q4_K_M"], &[]), Ok(list(&["F16", "Q4_K_M"])), "and the reference");
    assert_eq!(with(&[], &["Q8_0"]), Ok(list(&["F16", "Q4_K_M"])));
    let error = with(&["Q2_K"], &[]).unwrap_err();
    assert!(error.ends_with("known: ready, F16, Q8_0, Q4_K_M"), "{error}");
}

#[test]
fn the_built_in_experiment_is_called_after_the_models_it_is_given() {
    let named = |models: &[&str]| {
        let overrides = Overrides { models: list(models), ..Overrides::default() };
        crate::experiment::load::built_in(&overrides).unwrap().name
    };
    assert_eq!(named(&["hf://a/b/c-F16.gguf"]), "c-F16");
    assert_eq!(named(&["hf://a/b/c-F16.gguf", "hf://a/b/d-F16.gguf"]), "c-F16, d-F16");
}

#[test]
fn a_model_in_place_of_an_experiment_is_measured_with_the_default_workloads() {
    let folder = tempfile::tempdir().unwrap();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-chat-F16.gguf");
    let load = |path: &std::path::Path, overrides: &Overrides| {
        crate::experiment::load::load(Some(path), overrides).unwrap()
    };
    for name in ["chat-F16.gguf", "chat"] {
        let path = folder.path().join(name);
        std::fs::copy(demo, &path).unwrap();
        let experiment = load(&path, &Overrides::default());
        let built_in = crate::experiment::load::built_in(&Overrides::default()).unwrap();
        let stem = name.trim_end_matches(".gguf");
        assert_eq!((experiment.name.as_str(), experiment.models.len()), (stem, 1));
        assert_eq!(experiment.models[0].source, Source::File(path));
        let quality = |experiment: &Experiment| experiment.workloads.quality.clone().unwrap();
        let (own, demo) = (quality(&experiment), quality(&built_in));
        assert_eq!((own.source.as_str(), own.domains.len()), ("auto", 15));
        assert!(demo.source == "demo" && demo.domains.is_empty());
        let mut as_demo = experiment.workloads;
        as_demo.quality = Some(demo);
        assert!(as_demo == built_in.workloads);
    }
}

#[test]
fn a_quantized_source_is_quantized_again_when_the_command_line_allows_it() {
    let text = "quantizations = [\"Q4_0\"]\n[[models]]\nsource = \"hf://a/b/c-Q8_0.gguf\"\n";
    let path = std::path::Path::new("e.toml");
    let allowed = |allow_requantize| {
        let overrides = Overrides { allow_requantize, ..Overrides::default() };
        let experiment = crate::experiment::load::parse(text.as_bytes(), path, &overrides).unwrap();
        experiment.models[0].allow_requantize
    };
    assert!(allowed(true) && !allowed(false));
}
