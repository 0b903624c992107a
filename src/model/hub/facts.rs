//! What the hub says about a file: how it is called there, and how large it is.

use super::api::RemoteFile;
use super::request::header;
use super::transfer::Remote;
use super::{Described, HubError};
use ureq::Body;
use ureq::http::Response;

/// The header that names the commit; storage that is not the hub's own does not send it.
pub(super) const COMMIT: &str = "x-repo-commit";

/// What the hub says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The commit of the revision; safe as a file name.
    pub(super) commit: String,
    /// Names the content; safe as a file name. SHA-256 for large files.
    pub(super) etag: String,
    /// Bytes, where it says so.
    pub(super) size: Option<u64>,
}

impl Facts {
    /// The file at `path`, if its size and its SHA-256 are told.
    pub(super) fn described(self, path: &str) -> Option<Described> {
        let sha256 = self.has_checksum().then(|| self.etag.to_ascii_lowercase());
        let file = RemoteFile { path: path.to_owned(), bytes: self.size?, sha256 };
        file.sha256.is_some().then_some(Described { file, commit: self.commit })
    }

    /// For large files the etag is SHA-256.
    pub(super) fn has_checksum(&self) -> bool {
        self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// Names of local files come from these headers, so nothing but plain words is accepted.
    pub(super) fn read(remote: &Remote<'_>, response: &Response<Body>) -> Result<Self, HubError> {
        let headers = response.headers();
        let word = |names: &[&str], what: &str| {
            let text = names.iter().find_map(|name| header(headers, name));
            let text = text.ok_or_else(|| remote.wrong_answer(&format!("it names no {what}")))?;
            let text = text.trim_start_matches("W/").trim_matches('"');
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if text.is_empty() || text.len() > 128 || !text.chars().all(plain) {
                return Err(remote.wrong_answer(&format!("its {what} is no plain word")));
            }
            Ok(text.to_owned())
        };
        // The length of a redirect, or of compressed content, is not that of the file.
        let is_plain = response.status().is_success() && !headers.contains_key("content-encoding");
        let length = header(headers, "content-length").filter(|_| is_plain);
        let size = header(headers, "x-linked-size").or(length);
        Ok(Self {
            commit: word(&[COMMIT], "commit")?,
            etag: word(&["x-linked-etag", "etag"], "checksum")?,
            size: size.and_then(|size| size.parse().ok()),
        })
    }
}
