//! What a worker and its machine did over the time of a visit: a few hundred points of each instrument, as columns.
//!
//! Pure: no clock, no files. The monitor's thread feeds it, and however long it does, no more is kept.

use crate::units::to_f64;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Points of one instrument at most; several GPUs share them, down to `FEWEST` each.
const MOST: usize = 240;
const FEWEST: usize = 60;

const MEBIBYTE: f64 = 1_048_576.0;

/// What was seen while a worker lived, by instrument.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The worker's process: cores and memory.
    #[serde(default, skip_serializing_if = "Trace::is_empty")]
    pub worker: Trace,
    /// The processor: clock, temperature, power of package and memory.
    #[serde(default, skip_serializing_if = "Trace::is_empty")]
    pub processor: Trace,
    /// The GPUs, but for those on which the worker is known to have had no memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuTrace>,
}

/// A column of readings, one for each point; `None`: the instrument did not tell. Empty: it never did.
pub type Column = Vec<Option<f64>>;

/// Points of one instrument. Each speaks of the time since the one before it: what rises and falls is the highest seen
/// in it (clocks: the lowest), cores and the power of the processor are means over it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// When, since the first phase of the visit began.
    pub seconds: Vec<f64>,
    /// Processor time per time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_cores: Column,
    /// Resident memory of the worker, MiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rss_mebibytes: Column,
    /// Use of the compute units, 0 to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub utilization: Column,
    /// Memory in use on a GPU by anyone, MiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory_mebibytes: Column,
    /// Clock: of a processor the mean of its cores, of a GPU that of its compute units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mhz: Column,
    /// Temperature, °C.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub celsius: Column,
    /// Power.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watts: Column,
}

/// Points of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuTrace {
    /// Position and name: `0: NVIDIA H200`.
    pub name: String,
    /// What it did.
    #[serde(flatten)]
    pub trace: Trace,
}

impl Timeline {
    /// Whether nothing was seen, or the run was stored before this was kept.
    pub fn is_empty(&self) -> bool {
        self.worker.is_empty() && self.processor.is_empty() && self.gpus.is_empty()
    }
}

impl Trace {
    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }
}

/// One look at an instrument; what it does not have or tell is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Look {
    /// What only rises, and of which the rate is told: seconds of processor time, or joules.
    pub(super) counted: Option<Counted>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) utilization: Option<f64>,
    pub(super) mhz: Option<f64>,
    pub(super) celsius: Option<f64>,
    pub(super) watts: Option<f64>,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counted {
    pub(super) value: f64,
    /// Between two of different numbers something is missing.
    pub(super) gaps: u32,
}

/// Takes looks at one instrument, and keeps a bounded number of points: when there are too many, each two become one.
#[derive(Debug, Clone)]
pub(super) struct Points {
    most: usize,
    /// Looks that follow each other faster are one.
    nearest: Duration,
    /// Looks that make a point.
    each: usize,
    kept: Vec<Point>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    looks: usize,
    seen: Look,
}

impl Points {
    /// None yet. `interval` is that between looks; `instruments` of their kind share what is kept.
    pub(super) fn new(interval: Duration, instruments: usize) -> Self {
        let most = (MOST / instruments.max(1)).max(FEWEST);
        Self { most, nearest: interval * 3 / 4, each: 1, kept: Vec::new() }
    }

    /// Takes a look.
    pub(super) fn add(&mut self, at: Instant, seen: Look) {
        let new = Point { at, looks: 1, seen };
        if let Some(last) = self.kept.last_mut() {
            let is_near = at.saturating_duration_since(last.at) < self.nearest;
            if is_near || last.looks < self.each {
                // What comes too fast counts as none, or the points would grow uneven.
                let looks = last.looks + usize::from(!is_near);
                *last = Point { looks, ..last.with(&new) };
                return;
            }
        }
        if self.kept.len() == self.most {
            let pairs = self.kept.chunks(2);
            self.kept = pairs.filter_map(|pair| pair.iter().copied().reduce(Point::and)).collect();
            self.each *= 2;
        }
        self.kept.push(new);
    }

