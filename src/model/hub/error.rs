//! What can go wrong with the hub.

use super::pieces::LEAST_RATE;
use crate::units::format_bytes;
use std::io;
use std::path::PathBuf;

/// Why a file of the hub could not be had. `repository` is `owner/name`.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Offline, and the file was never fetched.
    #[error(
        "{repository}/{file} is not in the hub cache at {}, and offline mode is on; fetch it once \
         without QUANTBENCH_OFFLINE and HF_HUB_OFFLINE",
        .cache.display()
    )]
    NotCached {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// `HF_ENDPOINT` is no address; it may hold a password, so it is not shown.
    #[error("HF_ENDPOINT is no web address; write one such as https://huggingface.co")]
    Endpoint,
    /// The token has characters that cannot be sent.
    #[error("the token in HF_TOKEN has characters that no token has; copy it again")]
    Token,
    /// The hub wants to know who asks, and nobody was named.
    #[error(
        "the hub shows {repository} to nobody without a token: it is private or gated, or there is \
         no such repository; set HF_TOKEN"
    )]
    TokenNeeded {
        /// The repository.
        repository: String,
    },
    /// The token is not accepted.
    #[error("the hub does not accept the token in HF_TOKEN for {repository}")]
    TokenRefused {
        /// The repository.
        repository: String,
    },
    /// The token's owner may not read the repository.
    #[error(
        "the owner of HF_TOKEN may not read {repository}; accept its conditions at \
         {endpoint}/{repository}"
    )]
    Forbidden {
        /// The repository.
        repository: String,
        /// The hub.
        endpoint: String,
    },
    /// There is no such repository, revision or file.
    #[error("the hub has no {what}")]
    NotFound {
        /// What it lacks, with its name.
        what: String,
    },
    /// The hub answered with another status.
    #[error("the hub at {endpoint} answered {status} for {repository}/{file}; try again later")]
    Status {
        /// The hub.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// The repository.
        repository: String,
        /// The file.
        file: String,
    },
    /// The hub could not be reached, or stopped answering.
    #[error("cannot reach the hub at {endpoint}")]
    Unreachable {
        /// The hub.
        endpoint: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The hub's answer makes no sense.
    #[error("the hub at {endpoint} gave a wrong answer for {repository}/{file}: {reason}")]
    WrongAnswer {
        /// The hub.
        endpoint: String,
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection ended too early.
    #[error(
        "the connection ended after {}{} of {file}; run again to go on from there",
        format_bytes(*received),
        total.map_or(String::new(), |total| format!(" of {}", format_bytes(total)))
    )]
    Interrupted {
        /// The file.
        file: String,
        /// Bytes that arrived.
        received: u64,
        /// Bytes of the file, where the hub says so.
        total: Option<u64>,
        /// What went wrong, if anything but an early end.
        #[source]
        source: Option<io::Error>,
    },
    /// The file comes so slowly that it would never be there.
    #[error(
        "{file} came with less than {} a second, and was given up after {}; run again to go on from \
         there",
        format_bytes(LEAST_RATE), format_bytes(*received)
    )]
    Slow {
        /// The file.
        file: String,
        /// Bytes that arrived.
        received: u64,
    },
    /// What arrived is not what the hub has.
    #[error(
        "{file} was damaged on its way: its checksum is {found}, the hub's is {expected}; it was \
         removed, run again"
    )]
    Damaged {
        /// The file.
        file: String,
        /// SHA-256 of what arrived.
        found: String,
        /// SHA-256 that the hub names.
        expected: String,
    },
    /// The disk is too full.
    #[error(
        "{file} has {}, but the disk with {} has {} free; free some or set HF_HOME to another disk",
        format_bytes(*needed_bytes), .folder.display(), format_bytes(*available_bytes)
    )]
    NoSpace {
        /// The file.
        file: String,
        /// Where it was to go.
        folder: PathBuf,
        /// What it needs, bytes.
        needed_bytes: u64,
        /// What is free, bytes.
        available_bytes: u64,
    },
    /// Another process fetches the same file.
    #[error("another process is fetching {file}; wait for it to end")]
    Busy {
        /// The file.
        file: String,
    },
    /// The hub cache cannot be used.
    #[error("cannot {action} {}; set HF_HOME to a folder you can write to", .path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
