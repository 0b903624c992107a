//! The tools: their names, what they take, and the commands that they are.

use super::stored;
use crate::causes::in_words;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use rmcp::schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// What is done for a tool.
pub(super) enum Call {
    /// A command with its arguments, and what of its JSON is given on.
    Command { words: Vec<String>, reduce: fn(Value) -> Value },
    /// What the store says.
    Recommend(Needs),
    /// How far a run is.
    Status(String),
    /// A command that measures.
    Start(Vec<String>),
}

/// A tool.
struct Spec {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    /// Whether it takes the machine's time and fills its disk.
    measures: bool,
    schema: fn() -> Arc<JsonObject>,
    call: fn(Value) -> Result<Call, String>,
}

const TOOLS: [Spec; 9] = [
    Spec {
        name: "plan",
        title: "What fits, and how fast it will be",
        about: "Predicts for every quantization of a model the memory it needs, whether it fits this machine or a \
                named board, and its speed. Reads headers only; nothing is downloaded or measured.",
        measures: false,
        schema: schema_for_type::<Plan>,
        call: plan,
    },
    Spec {
        name: "recommend",
        title: "Which measured variant meets the needs",
        about: "Chooses among the variants of a stored run the best one that is proved, with 95 % confidence, to meet \
                all needs, and says what is known of the others. Measures nothing.",
        measures: false,
        schema: schema_for_type::<Needs>,
        call: |input| Ok(Call::Recommend(read(input)?)),
    },
    Spec {
        name: "list",
        title: "Stored runs",
        about: "Lists stored runs, the latest first: models, hosts, tags, notes, and whether each is done.",
        measures: false,
        schema: schema_for_type::<Which>,
        call: |input| {
            let which: Which = read(input)?;
            Ok(command("list", which.flags(), &[]))
        },
    },
    Spec {
        name: "show",
        title: "One stored run",
        about: "Shows a stored run: every variant's size, speed, latency, memory, divergence and tasks with 95 % \
                intervals, the Pareto front, the best trade-off and what to distrust.",
        measures: false,
        schema: schema_for_type::<Run>,
        call: |input| {
            let Run { run } = read(input)?;
            let words =
                command_words("show", vec!["--columns=160".to_owned()], &[run_or_last(run)]);
            Ok(Call::Command { words, reduce: without_raw_values })
        },
    },
    Spec {
        name: "compare",
        title: "What changed between two runs",
        about: "Compares two stored runs figure by figure: change with its 95 % interval and a verdict, what differs \
                in their environment first. Of a run that measured an earlier one again in turns, base alone.",
        measures: false,
        schema: schema_for_type::<Two>,
        call: |input| {
            let Two { base, new } = read(input)?;
            let sides = std::iter::once(&base).chain(&new).map(|it| stored_run(it));
            let sides = sides.collect::<Result<Vec<_>, _>>()?;
            Ok(command("compare", vec!["--columns=160".to_owned()], &sides))
        },
    },
    Spec {
        name: "trend",
        title: "One figure over runs",
        about: "Follows one figure over stored runs in order of time, by machine, variant and settings, with changes \
                of the engine marked.",
        measures: false,
        schema: schema_for_type::<Trend>,
        call: |input| {
            let Trend { metric, variant, runs } = read(input)?;
            let mut flags = runs.flags();
            flag(&mut flags, "variant", variant);
            Ok(command("trend", flags, &[metric]))
        },
    },
    Spec {
        name: "query",
        title: "Stored runs in SQL",
        about: "Answers one read-only SELECT in SQLite's SQL over tables runs, tags, trials, figures, samples. Call it \
                without sql for tables and columns. Figures: run, started, host, model, variant, settings, \
                engine_version, metric, unit, value, low, high, n, …",
        measures: false,
        schema: schema_for_type::<Sql>,
        call: query,
    },
    Spec {
        name: "run_status",
        title: "How far a run is",
        about: "Says whether a run is under way, done or interrupted, and how many rounds and visits it has made.",
        measures: false,
        schema: schema_for_type::<Run>,
        call: |input| {
            let Run { run } = read(input)?;
            Ok(Call::Status(run_or_last(run)))
        },
    },
    Spec {
        name: "run",
        title: "Start a run",
        about: "Starts measuring a model or an experiment on this machine, and returns at once with the run's name. \
                It takes minutes to hours and the whole machine; it may download models. It ends with the server.",
        measures: true,
        schema: schema_for_type::<Start>,
        call: start,
    },
];

/// Every tool that may be called.
pub(super) fn list(allow_run: bool) -> Vec<Tool> {
    let tools = TOOLS.iter().filter(|tool| allow_run || !tool.measures);
    let described = tools.map(|tool| {
        let hints = ToolAnnotations::with_title(tool.title)
            .read_only(!tool.measures)
            .destructive(false)
            .open_world(matches!(tool.name, "plan" | "run"));
        Tool::new(tool.name, tool.about, (tool.schema)())
            .with_title(tool.title)
            .with_annotations(hints)
    });
    described.collect()
}

