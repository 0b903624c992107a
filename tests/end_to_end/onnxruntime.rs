//! ONNX Runtime beside llama.cpp. What needs its library is ignored where it is not installed; the rest is what a run says
//! without one.

use crate::schemas;
use crate::world::World;
use serde_json::Value;

const EXPERIMENT: &str = r#"
[experiment]
rounds = 1
repetitions = 1
[settings]
threads = 1
[workloads]
speed = ["pp16", "tg4"]
[workloads.latency]
enabled = false
[workloads.quality]
text = "demo"
chunks = 4
[[models]]
source = "demo"
quantizations = ["F16"]
onnx = ["graphs"]
"#;

/// A world with the demo as GGUF and as ONNX.
fn world(targets: &str) -> World {
    let world = World::new();
    world.write("models.toml", EXPERIMENT);
    world.run(&["onnx", "export", "demo", "-o", "graphs", "--to", targets]).expect(0);
    world
}

/// The trial of a label.
fn trial<'r>(run: &'r Value, label: &str) -> &'r Value {
    let trials = run["trials"].as_array().unwrap();
    trials.iter().find(|trial| trial["label"] == label).unwrap_or_else(|| panic!("no {label}"))
}

#[test]
#[ignore = "needs the library of ONNX Runtime: pip install onnxruntime"]
fn both_engines_compute_the_same_from_the_same_weights() {
    let world = world("fp32,int4");
    let run = ["run", "models.toml", "--quiet", "--format", "json"];
    let run = world.run(&run).expect(0).run_record();
    let (gguf, reference) = (trial(&run, "F16"), trial(&run, "onnx-fp32"));
    assert_eq!(reference["is_reference"], true, "F32 is more precise than F16");
    assert_eq!(reference["engine"]["name"], "onnxruntime");
    assert_eq!(reference["facts"]["cache"], "in_place");
    let perplexity = |trial: &Value| trial["quality"]["perplexity"]["mean"].as_f64().unwrap();
    assert!((perplexity(gguf) / perplexity(reference) - 1.0).abs() < 1e-4);
    let kld = |trial: &Value| trial["quality"]["divergence"]["kld"]["mean"].as_f64().unwrap();
    assert!(kld(gguf) < 1e-5, "{}", kld(gguf));
    assert!((0.05..0.5).contains(&kld(trial(&run, "onnx-int4"))));
    let shown = world.run(&["show"]).expect(0).stdout.replace("\n    ", " ");
    assert!(shown.contains("Between engines: F16 of llama.cpp diverges from onnx-fp32"), "{shown}");
    assert!(shown.contains("ONNX Runtime 1."), "{shown}");
}