    /// The points as columns; `rate` is what of a counter is told.
    pub(super) fn trace(&self, begun: Instant, rate: Rate) -> Trace {
        let seen = |of: fn(&Look) -> Option<f64>, step: f64| {
            column(self.kept.iter().map(|point| of(&point.seen)), step)
        };
        let memory = seen(|look| look.memory_bytes.map(|bytes| to_f64(bytes) / MEBIBYTE), 0.1);
        let before = [None].into_iter().chain(self.kept.iter().map(Some));
        let rates = before.zip(&self.kept).map(|(before, point)| point.rate_since(before?));
        let times = self.kept.iter().map(|it| it.at.saturating_duration_since(begun));
        let mut trace = Trace {
            seconds: times.map(|it| rounded(it.as_secs_f64(), 0.01)).collect(),
            utilization: seen(|look| look.utilization, 0.01),
            mhz: seen(|look| look.mhz, 10.0),
            celsius: seen(|look| look.celsius, 0.1),
            watts: seen(|look| look.watts, 0.1),
            ..Trace::default()
        };
        match rate {
            Rate::Cores => {
                trace.cpu_cores = column(rates, 0.01);
                trace.rss_mebibytes = memory;
            }
            Rate::Watts => trace.watts = column(rates, 0.1),
            Rate::None => trace.memory_mebibytes = memory,
        }
        let columns = [
            &trace.cpu_cores,
            &trace.rss_mebibytes,
            &trace.utilization,
            &trace.memory_mebibytes,
            &trace.mhz,
            &trace.celsius,
            &trace.watts,
        ];
        if columns.iter().all(|column| column.is_empty()) { Trace::default() } else { trace }
    }
}

/// What the rate of a counter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    /// Cores; memory is resident memory.
    Cores,
    Watts,
    /// There is no counter.
    None,
}

impl Point {
    /// This one and a later one as one.
    fn and(self, later: Self) -> Self {
        Self { looks: self.looks + later.looks, ..self.with(&later) }
    }

    fn with(&self, later: &Self) -> Self {
        let (one, other) = (&self.seen, &later.seen);
        let highest =
            |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).reduce(f64::max);
        Self {
            at: later.at,
            looks: self.looks,
            seen: Look {
                counted: other.counted,
                memory_bytes: one.memory_bytes.max(other.memory_bytes),
                utilization: highest(one.utilization, other.utilization),
                mhz: one.mhz.into_iter().chain(other.mhz).reduce(f64::min),
                celsius: highest(one.celsius, other.celsius),
                watts: highest(one.watts, other.watts),
            },
        }
    }

    fn rate_since(&self, before: &Self) -> Option<f64> {
        let (from, to) = before.seen.counted.zip(self.seen.counted)?;
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let rise = to.value - from.value;
        (from.gaps == to.gaps && rise >= 0.0 && seconds > 0.0).then(|| rise / seconds)
    }
}

/// A column; empty where nothing was told.
fn column(values: impl Iterator<Item = Option<f64>>, step: f64) -> Column {
    let values: Column = values.map(|value| value.map(|it| rounded(it, step))).collect();
    if values.iter().all(Option::is_none) { Vec::new() } else { values }
}

