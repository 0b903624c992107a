//! Every class of architecture in one run, on the small models of demo/model.

use crate::world::World;
use serde_json::Value;
use std::path::Path;

fn demo(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(path).display().to_string()
}

/// One model of each class in F16 and `Q4_K_M`, one round, everything small.
fn experiment(world: &World) {
    let text = std::fs::read_to_string(demo("texts/world.txt")).unwrap();
    world.write("world.txt", text.get(..20_000).unwrap());
    let model = |name: &str, file: &str, more: &str| {
        let source = demo(&format!("model/quantbench-demo-{file}-F16.gguf"));
        format!("[[models]]\nname = \"{name}\"\nsource = \"{source}\"\n{more}")
    };
    let sources = demo("texts/world-sources.txt");
    let prompts = demo("texts/world-source-prompts.jsonl");
    let text = [
        "quantizations = [\"F16\", \"Q4_K_M\"]\n[experiment]\nrounds = 1\n[workloads]\n\
         cold_load = false\nspeed = [\"pp16\", \"tg4\", \"tg4@d16\", \"embed16x1\", \"embed16x4\", \
         \"pp300\"]\n[workloads.latency]\nprompts = \"prompts.jsonl\"\nmax_tokens = 4\n\
         [workloads.quality]\ntext = \"world.txt\"\ncontext = 64\nchunks = 12\n"
            .to_owned(),
        model("decoder", "chat", ""),
        model("experts", "experts", ""),
        model("encoder", "embed", ""),
        model(
            "encoder-decoder",
            "translate",
            &format!(
                "[models.workloads.latency]\nprompts = \"{prompts}\"\nmax_tokens = 60\n\
                 [models.workloads.quality]\ntext = \"{sources}\"\n"
            ),
        ),
    ];
    world.write("models.toml", &text.concat());
    world.write(
        "prompts.jsonl",
        "{\"id\":\"a\",\"text\":\"Near the forest house lived a hunter.\"}\n",
    );
}

/// The trial of a model in a quantization.
fn trial<'a>(run: &'a Value, model: &str, label: &str) -> &'a Value {
    let trials = run["trials"].as_array().unwrap();
    trials.iter().find(|trial| trial["model"] == model && trial["label"] == label).unwrap()
}

/// The throughput tests that a trial has figures of.
fn tests(trial: &Value) -> Vec<&str> {
    let speed = trial["visits"][0]["speed"].as_array().unwrap();
    speed.iter().map(|record| record["test"].as_str().unwrap()).collect()
}

fn responses(trial: &Value) -> &Vec<Value> {
    trial["visits"][0]["responses"].as_array().unwrap()
}

#[test]
fn every_class_is_measured_in_what_applies_to_it() {
    let world = World::new();
    experiment(&world);
    let run = world.run(&["run", "--format", "json", "--quiet"]).expect(0).run_record();
    for trial in run["trials"].as_array().unwrap() {
        assert!(trial["failure"].is_null(), "{trial}");
    }
    let class = |model| trial(&run, model, "F16")["facts"]["class"].as_str().unwrap();
    assert_eq!(class("decoder"), "decoder_only");
    assert_eq!(class("experts"), "decoder_only");
    assert_eq!(class("encoder"), "encoder_only");
    assert_eq!(class("encoder-decoder"), "encoder_decoder");

    let decoder = trial(&run, "decoder", "Q4_K_M");
    assert_eq!(tests(decoder), ["pp16", "tg4", "tg4 @ d16", "pp300"]);
    assert!(decoder["quality"]["divergence"]["kld"]["mean"].as_f64().unwrap() > 0.0);
    assert!(decoder["embedding_quality"].is_null());

    // Its 256 positions do not hold 300 tokens.
    let encoder = trial(&run, "encoder", "Q4_K_M");
    assert_eq!(tests(encoder), ["pp16", "embed16x1", "embed16x4"]);
    assert!(responses(encoder).is_empty());
    assert!(encoder["quality"].is_null());
    let similarity = &encoder["embedding_quality"]["similarity"];
    let cosine = similarity["cosine"]["mean"].as_f64().unwrap();
    assert!(cosine > 0.9 && cosine < 1.0 - 1e-6, "{similarity}");
    assert!(similarity["cosine_minimum"].as_f64().unwrap() < cosine);
    assert!(trial(&run, "encoder", "F16")["embedding_quality"]["similarity"].is_null());

    let translator = trial(&run, "encoder-decoder", "Q4_K_M");
    assert_eq!(tests(translator), ["pp16", "tg4", "tg4 @ d16", "pp300"]);
    let divergence = &translator["quality"]["divergence"];
    assert!(divergence["kld"]["mean"].as_f64().unwrap() > 0.0, "{divergence}");
    assert_eq!(translator["quality"]["chunks"], 12);

    let experts = trial(&run, "experts", "F16");
    assert_eq!(experts["facts"]["experts"]["used"], 2);
    let parameters = |name: &str| experts["facts"][name].as_u64().unwrap();
    assert_eq!(parameters("parameters") - parameters("active_parameters"), 2 * 3 * 2 * 256 * 256);
}

