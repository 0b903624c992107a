//! Searches on machines that are made up: what every choice does to the speed is known.

use super::*;
use crate::experiment::resolved::{Experiment, ModelPlan};
use crate::experiment::settings::FlashAttention;
use crate::experiment::tuning::{Goal, Machine, Use};
use crate::experiment::workloads::Workloads;
use crate::hardware::usage::Usage;
use crate::model::artifact::Artifact;
use crate::model::engine_name::EngineIdentity;
use crate::model::engine_name::EngineName;
use crate::model::resolve::Origin;
use crate::model::source::Source;
use crate::orchestrator::plan::{Plan, Variant};
use crate::results::record::{PhaseUsage, SpeedRecord, VisitRecord};
use crate::workload::Phase;
use crate::workload::measured::SpeedSample;
use time::OffsetDateTime;

/// A machine that is made up, and a run on it.
struct World {
    space: Space,
    experiment: Experiment,
    plan: Plan,
    run: RunRecord,
    /// The speed under settings, tokens per second, without noise.
    speed: Box<dyn Fn(&Settings) -> f64>,
    /// Standard deviation of a visit's speed, in logarithms.
    noise: f64,
    random: fastrand::Rng,
    /// Seconds that a visit takes besides.
    load: f64,
}

fn variant() -> Variant {
    Variant {
        repeats: None,
        model: "m".to_owned(),
        engine: EngineIdentity::default(),
        quantization: "F16".parse().unwrap(),
        label: "F16".to_owned(),
        origin: Origin::Ready(Artifact::found("m.gguf".into(), "c".to_owned(), 1)),
        calibration: None,
        projector: None,
        adapters: Vec::new(),
    }
}

impl World {
    fn new(seed: u64, noise: f64, speed: impl Fn(&Settings) -> f64 + 'static) -> Self {
        let goal = Goal::Latency;
        let used = Use { goal, prompt_tokens: 512, generated_tokens: 32, depth: 0, parallel: 1 };
        let machine = Machine {
            engine: EngineName::LlamaCpp,
            threads: 4,
            processors: 8,
            gpus: 0,
            layers: 17,
            has_experts: false,
        };
        let experiment = Experiment {
            models: vec![ModelPlan::new("m".to_owned(), Source::Demo)],
            workloads: Workloads { speed: used.tests(), ..Workloads::default() },
            ..Experiment::default()
        };
        let plan = Plan::new(&experiment, vec![vec![variant()]]).unwrap();
        let mut run = crate::results::made_up::MadeUp::default().run();
        run.trials = plan.empty_records();
        run.active_seconds = Some(0.0);
        let space = Space::new(&used, &machine, false);
        let random = fastrand::Rng::with_seed(seed);
        Self { space, experiment, plan, run, speed: Box::new(speed), noise, random, load: 1.0 }
    }