/// To a multiple of 10, 0.1 or 0.01, and of large values to three digits at least: a store holds many, and no instrument
/// tells more.
fn rounded(value: f64, step: f64) -> f64 {
    let step = if value >= 1000.0 * step { step * 10.0 } else { step };
    if step >= 1.0 {
        return (value / step).round() * step;
    }
    // 0.1 is no binary fraction, and ten is.
    let parts = (1.0 / step).round();
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    /// A scripted clock: seconds after an arbitrary beginning.
    fn clock() -> (Instant, impl Fn(f64) -> Instant) {
        let beginning = Instant::now();
        (beginning, move |seconds| beginning + Duration::from_secs_f64(seconds))
    }

    fn of_process(cpu_seconds: f64, mebibytes: u64) -> Look {
        Look {
            counted: Some(Counted { value: cpu_seconds, gaps: 0 }),
            memory_bytes: Some(mebibytes << 20),
            ..Look::default()
        }
    }

    #[test]
    fn cores_are_the_rate_between_points_and_memory_is_what_was_seen() {
        let (begun, at) = clock();
        let mut points = Points::new(INTERVAL, 1);
        for (seconds, used, memory) in [(0.0, 0.0, 5), (0.1, 0.2, 50), (0.2, 0.25, 40)] {
            points.add(at(seconds), of_process(used, memory));
        }
        let trace = points.trace(begun, Rate::Cores);
        assert_eq!(trace.seconds, [0.0, 0.1, 0.2]);
        assert_eq!(trace.cpu_cores, [None, Some(2.0), Some(0.5)]);
        assert_eq!(trace.rss_mebibytes, [Some(5.0), Some(50.0), Some(40.0)]);
        assert!(trace.watts.is_empty() && trace.mhz.is_empty());
    }

    #[test]
    fn a_long_visit_keeps_no_more_than_a_short_one_and_loses_no_peak() {
        let (begun, at) = clock();
        let mut points = Points::new(INTERVAL, 1);
        let looks = 100_000;
        for look in 0..looks {
            let seconds = 0.1 * f64::from(look);
            let memory = if look == 77_777 { 9999 } else { 10 };
            // Three cores for the first half, one after it.
            let half = 0.05 * f64::from(looks);
            let used = seconds.min(half) * 3.0 + (seconds - half).max(0.0);
            let mhz = if look == 55_555 { 800.0 } else { 3000.0 };
            points.add(at(seconds), Look { mhz: Some(mhz), ..of_process(used, memory) });
        }
        let trace = points.trace(begun, Rate::Cores);
        assert!((MOST / 2..=MOST).contains(&trace.seconds.len()), "{}", trace.seconds.len());
        let peak = |column: &Column| column.iter().flatten().copied().reduce(f64::max);
        assert_eq!(peak(&trace.rss_mebibytes), Some(9999.0));
        assert_eq!(trace.mhz.iter().flatten().copied().reduce(f64::min), Some(800.0));
        assert!(peak(&trace.cpu_cores).unwrap() <= 3.0);
        assert_eq!(trace.cpu_cores.last(), Some(&Some(1.0)));
        // Evenly: no stretch but the last is longer than another.
        let steps = trace.seconds.windows(2).map(|two| two[1] - two[0]);
        let steps: Vec<f64> = steps.collect();
        let (longest, whole) =
            (steps.iter().copied().fold(0.0, f64::max), &steps[..steps.len() - 1]);
        assert!(whole.iter().all(|step| (step - longest).abs() < 0.11), "{steps:?}");
        // Small where it is stored.
        assert!(serde_json::to_string(&trace).unwrap().len() < 8 << 10);
    }

    #[test]
    fn looks_at_once_are_one_point_so_that_no_rate_is_told_of_an_instant() {
        let (begun, at) = clock();
        let mut points = Points::new(INTERVAL, 1);
        for (seconds, used) in [(0.0, 0.0), (0.1, 0.1), (0.101, 0.11), (0.201, 0.21)] {
            points.add(at(seconds), of_process(used, 1));
        }
        let trace = points.trace(begun, Rate::Cores);
        assert_eq!(trace.seconds, [0.0, 0.1, 0.2]);
        assert_eq!(trace.cpu_cores, [None, Some(1.09), Some(1.0)]);
    }

    #[test]
    fn a_counter_with_a_gap_or_that_fell_tells_no_rate_there() {
        let (begun, at) = clock();
        let mut points = Points::new(INTERVAL, 1);
        let joules = [(10.0, 0), (20.0, 0), (25.0, 1), (35.0, 1), (5.0, 1)];
        for (second, (value, gaps)) in joules.into_iter().enumerate() {
            let counted = Some(Counted { value, gaps });
            let second = f64::from(u32::try_from(second).unwrap());
            points.add(at(second), Look { counted, celsius: Some(50.04), ..Look::default() });
        }
        let trace = points.trace(begun, Rate::Watts);
        assert_eq!(trace.watts, [None, Some(10.0), None, Some(10.0), None]);
        assert_eq!(trace.celsius[0], Some(50.0));
    }

    #[test]
    fn an_instrument_that_tells_nothing_leaves_nothing() {
        let (begun, at) = clock();
        let mut points = Points::new(INTERVAL, 1);
        points.add(at(0.0), Look::default());
        assert!(points.trace(begun, Rate::Watts).is_empty());
        let timeline = Timeline::default();
        assert_eq!(serde_json::to_string(&timeline).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<Timeline>("{}").unwrap(), timeline);
    }
}
