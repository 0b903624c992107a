//! Tuning: what settings are tuned for, and the space of settings that is searched.

use super::settings::{FlashAttention, GraphOptimization, Settings, SplitMode};
use super::workloads::SpeedTest;
use crate::model::engine_name::EngineName;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use strum::Display;

/// What a user waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Goal {
    /// Tokens per second of a prompt that is read
    Prompt,
    /// Tokens per second of an answer that is written
    Generation,
    /// Time from a request to the end of its answer
    Latency,
    /// Tokens per second of several requests side by side
    Throughput,
    /// Reading and writing alike: the geometric mean of both speeds
    Balanced,
}

/// What a model is used for: sizes of requests, each of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// What the user waits for.
    pub goal: Goal,
    /// Of a prompt.
    pub prompt_tokens: u32,
    /// Of an answer.
    pub generated_tokens: u32,
    /// In the context before an answer begins.
    pub depth: u32,
    /// Requests side by side.
    pub parallel: u32,
}

impl Use {
    /// The throughput tests whose speeds, as a geometric mean, are the goal.
    pub fn tests(&self) -> Vec<SpeedTest> {
        let Self { prompt_tokens, generated_tokens, depth, parallel, .. } = *self;
        let none = SpeedTest { sequences: parallel.max(1), ..SpeedTest::default() };
        let prompt = SpeedTest { prompt_tokens, ..none };
        let generation = SpeedTest { generated_tokens, depth, ..none };
        match self.goal {
            Goal::Prompt => vec![prompt],
            Goal::Generation => vec![generation],
            Goal::Balanced => vec![prompt, generation],
            Goal::Latency | Goal::Throughput => {
                vec![SpeedTest { prompt_tokens, generated_tokens, ..none }]
            }
        }
    }

    fn reads(&self) -> bool {
        self.goal != Goal::Generation
    }
}

/// What decides which settings are worth trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// What computes the model.
    pub engine: EngineName,
    /// Threads that the engine takes by itself.
    pub threads: u32,
    /// Logical processors that may be used.
    pub processors: u32,
    /// GPUs.
    pub gpus: u32,
    /// Layers that may lie on a GPU, the output being one.
    pub layers: u32,
    /// Whether the model is a mixture of experts.
    pub has_experts: bool,
}

/// A choice that is tuned.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    /// Keys of settings that have the same value.
    pub keys: &'static [&'static str],
    /// What else it may be than as the engine has it by itself.
    pub values: Vec<Value>,
    /// Whether answers may be worse for it.
    pub is_lossy: bool,
}

impl Factor {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self.keys {
            [only] => only,
            _ => "cache_type_k, cache_type_v",
        }
    }
}

/// All settings that may be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// As the engine has them by itself.
    pub base: Settings,
    /// What may be changed, what promises most first.
    pub factors: Vec<Factor>,
    engine: EngineName,
    threads: u32,
}

impl Space {
    /// What may matter for a use on a machine. `lossy`: also what may make answers worse.
    pub fn new(used: &Use, machine: &Machine, lossy: bool) -> Self {
        let Machine { engine, threads, .. } = *machine;
        let mut space = Self { base: Settings::default(), factors: Vec::new(), engine, threads };
        if engine == EngineName::OnnxRuntime {
            space.fill_onnxruntime(used, machine);
        } else {
            space.fill(used, machine, lossy);
        }
        space
    }

    /// ONNX Runtime has one pool of threads, which waits in a loop or not, and rewrites the graph or not.
    fn fill_onnxruntime(&mut self, used: &Use, machine: &Machine) {
        let threads = thread_counts(machine.threads, machine.processors);
        self.add(&["threads"], threads.into_iter().map(|count| json!(count)).collect());
        self.add(&["spinning"], vec![json!(false)]);
        if used.reads() {
            self.add(&["ubatch"], useful(64, 2048, self.base.ubatch, used));
        }
        let less =
            [GraphOptimization::Extended, GraphOptimization::Basic, GraphOptimization::Disable];
        self.add(&["graph_optimization"], less.map(|level| json!(level)).to_vec());
    }

