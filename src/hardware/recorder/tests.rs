//! Exact numbers from scripted readings.

use super::*;
use crate::hardware::energy::EnergyReading;
use crate::hardware::gpu::GpuProcess;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A scripted clock: seconds after an arbitrary beginning.
fn clock() -> impl Fn(f64) -> Instant {
    let beginning = Instant::now();
    move |seconds| beginning + Duration::from_secs_f64(seconds)
}

fn counters(at: Instant) -> Counters {
    Counters {
        at,
        process: None,
        load: None,
        energy: None,
        heat_events: None,
        quota: None,
        gpus: Vec::new(),
    }
}

fn process(cpu_seconds: f64, rss: u64, peak: u64) -> ProcessReading {
    ProcessReading { cpu_seconds, rss_bytes: Some(rss * MIB), peak_rss_bytes: Some(peak * MIB) }
}

fn finish(recorder: PhaseRecorder, at_end: &Counters) -> Usage {
    recorder.finish(at_end.at, at_end, &Subject::default())
}

#[test]
fn processor_time_is_the_difference_over_the_phase() {
    let at = clock();
    let start = Counters { process: Some(process(10.0, 5, 5)), ..counters(at(0.0)) };
    let mut recorder = PhaseRecorder::new(at(0.0), start);
    recorder.add_process(at(1.0), Some(process(11.5, 5, 5)));
    let end = Counters { process: Some(process(13.0, 5, 5)), ..counters(at(2.0)) };
    let usage = finish(recorder, &end);
    assert_eq!((usage.seconds, usage.samples, usage.cpu_cores_used), (2.0, 2, Some(1.5)));
}

#[test]
fn a_worker_that_vanishes_is_counted_up_to_its_last_look() {
    let at = clock();
    let start = Counters { process: Some(process(0.0, 5, 5)), ..counters(at(0.0)) };
    let mut recorder = PhaseRecorder::new(at(0.0), start);
    recorder.add_process(at(1.0), Some(process(2.0, 70, 70)));
    recorder.add_process(at(2.0), None);
    let usage = finish(recorder, &counters(at(10.0)));
    assert_eq!((usage.seconds, usage.cpu_cores_used), (10.0, Some(2.0)));
    assert_eq!(usage.max_rss_bytes, Some(70 * MIB));
}

#[test]
fn a_worker_that_was_never_seen_leaves_everything_unknown() {
    let at = clock();
    let mut recorder = PhaseRecorder::new(at(0.0), counters(at(0.0)));
    recorder.add_process(at(0.5), None);
    let usage = finish(recorder, &counters(at(1.0)));
    let expected = Usage { seconds: 1.0, samples: 2, ..Usage::default() };
    assert_eq!(usage, expected);
}

#[test]
fn a_worker_that_ended_but_was_not_waited_for_keeps_its_processor_time() {
    let at = clock();
    let start = Counters { process: Some(process(1.0, 5, 5)), ..counters(at(0.0)) };
    let recorder = PhaseRecorder::new(at(0.0), start);
    let ended = ProcessReading { cpu_seconds: 3.0, rss_bytes: None, peak_rss_bytes: None };
    let usage = finish(recorder, &Counters { process: Some(ended), ..counters(at(4.0)) });
    assert_eq!((usage.cpu_cores_used, usage.max_rss_bytes), (Some(0.5), Some(5 * MIB)));
}

#[test]
fn the_high_water_mark_counts_only_in_the_phase_in_which_it_rose() {
    let at = clock();
    let peak = |before: u64, after: u64| {
        let start = Counters { process: Some(process(0.0, 10, before)), ..counters(at(0.0)) };
        let recorder = PhaseRecorder::new(at(0.0), start);
        let end = Counters { process: Some(process(1.0, 20, after)), ..counters(at(1.0)) };
        finish(recorder, &end).max_rss_bytes
    };
    assert_eq!(peak(10, 90), Some(90 * MIB), "a peak between two looks");
    assert_eq!(peak(90, 90), Some(20 * MIB), "a peak of an earlier phase");
}

#[test]
fn the_machines_use_and_stolen_time_are_shares_of_all_ticks() {
    let at = clock();
    let load = |busy, stolen, total| Some(MachineLoad { busy, stolen, total });
    let start = Counters { load: load(100, 0, 1000), ..counters(at(0.0)) };
    let recorder = PhaseRecorder::new(at(0.0), start);
    let usage = finish(recorder, &Counters { load: load(150, 10, 1200), ..counters(at(1.0)) });
    assert_eq!(usage.machine_cpu, Some(0.25));
    assert_eq!(usage.throttling, ["the hypervisor withheld 5 % of the processor time"]);
}

