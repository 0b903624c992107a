//! How it is shown: the verdict first, what was tried, then what to type.

use super::found::{Conclusion, Finalist, Found};
use super::{goal, written};
use crate::cli::output;
use crate::error::Error;
use crate::experiment::settings::Settings;
use crate::experiment::tuning::Goal;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::{Column, Group, Table};
use crate::report::terminal::{self, Look};
use crate::results::gain::course;
use crate::statistics::estimate::{Estimate, Interval};
use crate::units::{count, significant};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Settings with several changes that are shown.
const MOST_TOGETHER: usize = 6;

/// An interval that reaches further than this part to each side leaves open whether there is a gain.
const WIDE: f64 = 0.05;

/// What was tried.
struct Row<'a> {
    settings: &'a Settings,
    /// How many times as fast as the defaults, in the search, with the interval for all that were tried together.
    gain: Option<Estimate>,
    /// The speed, geometric mean over the tests.
    speed: Option<f64>,
    word: &'static str,
}

fn name(found: &Found) -> String {
    let trial = &found.search.trials[0];
    let label = if trial.model.contains(&trial.label) { "" } else { &trial.label };
    sanitize(&format!("{} {label}", trial.model))
}

/// The answer in a sentence.
pub(super) fn verdict(found: &Found) -> String {
    let name = name(found);
    let goal = found.used.goal;
    if let Some(failure) = found.failure() {
        return format!("{name}: could not be measured ({}: {})", failure.phase, failure.reason);
    }
    if let Some(winner) = found.winner() {
        let speeds = found.speeds_in_words(winner).map_or_else(String::new, |it| format!(", {it}"));
        return format!(
            "{name}: {} for {goal} with {}{speeds}",
            times(winner.gain),
            winner.settings
        );
    }
    let Some(best) = found.finalists.first() else {
        if found.is_interrupted() {
            return format!(
                "{name}: interrupted before anything faster than the defaults was seen"
            );
        }
        if found.placings.is_empty() {
            return format!(
                "{name}: nothing is known of {goal}: there was no time to try any other settings than the defaults; a longer --budget is needed"
            );
        }
        let tried = count(found.placings.len(), "other setting");
        return format!("{name}: keep the defaults for {goal}: none of {tried} is faster");
    };
    let settings = &best.settings;
    match best.verdict {
        Conclusion::Unproved => {
            let searched = (best.placing.lead.mean).exp();
            format!(
                "{name}: not proved yet; so far {settings} seems {} times as fast for {goal}",
                significant(searched, 3)
            )
        }
        Conclusion::TooLossy => format!(
            "{name}: keep the defaults for {goal}: {settings} is {}, but diverges by {} nats from them, more than {}",
            times(best.gain),
            significant(best.kld.unwrap_or(f64::NAN), 2),
            found.limit
        ),
        _ => {
            // A wide interval is no finding that there is no gain.
            let is_open = best.verdict == Conclusion::NoDifference
                && best.gain.and_then(|it| it.relative_half_width()).is_some_and(|it| it > WIDE);
            let more = if is_open {
                "; the noise hides whether it is: a longer --budget or a quieter machine would tell"
            } else {
                ""
            };
            format!(
                "{name}: keep the defaults for {goal}: {settings}, the fastest of {} in the search, is {} in the proof{more}",
                count(found.placings.len(), "setting"),
                times(best.gain)
            )
        }
    }
}

/// `1.27 times as fast (1.22 to 1.33)`.
fn times(gain: Option<Estimate>) -> String {
    match gain {
        Some(Estimate { value, interval: Some(Interval { low, high }), .. }) => {
            format!("{value:.3} times as fast ({low:.3} to {high:.3})")
        }
        Some(Estimate { value, interval: None, .. }) => format!("{value:.3} times as fast"),
        None => "not measured".to_owned(),
    }
}

