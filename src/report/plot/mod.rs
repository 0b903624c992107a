//! Charts of a report as values: what stands where, before anybody draws it.
//!
//! A [`Plot`] has panels one below the other over a common x axis; `axis` has scales with their ticks, `svg` draws a
//! plot, `labels` finds room for names at points, `png` turns a drawing into pixels. The others make plots of what a run
//! measured: `scope` (whose figures may stand side by side, and their colours), `size` (divergence and speed over size),
//! `speed` (by trial, over depth, sequences and layers on a GPU, energy), `latency`, `memory`, `quality` (tasks, domains)
//! and `hardware`. `all` lists them.

mod axis;
mod hardware;
mod labels;
mod latency;
mod memory;
#[cfg(feature = "png")]
pub(super) mod png;
mod quality;
mod scope;
mod size;
mod speed;
pub(super) mod svg;

pub(super) use axis::Axis;
pub(super) use scope::{Scope, label, scopes};

use super::table::Table;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;

/// A chart, with the same as a table for those who do not see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot {
    /// Short and plain, for names of files and anchors: `speed-over-size`.
    pub(super) name: String,
    pub(super) title: String,
    /// What it shows and how to read it.
    pub(super) reading: String,
    pub(super) x: Axis,
    pub(super) panels: Vec<Panel>,
    /// Stretches of the x axis, behind everything.
    pub(super) shades: Vec<Shade>,
    pub(super) table: Table,
}

/// One area above the x axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panel {
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// Marks of one colour.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// In the legend; empty: not there.
    pub(super) name: String,
    pub(super) colour: Colour,
    pub(super) draw: Draw,
    pub(super) spots: Vec<Spot>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Draw {
    /// Dots, with their intervals along the axis of values.
    Points,
    /// A line through dots.
    Line,
    /// A line alone.
    Trace,
    /// A line that turns in right angles, down and to the right.
    Front,
    /// Bars from `from` to the value, along x; so thick, as a part of a row.
    Bars(f64),
}

/// One mark.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Where a bar begins.
    pub(super) from: f64,
    /// A 95 % interval, or outer percentiles.
    pub(super) span: Option<(f64, f64)>,
    /// Inner percentiles.
    pub(super) inner: Option<(f64, f64)>,
    /// Written beside it where there is room; empty: nothing is.
    pub(super) label: String,
    /// What is told when it is pointed at, in lines.
    pub(super) tip: String,
}

/// A stretch of the x axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shade {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Written in it where there is room.
    pub(super) name: String,
    pub(super) tip: String,
}

/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008), greys, and those of paper and ink. What
/// is drawn has them as they are; a page gives them others in the dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Blue,
    Vermilion,
    Green,
    Purple,
    Orange,
    Sky,
    Ink,
    Grey,
    Grid,
    Shade,
    Paper,
}

impl Colour {
    /// Those of series, in the order in which they are given.
    pub(super) const OF_SERIES: [Self; 6] =
        [Self::Blue, Self::Vermilion, Self::Green, Self::Purple, Self::Orange, Self::Sky];

    /// Red, green and blue.
    pub(super) fn rgb(self) -> (u8, u8, u8) {
        match self {
            Self::Blue => (0x00, 0x72, 0xB2),
            Self::Vermilion => (0xD5, 0x5E, 0x00),
            Self::Green => (0x00, 0x9E, 0x73),
            Self::Purple => (0xCC, 0x79, 0xA7),
            Self::Orange => (0xE6, 0x9F, 0x00),
            Self::Sky => (0x56, 0xB4, 0xE9),
            Self::Ink => (0x1F, 0x23, 0x28),
            Self::Grey => (0x8C, 0x95, 0x9F),
            Self::Grid => (0xD8, 0xDE, 0xE4),
            Self::Shade => (0xF0, 0xF3, 0xF6),
            Self::Paper => (0xFF, 0xFF, 0xFF),
        }
    }
}

impl Plot {
    /// Whether anything is drawn in it.
    fn is_empty(&self) -> bool {
        self.panels.iter().all(|panel| panel.series.iter().all(|series| series.spots.is_empty()))
    }

    /// One with a single panel.
    fn simple(
        name: &str,
        title: String,
        reading: &str,
        axes: [Axis; 2],
        series: Vec<Series>,
    ) -> Self {
        let [x, y] = axes;
        Self {
            name: name.to_owned(),
            title,
            reading: reading.to_owned(),
            x,
            panels: vec![Panel { y, series }],
            shades: Vec::new(),
            table: Table::default(),
        }
    }

    fn with_table(self, table: Table) -> Self {
        Self { table, ..self }
    }
}

/// Charts that belong together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) plots: Vec<Plot>,
}

/// Divergence over size, for each model and machine that has it.
pub(super) fn divergence_over_size(run: &RunRecord, summary: &Summary) -> Vec<Plot> {
    let scopes = scopes(run, summary);
    scopes.iter().filter_map(|scope| size::divergence(summary, scope)).collect()
}

/// Everything that a run can show, chapter by chapter; what it did not measure is not there.
pub(super) fn all(run: &RunRecord, summary: &Summary) -> Vec<Chapter> {
    type Maker = fn(&RunRecord, &Summary, &Scope) -> Vec<Plot>;
    let chapters: [(&'static str, Maker); 6] = [
        ("What size buys", size::plots),
        ("Speed", speed::plots),
        ("Latency", latency::plots),
        ("Memory", memory::plots),
        ("Quality", quality::plots),
        ("Hardware", hardware::plots),
    ];
    let scopes = scopes(run, summary);
    let mut taken: Vec<String> = Vec::new();
    let chapters = chapters.into_iter().map(|(title, plots)| {
        let plots = scopes.iter().flat_map(|scope| plots(run, summary, scope));
        let named = plots.filter(|plot| !plot.is_empty()).map(|mut plot| {
            let same = taken.iter().filter(|name| **name == plot.name).count();
            taken.push(plot.name.clone());
            if same > 0 {
                plot.name = format!("{}-{}", plot.name, same + 1);
            }
            plot
        });
        Chapter { title, plots: named.collect() }
    });
    chapters.filter(|chapter| !chapter.plots.is_empty()).collect()
}
