//! models.toml, a tour of the keys, and docs/reference/experiment.md are made from the table of keys, parts of
//! docs/MEASURING.md and docs/schema/run.json from the table of metrics; with `UPDATE=1` these tests write them.

use super::load;
use crate::experiment::keys::{Amount, EXPERIMENT, Key, Kind, SETTINGS, Shown, Table};
use crate::experiment::metric::{Better, Metric, Shown as InUnit, TaskColumn};
use crate::experiment::parameters::Matching;
use crate::experiment::resolved::Experiment;
use crate::experiment::settings::{GraphOptimization, Provider, Settings};
use crate::experiment::tasks::UseCase;
use crate::experiment::{Overrides, built_in};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use strum::VariantNames as _;

/// Columns of models.toml.
const WIDTH: usize = 100;

fn is_up_to_date(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == made, "{file} is stale; UPDATE=1 cargo test --lib tour writes it:\n{made}");
}

/// A file of which a part is made: what lies between two texts that stay.
fn part_is_up_to_date(file: &str, begin: &str, end: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    is_up_to_date(file, &format!("{before}{begin}{made}{end}{after}"));
}

fn comment(text: &str) -> String {
    let options = textwrap::Options::new(WIDTH).initial_indent("# ").subsequent_indent("# ");
    textwrap::fill(
        text,
        options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation),
    )
}

/// The line of a key, without its comment.
fn line(key: &Key) -> Option<String> {
    let Key { name, default, .. } = key;
    match key.shown {
        Shown::Value(value) => Some(format!("{name} = {value}")),
        Shown::Example(value) => Some(format!("# {name} = {value}")),
        Shown::Default if !default.is_empty() => Some(format!("{name} = {default}")),
        Shown::Default | Shown::No => None,
    }
}

fn tour(table: &Table, text: &mut String) {
    // Of a table that the demo does without, all is an example.
    let is_example =
        table.repeated && !table.keys.iter().any(|key| matches!(key.shown, Shown::Value(_)));
    if !table.name.is_empty() {
        text.push('\n');
    }
    writeln!(text, "{}", comment(table.doc)).unwrap();
    match (table.name, is_example) {
        ("", _) => text.push('\n'),
        (name, false) => writeln!(text, "{}", table.header(name)).unwrap(),
        (name, true) => writeln!(text, "# {}", table.header(name)).unwrap(),
    }
    let lines = || table.keys.iter().filter_map(|key| Some((key, line(key)?)));
    // The comments behind values begin in one column, as far left as most of them allow.
    let longest = lines().map(|(_, line)| line.len()).filter(|&length| length < 40).max();
    let column = longest.unwrap_or(0) + 2;
    for (key, line) in lines() {
        let (line, column) =
            if is_example { (line.replacen("# ", "#   ", 1), column + 2) } else { (line, column) };
        let line_width = line.len().max(column - 2);
        if !line.contains('\n') && line_width + 4 + key.doc.chars().count() <= WIDTH {
            writeln!(text, "{line:line_width$}  # {}", key.doc).unwrap();
        } else {
            writeln!(text, "{}\n{line}", comment(key.doc)).unwrap();
        }
    }
    for key in table.keys {
        if let (Kind::Table(inner) | Kind::Tables(inner), Shown::Default) = (key.kind, key.shown) {
            tour(inner, text);
        }
    }
}

/// What the demo's experiment looks like.
fn models_toml() -> String {
    let mut text = String::new();
    tour(&EXPERIMENT, &mut text);
    text
}

fn reference(table: &Table, text: &mut String) {
    if !table.name.is_empty() {
        writeln!(text, "\n## `{}`\n\n{}", table.header(table.name), table.doc).unwrap();
    }
    text.push_str("\n| key | value | left out | meaning |\n| --- | --- | --- | --- |\n");
    for key in table.keys {
        let alias = if key.alias.is_empty() { "" } else { "`, `" };
        let many = match key.amount {
            Amount::One => "",
            Amount::Many => "; one or a list",
            Amount::Swept => "; a list is swept",
        };
        let default =
            if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let (name, kind) = (format!("{}{alias}{}", key.name, key.alias), key.kind);
        let doc = key.doc.replace('|', "\\|");
        writeln!(text, "| `{name}` | {kind}{many} | {default} | {doc} |").unwrap();
    }
    for key in table.keys {
        match key.kind {
            Kind::OwnTable(_) => {}
            kind => kind.table().into_iter().for_each(|inner| reference(inner, text)),
        }
    }
}