#[test]
fn an_encoder_decoder_answers_a_prompt_that_its_encoder_has_read() {
    let world = World::new();
    experiment(&world);
    let arguments = ["run", "--only", "encoder-decoder,F16", "--format", "json", "--quiet"];
    let run = world.run(&arguments).expect(0).run_record();
    let translator = trial(&run, "encoder-decoder", "F16");
    let answer = |id: &str| {
        let response = responses(translator).iter().find(|response| response["prompt_id"] == id);
        response.unwrap()["text"].as_str().unwrap().to_owned()
    };
    // The test sets' own targets.
    assert_eq!(answer("translation-1"), "Heute besuchen sie seinen Freund hinter der Mauer.");
    assert_eq!(
        answer("summary-6"),
        "Oskar, a baker, wanted to learn to read, but the ink ran dry, and he felt angry."
    );
}

#[test]
fn a_table_leaves_blank_what_does_not_apply() {
    let world = World::new();
    experiment(&world);
    let table = world.run(&["run", "--quiet", "--columns", "400"]).expect(0).stdout;
    for part in [
        "encoder · encoder-only, 1.42 M parameters",
        "encoder-decoder · encoder-decoder, 2.26 M parameters",
        "experts · mixture of experts (2 of 4), 1.35 M of 2.13 M parameters active",
        "emb/s",
        "blank: does not apply to such a model",
        "Pareto front of size, embedding speed and distance from the reference's embeddings",
    ] {
        assert!(table.contains(part), "no '{part}' in:\n{table}");
    }
    // A figure that is missing is a dash; the row of the encoder that was made has none.
    let rows: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("encoder ·")).collect();
    assert!(rows[2].contains("Q4_K_M") && !rows[2].contains(" - "), "{table}");
}

#[test]
fn what_a_file_says_of_its_class_is_what_llama_cpp_makes_of_it() {
    let world = World::new();
    for (file, class) in
        [("embed", "encoder_only"), ("translate", "encoder_decoder"), ("experts", "decoder_only")]
    {
        let path = demo(&format!("model/quantbench-demo-{file}-F16.gguf"));
        let told = world.run(&["inspect", &path, "--format", "json"]).expect(0).json();
        assert_eq!(told["architecture_class"], class);
    }
    let path = demo("model/quantbench-demo-experts-F16.gguf");
    let told = world.run(&["inspect", &path]).expect(0).stdout;
    assert!(told.contains("2 of 4 used, 1.35 M of 2.13 M weights active"), "{told}");
}

#[test]
fn workloads_of_a_model_are_checked_like_the_experiment_s() {
    let world = World::new();
    experiment(&world);
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    let wrong = "[[models]]\nname = \"x\"\nsource = \"tiny-F16.gguf\"\n[models.workloads]\n\
                 speed = [\"embed16\"]\n[models.workloads.quality]\ntext = \"no.txt\"\n";
    world.write("models.toml", &format!("{text}{wrong}"));
    let parts = ["'embed16' is not a speed test", "embed128x8", "no.txt", "models.toml:"];
    world.run(&["run"]).expect_message(2, &parts);
}

