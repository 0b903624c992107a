//! `quantbench files MODEL`: what a repository holds, and what of it fits this machine.

use super::output::{self, Format};
use super::session::usable_memory;
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::model::gguf::{GgmlType, Header};
use crate::model::hub::{HubOptions, api};
use crate::model::memory::kv_bytes;
use crate::model::repository::{self, NamedVariant};
use crate::model::resolve;
use crate::model::source::Source;
use crate::orchestrator::display::of_files;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
use crate::report::terminal::{self, Look};
use crate::units::{format_bytes, to_f64};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::path::Path;

/// Flags of `quantbench files`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A repository on the Hugging Face hub: owner/name, or owner/name@revision
    pub model: String,
    /// Tokens of context that have to fit
    #[arg(short, long, value_name = "TOKENS", default_value_t = 4096)]
    pub context: u32,
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// One variant of a repository.
#[derive(Serialize)]
struct Listed {
    variant: String,
    file: String,
    parts: usize,
    bytes: u64,
    bits_per_weight: Option<f64>,
    /// Bytes with the KV cache, if the header says what that takes.
    memory_bytes: Option<u64>,
    fits: Option<bool>,
}

/// Lists the variants of a repository. Of its files no more is fetched than one header.
///
/// # Errors
/// What is named is no repository, holds no GGUF, or the hub does not show it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let source = Source::parse(&arguments.model, Path::new(""));
    let source = source.map_err(|error| Problem::new(format!("MODEL {error}")))?;
    let Source::Repository { repository, revision, .. } = &source else {
        let message = format!("{source} is no repository; 'quantbench inspect' shows a file");
        return Err(Problem::new(message).into());
    };
    let options = HubOptions { progress: of_files(false), ..HubOptions::from_environment() };
    let held = api::repository(repository, revision.as_deref(), &options)?;
    let variants = repository::variants(&held);
    if variants.is_empty() {
        return Err(resolve::nothing_in(&held, &options).into());
    }
    // The smallest is the likeliest to be in one part, whose header has all tensors.
    let smallest = variants.iter().min_by_key(|it| (it.remote.parts.len(), it.remote.bytes()));
    let header = smallest.map(|it| it.remote.header(&options)).transpose()?;
    let whole = smallest.is_some_and(|it| it.remote.parts.len() == 1);
    let weights = header.as_ref().filter(|_| whole).map(Header::parameters);
    let f16 = GgmlType::from_name("F16");
    let kv = header
        .as_ref()
        .zip(f16)
        .and_then(|(header, f16)| kv_bytes(header, arguments.context, f16, f16).ok());
    let memory = usable_memory();
    let listed = |variant: &NamedVariant| {
        let bytes = variant.remote.bytes();
        let memory_bytes = kv.map(|kv| bytes.saturating_add(kv));
        Listed {
            variant: variant.label(),
            file: variant.remote.path().to_owned(),
            parts: variant.remote.parts.len(),
            bytes,
            bits_per_weight: weights.map(|weights| to_f64(bytes) * 8.0 / to_f64(weights.max(1))),
            memory_bytes,
            fits: memory_bytes.zip(memory).map(|(needed, there)| needed <= there),
        }
    };
    let rows: Vec<Listed> = variants.iter().map(listed).collect();
    let projectors: Vec<&str> =
        repository::projectors(&held).map(|file| file.path.as_str()).collect();
    let text = match arguments.format {
        Format::Table => table(&source, &rows, &projectors, arguments.context, memory),
        Format::Json => output::json(
            "quantbench.files",
            json!({
                "repository": held.name, "commit": held.commit, "context": arguments.context,
                "usable_memory_bytes": memory, "variants": rows, "projectors": projectors,
            }),
        )?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn table(
    source: &Source,
    rows: &[Listed],
    projectors: &[&str],
    context: u32,
    memory: Option<u64>,
) -> String {
    let titles = [
        ("variant", Left),
        ("size", Right),
        ("bits/weight", Right),
        ("memory", Right),
        ("fits", Left),
        ("file", Left),
    ];
    let unknown = || "-".to_owned();
    let cells = rows.iter().map(|row| {
        let parts = if row.parts > 1 { format!(" ({} parts)", row.parts) } else { String::new() };
        [
            sanitize(&row.variant),
            format_bytes(row.bytes),
            row.bits_per_weight.map_or_else(unknown, |bits| format!("{bits:.2}")),
            row.memory_bytes.map_or_else(unknown, format_bytes),
            row.fits.map_or("-", |fits| if fits { "yes" } else { "no" }).to_owned(),
            format!("{}{parts}", sanitize(&row.file)),
        ]
    });
    let there = memory.map_or_else(String::new, |bytes| {
        format!("; this machine has {} for it", format_bytes(bytes))
    });
    let projectors = match projectors {
        [] => String::new(),
        paths => format!("projectors (mmproj): {}\n", sanitize(&paths.join(", "))),
    };
    let example = rows.iter().find(|row| row.variant == "Q4_K_M").or_else(|| rows.first());
    let example = example.map_or("", |row| row.variant.as_str());
    format!(
        "{}memory: the file and an F16 KV cache of {context} tokens{there}\n{projectors}\
         'quantbench run --model {source}' measures the usual ones that fit, '--model {source}:{example}' one.\n",
        terminal::text(&Table::of_words(titles, cells), &Look::default())
    )
}
