//! What the machine grants and the model bears: few processors, short contexts, sliding windows.

use crate::tiny_model::{self, WINDOW, Weights, bytes_with_context};
use crate::world::{World, words};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

/// The text of a table with its lines joined, so that sentences are whole.
fn in_one_line(table: &str) -> String {
    table.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Children of this thread may run on one processor only.
fn stay_on_one_processor() {
    let mut one = CpuSet::new();
    let allowed = sched_getaffinity(None).unwrap();
    one.set((0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap());
    sched_setaffinity(None, &one).unwrap();
}

#[test]
fn threads_keep_to_the_processors_that_may_be_used() {
    stay_on_one_processor();
    let world = World::new();
    world.experiment("\"F16\"", "");
    let arguments = ["run", "--quiet", "--rounds", "1", "--format", "json"];
    let document = world.run(&arguments).expect(0).run_record();
    assert_eq!(document["trials"][0]["facts"]["threads"], 1);
    let environment = &document["hosts"][0]["environment"];
    assert_eq!(environment["usable_cpus"], 1);
    let table = in_one_line(&world.run(&["show", "last"]).expect(0).stdout);
    let fewer =
        format!("The run may use 1 of {} processors (affinity).", environment["logical_cpus"]);
    let has_more = environment["logical_cpus"].as_u64().unwrap() > 1;
    assert_eq!(table.contains(&fewer), has_more, "{table}");
}

/// An experiment on one file, with speed tests of 16 and of 200 tokens, prompts of 16 and of 100, and two
/// tasks, one of which is too long for 128 tokens.
fn experiment(world: &World, source: &str) {
    let long = words(60);
    world.write("text.txt", &words(400));
    world.write(
        "prompts.jsonl",
        &format!("{{\"id\":\"short\",\"text\":\"once upon a time\"}}\n{{\"id\":\"long\",\"text\":\"{long}\"}}\n"),
    );
    let task = |name: &str, question: &str| {
        let row = format!("{{\"q\":\"{question}\",\"a\":\"a word\"}}\n");
        world.write(&format!("{name}.jsonl"), &row);
        format!(
            "[[workloads.tasks]]\nname = \"{name}\"\nkind = \"text-generation\"\n\
             dataset = \"{name}.jsonl\"\nfields = {{ gold = \"a\" }}\ntemplate = \"{{{{ q }}}}\"\n"
        )
    };
    world.write(
        "models.toml",
        &format!(
            "quantizations = [\"F32\", \"Q8_0\"]\n[experiment]\nrounds = 1\nphase_limit = \"60s\"\n\
             [workloads]\ncold_load = false\nspeed = [\"pp16\", \"pp200\"]\n\
             [workloads.latency]\nprompts = \"prompts.jsonl\"\nmax_tokens = 4\n\
             [workloads.quality]\ntext = \"text.txt\"\ncontext = 256\nchunks = 2\n{}{}\
             [[models]]\nname = \"tiny\"\nsource = \"{source}\"\n",
            task("next", "which word"),
            task("far", &long),
        ),
    );
}

fn named<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap()).collect()
}

#[test]
fn what_does_not_fit_a_short_context_is_left_out_and_what_goes_beyond_it_is_told() {
    let world = World::new();
    std::fs::write(world.path("short.gguf"), bytes_with_context(Weights::F32, 128)).unwrap();
    experiment(&world, "short.gguf");
    let document = world.run(&["run", "--quiet", "--format", "json"]).expect(0).run_record();
    for trial in document["trials"].as_array().unwrap() {
        assert_eq!(named(&trial["visits"][0]["responses"], "prompt_id"), ["short"]);
        assert_eq!(named(&trial["visits"][0]["speed"], "test"), ["pp16", "pp200"]);
        assert_eq!(named(&trial["left_out"], "what"), ["prompt 'long'"]);
        assert_eq!(trial["quality"]["context"], 256);
        let far = &trial["tasks"][1];
        assert_eq!((&far["questions"], far["too_long"].as_array().unwrap().len()), (&0.into(), 1));
        assert_eq!(trial["tasks"][0]["questions"], 1);
    }
    let table = in_one_line(&world.run(&["show", "last"]).expect(0).stdout);
    for part in [
        "Left out of tiny: prompt 'long'; with the answer it is longer than the context of 128 tokens.",
        "tiny was trained with a context of 128 tokens: figures beyond it (pp200 and PPL and KLD over \
         chunks of 256) say little of its use.",
        "far: 1 of 1 question left out: too long for tiny's context of 128 tokens",
    ] {
        assert!(table.contains(part), "no '{part}' in:\n{table}");
    }
}