    fn fill(&mut self, used: &Use, machine: &Machine, lossy: bool) {
        let space = self;
        let batched = used.parallel > 1;
        let threads = thread_counts(machine.threads, machine.processors);
        let threads: Vec<Value> = threads.into_iter().map(|count| json!(count)).collect();
        // Where layers are on GPUs, threads have little to do.
        if machine.gpus > 0 {
            if machine.gpus > 1 {
                space.add(&["split_mode"], vec![json!("tensor"), json!("none")]);
            }
            space.add(&["gpu_layers"], layer_counts(machine.layers));
            space.add(&["kv_offload"], vec![json!(false)]);
            space.add(&["op_offload"], vec![json!(false)]);
            if machine.has_experts {
                space.add(&["cpu_moe"], vec![json!(true)]);
            }
        }
        // One token at a time is computed by `threads`, more by `threads_batch`.
        if used.goal != Goal::Prompt && !batched {
            space.add(&["threads"], threads.clone());
        }
        if used.reads() || batched {
            space.add(&["threads_batch"], threads);
        }
        if used.reads() {
            space.add(&["ubatch"], useful(64, 2048, space.base.ubatch, used));
            space.add(&["batch"], useful(space.base.ubatch, 4096, space.base.batch, used));
        }
        // What llama.cpp chooses by itself is fused attention wherever there is a kernel for it.
        let off = json!(FlashAttention::Off);
        let fused = if machine.gpus > 0 { vec![off, json!(FlashAttention::On)] } else { vec![off] };
        space.add(&["flash_attention"], fused);
        space.add(&["repack"], vec![json!(false)]);
        space.add(&["mmap"], vec![json!(false)]);
        if lossy {
            let types = vec![json!("q8_0"), json!("q4_0")];
            space.add(&["cache_type_k", "cache_type_v"], types);
            space
                .factors
                .iter_mut()
                .filter(|it| it.keys.len() > 1)
                .for_each(|it| it.is_lossy = true);
        }
    }

    fn add(&mut self, keys: &'static [&'static str], values: Vec<Value>) {
        if !values.is_empty() {
            self.factors.push(Factor { keys, values, is_lossy: false });
        }
    }

    /// The value that settings have for a factor.
    pub fn value(&self, settings: &Settings, factor: &Factor) -> Value {
        let explicit = self.explicit(settings);
        match factor.keys[0] {
            // Those that are not written where they have their defaults.
            "repack" => json!(explicit.repack),
            "op_offload" => json!(explicit.op_offload),
            "cpu_moe" => json!(explicit.cpu_moe),
            "spinning" => json!(explicit.spinning),
            "graph_optimization" => json!(explicit.graph_optimization),
            key => serde_json::to_value(explicit).unwrap_or_default()[key].clone(),
        }
    }

    /// Settings with another value of a factor; `None`: they do not go together.
    pub fn with(&self, settings: &Settings, factor: &Factor, value: &Value) -> Option<Settings> {
        let mut all = serde_json::to_value(self.explicit(settings)).ok()?;
        for key in factor.keys {
            all[*key] = value.clone();
        }
        let mut changed: Settings = serde_json::from_value(all).ok()?;
        if changed.threads_batch == changed.threads {
            changed.threads_batch = None;
        }
        if changed.threads == Some(self.threads) {
            changed.threads = None;
        }
        let quantized = !matches!(<&str>::from(changed.cache_type_v), "f32" | "f16" | "bf16");
        let needs_fused = quantized || changed.split_mode == SplitMode::Tensor;
        let is_possible = changed.ubatch <= changed.batch
            && !(needs_fused && changed.flash_attention == FlashAttention::Off);
        is_possible.then_some(changed)
    }

    /// Thread counts as numbers.
    fn explicit(&self, settings: &Settings) -> Settings {
        let threads = settings.threads.unwrap_or(self.threads);
        let has_batch = self.engine != EngineName::OnnxRuntime;
        let threads_batch = has_batch.then(|| settings.threads_batch.unwrap_or(threads));
        Settings { threads: Some(threads), threads_batch, ..settings.clone() }
    }

    /// The settings with one factor changed, those that promise most first.
    pub fn singles(&self) -> Vec<Settings> {
        self.around(&self.base)
    }

    /// The settings that differ from some by one factor, with every value that it may have.
    pub fn around(&self, settings: &Settings) -> Vec<Settings> {
        let mut all: Vec<Settings> = Vec::new();
        for factor in &self.factors {
            let values = factor.values.iter().cloned().chain([self.value(&self.base, factor)]);
            let changed = values.filter_map(|value| self.with(settings, factor, &value));
            all.extend(changed);
        }
        let mut once: Vec<Settings> = Vec::new();
        for settings_of in all {
            if settings_of != *settings && !once.contains(&settings_of) {
                once.push(settings_of);
            }
        }
        once
    }

    /// The factors in which settings differ from the base, with their values.
    pub fn changes(&self, settings: &Settings) -> Vec<(&Factor, Value)> {
        let changed = self.factors.iter().map(|factor| (factor, self.value(settings, factor)));
        changed.filter(|(factor, value)| *value != self.value(&self.base, factor)).collect()
    }

    /// Whether answers may be worse under settings.
    pub fn is_lossy(&self, settings: &Settings) -> bool {
        self.changes(settings).iter().any(|(factor, _)| factor.is_lossy)
    }

    /// Any of the settings, all of them equally likely.
    pub fn random(&self, random: &mut fastrand::Rng) -> Settings {
        loop {
            let mut settings = Some(self.base.clone());
            for factor in &self.factors {
                let at = random.usize(0..=factor.values.len());
                if let Some(value) = factor.values.get(at) {
                    settings = settings.and_then(|it| self.with(&it, factor, value));
                }
            }
            if let Some(settings) = settings {
                return settings;
            }
        }
    }

    /// Leaves out the values under which settings are refused, with everything else as it is.
    pub fn retain(&mut self, mut is_possible: impl FnMut(&Settings) -> bool) {
        let whole = self.clone();
        for factor in &mut self.factors {
            let described = factor.clone();
            factor.values.retain(|value| {
                whole.with(&whole.base, &described, value).is_some_and(|it| is_possible(&it))
            });
        }
        self.factors.retain(|factor| !factor.values.is_empty());
    }
}

