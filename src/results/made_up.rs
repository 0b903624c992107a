//! Made-up runs for tests: realistic figures of a 1B model on a laptop, the same on every machine.
//!
//! The noise is a fixed sequence, so that snapshots of reports stay as they are.

use super::annotations::Annotations;
use super::record::{
    DriftControl, Environment, Failure, HostId, HostRecord, PhaseUsage, RunRecord, SpeedRecord,
    TrialRecord, VisitRecord,
};
use crate::experiment::requirements::Requirements;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::hardware::timeline::{GpuTrace, Timeline, Trace};
use crate::hardware::usage::{GpuUsage, Usage};
use crate::metrics::TaskMetric;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::Artifact;
use crate::model::engine_name::{EngineIdentity, EngineName};
use crate::model::quantization::Quantization;
use crate::worker::protocol::Phase;
use crate::workload::measured::{
    BufferMemory, Divergence, LoadSample, MeanWithError, ModelFacts, Quality, Response, SpeedSample,
};
use crate::workload::tasks::record::{ScoreRecord, TaskRecord};
use time::{Duration, OffsetDateTime};

/// What is true of one variant, before noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth {
    pub(crate) label: &'static str,
    pub(crate) mebibytes: f64,
    pub(crate) prompt_speed: f64,
    pub(crate) generation_speed: f64,
    pub(crate) kld: f64,
    pub(crate) agreement: f64,
}

const fn truth(label: &'static str, figures: [f64; 5]) -> Truth {
    let [mebibytes, prompt_speed, generation_speed, kld, agreement] = figures;
    Truth { label, mebibytes, prompt_speed, generation_speed, kld, agreement }
}

/// Twelve variants of one model.
pub(crate) const LADDER: [Truth; 12] = [
    truth("F16", [2365.0, 96.0, 12.1, 0.0, 1.0]),
    truth("Q8_0", [1259.0, 181.0, 22.5, 0.0011, 0.982]),
    truth("Q6_K", [975.0, 121.0, 27.2, 0.0044, 0.966]),
    truth("Q5_K_M", [870.0, 118.0, 29.3, 0.0098, 0.951]),
    truth("Q5_0", [852.0, 102.0, 28.6, 0.0135, 0.942]),
    truth("Q4_K_M", [770.0, 152.0, 33.4, 0.0282, 0.920]),
    truth("Q4_K_S", [740.0, 158.0, 34.6, 0.0391, 0.907]),
    truth("Q4_0", [735.0, 214.0, 35.1, 0.0617, 0.885]),
    truth("IQ4_NL", [738.0, 205.0, 34.9, 0.0402, 0.906]),
    truth("IQ4_XS", [708.0, 116.0, 34.8, 0.0415, 0.904]),
    truth("Q3_K_M", [659.0, 127.0, 34.1, 0.139, 0.832]),
    truth("Q2_K", [554.0, 124.0, 37.0, 0.61, 0.689]),
];

/// What a made-up run measured, and on what.
#[derive(Debug, Clone)]
pub(crate) struct MadeUp {
    pub(crate) models: Vec<&'static str>,
    pub(crate) variants: Vec<Truth>,
    pub(crate) settings: Vec<Settings>,
    pub(crate) rounds: u32,
    pub(crate) prompts: u32,
    pub(crate) quality: bool,
    pub(crate) gpu: bool,
    /// Relative standard deviation of timings.
    pub(crate) noise: f64,
    pub(crate) seed: u64,
}

impl Default for MadeUp {
    fn default() -> Self {
        Self {
            models: vec!["llama-3.2-1b"],
            variants: LADDER.to_vec(),
            settings: vec![Settings::default()],
            rounds: 5,
            prompts: 20,
            quality: true,
            gpu: false,
            noise: 0.01,
            seed: 1,
        }
    }
}

/// A fixed sequence of roughly normal deviates.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 40).unwrap()) / f64::from(1_u32 << 24)
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    fn around(&mut self, value: f64, relative: f64) -> f64 {
        value * (1.0 + relative * self.normal())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "made-up figures are small and positive"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

pub(crate) fn started() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_430_580).unwrap()
}

pub(crate) fn speed_test(name: &str) -> SpeedTest {
    name.parse().unwrap()
}

