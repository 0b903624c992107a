//! Quality along what the reference answers.

use crate::world::World;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A world with a chat model and an experiment that measures nothing but quality.
fn world(quality: &str) -> World {
    let world = World::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model");
    for (from, to) in [("demo-chat", "chat"), ("demo", "plain")] {
        let from = demo.join(format!("quantbench-{from}-F16.gguf"));
        fs::copy(from, world.path(&format!("{to}-F16.gguf"))).unwrap();
    }
    let text = |source: &str| {
        format!(
            "quantizations = [\"F16\", \"Q4_0\"]\n[experiment]\nrounds = 1\n[workloads]\nspeed = []\n\
             latency.enabled = false\ncold_load = false\nquality = {{ {quality} }}\n\
             [[models]]\nname = \"chat\"\nsource = \"{source}\"\n"
        )
    };
    world.write("models.toml", &text("chat-F16.gguf"));
    world.write("plain.toml", &text("plain-F16.gguf"));
    world
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shown(world: &World) -> Value {
    serde_json::from_str(&world.run(&["show", "--format", "json"]).expect(0).stdout).unwrap()
}

#[test]
fn a_model_with_a_chat_template_is_measured_along_answers_unless_a_text_is_named() {
    let world = world("chunks = 32, precision = 0");
    let table = in_one_line(&world.run(&["run", "--quiet"]).expect(0).stdout);
    assert!(table.contains("of the reference's answers to 32 prompts"), "{table}");
    let document = shown(&world);
    let trials = document["run"]["trials"].as_array().unwrap();
    for trial in trials {
        let quality = &trial["quality"];
        assert_eq!((&quality["answers"], &quality["chunks_available"]), (&32.into(), &120.into()));
        assert!(quality["domains"][0]["name"].as_str().unwrap().ends_with(" answers"));
    }
    let worst = trials[1]["quality"]["worst_answers"].as_array().unwrap();
    let klds: Vec<f64> = worst.iter().map(|it| -it["kld"].as_f64().unwrap()).collect();
    assert!(klds.len() == 3 && klds.is_sorted() && klds[2] < 0.0, "{klds:?}");
    let klds = &trials[1]["quality"]["divergence"]["chunk_kld"];
    let most = klds.as_array().unwrap().iter().filter_map(Value::as_f64).fold(0.0, f64::max);
    assert_eq!(worst[0]["kld"].as_f64(), Some(most));
    let beside = world.run(&["show", "--answers"]).expect(0).stdout;
    assert_eq!(beside.matches("KLD").count(), 3, "{beside}");
    assert!(
        beside.lines().any(|line| line.starts_with("F16") && line.ends_with("│ Q4_0")),
        "{beside}"
    );
    let by_domain = world.run(&["show", "--domains"]).expect(0).stdout;
    assert!(by_domain.contains("prose answers"), "{by_domain}");
}

#[test]
fn a_text_and_answers_can_be_compared_in_one_run() {
    let world =
        world("text = [\"standard\", \"answers\"], context = 256, chunks = 60, precision = 0");
    let table = in_one_line(&world.run(&["run", "--quiet"]).expect(0).stdout);
    assert!(table.contains("of the standard texts and the reference's answers to "), "{table}");
    let document = shown(&world);
    let quality = &document["run"]["trials"][1]["quality"];
    assert!((1..60).contains(&quality["answers"].as_u64().unwrap()), "{}", quality["answers"]);
    let names: Vec<&str> = quality["domains"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert!(names.contains(&"code") && names.contains(&"code answers"), "{names:?}");
}

#[test]
fn a_model_without_a_chat_template_is_measured_on_texts_and_says_what_it_cannot_do() {
    let quality = "context = 64, chunks = 4";
    let on_text = world(quality).run(&["run", "plain.toml", "--quiet"]).expect(0).stdout;
    assert!(on_text.contains("tokens of the standard texts"), "{on_text}");
    let world = world(&format!("text = \"answers\", {quality}"));
    let told = world.run(&["run", "plain.toml", "--quiet"]).expect(0).stdout;
    let told = in_one_line(&told);
    let reason = "quality along answers; it has no chat template (text = \"standard\" in [workloads.quality] \
                  measures it on texts)";
    assert_eq!(told.matches(reason).count(), 1, "{told}");
    let plan = world.run(&["run", "plain.toml", "--dry-run"]).expect(0).stdout;
    let reason = reason.replace("; it has", " is left out: it has");
    assert_eq!(plan.matches(&reason).count(), 1, "{plan}");
    assert!(!plan.contains("perplexity") && !plan.contains("divergence"), "{plan}");
    assert!(
        world.run(&["show", "--answers"]).expect(0).stdout.starts_with("No answers side by side")
    );
}