#[test]
#[ignore = "needs the library of ONNX Runtime: pip install onnxruntime"]
fn what_is_wrong_with_a_graph_is_told_and_the_others_are_measured() {
    let world = world("fp32,int4");
    let graph = std::fs::read(world.path("graphs/onnx/model_q4.onnx")).unwrap();
    std::fs::write(world.path("graphs/onnx/cut.onnx"), &graph[..graph.len() / 2]).unwrap();
    std::fs::write(world.path("graphs/onnx/text.onnx"), "no graph").unwrap();
    let run = ["run", "models.toml", "--quiet", "--format", "json"];
    let run = world.run(&run).expect(3).run_record();
    for (label, reason) in
        [("onnx-unknown/cut", "is cut off"), ("onnx-unknown/text", "no ONNX file")]
    {
        let told = trial(&run, label)["failure"]["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
    }
    for label in ["F16", "onnx-fp32", "onnx-int4"] {
        assert!(trial(&run, label)["failure"].is_null(), "{label}");
    }
    // A tokenizer of another model.
    let path = world.path("graphs/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for token in 4096..9000 {
        tokenizer["model"]["vocab"][format!("other{token}")] = token.into();
    }
    std::fs::write(path, serde_json::to_vec(&tokenizer).unwrap()).unwrap();
    let run = ["run", "models.toml", "--quiet", "--quant", "F16,onnx-int4", "--format", "json"];
    let run = world.run(&run).expect(3).run_record();
    let told = trial(&run, "onnx-int4")["failure"]["reason"].as_str().unwrap();
    assert!(told.contains("logits for 4096 tokens and the tokenizer beside it 9000"), "{told}");
}

#[test]
#[ignore = "needs the library of ONNX Runtime: pip install onnxruntime"]
fn what_a_context_takes_is_planned_and_a_limit_is_kept() {
    let world = world("fp32,int4");
    let plan_of = |quantization: &str, more: &[&str]| {
        let arguments = [&["plan", "graphs", "--quant", quantization, "--format", "json"], more];
        let shown: Value =
            serde_json::from_str(&world.run(&arguments.concat()).expect(0).stdout).unwrap();
        shown["variants"][0].clone()
    };
    let plan = |more: &[&str]| plan_of("onnx-int4", more);
    // Layers, keys and values, heads, numbers of a head, bytes of a number.
    let token = 9 * 2 * 2 * 64 * 4;
    let one = plan(&["--context", "1000"]);
    let memory = &one["memory"][0];
    assert_eq!(memory["kv_bytes"], 1000 * token);
    assert!(memory["weights_bytes"].as_u64().unwrap() > 4 << 20, "{memory}");
    assert!(memory["compute_bytes"].as_u64().unwrap() >= 512 * 4096 * 4, "{memory}");
    assert!(one["memory"][1]["unknown"].as_str().unwrap().contains("'cache_type_k'"), "{one}");
    let two = plan(&["--context", "500", "--parallel", "2"]);
    assert_eq!(two["memory"][0]["kv_bytes"], 1500 * token, "a sequence's is copied");
    assert_eq!(plan(&[])["context"], 1024, "what config.json says");
    // What a session keeps of weights besides the file's is foretold, too; without it a fifth of the peak is missing.
    let whole = plan_of("onnx-fp32", &["--context", "512"])["memory"][0].clone();
    let parts = ["weights_bytes", "kv_bytes", "compute_bytes", "process_bytes"];
    let planned: f64 = parts.iter().map(|part| whole[*part].as_f64().unwrap()).sum();
    let measured = EXPERIMENT.replace("pp16", "pp512").replace("\"F16\"", "\"onnx-fp32\"");
    world.write("measured.toml", &measured.replace("text = \"demo\"", "enabled = false"));
    let run = world.run(&["run", "measured.toml", "-q", "--format", "json"]).expect(0).json();
    let rows = run["summary"]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["label"] == "onnx-fp32").unwrap();
    let peak = row["figures"]["peak_rss_bytes"]["value"].as_f64().unwrap();
    assert!((0.95..1.25).contains(&(planned / peak)), "planned {planned}, took {peak}");
    let recommend = |limit: &str| {
        let arguments = ["recommend", "models.toml", "--quiet", "--max-memory", limit];
        world.run(&[&arguments[..], &["--context", "1000", "--format", "json"]].concat())
    };
    let run = recommend("20MiB").expect(1).run_record();
    let graph = trial(&run, "onnx-int4");
    assert!(graph["predicted"]["peak_bytes"].as_u64().unwrap() > 20 << 20, "{graph}");
    let run = recommend("2GiB").expect(0).run_record();
    assert_eq!(trial(&run, "onnx-int4")["predicted"]["tokens"], 1000);
}

#[test]
#[ignore = "needs the library of ONNX Runtime: pip install onnxruntime"]
fn a_plan_tells_the_speeds_that_a_run_has_measured() {
    let world = world("fp32,int4");
    let plan = |quantization: &str| -> Value {
        let plan =
            ["plan", "graphs", "--quant", quantization, "--threads", "1", "--format", "json"];
        let shown: Value = serde_json::from_str(&world.run(&plan).expect(0).stdout).unwrap();
        schemas::check(&world, &shown);
        shown["variants"][0]["speed"]["tests"][0].clone()
    };
    let unknown = plan("onnx-int4")["unknown"].as_str().unwrap().to_owned();
    assert!(unknown.contains("no stored run has measured it"), "{unknown}");
    let measured = EXPERIMENT.replace("pp16", "pp512").replace("\"F16\"", "\"onnx-int4\"");
    world.write("measured.toml", &measured);
    world.run(&["run", "measured.toml", "--quiet"]).expect(0);
    let told = plan("onnx-int4");
    assert_eq!((&told["test"], &told["origin"]), (&"pp512".into(), &"measured".into()), "{told}");
    // Another graph was not measured by it.
    assert!(plan("onnx-fp32")["unknown"].is_string());
    let shown = world.run(&["plan", "graphs", "--threads", "1"]).expect(0).stdout;
    assert!(shown.contains("?: how fast ONNX Runtime is, nothing predicts"), "{shown}");
}

