//! Formats of one task against each other: the same questions, put to one trial in several ways.

use super::figure::Evidence;
use super::metric::{Metric, TaskColumn};
use super::summary::Row;
use super::task_figure::{PairedTest, TaskEvidence};
use crate::statistics::sample::to_f64;

/// Two formats of one task, answered by the same trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FormatTest {
    /// The trial's row.
    pub row: usize,
    /// The column of one format.
    pub one: TaskColumn,
    /// The column of the other.
    pub other: TaskColumn,
    /// By how much the first is higher; the p-value is corrected for all pairs of the task in this row.
    pub test: PairedTest,
}

/// Compares the formats of each task with each other, row by row, by the task's main metric.
pub(super) fn format_tests(rows: &[Row]) -> Vec<FormatTest> {
    let mut tests = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        let mut columns: Vec<(TaskColumn, &TaskEvidence)> = row
            .figures
            .iter()
            .filter_map(|(metric, figure)| match (metric, &figure.evidence) {
                (Metric::Task(it), Evidence::Questions(found)) if it.is_main => Some((*it, found)),
                _ => None,
            })
            .collect();
        while let Some((first, _)) = columns.first() {
            let task = first.task;
            let (formats, others): (Vec<_>, Vec<_>) =
                columns.into_iter().partition(|(it, _)| it.task.parts().0 == task.parts().0);
            columns = others;
            let mut of_task = Vec::new();
            for (index, (one, own)) in formats.iter().enumerate() {
                of_task.extend(formats[index + 1..].iter().filter_map(|(other, others)| {
                    let test = own.against(others)?;
                    Some(FormatTest { row: position, one: *one, other: *other, test })
                }));
            }
            correct(&mut of_task);
            tests.append(&mut of_task);
        }
    }
    tests
}

/// Corrects p-values for the number of tests (Holm 1979).
fn correct(tests: &mut [FormatTest]) {
    let mut order: Vec<usize> = (0..tests.len()).collect();
    order.sort_by(|&one, &other| tests[one].test.p_value.total_cmp(&tests[other].test.p_value));
    let mut least = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        let remaining = to_f64(tests.len() - rank);
        let p_value = &mut tests[index].test.p_value;
        least = least.max((*p_value * remaining).min(1.0));
        *p_value = least;
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::TaskMetric;
    use crate::results::made_up::{LADDER, MadeUp, answered};
    use crate::results::summary::Summary;
    use crate::workload::tasks::record::TaskRecord;

    fn quiz(task: &str, wrong: usize) -> TaskRecord {
        let counts = (0..50).map(|at| f64::from(u8::from(at >= wrong))).collect();
        answered(task, TaskMetric::Accuracy, counts)
    }

    #[test]
    fn every_two_formats_of_a_task_are_compared_and_corrected_for_each_other() {
        let mut run = MadeUp { variants: LADDER[..1].to_vec(), ..MadeUp::default() }.run();
        run.trials[0].tasks = vec![
            quiz("quiz@chatml", 0),
            quiz("quiz@alpaca", 10),
            quiz("quiz@none", 10),
            quiz("other@chatml", 0),
        ];
        let tests = Summary::of(&run).format_tests;
        let told: Vec<(String, String)> =
            tests.iter().map(|it| (it.one.task.to_string(), it.other.task.to_string())).collect();
        let pair = |one: &str, other: &str| (format!("quiz@{one}"), format!("quiz@{other}"));
        assert_eq!(told.len(), 3, "{told:?}");
        for (one, other) in [("chatml", "alpaca"), ("chatml", "none"), ("alpaca", "none")] {
            let found =
                told.iter().position(|it| *it == pair(one, other) || *it == pair(other, one));
            let test = tests[found.unwrap()].test;
            // Ten of ten answers turned: p = 2^-9, times the three tests.
            let expected = if one == "chatml" { 3.0 * 2.0_f64.powi(-9) } else { 1.0 };
            assert!((test.p_value - expected).abs() < 1e-9, "{one} {other}: {test:?}");
        }
    }
}
