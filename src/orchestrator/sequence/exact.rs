//! Exact figures: a model whose probabilities and times are known is measured by the real worker, through
//! the real protocol, sequence, store and table, and every figure is what it has to be.

use super::harness::Harness;
use super::*;
use crate::engine::clock::Clock as _;
use crate::engine::toy::{BEGIN, ManualClock, Parameters, Toy, VOCABULARY, token_of};
use crate::experiment::workloads::TokenizationPlan;
use crate::hardware::monitor::Watched;
use crate::hardware::usage::Usage;
use crate::host::interrupt::Interrupt;
use crate::host::local::parse_message;
use crate::host::{Exit, HostError, Worker, WorkerMessage};
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::Artifact;
use crate::model::engine_name::{EngineIdentity, EngineName};
use crate::orchestrator::cost::Spent;
use crate::orchestrator::plan::{Origin, Variant};
use crate::orchestrator::strategy::Matrix;
use crate::results::metric::Metric;
use crate::results::record::{Environment, HostRecord, LOCAL, TrialRecord};
use crate::results::store::Store;
use crate::results::summary::Summary;
use crate::worker::protocol::{Job, Phase};
use crate::worker::testing::visit_in_this_process;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Logits are 32-bit floats: a divergence is the difference of two of them.
const TOLERANCE: f64 = 1e-5;

/// Power that the monitor of these tests reports, watts.
const WATTS: f64 = 10.0;

/// Runs workers in this process, on a clock that only the model's work moves.
struct ToyHost {
    engine: Toy,
    interrupt: Interrupt,
}

/// Lines that a worker wrote, each with the time at which it did.
type TimedLines = VecDeque<(Duration, Vec<u8>)>;