impl MadeUp {
    /// The record of the run.
    pub(crate) fn run(&self) -> RunRecord {
        let mut noise = Noise(self.seed);
        let mut trials = Vec::new();
        for model in &self.models {
            for (number, settings) in self.settings.iter().enumerate() {
                for truth in &self.variants {
                    // Later settings are slower by a third each, so that they differ.
                    let slower = 1.0 / (1.0 + 0.33 * f64::from(u8::try_from(number).unwrap()));
                    trials.push(self.trial(&mut noise, model, settings, *truth, slower));
                }
            }
        }
        let controls = (0..self.rounds).map(|round| DriftControl {
            round,
            at_seconds: f64::from(round) * 61.0 + 9.0,
            tokens_per_second: noise.around(96.0, self.noise / 2.0),
        });
        RunRecord {
            id: "2026-11-23-k3f9".to_owned(),
            name: "laptop".to_owned(),
            started: started(),
            finished: Some(started() + Duration::seconds(1260)),
            active_seconds: Some(1260.0),
            hosts: vec![HostRecord { id: HostId::default(), environment: self.environment() }],
            requirements: Requirements::default(),
            experiment: serde_json::json!({ "name": "laptop", "rounds": self.rounds }),
            drift_controls: controls.collect(),
            annotations: Annotations::default(),
            trials,
        }
    }

    fn environment(&self) -> Environment {
        Environment {
            read_rates: Vec::new(),
            compute_rates: Vec::new(),
            quantbench: "0.1.0 (a335386)".to_owned(),
            engines: vec![EngineIdentity {
                name: EngineName::LlamaCpp,
                version: "0.6.0 (llama-cpp-sys-2 0.1.161)".to_owned(),
            }],
            build: "release, target-cpu=native, openmp".to_owned(),
            operating_system: "Linux 6.1".to_owned(),
            cpu: "AMD Ryzen 7 7840U".to_owned(),
            physical_cores: 8,
            logical_cpus: 16,
            usable_cpus: Some(16),
            cpu_quota_cores: None,
            governor: Some("performance".to_owned()),
            memory_bytes: 32 << 30,
            gpus: if self.gpu { vec!["NVIDIA H200".to_owned()] } else { Vec::new() },
        }
    }

    fn trial(
        &self,
        noise: &mut Noise,
        model: &str,
        settings: &Settings,
        truth: Truth,
        slower: f64,
    ) -> TrialRecord {
        let bytes = whole(truth.mebibytes * 1_048_576.0);
        let quantization: Quantization =
            truth.label.parse().unwrap_or_else(|_| "Q4_0".parse().unwrap());
        TrialRecord {
            key: format!("{model}/{}/{settings}", truth.label),
            label: truth.label.to_owned(),
            engine: EngineIdentity { version: "0.6.0".to_owned(), ..EngineIdentity::default() },
            is_reference: truth.label == "F16",
            artifact: Some(Artifact {
                path: format!("/cache/{model}-{}.gguf", truth.label).into(),
                checksum: "c0ffee".repeat(10),
                file_bytes: bytes,
                quantize_seconds: (truth.label != "F16").then_some(truth.mebibytes / 100.0),
                kept: Vec::new(),
                deleted: false,
            }),
            facts: Some(ModelFacts {
                description: format!("llama 1B {}", truth.label),
                class: ArchitectureClass::DecoderOnly,
                parameters: 1_240_000_000,
                active_parameters: Some(1_240_000_000),
                experts: None,
                tensor_bytes: bytes - 5_000_000,
                bytes_per_token: Some(bytes - 5_000_000),
                types: None,
                context_length: 131_072,
                positions: None,
                layers: 16,
                vocabulary: 128_256,
                threads: 8,
                mmap: true,
                cache: None,
                backends: vec![if self.gpu { "CUDA" } else { "CPU" }.to_owned()],
                devices: if self.gpu { vec!["CUDA0".to_owned()] } else { Vec::new() },
            }),
            visits: (0..self.rounds).map(|round| self.visit(noise, round, truth, slower)).collect(),
            quality: self.quality.then(|| quality(noise, truth)),
            ..TrialRecord::new(model.to_owned(), quantization, settings.clone())
        }
    }

