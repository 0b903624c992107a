//! What assistants ask, through the protocol's own client.

use crate::schemas;
use crate::world::{PATIENCE, World, wait_until};
use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use tokio::process::{Child, Command};

type Client = RunningService<RoleClient, ()>;

/// Talks with a server of this world.
fn with_server<T>(world: &World, arguments: &[&str], talk: impl AsyncFnOnce(&Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut server: Child = Command::from(world.process(arguments))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pipes = (server.stdout.take().unwrap(), server.stdin.take().unwrap());
        let client = ().serve(pipes).await.unwrap();
        let told = tokio::time::timeout(PATIENCE, talk(&client)).await.unwrap();
        client.cancel().await.unwrap();
        let ended =
            tokio::time::timeout(PATIENCE, server.wait_with_output()).await.unwrap().unwrap();
        assert!(ended.status.success(), "the end of its input is the end of the server: {ended:?}");
        told
    })
}

async fn call(client: &Client, tool: &'static str, input: Value) -> Result<CallToolResult, String> {
    let Value::Object(input) = input else { panic!("an object") };
    let request = CallToolRequestParams::new(tool).with_arguments(input);
    let result = client.call_tool(request).await.map_err(|error| error.to_string())?;
    if result.is_error == Some(true) { Err(text(&result)) } else { Ok(result) }
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|it| it.text.clone()).collect()
}

fn files(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path(".")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_assistant_reads_what_was_planned_and_measured() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(0);
    world.run(&["tag", "last", "first"]).expect(0);
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(0);
    let before = (files(&world), fs::read(world.path("models.toml")).unwrap());
    with_server(&world, &["mcp"], async |client| {
        let info = client.peer_info().unwrap();
        assert_eq!(info.server_info.as_ref().unwrap().name, "quantbench");
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(
            names,
            ["plan", "recommend", "list", "show", "compare", "trend", "query", "run_status"]
        );

        let listed = call(client, "list", json!({"tag": "first"})).await.unwrap();
        let runs = listed.structured_content.as_ref().unwrap()["runs"].as_array().unwrap().clone();
        assert_eq!((runs.len(), &runs[0]["state"]), (1, &json!("done")));
        let first = runs[0]["id"].as_str().unwrap().to_owned();
        assert!(text(&listed).contains(&first));

        let shown = call(client, "show", json!({"run": first})).await.unwrap();
        let document = shown.structured_content.as_ref().unwrap();
        assert_eq!(document["run"]["id"], json!(first));
        assert!(document["summary"]["rows"][1]["figures"]["kld_nats"]["value"].is_number());
        assert!(document["run"]["trials"].is_null(), "raw values stay away");
        assert!(text(&shown).contains("Q8_0"), "{}", text(&shown));

        let planned =
            call(client, "plan", json!({"model": "tiny-F16.gguf", "context": 64})).await.unwrap();
        assert!(planned.structured_content.unwrap()["format"].as_str().unwrap().contains("plan"));

        let two = json!({"base": first, "new": "last"});
        let compared = call(client, "compare", two).await.unwrap();
        assert_eq!(compared.structured_content.unwrap()["format"], "quantbench.compare");
        let file = call(client, "compare", json!({"base": "models.toml", "new": "last"})).await;
        assert!(file.unwrap_err().contains("no stored run is named 'models.toml'"));

        let status = call(client, "run_status", json!({})).await.unwrap();
        let status = status.structured_content.unwrap();
        schemas::check(&world, &status);
        assert_eq!((&status["state"], &status["rounds_done"]), (&json!("done"), &json!(1)));

        let needs = json!({"max_memory": "8GiB", "prefer": "smallest"});
        let recommended = call(client, "recommend", needs).await.unwrap();
        let found = recommended.structured_content.as_ref().unwrap();
        schemas::check(&world, found);
        assert_eq!(found["variants"], json!(["F16", "Q8_0"]));
        assert_eq!(found["recommendation"]["candidates"].as_array().unwrap().len(), 2);
        assert!(text(&recommended).contains("memory"), "{}", text(&recommended));

        let trend =
            call(client, "trend", json!({"metric": "tg4", "variant": "F16"})).await.unwrap();
        let series = &trend.structured_content.unwrap()["machines"][0]["series"];
        assert_eq!(series[0]["points"].as_array().unwrap().len(), 2);

        let sql = json!({"sql": "SELECT count(*) AS n FROM runs"});
        let counted = call(client, "query", sql).await.unwrap().structured_content.unwrap();
        assert_eq!(counted["rows"], json!([{"n": 2}]));
        let tables = call(client, "query", json!({})).await.unwrap().structured_content.unwrap();
        assert_eq!(tables["tables"][0]["name"], "runs");
    });
    assert_eq!(
        (files(&world), fs::read(world.path("models.toml")).unwrap()),
        before,
        "nothing was written"
    );
}

