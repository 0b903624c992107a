//! Stored runs as a history: found, tagged, noted, removed, carried to other machines, asked in SQL.

use crate::schemas;
use crate::world::World;
use serde_json::Value;
use std::fs;

/// A run of the tiny model, two variants.
fn measure(world: &World) {
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(0);
}

fn id_of(world: &World, position: usize) -> String {
    let list: Value =
        serde_json::from_str(&world.run(&["list", "--format", "json"]).expect(0).stdout).unwrap();
    list["runs"][position]["id"].as_str().unwrap().to_owned()
}

#[test]
fn runs_are_found_by_what_they_are_and_by_what_a_person_called_them() {
    let world = World::new();
    world.run(&["tag", "last", "x"]).expect_message(2, &["no run is stored yet"]);
    measure(&world);
    let id = id_of(&world, 0);
    let tagged = world.run(&["tag", "last", "nightly", "before-update"]).expect(0).stdout;
    assert_eq!(tagged, format!("{id}: before-update nightly\n"));
    world.run(&["note", &id, "the fan\u{1b}[2J was off"]).expect(0);
    let list = world.run(&["list"]).expect(0).stdout;
    assert!(list.contains("before-update · nightly · the fan\u{fffd}[2J was off"), "{list}");
    for found in [
        ["--tag", "nightly"],
        ["--model", "TIN"],
        ["--host", "local"],
        ["--since", "1day"],
        ["--until", "2100-01-01"],
    ] {
        assert!(
            world.run(&["list", found[0], found[1]]).expect(0).stdout.contains(&id),
            "{found:?}"
        );
    }
    for not_found in
        [["--tag", "weekly"], ["--model", "qwen"], ["--host", "board"], ["--until", "2020-01-01"]]
    {
        let ended = world.run(&["list", not_found[0], not_found[1]]).expect(0);
        assert!(
            ended.stdout.is_empty() && ended.stderr.contains("does not meet these conditions"),
            "{not_found:?}"
        );
        let json =
            world.run(&["list", "--format", "json", not_found[0], not_found[1]]).expect(0).stdout;
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["runs"], Value::Array(Vec::new()));
    }
    world.run(&["list", "--since", "yesterday"]).expect_message(2, &["it must be a day such as"]);
    world.run(&["tag", "last", "two words"]).expect_message(2, &["cannot be the name of a tag"]);
    let left = world.run(&["tag", "last", "--remove", "nightly", "--remove", "gone"]).expect(0);
    assert_eq!(left.stdout, format!("{id}: before-update\n"));
    assert!(left.stderr.contains("has no tag 'gone'"));
    assert_eq!(world.run(&["note", "last", ""]).expect(0).stdout, format!("{id}: no note\n"));
    world.run(&["tag", "nothing", "x"]).expect_message(2, &["no stored run is named 'nothing'"]);
}

#[test]
fn a_run_is_removed_only_when_that_is_meant() {
    let world = World::new();
    measure(&world);
    world.run(&["rm"]).expect_message(2, &["which runs?"]);
    world.run(&["rm", "last"]).expect_message(2, &["1 run would be removed", "--yes"]);
    world
        .run(&["rm", "--tag", "scratch", "--yes"])
        .expect_message(2, &["does not meet these conditions"]);
    assert_eq!(world.run(&["rm", "last", "--yes"]).expect(0).stdout, "removed 1 run\n");
    assert!(world.run(&["list"]).expect(0).stderr.contains("no run is stored yet"));
    // A run that another process is at, as `run` locks it.
    measure(&world);
    let id = id_of(&world, 0);
    fs::create_dir_all(world.path("cache/runs")).unwrap();
    let lock = fs::File::create(world.path(&format!("cache/runs/{id}.lock"))).unwrap();
    lock.lock().unwrap();
    world.run(&["rm", "last", "-y"]).expect_message(2, &["is still under way in another process"]);
    drop(lock);
    world.run(&["rm", "last", "-y"]).expect(0);
}

