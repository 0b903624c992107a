//! `[[workloads.tasks]]`: questions that a model answers, beside its size and speed.

use crate::world::World;
use serde_json::Value;

/// Experiment on the tiny model with nothing but these tasks.
fn tasks(world: &World, tasks: &str) {
    world.write(
        "models.toml",
        &format!(
            "quantizations = [\"F16\", \"Q4_0\"]\n[experiment]\nname = \"tiny\"\nrounds = 1\n\
             phase_limit = \"60s\"\n[workloads]\ncold_load = false\nspeed = []\n\
             latency.enabled = false\nquality.enabled = false\n{tasks}\n\
             [[models]]\nname = \"tiny\"\nsource = \"tiny-F16.gguf\"\n"
        ),
    );
}

const QUESTIONS: &str = "{\"id\":\"one\",\"q\":\"which word\",\"a\":\"a word\",\"all\":[\"a word\",\"the model\"]}\n\
     {\"id\":\"two\",\"q\":\"what reads\",\"a\":\"the model\",\"all\":[\"a word\",\"the model\"]}\n\
     {\"id\":\"three\",\"q\":\"what is tiny\",\"a\":\"the model\",\"all\":[\"a word\",\"the model\",\"it\"]}\n";

const CHOOSE: &str = "[[workloads.tasks]]\nname = \"pick\"\nkind = \"question-answering\"\n\
     dataset = \"questions.jsonl\"\nfields = { id = \"id\", choices = \"all\", gold = \"a\" }\n\
     template = \"{{ q }}\"\nformats = [\"none\", \"alpaca\"]\n";

const WRITE: &str = "[[workloads.tasks]]\nname = \"say\"\nkind = \"translation\"\n\
     dataset = \"questions.jsonl\"\nfields = { gold = \"a\" }\ntemplate = \"say {{ q }}\"\n\
     max_tokens = 6\nmetrics = [\"chrf\", \"acc\"]\n";

const PREDICT: &str = "[[workloads.tasks]]\nname = \"next\"\nkind = \"text-generation\"\n\
     dataset = \"questions.jsonl\"\nfields = { gold = \"a\" }\ntemplate = \"{{ q }}\"\n";

#[test]
fn every_way_of_answering_is_measured_stored_and_shown() {
    let world = World::new();
    world.write("questions.jsonl", QUESTIONS);
    tasks(&world, &[CHOOSE, WRITE, PREDICT].concat());
    let document = world.run(&["run", "--format", "json", "--quiet"]).expect(0).json();
    let reference = &document["run"]["trials"][0];
    let names: Vec<&str> = reference["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["pick@none", "pick@alpaca", "say", "next"]);
    for task in reference["tasks"].as_array().unwrap() {
        assert_eq!(task["questions"], 3);
        assert!(task["evaluated_tokens"].as_u64() <= task["request_tokens"].as_u64());
    }
    let pick = &reference["tasks"][0];
    assert_eq!(pick["answers"].as_array().unwrap().len(), 3);
    assert!(pick["answers"][2].as_u64().unwrap() < 3);
    assert!(reference["tasks"][2]["answers"][0].is_string());
    assert_eq!(reference["tasks"][3]["answers"], Value::Array(Vec::new()));
    let row = &document["summary"]["rows"][1];
    for name in ["task_pick_none_acc", "task_pick_none_acc_norm", "task_say_chrf", "task_next_acc"]
    {
        let figure = &row["figures"][name];
        assert_eq!(figure["n"], 3, "{name}: {row}");
        assert!(figure["value"].is_number());
    }
    let test = &row["paired_tests"]["task_pick_none_acc"];
    assert_eq!(test["test"], "mcnemar");
    assert!(test["p_value"].as_f64().unwrap() > 0.0);

    let table = world.run(&["show", "last", "--columns", "200"]).expect(0).stdout;
    for part in ["pick", "@alpaca", "say", "chrf", "next", "from the reference"] {
        assert!(table.contains(part), "no '{part}' in:\n{table}");
    }
    let csv = world.run(&["show", "last", "--format", "csv"]).expect(0).stdout;
    assert!(csv.lines().next().unwrap().contains("task_say_acc,task_say_acc_low"), "{csv}");
    let markdown = world.run(&["show", "last", "--format", "markdown"]).expect(0).stdout;
    assert!(markdown.contains("| pick @none acc % |"), "{markdown}");
}

#[test]
fn a_question_longer_than_the_context_is_told_and_not_cut() {
    let world = World::new();
    let long = format!(
        "{{\"id\":\"long\",\"q\":\"{}\",\"a\":\"a\",\"all\":[\"a\",\"b\"]}}\n",
        "x".repeat(900)
    );
    world.write("questions.jsonl", &(QUESTIONS.to_owned() + &long));
    tasks(&world, CHOOSE);
    let document = world.run(&["run", "--format", "json", "--quiet"]).expect(0).json();
    let task = &document["run"]["trials"][0]["tasks"][0];
    assert_eq!((&task["questions"], &task["too_long"][0]), (&Value::from(3), &Value::from("long")));
    let table = world.run(&["show", "last"]).expect(0).stdout;
    let told = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("1 of 4 questions left out: too long for tiny's context of 512 tokens"),
        "{table}"
    );
}

#[test]
fn a_broken_data_set_is_told_with_its_line_before_anything_runs() {
    let world = World::new();
    world.write("questions.jsonl", &(QUESTIONS.to_owned() + "{\"q\":\n"));
    tasks(&world, CHOOSE);
    world.run(&["run"]).expect_message(
        2,
        &["models.toml:14:11: 'workloads.tasks.dataset' has a wrong example at questions.jsonl:4: EOF"],
    );
    world.write("questions.jsonl", &QUESTIONS.replace("\"a\":\"a word\"", "\"a\":\"no word\""));
    world
        .run(&["run"])
        .expect_message(2, &["questions.jsonl:1: 'a' is 'no word', which is no choice"]);
}

#[test]
fn a_worker_that_dies_over_questions_fails_its_trial_and_not_the_run() {
    let world = World::new();
    world.write("questions.jsonl", QUESTIONS);
    tasks(&world, CHOOSE);
    let fault = world.run_faulty("abort", "pick@alpaca", &["run", "--format", "json", "--quiet"]);
    let document = fault.expect(3).run_record();
    for trial in document["trials"].as_array().unwrap() {
        assert!(trial["failure"]["reason"].as_str().unwrap().contains("GGML_ASSERT"), "{trial}");
        assert_eq!(trial["tasks"], Value::Array(Vec::new()));
    }
    // Without the fault the same experiment runs through.
    world.run(&["run", "--quiet"]).expect(0);
}

#[test]
fn latency_prompts_are_put_into_the_format_asked_for() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let experiment = std::fs::read_to_string(world.path("models.toml")).unwrap();
    let with = |format: &str| {
        let text =
            experiment.replace("max_tokens = 4", &format!("max_tokens = 4\nformat = \"{format}\""));
        world.write("models.toml", &text);
        let ended = world.run(&["run", "--rounds", "1", "--format", "json", "--quiet"]).expect(0);
        let record = ended.run_record();
        record["trials"][0]["visits"][0]["responses"][0]["prompt_tokens"].as_u64().unwrap()
    };
    assert!(with("alpaca") > with("none") + 50, "a whole instruction goes before the prompt");
}
