//! What fits where, with an engine whose figures are known.

use super::fit::{Change, Demand, Verdict, error_of};
use super::place::{Budget, Place, parse_budget, targets};
use crate::engine::Device;
use crate::experiment::settings::{CacheType, Settings};
use crate::hardware::cgroup::Limits;
use crate::hardware::finding::Finding;
use crate::hardware::memory::Memory;
use crate::hardware::rates::{ComputeRates, Rate, TypeRate};
use crate::units::parse_bytes;
use crate::workload::jobs::MemoryQuestion;
use crate::workload::measured::{BufferMemory, PredictedMemory};
use std::cell::Cell;

const MIB: u64 = 1 << 20;

/// Of one thread and F16 alone, its repetitions that far apart.
pub(super) fn rates(spread: f64) -> ComputeRates {
    let spread = |value: f64| Rate { value, low: value * (1.0 - spread), high: value };
    let rate = TypeRate { generation: spread(10e9), prompt: spread(100e9) };
    ComputeRates {
        threads: 1,
        types: [("F16".to_owned(), rate)].into(),
        layer_seconds: 1e-5,
        element_seconds: 1e-9,
        generation_attention: 6e-10,
        generation_keys: 8e-10,
        prompt_attention: 1e-10,
        seconds: 10.0,
    }
}

fn memory(available: u64) -> Memory {
    let none = || "not asked".to_owned();
    Memory {
        total_bytes: Finding::Known(2 * available),
        available_bytes: Finding::Known(available),
        swap_bytes: Finding::Known(1 << 40),
        modules: Finding::Missing(none()),
        nodes: Finding::Missing(none()),
    }
}

fn limits(memory_bytes: Finding<u64>) -> Limits {
    let none = || "not asked".to_owned();
    let (usable_cpus, cpu_quota_cores) = (Finding::Missing(none()), Finding::Missing(none()));
    Limits { usable_cpus, cpu_quota_cores, memory_bytes }
}

fn device(name: &str, kind: &str) -> Device {
    Device {
        name: name.to_owned(),
        description: "a device".to_owned(),
        kind: kind.to_owned(),
        backend: "CUDA".to_owned(),
        total_bytes: 900 * MIB,
        free_bytes: 800 * MIB,
    }
}

fn here(devices: &[Device], budgets: &[&str]) -> Result<Place, String> {
    let budgets: Vec<Budget> = budgets.iter().map(|it| parse_budget(it).unwrap()).collect();
    Place::here(&memory(4096 * MIB), &limits(Finding::Missing("none".into())), devices, &budgets)
}

/// A model of 10 layers of 100 MiB, half of it experts, with a cache of a MiB for every 4 tokens in F16, half of that
/// in `Q8_0`; `Q4_0` it cannot do.
#[expect(clippy::unnecessary_wraps, reason = "stands for an engine that may say nothing")]
fn predict(asked: Vec<MemoryQuestion>) -> Result<Vec<Result<PredictedMemory, String>>, String> {
    let answer = |question: MemoryQuestion| {
        let MemoryQuestion { settings, tokens, sequences, experts_on_host, .. } = question;
        assert_eq!(sequences, 2);
        let bytes = match settings.cache_type_k {
            CacheType::F16 => MIB / 4,
            CacheType::Q8_0 => MIB / 8,
            _ => return Err("it needs flash attention".to_owned()),
        };
        let layers = u64::try_from(settings.gpu_layers).unwrap_or(10);
        let experts = if experts_on_host { 50 * layers * MIB } else { 0 };
        let buffer = |buffer: &str, weights_bytes, kv_bytes| BufferMemory {
            buffer: buffer.to_owned(),
            on_device: buffer.starts_with("CUDA0"),
            weights_bytes,
            kv_bytes,
            compute_bytes: MIB,
            context: tokens,
        };
        let host = buffer("CPU", 100 * (10 - layers) * MIB + experts, 0);
        let gpu = buffer("CUDA0", 100 * layers * MIB - experts, u64::from(tokens) * bytes);
        let process_bytes = Some(20 * MIB);
        Ok(PredictedMemory {
            context: tokens,
            buffers: vec![host, gpu],
            process_bytes,
            gpu_process_bytes: (layers > 0).then_some(40 * MIB),
        })
    };
    Ok(asked.into_iter().map(answer).collect())
}