/// Whether both compute the same numbers: who computes them, and how a file is read, changes none.
pub fn same_numbers(one: &Settings, other: &Settings) -> bool {
    let bare = |settings: &Settings| Settings {
        threads: None,
        threads_batch: None,
        mmap: true,
        spinning: true,
        ..settings.clone()
    };
    bare(one) == bare(other)
}

/// Powers of two from `least` to `most`, but for one, as far as they are other computations: more than a prompt at once is
/// none.
fn useful(least: u32, most: u32, but: u32, used: &Use) -> Vec<Value> {
    let at_once = used.prompt_tokens.saturating_mul(used.parallel.max(1));
    let sizes = (0..).map(|power| least << power).take_while(|size| *size <= most);
    let sizes = sizes.filter(|&size| size != but && (size < at_once || size / 2 < at_once));
    let cap = |size: u32| size.min(at_once) != but.min(at_once);
    sizes.filter(|&size| cap(size)).map(|size| json!(size)).collect()
}

/// Other numbers of threads than the engine's own.
pub fn thread_counts(by_itself: u32, processors: u32) -> Vec<u32> {
    let all = processors.max(1);
    let counts = BTreeSet::from([1, all / 4, all / 2, all / 4 * 3, by_itself, all]);
    counts.into_iter().rev().filter(|&it| it > 0 && it != by_itself).collect()
}

