//! `quantbench mix`: a type for every tensor, within a size or a divergence.

use crate::world::{World, words};
use quantbench::model::gguf::Header;
use std::fs;
use std::path::Path;

/// A mix of the demo model by few and short chunks.
fn demo_mix(world: &World, target: &[&str], output: &str, extra: &[&str]) -> crate::world::Ended {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/texts/calibration.txt");
    let text = text.to_string_lossy().into_owned();
    let fixed = [
        "mix",
        "demo",
        "--calibration",
        &text,
        "--chunks",
        "2",
        "--context",
        "128",
        "--types",
        "Q3_K,Q4_K,Q6_K",
        "--layers-per-group",
        "9",
        "-o",
        output,
    ];
    world.run(&[&fixed[..], target, extra].concat())
}

/// A number of a recipe.
fn number(recipe: &str, key: &str) -> f64 {
    let recipe: toml::Table = recipe.parse().unwrap();
    recipe["measured"][key].as_float().unwrap()
}

#[test]
fn a_mix_keeps_to_its_size_and_its_recipe_makes_the_same_file_again() {
    let world = World::new();
    let ended =
        demo_mix(&world, &["--target-size", "3.7MiB"], "mix.gguf", &["--revisions", "1"]).expect(0);
    assert!(ended.stderr.contains("8 groups of tensors; 24 evaluations of 2 chunks"), "{ended:?}");
    let made = fs::read(world.path("mix.gguf")).unwrap();
    let limit = 37 * (1 << 20) / 10;
    assert!(made.len() <= limit, "{} bytes", made.len());
    // The mix uses what it may: no step to a larger type would fit that is worth a tenth of the file.
    assert!(made.len() > limit * 9 / 10, "{} bytes", made.len());
    let again = ["mix", "demo", "--recipe", "mix.toml", "-o", "again.gguf"];
    world.run(&again).expect(0);
    assert!(made == fs::read(world.path("again.gguf")).unwrap(), "the files differ");
    let types = fs::read_to_string(world.path("mix.toml")).unwrap();
    assert!(types.contains("\"token_embd.weight\" = \"Q"), "{types}");

    // Other methods choose the weights that the same types store.
    let chosen = "quantize demo --recipe mix.toml --method gptq --chunks 2 --context 64 --sweeps 0";
    let chosen = chosen.split(' ').chain(["-o", "gptq.gguf"]).collect::<Vec<_>>();
    world.run(&chosen).expect(0);
    let read = |name: &str| Header::read(&world.path(name)).unwrap();
    let (mix, gptq) = (read("mix.gguf"), read("gptq.gguf"));
    let stored = |header: &Header| -> Vec<_> {
        header.tensors.iter().map(|it| (it.name.clone(), it.format)).collect()
    };
    assert_eq!(stored(&mix), stored(&gptq));
    let says = |header: &Header, key: &str| {
        header.get(key).and_then(|value| value.as_text()).map(str::to_owned)
    };
    assert_eq!(says(&gptq, "quantbench.method").as_deref(), Some("gptq"));
    let key = "quantbench.mix.types_sha256";
    assert_eq!(says(&mix, key), says(&gptq, key));
    assert!(says(&mix, key).is_some());
    let chosen = [&chosen[..], &["--to", "Q4_0"]].concat();
    world.run(&chosen).expect_message(2, &["--to", "--recipe"]);
}

#[test]
fn nothing_is_measured_twice_and_a_divergence_is_kept_to() {
    let world = World::new();
    demo_mix(&world, &["--target-bpw", "5"], "first.gguf", &[]).expect(0);
    let ended = demo_mix(&world, &["--max-kld", "0.1"], "second.gguf", &[]).expect(0);
    assert!(ended.stderr.contains("0 evaluations of 2 chunks (24 more are known"), "{ended:?}");
    let first = fs::read_to_string(world.path("first.toml")).unwrap();
    let second = fs::read_to_string(world.path("second.toml")).unwrap();
    assert!(number(&first, "bits_per_weight") <= 5.0, "{first}");
    assert!(number(&second, "kld") <= 0.1, "{second}");
    assert!(number(&second, "bits_per_weight") < 6.5, "{second}");
}