#[test]
#[ignore = "needs the library of ONNX Runtime: pip install onnxruntime"]
fn its_own_settings_are_tuned() {
    let world = world("fp32,int4");
    let quick = ["tune", "graphs", "--quant", "onnx-int4", "--budget", "40s", "--toml", "t.toml"];
    let tuned = world.run(&[&quick[..], &["--format", "json", "-q"]].concat()).expect(0).json();
    schemas::check(&world, &tuned);
    assert_eq!(tuned["llama_server"], Value::Null);
    let tried = tuned["tried"].as_array().unwrap();
    let words: Vec<&str> = tried.iter().map(|it| it["in_words"].as_str().unwrap()).collect();
    assert_eq!(words[0], "defaults");
    assert!(words.contains(&"spin=0"), "{words:?}");
    let known = |word: &&str| {
        let own = |it: &str| ["t=", "spin=", "ub=", "opt="].iter().any(|own| it.starts_with(own));
        *word == "defaults" || word.split(' ').all(own)
    };
    assert!(words.iter().all(known), "{words:?}");
    let measured = |it: &&Value| it["tokens_per_second"].as_f64().is_some();
    assert!(tried.iter().filter(measured).count() > 1, "{tuned}");
    let run = world.run(&["run", "t.toml", "--rounds", "1", "--format", "json", "-q"]);
    let run = run.expect(0).run_record();
    assert_eq!(trial(&run, "onnx-int4")["settings"], tuned["settings"]);
}

#[test]
#[ignore = "needs the library of ONNX Runtime: pip install onnxruntime"]
fn execution_providers_are_listed_and_chosen_by_name() {
    let world = world("int4");
    let devices = world.run(&["devices", "--format", "json"]).expect(0).json();
    schemas::check(&world, &devices);
    let found = &devices["onnxruntime"];
    assert!(found["providers"].as_array().unwrap().contains(&"cpu".into()), "{found}");
    let shown = world.run(&["devices"]).expect(0).stdout;
    assert!(shown.contains("execution providers"), "{shown}");
    let chosen = EXPERIMENT.replace("threads = 1", "threads = 1\nprovider = [\"cpu\", \"coreml\"]");
    world.write(
        "chosen.toml",
        &chosen.replace("quantizations = [\"F16\"]", "quantizations = [\"onnx-int4\"]"),
    );
    let run =
        world.run(&["run", "chosen.toml", "--quiet", "--format", "json"]).expect(3).run_record();
    let trials = run["trials"].as_array().unwrap();
    let of = |provider: &Value| {
        trials.iter().find(|it| it["settings"]["provider"] == *provider).unwrap()
    };
    assert!(of(&Value::Null)["failure"].is_null(), "{run}");
    let told = of(&"coreml".into())["failure"]["reason"].as_str().unwrap();
    assert!(told.contains("provider = \"coreml\"") && told.contains("but cpu"), "{told}");
    // Libraries that are no longer what they were.
    let whole = std::fs::read(found["path"].as_str().unwrap()).unwrap();
    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle / 2..middle].fill(0);
    for (name, bytes) in [("cut.so", &whole[..middle]), ("broken.so", &broken)] {
        std::fs::write(world.path(name), bytes).unwrap();
        let devices = ["devices", "--format", "json", "--onnxruntime", name];
        let told = world.run(&devices).expect(0).json();
        let told = told["onnxruntime"]["reason"].as_str().unwrap();
        assert!(told.contains(name) && !told.contains('\n'), "{name}: {told}");
    }
}