#[test]
fn what_an_assistant_may_not_do_is_refused_and_told() {
    let world = World::new();
    with_server(&world, &["mcp"], async |client| {
        let refused = async |tool, input| call(client, tool, input).await.unwrap_err();
        assert!(refused("list", json!({"output": "x"})).await.contains("unknown field"));
        assert!(refused("run", json!({"model": "tiny-F16.gguf"})).await.contains("--allow-run"));
        assert!(refused("erase", json!({})).await.contains("no tool 'erase'"));
        assert!(refused("show", json!({})).await.contains("no run is stored yet"));
        // Of no runs a list is empty, and no error.
        let listed = call(client, "list", json!({})).await.unwrap();
        assert_eq!(listed.structured_content.as_ref().unwrap()["runs"], json!([]));
        assert!(text(&listed).contains("no run is stored yet"), "{}", text(&listed));
        let counted = call(client, "query", json!({"sql": "SELECT count(*) AS n FROM runs"}));
        let counted = counted.await.unwrap().structured_content.unwrap();
        assert_eq!(counted["rows"], json!([{"n": 0}]));
        let gone = refused("plan", json!({"model": "--help"})).await;
        assert!(gone.contains("--help") && !gone.contains("Usage"), "{gone}");
        assert!(refused("query", json!({"sql": "DELETE FROM runs"})).await.contains("SELECT"));
        assert!(refused("plan", json!({"model": "a\0b"})).await.contains("nul"), "of a nul byte");
        // After all of that it still answers.
        let empty = call(client, "query", json!({})).await.unwrap();
        assert!(text(&empty).contains("engine_version"));
    });
    // What is no protocol ends it with a sentence, and not with a panic.
    let mut command = world.command(&["mcp"]);
    let ended = crate::world::ended(command.write_stdin("no json\n"));
    assert!(!ended.stderr.contains("panicked") && !ended.stdout.contains("no json"), "{ended:?}");
}

#[test]
fn an_assistant_that_may_measure_starts_a_run_and_follows_it() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    with_server(&world, &["mcp", "--allow-run"], async |client| {
        let missing = call(client, "run", json!({"model": "nowhere.toml"})).await.unwrap_err();
        assert!(missing.contains("nowhere.toml"), "{missing}");
        let started =
            call(client, "run", json!({"model": "models.toml", "rounds": 1})).await.unwrap();
        let run = started.structured_content.unwrap()["run"].as_str().unwrap().to_owned();
        let state = async || {
            let status = call(client, "run_status", json!({"run": run})).await.unwrap();
            status.structured_content.unwrap()["state"].as_str().unwrap().to_owned()
        };
        let deadline = std::time::Instant::now() + PATIENCE;
        while state().await != "done" {
            assert!(std::time::Instant::now() < deadline, "the run does not end");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    wait_until("the run is stored", || world.run(&["list"]).stdout.contains("done"));
}
