//! `deploy`: a measured variant in the forms that other programs run it from.

use crate::report::measured;
use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn a_variant_is_written_in_every_form_with_what_was_measured() {
    let world = measured();
    let name = "tiny-q8-0";
    for (target, file, parts) in [
        ("llama-server", "ini", ["[tiny-q8-0]", "ctx-size = 1024"]),
        ("systemd", "service", ["MemoryMax=", "--ctx-size 1024"]),
        ("quadlet", "container", ["PodmanArgs=--memory=", "target=/models,ro=true"]),
        ("compose", "compose.yaml", ["mem_limit:", "read_only: true"]),
        ("kubernetes", "kubernetes.yaml", ["kind: Deployment", "kind: Service"]),
        ("llama-swap", "llama-swap.yaml", ["checkEndpoint: /health", "${PORT}"]),
        ("ollama", "Modelfile", ["FROM /", "PARAMETER num_ctx 512"]),
    ] {
        let arguments = [
            "deploy",
            "last:q8_0",
            "--target",
            target,
            "-o",
            target,
            "-c",
            "512",
            "--parallel",
            "2",
        ];
        let said = world.run(&arguments).expect(0).stdout;
        assert!(said.contains("To start Q8_0 of tiny") && said.contains("\n$ "), "{said}");
        let text = fs::read_to_string(world.path(&format!("{target}/{name}.{file}"))).unwrap();
        for part in parts {
            assert!(text.contains(part), "{target}: no {part} in {text}");
        }
        // What was made does not stay in a cache that may be cleared.
        assert!(text.contains(&format!("{name}.gguf")), "{target}: {text}");
        assert!(fs::metadata(world.path(&format!("{target}/{name}.gguf"))).unwrap().len() > 1000);
        let baseline = fs::read(world.path(&format!("{target}/{name}.baseline.json"))).unwrap();
        let baseline: Value = serde_json::from_slice(&baseline).unwrap();
        assert_eq!((&baseline["variant"], &baseline["parallel"]), (&"Q8_0".into(), &2.into()));
        let figure = &baseline["figures"]["peak_rss_bytes"];
        assert!(figure["value"].as_f64().unwrap() > 1e6, "{figure}");
    }
    let again = ["deploy", "last:Q8_0", "--target", "ollama", "-o", "ollama"];
    world.run(&again).expect_message(2, &["is there already; --force replaces it"]);
    world.run(&[&again[..], &["--force"]].concat()).expect(0);
}

#[test]
fn what_cannot_be_deployed_is_refused_and_leaves_no_file() {
    let world = measured();
    let refused = |run: &str, told: &str| {
        world.run(&["deploy", run, "--target", "compose"]).expect_message(2, &[told]);
        assert!(!world.path("deploy").exists());
    };
    refused("last:Q3_K", "has no variant 'Q3_K'; it has F16, Q8_0");
    refused("2001-01-01-none", "no stored run is named");
    fs::remove_file(world.path("tiny-F16.gguf")).unwrap();
    refused("last:F16", "is not there any more");
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_reads_its_units() {
    let world = measured();
    fs::create_dir(world.path("a b")).unwrap();
    let arguments = ["deploy", "last:Q8_0", "--target", "systemd", "-o", "a b/100 % $HOME"];
    world.run(&arguments).expect(0);
    for (name, scope) in [("tiny-q8-0", "--system"), ("tiny-q8-0-user", "--user")] {
        let unit = world.path(&format!("a b/100 % $HOME/{name}.service"));
        let text = fs::read_to_string(&unit).unwrap();
        // The server itself need not be here.
        let shell = text.replace(
            &text[text.find("ExecStart=").unwrap() + 10..text.find(" --model").unwrap()],
            "/bin/sh",
        );
        fs::write(&unit, shell).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", scope]).arg(&unit).env("XDG_RUNTIME_DIR", world.path(""));
        let ended = verify.output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    }
}
