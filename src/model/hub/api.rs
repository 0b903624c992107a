//! What the hub says of repositories: which there are, which files they hold, and how those begin.

use super::transfer::Remote;
use super::{HubError, HubFile, HubOptions, RepoType};
use crate::causes::Problem;
use crate::model::gguf::{Header, LONGEST_HEADER, RawKey};
use crate::model::source::ESCAPED;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Longest list of files or repositories that is read, bytes.
const LONGEST_ANSWER: usize = 32 << 20;

/// Repositories that the best matches of a search are chosen from.
const RANKED: u32 = 100;

/// A repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `owner/name`.
    pub name: String,
    /// Branch, tag or commit that was asked for; `None`: the main branch.
    pub revision: Option<String>,
    /// Its commit, hex.
    pub commit: String,
    /// Its files, in the hub's order.
    pub files: Vec<RemoteFile>,
    /// The repositories that its model was made from, as its card says.
    pub base_models: Vec<String>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size, bytes; 0 if the hub does not say.
    pub bytes: u64,
    /// SHA-256, hex, of a file that is kept apart from the repository's history.
    pub sha256: Option<String>,
}

/// A repository that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// `owner/name`.
    pub id: String,
    /// Downloads in the last 30 days.
    #[serde(default)]
    pub downloads: u64,
    /// Likes.
    #[serde(default)]
    pub likes: u64,
}

/// `GET /api/models/owner/name/revision/…?blobs=true`.
#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    base_model: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
    Other(serde::de::IgnoredAny),
}

/// What a repository holds.
///
/// # Errors
/// The hub cannot be reached, does not know it, does not show it, or gives nonsense.
pub fn repository(
    name: &str,
    revision: Option<&str>,
    options: &HubOptions,
) -> Result<Repository, HubError> {
    let revision_path = utf8_percent_encode(revision.unwrap_or("main"), ESCAPED);
    let path = format!("api/models/{name}/revision/{revision_path}?blobs=true");
    let file = HubFile { kind: RepoType::Model, repository: name, revision, file: "" };
    let info: ModelInfo = ask(&path, file, options)?;
    let wrong =
        |reason: &str| Problem::new(format!("the hub gave a wrong answer for {name}: {reason}"));
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if info.sha.len() != 40 || !is_hex(&info.sha) {
        return Err(wrong("its commit is none"));
    }
    let mut files = Vec::new();
    for Sibling { rfilename, size, lfs } in info.siblings {
        // Paths of local files come from these names.
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let odd = |c: char| c == '\\' || c.is_control();
        if !rfilename.split('/').all(plain) || rfilename.contains(odd) {
            return Err(wrong("it names a file that is no plain path"));
        }
        let sha256 = lfs.and_then(|lfs| lfs.sha256).map(|hex| hex.to_ascii_lowercase());
        let sha256 = sha256.filter(|hex| hex.len() == 64 && is_hex(hex));
        files.push(RemoteFile { path: rfilename, bytes: size.unwrap_or(0), sha256 });
    }
    let base_models = match info.card.and_then(|card| card.base_model) {
        Some(OneOrMany::One(name)) => vec![name],
        Some(OneOrMany::Many(names)) => names,
        Some(OneOrMany::Other(_)) | None => Vec::new(),
    };
    let (name, revision) = (name.to_owned(), revision.map(str::to_owned));
    Ok(Repository { name, revision, commit: info.sha, files, base_models })
}

/// Repositories with GGUFs that fit words: those whose names have most of them first, then those that are fetched most.
///
/// # Errors
/// The hub cannot be reached or gives nonsense.
pub fn search(words: &[String], most: u32, options: &HubOptions) -> Result<Vec<Found>, HubError> {
    let asked = |text: &str| -> Result<Vec<Found>, HubError> {
        let encoded = utf8_percent_encode(text, ESCAPED);
        // The hub orders by downloads alone, and looks for words in more than names.
        let path = format!("api/models?search={encoded}&{}", sorted(RANKED.max(most)));
        ask(&path, named(&format!("a search for '{text}'")), options)
    };
    let mut found = asked(&words.join(" "))?;
    let longest = words.iter().max_by_key(|word| word.len());
    if let (true, [_, _, ..], Some(longest)) = (found.is_empty(), words, longest) {
        found = asked(longest)?;
    }
    let names_of = |found: &Found| {
        let id = found.id.to_lowercase();
        words.iter().filter(|word| id.contains(&word.to_lowercase())).count()
    };
    found.sort_by_key(|it| std::cmp::Reverse((names_of(it), it.downloads)));
    found.truncate(most as usize);
    Ok(found)
}

