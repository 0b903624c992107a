//! Models that see: pictures described and asked about, and what a build without pictures says.

use crate::world::World;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(crate) fn demo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(path)
}

pub(crate) const NOTHING_ELSE: &str = "quantizations = [\"F16\", \"Q2_K\"]\n[experiment]\nrounds = 1\n\
     [workloads]\ncold_load = false\nspeed = []\nlatency.enabled = false\nquality.enabled = false\n";

/// A model with the demo's projector, and a task about the scenes in `dataset`.
pub(crate) fn sees(source: &Path, dataset: &str) -> String {
    let projector = demo("model/quantbench-demo-see-mmproj-F16.gguf");
    format!(
        "[[models]]\nname = \"see\"\nsource = \"{}\"\nmmproj = \"{}\"\n\
         [[models.workloads.tasks]]\nname = \"scenes\"\nkind = \"image-text\"\n\
         dataset = \"{dataset}\"\nfields = {{ image = \"image\", each = \"questions\", gold = \"answer\" }}\n\
         template = \"{{{{ question }}}}\"\nmax_tokens = 16\nmetrics = [\"acc\", \"f1\"]\n",
        source.display(),
        projector.display()
    )
}

pub(crate) fn chat() -> PathBuf {
    demo("model/quantbench-demo-chat-F16.gguf")
}

fn blind() -> String {
    "[[models]]\nname = \"blind\"\nsource = \"tiny-F16.gguf\"\nworkloads.speed = [\"tg4\"]\n"
        .to_owned()
}

#[cfg(feature = "multimodal")]
#[test]
fn pictures_are_asked_about_in_every_variant() {
    let world = World::new();
    let dataset = demo("tasks/scenes.jsonl").display().to_string();
    world.write("models.toml", &[NOTHING_ELSE, &sees(&chat(), &dataset), &blind()].concat());
    let document = world.run(&["run", "--format", "json", "--quiet"]).expect(0).json();
    let rows = document["summary"]["rows"].as_array().unwrap();
    let row = |label: &str| {
        let found = rows.iter().find(|row| row["model"] == "see" && row["label"] == label);
        found.unwrap_or_else(|| panic!("{rows:?}"))
    };
    // 96.2 % of the 240 questions, and as measured in Q2_K 94.6 %: far above chance.
    let right = |label: &str| row(label)["figures"]["task_scenes_acc"]["value"].as_f64().unwrap();
    assert!((right("F16") - 0.962).abs() < 0.02, "{}", right("F16"));
    assert!(right("Q2_K") > 0.85, "{}", right("Q2_K"));
    let tests = &row("Q2_K")["paired_tests"]["task_scenes_acc"];
    assert!(tests["p_value"].as_f64().is_some_and(|p| p > 0.0 && p <= 1.0), "{tests}");
    // A model without a projector has no figure and no failure.
    let blind = rows.iter().find(|row| row["model"] == "blind").unwrap();
    assert_eq!(
        (&blind["failed"], &blind["figures"]["task_scenes_acc"]),
        (&false.into(), &Value::Null)
    );

    let trials = document["run"]["trials"].as_array().unwrap();
    let task = &trials.iter().find(|trial| trial["model"] == "see").unwrap()["tasks"][0];
    assert_eq!((&task["format"], &task["questions"]), (&"own".into(), &240.into()));
    assert_eq!(task["answers"].as_array().unwrap().len(), 240);
    let vision = &task["vision"];
    assert_eq!(vision["pictures"], 80);
    assert!(vision["projector_bytes"].as_u64().unwrap() > 500_000, "{vision}");
    for stage in ["encoding", "prefill", "generation"] {
        assert!(vision["seconds"][stage].as_f64().unwrap() > 0.0, "{vision}");
    }

    let table = world.run(&["show"]).expect(0).stdout.replace("\n    ", " ");
    for part in
        ["scenes (see, F16), 80 pictures of 64.0 tokens: one takes ", " to encode, a question"]
    {
        assert!(table.contains(part), "no '{part}' in:\n{table}");
    }
    let report = world.run(&["report", "--architectures"]).expect(0).stdout;
    let line = report.lines().find(|line| line.starts_with("| multi-modal |")).unwrap();
    assert!(line.contains("| 96."), "{report}");
    for part in ["to encode a picture, then", "projector "] {
        assert!(report.contains(part), "no '{part}' in:\n{report}");
    }
}

