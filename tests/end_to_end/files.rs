//! Files that the user names: inputs are never written over, what is no regular file is neither waited
//! for nor replaced, and nothing is left behind.

use crate::world::{World, ended, words};
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

const QUICK: [&str; 4] = ["run", "--quiet", "--rounds", "1"];

fn fifo(world: &World, name: &str) {
    assert!(Command::new("mkfifo").arg(world.path(name)).status().unwrap().success());
}

#[test]
fn no_result_replaces_a_model_or_a_store_whatever_was_read() {
    let world = World::new();
    let run = ["run", "tiny-F16.gguf", "--quant", "F16", "--rounds", "1", "--quiet"];
    world.run(&run).expect(0);
    fs::copy(world.path("runs.sqlite"), world.path("older.sqlite")).unwrap();
    for (file, what) in [("tiny-F16.gguf", "a GGUF"), ("older.sqlite", "a database")] {
        let before = fs::read(world.path(file)).unwrap();
        world.run(&["show", "last", "-o", file]).expect_message(2, &[file, what]);
        assert!(fs::read(world.path(file)).unwrap() == before, "{file}");
    }
    world.write("table.txt", "an older one");
    world.run(&["show", "last", "-o", "table.txt"]).expect(0);
    assert!(fs::read_to_string(world.path("table.txt")).unwrap().contains("tiny-F16"));
}

#[test]
fn no_result_replaces_what_it_is_made_from() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    fs::hard_link(world.path("prompts.jsonl"), world.path("hard")).unwrap();
    symlink("text.txt", world.path("soft")).unwrap();
    for output in ["./models.toml", "tiny-F16.gguf", "hard", "soft", "text.txt"] {
        let before = fs::read(world.path(output)).unwrap();
        let arguments = [&QUICK[..], &["--output", output]].concat();
        world.run(&arguments).expect_message(2, &["which is an input", "name another file"]);
        assert_eq!(fs::read(world.path(output)).unwrap(), before, "{output}");
    }
    world.run(&QUICK).expect(0);
    let before = fs::read(world.path("runs.sqlite")).unwrap();
    world
        .run(&["show", "last", "--output", "runs.sqlite"])
        .expect_message(2, &["runs.sqlite, which is an input"]);
    assert_eq!(fs::read(world.path("runs.sqlite")).unwrap(), before);
}

#[test]
fn no_file_that_is_made_replaces_what_it_is_made_from() {
    let world = World::new();
    world.write("text.txt", &words(400));
    world.write("m.gguf.partial", &words(400));
    let calibrate = |text: &'static str, output: &'static str| {
        ["calibrate", "tiny-F16.gguf", "--calibration", text, "-c", "64", "--force", "-o", output]
    };
    world.run(&calibrate("text.txt", "matrix.gguf")).expect(0);
    fs::hard_link(world.path("matrix.gguf"), world.path("linked.gguf")).unwrap();
    let quantize = |output: &'static str| {
        let to = ["quantize", "tiny-F16.gguf", "--to", "imatrix:Q8_0", "--force", "-o", output];
        [&to[..], &["--imatrix", "matrix.gguf"]].concat()
    };
    let mix = |output: &'static str| {
        let mix =
            ["mix", "tiny-F16.gguf", "--target-bpw", "6", "--calibration", "mixed.toml", "--force"];
        [&mix[..], &["--imatrix", "matrix.gguf", "-o", output]].concat()
    };
    world.write("mixed.toml", &words(400));
    fs::create_dir(world.path("checkpoint")).unwrap();
    fs::copy(world.path("text.txt"), world.path("checkpoint/model.safetensors")).unwrap();
    let import = |output: &'static str| {
        let import = ["import", "gptq", "checkpoint", "--base", "tiny-F16.gguf", "--force"];
        [&import[..], &["-o", output]].concat()
    };
    for (arguments, kept) in [
        (quantize("tiny-F16.gguf"), "tiny-F16.gguf"),
        (quantize("linked.gguf"), "matrix.gguf"),
        (calibrate("text.txt", "text.txt").to_vec(), "text.txt"),
        (calibrate("text.txt", "tiny-F16.gguf").to_vec(), "tiny-F16.gguf"),
        (calibrate("m.gguf.partial", "m.gguf").to_vec(), "m.gguf.partial"),
        (mix("matrix.gguf"), "matrix.gguf"),
        (mix("mixed.gguf"), "mixed.toml"),
        (import("tiny-F16.gguf"), "tiny-F16.gguf"),
        (import("checkpoint/model.safetensors"), "checkpoint/model.safetensors"),
    ] {
        let before = fs::read(world.path(kept)).unwrap();
        world.run(&arguments).expect_message(2, &["which is an input"]);
        assert_eq!(fs::read(world.path(kept)).unwrap(), before, "{arguments:?}");
    }
}

