//! What a run looks like in a log, line by line.

use super::estimate::left;
use super::progress::RunProgress;
use super::run::RunDisplay;
use super::screen::Screen;
use super::work::Work;
use crate::experiment::requirements::Requirements;
use crate::experiment::resolved::Experiment;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::Workloads;
use crate::model::artifact::Artifact;
use crate::model::progress::Progress;
use crate::orchestrator::event::{BenchmarkEvent, Listener, Rest, TimeLeft};
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::quantize::MethodReport;
use crate::results::annotations::Annotations;
use crate::results::record::{Failure, RunRecord, TrialRecord};
use crate::worker::protocol::{Event, Made, Phase};
use crate::workload::Measurement;
use crate::workload::measured::SpeedSample;
use std::time::Duration;
use time::OffsetDateTime;

fn experiment() -> Experiment {
    Experiment {
        name: "ladder".to_owned(),
        workloads: Workloads { speed: vec!["tg4".parse().unwrap()], ..Workloads::default() },
        rounds: 2,
        ..Experiment::default()
    }
}

fn trial(label: &str, settings: Settings) -> TrialRecord {
    let quantization = "F16".parse().unwrap();
    TrialRecord {
        label: label.to_owned(),
        ..TrialRecord::new("demo".to_owned(), quantization, settings)
    }
}

fn run(trials: Vec<TrialRecord>) -> RunRecord {
    RunRecord {
        id: "2026-11-23-k3f9".to_owned(),
        name: "ladder".to_owned(),
        started: OffsetDateTime::UNIX_EPOCH,
        finished: None,
        active_seconds: None,
        hosts: Vec::new(),
        requirements: Requirements::default(),
        experiment: serde_json::Value::Null,
        trials,
        drift_controls: Vec::new(),
        annotations: Annotations::default(),
    }
}

fn visits() -> Vec<PlannedVisit> {
    let visit = |trial, round| PlannedVisit { trial, purpose: Purpose::Round(round) };
    vec![visit(0, 0), visit(1, 0), visit(0, 1), visit(1, 1)]
}

fn rest(visits: &[PlannedVisit], seconds: Option<f64>) -> Rest<'_> {
    Rest { visits, time: seconds.map(|seconds| TimeLeft { seconds, is_guess: false }) }
}

fn speed(tokens_per_second: u64) -> Event {
    let sample = SpeedSample { nanoseconds: 4_000_000_000 / tokens_per_second, tokens: 4 };
    Event::Measured(Measurement::Speed { test: "tg4".parse().unwrap(), sample })
}

#[test]
fn a_log_has_a_line_for_everything_that_is_over() {
    let experiment = experiment();
    let mut failed = trial("Q4_0", Settings::default());
    failed.failure = Some(Failure { phase: Phase::Load, reason: "no memory".to_owned() });
    let with = |second| run(vec![trial("F16", Settings::default()), second]);
    let (run, with_failure) = (with(trial("Q4_0", Settings::default())), with(failed));
    let visits = visits();
    let artifact = Artifact {
        path: "a.gguf".into(),
        checksum: String::new(),
        file_bytes: 13 << 20,
        quantize_seconds: Some(1.5),
        kept: Vec::new(),
        deleted: false,
    };
    let mut log = Vec::new();
    let mut display = RunDisplay::new(&experiment, Screen::plain(&mut log));
    let mut tell = |event: BenchmarkEvent<'_>| display.on_event(&event).unwrap();
    tell(BenchmarkEvent::RunBegan { run: &run, resumed: false, visits: &visits, variants: 1 });
    tell(BenchmarkEvent::VariantBegan { name: "demo Q4_0" });
    tell(BenchmarkEvent::VariantReady { name: "demo Q4_0", artifact: &artifact, made: true });
    let (visit, trial) = (visits[0], &run.trials[0]);
    tell(BenchmarkEvent::VisitBegan { visit, trial, rest: rest(&visits, None) });
    tell(BenchmarkEvent::Worker(&speed(50)));
    tell(BenchmarkEvent::Worker(&speed(100)));
    tell(BenchmarkEvent::VisitEnded { visit, rest: rest(&visits[1..], Some(12.0)) });
    tell(BenchmarkEvent::TrialChanged { position: 0, run: &run });
    let (visit, trial) = (visits[1], &run.trials[1]);
    tell(BenchmarkEvent::VisitBegan { visit, trial, rest: rest(&visits[1..], Some(12.0)) });
    tell(BenchmarkEvent::VisitEnded { visit, rest: rest(&visits[2..3], Some(4.0)) });
    tell(BenchmarkEvent::TrialChanged { position: 1, run: &with_failure });
    tell(BenchmarkEvent::RunEnded { run: &run });
    drop(display);
    assert_eq!(
        String::from_utf8(log).unwrap(),
        "run 2026-11-23-k3f9 of 'ladder' begins: 2 trials, 4 visits\n\
         [0/4] demo Q4_0: made, 13.0 MiB in 1.50 s (time left not known yet)\n\
         [1/4] F16, round 1 of 2: tg4 100 t/s (about 12 s left)\n\
         the rest will take about 12 s\n\
         Q4_0 failed in load: no memory\n\
         stopped; what was measured is stored\n"
    );
}