/// Repositories with GGUFs that were made from `base`, those that are fetched most first.
///
/// # Errors
/// As for [`search`].
pub fn quantized_from(base: &str, most: u32, options: &HubOptions) -> Result<Vec<Found>, HubError> {
    let tag = format!("base_model:quantized:{base}");
    let tag = utf8_percent_encode(&tag, ESCAPED);
    let path = format!("api/models?filter={tag}&{}", sorted(most));
    ask(&path, named(&format!("a search for what was made from {base}")), options)
}

fn sorted(most: u32) -> String {
    format!("filter=gguf&sort=downloads&direction=-1&limit={most}")
}

/// A request that is about no repository.
fn named(what: &str) -> HubFile<'_> {
    HubFile { kind: RepoType::Model, repository: what, revision: None, file: "" }
}

/// The header of a GGUF, of which no more is fetched than that takes.
///
/// # Errors
/// The hub does not give it, or it is no GGUF.
pub fn header(
    repository: &str,
    commit: &str,
    file: &RemoteFile,
    options: &HubOptions,
) -> Result<Header, HubError> {
    let (path, stream) = beginning(repository, commit, file, options)?;
    Header::read_stream(Path::new(&path), file.bytes, stream)
}

/// As [`header`], with its keys as they stand in the file.
///
/// # Errors
/// As for [`header`].
pub fn raw_header(
    repository: &str,
    commit: &str,
    file: &RemoteFile,
    options: &HubOptions,
) -> Result<(Header, Vec<RawKey>), HubError> {
    let (path, stream) = beginning(repository, commit, file, options)?;
    Header::read_raw(Path::new(&path), file.bytes, stream)
}

/// Writes an outline of a GGUF: its header as it is, and empty room for its weights. No more is fetched than the header
/// takes.
///
/// # Errors
/// The hub does not give it, it is no GGUF, or the outline cannot be written.
pub fn outline(
    repository: &str,
    commit: &str,
    file: &RemoteFile,
    options: &HubOptions,
    to: &Path,
) -> Result<(), HubError> {
    let failed =
        |error| Problem::because(format!("cannot write an outline to {}", to.display()), error);
    let outline = File::create(to).map_err(failed)?;
    let copy = outline.try_clone().map_err(failed)?;
    let (path, stream) = beginning(repository, commit, file, options)?;
    Header::read_stream(Path::new(&path), file.bytes, Copied { stream, copy })?;
    outline.set_len(file.bytes).map_err(failed)
}

/// What a file is called, and as much of it as a header may take.
fn beginning(
    repository: &str,
    commit: &str,
    file: &RemoteFile,
    options: &HubOptions,
) -> Result<(String, impl Read + Send + 'static), HubError> {
    let revision = Some(commit);
    let wanted = HubFile { kind: RepoType::Model, repository, revision, file: &file.path };
    let stream = Remote::new(wanted, options)?.beginning(file.bytes.min(LONGEST_HEADER))?;
    Ok((wanted.to_string(), stream))
}

/// A stream of which what is read is written elsewhere, too.
struct Copied<S, C> {
    stream: S,
    copy: C,
}

impl<S: Read, C: Write> Read for Copied<S, C> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(bytes)?;
        self.copy.write_all(&bytes[..read])?;
        Ok(read)
    }
}

fn ask<T: serde::de::DeserializeOwned>(
    path: &str,
    file: HubFile<'_>,
    options: &HubOptions,
) -> Result<T, HubError> {
    if options.offline {
        return Err(Problem::new(format!(
            "the hub is not asked for {file}: offline mode is on (QUANTBENCH_OFFLINE or HF_HUB_OFFLINE)"
        )));
    }
    let answer = Remote::at(path, file, options)?.read(LONGEST_ANSWER)?;
    serde_json::from_slice(&answer)
        .map_err(|error| Problem::because(format!("the hub gave a wrong answer for {file}"), error))
}