#[cfg(feature = "multimodal")]
#[test]
fn a_damaged_picture_is_one_error_before_anything_is_measured() {
    let world = World::new();
    let picture = std::fs::read(demo("tasks/scenes/000.png")).unwrap();
    std::fs::write(world.path("whole.png"), &picture).unwrap();
    std::fs::write(world.path("cut.png"), &picture[..picture.len() / 2]).unwrap();
    let line = |file: &str| {
        format!(
            "{{\"image\":\"{file}\",\"questions\":[{{\"question\":\"?\",\"answer\":\"a\"}}]}}\n"
        )
    };
    world.write("scenes.jsonl", &[line("whole.png"), line("cut.png")].concat());
    world.write("models.toml", &[NOTHING_ELSE, &sees(&chat(), "scenes.jsonl")].concat());
    let parts = ["models.toml:16:11: ", "scenes.jsonl:2: the picture ", "cut.png is damaged: "];
    let ended = world.run(&["run"]).expect_message(2, &parts);
    assert_eq!(ended.stderr.matches("cut.png").count(), 1, "{}", ended.stderr);
    assert!(world.cached_files().is_empty());
}

#[cfg(feature = "multimodal")]
#[test]
fn a_projector_of_another_model_fails_the_trial_and_says_why() {
    let world = World::new();
    let dataset = demo("tasks/scenes.jsonl").display().to_string();
    let other = world.path("tiny-F16.gguf");
    let text = [NOTHING_ELSE, &sees(&other, &dataset)].concat();
    world.write("models.toml", &text);
    let ended = world.run(&["run", "--quant", "F16", "--columns", "400"]).expect(3);
    assert!(ended.stdout.contains("cannot load"), "{ended:?}");
    assert!(ended.stdout.contains("quantbench-demo-see-mmproj-F16.gguf"), "{ended:?}");

    // A language model in its place is found before anything runs.
    let projector = demo("model/quantbench-demo-see-mmproj-F16.gguf").display().to_string();
    world.write("models.toml", &text.replace(&projector, &other.display().to_string()));
    let parts = ["tiny-F16.gguf is no projector (mmproj): it holds a model of the architecture"];
    world.run(&["run"]).expect_message(2, &parts);
}

#[cfg(not(feature = "multimodal"))]
#[test]
fn a_build_without_pictures_measures_everything_else() {
    let world = World::new();
    let dataset = demo("tasks/scenes.jsonl").display().to_string();
    world.write("models.toml", &[NOTHING_ELSE, &sees(&chat(), &dataset), &blind()].concat());
    let ended = world.run(&["run", "--columns", "400"]).expect(0);
    let reason = "this build reads no pictures; build quantbench with its feature 'multimodal'";
    assert!(
        ended.stderr.contains(&format!("note: model 'see' is left out: {reason}")),
        "{ended:?}"
    );
    let table = ended.stdout.replace("\n    ", " ");
    assert!(table.contains(&format!("Model 'see' is left out: {reason}")), "{ended:?}");
    let document = world.run(&["show", "--format", "json"]).expect(0).run_record();
    let models = document["trials"].as_array().unwrap().iter().map(|trial| &trial["model"]);
    assert!(models.eq(std::iter::repeat_n(&Value::from("blind"), 2)), "{document}");

    world.write("models.toml", &[NOTHING_ELSE, &sees(&chat(), &dataset)].concat());
    let parts = ["models.toml:11:10: 'models.mmproj' is for pictures, and", reason];
    world.run(&["run"]).expect_message(2, &parts);
}
