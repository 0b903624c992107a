//! The page: one HTML file that shows runs and holds their data, and asks nothing of any network.
//!
//! `page.html`, `run.html` and `parts.html` are templates, in which all text is escaped; `report.css` is the look and
//! `report.js` what a person can do with the page. `table` is the comparison as the template reads it, `answers` what
//! variants answer beside the reference, `data` the raw data within the page, `recipes` how every row is got again, `environment` what was measured on,
//! `together` several runs of one model side by side. Charts come from `super::plot`.

mod answers;
mod data;
mod environment;
mod recipes;
mod table;
#[cfg(test)]
mod tests;
mod together;

pub(super) use recipes::commands;

use super::findings::{findings, fronts};
use super::header::header;
use super::next::next;
use super::notes::{self, arrow};
use super::plot::{self, Plot, svg};
use super::text::{NO_BREAK_SPACE, sanitize};
use super::{columns, csv, json, numbers, recommend, unwritable};
use crate::causes::Problem;
use crate::model::cache::of_bytes;
use crate::results::each_once;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use data::Data;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;
use table::{Comparison, Words};

const TEMPLATES: [(&str, &str); 4] = [
    ("page.html", include_str!("page.html")),
    ("run.html", include_str!("run.html")),
    ("parts.html", include_str!("parts.html")),
    ("chart.html", "{%- from \"parts.html\" import chart -%}{{ chart(it, run, false) }}"),
];
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// From so many plots on a chapter is folded: each is drawn when it is opened.
const FOLDED: usize = 9;

/// From so many on what is folded is packed, too: a page of a hundred trials stays small.
const PACKED: usize = 20;

#[derive(Serialize)]
struct Page {
    title: String,
    version: &'static str,
    nonce: String,
    style: Value,
    script: Value,
    common: Option<together::Together>,
    runs: Vec<Part>,
    definitions: Vec<Definition>,
}

/// One run of the page.
#[derive(Serialize)]
struct Part {
    /// Anchor.
    id: String,
    name: String,
    run: String,
    lines: Vec<String>,
    choices: Vec<Choice>,
    findings: Vec<String>,
    next: Vec<Announced>,
    cautions: Vec<String>,
    notes: Vec<String>,
    table: Comparison,
    legend: String,
    chapters: Vec<Chapter>,
    answers: Vec<answers::Answer>,
    answers_note: String,
    other_words: &'static str,
    hosts: Vec<environment::Host>,
    recipes: Vec<recipes::Recipe>,
    recipe_note: String,
    experiment: String,
    json: Data,
    csv: Data,
}

#[derive(Serialize)]
struct Announced {
    sentence: String,
    commands: Vec<String>,
}

/// What is chosen, with the figures that it is chosen by.
#[derive(Serialize)]
struct Choice {
    word: String,
    label: String,
    whose: String,
    tiles: Vec<Tile>,
}

#[derive(Serialize)]
struct Tile {
    title: String,
    value: String,
    unit: &'static str,
    more: String,
}

#[derive(Serialize)]
struct Chapter {
    id: String,
    title: &'static str,
    folded: bool,
    /// Whether any answer has times of its tokens.
    answers_by_token: bool,
    plots: Vec<Chart>,
}

#[derive(Serialize)]
struct Chart {
    name: String,
    title: String,
    reading: String,
    svg: Value,
    table: Words,
    /// All of it as HTML, packed; undefined: it is not.
    packed: Value,
}

#[derive(Serialize)]
struct Definition {
    title: String,
    unit: &'static str,
    meaning: &'static str,
}