    /// A draw that is roughly normal.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.f64()).sum::<f64>() - 6.0
    }

    fn known(&self) -> Known<'_> {
        Known {
            experiment: &self.experiment,
            plan: &self.plan,
            run: &self.run,
            past: &[],
            foreseen: &[],
        }
    }

    fn visit(&mut self, visit: PlannedVisit) {
        let noise = self.noise * self.normal();
        let settings = &self.run.trials[visit.trial].settings;
        // In every round the machine is another 10 % slower for all.
        let round = visit.purpose.round();
        let speed = (self.speed)(settings) * 0.9_f64.powi(round.try_into().unwrap()) * noise.exp();
        let test = self.experiment.workloads.speed[0];
        let seconds = f64::from(test.tokens()) / speed;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
        let nanoseconds = (seconds * 1e9) as u64;
        let sample = SpeedSample { nanoseconds, tokens: test.tokens() };
        let mut record = VisitRecord::new(OffsetDateTime::UNIX_EPOCH);
        record.round = round;
        record.speed = vec![SpeedRecord { test, samples: vec![sample] }];
        let all = seconds + self.load;
        record.usage = vec![PhaseUsage {
            phase: Phase::Speed(test),
            begin_seconds: Some(0.0),
            end_seconds: Some(all),
            usage: Usage { seconds: all, ..Usage::default() },
        }];
        self.run.trials[visit.trial].visits.push(record);
        *self.run.active_seconds.get_or_insert(0.0) += all;
    }

    /// Searches to the end, or for so many visits.
    fn search(&mut self, search: &mut Search, most: usize) -> usize {
        let mut visits = 0;
        while visits < most {
            match search.next(&self.known()) {
                Step::Done => return visits,
                Step::Add(trial) => {
                    self.run.trials.push(self.plan.empty_record(&trial));
                    self.plan.trials.push(*trial);
                }
                Step::Visit(visit) => {
                    self.visit(visit);
                    visits += 1;
                }
            }
        }
        visits
    }

    fn searched(&mut self, seconds: u64, method: Method) -> f64 {
        let tests = self.experiment.workloads.speed.clone();
        let budget = Duration::from_secs(seconds);
        let mut search = Search::new(self.space.clone(), tests.clone(), budget, method);
        self.search(&mut search, usize::MAX);
        assert!(self.run.active_seconds.unwrap() <= budget.as_secs_f64() + 5.0);
        self.found()
    }

    /// How many times as fast as the defaults what was found really is.
    fn found(&self) -> f64 {
        let tests = &self.experiment.workloads.speed;
        let found = leader(&self.run, tests, |_| true);
        let settings =
            found.map_or_else(Settings::default, |it| self.run.trials[it.trial].settings.clone());
        (self.speed)(&settings) / (self.speed)(&Settings::default())
    }

    fn rounds(&self, settings: &str) -> usize {
        let found = self.run.trials.iter().find(|it| it.settings.to_string() == settings);
        found.unwrap().visits.len()
    }
}

/// Choices whose effects multiply: 8 threads for batches, a ubatch of 128, no repacking.
fn separable(settings: &Settings) -> f64 {
    let batch = match settings.threads_batch.unwrap_or_else(|| settings.threads.unwrap_or(4)) {
        8 => 1.2,
        6 => 1.1,
        4 => 1.0,
        2 => 0.6,
        _ => 0.3,
    };
    let generation = match settings.threads.unwrap_or(4) {
        1 | 8 => 0.7,
        _ => 1.0,
    };
    let ubatch = match settings.ubatch {
        128 => 1.1,
        64 => 0.8,
        _ => 1.0,
    };
    let repack = if settings.repack { 1.0 } else { 1.05 };
    let fused = if settings.flash_attention == FlashAttention::Off { 0.9 } else { 1.0 };
    300.0 * batch * generation * ubatch * repack * fused
}

#[test]
fn what_gains_is_put_together() {
    let mut world = World::new(1, 0.02, separable);
    let found = world.searched(400, Method::Choices);
    assert!((found - 1.2 * 1.1 * 1.05).abs() < 1e-6, "{found}");
    // What is far behind is not visited again; the defaults are in every round.
    assert_eq!(world.rounds("t=1 tb=4"), 1);
    let most = world.run.trials.iter().map(|it| it.visits.len()).max().unwrap();
    assert_eq!(world.rounds("defaults"), most);
}

#[test]
fn where_nothing_gains_the_defaults_stay() {
    let mut misled = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 0.03, |settings| {
            if settings.threads.unwrap_or(4) == 4 && settings.threads_batch.is_none() {
                300.0
            } else {
                250.0
            }
        });
        let found = world.searched(300, Method::Choices);
        misled += usize::from(found < 0.999);
    }
    assert!(misled <= 1, "{misled} of 20");
}

#[test]
fn there_is_an_answer_whenever_it_stops() {
    for most in [1, 5, 15, 25, 40] {
        let mut world = World::new(3, 0.02, separable);
        let tests = world.experiment.workloads.speed.clone();
        let mut search =
            Search::new(world.space.clone(), tests, Duration::from_secs(400), Method::Choices);
        world.search(&mut search, most);
        let found = world.found();
        assert!(if most >= 15 { found > 1.09 } else { found >= 1.0 }, "{most}: {found}");
    }
}