fn rows(found: &Found) -> Vec<Row<'_>> {
    let tests = found.used.tests();
    let race = crate::statistics::race::Race {
        courses: found.search.trials.iter().map(|trial| course(trial, &tests)).collect(),
    };
    let spread = race.spread();
    let speed = |trial: usize| {
        let course = race.courses.get(trial)?;
        let sum: f64 = course.values().sum();
        let rounds = u32::try_from(course.len()).ok().filter(|&rounds| rounds > 0)?;
        Some((sum / f64::from(rounds)).exp())
    };
    let tried = found.placings.len();
    let mut rows = vec![Row { settings: &found.space.base, gain: None, speed: speed(0), word: "" }];
    let mut together = 0;
    for placing in &found.placings {
        let settings = &found.search.trials[placing.trial].settings;
        if found.space.changes(settings).len() > 1 {
            together += 1;
            let is_finalist = found.finalists.iter().any(|it| it.settings == *settings);
            if together > MOST_TOGETHER && !is_finalist {
                continue;
            }
        }
        let lead = placing.lead;
        let half = spread.filter(|_| lead.rounds > 1).map(|it| it.half_width(lead, tried));
        let interval = half.map(|half| Interval { low: lead.mean - half, high: lead.mean + half });
        let gain = Estimate { value: lead.mean, interval, n: lead.rounds }.map(f64::exp);
        let word = match gain.interval {
            Some(interval) if interval.low > 1.0 => "faster",
            Some(interval) if interval.high < 1.0 => "slower",
            Some(_) => "no difference seen",
            None if lead.mean < -0.2 => "far behind",
            None => "seen once",
        };
        rows.push(Row { settings, gain: Some(gain), speed: speed(placing.trial), word });
    }
    rows
}

pub(super) fn table(found: &Found) -> String {
    let mut text = format!("{}\n", sanitize(&verdict(found)));
    for finalist in &found.finalists {
        text.push_str(&evidence(found, finalist));
    }
    let rows = rows(found);
    let unit = if found.used.goal == Goal::Balanced { "t/s (mean)" } else { "t/s" };
    let column = |title: &str, align, cell: &dyn Fn(&Row<'_>) -> Option<String>| {
        Column::of_words(title, align, rows.iter().map(cell).collect())
    };
    let columns = vec![
        column("tried", Left, &|row| Some(row.settings.to_string())),
        column(unit, Right, &|row| row.speed.map(|it| significant(it, 3))),
        column("times as fast", Right, &|row| row.gain.map(|it| format!("{:.3}", it.value))),
        column("95 %", Left, &|row| {
            let interval = row.gain?.interval?;
            Some(format!("{:.3} to {:.3}", interval.low, interval.high))
        }),
        column("rounds", Right, &|row| row.gain.map(|it| it.n.to_string())),
        column("", Left, &|row| Some(row.word.to_owned())),
    ];
    let all = vec![Group { heading: String::new(), rows: (0..rows.len()).collect() }];
    let _ = writeln!(text, "\nThe search, {}:", goal(&found.used));
    text.push_str(&terminal::text(&Table { columns, groups: all }, &Look::default()));
    text.push_str(&curve(found));
    text.push_str(&requests(found));
    for reason in &found.left_out {
        let _ = writeln!(text, "left out: {}", sanitize(reason));
    }
    let unvisited = found.search.trials.iter().filter(|it| it.visits.is_empty()).count();
    if unvisited > 0 && !found.is_interrupted() {
        let _ = writeln!(text, "not tried for lack of time: {}", count(unvisited, "setting"));
    }
    text.push_str(
        "times as fast: against the defaults in the same rounds; intervals are for all rows together, so that none is called\n\
         faster by chance.",
    );
    text.push_str(if found.is_onnx() {
        " t: threads, spin: spinning, ub: ubatch, opt: graph_optimization.\n"
    } else {
        " Settings are spelled as llama-bench's flags.\n"
    });
    text.push_str(&next(found));
    text
}

/// What the proof says of a finalist.
fn evidence(found: &Found, finalist: &Finalist) -> String {
    let Some(proof) = &found.proof else { return String::new() };
    let rounds = finalist.gain.map_or(0, |gain| gain.n);
    let mut text = String::new();
    let pairs = count(rounds, "fresh pair");
    let _ = write!(
        text,
        "proof: {} against the defaults in {pairs} of real prompts: {}",
        finalist.settings,
        times(finalist.gain)
    );
    match finalist.kld {
        Some(kld) => {
            let _ = write!(text, "; divergence from the defaults {} nats", significant(kld, 2));
        }
        None if proof.experiment.pointer("/workloads/quality").is_none_or(Value::is_null) => {
            let same =
                crate::experiment::tuning::same_numbers(&finalist.settings, &found.space.base);
            text.push_str(if same { "; the same answers" } else { "; divergence not measured" });
        }
        None => text.push_str("; divergence not measured"),
    }
    text.push('\n');
    text
}

/// The speeds by requests side by side.
fn requests(found: &Found) -> String {
    let shown: Vec<String> = found
        .swept
        .iter()
        .map(|(count, speed)| format!("{count}: {}", significant(*speed, 3)))
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    let (shown, taken) = (shown.join(", "), found.used.parallel);
    format!(
        "requests side by side and t/s of generation: {shown}; {taken} taken, more gain less than 5 % (--parallel N takes others)\n"
    )
}

