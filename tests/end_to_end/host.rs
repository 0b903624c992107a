//! Hosts: runs whose workers an agent starts at the other end of a pipe, as it would on another machine.

#[cfg(feature = "multimodal")]
use crate::pictures::{NOTHING_ELSE, chat, demo, sees};
use crate::world::{Ended, World, children, ended, is_running, program, wait_until, worker};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const ARGUMENTS: [&str; 4] = ["run", "--format", "json", "--quiet"];

/// The far machine of a world: a command that leads to its agent, and what was asked of that.
pub(crate) struct Far {
    pub(crate) command: String,
    requests: PathBuf,
    cache: PathBuf,
}

pub(crate) fn far(world: &World) -> Far {
    let (requests, cache) = (world.path("requests"), world.path("far"));
    world.write("far.sh", "tee -a \"$1\" | QUANTBENCH_CACHE=\"$2\" \"$3\" agent\n");
    let script = world.path("far.sh");
    let [script, asked, kept, program] =
        [&script, &requests, &cache, &program()].map(|it| it.display().to_string());
    Far { command: format!("sh {script} {asked} {kept} {program}"), requests, cache }
}

impl Far {
    fn run(&self, world: &World) -> Ended {
        ended(world.command(&ARGUMENTS).env("QUANTBENCH_AGENT", &self.command))
    }

    /// How often the agent was asked so.
    pub(crate) fn count(&self, request: &str) -> usize {
        let asked = fs::read(&self.requests).unwrap();
        asked.windows(request.len()).filter(|it| *it == request.as_bytes()).count()
    }

    /// Names of the files of the artifacts that are there.
    pub(crate) fn artifacts(&self) -> Vec<String> {
        let folders = fs::read_dir(self.cache.join("artifacts")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn an_agent_measures_what_this_machine_does() {
    let (here, there) = (World::new(), World::new());
    for world in [&here, &there] {
        world.experiment("\"F16\", \"Q8_0\"", "");
    }
    let local = here.run(&ARGUMENTS).expect(0).run_record();
    let far = far(&there);
    let run = far.run(&there).expect(0).run_record();
    assert_eq!(local["hosts"][0]["name"], "local");
    assert_eq!(run["hosts"][0]["name"], "agent");
    let trials = |run: &Value| run["trials"].as_array().unwrap().clone();
    for (far, near) in trials(&run).iter().zip(trials(&local)) {
        assert_eq!(far["key"], near["key"]);
        assert_eq!(far["host"]["name"], "agent");
        assert_eq!(far["host"]["environment_id"], run["hosts"][0]["environment_id"]);
        // The agent's worker made it, and its file came back.
        assert_eq!(far["artifact"]["checksum"], near["artifact"]["checksum"]);
        assert_eq!(far["artifact"]["file_bytes"], near["artifact"]["file_bytes"]);
        assert_eq!(far["quality"]["perplexity"], near["quality"]["perplexity"]);
        assert_eq!(far["quality"]["divergence"]["kld"], near["quality"]["divergence"]["kld"]);
        assert_eq!(far["visits"].as_array().unwrap().len(), 2);
        // The monitor is beside the worker.
        let usage = far["visits"][0]["usage"].as_array().unwrap();
        assert!(
            usage.iter().any(|phase| phase["usage"]["samples"].as_u64().unwrap() > 0),
            "{usage:?}"
        );
        assert!(usage.iter().any(|phase| phase["phase"]["phase"] == "load"), "{usage:?}");
    }
    // The original and the text are used by several visits and sent once; what was made there is there.
    let kept = far.artifacts();
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(!kept.iter().any(|name| name.ends_with(".partial")), "{kept:?}");
    assert_eq!(far.count("{\"put\":"), 2);
    assert!(far.count("{\"start\":") >= 7, "{}", far.count("{\"start\":"));
    // The next run finds all of them.
    far.run(&there).expect(0);
    assert_eq!(far.count("{\"put\":"), 2);
    // A person is told where it was.
    let list = there.run(&["list"]).expect(0).stdout;
    assert!(list.lines().nth(2).unwrap().contains("  agent  "), "{list}");
    let shown = there.run(&["show"]).expect(0).stdout;
    assert!(shown.lines().any(|line| line.starts_with("agent · ")), "{shown}");
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("(measured on host 'agent'; this file is on the machine"), "{shown}");
}

#[cfg(feature = "multimodal")]
#[test]
fn a_folder_of_pictures_is_sent_and_seen() {
    let world = World::new();
    let dataset = demo("tasks/scenes.jsonl").display().to_string();
    let experiment = NOTHING_ELSE.replace(", \"Q2_K\"", "");
    world.write("models.toml", &[experiment, sees(&chat(), &dataset)].concat());
    let far = far(&world);
    let run = far.run(&world).expect(0).run_record();
    let task = &run["trials"][0]["tasks"][0];
    assert_eq!((&task["questions"], &task["vision"]["pictures"]), (&240.into(), &80.into()));
    // Model, projector, questions, and the folder.
    assert_eq!(far.count("{\"put\":"), 4);
    assert_eq!(far.count("{\"file\":"), 83);
}

#[test]
fn an_agent_that_dies_ends_the_run_which_goes_on_when_there_is_one_again() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let agent = format!("{} agent", program().display());
    let mut command = world.command(&["run"]);
    command.env("QUANTBENCH_AGENT", &agent).env("QUANTBENCH_WORKER", worker("faulty.sh"));
    command
        .env("REAL_WORKER", program())
        .env("FAULT", "orphan")
        .env("FAULT_AT", "there was a model");
    let lost = ["the connection to host 'agent' is lost", "start its agent again", "--resume"];
    ended(&mut command).expect_message(2, &lost);
    let mut command = world.command(&["run", "--resume", "--format", "json"]);
    let run = ended(command.env("QUANTBENCH_AGENT", &agent)).expect(0).run_record();
    let trial = &run["trials"][0];
    assert!(trial["failure"].is_null(), "{trial}");
    // What was measured before is kept.
    assert_eq!(trial["visits"].as_array().unwrap().len(), 2);
}

#[test]
fn an_interruption_ends_the_worker_of_the_agent() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let mut command = world.process(&["run"]);
    command
        .env("QUANTBENCH_AGENT", format!("{} agent", program().display()))
        .env("QUANTBENCH_WORKER", worker("faulty.sh"))
        .env("REAL_WORKER", program())
        .env("FAULT", "endless")
        .env("FAULT_AT", "there was a model");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut at_work = Vec::new();
    wait_until("a worker that does not end", || {
        at_work = children(child.id()).into_iter().flat_map(children).flat_map(children).collect();
        // The script and the worker behind its pipe.
        at_work.len() > 1
            && at_work.iter().any(|&id| crate::world::processor_time(id).as_secs() >= 1)
    });
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until("the end of the worker", || !at_work.iter().any(|&id| is_running(id)));
}