    fn visit(&self, noise: &mut Noise, round: u32, truth: Truth, slower: f64) -> VisitRecord {
        let faster = if self.gpu { 40.0 } else { 1.0 } * slower;
        let common = noise.around(1.0, self.noise);
        let mut speed = |name: &str, speed: f64| {
            let test = speed_test(name);
            let speed = noise.around(speed * faster * common, self.noise);
            let nanoseconds = whole(f64::from(test.tokens()) / speed * 1e9);
            SpeedRecord { test, samples: vec![SpeedSample { nanoseconds, tokens: test.tokens() }] }
        };
        let speeds =
            vec![speed("pp512", truth.prompt_speed), speed("tg128", truth.generation_speed)];
        let bytes = truth.mebibytes * 1_048_576.0;
        let answered = (0..self.prompts).filter(|prompt| prompt % self.rounds == round);
        let responses =
            answered.map(|prompt| self.response(noise, prompt, truth, faster)).collect();
        VisitRecord {
            round,
            loads: vec![
                LoadSample { cold: true, seconds: noise.around(bytes / 2.1e9 + 0.05, self.noise) },
                LoadSample {
                    cold: false,
                    seconds: noise.around(bytes / 1.4e10 + 0.08, self.noise),
                },
            ],
            memory: vec![BufferMemory {
                buffer: if self.gpu { "CUDA0" } else { "CPU" }.to_owned(),
                on_device: self.gpu,
                weights_bytes: whole(bytes) - 5_000_000,
                kv_bytes: 20 << 20,
                compute_bytes: 255 << 20,
                context: 640,
            }],
            speed: speeds,
            responses,
            usage: vec![PhaseUsage {
                phase: Phase::Speed(speed_test("tg128")),
                begin_seconds: Some(9.5),
                end_seconds: Some(14.5),
                usage: self.usage(noise, bytes),
            }],
            timeline: self.timeline(bytes, 6),
            peak_rss_bytes: Some(whole(if self.gpu {
                6.1e8
            } else {
                noise.around(bytes + 3.1e8, 0.001)
            })),
            ..VisitRecord::new(started() + Duration::seconds(i64::from(round) * 60))
        }
    }

    /// What a monitor saw of the five seconds, in so many points.
    pub(crate) fn timeline(&self, bytes: f64, points: u32) -> Timeline {
        let steps = f64::from(points - 1);
        let column = |of: &dyn Fn(f64) -> f64| -> Vec<Option<f64>> {
            (0..points).map(|at| Some((of(f64::from(at) / steps) * 10.0).round() / 10.0)).collect()
        };
        let seconds =
            || (0..points).map(|at| (f64::from(at) / steps * 500.0).round() / 100.0).collect();
        let memory = bytes / 1_048_576.0 + 300.0;
        let cores = if self.gpu { 1.0 } else { 7.9 };
        let mut cpu_cores = column(&|at| cores + (at * 20.0).sin() * 0.3);
        cpu_cores[0] = None;
        Timeline {
            worker: Trace {
                seconds: seconds(),
                cpu_cores,
                rss_mebibytes: column(&|at| memory * (0.2 + at * 4.0).min(1.0)),
                ..Trace::default()
            },
            processor: Trace {
                seconds: seconds(),
                mhz: column(&|at| 3300.0 - at * 250.0),
                celsius: column(&|at| 48.0 + at * 31.0),
                watts: column(&|at| 28.0 - at * 4.0),
                ..Trace::default()
            },
            gpus: Vec::from_iter(self.gpu.then(|| GpuTrace {
                name: "0: NVIDIA H200".to_owned(),
                trace: Trace {
                    seconds: seconds(),
                    utilization: column(&|at| (at * 9.0).min(1.0)),
                    memory_mebibytes: column(&|_| memory + 300.0),
                    mhz: column(&|at| 1980.0 - at * 30.0),
                    celsius: column(&|at| 38.0 + at * 14.0),
                    watts: column(&|at| 120.0 + (at * 8.0).min(1.0) * 190.0),
                    ..Trace::default()
                },
            })),
        }
    }

    fn usage(&self, noise: &mut Noise, bytes: f64) -> Usage {
        let mut usage = Usage {
            seconds: 5.0,
            samples: 50,
            cpu_cores_used: Some(noise.around(if self.gpu { 1.0 } else { 7.9 }, 0.01)),
            ..Usage::default()
        };
        if self.gpu {
            let watts = noise.around(310.0, self.noise);
            usage.gpus = vec![GpuUsage {
                name: "0: NVIDIA H200".to_owned(),
                utilization: Some(0.97),
                max_worker_memory_bytes: Some(whole(bytes + 6.0e8)),
                max_memory_bytes: None,
                mean_power_watts: Some(watts),
                energy_joules: Some(watts * usage.seconds),
                max_celsius: Some(52.0),
            }];
        }
        usage
    }

