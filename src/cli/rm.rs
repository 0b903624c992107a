//! `quantbench rm RUN…`: removes stored runs.

use super::run::lock::RunLock;
use super::selection::{Selection, store_to_change};
use super::{list, output};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::model::cache::Cache;
use crate::units::count;
use clap::Args;
use std::io::{self, IsTerminal as _};

/// Flags of `quantbench rm`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The runs, as `show` takes them; without any, those that the conditions leave
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,
    /// What else they have to be.
    #[command(flatten)]
    pub selection: Selection,
    /// Do not ask
    #[arg(short = 'y', long)]
    pub yes: bool,
}

/// Removes runs for good, after asking.
///
/// # Errors
/// If none is meant or one is under way, nobody is there to ask, or the store cannot be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    if arguments.runs.is_empty() && arguments.selection.is_empty() {
        return Err(Problem::new("which runs? name them ('quantbench list' shows all), or say which with --tag, --model, --host, --since or --until").into());
    }
    let store = store_to_change()?;
    let runs = arguments.selection.of(&store, &arguments.runs)?;
    let cache = Cache::open()?;
    // Held until all are removed, so that none is gone on with meanwhile.
    let locks = runs.iter().map(|run| RunLock::take(cache.root(), &run.id));
    let _locks: Vec<RunLock> = locks.collect::<Result<_, _>>()?;
    let what = count(runs.len(), "run");
    if !arguments.yes {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let message = format!(
                "{what} would be removed for good, and nobody is there to ask; --yes removes without asking"
            );
            return Err(Problem::new(message).into());
        }
        output::tell(list::shown(&runs, |_| false).0.trim_end());
        if !output::ask(&format!("\nremove {what} for good? [y/N]"), false) {
            return Err(Problem::new("nothing was removed, as you wish").into());
        }
    }
    for run in &runs {
        store.remove(&run.id)?;
    }
    store.shrink();
    output::print(format!("removed {what}\n").as_bytes())?;
    Ok(Outcome::Done)
}
