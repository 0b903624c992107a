//! `quantbench quantize`: files where the user wants them.

use crate::tiny_model::{self, Weights};
use crate::world::World;
use std::fs;

#[test]
fn files_are_made_beside_the_input_with_its_name() {
    let world = World::new();
    let ended = world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0,INT4"]).expect(0);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
    for name in ["tiny-Q8_0.gguf", "tiny-Q4_0.gguf"] {
        let bytes = fs::read(world.path(name)).unwrap();
        assert!(bytes.starts_with(b"GGUF"));
        assert!(bytes.len() < fs::read(world.path("tiny-F16.gguf")).unwrap().len());
        assert!(ended.stdout.contains(name));
    }
}

#[test]
fn a_folder_for_several_files_is_made() {
    let world = World::new();
    let arguments = ["quantize", "tiny-F16.gguf", "--to", "Q8_0,Q4_0", "-o", "new/folder"];
    world.run(&arguments).expect(0);
    for name in ["new/folder/tiny-Q8_0.gguf", "new/folder/tiny-Q4_0.gguf"] {
        assert!(fs::read(world.path(name)).unwrap().starts_with(b"GGUF"));
    }
    // A folder is not made for what is refused.
    let refused = ["quantize", "nowhere.gguf", "--to", "Q8_0,Q4_0", "-o", "other"];
    world.run(&refused).expect_message(2, &["nowhere.gguf"]);
    assert!(!world.path("other").exists());
}

#[test]
fn types_that_hold_no_weights_are_refused_by_name() {
    let world = World::new();
    let recipe = |kind: &str| {
        let text = format!(
            "version = 1\nfile_type = \"Q4_0\"\n[model]\nsha256 = \"\"\nparameters = 1\n[tensors]\n\
             \"blk.0.attn_k.weight\" = \"{kind}\"\n"
        );
        world.write("recipe.toml", &text);
    };
    let arguments = ["tiny-F16.gguf", "--recipe", "recipe.toml", "-o", "out.gguf"];
    for command in ["quantize", "mix"] {
        recipe("Q8_K");
        let run = || world.run(&[&[command], &arguments[..]].concat());
        run().expect_message(2, &["blk.0.attn_k.weight", "'Q8_K' is no type that weights"]);
        recipe("IQ2_XS");
        run().expect_message(2, &["blk.0.attn_k.weight", "only with an importance matrix"]);
    }
}

#[test]
fn a_file_in_f32_can_be_made_into_f16() {
    let world = World::new();
    tiny_model::write(&world.path("tiny-F32.gguf"), Weights::F32);
    let arguments = ["quantize", "tiny-F32.gguf", "--to", "F16", "-o", "half.gguf"];
    world.run(&arguments).expect(0);
    let sizes =
        ["tiny-F32.gguf", "half.gguf"].map(|name| fs::read(world.path(name)).unwrap().len());
    assert!(sizes[1] < sizes[0] * 3 / 5, "{sizes:?}");
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let world = World::new();
    world.write("out.gguf", "precious");
    let arguments = ["quantize", "tiny-F16.gguf", "--to", "Q8_0", "-o", "out.gguf"];
    world.run(&arguments).expect_message(2, &["out.gguf is there already", "--force"]);
    assert_eq!(fs::read_to_string(world.path("out.gguf")).unwrap(), "precious");
    world.run(&[&arguments[..], &["--force"]].concat()).expect(0);
    assert!(fs::read(world.path("out.gguf")).unwrap().starts_with(b"GGUF"));
}

#[test]
fn what_cannot_be_made_is_refused_with_a_remedy() {
    let world = World::new();
    let refused = |arguments: &[&str], parts: &[&str]| {
        world.run(arguments).expect_message(2, parts);
    };
    refused(
        &["quantize", "tiny-F16.gguf", "--to", "IQ2_XXS"],
        &["importance matrix", "imatrix:IQ2_XXS"],
    );
    refused(&["quantize", "nowhere.gguf", "--to", "Q8_0"], &["nowhere.gguf"]);
    refused(&["quantize", "tiny-F16.gguf", "--to", "Q8_0,Q4_0", "-o", "x.gguf"], &["folder"]);
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0"]).expect(0);
    refused(&["quantize", "tiny-Q8_0.gguf", "--to", "Q4_0"], &["--allow-requantize"]);
    world.run(&["quantize", "tiny-Q8_0.gguf", "--to", "Q4_0", "--allow-requantize"]).expect(0);
}

#[test]
fn a_worker_that_fails_leaves_no_file() {
    let world = World::new();
    let before = fs::read_dir(world.path("")).unwrap().count();
    world
        .run_faulty("abort", "quantize", &["quantize", "tiny-F16.gguf", "--to", "Q8_0"])
        .expect_message(2, &["cannot make Q8_0", "GGML_ASSERT"]);
    // The cache folder is new.
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), before + 1);
}
