//! `quantbench calibrate`: an importance matrix where the user wants it.

use crate::world::{World, wait_until, words};
use quantbench::engine::llama::backend::Backend;
use quantbench::model::gguf::Header;
use quantbench::quantize::importance::ImportanceMatrix;
use std::fs;

fn read(world: &World, name: &str) -> ImportanceMatrix {
    ImportanceMatrix::read(Backend::initialise(), &world.path(name)).unwrap()
}

#[test]
fn a_matrix_is_made_from_a_text_and_used() {
    let world = World::new();
    world.write("text.txt", &words(400));
    let calibrate =
        ["calibrate", "tiny-F16.gguf", "--calibration", "text.txt", "-o", "matrix.gguf"];
    let ended = world.run(&[&calibrate[..], &["--context", "64"]].concat()).expect(0);
    assert!(ended.stdout.contains("matrix.gguf  "), "{}", ended.stdout);
    assert!(ended.stdout.contains("7 weights from "), "{}", ended.stdout);
    assert!(ended.stderr.contains("of memory: "), "{}", ended.stderr);
    let matrix = read(&world, "matrix.gguf");
    assert_eq!(matrix.datasets, ["text.txt"]);
    assert_eq!(matrix.chunk_size, 64);
    let tokens = u64::from(matrix.chunks * 64);
    assert!(matrix.chunks >= 10 && matrix.weights.values().all(|sums| sums.counts == [tokens]));
    world.run(&calibrate).expect_message(2, &["matrix.gguf is there already", "--force"]);
    world.run(&[&calibrate[..], &["--force", "--quiet", "--chunks", "1"]].concat()).expect(0);
    assert_eq!(read(&world, "matrix.gguf").chunks, 1);
    let quantize = ["quantize", "tiny-F16.gguf", "--to", "imatrix:Q4_0,Q4_0"];
    world.run(&[&quantize[..], &["--imatrix", "matrix.gguf"]].concat()).expect(0);
    let bytes = ["tiny-imatrix-Q4_0.gguf", "tiny-Q4_0.gguf"].map(|it| fs::read(world.path(it)));
    let [with, without] = bytes.map(Result::unwrap);
    assert_ne!(with[with.len() / 2..], without[without.len() / 2..]);

    // The matrix is of one text, and GPTQ looks at another: the file names the one that it looked at.
    world.write("other.txt", &words(300));
    let gptq =
        "quantize tiny-F16.gguf --to gptq:Q4_0 --imatrix matrix.gguf --calibration other.txt";
    let gptq = gptq.split(' ').chain(["--context", "32", "--chunks", "3", "-o", "gptq.gguf"]);
    world.run(&gptq.collect::<Vec<_>>()).expect(0);
    let header = Header::read(&world.path("gptq.gguf")).unwrap();
    let key = |name: &str| header.get(&format!("quantbench.calibration.{name}")).unwrap();
    assert_eq!(key("text").as_text(), Some("other.txt"));
    assert_eq!((key("context").as_count(), key("chunks").as_count()), (Some(32), Some(3)));
}

#[test]
fn a_calibration_that_was_killed_goes_on_and_gives_the_same_file() {
    let world = World::new();
    let calibrate = |output: &'static str| {
        ["calibrate", "demo", "-o", output, "--quiet", "--context", "128", "--chunks", "60"]
    };
    world.run(&calibrate("whole.gguf")).expect(0);
    let partial = world.path("halved.gguf.partial");
    let mut process = world.process(&calibrate("halved.gguf")).spawn().unwrap();
    wait_until("something is kept", || partial.exists());
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!world.path("halved.gguf").exists());
    let ended = world.run(&calibrate("halved.gguf")).expect(0);
    assert!(ended.stdout.contains("of them from before"), "{}", ended.stdout);
    assert!(!partial.exists());
    let [whole, halved] = ["whole.gguf", "halved.gguf"].map(|it| fs::read(world.path(it)));
    assert!(whole.unwrap() == halved.unwrap());
}

#[test]
fn what_cannot_be_calibrated_is_refused_with_a_remedy() {
    let world = World::new();
    world.write("short.txt", "few words");
    fs::write(world.path("no-text.bin"), [0xff; 64]).unwrap();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let arguments = [&["calibrate"], arguments, &["-o", "matrix.gguf"]].concat();
        world.run(&arguments).expect_message(2, parts);
        assert!(!world.path("matrix.gguf").exists());
    };
    refused(&["tiny-F16.gguf", "--calibration", "nowhere.txt"], &["--calibration", "nowhere.txt"]);
    refused(&["tiny-F16.gguf", "--calibration", "no-text.bin"], &["UTF-8"]);
    refused(&["tiny-F16.gguf", "--calibration", "short.txt"], &["has 11 tokens", "512"]);
    refused(&["nowhere.gguf", "--calibration", "short.txt"], &["nowhere.gguf"]);
    // The flag's old name.
    refused(&["tiny-F16.gguf", "--calibration", "short.txt", "--context", "8"], &["--context"]);
}
