//! The command line as a user meets it: help, version, mistakes, pipes.

use crate::world::{World, children, ended, wait_until, worker};
use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;

/// Every command but the worker, which is not for people.
const COMMANDS: [&str; 32] = [
    "run",
    "recommend",
    "plan",
    "bench",
    "tune",
    "quantize",
    "mix",
    "calibrate",
    "import",
    "onnx",
    "search",
    "files",
    "models",
    "list",
    "show",
    "tag",
    "note",
    "rm",
    "export",
    "merge",
    "query",
    "trend",
    "compare",
    "report",
    "deploy",
    "inspect",
    "prompt",
    "cache",
    "devices",
    "mcp",
    "schema",
    "completions",
];

#[test]
fn help_names_every_command_and_exit_code() {
    let help = World::new().run(&["--help"]).expect(0).stdout;
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names: Vec<&str> =
        list.lines().filter(is_name).filter_map(|line| line.split_whitespace().next()).collect();
    let (own, clap): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| **name != "help");
    assert_eq!((own.as_slice(), clap.as_slice()), (COMMANDS.as_slice(), ["help"].as_slice()));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for code in ["0 done", "1 no variant", "2 bad input", "3 some trials", "130 interrupted"] {
        assert!(help.contains(code), "no '{code}' in:\n{help}");
    }
}

/// Flags in a text: `--threads`, `-t`.
fn flags(text: &str) -> BTreeSet<&str> {
    let is_flag = |word: &&str| {
        let name = word.trim_start_matches('-');
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
        begins && matches!((word.len() - name.len(), name.len()), (2, _) | (1, 1))
    };
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    // Of all commands, and described once.
    let common = ["-h", "--help", "-q", "--quiet"];
    words.filter(is_flag).filter(|flag| !common.contains(flag)).collect()
}

#[test]
fn the_reference_names_the_flags_of_every_command_and_no_others() {
    let world = World::new();
    let reference = include_str!("../../docs/reference/commands.md");
    let mut described = BTreeSet::new();
    for section in reference.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        let mut help = String::new();
        for command in title.split(", ").filter(|title| COMMANDS.contains(title)) {
            described.insert(command);
            let parts: &[&str] = match command {
                "prompt" => &["list", "render", "detect"],
                "cache" => &["list", "clean"],
                "onnx" => &["export"],
                _ => &[""],
            };
            for part in parts {
                let arguments = [command, part, "--help"];
                let arguments: Vec<_> = arguments.into_iter().filter(|it| !it.is_empty()).collect();
                let said = world.run(&arguments).expect(0).stdout;
                let names_flags = |line: &&str| line.trim_start().starts_with('-');
                let names = said.lines().filter(names_flags).map(|line| {
                    // What a flag means stands behind two spaces, or on the next line.
                    line.trim_start().split("  ").next().unwrap_or_default().to_owned() + "\n"
                });
                help.extend(names);
            }
        }
        if !help.is_empty() {
            let documented = flags(text).into_iter().filter(|it| !it.starts_with("--ver"));
            assert_eq!(documented.collect::<BTreeSet<_>>(), flags(&help), "{title}");
        }
    }
    assert_eq!(described, COMMANDS.into());
}

#[test]
fn the_version_is_short_and_on_request_complete() {
    let world = World::new();
    let version = world.run(&["--version"]).expect(0).stdout;
    assert_eq!(version, format!("quantbench {}\n", env!("CARGO_PKG_VERSION")));
    let more = world.run(&["--version", "--verbose"]).expect(0).stdout;
    for part in ["llama.cpp", "ggml", "commit", "Rust", "features"] {
        assert!(more.contains(part), "no '{part}' in:\n{more}");
    }
}