/// All metrics, with examples of those that have the names of tests and tasks.
fn metrics() -> Vec<Metric> {
    let tests = ["pp512", "tg128"].map(|test| test.parse().unwrap());
    let metric = "acc".parse().unwrap();
    let column = TaskColumn { task: "questions".parse().unwrap(), metric, is_main: true };
    Metric::all(&tests, &[column])
}

/// The figures that requirements may be on.
fn figures(text: &mut String) {
    text.push_str(
        "\n## Figures\n\nWhat `min_` and `max_` may stand before in `[requirements]`, and the names in JSON and CSV. Rates \
         and tasks are those of the experiment: `pp512`, `tg128` and `questions` are examples. `memory_bytes` is \
         resident memory and memory of devices together, `generation_tokens_per_second` the rate of the first \
         generation test.\n\n| figure | better | what it is |\n| --- | --- | --- |\n",
    );
    for metric in metrics() {
        let better = match metric.descriptor().better {
            Some(Better::Lower) => "lower",
            Some(Better::Higher) => "higher",
            None => "",
        };
        let definition = metric.descriptor().definition;
        writeln!(text, "| `{}` | {better} | {definition} |", metric.name()).unwrap();
    }
}

#[test]
fn the_reference_is_what_the_table_of_keys_says() {
    let mut text = "# Keys of an experiment\n\nMade from `src/experiment/keys/table.rs`; `UPDATE=1 cargo test --lib \
         tour` writes it. `models.toml` shows the keys at work. A key that is left out has the value of the third \
         column; where that is empty, the meaning says what happens. A list of one may be written without brackets.\n"
        .to_owned();
    reference(&EXPERIMENT, &mut text);
    figures(&mut text);
    is_up_to_date("docs/reference/experiment.md", &text);
}

/// How figures stand in tables, and from which interval on they count as unstable.
fn columns() -> String {
    let mut text = "\n\n| column | unit | in JSON and CSV | interval | unstable beyond |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for metric in metrics() {
        let row = metric.descriptor();
        let unit = match row.shown {
            InUnit::Bytes => "MiB, or GiB where large",
            InUnit::In(unit, ..) => unit,
        };
        let interval = match (row.has_interval, row.shows_interval) {
            (true, true) => "in tables too",
            (true, false) => "in JSON and CSV",
            (false, _) => "",
        };
        let unstable = row.stable_within.map(|limit| format!("±{} %", limit * 100.0));
        let unstable = unstable.unwrap_or_default();
        let (label, name) = (metric.label(), metric.name());
        writeln!(text, "| {label} | {unit} | `{name}` | {interval} | {unstable} |").unwrap();
    }
    text + "\n"
}

#[test]
fn the_tour_of_columns_is_what_the_table_of_metrics_says() {
    let (begin, end) = ("<!-- made from the table of metrics -->", "<!-- end -->");
    part_is_up_to_date("docs/MEASURING.md", begin, end, &columns());
}

#[test]
fn the_tour_of_the_schema_is_what_the_table_of_metrics_says() {
    let fixed = Metric::all(&[], &[]).into_iter().map(|metric| {
        let description = metric.descriptor().definition;
        let estimate = json!({"$ref": "#/$defs/estimate", "description": description});
        (metric.name(), estimate)
    });
    let figures = json!({
        "type": "object",
        "description": "Estimates by the name of the metric, which ends in its unit. Throughput tests are named \
            after themselves: pp512_tokens_per_second, embed64x8_embeddings_per_second; metrics of tasks after \
            both: task_questions_acc (0 to 1; bleu and chrf 0 to 100).",
        "patternProperties": {
            "^[a-z0-9_]+_per_second$": {"$ref": "#/$defs/estimate"},
            "^task_[a-z0-9_]+$": {"$ref": "#/$defs/estimate"},
        },
        "properties": fixed.collect::<serde_json::Map<_, _>>(),
    });
    let made = serde_json::to_string_pretty(&figures).unwrap().replace('\n', "\n    ");
    let (begin, end) = ("\n    \"figures\": ", ",\n    \"paired_test\": {");
    part_is_up_to_date("docs/schema/run.json", begin, end, &made);
}