/// A page that shows runs, in their order.
///
/// # Errors
/// A value of a record has no form in JSON or CSV.
pub(super) fn page(runs: &[RunRecord]) -> Result<Vec<u8>, Problem> {
    let summaries: Vec<Summary> = runs.iter().map(Summary::of).collect();
    let shown: Vec<(&RunRecord, &Summary)> = runs.iter().zip(&summaries).collect();
    let mut environment = Environment::new();
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).map_err(template_problem)?;
    }
    let parts = shown.iter().enumerate().map(|(at, (run, summary))| part(at, run, summary));
    let mut parts = parts.collect::<Result<Vec<Part>, Problem>>()?;
    parts.iter_mut().try_for_each(|part| pack(&environment, part)).map_err(template_problem)?;
    let title = match runs {
        [only] => sanitize(&only.name),
        several => format!("{} runs", several.len()),
    };
    let metrics = each_once(summaries.iter().flat_map(|summary| summary.metrics.iter().copied()));
    let ids: Vec<String> = parts.iter().map(|part| part.json.text.to_string()).collect();
    let page = Page {
        title,
        version: env!("CARGO_PKG_VERSION"),
        // Nothing that a run holds knows it: what got past the escapes would still not run.
        nonce: of_bytes(ids.concat().as_bytes()),
        style: Value::from_safe_string(STYLE.to_owned()),
        script: Value::from_safe_string(SCRIPT.to_owned()),
        common: together::of(&shown),
        runs: parts,
        definitions: metrics.into_iter().map(definition).collect(),
    };
    let template = environment.get_template("page.html").map_err(template_problem)?;
    let html = template.render(Serde(&page)).map_err(template_problem)?;
    Ok(html.into_bytes())
}

/// A chart alone, as its summary has its title.
#[derive(Serialize)]
struct Folded<'a> {
    it: &'a Chart,
    run: &'a str,
}

/// Packs the charts of chapters that are folded and have many.
fn pack(environment: &Environment<'_>, part: &mut Part) -> Result<(), minijinja::Error> {
    let template = environment.get_template("chart.html")?;
    for chapter in part.chapters.iter_mut().filter(|it| it.folded && it.plots.len() >= PACKED) {
        for chart in &mut chapter.plots {
            let html = template.render(Serde(&Folded { it: chart, run: &part.id }))?;
            // Base 64 has no letter that means something in HTML.
            chart.packed = data::packed(&html).map_or(Value::UNDEFINED, Value::from_safe_string);
            (chart.svg, chart.table) = (Value::UNDEFINED, Words::default());
        }
    }
    Ok(())
}

fn template_problem(source: minijinja::Error) -> Problem {
    Problem::because("the page could not be made", source)
}

fn part(at: usize, run: &RunRecord, summary: &Summary) -> Result<Part, Problem> {
    let shown = columns::comparison(summary);
    let id = format!("run-{}", at + 1);
    let found = match &summary.recommendation {
        Some(found) => [recommend::verdict(run, summary, found), fronts(summary)].concat(),
        None => findings(run, summary),
    };
    let cautions =
        [notes::failures(summary), notes::unmeasured(run), notes::cautions(run, summary)].concat();
    let mut rests: Vec<String> = notes::unstable_throughout(&shown).into_iter().collect();
    rests.extend(notes::not_measured(run));
    rests.extend(notes::grounds(run, summary));
    rests.extend(super::domains::notes(summary));
    if let Some(found) = &summary.recommendation {
        rests.extend(recommend::proofs(run, summary, found));
    }
    let announced = next(run, summary).into_iter();
    let announced = announced.map(|it| Announced { sentence: it.sentence, commands: it.commands });
    let json = json::line(run, summary).map_err(unwritable(run, "JSON"))?;
    let (answers, answers_note) = answers::of(run, summary);
    Ok(Part {
        name: sanitize(&run.name),
        run: sanitize(&run.id),
        lines: header(run),
        choices: choices(summary),
        findings: found,
        next: announced.collect(),
        cautions,
        notes: rests,
        table: Comparison::of(&shown),
        legend: legend(summary, &shown),
        chapters: chapters(run, summary)?,
        answers,
        answers_note,
        other_words: answers::OTHER_WORDS,
        hosts: environment::hosts(run),
        recipes: recipes::of(run, summary),
        recipe_note: recipes::note(run),
        experiment: recipes::experiment(run),
        json: Data::of(String::from_utf8_lossy(&json).trim_end()),
        csv: Data::of(&quoted_csv(run, summary)?),
        id,
    })
}

