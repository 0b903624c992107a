//! Whose figures may stand side by side: trials of one model on one machine; and how they are named and coloured.

use super::{Colour, Draw, Series, Spot};
use crate::report::notes::arrow;
use crate::report::numbers::Scale;
use crate::report::table::{Align, Column, Group, Table};
use crate::report::text::sanitize;
use crate::results::metric::Metric;
use crate::results::record::{HostId, RunRecord};
use crate::results::summary::Summary;
use crate::statistics::estimate::Estimate;

/// Of more points only those to choose among are named.
const MOST_NAMED: usize = 20;

/// Trials of one model on one machine.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Scope {
    /// Whose they are, where there are several; else empty.
    pub(in crate::report) title: String,
    /// Positions in [`Summary::rows`].
    pub(in crate::report) rows: Vec<usize>,
}

/// All of a run, in the order of the experiment. Figures of different machines are in different ones.
pub(in crate::report) fn scopes(run: &RunRecord, summary: &Summary) -> Vec<Scope> {
    let mut groups: Vec<(&str, &HostId, Vec<usize>)> = Vec::new();
    for (at, (row, trial)) in summary.rows.iter().zip(&run.trials).enumerate() {
        match groups.iter_mut().find(|group| group.0 == row.model && *group.1 == trial.host) {
            Some(group) => group.2.push(at),
            None => groups.push((&row.model, &trial.host, vec![at])),
        }
    }
    let several_models = groups.iter().any(|group| group.0 != groups[0].0);
    let several_hosts = groups.iter().any(|group| group.1 != groups[0].1);
    let several_states =
        groups.iter().any(|it| it.1.name == groups[0].1.name && it.1 != groups[0].1);
    let titled = groups.iter().map(|(model, host, rows)| {
        let model = several_models.then(|| sanitize(model));
        let state = if several_states {
            format!(" ({})", sanitize(&host.environment_id))
        } else {
            String::new()
        };
        let host = several_hosts.then(|| format!("on {}{state}", sanitize(&host.name)));
        let title = model.into_iter().chain(host).collect::<Vec<_>>().join(" ");
        Scope { title, rows: rows.clone() }
    });
    titled.collect()
}

impl Scope {
    /// A title with whose it is: `Prompt speed (llama on board)`.
    pub(super) fn titled(&self, title: &str) -> String {
        if self.title.is_empty() { title.to_owned() } else { format!("{title} ({})", self.title) }
    }

    /// Rows in the order of their importance, those to name where not all can be: under the settings of the chosen one
    /// first.
    fn by_rank(&self, summary: &Summary) -> Vec<usize> {
        let alike = self.alike(summary);
        let mut rows = self.rows.clone();
        rows.sort_by_key(|row| (!alike.contains(row), rank(summary, *row)));
        rows
    }

    /// The rows under the settings of the chosen one, or of the first.
    pub(super) fn alike(&self, summary: &Summary) -> Vec<usize> {
        let rows = || self.rows.iter().copied();
        let chosen = rows().find(|&row| summary.is_chosen(row)).or_else(|| rows().next());
        let settings = chosen.map(|row| &summary.rows[row].settings);
        rows().filter(|&row| Some(&summary.rows[row].settings) == settings).collect()
    }

    /// Every row with a colour of its own and its name, as far as there are colours; the others are grey and have none.
    pub(super) fn identities(
        &self,
        summary: &Summary,
        measured: &[usize],
    ) -> Vec<(usize, Colour, String)> {
        let mut found = Vec::new();
        for row in self.by_rank(summary).into_iter().filter(|row| measured.contains(row)) {
            let own = Colour::OF_SERIES.get(found.len());
            let name = own.map_or_else(String::new, |_| label(summary, row));
            found.push((row, own.copied().unwrap_or(Colour::Grey), name));
        }
        // Grey ones lie below; one of them tells what grey is.
        found.reverse();
        if let Some((_, _, name)) = found.iter_mut().find(|(_, colour, _)| *colour == Colour::Grey)
        {
            "others".clone_into(name);
        }
        found
    }
}

