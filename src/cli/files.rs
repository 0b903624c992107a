//! `quantbench files MODEL`: what a repository holds, and what of it fits this machine.

use super::fitted::{self, Names};
use super::output::{self, Format};
use super::session::usable_memory;
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::model::gguf::{GgmlType, Header};
use crate::model::hub::HubOptions;
use crate::model::memory::kv_bytes;
use crate::model::repository::{self, NamedVariant};
use crate::model::resolve;
use crate::model::source::Source;
use crate::orchestrator::display::of_files;
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
use crate::report::{sanitize, shorten};
use crate::units::{format_bytes, to_f64};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::path::Path;

/// Flags of `quantbench files`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A repository on the Hugging Face hub: owner/name, owner/name@revision; with a colon and a quantization, one variant
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
    /// What chooses it behind the repository's name.
    #[serde(skip)]
    word: String,
    variant: String,
    file: String,
    parts: usize,
    bytes: u64,
    bits_per_weight: Option<f64>,
    /// Bytes with the KV cache, if the header says what that takes.
    memory_bytes: Option<u64>,
    fits: Option<bool>,
}

/// Lists the variants of a repository. Of its files no more is fetched than one header. Without the hub, those are
/// listed that were fetched before.
///
/// # Errors
/// What is named is no repository, holds no GGUF or not the one named, or the hub does not show it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let source = Source::parse(&arguments.model, Path::new(""));
    let source = source.map_err(|error| Problem::new(format!("MODEL {error}")))?;
    let Source::Repository { repository, revision, variant } = &source else {
        let message = format!("{source} is no repository; 'quantbench inspect' shows a file");
        return Err(Problem::new(message).into());
    };
    let options = HubOptions { progress: of_files(false), ..HubOptions::from_environment() };
    let (held, folder) = resolve::held(repository, revision.as_deref(), &options)?;
    let variants = repository::variants(&held);
    if variants.is_empty() {
        // Where it did not answer once, it is not asked again.
        let options = HubOptions { offline: options.offline || folder.is_some(), ..options };
        return Err(resolve::nothing_in(&held, &options).into());
    }
    let variants = resolve::choose(repository, variant.as_deref(), variants)?;
    if folder.is_some() && !options.offline {
        output::tell(&format!("note: the hub cannot be reached; this was fetched of {repository}"));
    }
    // The smallest is the likeliest to be in one part, whose header has all tensors.
    let smallest = variants.iter().min_by_key(|it| (it.remote.parts.len(), it.remote.bytes()));
    let header_of = |variant: &NamedVariant| match &folder {
        Some(folder) => Header::read(&folder.join(variant.remote.path())),
        None => variant.remote.header(&options),
    };
    let header = smallest.map(header_of).transpose()?;
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
            word: variant.word(),
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
    for missing in repository::incomplete(&held) {
        output::tell(&format!("note: left out: {missing}"));
    }
    let projectors: Vec<&str> =
        repository::projectors(&held).map(|file| file.path.as_str()).collect();
    let text = match arguments.format {
        Format::Table => {
            let room = Room { context: arguments.context, memory };
            table(&source, &rows, &projectors, &room, fitted::terminal_width())
        }
        Format::Json => output::json(
            "quantbench.files",
            json!({
                "repository": held.name, "commit": held.commit, "context": arguments.context,
                "usable_memory_bytes": memory, "variants": rows, "projectors": projectors,
                "only_fetched": folder.is_some(),
            }),
        )?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// Of the columns in their order: the highest stay longest.
const IMPORTANCE: [u32; 6] = [100, 95, 4, 5, 6, 3];

/// The variant says which file it is, mostly.
const NAMES: Names = Names { column: 5, least: 20 };

/// What has to fit, and into what.
struct Room {
    context: u32,
    memory: Option<u64>,
}

fn table(
    source: &Source,
    rows: &[Listed],
    projectors: &[&str],
    room: &Room,
    width: Option<usize>,
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
            width.map_or_else(
                || sanitize(&row.variant),
                |width| shorten(&sanitize(&row.variant), width / 2),
            ),
            format_bytes(row.bytes),
            row.bits_per_weight.map_or_else(unknown, |bits| format!("{bits:.2}")),
            row.memory_bytes.map_or_else(unknown, format_bytes),
            row.fits.map_or("-", |fits| if fits { "yes" } else { "no" }).to_owned(),
            format!("{}{parts}", sanitize(&row.file)),
        ]
    });
    let there = room.memory.map_or_else(String::new, |bytes| {
        format!("; this machine has {} for it", format_bytes(bytes))
    });
    let projectors = match projectors {
        [] => String::new(),
        paths => format!("projectors (mmproj): {}\n", sanitize(&paths.join(", "))),
    };
    let example = rows.iter().find(|row| row.word == "Q4_K_M").or_else(|| rows.first());
    let example = example.map_or("", |row| row.word.as_str());
    let next = match source {
        Source::Repository { repository, revision, variant: Some(_) } => {
            let whole = Source::Repository {
                repository: repository.clone(),
                revision: revision.clone(),
                variant: None,
            };
            format!("'quantbench run --model {whole}:{example}' measures it.")
        }
        _ => format!(
            "'quantbench run --model {source}' measures the usual ones that fit,\n'--model {source}:{example}' one."
        ),
    };
    let said = format!(
        "memory: the file and an F16 KV cache of {} tokens{there}\n{projectors}{next}",
        room.context
    );
    let rows = fitted::text(Table::of_words(titles, cells), IMPORTANCE, &NAMES, width);
    rows + &fitted::prose(&said, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr as _;

    #[test]
    fn a_narrow_terminal_shows_what_fits_before_where_it_lies() {
        let name = "A-Model-With-A-Long-Name-235B-A22B-Instruct-2507";
        let listed = |variant: &str| Listed {
            word: variant.to_owned(),
            variant: variant.to_owned(),
            file: format!("{variant}/{name}-{variant}-00001-of-00003.gguf"),
            parts: 3,
            bytes: 130 << 30,
            bits_per_weight: Some(4.5),
            memory_bytes: Some(140 << 30),
            fits: Some(false),
        };
        let source = Source::parse(&format!("publisher/{name}-GGUF"), Path::new("")).unwrap();
        let rows = [listed("Q4_K_M"), listed("UD-Q4_K_XL")];
        let room = Room { context: 4096, memory: Some(16 << 30) };
        let shown = |width| table(&source, &rows, &["mmproj-F16.gguf"; 8], &room, width);
        let whole = shown(None);
        assert!(whole.contains(&rows[1].file), "{whole}");
        for width in [60, 80, 100] {
            let shown = shown(Some(width));
            assert!(shown.lines().all(|line| line.width() <= width), "{width}: {shown}");
            assert!(shown.contains("UD-Q4_K_XL ") && shown.contains("no"), "{shown}");
        }
        assert!(shown(Some(60)).contains("left out to fit: file"));
        assert!(shown(Some(100)).contains("00003.gguf (3 parts)"));
    }
}
