//! One figure over runs in time: by machine, then by variant and settings. Runs of different machines are never in one
//! series, also where both call themselves `local`.

use super::change::evidence::disturbance;
use super::metric::Metric;
use super::proof::stage_of;
use super::record::{Environment, RunRecord, Stage, TrialRecord};
use super::summary::Summary;
use crate::causes::Problem;
use crate::statistics::estimate::Estimate;
use crate::units::count;
use serde::Serialize;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// What a name of a figure may leave out at its end.
const UNITS: [&str; 6] =
    ["tokens_per_second", "embeddings_per_second", "seconds", "bytes", "nats", "per_token"];

/// A figure over runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// Which figure.
    pub metric: Metric,
    /// Its unit; empty: a plain number, or a fraction.
    pub unit: &'static str,
    /// Machines in the order in which they measured first.
    pub machines: Vec<Machine>,
}

/// What one machine measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// What it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// By variant and settings, in the order in which they were measured first.
    pub series: Vec<Series>,
}

/// What tells machines apart; what changes with an update (kernel, driver, engine) is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Its name.
    pub host: String,
    /// Its processor.
    pub cpu: String,
    /// Physical cores.
    pub cores: u32,
    /// Its memory in the first of its runs, bytes.
    pub memory_bytes: u64,
    /// Its GPUs, without their driver.
    pub gpus: Vec<String>,
}

impl Identity {
    /// Whether both are one machine. What the system keeps for itself of its memory changes with its version.
    fn is_same(&self, other: &Self) -> bool {
        const GIBIBYTE: u64 = 1 << 30;
        let coarse =
            |it: &Self| Self { memory_bytes: it.memory_bytes.div_ceil(GIBIBYTE), ..it.clone() };
        coarse(self) == coarse(other)
    }
}

/// One variant under one set of settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The model's name.
    pub model: String,
    /// The variant's name in tables.
    pub variant: String,
    /// The settings.
    pub settings: String,
    /// In order of time.
    pub points: Vec<Point>,
}

/// What one run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The run.
    pub run: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// What computed it, with its version.
    pub engine: String,
    /// Whether that is another one than at the point before.
    pub engine_changed: bool,
    /// Whether the variant's file is another one than at the point before.
    pub file_changed: bool,
    /// The file's SHA-256; `None`: not known.
    pub checksum: Option<String>,
    /// What it is over, where runs may look at more or less of it; `None`: it is of nothing of the kind.
    pub over: Option<String>,
    /// Whether that is something else than at the first point: they are not compared.
    pub over_changed: bool,
    /// Why a timed figure says little: what else the machine did, or that the run has not ended.
    pub doubt: Option<String>,
    /// The figure.
    #[serde(flatten)]
    pub estimate: Estimate,
}

impl Trend {
    /// A figure, by its name or the beginning of one, over runs that are given in order of time; of the variants alone
    /// whose names are `variant`.
    ///
    /// # Errors
    /// A run cannot be read, none has the figure, or several figures are meant.
    pub fn of(
        wanted: &str,
        variant: Option<&str>,
        runs: impl IntoIterator<Item = Result<RunRecord, Problem>>,
    ) -> Result<Self, Problem> {
        let (mut found, mut known) = (BTreeSet::new(), BTreeSet::new());
        let mut points = Vec::new();
        for run in runs {
            let run = run?;
            let summary = Summary::of(&run);
            known.extend(summary.metrics.iter().copied());
            let mut meant: Vec<Metric> = summary
                .metrics
                .iter()
                .copied()
                .filter(|metric| is_called(*metric, wanted))
                .collect();
            // `PPL` is one column, and a part of another's title.
            let is_title = |metric: &Metric| metric.label().eq_ignore_ascii_case(wanted.trim());
            if meant.iter().any(is_title) {
                meant.retain(is_title);
            }
            for (trial, row) in run.trials.iter().zip(&summary.rows) {
                let is_meant =
                    variant.is_none_or(|variant| row.label.eq_ignore_ascii_case(variant));
                for metric in meant.iter().filter(|_| is_meant) {
                    let Some(figure) = row.figures.get(metric) else { continue };
                    found.insert(*metric);
                    points.push(place(&run, trial, *metric, figure.estimate));
                }
            }
        }
        let metric = match Vec::from_iter(found).as_slice() {
            [only] => *only,
            [] => return Err(nothing(wanted, variant, &known)),
            several => {
                let names: Vec<String> = several.iter().map(|metric| metric.name()).collect();
                return Err(Problem::new(format!(
                    "'{wanted}' may be any of several figures: {}; write more of the name",
                    names.join(", ")
                )));
            }
        };
        let mut trend = Self { metric, unit: metric.base_unit(), machines: Vec::new() };
        for (identity, series, point) in points {
            trend.add(identity, series, point);
        }
        Ok(trend)
    }