/// The value of a metric of a task, as the run's summary has it.
fn value(document: &Value, model: &str, metric: &str) -> f64 {
    let rows = document["summary"]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["model"] == model).unwrap();
    let value = &row["figures"][metric]["value"];
    value.as_f64().unwrap_or_else(|| panic!("{model} has no {metric}: {}", row["figures"]))
}

/// The demo's experiment with nothing but its tasks, and a few of the questions that are answered one
/// at a time.
fn demo_tasks(world: &World) {
    let text = std::fs::read_to_string(demo("architectures.toml")).unwrap();
    let text = text
        .replace("[workloads.latency]\n", "[workloads.latency]\nenabled = false\n")
        .replace("[workloads.quality]\n", "[workloads.quality]\nenabled = false\n")
        .replace("kind = \"rag\"\n", "kind = \"rag\"\nlimit = 30\n")
        .replace("name = \"closed-book\"\n", "name = \"closed-book\"\nlimit = 30\n")
        .replace("kind = \"translation\"\n", "kind = \"translation\"\nlimit = 50\n")
        .replace("kind = \"summarization\"\n", "kind = \"summarization\"\nlimit = 20\n")
        .replace("speed = [", "speed = [] # [");
    let folder = demo("");
    let lines = text.lines().map(|line| {
        let named =
            ["model/", "texts/", "tasks/"].iter().find(|name| line.contains(&format!("\"{name}")));
        match named {
            Some(name) => line.replace(&format!("\"{name}"), &format!("\"{folder}{name}")),
            None => line.to_owned(),
        }
    });
    world.write("models.toml", &lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_demo_s_architectures_answer_as_well_as_their_readme_says() {
    let world = World::new();
    demo_tasks(&world);
    let arguments = ["run", "--quant", "F16", "--rounds", "1", "--format", "json", "--quiet"];
    let document = world.run(&arguments).expect(0).json();
    // Shares that PyTorch or a program of its own over llama.cpp found: demo/README.md. The last
    // bit of a sum may turn an answer on another processor.
    for (model, metric, share) in [
        ("encoder", "task_passages_hit_1", 0.965),
        ("encoder", "task_passages_mrr", 0.982),
        ("encoder", "task_topics_acc", 0.900),
        ("encoder", "task_moods_acc", 0.975),
        ("experts", "task_questions_acc", 0.750),
        ("chat", "task_questions_acc", 0.769),
    ] {
        let found = value(&document, model, metric);
        assert!((found - share).abs() < 0.016, "{model} {metric}: {found}, not {share}");
    }
    if cfg!(feature = "multimodal") {
        let found = value(&document, "see", "task_captions_acc");
        assert!((found - 0.75).abs() < 0.03, "captions: {found}, not 0.75");
    }
    // Of some of the questions: 81.5 % and 89 % of all.
    for metric in ["task_translation_acc", "task_summaries_acc"] {
        let found = value(&document, "encoder-decoder", metric);
        assert!((0.65..1.0).contains(&found), "{metric}: {found}");
    }
    // Nobody knows invented facts without looking them up.
    assert!(value(&document, "chat", "task_closed_book_acc") < 0.2);
    assert!(value(&document, "chat", "task_rag_acc") > 0.7);

    let rag = document["run"]["trials"].as_array().unwrap().iter().find_map(|trial| {
        let tasks = trial["tasks"].as_array().unwrap();
        tasks.iter().find(|task| task["task"] == "rag").map(|task| task["retrieval"].clone())
    });
    let rag = rag.unwrap();
    assert_eq!(rag["index"]["chunks"], 200);
    for stage in ["embedding", "search", "prefill", "generation"] {
        assert!(rag["seconds"][stage].as_f64().unwrap() > 0.0, "{rag}");
    }

    let report = world.run(&["report", "--architectures"]).expect(0).stdout;
    for part in [
        "| encoder-only |  | 97.5 % acc |  |  |  | 96.5 % hit@1 |",
        "% without passages)",
        "ms a question: ",
    ] {
        assert!(report.contains(part), "no '{part}' in:\n{report}");
    }
    for part in ["Excellent", "Limited", "diagram", "not measured", "generates nothing"] {
        assert!(!report.contains(part), "'{part}' in:\n{report}");
    }
    world.run(&["report", "--architectures", "--variant", "Q2_K"]).expect_message(2, &["Q2_K"]);
}

#[test]
fn a_dry_run_says_of_each_class_what_applies_to_it() {
    let world = World::new();
    let ended = world.run(&["run", &demo("architectures.toml"), "--dry-run"]).expect(0);
    let of = |models: &str| {
        let start = format!("each trial of {models}: ");
        let line = ended.stdout.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no '{start}' in:\n{}", ended.stdout))
    };
    assert!(of("decoder").contains("tg32 @ d992, latency (30 prompts), perplexity, divergence"));
    let encoder = of("encoder");
    assert!(encoder.starts_with("load, pp64, pp128, pp256, embed64x1"), "{encoder}");
    assert!(encoder.contains(", distance of embeddings, topics (160 questions)"), "{encoder}");
    for part in ["latency", "perplexity", "tg"] {
        assert!(!encoder.contains(part), "{part}: {encoder}");
    }
    let translator = of("encoder-decoder");
    assert!(translator.contains("latency (12 prompts), divergence, translation"), "{translator}");
}

#[test]
fn the_index_of_passages_is_made_once_and_read_again() {
    let world = World::new();
    let passages: Vec<String> = (0..5)
        .map(|nth| {
            format!("{{\"id\": {nth}, \"text\": \"The bear number {nth} lives in Roseven.\"}}\n")
        })
        .collect();
    world.write("passages.jsonl", &passages.concat());
    world.write("questions.jsonl", "{\"question\": \"Where is bear 3?\", \"passage\": 3}\n");
    let source = demo("model/quantbench-demo-embed-F16.gguf");
    let task = |relevant: &str| {
        format!(
            "[workloads]\nspeed = []\ncold_load = false\nlatency.enabled = false\n\
             quality.enabled = false\n[[workloads.tasks]]\nname = \"find\"\nkind = \"retrieval\"\n\
             dataset = \"questions.jsonl\"\ntemplate = \"query: {{{{ question }}}}\"\n\
             corpus = {{ passages = \"passages.jsonl\", relevant = \"{relevant}\" }}\n\
             [[models]]\nsource = \"{source}\"\nquantizations = [\"F16\"]\n"
        )
    };
    world.write("models.toml", &task("passage"));
    let index = |run: &Value| run["trials"][0]["tasks"][0]["retrieval"]["index"].clone();
    let arguments = ["run", "--format", "json", "--quiet"];
    let first = world.run(&arguments).expect(0).run_record();
    let second = world.run(&arguments).expect(0).run_record();
    assert_eq!(index(&first)["was_read"], false);
    assert_eq!(index(&second)["was_read"], true);
    assert_eq!(
        first["trials"][0]["tasks"][0]["answers"],
        second["trials"][0]["tasks"][0]["answers"]
    );

    // A damaged index is made anew.
    let files = world.cached_files();
    let file = files.iter().find(|path| path.extension().is_some_and(|it| it == "index")).unwrap();
    let whole = std::fs::read(file).unwrap();
    std::fs::write(file, &whole[..whole.len() - 100]).unwrap();
    let third = world.run(&arguments).expect(0).run_record();
    assert_eq!(index(&third)["was_read"], false);
    assert_eq!(std::fs::read(file).unwrap(), whole);

    world.write("models.toml", &task("nowhere"));
    world.run(&arguments).expect_message(2, &["questions.jsonl:1", "nowhere"]);
}