#[test]
fn the_tour_is_what_the_table_of_keys_says() {
    is_up_to_date("models.toml", &models_toml());
}

#[test]
fn the_built_in_experiment_makes_twelve_variants_of_the_demo() {
    let experiment = built_in(&Overrides::default()).unwrap();
    assert_eq!(experiment.name, "demo");
    assert_eq!(experiment.models.len(), 1);
    assert_eq!(experiment.models[0].quantizations.len(), 12);
    assert_eq!(experiment.models[0].reference, Some("F16".parse().unwrap()));
    let latency = experiment.workloads.latency.unwrap();
    assert!(latency.prompts.len() >= 20, "{}", latency.prompts.len());
    assert!(experiment.workloads.quality.unwrap().text.len() > 100_000);
}

/// The tour with some of its lines changed.
fn changed(change: impl Fn(&str) -> Option<String>) -> Experiment {
    let lines: Vec<String> = models_toml().lines().filter_map(change).collect();
    let mut experiment = load(&lines.join("\n"));
    experiment.name = "demo".to_owned();
    experiment
}

#[test]
fn the_tour_means_the_same_without_the_defaults_that_it_shows() {
    let mut defaults = Vec::new();
    let mut tables = vec![&EXPERIMENT];
    while let Some(table) = tables.pop() {
        tables.extend(table.keys.iter().filter_map(|key| key.kind.table()));
        let shown = table.keys.iter().filter(|key| matches!(key.shown, Shown::Default));
        defaults.extend(shown.filter_map(line));
    }
    let is_default = |line: &str| defaults.iter().any(|it| line.starts_with(it.as_str()));
    let without = changed(|line| (!is_default(line)).then(|| line.to_owned()));
    assert_eq!(without, built_in(&Overrides::default()).unwrap());
    let sets_default = |line: &&str| is_default(line);
    assert!(models_toml().lines().filter(sets_default).count() >= 27);
}

#[test]
fn what_is_commented_out_in_the_tour_is_right() {
    let is_key = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
    };
    let experiment = changed(|line| {
        let inner = line.strip_prefix("# ").filter(|line| is_key(line));
        Some(inner.unwrap_or(line).to_owned())
    });
    assert_eq!(experiment.requirements.0.len(), 5);
    assert_eq!(experiment.models[0].quantizations.len(), 2);
    assert_eq!(experiment.workloads_of(0).speed.len(), 2);
}

#[test]
fn defaults_of_settings_are_those_of_the_type() {
    let settings = load(super::PLAIN).settings;
    assert_eq!(settings, [Settings::default()]);
    // Keys that came later are written only where they differ from their defaults.
    let other = Settings {
        threads_batch: Some(1),
        repack: false,
        op_offload: false,
        cpu_moe: true,
        tensor_split: "3/1".parse().unwrap(),
        spinning: false,
        graph_optimization: GraphOptimization::Basic,
        provider: Provider::Cuda,
        ..Settings::default()
    };
    let fields = serde_json::to_value(&other).unwrap();
    for key in SETTINGS.keys {
        assert!(fields.get(key.name).is_some(), "{}", key.name);
    }
    assert_eq!(fields.as_object().unwrap().len(), SETTINGS.keys.len());
}

#[test]
fn words_to_choose_from_are_those_of_the_types() {
    for key in SETTINGS.keys {
        let Kind::Choice(_, names) = key.kind else { continue };
        let values: Vec<_> = names.iter().map(|&name| name.into()).collect();
        let swept = Settings::sweep(&[(key.name, values)]).unwrap();
        assert_eq!(swept.len(), names.len(), "{}", key.name);
    }
    for kind in UseCase::VARIANTS {
        serde_json::from_value::<UseCase>((*kind).into()).unwrap();
    }
    for matching in Matching::VARIANTS {
        serde_json::from_value::<Matching>((*matching).into()).unwrap();
    }
}