#[test]
fn what_other_programs_took_is_told_where_it_is_much_and_the_phase_is_long_enough() {
    let at = clock();
    let told = |busy: u64, total: u64, own: f64| {
        let load = |busy, total| Some(MachineLoad { busy, stolen: 0, total });
        let process = |seconds| Some(process(seconds, 1, 1));
        let start = Counters { load: load(100, 1000), process: process(1.0), ..counters(at(0.0)) };
        let recorder = PhaseRecorder::new(at(0.0), start);
        let end = Counters {
            load: load(100 + busy, 1000 + total),
            process: process(1.0 + own),
            ..counters(at(1.0))
        };
        finish(recorder, &end).throttling
    };
    // Two processors for a second: both busy, one of them with the worker.
    assert_eq!(told(200, 200, 1.0), ["other programs took 50 % of the processor time"]);
    assert!(told(200, 200, 1.9).is_empty(), "5 %");
    assert!(told(100, 200, 1.0).is_empty(), "nobody else");
    assert!(told(20, 20, 0.1).is_empty(), "too short to tell");
}

#[test]
fn counters_that_go_backwards_make_their_figure_unknown() {
    let at = clock();
    let load = |busy, total| Some(MachineLoad { busy, stolen: 9, total });
    let gpu = |energy_joules| vec![GpuReading { energy_joules, ..GpuReading::default() }];
    let start = Counters {
        process: Some(process(5.0, 1, 1)),
        load: load(100, 1000),
        heat_events: Some(7),
        quota: Some(QuotaStops { times: 9, seconds: 1.0 }),
        gpus: gpu(Some(500.0)),
        ..counters(at(0.0))
    };
    let recorder = PhaseRecorder::new(at(0.0), start);
    let end = Counters {
        process: Some(process(4.0, 1, 1)),
        load: load(50, 900),
        heat_events: Some(3),
        quota: Some(QuotaStops { times: 2, seconds: 0.5 }),
        gpus: gpu(Some(100.0)),
        ..counters(at(1.0))
    };
    let usage = finish(recorder, &end);
    assert_eq!((usage.cpu_cores_used, usage.machine_cpu), (None, None));
    assert_eq!(usage.gpus[0].energy_joules, None);
    assert!(usage.throttling.is_empty(), "{:?}", usage.throttling);
}

#[test]
fn counted_signs_of_throttling_are_told_once_and_in_words() {
    let at = clock();
    let start = Counters {
        heat_events: Some(3),
        quota: Some(QuotaStops { times: 1, seconds: 0.5 }),
        ..counters(at(0.0))
    };
    let mut recorder = PhaseRecorder::new(at(0.0), start);
    let hot = SensorReading { throttling: vec!["hot"], ..SensorReading::default() };
    recorder.add_sensors(&hot, &mut ClockHistory::default());
    recorder.add_sensors(&hot, &mut ClockHistory::default());
    let end = Counters {
        heat_events: Some(5),
        quota: Some(QuotaStops { times: 4, seconds: 2.0 }),
        ..counters(at(1.0))
    };
    let expected = [
        "hot",
        "the processor slowed itself down 2 times because it was hot",
        "the container's processor quota stopped the worker 3 times, for 1.5 s",
    ];
    assert_eq!(finish(recorder, &end).throttling, expected);
}

/// A phase of two seconds: `cores` busy at each of two clocks, MHz.
fn clock_phase(clocks: &mut ClockHistory, cores: [f64; 2], mhz: [f64; 2]) -> Usage {
    let at = clock();
    let start = Counters { process: Some(process(0.0, 1, 1)), ..counters(at(0.0)) };
    let mut recorder = PhaseRecorder::new(at(0.0), start);
    let mut used = 0.0;
    for (second, (cores, mhz)) in [1.0, 2.0].into_iter().zip(cores.into_iter().zip(mhz)) {
        used += cores;
        recorder.add_process(at(second), Some(process(used, 1, 1)));
        let reading = SensorReading {
            mean_mhz: Some(mhz - 100.0),
            fastest_mhz: Some(mhz),
            celsius: Some(mhz / 100.0),
            throttling: Vec::new(),
        };
        recorder.add_sensors(&reading, clocks);
    }
    finish(recorder, &counters(at(2.0)))
}

