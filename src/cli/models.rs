//! `quantbench models`: the models that other programs keep on this machine.

use super::fitted::{self, Names};
use super::output::{self, Format};
use crate::causes;
use crate::error::{Error, Outcome};
use crate::model::resolve::look;
use crate::model::stores::{Kept, Stores};
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
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
        Format::Table => table(&models, &left_out, fitted::terminal_width()),
        Format::Json => {
            output::json("quantbench.models", json!({ "models": models, "left_out": left_out }))?
        }
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn table(models: &[Listed], left_out: &[String], width: Option<usize>) -> String {
    let titles = [("model", Left), ("size", Right), ("quantization", Left), ("from", Left)];
    let rows = models.iter().map(|it| {
        let model = sanitize(&quoted(&it.model));
        [model, format_bytes(it.bytes), sanitize(&it.quantization), it.store.to_owned()]
    });
    let rows = match models {
        [] => {
            "no models of the Hugging Face hub's tools, Ollama, llama.cpp or LM Studio\n".to_owned()
        }
        _ => fitted::text(Table::of_words(titles, rows), IMPORTANCE, &NAMES, width),
    };
    let left_out = match left_out {
        [] => String::new(),
        [first] => format!("left out: {}\n", sanitize(first)),
        [first, more @ ..] => format!("left out: {}; and {} more\n", sanitize(first), more.len()),
    };
    let next =
        "'quantbench MODEL' measures one; 'quantbench cache list' shows what quantbench made.";
    rows + &fitted::prose(&format!("{left_out}{next}"), width)
}

/// Of the columns in their order: the highest stay longest.
const IMPORTANCE: [u32; 4] = [100, 3, 2, 1];

/// Models are cut where nothing else can be left out.
const NAMES: Names = Names { column: 0, least: 70 };

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr as _;

    #[test]
    fn a_narrow_terminal_shows_names_and_what_else_fits() {
        let listed = |model: &str| Listed {
            model: model.to_owned(),
            bytes: 5 << 30,
            quantization: "UD-Q4_K_XL".to_owned(),
            store: "Hugging Face",
            path: "/p".to_owned(),
        };
        let owner =
            "a-publisher-of-some-renown/A-Model-With-A-Long-Name-235B-A22B-Instruct-2507-GGUF";
        let models = [listed("ollama:qwen3:8b"), listed(&format!("{owner}:UD-Q4_K_XL"))];
        let left_out = [format!("{owner} is no GGUF, {owner}: too short")];
        let whole = table(&models, &left_out, None);
        assert!(whole.contains(&format!("{owner}:UD-Q4_K_XL ")) && whole.contains("Hugging Face"));
        assert_eq!(whole, table(&models, &left_out, Some(1000)));
        for width in [70, 80, 100, 120] {
            let shown = table(&models, &left_out, Some(width));
            assert!(shown.lines().all(|line| line.width() <= width), "{width}: {shown}");
            assert!(shown.contains("ollama:qwen3:8b") && shown.contains("UD-Q4_K_XL"), "{shown}");
        }
        assert!(table(&models, &left_out, Some(100)).contains("left out to fit: from"));
    }
}