    fn response(&self, noise: &mut Noise, prompt: u32, truth: Truth, faster: f64) -> Response {
        let prompt_tokens = 20 + prompt * 35;
        let first = f64::from(prompt_tokens) / (truth.prompt_speed * faster);
        let mut at = noise.around(first, self.noise);
        let mut token_nanoseconds = Vec::new();
        for _ in 0..24 {
            token_nanoseconds.push(whole(at * 1e9));
            at += noise.around(1.02 / (truth.generation_speed * faster), 0.03 + self.noise);
        }
        Response {
            prompt_id: format!("prompt-{prompt:02}"),
            prompt_tokens,
            text: format!("An answer to prompt {prompt}."),
            token_nanoseconds,
            finish_reason: "length".to_owned(),
        }
    }
}

fn quality(noise: &mut Noise, truth: Truth) -> Quality {
    const CHUNKS: u32 = 40;
    let difficulty: Vec<f64> =
        (0..CHUNKS).map(|chunk| 1.0 + 0.25 * f64::from(chunk * 7 % 11) / 11.0).collect();
    let chunk_kld: Vec<f64> =
        difficulty.iter().map(|harder| noise.around(truth.kld * harder, 0.05)).collect();
    let chunk_nll: Vec<f64> = difficulty
        .iter()
        .zip(&chunk_kld)
        .map(|(harder, kld)| {
            2.1 * harder + kld * 0.9 + 0.0005 * noise.normal() * f64::from(truth.kld > 0.0)
        })
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / f64::from(CHUNKS);
    let with_error = |mean: f64, standard_error: f64| MeanWithError { mean, standard_error };
    let kld = mean(&chunk_kld);
    Quality {
        perplexity: with_error(mean(&chunk_nll).exp(), 0.08),
        context: 512,
        chunks: CHUNKS,
        chunks_available: CHUNKS,
        scored_tokens: u64::from(CHUNKS) * 255,
        chunk_nll,
        domains: Vec::new(),
        seconds: 31.0,
        divergence: (truth.label != "F16").then(|| Divergence {
            kld: with_error(kld, kld * 0.01),
            kld_median: kld * 0.4,
            kld_90: kld * 2.3,
            kld_95: kld * 3.6,
            kld_99: kld * 9.0,
            kld_999: kld * 30.0,
            kld_max: kld * 90.0,
            top_token_agreement: with_error(truth.agreement, 0.0025),
            delta_p_mean: with_error(-kld / 9.0, kld / 300.0),
            delta_p_rms: with_error(kld.sqrt() / 3.0, kld.sqrt() / 90.0),
            log_perplexity_ratio: with_error(kld * 0.9, kld * 0.05),
            chunk_kld,
            // As in runs that were stored before it was kept.
            chunk_top_token_agreement: Vec::new(),
            stopped_early: false,
            kld_error_bound: 0.0,
        }),
        reference_store: None,
        answers: 0,
        worst_answers: Vec::new(),
    }
}

/// Marks a trial as failed after its first `visits` visits.
pub(crate) fn fail(run: &mut RunRecord, trial: usize, visits: usize, phase: Phase, reason: &str) {
    let trial = &mut run.trials[trial];
    trial.visits.truncate(visits);
    if visits == 0 {
        trial.facts = None;
        trial.quality = None;
    }
    trial.failure = Some(Failure { phase, reason: reason.to_owned() });
}

/// The answers to a task without a format: what each question contributes to a metric.
pub(crate) fn answered(task: &str, metric: TaskMetric, counts: Vec<f64>) -> TaskRecord {
    TaskRecord {
        task: task.parse().unwrap(),
        format: "none".to_owned(),
        open_thought: None,
        questions: u32::try_from(counts.len() / metric.width()).unwrap(),
        too_long: Vec::new(),
        scores: vec![ScoreRecord { metric, counts }],
        answers: Vec::new(),
        request_tokens: 0,
        evaluated_tokens: 0,
        seconds: 1.0,
        retrieval: None,
        vision: None,
    }
}