#[test]
fn runs_are_carried_to_another_machine_once() {
    let (board, desk) = (World::new(), World::new());
    measure(&board);
    measure(&desk);
    board.run(&["tag", "last", "carried"]).expect(0);
    let id = id_of(&board, 0);
    board.run(&["export", "last", "-o", "board.json"]).expect(0);
    board.run(&["export", "-o", "all.jsonl"]).expect(0);
    for (file, host) in [("board.json", "board"), ("all.jsonl", "other")] {
        fs::copy(board.path(file), desk.path(file)).unwrap();
        let told = desk.run(&["merge", file, "--host", host]).expect(0).stdout;
        let expected = match file {
            "board.json" => format!("{file}: 1 run taken in, measured on 'board'\n"),
            _ => format!("{file}: nothing new, 1 run here already\n"),
        };
        assert_eq!(told, expected);
    }
    // The whole store; its name tells nobody's machine.
    fs::create_dir(desk.path("from")).unwrap();
    fs::copy(board.path("runs.sqlite"), desk.path("from/runs.sqlite")).unwrap();
    desk.run(&["merge", "from/runs.sqlite"])
        .expect_message(2, &["nothing was taken from", "--host"]);
    let told = desk.run(&["merge", "from/runs.sqlite", "--host", "board"]).expect(0).stdout;
    assert!(told.contains("nothing new, 1 run here already"), "{told}");
    let list: Value = serde_json::from_str(
        &desk.run(&["list", "--format", "json", "--host", "board"]).expect(0).stdout,
    )
    .unwrap();
    let run = &list["runs"][0];
    assert_eq!(
        (&run["id"], &run["tags"][0], &run["origin"]["host"]),
        (&id.into(), &"carried".into(), &"board".into())
    );
    assert!(run["origin"]["source"].as_str().unwrap().ends_with("board.json"));
    let shown = desk.run(&["show", run["id"].as_str().unwrap()]).expect(0).stdout;
    assert!(shown.contains("board · ") && shown.contains("#carried"), "{shown}");
    let ended = desk.run(&["run", "--resume"]);
    ended.expect_message(2, &["no interrupted run"]);
}

#[test]
fn what_is_no_run_is_refused_and_changes_nothing() {
    let world = World::new();
    measure(&world);
    world.run(&["export", "last", "-o", "whole.json"]).expect(0);
    let whole = fs::read_to_string(world.path("whole.json")).unwrap();
    let before = world.run(&["list", "--format", "json"]).expect(0).stdout;
    world.write("cut.json", &whole[..whole.len() / 2]);
    world.write("named.json", &whole.replace(&id_of(&world, 0), "../../evil"));
    world.write("newer.json", &whole.replacen("\"version\": 3", "\"version\": 99", 1));
    world.write("other.json", "{\"format\": \"quantbench.list\", \"version\": 1}");
    fs::copy(world.path("tiny-F16.gguf"), world.path("model.json")).unwrap();
    fs::copy(world.path("tiny-F16.gguf"), world.path("model.gguf")).unwrap();
    for file in ["runs.parquet", "runs.csv"] {
        world.run(&["export", "last", "-o", file]).expect(0);
    }
    world.run(&["report", "last", "-o", "page.html"]).expect(0);
    world.write("broken.sqlite", "SQLite format 3\0 and then nothing of the kind");
    for (file, reason) in [
        ("cut.json", "EOF"),
        ("named.json", "cannot be the name of a run"),
        ("newer.json", "update quantbench"),
        ("other.json", "'quantbench.list', which is no run"),
        ("model.json", "a model (GGUF)"),
        ("broken.sqlite", "no database"),
        ("nowhere.json", "No such file"),
        (".", "folder"),
        ("runs.parquet", "a table of figures (Parquet)"),
        ("runs.csv", "a table (CSV)"),
        ("page.html", "a page (HTML)"),
        ("model.gguf", "a model (GGUF)"),
    ] {
        world
            .run(&["merge", file, "--host", "x"])
            .expect_message(2, &["nothing was taken from", file, reason]);
    }
    assert_eq!(world.run(&["list", "--format", "json"]).expect(0).stdout, before);
    // What it is comes before whose it is, and what would do is told.
    world
        .run(&["merge", "runs.parquet"])
        .expect_message(2, &["Parquet", "quantbench export -o runs.jsonl"]);
    // What is imported is another thing; whoever means this is told so.
    world.run(&["import", "whole.json"]).expect_message(2, &["quantbench merge whole.json"]);
    world
        .run(&["export", "-o", "table.xlsx"])
        .expect_message(2, &["does not say the format", ".jsonl"]);
    world
        .run(&["export", "last", "-o", "tiny-F16.gguf", "--format", "json"])
        .expect_message(2, &["a GGUF"]);
}

