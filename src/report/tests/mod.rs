//! Reports of made-up runs.

mod compare;
mod exact;
mod formats;
mod hostile;
mod words;

use super::{Format, RenderOptions, render};
use crate::experiment::requirements::Requirements;
use crate::experiment::settings::Settings;
use crate::results::annotations::{Annotations, Origin};
use crate::results::made_up::{LADDER, MadeUp, Truth, fail};
use crate::results::record::RunRecord;
use crate::worker::protocol::Phase;
use unicode_width::UnicodeWidthStr;

fn show(format: Format, run: &RunRecord, columns: usize) -> String {
    let options = RenderOptions { columns, color: false };
    String::from_utf8(render(format, run, &options).unwrap()).unwrap()
}

fn table(run: &RunRecord, columns: usize) -> String {
    show(Format::Table, run, columns)
}

fn needs() -> Requirements {
    let memory = 1100.0 * 1_048_576.0;
    Requirements::of(&[("max_memory", memory), ("min_generation_tps", 34.0), ("max_kld", 0.05)])
}

fn with_needs_and_failures() -> RunRecord {
    let mut run = MadeUp::default().run();
    run.requirements = needs();
    let reason = "killed by signal 9, probably out of memory (peak 1.2 GiB of 2.0 GiB)";
    fail(&mut run, 11, 2, Phase::Latency, reason);
    fail(&mut run, 3, 0, Phase::Load, "no \u{1b}[31msuch file");
    run
}

fn all_failed() -> RunRecord {
    let mut run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
    for trial in 0..3 {
        fail(&mut run, trial, 0, Phase::Load, "llama.cpp: unknown model architecture");
    }
    run
}

fn three_settings() -> RunRecord {
    let settings = vec![
        Settings::default(),
        Settings { threads: Some(4), ..Settings::default() },
        Settings { threads: Some(2), ..Settings::default() },
    ];
    let variants = [LADDER[0], LADDER[1], LADDER[5], LADDER[11]].to_vec();
    MadeUp { variants, settings, ..MadeUp::default() }.run()
}

fn two_models() -> RunRecord {
    let models = vec!["llama-3.2-1b", "qwen-0.5b"];
    MadeUp { models, variants: LADDER[..5].to_vec(), ..MadeUp::default() }.run()
}

fn wide_names() -> RunRecord {
    let labels = [
        "千问大模型-Q8_0",
        "Meta-Llama-3.1-8B-Instruct-imatrix-wikitext-Q6_K",
        "a\u{1b}[2Jb\nc|d`e\u{202e}",
        "модель-Q5_0",
    ];
    let mut variants = LADDER[..5].to_vec();
    for (variant, label) in variants[1..].iter_mut().zip(labels) {
        *variant = Truth { label, ..*variant };
    }
    MadeUp { variants, ..MadeUp::default() }.run()
}

/// Every kind of run that a report may meet.
fn all_runs() -> Vec<(&'static str, RunRecord)> {
    let made = MadeUp::default;
    let mut unfinished = made().run();
    unfinished.finished = None;
    for trial in unfinished.trials.iter_mut().skip(4) {
        trial.visits.truncate(2);
    }
    let origin = Origin {
        run: "2026-11-22-bcdf".to_owned(),
        host: "board".to_owned(),
        source: "board.sqlite".to_owned(),
        merged: made().run().started,
    };
    let annotations = Annotations {
        tags: ["nightly".to_owned()].into(),
        note: Some("after the update".to_owned()),
        origin: Some(origin),
    };
    let empty = RunRecord { trials: Vec::new(), drift_controls: Vec::new(), ..made().run() };
    vec![
        ("twelve", made().run()),
        ("needs and failures", with_needs_and_failures()),
        ("unfinished", unfinished),
        ("empty", empty),
        ("annotated", RunRecord { annotations, ..made().run() }),
        ("all failed", all_failed()),
        ("one variant", MadeUp { variants: vec![LADDER[5]], ..made() }.run()),
        ("no quality", MadeUp { quality: false, ..made() }.run()),
        ("one round, no latency", MadeUp { prompts: 0, rounds: 1, ..made() }.run()),
        ("three settings", three_settings()),
        ("two models", two_models()),
        ("wide names", wide_names()),
        ("gpu", MadeUp { gpu: true, ..made() }.run()),
        ("noisy", MadeUp { noise: 0.08, ..made() }.run()),
    ]
}

/// Width of the widest line, commands apart: they are whole, so that they can be copied.
fn widest(text: &str) -> usize {
    let lines = text.lines().filter(|line| !line.starts_with("$ "));
    lines.map(UnicodeWidthStr::width).max().unwrap_or(0)
}
