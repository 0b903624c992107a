//! Markdown for others to read: a pull request, or the card of a model on the Hugging Face hub.
//!
//! Source of the card's head: Hugging Face, hub-docs, modelcard.md (`model-index`, which `huggingface_hub`'s `ModelCardData`
//! reads and writes as `eval_results`).

use super::columns::{DECIDES, ESSENTIAL, comparison};
use super::findings::findings;
use super::header::header;
use super::html::commands;
use super::markdown::{draw, escape, legend};
use super::next::{Next, next, source};
use super::notes;
use super::table::Table;
use super::text::sanitize;
use crate::model::architecture::ArchitectureClass;
use crate::model::source::Source;
use crate::results::metric::{Metric, TaskColumn};
use crate::results::record::RunRecord;
use crate::results::summary::{ModelSummary, Summary};
use std::fmt::Write as _;

/// What Markdown is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Card {
    /// A comment that is read at a glance, the rest folded
    #[default]
    PullRequest,
    /// The README of a repository on the Hugging Face hub, with front matter
    ModelCard,
}

pub(super) fn render(run: &RunRecord, summary: &Summary, card: Card) -> String {
    match card {
        Card::PullRequest => pull_request(run, summary),
        Card::ModelCard => model_card(run, summary),
    }
}

fn pull_request(run: &RunRecord, summary: &Summary) -> String {
    let mut parts = vec![format!("### {}", escape(&sanitize(&run.name)))];
    parts.extend(findings(run, summary).iter().map(|it| escape(it)));
    let cautions =
        [notes::failures(summary), notes::unmeasured(run), notes::cautions(run, summary)].concat();
    parts.extend(cautions.iter().map(|it| format!("> {}", escape(it))));
    parts.extend(tables(summary, DECIDES));
    parts.push("<details><summary>All figures, machine and commands</summary>".to_owned());
    parts.extend(tables(summary, ESSENTIAL));
    parts.push(list(&notes::grounds(run, summary)));
    parts.push(header(run).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\\\n"));
    parts.push(recipes(run));
    parts.push("</details>".to_owned());
    joined(parts)
}

fn joined(parts: Vec<String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}\n", parts.join("\n\n"))
}

fn list(notes: &[String]) -> String {
    notes.iter().map(|note| format!("- {}", escape(note))).collect::<Vec<_>>().join("\n")
}

/// The comparison's columns from an importance on.
fn tables(summary: &Summary, importance: u32) -> Vec<String> {
    let mut table: Table = comparison(summary);
    table.columns.retain(|column| column.importance >= importance);
    let several = table.groups.len() > 1;
    let mut parts = Vec::new();
    for group in &table.groups {
        parts.extend(several.then(|| format!("**{}**", escape(&group.heading))));
        parts.push(draw(&table.columns, group).join("\n"));
    }
    parts.extend(legend(&table));
    parts
}

fn recipes(run: &RunRecord) -> String {
    let lines: Vec<String> = run.trials.iter().flat_map(|trial| commands(run, trial)).collect();
    format!("```sh\n{}\n```", lines.join("\n"))
}

fn model_card(run: &RunRecord, summary: &Summary) -> String {
    let mut parts = vec![front_matter(run, summary)];
    for model in &summary.models {
        parts.push(format!("# {}, quantized", escape(&sanitize(&model.name))));
    }
    parts.push(
        "Quantized variants of one model, measured side by side on one machine: size, speed, memory, and how far each \
         answers from the original."
            .to_owned(),
    );
    parts.push("## Which one to take".to_owned());
    parts.extend(findings(run, summary).iter().map(|it| escape(it)));
    for Next { sentence, commands } in next(run, summary) {
        parts.push(escape(&sentence));
        parts.push(format!("```sh\n{}\n```", commands.join("\n")));
    }
    parts.push("## Figures".to_owned());
    parts.extend(tables(summary, ESSENTIAL));
    let cautions =
        [notes::failures(summary), notes::unmeasured(run), notes::cautions(run, summary)].concat();
    if !cautions.is_empty() {
        parts.push("## What to beware of".to_owned());
        parts.push(list(&cautions));
    }
    parts.push("## How it was measured".to_owned());
    parts.push(header(run).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\\\n"));
    parts.push(list(&notes::grounds(run, summary)));
    parts.push(recipes(run));
    joined(parts)
}

/// A text as YAML reads it: JSON's quotes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(sanitize(text)).to_string()
}

fn front_matter(run: &RunRecord, summary: &Summary) -> String {
    let mut yaml = String::from("---\n");
    let repository = |model: &ModelSummary| {
        let trial = run.trials.iter().find(|trial| trial.model == model.name)?;
        match source(run, trial)? {
            Source::Repository { repository, .. } | Source::Hub { repository, .. } => {
                Some(repository)
            }
            _ => None,
        }
    };
    let bases: Vec<String> = summary.models.iter().filter_map(repository).collect();
    if !bases.is_empty() {
        let _ = writeln!(yaml, "base_model:");
        for base in bases {
            let _ = writeln!(yaml, "- {}", quoted(&base));
        }
        let _ = writeln!(yaml, "base_model_relation: quantized");
    }
    let generates = |model: &ModelSummary| {
        model.facts.as_ref().is_some_and(|facts| facts.class == ArchitectureClass::DecoderOnly)
    };
    if !summary.models.is_empty() && summary.models.iter().all(generates) {
        let _ = writeln!(yaml, "pipeline_tag: text-generation");
    }
    let _ = writeln!(yaml, "tags:\n- gguf\n- quantized\n- quantbench\nmodel-index:");
    for model in &summary.models {
        let _ = writeln!(
            yaml,
            "- name: {}\n  results:{}",
            quoted(&model.name),
            results(run, summary, model)
        );
    }
    yaml.push_str("---");
    yaml
}

