//! `quantbench report`: runs as a page that opens in any browser, and as figures, rows and cards for other places.

use super::compare::of_file;
use super::output::{Destination, tell};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::report::{self, Card, Scoreboard, architectures};
use crate::results::record::RunRecord;
use crate::results::store::{NO_RUN, Store};
use crate::units::count;
use clap::Args;
use std::path::{Path, PathBuf};

/// What a page is written to where nobody says otherwise.
const PAGE: &str = "report.html";

/// Flags of `quantbench report`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Runs by their names, their beginnings, or the letters behind their dates; 'last' is the one begun last. Or files with a
    /// run: what 'show' writes as JSON, or llama-bench's results
    #[arg(value_name = "RUN", default_value = "last")]
    pub runs: Vec<String>,
    /// Compare classes of architecture: what was measured of each in each use case
    #[arg(long)]
    pub architectures: bool,
    /// The variants to compare, by their label, such as `Q4_K_M` [the references]
    #[arg(long, value_name = "LABEL", requires = "architectures")]
    pub variant: Option<String>,
    /// Write every chart as an SVG into this folder, which is made where it is not there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["architectures", "markdown", "scoreboard"])]
    pub svg: Option<PathBuf>,
    /// Write every chart as a PNG into this folder
    #[cfg(feature = "png")]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["architectures", "markdown", "scoreboard"])]
    pub png: Option<PathBuf>,
    /// Print Markdown instead, for a pull request or as the card of a model
    #[arg(long, value_enum, value_name = "FOR", num_args = 0..=1, require_equals = true, default_missing_value = "pull-request", conflicts_with = "architectures")]
    pub markdown: Option<Card>,
    /// Print the row that a public scoreboard asks for instead, with its evidence
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["architectures", "markdown"])]
    pub scoreboard: Option<Scoreboard>,
    /// Write it to this file; a page goes to report.html if left out, all else to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Writes the report.
///
/// # Errors
/// If no run or several are meant by a name, the store cannot be read, or the report not be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let runs = arguments.runs.iter().map(|name| load(name));
    let runs = runs.collect::<Result<Vec<RunRecord>, Error>>()?;
    let text = if arguments.architectures {
        Some(
            architectures::render(only(&runs)?, arguments.variant.as_deref())
                .map_err(Error::command)?,
        )
    } else if let Some(card) = arguments.markdown {
        let cards: Vec<String> = match card {
            Card::ModelCard => vec![report::card(only(&runs)?, card)],
            Card::PullRequest => runs.iter().map(|run| report::card(run, card)).collect(),
        };
        Some(cards.join("\n"))
    } else if let Some(board) = arguments.scoreboard {
        Some(report::scoreboard(only(&runs)?, board)?)
    } else {
        None
    };
    if let Some(text) = text {
        Destination::open(arguments.output.as_deref())?.write(text.as_bytes())?;
        return Ok(Outcome::Done);
    }
    let has_svg =
        write_figures(&runs, arguments.svg.as_deref(), "svg", |svg| Ok(svg.as_bytes().to_vec()))?;
    #[cfg(feature = "png")]
    let has_png = match &arguments.png {
        Some(folder) => {
            let fonts = report::Fonts::find()?;
            write_figures(&runs, Some(folder.as_path()), "png", |svg| fonts.render(svg))?
        }
        None => false,
    };
    #[cfg(not(feature = "png"))]
    let has_png = false;
    if (has_svg || has_png) && arguments.output.is_none() {
        return Ok(Outcome::Done);
    }
    let path = arguments.output.clone().unwrap_or_else(|| PAGE.into());
    let destination = Destination::open(Some(&path))?;
    let page = report::page(&runs)?;
    destination.write(&page)?;
    if path.as_os_str() != "-" {
        tell(&format!("wrote {}, which any browser opens", path.display()));
    }
    Ok(Outcome::Done)
}

/// A run of the store, or of a file that holds one.
pub(super) fn load(name: &str) -> Result<RunRecord, Error> {
    if Path::new(name).is_file() {
        return of_file(name);
    }
    let store = Store::open_existing()?.ok_or_else(|| Problem::new(NO_RUN))?;
    Ok(store.load(name)?)
}

/// Writes every chart into a folder; false where none is named.
fn write_figures(
    runs: &[RunRecord],
    folder: Option<&Path>,
    ending: &str,
    bytes: impl Fn(&str) -> Result<Vec<u8>, Problem>,
) -> Result<bool, Error> {
    let Some(folder) = folder else { return Ok(false) };
    let failed = |source| Error::Output { path: Some(folder.to_owned()), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut written = 0;
    for run in runs {
        for figure in report::figures(run)? {
            // Figures of several runs would have the same names.
            let run = if runs.len() > 1 { format!("{}-", run.id) } else { String::new() };
            let path = folder.join(format!("{run}{}.{ending}", figure.name));
            Destination::open(Some(&path))?.write(&bytes(&figure.svg)?)?;
            written += 1;
        }
    }
    tell(&format!("wrote {} into {}", count(written, "chart"), folder.display()));
    Ok(true)
}

/// The run, of what shows one.
fn only(runs: &[RunRecord]) -> Result<&RunRecord, Problem> {
    match runs {
        [only] => Ok(only),
        _ => Err(Problem::new("that shows one run; name one")),
    }
}