/// The speeds by layers on the GPU, and the last that matters.
fn curve(found: &Found) -> String {
    let Some(points) = offload(found) else { return String::new() };
    let shown: Vec<String> = points
        .iter()
        .map(|(layers, speed)| format!("{layers}: {}", significant(*speed, 3)))
        .collect();
    let mut text = format!("\nlayers on the GPU and t/s: {}\n", shown.join(", "));
    let steps = points.windows(2).map(|pair| {
        let per_layer = (pair[1].1 / pair[0].1).ln() / f64::from((pair[1].0 - pair[0].0).max(1));
        (pair[0].0, pair[1].0, per_layer)
    });
    if let Some((from, to, per_layer)) = steps.max_by(|one, other| one.2.total_cmp(&other.2)) {
        let percent = (per_layer.exp() - 1.0) * 100.0;
        let _ = writeln!(
            text,
            "the steepest step is from {from} to {to} layers: {} % for each",
            significant(percent, 2)
        );
    }
    text
}

/// Layers on the GPU with speeds, ascending; `None`: there is no GPU, or one point alone.
fn offload(found: &Found) -> Option<Vec<(u32, f64)>> {
    let factor = found.space.factors.iter().find(|it| it.name() == "gpu_layers")?;
    let layers = found.search.trials[0].facts.as_ref()?.layers + 1;
    let rows = rows(found);
    let mut points: Vec<(u32, f64)> = rows
        .iter()
        .filter(|row| {
            let changes = found.space.changes(row.settings);
            changes.iter().all(|(changed, _)| *changed == factor)
        })
        .filter_map(|row| {
            let own = u32::try_from(row.settings.gpu_layers).unwrap_or(layers);
            Some((own, row.speed?))
        })
        .collect();
    points.sort_by_key(|point| point.0);
    (points.len() > 1).then_some(points)
}

/// What to type.
fn next(found: &Found) -> String {
    let mut text = String::new();
    if found.winner().is_none() {
        return text;
    }
    let _ = writeln!(text, "\nTo use them:");
    let settings = found.settings();
    let (server, bench) = written::commands(found);
    for command in server.iter().chain(&bench) {
        let _ = writeln!(text, "  {}", sanitize(command));
    }
    if found.is_onnx() {
        let _ = writeln!(text, "  {}", written::session_options(settings));
    }
    let _ = writeln!(text, "In an experiment of quantbench (--toml FILE writes a whole one):");
    for line in written::settings_toml(settings).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

pub(super) fn json(found: &Found) -> Result<String, Error> {
    let estimate = |it: &Option<Estimate>| json!(it);
    let finalists: Vec<Value> = found
        .finalists
        .iter()
        .map(|it| {
            json!({
                "settings": it.settings,
                "verdict": it.verdict,
                "gain": estimate(&it.gain),
                "kld_nats": it.kld,
            })
        })
        .collect();
    let tried: Vec<Value> = rows(found)
        .iter()
        .map(|row| {
            json!({
                "settings": row.settings,
                "in_words": row.settings.to_string(),
                "tokens_per_second": row.speed,
                "gain": estimate(&row.gain),
            })
        })
        .collect();
    let tests: Vec<String> = found.used.tests().iter().map(ToString::to_string).collect();
    let offload = offload(found).map(|points| {
        let point = |(layers, speed)| json!({"gpu_layers": layers, "tokens_per_second": speed});
        points.into_iter().map(point).collect::<Vec<_>>()
    });
    let request =
        |(count, speed): &(u32, f64)| json!({"parallel": count, "tokens_per_second": speed});
    let (file, settings) = (written::file(found), found.settings());
    let (server, bench) = written::commands(found);
    let requests: Vec<Value> = found.swept.iter().map(request).collect();
    output::json(
        "quantbench.tune",
        json!({
            "model": found.search.trials[0].model,
            "label": found.search.trials[0].label,
            "file": file,
            "use": found.used,
            "tests": tests,
            "in_words": verdict(found),
            "interrupted": found.is_interrupted(),
            "changes_defaults": found.winner().is_some(),
            "settings": settings,
            "finalists": finalists,
            "kld_limit_nats": found.limit,
            "tried": tried,
            "offload": offload,
            "requests": requests,
            "left_out": found.left_out,
            "toml": written::settings_toml(settings),
            "llama_server": server,
            "llama_bench": bench,
            "search_run": found.search.id,
            "proof_run": found.proof.as_ref().map(|proof| &proof.id),
        }),
    )
}