/// What a call asks for.
pub(super) fn call(name: &str, input: Value, allow_run: bool) -> Result<Call, String> {
    let tool = TOOLS.iter().find(|tool| tool.name == name);
    let tool = tool.ok_or_else(|| format!("there is no tool '{name}'"))?;
    if tool.measures && !allow_run {
        return Err(format!(
            "'{name}' measures, and this server only reads: start it as quantbench mcp --allow-run"
        ));
    }
    (tool.call)(input)
}

fn read<T: DeserializeOwned>(input: Value) -> Result<T, String> {
    serde_json::from_value(input).map_err(|error| error.to_string())
}

/// What to plan.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
struct Plan {
    /// A GGUF file, a folder of them, owner/name on the Hugging Face hub, ollama:name, shape:name, or demo
    model: String,
    /// Tokens of context of each sequence; left out: 4096, or as many as the model was trained for
    context: Option<u32>,
    /// Sequences side by side; left out: 1
    parallel: Option<u32>,
    /// Other machines instead of this one, and this one as here: pi5-8gb, or 4GiB@17GB/s
    target: Option<String>,
    /// Only these quantizations: `Q8_0,Q4_K_M`
    quantizations: Option<String>,
}

fn plan(input: Value) -> Result<Call, String> {
    let Plan { model, context, parallel, target, quantizations } = read(input)?;
    let mut flags = Vec::new();
    flag(&mut flags, "context", context);
    flag(&mut flags, "parallel", parallel);
    flag(&mut flags, "target", target);
    flag(&mut flags, "quant", quantizations);
    Ok(command("plan", flags, &[model]))
}

/// Needs, all of which have to be met.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Needs {
    /// The run to choose from; left out: the latest
    pub(super) run: Option<String>,
    /// Peak memory at most, such as 4GiB
    pub(super) max_memory: Option<String>,
    /// Tokens a second of generation at least
    pub(super) min_tps: Option<f64>,
    /// 90th percentile of the time to the first token at most, milliseconds
    pub(super) max_ttft_ms: Option<f64>,
    /// Mean divergence from the reference at most, nats
    pub(super) max_kld: Option<f64>,
    /// Energy per generated token at most, joules
    pub(super) max_joules_per_token: Option<f64>,
    /// What is better among variants that meet everything: closest (to the reference), fastest, smallest
    pub(super) prefer: Option<String>,
}

/// Conditions on stored runs; all have to be met.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "rmcp::schemars")]
struct Which {
    /// Part of a model's name
    model: Option<String>,
    /// Part of a host's name
    host: Option<String>,
    /// A tag
    tag: Option<String>,
    /// Begun on this day (UTC) or later: 2026-11-30, or 7days for the last seven
    since: Option<String>,
    /// Begun on this day (UTC) or before
    until: Option<String>,
}

impl Which {
    fn flags(self) -> Vec<String> {
        let Self { model, host, tag, since, until } = self;
        let mut flags = Vec::new();
        let all =
            [("model", model), ("host", host), ("tag", tag), ("since", since), ("until", until)];
        for (name, value) in all {
            flag(&mut flags, name, value);
        }
        flags
    }
}

/// A run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
struct Run {
    /// Its name, the beginning of it, or the letters behind its date; left out: the latest
    run: Option<String>,
}

/// Two runs, or one that measured another again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
struct Two {
    /// What was before: a run as for show, or RUN:VARIANT for one variant of it
    base: String,
    /// What is new, likewise; without it, base is a run that measured an earlier one again
    new: Option<String>,
}

/// A figure and the runs to follow it over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
struct Trend {
    /// The figure: tg128, kld, `ttft_p50_seconds`, perplexity, …
    metric: String,
    /// Only this variant: `Q4_K_M`
    variant: Option<String>,
    /// Which runs
    #[serde(default)]
    runs: Which,
}

/// A question.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
struct Sql {
    /// One SELECT; at most 1000 rows are shown. Left out: the tables with their columns
    sql: Option<String>,
    /// Which runs it sees
    #[serde(default)]
    runs: Which,
}

fn query(input: Value) -> Result<Call, String> {
    let Sql { sql, runs } = read(input)?;
    let Some(sql) = sql else {
        return Ok(Call::Command {
            words: command_words("query", Vec::new(), &[]),
            reduce: |it| it,
        });
    };
    let mut flags = runs.flags();
    flags.push("--rows=1000".to_owned());
    Ok(command("query", flags, &[sql]))
}

/// What to measure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
struct Start {
    /// An experiment (.toml), or a model as for plan
    model: String,
    /// Only these quantizations: `F16,Q8_0,Q4_K_M`
    quantizations: Option<String>,
    /// Visits of every variant
    rounds: Option<u32>,
    /// Time that it may take, such as 10min
    budget: Option<String>,
}

