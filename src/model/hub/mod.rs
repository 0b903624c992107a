//! Files from the Hugging Face hub, kept in the cache that its own tools share.
//!
//! Where files lie, what tokens are and how addresses are made is crate hf-hub's knowledge. The
//! transfer is not left to it: release 0.5 takes names of local files from the server's headers
//! unchecked, has no time limit, sends the token on to whatever host a redirect names, and compares
//! neither size nor checksum. A hub's answer is input like any other, so it is checked here.

pub mod api;
mod endpoint;
mod facts;
mod pieces;
mod ranges;
mod request;
#[cfg(test)]
pub(crate) mod tests;
mod transfer;

pub use endpoint::Endpoint;
pub use hf_hub::RepoType;

use super::progress::ProgressSink;
use crate::causes::Problem;
use crate::files;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use transfer::Remote;

/// Where the hub is when `HF_ENDPOINT` names no other.
const ENDPOINT: &str = "https://huggingface.co";

/// What a fast line is filled with where each connection is limited.
const CONNECTIONS: usize = 8;

/// Large beside what a request costs, small beside a model.
const PIECE_BYTES: u64 = 32 << 20;

/// Variables that may hold a secret. Child processes, which speak to no server, are started without them.
pub const SECRET_VARIABLES: [&str; 9] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_ENDPOINT",
    PROXY_VARIABLES[0],
    PROXY_VARIABLES[1],
    PROXY_VARIABLES[2],
    PROXY_VARIABLES[3],
    PROXY_VARIABLES[4],
    PROXY_VARIABLES[5],
];

/// Where a proxy is named, the first before the others.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// A longer file holds no token.
const LONGEST_TOKEN_FILE: u64 = 64 << 10;

/// Why a file of the hub could not be had.
pub type HubError = Problem;

/// Whether an error of a request is that no answer came.
pub fn is_unreachable(error: &HubError) -> bool {
    use std::error::Error as _;
    let cause = error.source();
    cause.is_some_and(|cause| cause.is::<ureq::Error>() || cause.is::<std::io::Error>())
}