/// Collects what a worker writes.
#[derive(Clone, Default)]
struct Lines {
    clock: ManualClock,
    written: Arc<Mutex<TimedLines>>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written.lock().unwrap().push_back((self.clock.now(), bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct ToyWorker {
    lines: TimedLines,
    now: Duration,
    phases: Vec<(Phase, Duration)>,
}

impl Host for ToyHost {
    type Worker = ToyWorker;

    fn name(&self) -> &str {
        LOCAL
    }

    async fn environment(&mut self) -> Result<Environment, HostError> {
        Ok(Environment::default())
    }

    async fn start(&mut self, job: &Job) -> Result<ToyWorker, HostError> {
        let Job::Visit(job) = job else { panic!("only visits are expected: {job:?}") };
        let clock = self.engine.clock.clone();
        let now = clock.now();
        let lines = Lines { clock: clock.clone(), written: Arc::default() };
        visit_in_this_process(&self.engine, &clock, job, lines.clone());
        let written = std::mem::take(&mut *lines.written.lock().unwrap());
        Ok(ToyWorker { lines: written, now, phases: vec![(Phase::Start, now)] })
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + self.engine.clock.now()
    }

    async fn pause(&mut self, length: Duration) {
        self.engine.clock.advance(length);
    }

    fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

impl Worker for ToyWorker {
    async fn next(&mut self, _limit: Duration) -> WorkerMessage {
        let Some((time, line)) = self.lines.pop_front() else {
            return WorkerMessage::Ended(Exit::default());
        };
        self.now = time;
        let message = parse_message(line.trim_ascii_end());
        if let WorkerMessage::Event(event) = &message
            && let crate::worker::protocol::Event::Phase(phase) = &**event
            && *phase != Phase::Start
        {
            self.phases.push((phase.clone(), time));
        }
        message
    }

    async fn usage(&mut self) -> Watched<Phase> {
        let ends = self.phases.iter().skip(1).map(|&(_, start)| start).chain([self.now]);
        let lengths = self.phases.iter().zip(ends).map(|((phase, start), end)| {
            let seconds = end.saturating_sub(*start).as_secs_f64();
            let cpu_energy_joules = Some(seconds * WATTS);
            (phase.clone(), Usage { seconds, cpu_energy_joules, ..Usage::default() })
        });
        Watched { phases: lengths.collect(), ..Watched::default() }
    }

    async fn kill(&mut self) -> Exit {
        Exit::default()
    }
}

/// A run of variants of the model, as it was kept in a store.
pub(crate) fn measured(
    variants: &[(&str, Parameters)],
    change: impl FnOnce(&mut Experiment),
) -> RunRecord {
    measured_by(Box::new(Matrix::default()), variants, change)
}

pub(super) fn measured_by(
    strategy: Box<dyn Strategy>,
    variants: &[(&str, Parameters)],
    change: impl FnOnce(&mut Experiment),
) -> RunRecord {
    measured_after((Vec::new(), Vec::new()), strategy, variants, change).0
}

/// Hears how long the rest will take, at each visit.
#[derive(Clone, Default)]
struct Announced(std::rc::Rc<std::cell::RefCell<Vec<Option<f64>>>>);

impl Listener for Announced {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), crate::causes::Problem> {
        let mut told = self.0.borrow_mut();
        if let BenchmarkEvent::VisitBegan { rest, .. } = event {
            let known = rest.time.filter(|left| !left.is_guess);
            told.push(known.map(|left| left.seconds));
        }
        Ok(())
    }
}

/// After trials of an earlier run, or as it is foreseen; and how long the rest would take, seconds, as it was known at
/// each visit.
fn measured_after(
    (past, foreseen): (Vec<TrialRecord>, Vec<Option<Spent>>),
    strategy: Box<dyn Strategy>,
    variants: &[(&str, Parameters)],
    change: impl FnOnce(&mut Experiment),
) -> (RunRecord, Vec<Option<f64>>) {
    let announced = Announced::default();
    let labels: Vec<&str> = variants.iter().map(|(label, _)| *label).collect();
    let harness =
        Harness::of(&labels).with_quality().with_prompts(&["a", "b"]).change(|experiment| {
            experiment.workloads.speed = vec!["pp64".parse().unwrap(), "tg16".parse().unwrap()];
            let quality = experiment.workloads.quality.as_mut().unwrap();
            quality.text = "ab".repeat(40);
            quality.context = 8;
            change(experiment);
        });
    let folder = harness.folder.path();
    let variants = variants.iter().map(|(label, parameters)| {
        let path = folder.join(label);
        std::fs::write(&path, serde_json::to_vec(parameters).unwrap()).unwrap();
        Variant {
            repeats: None,
            model: "m".to_owned(),
            engine: EngineIdentity { name: EngineName::Toy, version: "1".to_owned() },
            quantization: label.parse().unwrap(),
            label: (*label).to_owned(),
            calibration: None,
            projector: None,
            adapters: Vec::new(),
            origin: Origin::Ready(Artifact {
                path,
                checksum: format!("of {label}"),
                file_bytes: parameters.tensor_bytes,
                quantize_seconds: None,
                kept: Vec::new(),
                deleted: false,
            }),
        }
    });
    let plan = Plan::new(&harness.experiment, vec![variants.collect()]).unwrap();
    let cache = Cache::at(&folder.join("cache")).unwrap();
    let store = folder.join("runs.db");
    let run = harness.new_run(&plan, OffsetDateTime::UNIX_EPOCH);
    let id = run.id.clone();
    let benchmark = Benchmark {
        experiment: &harness.experiment,
        plan,
        strategy,
        cache: &cache,
        files: crate::model::resolve::ResolveOptions::from_environment(),
        host: ToyHost { engine: Toy::default(), interrupt: Interrupt::new().0 },
        listener: Box::new(vec![
            Box::new(Store::at(&store).unwrap()) as Box<dyn Listener>,
            Box::new(announced.clone()),
        ]),
        host_record: HostRecord {
            environment: Environment {
                engines: vec![EngineIdentity { name: EngineName::Toy, version: "1".to_owned() }],
                ..Environment::default()
            },
            ..HostRecord::default()
        },
        noted: OffsetDateTime::UNIX_EPOCH,
        run,
        resumed: false,
        past,
        foreseen,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(benchmark.run()).unwrap();
    let told = announced.0.borrow().clone();
    (Store::at(&store).unwrap().load(&id).unwrap(), told)
}

/// `F16`, and a `Q8_0` that is twice as fast, half as large and less sure of itself.
pub(crate) fn variants() -> [(&'static str, Parameters); 2] {
    let half = |length: Duration| length / 2;
    let base = Parameters::default();
    let quantized = Parameters {
        p: 0.4,
        load: half(base.load),
        prompt_token: half(base.prompt_token),
        generated_token: half(base.generated_token),
        tensor_bytes: base.tensor_bytes / 2,
        ..base.clone()
    };
    [("F16", base), ("Q8_0", quantized)]
}

#[track_caller]
pub(super) fn expect(run: &RunRecord, label: &str, metric: Metric, expected: f64) {
    let summary = Summary::of(run);
    let row = summary.rows.iter().find(|row| row.label == label).unwrap();
    let value = row.value(metric).unwrap_or_else(|| panic!("{label} has no {}", metric.name()));
    assert!(
        (value - expected).abs() <= TOLERANCE * expected.abs(),
        "{} of {label} is {value}, not {expected}",
        metric.name()
    );
}

#[test]
fn speeds_latencies_loads_and_energy_are_exact() {
    let run = measured(&variants(), |_| {});
    let pp64 = Metric::Speed("pp64".parse().unwrap());
    let tg16 = Metric::Speed("tg16".parse().unwrap());
    // One token of a prompt takes 1 ms, one generated token 10 ms; of Q8_0 half of that.
    for (label, factor) in [("F16", 1.0), ("Q8_0", 2.0)] {
        expect(&run, label, pp64, 1000.0 * factor);
        expect(&run, label, tg16, 100.0 * factor);
        expect(&run, label, Metric::WarmLoadSeconds, 0.020 / factor);
        // The prompt "say a" is 5 characters behind the token that begins a text: 6 ms.
        expect(&run, label, Metric::TtftMedianSeconds, 0.006 / factor);
        expect(&run, label, Metric::Ttft90Seconds, 0.006 / factor);
        expect(&run, label, Metric::ItlMedianSeconds, 0.010 / factor);
        expect(&run, label, Metric::Itl90Seconds, 0.010 / factor);
        // 10 watts for as long as a token takes.
        expect(&run, label, Metric::JoulesPerToken, 0.100 / factor);
    }
}

#[test]
fn perplexity_and_divergence_are_exact() {
    let run = measured(&variants(), |_| {});
    // Each chunk of 8 tokens begins with the token that begins a text, then come "abababa" or the like;
    // scored are the predictions of tokens 5, 6 and 7: of "a" after "b", "b" after "a", "a" after "b".
    let others = f64::from(u32::try_from(VOCABULARY - 1).unwrap());
    let rest = |p: f64| (1.0 - p) / others;
    let perplexity = |p: f64| (-(p.ln() + 2.0 * rest(p).ln()) / 3.0).exp();
    let (p, q): (f64, f64) = (0.5, 0.4);
    let divergence = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    expect(&run, "F16", Metric::Perplexity, perplexity(p));
    expect(&run, "Q8_0", Metric::Perplexity, perplexity(q));
    expect(&run, "Q8_0", Metric::Kld, divergence);
    expect(&run, "Q8_0", Metric::Kld99, divergence);
    expect(&run, "Q8_0", Metric::TopTokenAgreement, 1.0);
    // After "a" the most probable token is "b"; with q too.
    assert_eq!(token_of('b'), token_of('a') + 1);
    assert_ne!(BEGIN, token_of('a'));
}

#[test]
fn a_machine_that_slows_down_shows_as_drift_and_in_intervals() {
    let slow = variants().map(|(label, it)| (label, Parameters { slowdown: 0.01, ..it }));
    let run = measured(&slow, |experiment| {
        experiment.rounds = 3;
        experiment.workloads.quality = None;
    });
    // In each round: F16, Q8_0, and F16's first test once more; each is 1 % slower than the one before.
    let rates: Vec<f64> = run.drift_controls.iter().map(|it| it.tokens_per_second).collect();
    let expected = [0, 2, 3, 5, 6, 8].map(|loads| 1000.0 / (1.0 + 0.01 * f64::from(loads)));
    for (rate, expected) in rates.iter().zip(expected) {
        assert!((rate - expected).abs() < 1e-3, "{rates:?}");
    }
    assert_eq!(rates.len(), expected.len());
    // F16's own visits are the first, fourth and seventh; their median is the fourth's.
    let pp64 = Metric::Speed("pp64".parse().unwrap());
    expect(&run, "F16", pp64, 1000.0 / 1.03);
    expect(&run, "Q8_0", pp64, 2000.0 / 1.04);
    let summary = Summary::of(&run);
    let figure = &summary.rows[0].figures[&pp64];
    let interval = figure.estimate.interval.unwrap();
    assert!(interval.low <= 1000.0 / 1.06 + 0.1 && interval.high >= 1000.0 - 0.1, "{interval:?}");
}

#[test]
fn tokenization_is_timed_in_every_round() {
    let run = measured(&variants(), |experiment| {
        let (text, source) = ("ab".repeat(40), "demo".to_owned());
        experiment.workloads.tokenization = Some(TokenizationPlan { text, source });
    });
    for trial in &run.trials {
        let kept: Vec<usize> = trial.visits.iter().map(|visit| visit.measured.len()).collect();
        assert_eq!(kept, [1, 1]);
    }
    // The clock of these tests stands still while the toy tokenizes: 81 tokens in a nanosecond.
    let speed = Summary::of(&run).rows[0].value(Metric::TokenizerSpeed).unwrap();
    assert!((speed - 81e9).abs() < 1.0, "{speed}");
}

/// Type 7: linear between the two values around.
fn percentile(mut values: Vec<f64>, fraction: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = u32::try_from(values.len() - 1).unwrap();
    let place = f64::from(last) * fraction;
    let below = (0..last).rev().find(|&at| f64::from(at) <= place).unwrap();
    let (low, high) = (values[below as usize], values[below as usize + 1]);
    low + (high - low) * (place - f64::from(below))
}

#[test]
fn percentiles_are_those_of_the_times_of_all_prompts() {
    let growing = variants().map(|(label, parameters)| {
        (label, Parameters { growth: Duration::from_millis(1), ..parameters })
    });
    let ids: Vec<String> = (1..=10).map(|letters| "a".repeat(letters)).collect();
    let run = measured(&growing[..1], |experiment| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        experiment.workloads = Harness::of(&["F16"]).with_prompts(&ids).experiment.workloads;
        experiment.workloads.cold_load = true;
    });
    // "say a" to "say aaaaaaaaaa", behind the token that begins a text: 6 to 15 tokens of 1 ms.
    let lengths: Vec<f64> = (6..=15).map(f64::from).collect();
    let ttft: Vec<f64> = lengths.iter().map(|length| length / 1e3).collect();
    expect(&run, "F16", Metric::TtftMedianSeconds, percentile(ttft.clone(), 0.5));
    expect(&run, "F16", Metric::Ttft90Seconds, percentile(ttft, 0.9));
    // Of 8 tokens 7 follow another: 10 ms, and 1 ms for every token before.
    let itl = lengths.iter().flat_map(|length| (0..7).map(move |at| length + f64::from(at)));
    let itl: Vec<f64> = itl.map(|before| (10.0 + before) / 1e3).collect();
    assert!(percentile(itl.clone(), 0.9) > 1.1 * percentile(itl.clone(), 0.5));
    expect(&run, "F16", Metric::ItlMedianSeconds, percentile(itl.clone(), 0.5));
    expect(&run, "F16", Metric::Itl90Seconds, percentile(itl, 0.9));
    expect(&run, "F16", Metric::ColdLoadSeconds, 0.020);
}

#[test]
fn answers_of_tasks_are_those_that_the_probabilities_give() {
    let folder = tempfile::tempdir().unwrap();
    // After a letter the next of the alphabet is the most probable.
    let data = "{\"q\":\"a\",\"choices\":[\"zz\",\"bc\"],\"gold\":1,\"answer\":\"bcd\"}\n\
                {\"q\":\"k\",\"choices\":[\"lm\",\"aa\"],\"gold\":1,\"answer\":\"lmn\"}\n";
    std::fs::write(folder.path().join("d.jsonl"), data).unwrap();
    let text = "workloads.latency.enabled = false\nworkloads.quality.enabled = false\n\
                [[models]]\nname = \"m\"\nsource = \"hf://a/b/c-F16.gguf\"\n\
                [[workloads.tasks]]\nname = \"choose\"\nkind = \"question-answering\"\n\
                dataset = \"d.jsonl\"\nfields = { choices = \"choices\", gold = \"gold\" }\n\
                template = \"{{ q }}\"\nseparator = \"\"\nformats = [\"none\"]\n\
                [[workloads.tasks]]\nname = \"write\"\nkind = \"question-answering\"\n\
                dataset = \"d.jsonl\"\nfields = { gold = \"answer\" }\ntemplate = \"{{ q }}\"\n\
                answer = \"generate\"\nmax_tokens = 3\nmetrics = [\"exact_match\"]\nformats = [\"none\"]\n";
    let path = folder.path().join("x.toml");
    let read =
        crate::experiment::parse(text.as_bytes(), &path, &crate::experiment::Overrides::default())
            .unwrap();
    let run = measured(&variants(), |experiment| {
        experiment.workloads = Harness::of(&["F16"]).experiment.workloads;
        experiment.workloads.tasks = read.workloads.tasks;
    });
    let summary = Summary::of(&run);
    for row in &summary.rows {
        let of_task = |name: &str| {
            let is_it = |metric: &&Metric| metric.name().starts_with(&format!("task_{name}_"));
            let metric = row.figures.keys().find(is_it).unwrap();
            row.value(*metric).unwrap()
        };
        // The second question's gold is the improbable one.
        assert!((of_task("choose") - 0.5).abs() < 1e-12, "{}", of_task("choose"));
        assert!((of_task("write") - 1.0).abs() < 1e-12, "{}", of_task("write"));
    }
}

#[test]
fn encoders_that_count_letters_alike_embed_alike() {
    let encoders = variants().map(|(label, parameters)| {
        (label, Parameters { class: ArchitectureClass::EncoderOnly, ..parameters })
    });
    let run = measured(&encoders, |experiment| {
        experiment.workloads.speed = vec!["embed8x2".parse().unwrap()];
        experiment.workloads.quality.as_mut().unwrap().text = "ab\ncd\nef\nab ef".to_owned();
    });
    expect(&run, "Q8_0", Metric::EmbeddingCosine, 1.0);
    // Two texts of 8 tokens in a batch take 16 ms, of Q8_0 half of that.
    let embed = Metric::Speed("embed8x2".parse().unwrap());
    for (label, factor) in [("F16", 1.0), ("Q8_0", 2.0)] {
        expect(&run, label, embed, 125.0 * factor);
    }
}

#[test]
fn the_time_of_a_run_that_was_made_before_is_announced_before_it_begins() {
    let text = |experiment: &mut Experiment| {
        let mut random = fastrand::Rng::with_seed(7);
        let quality = experiment.workloads.quality.as_mut().unwrap();
        quality.text = (0..8 * 200).map(|_| random.lowercase()).collect();
        quality.precision = Some(0.1);
        experiment.rounds = 4;
    };
    let variants = variants().map(|(label, it)| {
        let odd = Some(if label == "F16" { 0.5 } else { 0.49 });
        (label, Parameters { odd, ..it })
    });
    let matrix = || Box::new(Matrix::default());
    let (first, told) = measured_after((Vec::new(), Vec::new()), matrix(), &variants, text);
    // The first time it is known once a visit of a round is over.
    assert!(told[0].is_none() && told.iter().any(Option::is_some), "{told:?}");
    // Whatever kept the machine busy then, it is known after a visit.
    let mut slow = first.trials.clone();
    for trial in &mut slow {
        let stages = trial.stages.iter_mut().map(|it| &mut it.usage);
        for phase in stages.chain(trial.visits.iter_mut().map(|it| &mut it.usage)).flatten() {
            phase.begin_seconds = phase.begin_seconds.map(|begin| begin * 10.0);
            phase.end_seconds = phase.end_seconds.map(|end| end * 10.0);
        }
    }
    // A first run is announced as it is foreseen, here to take thrice as long as it does; a visit corrects that.
    let thrice = |seconds: Option<f64>| seconds.map(|it| 3.0 * it);
    let foreseen = first.trials.iter().map(|trial| {
        let Spent { load, chunk, round, control, .. } = Spent::of(trial);
        let [load, chunk, round, control] = [load, chunk, round, control].map(thrice);
        Some(Spent { load, chunk, round, control, ..Spent::default() })
    });
    let (_, told_first) =
        measured_after((Vec::new(), foreseen.collect()), matrix(), &variants, text);
    let (second, told) = measured_after((first.trials, Vec::new()), matrix(), &variants, text);
    let took = second.active_seconds.unwrap();
    let is_right = |announced: f64| (announced / took - 1.0).abs() < 0.25;
    assert!(told[0].is_some_and(is_right), "{told:?}, {took} s taken");
    let [first, second] = [0, 1].map(|at| told_first[at].unwrap_or_default());
    assert!(
        is_right(first / 3.0) && (0.8..1.2).contains(&(3.0 * second / first)),
        "{told_first:?}"
    );
    let (_, told) = measured_after((slow, Vec::new()), matrix(), &variants, text);
    assert!(told[1].is_some_and(is_right), "{told:?}, {took} s taken");
}