fn start(input: Value) -> Result<Call, String> {
    let Start { model, quantizations, rounds, budget } = read(input)?;
    let mut flags = vec!["--quiet".to_owned(), "--yes".to_owned()];
    flag(&mut flags, "quant", quantizations);
    flag(&mut flags, "rounds", rounds);
    flag(&mut flags, "budget", budget);
    Ok(Call::Start(command_words("run", flags, &[model])))
}

/// A flag with its value in one word, so that no value is taken for a flag.
fn flag(flags: &mut Vec<String>, name: &str, value: Option<impl ToString>) {
    flags.extend(value.map(|value| format!("--{name}={}", value.to_string())));
}

fn command(name: &str, flags: Vec<String>, names: &[String]) -> Call {
    Call::Command { words: command_words(name, flags, names), reduce: |document| document }
}

fn command_words(name: &str, flags: Vec<String>, names: &[String]) -> Vec<String> {
    let mut words = vec![name.to_owned()];
    words.extend(flags);
    if !names.is_empty() {
        // Behind this nothing is a flag.
        words.push("--".to_owned());
        words.extend_from_slice(names);
    }
    words
}

fn run_or_last(run: Option<String>) -> String {
    run.unwrap_or_else(|| "last".to_owned())
}

/// The whole name of a stored run, with the variant behind it: what `compare` would read as a file is none of an
/// assistant's business.
fn stored_run(name: &str) -> Result<String, String> {
    if name.contains(['/', '\\']) || name.is_empty() {
        return Err(format!("'{name}' is no name of a stored run"));
    }
    let (run, variant) = name.split_once(':').map_or((name, None), |(run, it)| (run, Some(it)));
    let run = stored::name_of(run).map_err(|error| in_words(&error))?;
    Ok(variant.map_or_else(|| run.clone(), |variant| format!("{run}:{variant}")))
}

/// A run's document without what was measured value by value: the summary has the figures.
fn without_raw_values(mut document: Value) -> Value {
    if let Some(run) = document.get_mut("run").and_then(Value::as_object_mut) {
        for raw in ["trials", "experiment", "drift_controls"] {
            run.remove(raw);
        }
    }
    // Without them it is another document than `show --format json` prints.
    document["format"] = "quantbench.show".into();
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(name: &str, input: Value) -> Vec<String> {
        match call(name, input, true) {
            Ok(Call::Command { words, .. } | Call::Start(words)) => words,
            Ok(_) => panic!("{name} is no command"),
            Err(message) => panic!("{message}"),
        }
    }

    fn refused(name: &str, input: Value) -> String {
        match call(name, input, false) {
            Err(message) => message,
            Ok(_) => panic!("{name} was not refused"),
        }
    }

    #[test]
    fn what_an_assistant_says_is_never_taken_for_a_flag() {
        assert_eq!(
            words(
                "plan",
                json!({"model": "--output=/etc/passwd", "context": 8192, "target": "-x"})
            ),
            ["plan", "--context=8192", "--target=-x", "--", "--output=/etc/passwd"]
        );
        assert_eq!(words("list", json!({"tag": "--help"})), ["list", "--tag=--help"]);
        assert_eq!(words("show", json!({})), ["show", "--columns=160", "--", "last"]);
        assert_eq!(
            words("run", json!({"model": "-q", "rounds": 3})),
            ["run", "--quiet", "--yes", "--rounds=3", "--", "-q"]
        );
    }

    #[test]
    fn input_is_checked_before_anything_is_done() {
        for (name, input, message) in [
            ("plan", json!({}), "missing field `model`"),
            ("plan", json!({"model": "demo", "context": -1}), "invalid value"),
            ("plan", json!({"model": 7}), "invalid type"),
            ("list", json!({"output": "x"}), "unknown field `output`"),
            ("compare", json!({"base": "../run.json", "new": "last"}), "no name of a stored run"),
            ("erase", json!({}), "no tool 'erase'"),
            ("run", json!({"model": "demo"}), "--allow-run"),
        ] {
            let told = refused(name, input);
            assert!(told.contains(message), "{name}: {told}");
        }
    }

    #[test]
    fn tools_say_what_they_take_and_do() {
        let names = |allow_run| {
            list(allow_run).iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(false).len() + 1, names(true).len());
        assert!(!names(false).contains(&"run".to_owned()));
        for tool in list(true) {
            let schema = Value::Object(tool.input_schema.as_ref().clone());
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            let read_only = tool.annotations.unwrap().read_only_hint;
            assert_eq!(read_only, Some(tool.name != "run"));
        }
    }

    #[test]
    fn a_run_is_given_on_without_its_raw_values() {
        let document = json!({"run": {"id": "a", "trials": [1]}, "summary": {"rows": []}});
        assert_eq!(
            without_raw_values(document),
            json!({"format": "quantbench.show", "run": {"id": "a"}, "summary": {"rows": []}})
        );
    }
}