#[test]
fn an_agent_of_another_version_and_what_is_no_agent_are_refused() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let run = |command: &str| ended(world.command(&ARGUMENTS).env("QUANTBENCH_AGENT", command));
    run(worker("stranger.sh").to_str().unwrap()).expect_message(
        2,
        &[
            "host 'agent': the agent is quantbench 0.0.1 (protocol 0) and this is quantbench",
            "install the same version at both ends",
        ],
    );
    run("echo hello").expect_message(2, &["it is no agent of quantbench: it says 'hello'"]);
    run("nosuchprogram agent").expect_message(2, &["'nosuchprogram'", "QUANTBENCH_AGENT"]);
    run("true").expect_message(2, &["the connection to host 'agent' is lost: no agent answers"]);
    // The other way round: an agent that is greeted by another version.
    let mut command = world.command(&["agent"]);
    let ended = ended(command.write_stdin("{\"hello\":0,\"quantbench\":\"0.0.1\"}\n"));
    ended.expect_message(2, &["the client is quantbench 0.0.1 (protocol 0) and this is"]);
    let mut command = world.command(&["agent"]);
    let ended = crate::world::ended(command.write_stdin("hello\n"));
    ended.expect_message(2, &["an agent is started by another quantbench"]);
}

#[test]
fn a_worker_that_is_greeted_by_another_version_says_so() {
    let world = World::new();
    let mut command = world.command(&["worker"]);
    let ended = ended(command.write_stdin("{\"hello\":0,\"quantbench\":\"0.0.1\"}\n{}\n"));
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stdout.contains("the orchestrator is quantbench 0.0.1 (protocol 0)"),
        "{ended:?}"
    );
}
