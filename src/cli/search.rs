//! `quantbench search WORDS`: repositories of GGUFs.

use super::output::{self, Format};
use crate::error::{Error, Outcome};
use crate::model::hub::HubOptions;
use crate::model::hub::api::{self, Found};
use crate::orchestrator::display::of_files;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
use crate::report::terminal::{self, Look};
use clap::Args;
use serde_json::json;

/// Flags of `quantbench search`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Words of the model's name
    #[arg(required = true)]
    pub words: Vec<String>,
    /// List at most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Lists repositories with GGUFs, best matches first.
///
/// # Errors
/// The hub cannot be reached or gives nonsense.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let options = HubOptions { progress: of_files(false), ..HubOptions::from_environment() };
    let found = api::search(&arguments.words, arguments.limit, &options)?;
    let text = match arguments.format {
        Format::Table if found.is_empty() => {
            output::tell(&format!(
                "no repository with GGUFs is found by '{}'; try fewer words",
                arguments.words.join(" ")
            ));
            return Ok(Outcome::Done);
        }
        Format::Table => table(&found),
        Format::Json => {
            let found = found.iter().map(
                |it| json!({ "repository": it.id, "downloads": it.downloads, "likes": it.likes }),
            );
            output::json("quantbench.search", json!({ "found": found.collect::<Vec<_>>() }))?
        }
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn table(found: &[Found]) -> String {
    let titles = [("repository", Left), ("downloads", Right), ("likes", Right)];
    let rows =
        found.iter().map(|it| [sanitize(&it.id), it.downloads.to_string(), it.likes.to_string()]);
    let mut text = terminal::text(&Table::of_words(titles, rows), &Look::default());
    text.push_str(
        "downloads: in the last 30 days\n'quantbench files REPOSITORY' shows what one holds.\n",
    );
    text
}