#[test]
fn an_interrupted_search_goes_on_where_it_was() {
    let tests = World::new(5, 0.0, separable).experiment.workloads.speed;
    let budget = Duration::from_mins(5);
    let new =
        |world: &World| Search::new(world.space.clone(), tests.clone(), budget, Method::Choices);
    for most in [3, 11, 17, 24] {
        let mut world = World::new(5, 0.0, separable);
        let mut search = new(&world);
        world.search(&mut search, most);
        let mut again = new(&world);
        world.search(&mut again, usize::MAX);
        assert!((world.found() - 1.2 * 1.1 * 1.05).abs() < 1e-6, "{most}: {}", world.found());
        // Nobody is visited twice in a round.
        for trial in &world.run.trials {
            let mut rounds: Vec<u32> = trial.visits.iter().map(|it| it.round).collect();
            rounds.dedup();
            assert_eq!(rounds.len(), trial.visits.len());
        }
    }
}

#[test]
fn a_machine_without_time_keeps_to_the_budget() {
    let mut world = World::new(7, 0.02, separable);
    world.load = 50.0;
    let found = world.searched(120, Method::Choices);
    assert!(found >= 1.0, "{found}");
    assert!(world.run.active_seconds.unwrap() < 125.0);
}

#[test]
fn a_proof_takes_turns_and_ends_with_its_time() {
    let mut world = World::new(9, 0.0, separable);
    world.experiment.rounds = 6;
    let fast = Settings { repack: false, ..Settings::default() };
    let trial = world.plan.under(&world.experiment, 0, fast);
    world.run.trials.push(world.plan.empty_record(&trial));
    world.plan.trials.push(trial);
    let mut order = Vec::new();
    let mut proof = Confirm::new(Duration::from_secs(1));
    while let Step::Visit(visit) = proof.next(&world.known()) {
        order.push((visit.trial, visit.purpose.round()));
        world.visit(visit);
    }
    assert_eq!(order, [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]);
    // With time there are as many rounds as there are prompts for.
    let mut proof = Confirm::new(Duration::from_secs(1000));
    while let Step::Visit(visit) = proof.next(&world.known()) {
        world.visit(visit);
    }
    assert_eq!(world.run.trials[1].visits.len(), 6);
}

/// A landscape that is made up: every choice has an effect, and some pairs of choices a further one.
fn landscape(seed: u64) -> impl Fn(&Settings) -> f64 + 'static {
    move |settings: &Settings| {
        let effect = |name: &str, value: String| {
            let text = format!("{seed} {name} {value}");
            let hash = crate::model::cache::of_bytes(text.as_bytes());
            let number = u32::from_str_radix(&hash[..8], 16).unwrap_or(0);
            f64::from(number) / f64::from(u32::MAX)
        };
        let base = Settings::default();
        let threads = settings.threads.unwrap_or(4);
        let batch = settings.threads_batch.unwrap_or(threads);
        let parts = [
            ("threads", threads.to_string(), threads == 4),
            ("batch threads", batch.to_string(), batch == 4),
            ("ubatch", settings.ubatch.to_string(), settings.ubatch == base.ubatch),
            (
                "fused",
                settings.flash_attention.to_string(),
                settings.flash_attention == base.flash_attention,
            ),
            ("repack", settings.repack.to_string(), settings.repack),
            ("mmap", settings.mmap.to_string(), settings.mmap),
        ];
        let mut logarithm = 300.0_f64.ln();
        for (name, value, is_default) in &parts {
            // Most choices cost, some gain up to 15 %.
            if !is_default {
                logarithm += effect(name, value.clone()) * 0.6 - 0.45;
            }
        }
        for (at, one) in parts.iter().enumerate() {
            for other in &parts[at + 1..] {
                if !one.2 && !other.2 {
                    let both = format!("{}={} {}={}", one.0, one.1, other.0, other.1);
                    logarithm += (effect("pair", both) - 0.5) * 0.1;
                }
            }
        }
        logarithm.exp()
    }
}

#[test]
fn it_finds_more_than_random_draws_in_the_same_time() {
    let (mut ahead, mut behind) = (0, 0);
    let mut logarithms = 0.0;
    for seed in 0..40 {
        let found = |method| World::new(seed, 0.03, landscape(seed)).searched(150, method);
        let (own, random) = (found(Method::Choices), found(Method::Random(seed)));
        logarithms += (own / random).ln();
        ahead += usize::from(own > random * 1.005);
        behind += usize::from(own < random / 1.005);
    }
    let times = (logarithms / 40.0).exp();
    assert!(ahead > 2 * behind && times > 1.0, "ahead {ahead}, behind {behind} of 40, {times:.3}");
}
