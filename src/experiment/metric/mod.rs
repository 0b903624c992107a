//! Metrics: what a column of the comparison shows, and what requirements are bounds on.

mod table;

pub use table::{Descriptor, Digits, ESSENTIAL, Metric, Models, Shown, TIMED};

use super::tasks::TaskName;
use super::workloads::SpeedTest;
use crate::metrics::TaskMetric;
use serde::{Serialize, Serializer};
use table::{BEFORE_SPEED, MAIN_TASK_IMPORTANCE, SPEED, TABLE, TASK};

/// One metric of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskColumn {
    /// The task.
    pub task: TaskName,
    /// The metric.
    pub metric: TaskMetric,
    /// Whether it is the task's first, which stands for it.
    pub is_main: bool,
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The lower one.
    Lower,
    /// The higher one.
    Higher,
}

impl Metric {
    /// All metrics in the order of columns, with these throughput tests and metrics of tasks.
    pub fn all(speed_tests: &[SpeedTest], tasks: &[TaskColumn]) -> Vec<Self> {
        let (before, behind) = TABLE.split_at(BEFORE_SPEED);
        let known = |rows: &'static [(Self, Descriptor)]| rows.iter().map(|(metric, _)| *metric);
        known(before)
            .chain(speed_tests.iter().map(|&test| Self::Speed(test)))
            .chain(known(behind))
            .chain(tasks.iter().map(|&column| Self::Task(column)))
            .collect()
    }

    /// All fixed metrics, and of `measured` the throughput tests and tasks, in the order of columns.
    pub fn all_with(measured: &[Self]) -> Vec<Self> {
        let mut all = Self::all(&[], &[]);
        let tests = measured.iter().filter(|metric| matches!(metric, Self::Speed(_)));
        all.splice(BEFORE_SPEED..BEFORE_SPEED, tests.copied());
        all.extend(measured.iter().filter(|metric| matches!(metric, Self::Task(_))));
        all
    }

    /// What is known of it before anything is measured.
    pub fn descriptor(self) -> Descriptor {
        match self {
            Self::Speed(test) => Descriptor {
                shown: Shown::In(test.unit().short(), 1.0, Digits::Significant(3)),
                ..SPEED
            },
            Self::Task(TaskColumn { metric, is_main, .. }) => Descriptor {
                importance: if is_main { MAIN_TASK_IMPORTANCE } else { TASK.importance },
                shown: Shown::In("%", metric.percent_factor(), Digits::Decimals(1)),
                ..TASK
            },
            // A test looks whether each of the others has a row.
            metric => TABLE.iter().find(|(of, _)| *of == metric).map_or(TASK, |(_, row)| *row),
        }
    }

    /// Lines of a column's title, from general to special, without the unit.
    pub fn title(self) -> Vec<String> {
        match self {
            Self::Speed(test) => {
                test.to_string().replace(" @ ", "\n@ ").lines().map(str::to_owned).collect()
            }
            Self::Task(column) => {
                let (name, format) = column.task.parts();
                let format = format.map(|format| format!("@{format}"));
                [Some(name.to_owned()), format, Some(column.metric.to_string())]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            metric => metric.descriptor().title.iter().map(|&line| line.to_owned()).collect(),
        }
    }

    /// The title in one line: `TTFT p50`, `bits/weight`.
    pub fn label(self) -> String {
        self.title().join(" ").replace("/ ", "/")
    }

    /// The unit of its values outside of tables; empty: a plain number, which fractions are too.
    pub fn base_unit(self) -> &'static str {
        match self.descriptor().shown {
            Shown::Bytes => "bytes",
            // Tables show seconds as `ms`, and fractions in per cent.
            Shown::In(unit, factor, _) if factor > 1.0 => {
                unit.strip_prefix('m').unwrap_or_default()
            }
            Shown::In(unit, ..) => unit,
        }
    }