#[test]
fn passwords_and_tokens_are_not_shown_even_in_the_log() {
    let world = World::new();
    let hub = "hf://owner/name/file.gguf";
    let web = "https://me:hunter2@huggingface.co/owner/name/resolve/main/file.gguf?token=hunter2";
    world.write("e.toml", &format!("[[models]]\nsource = \"{web}\"\n"));
    let proxy = Some("http://me:hunter2@127.0.0.1:9");
    for (endpoint, proxy, arguments) in [
        ("http://me:hunter2@127.0.0.1:9", None, ["inspect", hub]),
        ("http://127.0.0.1:10", proxy, ["inspect", hub]),
        ("me:hunter2@127.0.0.1", None, ["inspect", hub]),
        ("http://127.0.0.1:9", None, ["inspect", web]),
        ("http://127.0.0.1:9", None, ["run", "e.toml"]),
    ] {
        let mut command = world.command(&arguments);
        command
            .env("HF_ENDPOINT", endpoint)
            .env("HF_TOKEN", "hunter2")
            .env("HF_HOME", world.path("hf"));
        command.env("QUANTBENCH_OFFLINE", "0").env("QUANTBENCH_LOG", "trace");
        for name in
            ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"]
        {
            command.env_remove(name);
        }
        command.envs(proxy.map(|proxy| ("ALL_PROXY", proxy)));
        let ended = ended(&mut command).expect(2);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("error: ") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn child_processes_are_started_without_secrets() {
    let world = World::new();
    let mut command = world.process(&["bench", "tiny-F16.gguf"]);
    command
        .env("QUANTBENCH_WORKER", worker("steady.sh"))
        .env("HF_TOKEN", "hunter2")
        .env("HF_ENDPOINT", "http://me:hunter2@127.0.0.1:9")
        .env("https_proxy", "http://me:hunter2@127.0.0.1:9");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut environment = String::new();
    // Between its birth and its start a child still has its parent's environment.
    wait_until("a worker", || {
        let read = |id: &u32| std::fs::read(format!("/proc/{id}/environ")).ok();
        let found = children(child.id()).first().and_then(read).unwrap_or_default();
        environment = String::from_utf8_lossy(&found).into_owned();
        environment.contains("GGML_NO_BACKTRACE")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(environment.contains("QUANTBENCH_CACHE=") && !environment.contains("hunter2"));
}

#[test]
fn a_worker_named_by_nothing_is_this_program() {
    let world = World::new();
    let arguments = ["bench", "tiny-F16.gguf", "-p", "8", "-n", "0", "-r", "1", "--quiet"];
    ended(world.command(&arguments).env("QUANTBENCH_WORKER", "")).expect(0);
}

#[test]
fn alone_it_says_what_the_machine_is_and_what_to_type_next() {
    let world = World::new();
    let text = world.run(&[]).expect(0).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 10, "{text}");
    assert!(lines[0].contains("core") && lines[0].contains("llama.cpp"), "{text}");
    let commands = lines[2..].iter().map(|line| line.split("  ").next().unwrap());
    assert!(commands.clone().all(|command| command.starts_with("quantbench ")), "{text}");
    assert!(commands.clone().any(|command| command == "quantbench MODEL"), "{text}");
}

#[test]
fn a_model_in_place_of_a_command_is_measured() {
    let world = World::new();
    let plan = world.run(&["tiny-F16.gguf", "--dry-run"]).expect(0).stdout;
    assert!(plan.contains("Q4_K_M"), "{plan}");
    let plan = world.run(&["./", "--dry-run"]).expect(0).stdout;
    assert!(plan.contains("F16 (reference)"), "{plan}");
}

#[test]
fn a_mistake_exits_with_2_and_says_what_would_be_right() {
    let world = World::new();
    world.run(&["benhc"]).expect_message(2, &["unrecognized subcommand 'benhc'", "'bench'"]);
    world
        .run(&["smollm"])
        .expect_message(2, &["'smollm' is no command, and no model", "search smollm"]);
    world.run(&["run", "--round", "3"]).expect_message(2, &["--rounds"]);
    world.run(&["run", "nowhere.toml"]).expect_message(2, &["nowhere.toml"]);
    world.run(&["nowhere.gguf"]).expect_message(2, &["no model file nowhere.gguf"]);
    world.run(&["run", "--quant", "Q4_KM"]).expect_message(2, &["did you mean 'Q4_K_M'?"]);
    world.run(&["run", "--resume", "--dry-run"]).expect_message(2, &["cannot be used with"]);
    world.run(&["bench"]).expect_message(2, &["<FILE>"]);
    world.run(&["bench", "nowhere.gguf"]).expect_message(2, &["nowhere.gguf"]);
    world.run(&["bench", "tiny-F16.gguf", "-p", "8-1"]).expect_message(2, &["'8-1' is empty"]);
}

#[test]
fn an_experiment_with_mistakes_is_answered_with_file_line_and_remedy() {
    let world = World::new();
    world.write("models.toml", "[experiment]\nname = \"x\"\nround = 3\n");
    world.run(&["run"]).expect_message(2, &["models.toml:3", "round", "rounds"]);
}

#[test]
fn what_was_measured_and_kept_can_be_listed_and_shown() {
    let world = World::new();
    world.run(&["list"]).expect(0);
    world.run(&["show"]).expect_message(2, &["no run is stored yet"]);
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(0);
    assert!(world.run(&["list"]).expect(0).stdout.contains("tiny"));
    assert!(world.run(&["show", "last"]).expect(0).stdout.contains("Q8_0"));
    assert!(world.run(&["cache", "list"]).expect(0).stdout.contains("Q8_0"));
    world.run(&["show", "nowhere"]).expect_message(2, &["nowhere"]);
}

#[test]
fn devices_and_files_are_described_as_text_and_json() {
    let world = World::new();
    assert!(world.run(&["devices"]).expect(0).stdout.contains("CPU"));
    let json = |arguments: &[&str]| world.run(arguments).expect(0).json();
    assert!(json(&["devices", "--format", "json"])["measured"].is_null());
    let measured = json(&["devices", "--measure", "--format", "json"])["measured"].clone();
    let rates = measured["read_rates"].as_array().unwrap();
    assert!(rates.iter().all(|rate| rate["bytes_per_second"].as_f64().unwrap() > 1e8), "{rates:?}");
    let compute = measured["compute_rates"].as_array().unwrap();
    assert!(compute[0]["types"]["F16"]["prompt"]["value"].as_f64().unwrap() > 1e8, "{compute:?}");
    assert_eq!(json(&["devices", "--format", "json"])["measured"], measured, "it is kept");
    assert!(world.run(&["inspect", "tiny-F16.gguf"]).expect(0).stdout.contains("llama"));
    world.run(&["inspect", "tiny-F16.gguf", "--format", "json"]).expect(0).json();
}

#[test]
fn completions_are_made_for_every_shell() {
    let world = World::new();
    for (shell, mark) in [
        ("bash", "complete -F _quantbench"),
        ("zsh", "#compdef quantbench"),
        ("fish", "complete -c quantbench"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName 'quantbench'"),
        ("elvish", "set edit:completion:arg-completer[quantbench]"),
    ] {
        let script = world.run(&["completions", shell]).expect(0).stdout;
        assert!(script.contains(mark), "no '{mark}' for {shell}");
        let words: Vec<&str> =
            script.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        for command in COMMANDS {
            assert!(words.contains(&command), "no '{command}' for {shell}");
        }
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let world = World::new();
    let mut child = world
        .process(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A pipe holds 64 KiB and the script is shorter: close before the program writes.
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_number_outside_its_limits_and_a_name_near_a_format_are_told_what_would_be_right() {
    let world = World::new();
    let refused = |line: &[&str], expected: &str| {
        world.run(line).expect_message(2, &[expected]);
    };
    let columns = "'--columns <N>': it must be a whole number, 40 or more";
    refused(&["show", "--columns", "5"], columns);
    refused(&["run", "--columns", "0"], columns);
    let mix = ["mix", "demo", "--target-bpw", "5", "-o", "m.gguf", "--chunks", "1"];
    refused(&mix, "'--chunks <N>': it must be a whole number, 2 or more");
    refused(&["prompt", "render", "chatmll", "Hello"], "did you mean 'chatml'?");
    refused(&["prompt", "render", "nothing-near", "Hello"], "formats are chatml, ");
    let formats = world.run(&["prompt", "list", "--format", "json"]).expect(0).stdout;
    let formats: serde_json::Value = serde_json::from_str(&formats).unwrap();
    assert_eq!(formats["format"], "quantbench.prompts");
    assert_eq!(formats["formats"][0]["name"], "chatml");
}