fn judged(place: &Place, context: u32) -> Verdict {
    let demand = Demand {
        settings: Settings::default(),
        context,
        parallel: 2,
        cache_types: vec![CacheType::F16, CacheType::Q8_0, CacheType::Q4_0],
        layers: 10,
        has_experts: true,
        all_logits: false,
    };
    let forecast = demand.forecast(&predict).unwrap();
    demand.judge(&forecast, place, &predict)
}

fn with(verdict: Verdict) -> Vec<Change> {
    match verdict {
        Verdict::FitsWith { with } => with,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_memory_is_enough_as_asked_with_a_change_or_not() {
    // Weights 1000, process 20, compute 2 MiB; the cache takes 1024 in F16 at 2 × 2048 tokens.
    let place = |mib: u64| here(&[], &[&format!("host={mib}MiB")]).unwrap();
    let all: u64 = 1000 + 20 + 2 + 1024;
    assert_eq!(error_of(all * MIB) / MIB, all / 50, "2 % are kept free");
    assert_eq!(judged(&place(all + 41), 2048), Verdict::Fits);
    let changes = with(judged(&place(all + 40), 2048));
    let smaller = Change { context: Some(1792), ..Change::default() };
    let cache = Change { cache_type: Some(CacheType::Q8_0), ..Change::default() };
    assert_eq!(changes, [cache, smaller], "Q4_0 is not offered");
    let both = with(judged(&place(1000 + 22 + 160), 2048));
    let expected =
        Change { cache_type: Some(CacheType::Q8_0), context: Some(512), ..Change::default() };
    assert_eq!(both, [expected]);
    let Verdict::DoesNotFit { short_bytes, of } = judged(&place(500), 2048) else { panic!() };
    assert_eq!((short_bytes / MIB, of.as_str()), (all + all / 50 - 500, "host"));
}

#[test]
fn a_gpu_offers_layers_and_experts_too() {
    let place = here(&[device("CUDA0", "GPU")], &["gpu0=880MiB"]).unwrap();
    assert!(place.has_gpu());
    let changes = with(judged(&place, 512));
    let layers = changes.iter().find_map(|it| it.gpu_layers);
    // 256 MiB of cache, 1 of compute, 40 of the driver, 17 for the error: 5 layers of 100 MiB are left.
    assert_eq!(layers, Some(5), "{changes:?}");
    assert!(changes.iter().any(|it| it.experts_on_host), "{changes:?}");
    let words = Verdict::FitsWith { with: changes }.in_words(10);
    assert!(words.contains("experts on the CPU, or 5 of 10 layers on the GPU"), "{words}");
    let little = here(&[device("CUDA0", "GPU")], &["host=100MiB", "CUDA0=800MiB"]).unwrap();
    assert!(matches!(judged(&little, 2048), Verdict::DoesNotFit { .. }), "nothing is left over");
}

#[test]
fn what_an_integrated_gpu_takes_is_the_hosts() {
    let place = here(&[device("CUDA0", "integrated GPU")], &["host=1200MiB"]).unwrap();
    assert_eq!(place.pools.len(), 1);
    assert!(matches!(judged(&place, 512), Verdict::FitsWith { .. }));
}

#[test]
fn what_is_not_known_is_said_with_its_reason() {
    let unknown = Finding::Missing("/proc/meminfo does not exist".to_owned());
    let memory = Memory { available_bytes: unknown, ..memory(MIB) };
    let no_limit = limits(Finding::Missing("none".to_owned()));
    let place = Place::here(&memory, &no_limit, &[], &[]).unwrap();
    let words = judged(&place, 512).in_words(10);
    assert!(words.contains("/proc/meminfo does not exist"), "{words}");
    let limited = Place::here(&memory, &limits(Finding::Known(MIB)), &[], &[]).unwrap();
    assert_eq!(limited.pools[0].there, Some(MIB));
    let demand = Demand {
        settings: Settings::default(),
        context: 512,
        parallel: 2,
        cache_types: vec![CacheType::Q4_0],
        layers: 10,
        has_experts: false,
        all_logits: false,
    };
    let forecast = demand.forecast(&predict).unwrap();
    let reason = "it needs flash attention".to_owned();
    assert_eq!(demand.judge(&forecast, &place, &predict), Verdict::Unknown { reason });
}

#[test]
fn the_smaller_of_what_is_available_and_what_the_group_may_take_counts() {
    let at = |limit: u64| {
        let place = Place::here(&memory(2 * MIB), &limits(Finding::Known(limit)), &[], &[]);
        let pool = place.unwrap().pools.remove(0);
        (pool.there, pool.origin)
    };
    assert_eq!(at(MIB), (Some(MIB), "limit of the control group".to_owned()));
    assert_eq!(at(4 * MIB).0, Some(2 * MIB));
    assert!(at(4 * MIB).1.contains("of 4.00 MiB, swap not counted"));
}

#[test]
fn budgets_and_targets_that_are_wrong_say_what_is_right() {
    let refused = |text| parse_budget(text).unwrap_err();
    assert!(refused("6GiB").contains("host=6GiB") && refused("host=six").contains("3.5GiB"));
    let error = here(&[device("CUDA0", "GPU")], &["gpu1=1GiB"]).unwrap_err();
    assert_eq!(error, "this machine has no gpu1; it has host, gpu0");
    assert_eq!(here(&[], &["host=1GiB", "HOST=2GiB"]).unwrap_err(), "HOST has two budgets");
    assert!(Place::target("pi5-8g").unwrap_err().contains("did you mean pi5-8gb?"));
    assert!(Place::target("nonsense").unwrap_err().contains("there are pi5-4gb, pi5-8gb, "));
    assert!(Place::target("4GiB@17").unwrap_err().contains("17GB/s"));
    assert!(Place::target("4GiB@0GB/s").is_err());
    let place = Place::target("4GiB@17GB/s").unwrap();
    assert_eq!((place.pools[0].there, place.bandwidth), (Some(4 << 30), Some(17e9)));
}

#[test]
fn every_target_has_a_name_of_its_own_a_source_and_no_more_than_is_built_in() {
    let targets = targets().unwrap();
    assert!(targets.len() >= 8);
    for (at, target) in targets.iter().enumerate() {
        assert!(targets[..at].iter().all(|it| it.name != target.name), "{}", target.name);
        assert!(target.source.starts_with("https://"), "{}", target.name);
        let size = |text: &str| parse_bytes(text).unwrap();
        assert!(size(&target.usable) < size(&target.memory), "{}", target.name);
        assert!(Place::target(&target.name).is_ok());
    }
}

#[test]
fn a_limit_is_narrowed_with_few_questions() {
    let processes = Cell::new(0);
    let demand = Demand {
        settings: Settings::default(),
        context: 1 << 17,
        parallel: 2,
        cache_types: vec![CacheType::F16],
        layers: 10,
        has_experts: false,
        all_logits: false,
    };
    let place = here(&[], &["host=40000MiB"]).unwrap();
    let counted = |questions| {
        processes.set(processes.get() + 1);
        predict(questions)
    };
    let forecast = demand.forecast(&counted).unwrap();
    let changes = with(demand.judge(&forecast, &place, &counted));
    // (40000 / 1.02 - 1022) / 2 / 0.25 tokens, in steps of 256.
    assert_eq!(changes[0].context, Some(76_288));
    assert!(processes.get() <= 5, "{} processes", processes.get());
}
