//! `report`: a page, charts, Markdown and rows of scoreboards of a run that was measured.

use crate::world::World;
use std::fs;

/// A world with a run of two variants.
pub(crate) fn measured() -> World {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet"]).expect(0);
    world
}

#[test]
fn a_run_becomes_a_page_and_charts() {
    let world = measured();
    let ended = world.run(&["report"]).expect(0);
    assert!(
        ended.stdout.is_empty() && ended.stderr.contains("wrote report.html"),
        "{}",
        ended.stderr
    );
    let page = fs::read_to_string(world.path("report.html")).unwrap();
    for part in ["<!doctype html>", "Q8_0", "quantbench.run", "</html>"] {
        assert!(page.contains(part), "{part}");
    }
    // A page goes where it is sent, and twice the same run is told twice.
    world.run(&["report", "last", "last", "-o", "both.html"]).expect(0);
    let both = fs::read_to_string(world.path("both.html")).unwrap();
    assert!(both.contains("id=\"together\"") && both.contains("id=\"run-2\""));
    assert!(world.run(&["report", "-o", "-"]).expect(0).stdout.starts_with("<!doctype html>"));

    // A file that another machine wrote is a run, too, and is never replaced.
    world.run(&["show", "--format", "json", "-o", "run.json"]).expect(0);
    world.run(&["report", "run.json", "-o", "file.html"]).expect(0);
    assert_eq!(fs::read_to_string(world.path("file.html")).unwrap(), page);
    world.run(&["report", "run.json", "-o", "run.json"]).expect_message(2, &["is an input"]);

    world.run(&["report", "--svg", "charts/svg"]).expect(0);
    let names: Vec<String> = fs::read_dir(world.path("charts/svg"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"memory.svg".to_owned()), "{names:?}");
    let svg = fs::read_to_string(world.path("charts/svg/memory.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns=") && svg.contains("<title>Memory</title>"));
}

/// From wherever it lies: all that it names is found.
#[test]
fn the_experiment_on_a_page_measures_the_same_again() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let experiment = fs::read_to_string(world.path("models.toml")).unwrap();
    let task = "[[workloads.tasks]]\nname = \"next\"\nkind = \"text-generation\"\ndataset = \"q.jsonl\"\n\
                fields = { gold = \"a\" }\ntemplate = \"{{ q }}\"\n";
    world.write("models.toml", &experiment.replace("[[models]]", &format!("{task}[[models]]")));
    world.write("q.jsonl", "{\"q\": \"once upon\", \"a\": \" a time\"}\n");
    let first = world.run(&["run", "--quiet", "--format", "json"]).expect(0).run_record();
    world.run(&["report"]).expect(0);
    let page = fs::read_to_string(world.path("report.html")).unwrap();
    let (_, file) =
        page.split_once("The experiment, as a file</summary><pre tabindex=\"0\"><bdi>").unwrap();
    let (file, _) = file.split_once("</bdi>").unwrap();
    let file = file.replace("&quot;", "\"").replace("&#x2f;", "/").replace("&#x27;", "'");
    let file = file.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    fs::create_dir(world.path("elsewhere")).unwrap();
    world.write("elsewhere/again.toml", &file);
    let again = world.run(&["run", "elsewhere/again.toml", "--quiet", "--format", "json"]);
    let again = again.expect(0).run_record();
    for (one, other) in
        first["trials"].as_array().unwrap().iter().zip(again["trials"].as_array().unwrap())
    {
        assert_eq!(one["artifact"]["checksum"], other["artifact"]["checksum"]);
        assert_eq!(one["settings"], other["settings"]);
        assert_eq!(one["quality"]["chunk_nll"], other["quality"]["chunk_nll"]);
        assert_eq!(one["tasks"][0]["scores"], other["tasks"][0]["scores"]);
        assert_eq!(
            one["visits"].as_array().unwrap().len(),
            other["visits"].as_array().unwrap().len()
        );
        // The monitor was there all the time.
        let seen = &other["visits"][0]["timeline"]["worker"];
        assert!(seen["rss_mebibytes"].as_array().is_some_and(|it| !it.is_empty()), "{seen}");
    }
    assert_eq!(
        first["trials"].as_array().unwrap().len(),
        again["trials"].as_array().unwrap().len()
    );
}

#[cfg(feature = "png")]
#[test]
fn charts_are_pixels_where_there_is_a_font() {
    let world = measured();
    let ended = world.run(&["report", "--png", "png"]);
    if ended.code == Some(2) {
        assert!(ended.stderr.contains("no font is installed"), "{}", ended.stderr);
        return;
    }
    let bytes = fs::read(world.path("png/memory.png")).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 3000, "{}", bytes.len());
}

#[test]
fn a_run_becomes_markdown_and_a_row_of_a_scoreboard() {
    let world = measured();
    let comment = world.run(&["report", "--markdown"]).expect(0).stdout;
    assert!(comment.starts_with("### ") && comment.contains("<details>"), "{comment}");
    let card = world.run(&["report", "--markdown=model-card"]).expect(0).stdout;
    assert!(card.starts_with("---\n") && card.contains("model-index:"), "{card}");
    let row = world.run(&["report", "--scoreboard", "sbc"]).expect(0).stdout;
    assert!(row.starts_with("| System | CPU/GPU |") && row.contains("SHA-256"), "{row}");
    world
        .run(&["report", "--scoreboard", "cuda"])
        .expect_message(2, &["'cuda' lists what computed through CUDA", "through CPU"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let world = measured();
    world.run(&["report", "nothing"]).expect_message(2, &["nothing"]);
    world.run(&["report", "last", "last", "--scoreboard", "sbc"]).expect_message(2, &["one run"]);
    world
        .run(&["report", "--markdown", "--scoreboard", "sbc"])
        .expect_message(2, &["cannot be used with"]);
    world.run(&["report", "--variant", "F16"]).expect_message(2, &["--architectures"]);
    world.write("file", "no folder");
    world.run(&["report", "--svg", "file"]).expect_message(2, &["file"]);
    fs::write(world.path("model.gguf"), b"GGUF....").unwrap();
    world.run(&["report", "-o", "model.gguf"]).expect_message(2, &["a GGUF"]);
}
