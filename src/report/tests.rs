//! Reports of made-up runs.

use super::{Format, RenderOptions, render};
use crate::experiment::requirements::Requirements;
use crate::experiment::settings::Settings;
use crate::results::made_up::{LADDER, MadeUp, Truth, fail};
use crate::results::record::RunRecord;
use crate::worker::protocol::Phase;

fn show(title: &str, run: &RunRecord, columns: usize) {
    let text = render(Format::Table, run, &RenderOptions { columns, color: false }).unwrap();
    println!("\n######## {title} ({columns})\n{}", String::from_utf8(text).unwrap());
}

#[test]
fn look() {
    let mut run = MadeUp::default().run();
    show("twelve", &run, 100);
    run.requirements = Requirements {
        max_memory_bytes: Some(1100 << 20),
        min_generation_tokens_per_second: Some(34.0),
        max_ttft_ms: None,
        max_kld: Some(0.05),
        max_perplexity_increase: None,
    };
    fail(
        &mut run,
        11,
        2,
        Phase::Latency,
        "killed by signal 9, probably out of memory (peak 1.2 GiB of 2.0 GiB)",
    );
    fail(&mut run, 3, 0, Phase::Load, "no \u{1b}[31msuch file");
    show("needs and failures", &run, 100);
    show("narrow", &run, 60);
    run.requirements.min_generation_tokens_per_second = Some(100.0);
    run.finished = None;
    show("none meets", &run, 80);
    show("one only", &MadeUp { variants: vec![LADDER[5]], ..MadeUp::default() }.run(), 100);
    let mut run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
    for trial in 0..3 {
        fail(&mut run, trial, 0, Phase::Load, "llama.cpp: unknown model architecture");
    }
    show("all failed", &run, 100);
    show("no quality", &MadeUp { quality: false, ..MadeUp::default() }.run(), 100);
    show(
        "no latency, one round",
        &MadeUp { prompts: 0, rounds: 1, ..MadeUp::default() }.run(),
        100,
    );
    let settings = vec![
        Settings::default(),
        Settings { threads: Some(4), ..Settings::default() },
        Settings { threads: Some(2), ..Settings::default() },
    ];
    show(
        "three settings",
        &MadeUp {
            settings,
            variants: LADDER[4..8].iter().chain(&LADDER[..1]).copied().collect(),
            ..MadeUp::default()
        }
        .run(),
        100,
    );
    show(
        "two models",
        &MadeUp {
            models: vec!["llama-3.2-1b", "qwen-0.5b"],
            variants: LADDER[..5].to_vec(),
            ..MadeUp::default()
        }
        .run(),
        100,
    );
    let mut variants = LADDER[..5].to_vec();
    for (variant, label) in variants[1..].iter_mut().zip([
        "千问大模型-Q8_0",
        "Meta-Llama-3.1-8B-Instruct-imatrix-wikitext-Q6_K",
        "Q5_K_M",
        "модель-Q5_0",
    ]) {
        *variant = Truth { label, ..*variant };
    }
    show("wide names", &MadeUp { variants, ..MadeUp::default() }.run(), 100);
    show("gpu", &MadeUp { gpu: true, ..MadeUp::default() }.run(), 100);
    show("noisy", &MadeUp { noise: 0.08, ..MadeUp::default() }.run(), 100);
}