    fn add(&mut self, identity: Identity, series: Series, mut point: Point) {
        let position =
            self.machines.iter().position(|it| it.identity.is_same(&identity)).unwrap_or_else(
                || {
                    self.machines.push(Machine { identity, series: Vec::new() });
                    self.machines.len() - 1
                },
            );
        let all = &mut self.machines[position].series;
        let is_same = |it: &&mut Series| {
            (&it.model, &it.variant, &it.settings)
                == (&series.model, &series.variant, &series.settings)
        };
        match all.iter_mut().find(is_same) {
            Some(known) => {
                if let Some(before) = known.points.last() {
                    point.engine_changed = before.engine != point.engine;
                    point.file_changed = before.checksum != point.checksum;
                }
                point.over_changed = known.points.first().is_some_and(|it| it.over != point.over);
                known.points.push(point);
            }
            None => all.push(Series { points: vec![point], ..series }),
        }
    }
}

fn place(
    run: &RunRecord,
    trial: &TrialRecord,
    metric: Metric,
    estimate: Estimate,
) -> (Identity, Series, Point) {
    let point = Point {
        run: run.id.clone(),
        started: run.started,
        engine: format!("{} {}", trial.engine.name, run.engine_version(trial)).trim().to_owned(),
        engine_changed: false,
        file_changed: false,
        checksum: trial.artifact.as_ref().map(|artifact| artifact.checksum.clone()),
        over: over(run, trial, metric, estimate.n),
        over_changed: false,
        doubt: (stage_of(metric) == Stage::Rounds).then(|| doubt(run, trial)).flatten(),
        estimate,
    };
    let series = Series {
        model: trial.model.clone(),
        variant: trial.label.clone(),
        settings: trial.settings.to_string(),
        points: Vec::new(),
    };
    (identity(&trial.host.name, run.environment_of(trial)), series, point)
}

fn doubt(run: &RunRecord, trial: &TrialRecord) -> Option<String> {
    let is_open = run.finished.is_none().then(|| "it has not ended".to_owned());
    disturbance(run, trial).or(is_open)
}

/// How much of which text, or how many questions, a figure is over.
fn over(run: &RunRecord, trial: &TrialRecord, metric: Metric, n: usize) -> Option<String> {
    match stage_of(metric) {
        Stage::Rounds => None,
        Stage::Tasks => Some(count(n, "question")),
        Stage::Quality => {
            let plan = run.experiment.get("workloads").and_then(|it| it.get("quality"));
            let source = plan.and_then(|it| it.get("source")).and_then(serde_json::Value::as_str);
            let context = trial.quality.as_ref().map(|it| it.context).filter(|it| *it > 0);
            let context = context.map(|it| format!(" of {it} tokens")).unwrap_or_default();
            let source = source.map(|it| format!(" of {it}")).unwrap_or_default();
            Some(format!("{}{context}{source}", count(n, "chunk")))
        }
    }
}

fn identity(host: &str, environment: &Environment) -> Identity {
    let without_driver = |gpu: &String| gpu.split(" (driver").next().unwrap_or_default().to_owned();
    Identity {
        host: host.to_owned(),
        cpu: environment.cpu.clone(),
        cores: environment.physical_cores,
        memory_bytes: environment.memory_bytes,
        gpus: environment.gpus.iter().map(without_driver).collect(),
    }
}

/// Whether a figure is meant: `tg128`, `tg128_tokens_per_second`, `TTFT p50`, `tg64 @ d1024`.
fn is_called(metric: Metric, wanted: &str) -> bool {
    let word = |text: &str| {
        let text = text.trim().to_lowercase().replace(" @ ", "@").replace(" vs ref", "");
        text.replace(['@', ' ', '+', '-', '.', '/'], "_")
    };
    let (name, wanted) = (metric.name(), word(wanted));
    let rest = name.strip_prefix(wanted.as_str()).filter(|_| !wanted.is_empty());
    let is_unit = |rest: &str| rest.strip_prefix('_').is_some_and(|rest| UNITS.contains(&rest));
    rest.is_some_and(|rest| rest.is_empty() || is_unit(rest)) || word(&metric.label()) == wanted
}