/// What has a field there: tasks and perplexity, of every variant. Speed, memory and divergence have none.
fn results(run: &RunRecord, summary: &Summary, model: &ModelSummary) -> String {
    let mut yaml = String::new();
    for &row in model.groups.iter().flat_map(|group| &group.rows) {
        let label = super::plot::label(summary, row);
        for (metric, figure) in &summary.rows[row].figures {
            let value = figure.estimate.value;
            let (task, dataset, name, kind) = match metric {
                Metric::Task(column) => {
                    let (use_case, dataset) = told(run, *column);
                    let kind = match column.metric.to_string().as_str() {
                        "acc" => "accuracy".to_owned(),
                        other => other.to_owned(),
                    };
                    (use_case, dataset, column.task.to_string(), kind)
                }
                Metric::Perplexity => {
                    let text = notes::text_of(run);
                    ("text-generation".to_owned(), "text".to_owned(), text, "perplexity".to_owned())
                }
                _ => continue,
            };
            let _ = write!(
                yaml,
                "\n  - task:\n      type: {}\n    dataset:\n      type: {}\n      name: {}\n    metrics:\n    - type: {}\n      \
                 value: {value}\n      name: {}",
                quoted(&task),
                quoted(&dataset),
                quoted(&name),
                quoted(&kind),
                quoted(&format!("{}, {label}", metric.label())),
            );
        }
    }
    if yaml.is_empty() { " []".to_owned() } else { yaml }
}

/// The use case of a task and the data set of its questions, as the experiment tells them.
fn told(run: &RunRecord, column: TaskColumn) -> (String, String) {
    let (name, _) = column.task.parts();
    let models = run.experiment.get("models").and_then(serde_json::Value::as_array);
    let all = models.into_iter().flatten().chain([&run.experiment]);
    let tasks = all.filter_map(|it| it.pointer("/workloads/tasks")?.as_array()).flatten();
    let mut own = tasks.filter(|task| task.get("name").and_then(|it| it.as_str()) == Some(name));
    let own = own.next_back();
    let text = |key: &str| own.and_then(|own| own.get(key)?.as_str()).map(str::to_owned);
    let dataset = text("dataset").unwrap_or_else(|| name.to_owned());
    let dataset = match dataset.strip_prefix("hf://datasets/") {
        Some(path) => path.split('/').take(2).collect::<Vec<_>>().join("/"),
        None => dataset.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
    };
    (text("use_case").unwrap_or_else(|| "text-generation".to_owned()), dataset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::TaskMetric;
    use crate::results::made_up::{LADDER, MadeUp, answered};

    fn run() -> RunRecord {
        let mut run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
        for (at, trial) in run.trials.iter_mut().enumerate() {
            let counts = (0..40).map(|question| f64::from(u8::from(question % 4 > at))).collect();
            trial.tasks = vec![answered("arc", TaskMetric::Accuracy, counts)];
        }
        run.experiment["workloads"] = serde_json::json!({ "tasks": [{
            "name": "arc", "dataset": "hf://datasets/allenai/ai2_arc/easy.jsonl", "use_case": "question-answering",
        }] });
        run.experiment["models"] = serde_json::json!([{
            "name": "llama-3.2-1b",
            "source": Source::parse("unsloth/Llama-GGUF", std::path::Path::new("")).unwrap(),
        }]);
        run
    }

    fn shown(run: &RunRecord, card: Card) -> String {
        render(run, &Summary::of(run), card)
    }

    #[test]
    fn a_card_begins_with_what_the_hub_reads() {
        insta::assert_snapshot!(shown(&run(), Card::ModelCard).split("\n---\n").next().unwrap());
    }

    #[test]
    fn a_pull_request_says_first_what_to_take_and_folds_the_rest() {
        let text = shown(&run(), Card::PullRequest);
        let folded = text.find("<details>").unwrap();
        assert!(
            text.find("Best trade-off").unwrap() < folded && text.find("| KLD").unwrap() < folded,
            "{text}"
        );
        assert!(
            text.find("quantbench bench -m").unwrap() > folded && text.ends_with("</details>\n"),
            "{text}"
        );
    }

    #[test]
    fn names_are_text_in_front_matter_and_tables() {
        let mut run = run();
        run.trials[1].label = "x\"\n---\n<b>|".to_owned();
        let card = shown(&run, Card::ModelCard);
        assert_eq!(card.lines().filter(|line| *line == "---").count(), 2, "{card}");
        assert!(card.contains("\\<b\\>\\|") && card.contains("x\\\" --- <b>|\""), "{card}");
    }
}