#[test]
fn pipes_links_and_devices_are_written_to_and_stay_what_they_are() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    world.run(&QUICK).expect(0);
    let show = |output: &'static str| ["show", "last", "--format", "json", "--output", output];
    let plain = world.run(&show("-")).expect(0).stdout;
    fifo(&world, "pipe");
    let reader = Command::new("cat").arg(world.path("pipe")).stdout(Stdio::piped()).spawn();
    world.run(&show("pipe")).expect(0);
    let read = reader.unwrap().wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(read).unwrap(), plain);
    assert!(fs::symlink_metadata(world.path("pipe")).unwrap().file_type().is_fifo());
    fs::create_dir(world.path("there")).unwrap();
    world.write("there/table.json", "old");
    symlink("there/table.json", world.path("link.json")).unwrap();
    world.run(&show("link.json")).expect(0);
    assert!(world.path("link.json").is_symlink());
    assert_eq!(fs::read_to_string(world.path("there/table.json")).unwrap(), plain);
    symlink("/dev/null", world.path("null")).unwrap();
    world.run(&show("null")).expect(0);
    assert!(world.path("null").is_symlink());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(world.run(&show("/dev/stdout")).expect(0).stdout, plain);
}

#[test]
fn a_model_can_be_written_into_a_pipe() {
    let world = World::new();
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0", "-o", "whole.gguf"]).expect(0);
    fifo(&world, "pipe");
    let reader = Command::new("cat").arg(world.path("pipe")).stdout(Stdio::piped()).spawn();
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0", "-o", "pipe"]).expect(0);
    let read = reader.unwrap().wait_with_output().unwrap().stdout;
    assert!(read == fs::read(world.path("whole.gguf")).unwrap());
}

