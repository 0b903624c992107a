//! Ownership: whether a folder is a cache of quantbench. A folder with other things in it is never taken
//! for one, whatever `QUANTBENCH_CACHE` says.

use super::error::{CacheError, io_error};
use super::write_whole;
use crate::causes::Problem;
use crate::files;
use std::fs;
use std::path::Path;

/// The marker, as many programs have it (<https://bford.info/cachedir/>): backups leave such folders out.
const MARKER: &str = "CACHEDIR.TAG";

/// How every such file begins.
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";

/// Whose it is.
const OWNER: &str = "# This folder is a cache of quantbench";

/// What caches of versions without a marker have in them.
const OWN_NAMES: [&str; 10] = [
    "cache.lock",
    "checksums.json",
    "demo",
    "importance",
    "indexes",
    "measurements",
    "runs",
    "scratch",
    "use.lock",
    "variants",
];

/// Makes the folder and marks it, unless it is a cache already.
///
/// # Errors
/// The folder cannot be made or marked, or has other things in it.
pub(super) fn claim(root: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(root).map_err(io_error("make the folder", root))?;
    if is_marked(root) {
        return Ok(());
    }
    let names = names(root)?;
    if is_unmarked_cache(root, &names) {
        // One that may only be read needs no mark.
        let _ = mark(root);
        return Ok(());
    }
    match names.into_iter().next() {
        None => mark(root),
        // Another process may have marked it in the meantime: it does that before anything else.
        Some(_) if is_marked(root) => Ok(()),
        Some(found) => Err(CacheError::Unusable(Problem::new(format!(
            "{} is no cache of quantbench: it holds other things, such as '{found}'; set \
             QUANTBENCH_CACHE to a folder that is empty or not there yet",
            root.display()
        )))),
    }
}

fn is_marked(root: &Path) -> bool {
    let text = files::read_to_string(&root.join(MARKER)).unwrap_or_default();
    text.starts_with(SIGNATURE) && text.contains(OWNER)
}

fn names(root: &Path) -> Result<Vec<String>, CacheError> {
    let entries = fs::read_dir(root).map_err(io_error("read", root))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !files::is_unfinished(name)).collect();
    names.sort();
    Ok(names)
}

fn is_unmarked_cache(root: &Path, names: &[String]) -> bool {
    let is_own = |name: &String| OWN_NAMES.contains(&name.as_str());
    root.join("cache.lock").is_file() && root.join("variants").is_dir() && names.iter().all(is_own)
}

fn mark(root: &Path) -> Result<(), CacheError> {
    let text = format!("{SIGNATURE}\n{OWNER}; what is missing from it is made again.\n");
    write_whole(&root.join(MARKER), text.as_bytes())
}