fn nothing(wanted: &str, variant: Option<&str>, known: &BTreeSet<Metric>) -> Problem {
    if let (Some(variant), true) = (variant, known.iter().any(|it| is_called(*it, wanted))) {
        return Problem::new(format!(
            "no variant called '{variant}' has a figure '{wanted}' in these runs"
        ));
    }
    let names: Vec<String> = known.iter().map(|metric| metric.name()).collect();
    let near = names.iter().map(|name| (strsim::jaro_winkler(name, wanted), name));
    let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    let help = near.map_or_else(
        || format!("these runs have {}", names.join(", ")),
        |(_, name)| format!("did you mean '{name}'?"),
    );
    Problem::new(format!("no run has a figure '{wanted}'; {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::{LADDER, MadeUp};
    use crate::results::record::HostRecord;
    use time::Duration;

    fn run(number: u8) -> RunRecord {
        let few = MadeUp {
            variants: LADDER[..2].to_vec(),
            rounds: 3,
            seed: u64::from(number),
            ..MadeUp::default()
        };
        let mut run = few.run();
        run.id = format!("run-{number}");
        run.started += Duration::days(i64::from(number));
        run
    }

    fn trend(wanted: &str, runs: &[RunRecord]) -> Trend {
        Trend::of(wanted, None, runs.iter().cloned().map(Ok)).unwrap()
    }

    #[test]
    fn a_figure_is_followed_over_runs_of_one_machine() {
        let runs = [run(1), run(2), run(3)];
        assert_eq!(trend("PPL", &runs).metric, Metric::Perplexity);
        let trend = trend("tg128", &runs);
        assert_eq!(trend.metric.name(), "tg128_tokens_per_second");
        let [machine] = trend.machines.as_slice() else { panic!("one machine") };
        assert_eq!(machine.series.len(), 2);
        for (position, series) in machine.series.iter().enumerate() {
            for (run, point) in runs.iter().zip(&series.points) {
                let figure = &Summary::of(run).rows[position].figures[&trend.metric];
                assert_eq!((&point.run, point.estimate), (&run.id, figure.estimate));
                assert!(point.estimate.interval.is_some());
            }
        }
    }

    #[test]
    fn an_update_of_the_engine_or_of_the_file_is_marked_and_one_of_the_system_parts_nothing() {
        let mut runs = [run(1), run(2), run(3)];
        for trial in &mut runs[1].trials {
            trial.engine.version = "0.7.0".to_owned();
        }
        for trial in &mut runs[2].trials {
            trial.engine.version = "0.7.0".to_owned();
            trial.artifact.as_mut().unwrap().checksum = "other".to_owned();
        }
        let environment = &mut runs[2].hosts[0].environment;
        environment.operating_system = "Linux 7".to_owned();
        environment.memory_bytes -= 3 << 20;
        let trend = trend("kld", &runs);
        let points = &trend.machines[0].series[0].points;
        let marks: Vec<_> = points.iter().map(|it| (it.engine_changed, it.file_changed)).collect();
        assert_eq!(trend.machines.len(), 1);
        assert_eq!(marks, [(false, false), (true, false), (false, true)]);
    }

    #[test]
    fn figures_over_more_or_less_of_a_text_are_told_apart_and_so_are_runs_that_say_little() {
        let mut runs = [run(1), run(2), run(3)];
        for trial in &mut runs[1].trials {
            let quality = trial.quality.as_mut().unwrap();
            quality.chunk_nll.truncate(2);
            quality.chunks = 2;
        }
        runs[2].finished = None;
        let told = |trend: &Trend| -> Vec<(bool, bool)> {
            let points = trend.machines[0].series[0].points.iter();
            points.map(|it| (it.over_changed, it.doubt.is_some())).collect()
        };
        let text = trend("perplexity", &runs);
        assert_eq!(told(&text), [(false, false), (true, false), (false, false)]);
        let speed = trend("tg128", &runs);
        assert_eq!(told(&speed), [(false, false), (false, false), (false, true)]);
    }

    #[test]
    fn machines_are_never_mixed_also_where_both_are_local() {
        let (first, mut second, mut third) = (run(1), run(2), run(3));
        second.hosts[0].environment.cpu = "another".to_owned();
        third.rename_host("local", "board");
        let both = HostRecord {
            environment: first.hosts[0].environment.clone(),
            ..third.hosts[0].clone()
        };
        third.hosts = vec![both];
        let trend = trend("peak RSS", &[first, second, third]);
        let hosts: Vec<_> = trend
            .machines
            .iter()
            .map(|it| (it.identity.host.as_str(), it.identity.cpu.as_str()))
            .collect();
        assert_eq!(
            hosts,
            [("local", "AMD Ryzen 7 7840U"), ("local", "another"), ("board", "AMD Ryzen 7 7840U")]
        );
        assert!(
            trend.machines.iter().all(|it| it.series.iter().all(|series| series.points.len() == 1))
        );
    }

    #[test]
    fn figures_are_found_by_their_names_and_told_where_they_are_not() {
        for (wanted, name) in [
            ("tg128", "tg128_tokens_per_second"),
            ("TTFT p50", "ttft_p50_seconds"),
            ("kld", "kld_nats"),
            ("file", "file_bytes"),
            ("perplexity", "perplexity"),
            ("same top", "top_token_agreement"),
        ] {
            assert_eq!(trend(wanted, &[run(1)]).metric.name(), name, "{wanted}");
        }
        let refused = |wanted: &str, variant| {
            Trend::of(wanted, variant, [Ok(run(1))]).unwrap_err().to_string()
        };
        assert!(refused("perplexty", None).contains("did you mean 'perplexity'?"));
        assert!(refused("", None).contains("these runs have file_bytes, "));
        assert!(refused("tg", None).contains("no run has a figure 'tg'"));
        assert!(refused("tg128", Some("Q1_0")).contains("no variant called 'Q1_0'"));
    }
}
