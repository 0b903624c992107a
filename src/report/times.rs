//! Where the time of a run went: a line a trial, a column a kind of work.

use super::notes::name;
use super::table::{Align, Column, Group, Table};
use super::terminal::{Look, text};
use super::{RenderOptions, Renderer};
use crate::causes::Problem;
use crate::results::each_once;
use crate::results::record::{OtherWork, PhaseUsage, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::units::{format_seconds, significant};
use crate::worker::protocol::Phase;

/// Seconds by trial and kind of work.
#[derive(Debug, Clone, Copy)]
pub struct Times;

/// Less is not shown: a file that was there.
const SHORTEST: f64 = 0.001;

/// Work, and how long it took, seconds.
type Spent = (String, f64);

impl Renderer for Times {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem> {
        let spent: Vec<Vec<Spent>> = run.trials.iter().map(spent).collect();
        let kinds = each_once(spent.iter().flatten().map(|(kind, _)| kind.clone()));
        let of = |trial: &[Spent], kind: Option<&String>| -> f64 {
            let counted = trial.iter().filter(|(own, _)| kind.is_none_or(|kind| own == kind));
            counted.map(|(_, seconds)| seconds).sum()
        };
        let column = |title: &str, kind: Option<&String>| {
            let seconds: Vec<f64> = spent.iter().map(|trial| of(trial, kind)).collect();
            let all = seconds.iter().sum::<f64>();
            let cell = |seconds: f64| (seconds >= SHORTEST).then(|| shown(seconds));
            let cells = seconds.into_iter().chain([all]).map(cell).collect();
            Column::of_words(title, Align::Right, cells)
        };
        let names = summary.rows.iter().map(|row| Some(name(summary, row)));
        let names = names.chain([Some("all".to_owned())]).collect();
        let mut columns = vec![Column::of_words("seconds", Align::Left, names)];
        columns.extend(kinds.iter().map(|kind| column(kind, Some(kind))));
        columns.push(column("all", None));
        let groups = vec![Group { heading: String::new(), rows: (0..=spent.len()).collect() }];
        let look = Look { color: options.color, ..Look::default() };
        let mut shown = text(&Table { columns, groups }, &look);
        let known: f64 = spent.iter().map(|trial| of(trial, None)).sum();
        shown.push('\n');
        shown.push_str(&note(run, known));
        Ok(shown.into_bytes())
    }
}

fn shown(seconds: f64) -> String {
    if seconds < 100.0 { significant(seconds, 2) } else { format!("{seconds:.0}") }
}

/// What the table does not say.
fn note(run: &RunRecord, known: f64) -> String {
    let is_told = run.trials.iter().any(|trial| !trial.other_times.is_empty());
    let Some(active) = run.active_seconds.filter(|_| is_told) else {
        return "A run of an earlier version: files that were there, drift controls and pauses are not told.\n"
            .to_owned();
    };
    format!(
        "The run was under way for {}; {} of it lie between: sources found, workers ended, pauses.\n",
        format_seconds(active),
        format_seconds((active - known).max(0.0)),
    )
}

/// What a trial took, in the order in which kinds of work come.
fn spent(trial: &TrialRecord) -> Vec<Spent> {
    let other = |work: OtherWork, kind: &str| {
        let of_work = trial.other_times.iter().filter(|it| it.work == work);
        of_work.map(|it| (kind.to_owned(), it.seconds)).collect::<Vec<Spent>>()
    };
    let mut spent = other(OtherWork::File, "file");
    // A run of an earlier version knows what was made, then or before.
    if trial.other_times.is_empty()
        && let Some(seconds) = trial.artifact.as_ref().and_then(|it| it.quantize_seconds)
    {
        spent.push(("file".to_owned(), seconds));
    }
    let stages = trial.stages.iter().flat_map(|stage| &stage.usage);
    let visits = trial.visits.iter().flat_map(|visit| &visit.usage);
    spent.extend(stages.chain(visits).map(of_phase));
    spent.extend(other(OtherWork::DriftControl, "drift control"));
    spent
}

fn of_phase(usage: &PhaseUsage) -> Spent {
    let kind = match &usage.phase {
        Phase::Task(_) => "tasks".to_owned(),
        phase => phase.to_string(),
    };
    (kind, usage.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::usage::Usage;
    use crate::report::render;
    use crate::results::made_up::MadeUp;

    fn lines(run: &RunRecord) -> Vec<String> {
        let bytes = render(Times, run, &RenderOptions::default()).unwrap();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn usage(phase: Phase, begin: f64, end: f64) -> PhaseUsage {
        let (begin_seconds, end_seconds) = (Some(begin), Some(end));
        PhaseUsage { phase, begin_seconds, end_seconds, usage: Usage::default() }
    }

    #[test]
    fn every_second_is_in_one_column() {
        let mut run = MadeUp::default().run();
        run.trials.truncate(2);
        run.active_seconds = Some(60.0);
        for trial in &mut run.trials {
            (trial.stages, trial.other_times) = (Vec::new(), Vec::new());
            trial.visits.truncate(2);
            for visit in &mut trial.visits {
                visit.usage = vec![usage(Phase::Start, 0.0, 1.0), usage(Phase::Load, 1.0, 3.5)];
            }
            trial.add_time(OtherWork::File, 4.0);
        }
        run.trials[0].add_time(OtherWork::DriftControl, 2.0);
        run.trials[0].add_time(OtherWork::DriftControl, 3.0);
        let lines = lines(&run);
        let words = |at: usize| lines[at].split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(0), ["seconds", "file", "start", "load", "drift", "control", "all"]);
        assert_eq!(words(2)[1..], ["4.0", "2.0", "5.0", "5.0", "16"]);
        assert_eq!(words(3)[1..], ["4.0", "2.0", "5.0", "11"]);
        assert_eq!(words(4), ["all", "8.0", "4.0", "10", "5.0", "27"]);
        assert!(lines.last().unwrap().contains("33.0 s of it lie between"), "{lines:?}");
    }

    #[test]
    fn a_run_of_an_earlier_version_says_what_it_lacks() {
        let run = MadeUp::default().run();
        assert!(lines(&run).last().unwrap().starts_with("A run of an earlier version"));
    }
}