/// A secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Keeps `secret`, without the spaces and line ends that files and shells add.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        (!secret.is_empty()).then(|| Self(secret.to_owned()))
    }

    /// The token in a file, as `hf auth login` writes it; `None` where there is none.
    fn in_file(path: &Path) -> Option<String> {
        let mut text = String::new();
        let file = files::open(path).ok()?;
        file.take(LONGEST_TOKEN_FILE).read_to_string(&mut text).ok().map(|_| text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// How the hub is reached.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Where the hub is; `None`: `HF_ENDPOINT` is no address.
    pub endpoint: Option<Endpoint>,
    /// Who asks.
    pub token: Option<Token>,
    /// The folder that the hub's own tools keep files in.
    pub cache: PathBuf,
    /// Use only what is in that folder.
    pub offline: bool,
    /// A hub that says nothing for this long, or next to nothing, is gone.
    pub patience: Duration,
    /// Connections that a large file comes over at a time.
    pub connections: usize,
    /// Bytes that one of them asks for at a time; a file of two such pieces is a large one.
    pub piece_bytes: u64,
    /// Hears that the hub asks to wait.
    pub progress: ProgressSink,
}

impl HubOptions {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE`, `HF_HOME` (with the token file in it),
    /// `HF_HUB_OFFLINE` and `QUANTBENCH_OFFLINE`.
    pub fn from_environment() -> Self {
        let variable =
            |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let is_set = |name: &str| {
            variable(name).is_some_and(|value| {
                !["0", "false", "no", "off"].contains(&value.trim().to_lowercase().as_str())
            })
        };
        // The same on every system, unlike the platform's own cache folder.
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let caches = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
                directories::BaseDirs::new().map(|folders| folders.home_dir().join(".cache"))
            });
            caches.map(|caches| caches.join("huggingface"))
        });
        let cache = variable("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| home.clone().map(|home| home.join("hub")))
            .unwrap_or_else(|| PathBuf::from("huggingface-hub"));
        let token = variable("HF_TOKEN").or_else(|| Token::in_file(&home?.join("token")));
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: Endpoint::parse(&endpoint),
            token: token.and_then(|token| Token::new(&token)),
            cache,
            offline: is_set("QUANTBENCH_OFFLINE") || is_set("HF_HUB_OFFLINE"),
            patience: Duration::from_mins(1),
            connections: CONNECTIONS,
            piece_bytes: PIECE_BYTES,
            progress: ProgressSink::default(),
        }
    }
}

/// The variable that says where the hub's own tools keep files.
pub fn cache_variable() -> &'static str {
    let is_set = std::env::var("HF_HUB_CACHE").is_ok_and(|value| !value.trim().is_empty());
    if is_set { "HF_HUB_CACHE" } else { "HF_HOME" }
}

/// A file on the hub.
#[derive(Debug, Clone, Copy)]
pub struct HubFile<'a> {
    /// What the repository holds.
    pub kind: RepoType,
    /// `owner/name`.
    pub repository: &'a str,
    /// Branch, tag or commit; `None`: the main branch.
    pub revision: Option<&'a str>,
    /// Path within the repository.
    pub file: &'a str,
}

impl fmt::Display for HubFile<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.file.is_empty() { "" } else { "/" };
        write!(formatter, "{}{slash}{}", self.repository, self.file)
    }
}

impl HubFile<'_> {
    fn repo(&self) -> hf_hub::Repo {
        let repository = self.repository.to_owned();
        match self.revision {
            None => hf_hub::Repo::new(repository, self.kind),
            Some(revision) => {
                hf_hub::Repo::with_revision(repository, self.kind, revision.to_owned())
            }
        }
    }
}

/// Where the file of a commit lies once it is fetched.
pub fn place(repository: &str, commit: &str, file: &str, options: &HubOptions) -> PathBuf {
    let file = HubFile { kind: RepoType::Model, repository, revision: Some(commit), file };
    let cache = hf_hub::Cache::new(options.cache.clone());
    cache.repo(file.repo()).pointer_path(commit).join(file.file)
}

/// Where the content of a file lies that the hub names by this checksum, once it is fetched.
pub fn content(repository: &str, sha256: &str, options: &HubOptions) -> PathBuf {
    let repo = hf_hub::Repo::new(repository.to_owned(), RepoType::Model);
    hf_hub::Cache::new(options.cache.clone()).repo(repo).blob_path(sha256)
}

/// The folder of the files that were fetched of a revision, if any was.
pub fn snapshot(repository: &str, revision: &str, options: &HubOptions) -> Option<PathBuf> {
    let name = format!("models--{}", repository.replace('/', "--"));
    let folder = options.cache.join(name);
    let commit = std::fs::read_to_string(folder.join("refs").join(revision));
    let commit = commit.map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
    Some(folder.join("snapshots").join(commit)).filter(|folder| folder.is_dir())
}

/// Notes which commit a revision was at.
///
/// # Errors
/// It cannot be written.
pub fn point(
    repository: &str,
    revision: Option<&str>,
    commit: &str,
    options: &HubOptions,
) -> Result<(), HubError> {
    let file = HubFile { kind: RepoType::Model, repository, revision, file: "" };
    let noted = hf_hub::Cache::new(options.cache.clone()).repo(file.repo()).create_ref(commit);
    noted.map_err(transfer::io_error("write to", &options.cache))
}

/// Where a file lies that was fetched before.
pub fn fetched(file: HubFile<'_>, options: &HubOptions) -> Option<PathBuf> {
    hf_hub::Cache::new(options.cache.clone()).repo(file.repo()).get(file.file)
}

/// A file as the hub describes it, and the commit that the description is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The file, with its size and checksum.
    pub file: api::RemoteFile,
    /// Hex.
    pub commit: String,
}

/// What the hub says of a file; `None` if that is neither size nor checksum.
///
/// # Errors
/// The hub does not have it, does not show it, or gives nonsense.
pub fn look(file: HubFile<'_>, options: &HubOptions) -> Result<Option<Described>, HubError> {
    Ok(Remote::new(file, options)?.facts()?.described(file.file))
}

/// The local path of `file`: as it was fetched before, or fetched now.
///
/// # Errors
/// When the file is neither there nor can be fetched whole.
pub fn fetch(
    file: HubFile<'_>,
    options: &HubOptions,
    progress: &ProgressSink,
) -> Result<PathBuf, HubError> {
    if let Some(path) = fetched(file, options) {
        return Ok(path);
    }
    let cache = hf_hub::Cache::new(options.cache.clone());
    if options.offline {
        return Err(Problem::new(format!(
            "{}/{} is not in the hub cache at {}, and offline mode is on; fetch it once \
             without QUANTBENCH_OFFLINE and HF_HUB_OFFLINE",
            file.repository,
            file.file,
            options.cache.display()
        )));
    }
    let remote = Remote::new(file, options)?;
    let facts = remote.facts()?;
    remote.fetch(&facts, &cache.repo(file.repo()), progress)
}
