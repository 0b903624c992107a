//! `quantbench cache list|clean`: the variants that were made, and removing them.

use super::output::{self, Format, tell};
use crate::error::{Error, Outcome};
use crate::model::cache::{Cache, CachedVariant, VariantFilter};
use crate::model::quantization::Quantization;
use crate::model::text::shortened;
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
use crate::report::terminal::{self, Look};
use crate::units::{count, format_bytes, format_seconds};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Flags of `quantbench cache`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the cache.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Show the variants in the cache, the one last used first
    List(ListArguments),
    /// Remove variants; all of them, unless a condition is given
    Clean(CleanArguments),
}

/// Flags of `quantbench cache list`.
#[derive(Debug, Clone, Args)]
pub struct ListArguments {
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `quantbench cache clean`.
#[derive(Debug, Clone, Args)]
pub struct CleanArguments {
    /// Only variants in these quantizations
    #[arg(long = "quant", value_name = "QUANTIZATION", value_delimiter = ',')]
    pub quantizations: Vec<Quantization>,
    /// Only variants that were not used for this long, such as 30days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub unused_for: Option<Duration>,
    /// Show what would be removed and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Lists or cleans the cache.
///
/// # Errors
/// The cache cannot be read or written to, or standard output does not take the result.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let cache = Cache::open()?;
    let text = match &arguments.action {
        Action::List(list) => match list.format {
            Format::Table => table(&cache, &cache.list()?),
            Format::Json => json_form(&cache, &cache.list()?)?,
        },
        Action::Clean(clean_arguments) => clean(&cache, clean_arguments)?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn clean(cache: &Cache, arguments: &CleanArguments) -> Result<String, Error> {
    let filter = VariantFilter {
        quantizations: arguments.quantizations.clone(),
        unused_for: arguments.unused_for,
    };
    // Without a condition all goes that is made again when it is needed.
    let is_all = filter == VariantFilter::default();
    let others = if is_all { others(cache) } else { String::new() };
    let (entries, verb) = if arguments.dry_run {
        (cache.matching(&filter)?, "would remove")
    } else {
        let cleaned = cache.clean(&filter)?;
        if cleaned.in_use > 0 {
            let left = count(cleaned.in_use, "variant");
            tell(&format!("note: left {left} that another quantbench makes or uses"));
        }
        (cleaned.removed, "removed")
    };
    let bytes = format_bytes(entries.iter().map(|entry| entry.bytes).sum());
    let rows = if entries.is_empty() { String::new() } else { rows(&entries) + "\n" };
    let others: String = others.lines().flat_map(|line| [verb, " ", line, "\n"]).collect();
    Ok(format!("{rows}{verb} {} of {bytes}\n{others}", count(entries.len(), "variant")))
}

/// The variants as a table, with their sum and the folder below.
fn table(cache: &Cache, entries: &[CachedVariant]) -> String {
    let bytes = format_bytes(entries.iter().map(|entry| entry.bytes).sum());
    let root = cache.root().display();
    let others = others(cache);
    if entries.is_empty() {
        return format!("no variants in {root}\n{others}");
    }
    let variants = count(entries.len(), "variant");
    format!("{}\n{variants} of {bytes} in {root}\n{others}", rows(entries))
}

/// What there is besides variants, a line each.
fn others(cache: &Cache) -> String {
    let matrices = match cache.importance_size() {
        (0, 0) => String::new(),
        (0, bytes) => format!("unfinished importance matrices of {}\n", format_bytes(bytes)),
        (1, bytes) => format!("1 importance matrix of {}\n", format_bytes(bytes)),
        (count, bytes) => format!("{count} importance matrices of {}\n", format_bytes(bytes)),
    };
    let (files, bytes) = cache.artifact_size();
    if files == 0 {
        return matrices;
    }
    let files = count(files, "file");
    format!("{matrices}{files} of runs of another machine, {}\n", format_bytes(bytes))
}

fn rows(entries: &[CachedVariant]) -> String {
    let titles = [
        ("model", Left),
        ("quantization", Left),
        ("size", Right),
        ("made in", Right),
        ("last used", Left),
        ("source", Left),
        ("file", Left),
    ];
    let rows = entries.iter().map(|entry| {
        [
            shortened(entry.model.as_deref().unwrap_or("?"), 30),
            entry.quantization.to_string(),
            format_bytes(entry.bytes),
            format_seconds(entry.quantize_seconds),
            age(entry.last_used),
            shortened(&entry.source_checksum, 12),
            entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ]
    });
    terminal::text(&Table::of_words(titles, rows), &Look::default())
}

/// How long ago, in words, to the hour at most.
fn age(time: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    match seconds {
        0..3600 => "this hour".to_owned(),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// The variants as JSON, with a line break at the end.
fn json_form(cache: &Cache, entries: &[CachedVariant]) -> Result<String, Error> {
    let row = |entry: &CachedVariant| {
        json!({
            "model": entry.model,
            "quantization": entry.quantization,
            "bytes": entry.bytes,
            "quantize_seconds": entry.quantize_seconds,
            "last_used": OffsetDateTime::from(entry.last_used).format(&Rfc3339).ok(),
            "source_sha256": entry.source_checksum,
            "maker": entry.maker,
            "path": entry.path.display().to_string(),
        })
    };
    let sum = |(count, bytes): (usize, u64)| json!({ "count": count, "bytes": bytes });
    let document = json!({
        "root": cache.root().display().to_string(),
        "variants": entries.iter().map(row).collect::<Vec<_>>(),
        "importance_matrices": sum(cache.importance_size()),
        // What runs of another machine left here.
        "artifacts": sum(cache.artifact_size()),
    });
    output::json("quantbench.cache", document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cache::VariantKey;
    use crate::model::gguf::testing::Builder;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Command::try_parse_from([&["cache"], arguments].concat()).map(|command| command.arguments)
    }

    fn filled() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        for name in ["Q8_0", "Q4_0"] {
            let key = VariantKey {
                source_checksum: "0123456789abcdef".to_owned(),
                quantization: name.parse().unwrap(),
                maker: "llama.cpp".to_owned(),
                calibration: None,
            };
            let pending = cache.variant(&key).reserve(0).unwrap();
            Builder::model(7).write(pending.path());
            pending.commit(0.25, Vec::new()).unwrap();
        }
        (folder, cache)
    }

    fn clean_with(cache: &Cache, arguments: &[&str]) -> String {
        let Action::Clean(arguments) = parse(arguments).unwrap().action else { panic!() };
        clean(cache, &arguments).unwrap()
    }

    #[test]
    fn the_list_names_model_size_and_sum() {
        let (_folder, cache) = filled();
        let shown = table(&cache, &cache.list().unwrap());
        let row = shown.lines().find(|line| line.contains("Q4_0")).unwrap();
        assert!(
            row.contains("Tiny") && row.contains("1.56 KiB") && row.contains("250 ms"),
            "{row}"
        );
        assert!(row.contains("this hour") && row.contains("0123456789a…"), "{row}");
        let last = shown.lines().last().unwrap();
        assert!(last.starts_with("2 variants of 3.12 KiB in "), "{last}");
        let parsed: serde_json::Value =
            serde_json::from_str(&json_form(&cache, &cache.list().unwrap()).unwrap()).unwrap();
        assert_eq!(
            (&parsed["format"], &parsed["version"]),
            (&"quantbench.cache".into(), &1.into())
        );
        assert_eq!(parsed["variants"][1]["source_sha256"], "0123456789abcdef");
    }

    #[test]
    fn cleaning_says_what_is_gone_and_a_dry_run_removes_nothing() {
        let (_folder, cache) = filled();
        let shown = clean_with(&cache, &["clean", "--dry-run"]);
        assert!(shown.ends_with("would remove 2 variants of 3.12 KiB\n"), "{shown}");
        let shown = clean_with(&cache, &["clean", "--quant", "int8,Q6_K"]);
        assert!(shown.ends_with("removed 1 variant of 1.56 KiB\n"), "{shown}");
        let shown = clean_with(&cache, &["clean", "--unused-for", "1day"]);
        assert_eq!(shown, "removed 0 variants of 0 B\n");
        clean_with(&cache, &["clean"]);
        assert!(table(&cache, &cache.list().unwrap()).starts_with("no variants in "));
    }

    #[test]
    fn wrong_flags_are_refused_with_the_nearest_right_name() {
        let error = parse(&["clean", "--quant", "Q4_KM"]).unwrap_err().to_string();
        assert!(error.contains("did you mean 'Q4_K_M'?"), "{error}");
        assert!(parse(&["clean", "--unused-for", "old"]).is_err());
    }
}