#[test]
fn positions_that_a_model_has_not_learnt_are_not_computed() {
    let world = World::new();
    tiny_model::write_with_positions(&world.path("learnt.gguf"), 128);
    experiment(&world, "learnt.gguf");
    let document = world.run(&["run", "--quiet", "--format", "json"]).expect(0).run_record();
    for trial in document["trials"].as_array().unwrap() {
        assert_eq!(trial["facts"]["positions"], 128);
        assert_eq!(named(&trial["visits"][0]["speed"], "test"), ["pp16"]);
        assert!(trial["quality"].is_null() && trial["failure"].is_null(), "{trial}");
        let mut left_out = named(&trial["left_out"], "what");
        left_out.sort_unstable();
        assert_eq!(left_out, ["perplexity over chunks of 256", "pp200", "prompt 'long'"]);
    }
}

/// Bytes of the KV cache for a context of 8192 tokens.
fn kv_bytes(world: &World, more: &[&str]) -> u64 {
    let inspect = ["inspect", "window.gguf", "--context", "8192", "--format", "json"];
    let told = world.run(&[&inspect[..], more].concat()).expect(0).json();
    told["memory"]["contexts"][0]["kv_bytes"].as_u64().unwrap()
}

#[test]
fn a_sliding_window_is_all_that_its_layers_keep_unless_asked_for_more() {
    // K and V of 64 values in F16.
    const TOKEN_BYTES: u64 = 2 * 64 * 2;
    let world = World::new();
    tiny_model::write_with_window(&world.path("window.gguf"));
    // llama.cpp keeps the window and a batch that is computed at once, in steps of 256.
    let kept = u64::from(WINDOW + 512).next_multiple_of(256);
    assert_eq!(kv_bytes(&world, &[]), (8192 + kept) * TOKEN_BYTES);
    assert_eq!(kv_bytes(&world, &["--swa-full"]), 2 * 8192 * TOKEN_BYTES);

    experiment(&world, "window.gguf");
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    let text = text.replace("\"pp200\"", "\"tg4@d1500\"");
    world.write(
        "models.toml",
        &format!("{text}[settings]\nubatch = 64\nswa_full = [false, true]\n"),
    );
    let arguments = ["run", "--only", "F32", "--quiet", "--format", "json"];
    let document = world.run(&arguments).expect(0).run_record();
    let of = |trial: usize| &document["trials"][trial];
    assert_eq!(of(0)["settings"]["swa_full"], false);
    let kv = |trial: usize| -> u64 {
        let buffers = of(trial)["visits"][0]["memory"].as_array().unwrap();
        buffers.iter().map(|buffer| buffer["kv_bytes"].as_u64().unwrap()).sum()
    };
    assert!(kv(0) < kv(1), "{} {}", kv(0), kv(1));
    // What is not kept is not looked at: the figures are the same.
    let perplexity = |trial: usize| of(trial)["quality"]["perplexity"]["mean"].as_f64().unwrap();
    let change = (perplexity(0) / perplexity(1) - 1.0).abs();
    assert!(change < 1e-4, "{} {}", perplexity(0), perplexity(1));
}