#[test]
fn runs_are_asked_in_sql() {
    let world = World::new();
    let counted = world.run(&["query", "SELECT count(*) FROM runs", "--format", "csv"]).expect(0);
    assert!(counted.stdout.ends_with("\n0\n"), "{counted:?}");
    assert!(counted.stderr.contains("no run is stored yet"), "{counted:?}");
    let overview = world.run(&["query"]).expect(0).stdout;
    assert!(
        overview.contains("figures: a row per figure") && overview.contains("engine_version"),
        "{overview}"
    );
    measure(&world);
    let sql = "SELECT variant, metric, value FROM figures WHERE metric = 'file_bytes' ORDER BY value DESC";
    let table = world.run(&["query", sql]).expect(0).stdout;
    assert!(table.starts_with("variant  metric"), "{table}");
    let json: Value =
        serde_json::from_str(&world.run(&["query", sql, "--format", "json"]).expect(0).stdout)
            .unwrap();
    let size = fs::metadata(world.path("tiny-F16.gguf")).unwrap().len();
    assert_eq!(json["rows"][0]["value"].to_string(), format!("{size}.0"));
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
    let csv = world.run(&["query", sql, "--format", "csv", "-o", "rows.csv"]).expect(0).stdout;
    assert!(csv.is_empty());
    assert_eq!(fs::read_to_string(world.path("rows.csv")).unwrap().lines().count(), 3);
    world.run(&["query", "DELETE FROM runs"]).expect_message(2, &["SELECT is all that is allowed"]);
    world.run(&["query", "SELECT * FROM figure"]).expect_message(2, &["no such table: figure"]);
    let none = world.run(&["query", sql, "--tag", "none", "--format", "csv"]).expect(0);
    assert_eq!(none.stdout, "variant,metric,value\n");
    assert!(none.stderr.contains("does not meet these conditions"), "{none:?}");
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    world
        .run(&["query", endless, "--timeout", "200ms"])
        .expect_message(2, &["stopped after 200 ms"]);
    assert_eq!(
        world.run(&["list"]).expect(0).stdout.matches("done").count(),
        1,
        "nothing was deleted"
    );
}

#[test]
fn a_figure_is_followed_over_runs() {
    let world = World::new();
    measure(&world);
    measure(&world);
    let table = world.run(&["trend", "tg4", "--variant", "Q8_0"]).expect(0).stdout;
    assert!(
        table.contains("tg4 (t/s)") && table.contains("local: ") && !table.contains("F16"),
        "{table}"
    );
    for position in [0, 1] {
        assert!(table.contains(&id_of(&world, position)), "{table}");
    }
    let json: Value =
        serde_json::from_str(&world.run(&["trend", "file", "--format", "json"]).expect(0).stdout)
            .unwrap();
    assert_eq!(json["machines"][0]["series"][0]["points"].as_array().unwrap().len(), 2);
    assert_eq!(json["metric"], "file_bytes");
    let csv = world.run(&["trend", "kld", "--format", "csv", "-o", "kld.csv"]).expect(0).stdout;
    assert!(
        csv.is_empty() && fs::read_to_string(world.path("kld.csv")).unwrap().lines().count() == 3
    );
    world
        .run(&["trend", "tg5"])
        .expect_message(2, &["no run has a figure 'tg5'", "tg4_tokens_per_second"]);
    world.run(&["trend", "tg4", "--variant", "Q9"]).expect_message(2, &["no variant called 'Q9'"]);
    world.run(&["trend", "tg4", "--tag", "none"]).expect_message(2, &["none of the 2 stored runs"]);
}