/// A CSV as a JSON string.
fn quoted_csv(run: &RunRecord, summary: &Summary) -> Result<String, Problem> {
    let csv = csv::render(run, summary).map_err(unwritable(run, "CSV"))?;
    serde_json::to_string(&String::from_utf8_lossy(&csv)).map_err(unwritable(run, "CSV"))
}

fn choices(summary: &Summary) -> Vec<Choice> {
    let models = summary.models.iter().filter_map(|model| {
        let row = model.choice.as_ref()?.row;
        let several = summary.models.len() > 1;
        let whose = if several { format!("of {}", sanitize(&model.name)) } else { String::new() };
        Some(Choice {
            word: capital(arrow(summary)),
            label: plot::label(summary, row),
            whose,
            tiles: tiles(summary, row),
        })
    });
    models.collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The figures that decide.
fn tiles(summary: &Summary, row: usize) -> Vec<Tile> {
    let prompt = summary.metrics.iter().copied().find(|metric| match metric {
        Metric::Speed(test) => test.generated_tokens == 0 && test.depth == 0 && !test.embeds,
        _ => false,
    });
    let wanted = [
        Some(Metric::FileBytes),
        Some(Metric::PeakRssBytes),
        Some(Metric::DeviceBytes),
        summary.generation.map(Metric::Speed),
        prompt,
        Some(Metric::Ttft90Seconds),
        Some(Metric::Kld),
        Some(Metric::TopTokenAgreement),
        Some(Metric::JoulesPerToken),
    ];
    let tile = |metric: Metric| {
        let estimate = summary.rows[row].figures.get(&metric)?.estimate;
        let (unit, scale) = numbers::Scale::of(metric.descriptor().shown, &[estimate.value]);
        let interval = estimate.interval.filter(|_| metric.descriptor().has_interval);
        let more = interval.map_or_else(String::new, |interval| {
            format!("95 %: {} to {}", scale.show(interval.low), scale.show(interval.high))
        });
        let unit = if metric == Metric::Kld { "nats" } else { unit };
        Some(Tile { title: metric.label(), value: scale.show(estimate.value), unit, more })
    };
    wanted.into_iter().flatten().filter_map(tile).collect()
}

fn legend(summary: &Summary, shown: &super::table::Table) -> String {
    let text = notes::legend(summary, shown).unwrap_or_default();
    // What a terminal marks with a star is bold here.
    text.replace(NO_BREAK_SPACE, " ").replace("* best", "bold: best").replace("   ", " · ")
}

fn chapters(run: &RunRecord, summary: &Summary) -> Result<Vec<Chapter>, Problem> {
    let chapter = |chapter: plot::Chapter| {
        let plots = chapter.plots.iter().map(chart).collect::<Result<Vec<Chart>, Problem>>()?;
        let id = chapter.title.to_lowercase().replace(' ', "-");
        let answers_by_token = plots.iter().any(|plot| plot.name.starts_with("tokens"));
        let folded = chapter.title == "Hardware" || plots.len() >= FOLDED;
        Ok(Chapter { id, title: chapter.title, folded, answers_by_token, plots })
    };
    plot::all(run, summary).into_iter().map(chapter).collect()
}

fn chart(plot: &Plot) -> Result<Chart, Problem> {
    Ok(Chart {
        name: plot.name.clone(),
        title: plot.title.clone(),
        reading: plot.reading.clone(),
        svg: Value::from_safe_string(svg::draw(plot, svg::Use::InPage)?),
        table: Words::of(&plot.table),
        packed: Value::UNDEFINED,
    })
}

fn definition(metric: Metric) -> Definition {
    let descriptor = metric.descriptor();
    let (unit, _) = numbers::Scale::of(descriptor.shown, &[1.0]);
    Definition { title: metric.label(), unit, meaning: descriptor.definition }
}