/// Fewer layers than all of them.
fn layer_counts(layers: u32) -> Vec<Value> {
    let counts = [layers.saturating_sub(1), layers / 4 * 3, layers / 2, layers / 4, 0];
    let fewer: BTreeSet<u32> = counts.into_iter().filter(|&count| count < layers).collect();
    fewer.into_iter().rev().map(|count| json!(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        engine: EngineName::LlamaCpp,
        threads: 4,
        processors: 8,
        gpus: 0,
        layers: 17,
        has_experts: false,
    };

    fn used(goal: Goal) -> Use {
        Use { goal, prompt_tokens: 512, generated_tokens: 32, depth: 0, parallel: 1 }
    }

    fn names(space: &Space) -> Vec<String> {
        space.singles().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_may_matter_is_tried() {
        let generation = Space::new(&used(Goal::Generation), &MACHINE, false);
        assert_eq!(
            names(&generation),
            ["t=8 tb=4", "t=6 tb=4", "t=2 tb=4", "t=1 tb=4", "fa=off", "repack=0", "mmap=0"]
        );
        let prompt = Space::new(&used(Goal::Prompt), &MACHINE, false);
        assert_eq!(
            names(&prompt),
            [
                "tb=8", "tb=6", "tb=2", "tb=1", "ub=64", "ub=128", "ub=256", "fa=off", "repack=0",
                "mmap=0"
            ]
        );
        let long = Use { prompt_tokens: 4096, ..used(Goal::Prompt) };
        let long = Space::new(&long, &MACHINE, true);
        assert!(names(&long).contains(&"ub=2048".to_owned()), "{:?}", names(&long));
        assert!(names(&long).contains(&"ctk=q8_0 ctv=q8_0".to_owned()));
    }

    #[test]
    fn onnx_runtime_is_tried_with_what_it_has() {
        let machine = Machine { engine: EngineName::OnnxRuntime, ..MACHINE };
        let space = Space::new(&used(Goal::Balanced), &machine, true);
        let expected = "t=8, t=6, t=2, t=1, spin=0, ub=64, ub=128, ub=256, opt=extended, opt=basic, opt=disable";
        assert_eq!(names(&space).join(", "), expected);
        let generation = Space::new(&used(Goal::Generation), &machine, false);
        assert!(!names(&generation).iter().any(|it| it.starts_with("ub")), "nothing is read");
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..100 {
            let any = space.random(&mut random);
            let own = Settings {
                threads: None,
                spinning: true,
                ubatch: space.base.ubatch,
                graph_optimization: GraphOptimization::All,
                ..any.clone()
            };
            assert_eq!(own, Settings::default(), "{any}");
        }
    }

    #[test]
    fn a_gpu_brings_its_own_choices() {
        let machine = Machine { gpus: 1, has_experts: true, ..MACHINE };
        let space = Space::new(&used(Goal::Generation), &machine, false);
        let names = names(&space);
        for name in ["ngl=16", "ngl=8", "ngl=0", "nkvo=1", "nopo=1", "cmoe", "fa=on"] {
            assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
        }
    }

    #[test]
    fn a_value_that_was_set_is_read_back_and_can_be_taken_back() {
        let machine = Machine { gpus: 2, has_experts: true, ..MACHINE };
        let onnx = Machine { engine: EngineName::OnnxRuntime, ..MACHINE };
        let long = Use { prompt_tokens: 4096, ..used(Goal::Balanced) };
        let spaces = [machine, onnx].map(|machine| Space::new(&long, &machine, true));
        for (space, factor) in
            spaces.iter().flat_map(|space| space.factors.iter().map(move |factor| (space, factor)))
        {
            let own = space.value(&space.base, factor);
            for value in &factor.values {
                assert_ne!(*value, own, "{}", factor.name());
                let Some(changed) = space.with(&space.base, factor, value) else { continue };
                assert_eq!(space.value(&changed, factor), *value, "{}", factor.name());
                assert_eq!(space.changes(&changed).len(), 1, "{changed}");
                assert_eq!(space.with(&changed, factor, &own), Some(space.base.clone()));
            }
        }
    }

    #[test]
    fn what_does_not_go_together_is_not_tried() {
        let space = Space::new(&used(Goal::Balanced), &MACHINE, true);
        let find = |name: &str| space.factors.iter().find(|it| it.name() == name).unwrap();
        let cache = find("cache_type_k, cache_type_v");
        let quantized = space.with(&space.base, cache, &json!("q8_0")).unwrap();
        assert!(space.is_lossy(&quantized) && !space.is_lossy(&space.base));
        assert_eq!(space.with(&quantized, find("flash_attention"), &json!("off")), None);
        let two = Space::new(&used(Goal::Generation), &Machine { gpus: 2, ..MACHINE }, false);
        assert_eq!(two.factors[0].name(), "split_mode", "what promises most is tried first");
        let divided = two.with(&two.base, &two.factors[0], &json!("tensor")).unwrap();
        let fused = two.factors.iter().find(|it| it.name() == "flash_attention").unwrap();
        assert_eq!(two.with(&divided, fused, &json!("off")), None);
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let any = space.random(&mut random);
            assert!(any.ubatch <= any.batch);
        }
    }

    #[test]
    fn tests_are_as_long_as_the_use() {
        let names = |used: Use| {
            let names: Vec<String> = used.tests().iter().map(ToString::to_string).collect();
            names.join(" ")
        };
        let deep = Use { depth: 256, ..used(Goal::Balanced) };
        assert_eq!(names(deep), "pp512 tg32 @ d256");
        assert_eq!(names(Use { parallel: 4, ..used(Goal::Throughput) }), "pp512+tg32x4");
        assert_eq!(names(used(Goal::Latency)), "pp512+tg32");
    }

    #[test]
    fn threads_change_no_number() {
        let base = Settings::default();
        assert!(same_numbers(&base, &Settings { threads: Some(1), mmap: false, ..base.clone() }));
        assert!(same_numbers(&base, &Settings { spinning: false, ..base.clone() }));
        assert!(!same_numbers(&base, &Settings { repack: false, ..base.clone() }));
    }
}
