//! Checksums of files, remembered between runs.

use super::Cache;
use super::error::{CacheError, io_error};
use crate::files::{self, Stamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files remembered; the memo is read on every run and has to stay small.
const MOST_FILES: usize = 4096;

/// A file changed this recently may change again without its stamp showing it: the coarsest file systems
/// count in two seconds.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    stamp: Stamp,
    sha256: String,
}

/// Text of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of several texts, each with its length so that none runs into the next.
pub(in crate::model) fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hex(&hasher.finalize())
}

/// SHA-256 of bytes, hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a reader's bytes, hex; `progress` is called with the number of bytes read so far.
pub(in crate::model) fn of_reader(
    mut reader: impl Read,
    progress: &mut dyn FnMut(u64),
) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        done += read as u64;
        progress(done);
    }
}

/// SHA-256 of the file at `path`, read now.
pub(super) fn of_file(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<String, CacheError> {
    let sum = files::open(path).and_then(|file| of_reader(file, progress));
    sum.map_err(io_error("read", path))
}

/// SHA-256 of the file at `path`, from the memo if the file is still the same. It is remembered unless it
/// changed within the time `settled`.
pub(super) fn remembered(
    cache: &Cache,
    path: &Path,
    settled: Duration,
    progress: &mut dyn FnMut(u64),
) -> Result<String, CacheError> {
    let stamp = || -> Result<(Stamp, u64), CacheError> {
        let opened = files::open(path).and_then(|file| file.metadata());
        let metadata = opened.map_err(io_error("read", path))?;
        Ok((Stamp::of(&metadata), metadata.len()))
    };
    let (before, bytes) = stamp()?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let key = absolute.to_string_lossy().into_owned();
    if let Some(known) = load(&cache.checksums()).get(&key)
        && known.stamp == before
    {
        progress(bytes);
        return Ok(known.sha256.clone());
    }
    let sha256 = of_file(path, progress)?;
    let (after, _) = stamp()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = after.last_change_ns().map(Duration::from_nanos);
    let is_settled =
        changed.is_some_and(|at| now.checked_sub(at).is_some_and(|age| age >= settled));
    if after == before && is_settled {
        remember(cache, &key, Remembered { stamp: after, sha256: sha256.clone() });
    }
    Ok(sha256)
}

fn load(memo: &Path) -> BTreeMap<String, Remembered> {
    // A memo that cannot be read only costs time.
    std::fs::read(memo)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn remember(cache: &Cache, key: &str, known: Remembered) {
    // Not remembering only costs time: a read-only cache still serves.
    let Ok(_entered) = cache.enter() else { return };
    let memo = cache.checksums();
    let mut all = load(&memo);
    all.insert(key.to_owned(), known);
    if all.len() > MOST_FILES {
        all.retain(|path, _| path == key || Path::new(path).exists());
    }
    if let Ok(bytes) = serde_json::to_vec_pretty(&all) {
        let _ = super::write_whole(&memo, &bytes);
    }
}