#[test]
fn figures_become_tables_for_data_frames() {
    let world = World::new();
    measure(&world);
    for file in ["figures.parquet", "figures.csv"] {
        world.run(&["export", "-o", file]).expect(0);
    }
    world.run(&["export", "--table", "samples", "-o", "samples.parquet"]).expect(0);
    let parquet = fs::read(world.path("figures.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let csv = fs::read_to_string(world.path("figures.csv")).unwrap();
    let counted =
        world.run(&["query", "SELECT count(*) FROM figures", "--format", "csv"]).expect(0).stdout;
    assert_eq!(csv.lines().count() - 1, counted.lines().nth(1).unwrap().parse::<usize>().unwrap());
    world
        .run(&["export", "--table", "runs", "-o", "x.json"])
        .expect_message(2, &["--table is of Parquet and CSV"]);
    world
        .run(&["export", "--table", "nothing", "-o", "x.csv"])
        .expect_message(2, &["figures", "samples"]);
}

/// In a Python of its own, so that nothing of the machine is changed.
#[test]
#[ignore = "fetches pandas, pyarrow and polars from PyPI (150 MB): make test-frames"]
fn data_frames_of_pandas_and_polars_read_figures_in_one_line() {
    let world = World::new();
    measure(&world);
    world.run(&["export", "-o", "runs.parquet"]).expect(0);
    world.run(&["export", "--table", "samples", "-o", "samples.parquet"]).expect(0);
    let run = |program: &std::path::Path, arguments: &[&str]| {
        let ended = std::process::Command::new(program)
            .args(arguments)
            .current_dir(world.path("."))
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    run("python3".as_ref(), &["-m", "venv", "python"]);
    let python = world.path("python/bin/python");
    run(&python, &["-m", "pip", "install", "--quiet", "pandas", "pyarrow", "polars"]);
    // The lines of the guide, as they stand there.
    let guide = include_str!("../../docs/HISTORY.md");
    let (_, lines) = guide.split_once("```python\n").unwrap();
    let (lines, _) = lines.split_once("```").unwrap();
    let [pandas, polars] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
    let script = format!(
        "import pandas, polars\n\
         one = {pandas}\n\
         other = {polars}\n\
         assert list(one.index.get_level_values('variant')) == ['Q8_0'] and one.iloc[0, 0] > 0, one\n\
         assert abs(other.item(0, 3) - one.iloc[0, 0]) < 1e-15, other\n\
         figures = pandas.read_parquet('runs.parquet')\n\
         assert str(figures['started'].dtype) == 'datetime64[us, UTC]', figures.dtypes\n\
         assert figures['reference'].dtype == bool or figures['reference'].dtype == object\n\
         assert polars.read_parquet('runs.parquet').shape == figures.shape\n\
         assert pandas.read_parquet('samples.parquet')['value'].notna().all()\n"
    );
    world.write("frames.py", &script);
    run(&python, &["frames.py"]);
}

#[test]
fn what_programs_read_is_as_its_schema_says() {
    let world = World::new();
    measure(&world);
    world.run(&["tag", "last", "x"]).expect(0);
    world.run(&["export", "last", "-o", "board.json"]).expect(0);
    world.run(&["rm", "last", "--yes"]).expect(0);
    world.run(&["merge", "board.json"]).expect(0);
    let figures = "SELECT variant, started, value, low FROM figures";
    for arguments in [
        vec!["show", "--format", "json"],
        vec!["show", "--format", "jsonl"],
        vec!["list", "--format", "json"],
        vec!["query", figures, "--format", "json"],
        vec!["query", "--format", "json"],
        vec!["trend", "kld", "--format", "json"],
        vec!["inspect", "tiny-F16.gguf", "--format", "json"],
        vec![
            "plan",
            "tiny-F16.gguf",
            "--format",
            "json",
            "--context",
            "64",
            "--target",
            "here,4GiB@17GB/s",
        ],
        vec!["plan", "tiny-F16.gguf", "--format", "json", "--budget", "host=1MiB"],
        vec!["devices", "--format", "json"],
    ] {
        let printed = world.run(&arguments).stdout;
        assert!(!printed.is_empty(), "{arguments:?}");
        // Each line of JSONL is a document.
        let documents = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
        documents.for_each(|document| schemas::check(&world, &document.unwrap()));
    }
    let mut wrong = world.run(&["list", "--format", "json"]).expect(0).json();
    wrong["runs"][0]["new"] = Value::Null;
    assert!(schemas::wrong(&world, &wrong).is_some(), "what is not described is found");
    world.run(&["schema", "nothing"]).expect_message(2, &["no schema 'nothing'", "list"]);
}