#[test]
fn a_clock_that_falls_under_the_same_load_has_dropped() {
    let mut clocks = ClockHistory::default();
    let usage = clock_phase(&mut clocks, [4.0, 4.0], [3000.0, 2000.0]);
    assert_eq!(usage.throttling, ["the clock fell from 3000 to 2000 MHz under load"]);
    assert_eq!((usage.min_cpu_mhz, usage.max_cpu_celsius), (Some(1900.0), Some(30.0)));
    let later = clock_phase(&mut clocks, [4.0, 4.0], [1500.0, 1800.0]);
    assert_eq!(later.throttling, ["the clock fell from 3000 to 1500 MHz under load"]);
}

#[test]
fn a_clock_that_is_low_at_rest_or_with_more_cores_busy_has_not() {
    let signs = |cores, mhz| clock_phase(&mut ClockHistory::default(), cores, mhz).throttling;
    assert!(signs([4.0, 0.1], [3000.0, 800.0]).is_empty(), "at rest");
    assert!(signs([1.0, 32.0], [4000.0, 2500.0]).is_empty(), "more cores busy");
    assert!(signs([4.0, 4.0], [3000.0, 2200.0]).is_empty(), "vector instructions");
}

#[test]
fn gpu_figures_are_means_highs_and_a_difference() {
    let at = clock();
    let reading = |utilization, memory, watts, joules, celsius, worker: Option<u64>| GpuReading {
        utilization: Some(utilization),
        memory_bytes: Some(memory * MIB),
        processes: Some(
            worker
                .map(|memory| GpuProcess { pid: 7, memory_bytes: Some(memory * MIB) })
                .into_iter()
                .collect(),
        ),
        power_watts: Some(watts),
        energy_joules: Some(joules),
        celsius: Some(celsius),
        mhz: None,
        throttling: Vec::new(),
    };
    let idle = reading(0.9, 10, 500.0, 1000.0, 99.0, None);
    let subject = Subject {
        pid: 7,
        gpu_names: vec!["0: H200".into()],
        gpu_baselines: vec![GpuBaseline::of(&idle)],
    };
    let start = Counters { gpus: vec![idle], ..counters(at(0.0)) };
    let mut recorder = PhaseRecorder::new(at(0.0), start);
    recorder.add_gpus(&subject, &[reading(0.5, 90, 100.0, 1100.0, 50.0, Some(80))]);
    let capped = GpuReading {
        throttling: vec!["held at its power limit"],
        ..reading(1.0, 70, 200.0, 1300.0, 60.0, Some(60))
    };
    let end = Counters { gpus: vec![capped], ..counters(at(2.0)) };
    let usage = recorder.finish(end.at, &end, &subject);
    let expected = GpuUsage {
        name: "0: H200".into(),
        utilization: Some(0.75),
        max_worker_memory_bytes: Some(80 * MIB),
        max_memory_bytes: Some(90 * MIB),
        mean_power_watts: Some(150.0),
        energy_joules: Some(300.0),
        max_celsius: Some(60.0),
    };
    assert_eq!(usage.gpus, [expected]);
    assert_eq!(usage.throttling, ["GPU 0 held at its power limit"]);
}

#[test]
fn a_gpu_without_energy_counter_gets_mean_power_times_length() {
    let at = clock();
    let watts = |watts| vec![GpuReading { power_watts: Some(watts), ..GpuReading::default() }];
    let start = Counters { gpus: watts(10.0), ..counters(at(0.0)) };
    let mut recorder = PhaseRecorder::new(at(0.0), start);
    recorder.add_gpus(&Subject::default(), &watts(50.0));
    let usage = finish(recorder, &Counters { gpus: watts(70.0), ..counters(at(3.0)) });
    assert_eq!(usage.gpus[0].energy_joules, Some(180.0));
}

#[test]
fn more_gpus_than_at_the_start_are_left_out() {
    let at = clock();
    let mut recorder = PhaseRecorder::new(at(0.0), counters(at(0.0)));
    recorder.add_gpus(&Subject::default(), &[GpuReading::default()]);
    assert!(finish(recorder, &counters(at(1.0))).gpus.is_empty());
}

#[test]
fn energy_is_the_meters_difference() {
    let at = clock();
    let energy = |microjoules, gaps| Some(EnergyReading { microjoules, gaps });
    let joules = |gaps| {
        let start = Counters { energy: energy(1_000_000, 0), ..counters(at(0.0)) };
        let recorder = PhaseRecorder::new(at(0.0), start);
        let end = Counters { energy: energy(3_500_000, gaps), ..counters(at(1.0)) };
        finish(recorder, &end).cpu_energy_joules
    };
    assert_eq!((joules(0), joules(1)), (Some(2.5), None));
}
