//! The monitor on real processes, and its thread's state on a scripted machine.

use super::*;
use crate::hardware::gpu::{GpuReading, GpuSource};
use crate::hardware::process::ProcessFiles;
use crate::hardware::root::SystemRoot;
use crate::hardware::root::fixture::Tree;
use crate::hardware::timeline::{Column, Trace};
use std::process::{Child, Command, Stdio};

/// What the burning child allocates, bytes.
const INTERVAL: Duration = Duration::from_millis(100);

const ALLOCATION: u64 = 128 << 20;

/// A child that copies zeros through a large buffer until it is killed.
struct Burner(Child);

impl Burner {
    fn start() -> Self {
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "of=/dev/null"]).arg(format!("bs={ALLOCATION}"));
        let burner = Self(command.stderr(Stdio::null()).spawn().unwrap());
        // On a machine that is busy otherwise, filling the buffer takes its time.
        let mut files = ProcessFiles::open(&SystemRoot::default(), burner.pid());
        let filled = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(100));
            files.read().and_then(|reading| reading.rss_bytes) > Some(ALLOCATION)
        });
        assert!(filled, "dd did not fill its buffer within a minute");
        burner
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn half_a_second() {
    thread::sleep(Duration::from_millis(500));
}

#[test]
fn a_child_that_burns_and_allocates_is_seen_to_do_so() {
    let burner = Burner::start();
    // Other tests share the processors: the child is given time to get its half of a core.
    let burning = (0..40).find_map(|_| {
        let monitor = Monitor::start(burner.pid(), Duration::from_millis(20));
        monitor.begin("burn");
        half_a_second();
        let mut watched = monitor.finish();
        let (label, usage) = watched.phases.pop()?;
        assert_eq!(label, "burn");
        usage.cpu_cores_used.is_some_and(|cores| cores > 0.5).then_some((usage, watched.timeline))
    });
    let (usage, timeline) = burning.expect("the child never used half a core");
    assert!(usage.max_rss_bytes.unwrap() > ALLOCATION, "{usage:?}");
    assert!(usage.samples > 1 && usage.seconds >= 0.5, "{usage:?}");
    assert!(usage.machine_cpu.unwrap() > 0.0, "{usage:?}");
    let Trace { seconds, cpu_cores, rss_mebibytes, .. } = &timeline.worker;
    assert!(seconds.len() > 1 && seconds.is_sorted(), "{timeline:?}");
    assert!(cpu_cores.iter().flatten().any(|&cores| cores > 0.3), "{timeline:?}");
    let allocated = f64::from(u32::try_from(ALLOCATION >> 20).unwrap());
    assert!(rss_mebibytes.iter().flatten().any(|&it| it > allocated), "{timeline:?}");
}

#[test]
fn phases_keep_their_own_records() {
    use rustix::process::{Pid, Signal, kill_process};
    let burner = Burner::start();
    let pid = Pid::from_child(&burner.0);
    let monitor = Monitor::start(burner.pid(), Duration::from_millis(20));
    monitor.begin("burn");
    half_a_second();
    kill_process(pid, Signal::STOP).unwrap();
    monitor.begin("rest");
    half_a_second();
    kill_process(pid, Signal::CONT).unwrap();
    let Watched { phases: records, timeline } = monitor.finish();
    assert!(timeline.worker.seconds.last().is_some_and(|&last| last > 0.9), "both are in it");
    assert_eq!(records.iter().map(|(label, _)| *label).collect::<Vec<_>>(), ["burn", "rest"]);
    let [burn, rest] = [0, 1].map(|index| records[index].1.cpu_cores_used.unwrap());
    assert!(rest < burn / 2.0, "{rest} is not much less than {burn}");
    // The memory is still there while the child rests.
    assert!(records[1].1.max_rss_bytes.unwrap() > ALLOCATION);
}

#[test]
fn a_worker_that_vanishes_in_the_middle_is_no_error() {
    let mut burner = Burner::start();
    let monitor = Monitor::start(burner.pid(), Duration::from_millis(10));
    monitor.begin("dies");
    half_a_second();
    burner.end();
    half_a_second();
    monitor.begin("gone");
    half_a_second();
    let records = monitor.finish().phases;
    assert!(records[0].1.max_rss_bytes.unwrap() > ALLOCATION, "{records:?}");
    assert!(records[0].1.cpu_cores_used.unwrap() > 0.0, "{records:?}");
    assert_eq!(records[1].1.cpu_cores_used, None);
    assert_eq!(records[1].1.max_rss_bytes, None);
    assert!(records[1].1.seconds >= 0.5);
}

