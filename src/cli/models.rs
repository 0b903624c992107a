//! `quantbench models`: the models that other programs keep on this machine.

use super::output::{self, Format};
use crate::causes;
use crate::error::{Error, Outcome};
use crate::model::resolve::look;
use crate::model::stores::{Kept, Stores};
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
use crate::report::terminal::{self, Look};
use crate::report::{quoted, sanitize};
use crate::units::format_bytes;
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// Flags of `quantbench models`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// One model.
#[derive(Serialize)]
struct Listed {
    model: String,
    bytes: u64,
    quantization: String,
    store: &'static str,
    path: String,
}

/// Lists the models in the stores of other programs.
///
/// # Errors
/// Standard output does not take the list.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let (kept, problems) = Stores::from_environment().list();
    let mut left_out: Vec<String> =
        problems.iter().map(|problem| causes::in_words(problem)).collect();
    let mut models = Vec::new();
    for Kept { model, path, store } in kept {
        match look(&path) {
            // An image encoder often lies beside the models that it belongs to.
            Ok(None) => {}
            Ok(Some((header, quantization))) => {
                let (bytes, quantization) = (header.file_bytes, quantization.to_string());
                let path = path.display().to_string();
                models.push(Listed { model, bytes, quantization, store, path });
            }
            Err(problem) => left_out.push(causes::in_words(&problem)),
        }
    }
    let text = match arguments.format {
        Format::Table => table(&models, &left_out),
        Format::Json => {
            output::json("quantbench.models", json!({ "models": models, "left_out": left_out }))?
        }
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn table(models: &[Listed], left_out: &[String]) -> String {
    let titles = [("model", Left), ("size", Right), ("quantization", Left), ("from", Left)];
    let rows = models.iter().map(|it| {
        let model = sanitize(&quoted(&it.model));
        [model, format_bytes(it.bytes), sanitize(&it.quantization), it.store.to_owned()]
    });
    let rows = match models {
        [] => {
            "no models of the Hugging Face hub's tools, Ollama, llama.cpp or LM Studio\n".to_owned()
        }
        _ => terminal::text(&Table::of_words(titles, rows), &Look::default()),
    };
    let left_out = match left_out {
        [] => String::new(),
        [first] => format!("left out: {}\n", sanitize(first)),
        [first, more @ ..] => format!("left out: {}; and {} more\n", sanitize(first), more.len()),
    };
    format!(
        "{rows}{left_out}'quantbench MODEL' measures one; 'quantbench cache list' shows what quantbench made.\n"
    )
}