#[test]
fn what_runs_now_is_told_with_phase_share_and_note() {
    let mut progress = RunProgress::new(2, false);
    let settings = Settings { batch: 64, ..Settings::default() };
    let run = run(vec![trial("F16", Settings::default()), trial("F16", settings)]);
    let visits = visits();
    let mut tell = |event: BenchmarkEvent<'_>| progress.on_event(&event);
    tell(BenchmarkEvent::RunBegan { run: &run, resumed: false, visits: &visits, variants: 0 });
    let (visit, trial) = (visits[1], &run.trials[1]);
    tell(BenchmarkEvent::VisitBegan { visit, trial, rest: rest(&visits, None) });
    tell(BenchmarkEvent::Worker(&Event::Phase(Phase::Quality)));
    let event = Event::Progress(Progress::Fraction(0.37, "ppl\n24.1".to_owned()));
    tell(BenchmarkEvent::Worker(&event));
    assert_eq!(progress.current(), "F16 (b=64), round 1 of 2: quality 37 % · ppl 24.1");
    assert_eq!(progress.visits(), (0, 4));
    let visit = PlannedVisit { purpose: Purpose::DriftControl(0), ..visits[0] };
    let visits = [visit];
    let rest = rest(&visits, None);
    progress.on_event(&BenchmarkEvent::VisitBegan { visit, trial: &run.trials[0], rest });
    assert_eq!(progress.current(), "F16 (defaults), drift control of round 1: start");
}

#[test]
fn what_a_worker_tells_of_a_file_stays_in_the_log() {
    let mut work = Work::new("gptq:Q4_0".to_owned(), "start", 1);
    let mut tell = |event: Event| work.on_event(&event).unwrap();
    assert!(tell(Event::Phase(Phase::Quantize)).is_empty());
    let parts = vec![("weights".to_owned(), 1 << 30), ("a chunk".to_owned(), 1 << 29)];
    assert_eq!(
        tell(Event::Progress(Progress::Memory(parts))),
        ["gptq:Q4_0: quantize needs 1.50 GiB of memory: 1.00 GiB for weights, 512 MiB for a chunk"]
    );
    let note = Progress::Note("half of it\nwas rounded without".to_owned());
    assert_eq!(tell(Event::Progress(note)), ["note: gptq:Q4_0: half of it was rounded without"]);
    let begun = Progress::Note("gptq:Q4_0".to_owned());
    assert_eq!(tell(Event::Progress(begun)), ["note: gptq:Q4_0"]);
    let report = MethodReport { chosen: 2, kept: Vec::new() };
    assert_eq!(
        tell(Event::Made(Made::Variant(report))),
        ["gptq:Q4_0: chose the weights of 2 tensors"]
    );
    assert!(tell(Event::Progress(Progress::Fraction(0.5, "layer 1 of 2".to_owned()))).is_empty());
    assert_eq!(work.in_words(), "gptq:Q4_0: quantize 50 % · layer 1 of 2");
}

#[test]
fn the_time_left_is_told_once_enough_is_done() {
    assert_eq!(left(Duration::from_secs(9), 0.01), "time left not known yet");
    assert_eq!(left(Duration::from_secs(10), 0.25), "about 30 s left");
    assert_eq!(left(Duration::from_secs(10), 1.0), "about 0 s left");
}