#[test]
fn a_worker_that_never_was_has_records_without_figures() {
    let monitor = Monitor::start(u32::MAX, Duration::ZERO);
    monitor.begin("nothing");
    let Watched { phases: records, timeline } = monitor.finish();
    assert!(timeline.worker.is_empty());
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].1.cpu_cores_used, records[0].1.max_rss_bytes), (None, None));
}

#[test]
fn a_monitor_without_phases_has_no_records_and_one_that_is_dropped_ends() {
    assert_eq!(Monitor::<u8>::start(std::process::id(), INTERVAL).finish(), Watched::default());
    let mut monitor = Monitor::start(std::process::id(), INTERVAL);
    monitor.begin(1);
    let thread = monitor.thread.take().unwrap();
    drop(monitor);
    thread.join().unwrap();
}

/// GPUs that read what is written.
struct Script(Vec<GpuReading>);

impl GpuSource for Script {
    fn names(&self) -> Vec<String> {
        vec!["0: scripted".to_owned()]
    }

    fn read(&mut self) -> Vec<GpuReading> {
        if self.0.len() > 1 { vec![self.0.remove(0)] } else { self.0.clone() }
    }
}

fn power(watts: f64) -> GpuReading {
    GpuReading { power_watts: Some(watts), ..GpuReading::default() }
}

const PACKAGE: &str = "/sys/class/powercap/intel-rapl:0/energy_uj";
const CLOCK: &str = "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq";
const THERMOMETER: &str = "/sys/class/hwmon/hwmon0/temp1_input";

#[test]
fn every_instrument_finds_its_way_into_the_right_phase() {
    let tree = Tree::new(&[
        ("/proc/stat", "cpu  100 0 0 900 0 0 0 0\n"),
        ("/sys/class/powercap/intel-rapl:0/name", "package-0"),
        ("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "100000000"),
        (PACKAGE, "99000000"),
        (CLOCK, "3000000"),
        ("/sys/class/hwmon/hwmon0/name", "k10temp"),
        (THERMOMETER, "40000"),
    ]);
    // One reading for the baseline, one where each phase begins or ends, one for the look.
    let script = Script([0.0, 0.0, 10.0, 30.0, 50.0].map(power).to_vec());
    let instruments = Instruments::open_below(&tree.root(), 7, Some(Box::new(script)));
    let mut watch = Watch::new(instruments, INTERVAL);
    watch.change_phase(Some("first"), Instant::now());
    tree.write("/proc/stat", "cpu  150 0 0 950 0 0 0 0\n");
    tree.write(PACKAGE, "2000000");
    tree.write(CLOCK, "2000000");
    tree.write(THERMOMETER, "70000");
    watch.look();
    watch.change_phase(Some("second"), Instant::now());
    tree.write(PACKAGE, "");
    tree.write(THERMOMETER, "-5");
    watch.change_phase(None, Instant::now());

    let Watched { phases, timeline } = watch.watched();
    // One point or several, as fast as the machine is.
    let highest = |column: &Column| column.iter().flatten().copied().reduce(f64::max);
    let Trace { mhz, celsius, .. } = &timeline.processor;
    assert!(mhz.contains(&Some(2000.0)), "{timeline:?}");
    assert_eq!(highest(celsius), Some(70.0));
    assert_eq!(highest(&timeline.gpus[0].trace.watts), Some(50.0));
    assert!(timeline.worker.is_empty(), "there is no process 7");
    let [(_, first), (_, second)] = &phases[..] else { panic!("two phases were recorded") };
    assert_eq!(first.machine_cpu, Some(0.5));
    assert_eq!(first.cpu_energy_joules, Some(3.0));
    assert_eq!((first.min_cpu_mhz, first.max_cpu_celsius), (Some(2000.0), Some(70.0)));
    assert_eq!(first.gpus[0].mean_power_watts, Some(20.0));
    assert_eq!(first.gpus[0].name, "0: scripted");
    assert_eq!(second.cpu_energy_joules, None);
    assert_eq!(second.gpus[0].mean_power_watts, Some(50.0));
}

#[test]
fn dear_instruments_are_read_as_seldom_as_their_cost_demands() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let mut cadence = Cadence::new(second, start);
    assert!(cadence.due(start));
    cadence.done(start, Duration::from_micros(100));
    assert!(!cadence.due(start + second / 2) && cadence.due(start + second));
    cadence.done(start, Duration::from_millis(10));
    assert!(!cadence.due(start + 3 * second) && cadence.due(start + 4 * second));
}