#[test]
fn without_a_library_the_ggufs_are_measured_and_it_is_told_what_to_type() {
    let world = world("int4");
    let run = ["run", "models.toml", "--quiet", "--format", "json", "--onnxruntime", "models.toml"];
    let run = world.run(&run).expect(3).run_record();
    assert!(trial(&run, "F16")["failure"].is_null());
    let told = trial(&run, "onnx-int4")["failure"]["reason"].as_str().unwrap();
    assert!(told.contains("no library of ONNX Runtime") && told.contains("pip install"), "{told}");
    let devices = world.run(&["devices", "--onnxruntime", "none.so"]).expect(0).stdout;
    assert!(devices.contains("that --onnxruntime"), "{devices}");
    assert_eq!(trial(&run, "F16")["is_reference"], true);
    let rows = world.run(&["show", "--format", "llama-bench"]).expect(0).stdout;
    assert_eq!(rows.lines().count(), 2, "those of ONNX are left out: {rows}");
    world.run(&["onnx", "export", "demo", "-o", "demo", "--to", "int4"]).expect(0);
    let demo =
        ["run", "--model", "demo", "--onnx", "demo", "--quant", "F16,onnx-int4", "--dry-run"];
    let shown = world.run(&demo).expect(0).stdout;
    assert!(shown.contains("onnx-int4"), "{shown}");
    let none = [
        "run",
        "models.toml",
        "--onnxruntime",
        "demo",
        "--onnx",
        "demo",
        "--quiet",
        "--format",
        "json",
    ];
    let run = world.run(&none).expect(3).run_record();
    let told = trial(&run, "onnx-int4")["failure"]["reason"].as_str().unwrap();
    assert!(told.contains("demo, the library") && told.contains("--onnxruntime"), "{told}");
}

#[test]
fn a_limit_on_memory_leaves_out_the_graphs_whose_memory_is_not_known() {
    let world = world("int4");
    world.write("graphs/onnx/text.onnx", "no graph");
    let limited = ["recommend", "models.toml", "--max-memory", "1GiB", "--onnxruntime", "none.so"];
    let run =
        world.run(&[&limited[..], &["-q", "--format", "json"]].concat()).expect(0).run_record();
    assert!(!trial(&run, "F16")["visits"].as_array().unwrap().is_empty());
    for (label, reason) in [("onnx-int4", "none.so"), ("onnx-unknown/text", "not known")] {
        let trial = trial(&run, label);
        assert_eq!(trial["visits"], Value::Array(Vec::new()), "{label}");
        let told = trial["predicted"]["does_not_fit"].as_str().unwrap();
        assert!(told.starts_with("what it takes for a context is not known: "), "{told}");
        assert!(told.contains(reason), "{told}");
    }
    let shown = world.run(&["show"]).expect(0).stdout;
    assert!(
        shown.contains("Not looked at: onnx-int4 and onnx-unknown/text (what it takes"),
        "{shown}"
    );
    assert!(shown.contains("memory not known"), "{shown}");
}

#[test]
fn what_is_not_done_with_onnx_is_refused_by_name() {
    let world = world("int4");
    let graph = "graphs/onnx/model_q4.onnx";
    let several = ["tune", graph, "--for", "throughput"];
    world.run(&several).expect_message(2, &["is ONNX", "one after the other", "--for latency"]);
    let limited = ["recommend", graph, "--max-memory", "1GiB", "--onnxruntime", "models.toml"];
    let said =
        ["onnx-int4 takes for a context", "no library of ONNX Runtime", "leave --max-memory"];
    world.run(&limited).expect_message(2, &said);
    let shown = world.run(&["inspect", graph]).expect(0).stdout;
    for part in ["INT4 block 32 symmetric", "com.microsoft 1", "input_ids Int64", "logits Float"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    world.run(&["inspect", graph, "--format", "json"]).expect_message(2, &["a table alone"]);
    let two = ["run", "models.toml", "--onnx", "models.toml"];
    world.run(&two).expect_message(2, &["--onnx is 'models.toml', which holds no ONNX"]);
    let made = ["run", "--model", "demo", "--quant", "onnx-int8", "--rounds", "1"];
    world.run(&made).expect_message(2, &["onnx-int8 is not among", "which are onnx-int4"]);
    let only = ["run", "models.toml", "--only", "onnx-int4", "--dry-run"];
    let shown = world.run(&only).expect(0).stdout;
    assert!(shown.contains("onnx-int4"), "{shown}");
}