    /// Whether it is a part of something: 0 to 1, shown in per cent.
    pub fn is_fraction(self) -> bool {
        matches!(self.descriptor().shown, Shown::In("%", factor, _) if factor > 1.0)
    }

    /// Stable name with its unit, for CSV and JSON: `pp512_tokens_per_second`.
    pub fn name(self) -> String {
        match self {
            Self::Speed(test) => {
                let name = test.to_string().replace(" @ ", "_").replace(['+', ' '], "_");
                format!("{name}_{}_per_second", test.unit().word())
            }
            Self::Task(TaskColumn { task, metric, .. }) => {
                let name = format!("task_{task}_{metric}").to_lowercase();
                name.replace(['-', '@', '.'], "_")
            }
            metric => metric.descriptor().name.to_owned(),
        }
    }

    /// The metric of this name, but for those of tasks, whose names leave open which task it is.
    pub fn named(name: &str) -> Option<Self> {
        let fixed = TABLE.iter().map(|(metric, _)| *metric).find(|metric| metric.name() == name);
        fixed.or_else(|| Self::speed_test(name).map(Self::Speed))
    }

    /// The throughput test whose rate is called so.
    pub fn speed_test(name: &str) -> Option<SpeedTest> {
        let test = name.strip_suffix("_per_second")?;
        let test = test.strip_suffix("_tokens").or_else(|| test.strip_suffix("_embeddings"))?;
        let test = test.replace("_d", "@d").replace("_tg", "+tg").replace("_shared", "shared");
        let test = test.parse().ok()?;
        (Self::Speed(test).name() == name).then_some(test)
    }

    /// The throughput test of embeddings that it is the figure of.
    pub fn embedding_test(self) -> Option<SpeedTest> {
        match self {
            Self::Speed(test) => Some(test).filter(|test| test.embeds),
            _ => None,
        }
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn base_units_are_those_that_names_end_in() {
        let tests = ["tg128", "embed64x8"].map(|test| test.parse::<SpeedTest>().unwrap());
        for metric in Metric::all(&tests, &[]) {
            let (name, unit) = (metric.name(), metric.base_unit());
            let of_name = [
                ("_bytes", "bytes"),
                ("tokens_per_second", "t/s"),
                ("embeddings_per_second", "emb/s"),
                ("_seconds", "s"),
                ("joules_per_token", "J/token"),
                ("_watts", "W"),
                ("_celsius", "°C"),
                ("_nats", "nats"),
                ("cpu_cores_used", "cores"),
            ];
            let expected =
                of_name.iter().find(|(end, _)| name.ends_with(end)).map_or("", |it| it.1);
            assert_eq!(unit, expected, "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_fit_for_a_header() {
        let tests = [
            "pp512",
            "tg128",
            "pp512+tg128",
            "pp512 @ d1024",
            "embed64x8",
            "pp4+tg8x2 @ d9 shared",
        ]
        .map(|test| test.parse::<SpeedTest>().unwrap());
        let columns = [("arc-easy@chatml", "acc"), ("arc-easy@none", "acc"), ("de_en", "ndcg@10")];
        let columns = columns.map(|(task, metric)| TaskColumn {
            task: task.parse().unwrap(),
            metric: metric.parse().unwrap(),
            is_main: true,
        });
        let metrics = Metric::all(&tests, &columns);
        let names: BTreeSet<String> = metrics.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), metrics.len());
        assert!(names.contains("pp512_d1024_tokens_per_second"));
        assert!(names.contains("task_arc_easy_chatml_acc"));
        assert!(names.contains("task_de_en_ndcg_10"));
        assert!(names.contains("embed64x8_embeddings_per_second"));
        for test in tests {
            assert_eq!(Metric::speed_test(&Metric::Speed(test).name()), Some(test));
        }
        assert_eq!(Metric::speed_test("generation_tokens_per_second"), None);
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{name}");
        }
    }
}