/// How a row stands: the chosen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Chosen,
    Reference,
    OnFront,
    Beaten,
    /// Not judged, because not all of it was measured.
    Incomplete,
}

const RANKS: [Rank; 5] =
    [Rank::Chosen, Rank::Reference, Rank::OnFront, Rank::Beaten, Rank::Incomplete];

pub(super) fn rank(summary: &Summary, row: usize) -> Rank {
    if summary.is_chosen(row) {
        Rank::Chosen
    } else if summary.rows[row].is_reference {
        Rank::Reference
    } else if summary.is_on_front(row) {
        Rank::OnFront
    } else if summary.models.iter().any(|it| it.front.beaten.iter().any(|it| it.row == row)) {
        Rank::Beaten
    } else {
        Rank::Incomplete
    }
}

/// Marks of rows, a series for each rank, the chosen on top.
pub(super) fn ranked(summary: &Summary, draw: Draw, spots: &[(usize, Spot)]) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for of in RANKS.into_iter().rev() {
        let own = spots.iter().filter(|(row, _)| rank(summary, *row) == of);
        let mut own: Vec<Spot> = own.map(|(_, spot)| spot.clone()).collect();
        if spots.len() > MOST_NAMED && !matches!(of, Rank::Chosen | Rank::OnFront) {
            for spot in &mut own {
                spot.label.clear();
            }
        }
        let (name, colour) = match of {
            Rank::Chosen => (arrow(summary), Colour::Blue),
            Rank::Reference => ("reference", Colour::Ink),
            Rank::OnFront => ("on the Pareto front", Colour::Sky),
            Rank::Beaten => ("beaten by another", Colour::Grey),
            Rank::Incomplete => ("not measured in full", Colour::Orange),
        };
        if !own.is_empty() {
            series.push(Series { name: name.to_owned(), colour, draw, spots: own });
        }
    }
    // Where all are alike the colour says nothing.
    if let [only] = series.as_mut_slice()
        && matches!(only.colour, Colour::Grey | Colour::Orange)
    {
        (only.name, only.colour) = (String::new(), Colour::Blue);
    }
    series
}

/// A trial by its label, with its settings where its model has several.
pub(in crate::report) fn label(summary: &Summary, row: usize) -> String {
    let own = &summary.rows[row];
    let groups =
        summary.models.iter().filter(|model| model.name == own.model).map(|it| it.groups.len());
    let label = sanitize(&own.label);
    if groups.sum::<usize>() > 1 { format!("{label} · {}", own.settings) } else { label }
}

/// A figure of a row; of one that failed, none.
pub(super) fn estimate(summary: &Summary, row: usize, metric: Metric) -> Option<Estimate> {
    let own = Some(&summary.rows[row]).filter(|own| own.failure.is_none())?;
    own.figures.get(&metric).map(|figure| figure.estimate)
}

/// Ends of an interval.
pub(super) fn span(estimate: Estimate, factor: f64) -> Option<(f64, f64)> {
    estimate.interval.map(|interval| (interval.low * factor, interval.high * factor))
}

/// An interval in words: `3.1 to 3.4`.
pub(super) fn between(estimate: Estimate, scale: Scale) -> Option<String> {
    let show = |value| scale.show(value);
    estimate.interval.map(|it| format!("{} to {}", show(it.low), show(it.high)))
}

/// A table of words: the first column to the left, figures to the right.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> Table {
    let columns = titles.iter().enumerate().map(|(at, title)| {
        let align = if at == 0 { Align::Left } else { Align::Right };
        let cells = rows.iter().map(|row| row.get(at).filter(|text| !text.is_empty()).cloned());
        Column::of_words(title, align, cells.collect())
    });
    let columns = columns.collect();
    Table {
        columns,
        groups: vec![Group { heading: String::new(), rows: (0..rows.len()).collect() }],
    }
}