#[test]
fn a_recipe_that_has_no_place_is_found_before_anything_is_measured() {
    let world = World::new();
    world.write("text.txt", &words(400));
    fs::create_dir(world.path("mixed.toml")).unwrap();
    let mix = "mix tiny-F16.gguf --target-bpw 6 --calibration text.txt --force -o mixed.gguf";
    let arguments: Vec<&str> = mix.split(' ').collect();
    world.run(&arguments).expect_message(2, &["cannot write the result to mixed.toml"]);
    assert!(!world.path("mixed.gguf").exists());
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    fs::remove_file(world.path("text.txt")).unwrap();
    fs::remove_file(world.path("prompts.jsonl")).unwrap();
    for name in ["f.gguf", "f.toml", "text.txt", "prompts.jsonl"] {
        fifo(&world, name);
    }
    let _listener = UnixListener::bind(world.path("socket")).unwrap();
    world.write("good.txt", &words(400));
    let quantize = ["quantize", "tiny-F16.gguf", "--to", "imatrix:Q8_0", "-o", "o.gguf"];
    let mix = ["mix", "tiny-F16.gguf", "-o", "o.gguf"];
    let measured = [&mix[..], &["--target-bpw", "6", "--calibration", "good.txt"]].concat();
    for arguments in [
        &["inspect", "f.gguf"][..],
        &["inspect", "socket"],
        &["inspect", "/dev/zero"],
        &["prompt", "detect", "f.gguf"],
        &["prompt", "render", "f.gguf", "Hi"],
        &["bench", "f.gguf"],
        &["quantize", "f.gguf", "--to", "Q8_0", "-o", "o.gguf"],
        &[&quantize[..], &["--imatrix", "f.gguf"]].concat(),
        &[&quantize[..], &["--calibration", "text.txt"]].concat(),
        &["quantize", "tiny-F16.gguf", "--recipe", "f.toml", "-o", "o.gguf"],
        &["calibrate", "tiny-F16.gguf", "--calibration", "text.txt", "-o", "o.gguf"],
        &["mix", "tiny-F16.gguf", "--target-bpw", "6", "--calibration", "text.txt", "-o", "o.gguf"],
        &[&mix[..], &["--recipe", "f.toml"]].concat(),
        &[&measured[..], &["--imatrix", "f.gguf"]].concat(),
        &["import", "gptq", ".", "--base", "f.gguf", "-o", "o.gguf"],
        &["run", "f.toml"],
        &QUICK,
    ] {
        world.run(arguments).expect_message(2, &["not a regular file"]);
    }
    let mut command = world.command(&["list"]);
    ended(command.env("QUANTBENCH_STORE", world.path("f.gguf"))).expect_message(2, &["named pipe"]);
    assert!(!world.path("o.gguf").exists());
}

#[test]
fn a_model_of_the_same_size_and_time_is_another_model() {
    let world = World::new();
    let time = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    let set_time = |name: &str| {
        let file = fs::File::options().write(true).open(world.path(name)).unwrap();
        file.set_modified(time).unwrap();
    };
    set_time("tiny-F16.gguf");
    world.experiment("\"Q8_0\"", "");
    let dry_run = ["run", "--dry-run"];
    world.run(&QUICK).expect(0);
    assert!(world.run(&dry_run).expect(0).stdout.contains("in the cache"));
    let mut bytes = fs::read(world.path("tiny-F16.gguf")).unwrap();
    // Another bit of the last weight.
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(world.path("other.gguf"), bytes).unwrap();
    set_time("other.gguf");
    fs::rename(world.path("other.gguf"), world.path("tiny-F16.gguf")).unwrap();
    let shown = world.run(&dry_run).expect(0).stdout;
    assert!(!shown.contains("in the cache") && shown.contains("to be made"), "{shown}");
}

#[test]
fn what_a_killed_command_left_is_swept_by_the_next() {
    let world = World::new();
    world.write(".quantbench-abc.partial", "half");
    world.write(".quantbench-abc.gguf.partial", "half, of an earlier version");
    world.write(".other.partial", "of another program");
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0"]).expect(0);
    let hidden = fs::read_dir(world.path("")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        name.starts_with('.').then_some(name)
    });
    assert_eq!(hidden.collect::<Vec<_>>(), [".other.partial"]);
}

#[test]
fn a_cache_with_other_things_in_it_is_refused() {
    let world = World::new();
    fs::create_dir_all(world.path("cache/demo")).unwrap();
    world.write("cache/.bashrc", "precious");
    world.write("cache/demo/slides.txt", "precious");
    for arguments in [&["cache", "list"][..], &["cache", "clean"], &["bench", "tiny-F16.gguf"]] {
        let ended = world.run(arguments);
        ended.expect_message(2, &["no cache of quantbench", "'.bashrc'", "QUANTBENCH_CACHE"]);
    }
    assert_eq!(world.cached_files().len(), 2);
    // A pipe in place of what marks a cache is not waited for.
    fs::remove_file(world.path("cache/.bashrc")).unwrap();
    fifo(&world, "cache/CACHEDIR.TAG");
    world.run(&["cache", "list"]).expect_message(2, &["no cache of quantbench"]);
}
