//! `quantbench bench`: llama-bench's flags and formats.

use crate::world::World;
use serde_json::Value;

const QUICK: [&str; 8] = ["-p", "16", "-n", "4", "-r", "2", "--quiet", "tiny-F16.gguf"];

fn bench(world: &World, more: &[&str]) -> String {
    world.run(&[&["bench"], &QUICK[..], more].concat()).expect(0).stdout
}

#[test]
fn the_table_shows_both_tests() {
    let table = bench(&World::new(), &[]);
    assert!(table.contains("pp16") && table.contains("tg4"), "{table}");
}

#[test]
fn rows_have_llama_benchs_fields_in_every_format() {
    let world = World::new();
    let jsonl = bench(&world, &["-o", "jsonl"]);
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["n_prompt"], &rows[0]["n_gen"]), (&16.into(), &0.into()));
    assert_eq!(rows[1]["samples_ns"].as_array().unwrap().len(), 2);
    let json: Vec<Value> = serde_json::from_str(&bench(&world, &["-o", "json"])).unwrap();
    assert_eq!(json.len(), 2);
    let csv = bench(&world, &["-o", "csv"]);
    assert_eq!(csv.lines().count(), 3);
    assert!(csv.starts_with("build_commit,"));
    let markdown = bench(&world, &["-o", "md"]);
    assert!(markdown.starts_with("| model "), "{markdown}");
    assert!(markdown.contains("pp16") && markdown.contains(" ± "), "{markdown}");
}

#[test]
fn lists_are_swept_as_llama_bench_sweeps_them() {
    let world = World::new();
    let jsonl = bench(&world, &["-t", "1-2", "-pg", "8,2", "-d", "0,8", "-fa", "0", "-o", "jsonl"]);
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2 * 3 * 2, "threads × tests × depths");
    assert!(rows.iter().any(|row| row["n_threads"] == 2 && row["n_depth"] == 8));
}

#[test]
fn sequences_side_by_side_are_told_together() {
    let world = World::new();
    let jsonl = bench(&world, &["-npl", "1,3", "-d", "8", "-o", "jsonl"]);
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tokens = |key| rows.iter().map(|row| row[key].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((tokens("n_prompt"), tokens("n_gen")), (vec![16, 0, 48, 0], vec![0, 4, 0, 12]));
    let table = bench(&world, &["-npl", "3", "-d", "8"]);
    assert!(table.contains("tg4x3") && table.contains("@ d8"), "{table}");
    world.write(
        "batched.toml",
        "[[models]]\nsource = \"tiny-F16.gguf\"\nquantizations = []\n\
         [workloads]\nspeed = [\"batched:pp16,tg4x2\", \"tg4x2@d16 shared\"]\nlatency.enabled = false\nquality.enabled = false\n",
    );
    let ran = world.run(&["run", "batched.toml", "--quiet", "--format", "csv"]).expect(0).stdout;
    for name in ["pp16x2", "tg4x2_d16", "pp16_tg4x2", "tg4x2_d16_shared"] {
        assert!(ran.contains(&format!("{name}_tokens_per_second")), "{name}: {ran}");
    }
}

#[test]
fn several_files_are_measured_and_one_that_is_none_is_refused() {
    let world = World::new();
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0"]).expect(0);
    let jsonl = bench(&world, &["tiny-Q8_0.gguf", "-o", "jsonl"]);
    assert_eq!(jsonl.lines().count(), 4);
    world.write("broken.gguf", "GGUF?");
    world.run(&["bench", "broken.gguf", "--quiet"]).expect_message(2, &["broken.gguf"]);
}

#[test]
fn a_file_whose_worker_dies_exits_with_3_and_the_other_is_shown() {
    let world = World::new();
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0"]).expect(0);
    let arguments = [&["bench"], &QUICK[..], &["tiny-Q8_0.gguf", "-o", "jsonl"]].concat();
    let ended = world
        .run_faulty("kill", "tiny-Q8_0", &arguments)
        .expect_message(3, &["the worker was killed"]);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
}

#[test]
fn gpus_that_are_not_there_are_not_divided_between() {
    let world = World::new();
    let refused = |flags: &[&str]| {
        let args = [&["bench", "--n-gpu-layers", "99"], &QUICK[..], flags].concat();
        world.run(&args).expect(3).stderr
    };
    for mode in ["tensor", "row"] {
        let told = refused(&["-sm", mode]);
        let expected = format!("split_mode = \"{mode}\" cannot be used here: there is no GPU");
        assert!(told.contains(&expected), "{told}");
    }
    let main = refused(&["-mg", "5"]);
    assert!(main.contains("main_gpu = 5 cannot be used here: there is no GPU"), "{main}");
    let shares = refused(&["-ts", "3/1"]);
    assert!(shares.contains("tensor_split = \"3/1\" cannot be used here: it has 2 shares, and llama.cpp finds 0 GPUs"), "{shares}");
    let words = world.run(&["bench", "-ts", "3:1", "tiny-F16.gguf"]).expect(2).stderr;
    assert!(words.contains("'3:1' is no division; write whole numbers like 3/1"), "{words}");
}