#[test]
fn what_cannot_be_mixed_is_refused_with_a_remedy() {
    let world = World::new();
    world.write("text.txt", &words(400));
    let refused = |arguments: &[&str], parts: &[&str]| {
        let fixed = ["--chunks", "2", "--context", "64", "-o", "out.gguf"];
        world.run(&[&["mix"], arguments, &fixed].concat()).expect_message(2, parts);
        assert!(!world.path("out.gguf").exists() && !world.path("out.toml").exists());
    };
    let tiny = "tiny-F16.gguf";
    refused(&[tiny, "--calibration", "text.txt"], &["--target-size"]);
    let with = |target: &[&'static str]| [&[tiny, "--calibration", "text.txt"], target].concat();
    refused(
        &with(&["--target-bpw", "1"]),
        &["the smallest mix of these types", "offer smaller types"],
    );
    refused(&with(&["--max-kld", "1e-12"]), &["the largest mix of these types diverges by"]);
    refused(&with(&["--target-bpw", "5", "--types", "IQ2_XXS"]), &["IQ2_XXS", "importance matrix"]);
    refused(&with(&["--target-bpw", "5", "--types", "Q4_M"]), &["Q4_M"]);
    world.run(&["quantize", tiny, "--to", "Q8_0"]).expect(0);
    // The flag's old name.
    refused(
        &["tiny-Q8_0.gguf", "--calibration", "text.txt", "--target-bpw", "5"],
        &["F32, F16 or BF16"],
    );
}

#[test]
fn a_recipe_for_another_model_is_refused() {
    let world = World::new();
    world.write("text.txt", &words(400));
    let target = ["--target-bpw", "6", "--chunks", "2", "--context", "64"];
    let mix =
        [&["mix", "tiny-F16.gguf", "--calibration", "text.txt", "-o", "tiny.gguf"], &target[..]];
    world.run(&mix.concat()).expect(0);
    let text = fs::read_to_string(world.path("tiny.toml")).unwrap();
    world.write("other.toml", &text.replace("blk.0.attn_q", "blk.7.attn_q"));
    world
        .run(&["mix", "tiny-F16.gguf", "--recipe", "other.toml", "-o", "other.gguf"])
        .expect_message(2, &["no tensor 'blk.7.attn_q.weight'"]);
    world.write("broken.toml", &text.replace("version = 1", "version = one"));
    world
        .run(&["mix", "tiny-F16.gguf", "--recipe", "broken.toml", "-o", "other.gguf"])
        .expect_message(2, &["broken.toml", "line"]);
    assert!(!world.path("other.gguf").exists());
}

#[test]
fn an_importance_matrix_allows_types_that_need_one_and_is_part_of_the_recipe() {
    let world = World::new();
    let calibrate = ["calibrate", "demo", "--chunks", "2", "-c", "64", "-o", "imatrix.gguf"];
    world.run(&calibrate).expect(0);
    let mix = [
        "mix",
        "demo",
        "--chunks",
        "2",
        "--context",
        "64",
        "--layers-per-group",
        "9",
        "--types",
        "IQ2_XS,Q4_K",
        "--target-bpw",
        "3.3",
        "--imatrix",
        "imatrix.gguf",
        "-o",
        "mix.gguf",
    ];
    world.run(&mix).expect(0);
    let recipe = fs::read_to_string(world.path("mix.toml")).unwrap();
    // The token embedding has no importance, and can only be Q4_K.
    assert!(recipe.contains("\"token_embd.weight\" = \"Q4_K\""), "{recipe}");
    assert!(recipe.contains("\"IQ2_XS\""), "{recipe}");
    let again = ["mix", "demo", "--recipe", "mix.toml", "-o", "again.gguf"];
    let parts = ["made with the importance matrix of SHA-256", "names none"];
    world.run(&again).expect_message(2, &parts);
    world.run(&[&again[..], &["--imatrix", "imatrix.gguf"]].concat()).expect(0);
    let [mix, again] = ["mix.gguf", "again.gguf"].map(|name| fs::read(world.path(name)).unwrap());
    assert!(mix == again, "the files differ");
}
