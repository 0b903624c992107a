//! Fetching one file: what the hub says about it, checked, then its bytes, checked.

use super::error::HubError;
use super::{HubFile, HubOptions, Token};
use crate::model::progress::{FileProgress, ProgressSink};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

/// Redirects within the hub; a renamed repository takes one.
const MOST_REDIRECTS: u32 = 5;

/// A file on the hub, and how to reach it.
pub(super) struct Remote<'a> {
    file: HubFile<'a>,
    options: &'a HubOptions,
    url: String,
}

/// What the hub says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The commit that the revision stands for; safe as a file name.
    commit: String,
    /// Names the content; safe as a file name. SHA-256 for large files.
    etag: String,
    /// Bytes.
    size: u64,
}

impl<'a> Remote<'a> {
    pub(super) fn new(file: HubFile<'a>, options: &'a HubOptions) -> Self {
        let repo = file.repo();
        let (endpoint, id, revision) = (&options.endpoint, repo.url(), repo.url_revision());
        let path = escape(file.file);
        Self { file, options, url: format!("{endpoint}/{id}/resolve/{revision}/{path}") }
    }

    fn agent(&self, redirects: u32) -> Agent {
        let patience = Some(self.options.patience);
        Agent::config_builder()
            .timeout_connect(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .max_redirects(redirects)
            .max_redirects_will_error(redirects > 0)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .http_status_as_error(false)
            // A secure hub does not lead to insecure places.
            .https_only(self.options.endpoint.starts_with("https://"))
            .user_agent(concat!("quantbench/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent()
    }

    fn unreachable(&self, source: ureq::Error) -> HubError {
        HubError::Unreachable { endpoint: self.options.endpoint.clone(), source: Box::new(source) }
    }

    fn wrong_answer(&self, reason: impl Into<String>) -> HubError {
        HubError::WrongAnswer {
            endpoint: self.options.endpoint.clone(),
            repository: self.file.repository.to_owned(),
            file: self.file.file.to_owned(),
            reason: reason.into(),
        }
    }

    /// Asks the hub about the file, without fetching it. Redirects within the hub are followed; the
    /// one to where the bytes lie is not, for its answer lacks what is asked.
    pub(super) fn facts(&self) -> Result<Facts, HubError> {
        let agent = self.agent(0);
        let mut url = self.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = agent.head(&url);
            if let Some(Token(secret)) = &self.options.token {
                request = request.header("authorization", format!("Bearer {secret}"));
            }
            let response = request.call().map_err(|error| self.unreachable(error))?;
            self.check_status(&response)?;
            match self.redirect_within(&url, &response)? {
                Some(next) => url = next,
                None => return self.read_facts(response.headers()),
            }
        }
        Err(self.wrong_answer("it redirects in circles"))
    }

    /// The next address, if the response leads to another place of the same hub.
    fn redirect_within(
        &self,
        url: &str,
        response: &Response<Body>,
    ) -> Result<Option<String>, HubError> {
        if !response.status().is_redirection() || response.headers().contains_key("x-repo-commit") {
            return Ok(None);
        }
        let location = header(response.headers(), "location").unwrap_or_default();
        let here: Uri = url.parse().map_err(|_| self.wrong_answer("its address is wrong"))?;
        let next: Uri =
            location.parse().map_err(|_| self.wrong_answer("it redirects to no address"))?;
        if next.authority().is_none() && location.starts_with('/') {
            let base = self.options.endpoint.split('/').take(3).collect::<Vec<_>>().join("/");
            return Ok(Some(format!("{base}{location}")));
        }
        if next.authority() == here.authority() && next.scheme() == here.scheme() {
            return Ok(Some(location.to_owned()));
        }
        Err(self.wrong_answer("it redirects elsewhere without saying which commit it has"))
    }

    fn check_status(&self, response: &Response<Body>) -> Result<(), HubError> {
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        let HubFile { repository, revision, file, .. } = self.file;
        let owned = repository.to_owned();
        Err(match status {
            StatusCode::UNAUTHORIZED if self.options.token.is_none() => {
                HubError::TokenNeeded { repository: owned }
            }
            StatusCode::UNAUTHORIZED => HubError::TokenRefused { repository: owned },
            StatusCode::FORBIDDEN => {
                HubError::Forbidden { repository: owned, endpoint: self.options.endpoint.clone() }
            }
            StatusCode::NOT_FOUND => {
                let what = match header(response.headers(), "x-error-code") {
                    Some("RepoNotFound") => format!("repository {repository}"),
                    Some("RevisionNotFound") => {
                        format!("revision '{}' of {repository}", revision.unwrap_or("main"))
                    }
                    _ => format!("file {file} in {repository}"),
                };
                HubError::NotFound { what }
            }
            _ => HubError::Status {
                endpoint: self.options.endpoint.clone(),
                status: status.as_u16(),
                repository: owned,
                file: file.to_owned(),
            },
        })
    }

    /// Names of local files come from these headers, so nothing but plain words is accepted.
    fn read_facts(&self, headers: &HeaderMap) -> Result<Facts, HubError> {
        let word = |names: &[&str], what: &str| {
            let text = names.iter().find_map(|name| header(headers, name));
            let text = text.ok_or_else(|| self.wrong_answer(format!("it names no {what}")))?;
            let text = text.trim_start_matches("W/").trim_matches('"');
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if text.is_empty() || text.len() > 128 || !text.chars().all(plain) {
                return Err(self.wrong_answer(format!("its {what} is no plain word")));
            }
            Ok(text.to_owned())
        };
        let size = header(headers, "x-linked-size").or_else(|| header(headers, "content-length"));
        Ok(Facts {
            commit: word(&["x-repo-commit"], "commit")?,
            etag: word(&["x-linked-etag", "etag"], "checksum")?,
            size: size
                .and_then(|size| size.parse().ok())
                .ok_or_else(|| self.wrong_answer("it names no size"))?,
        })
    }

    /// Fetches the file into the cache and returns its path there.
    pub(super) fn fetch(
        &self,
        facts: &Facts,
        cache: &hf_hub::CacheRepo,
        progress: &ProgressSink,
    ) -> Result<PathBuf, HubError> {
        let blob = cache.blob_path(&facts.etag);
        let folder = blob.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        let pointer = cache.pointer_path(&facts.commit).join(self.file.file);
        let lock_path = blob.with_extension("lock");
        let lock = File::create(&lock_path).map_err(io_error("make the lock", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(HubError::Busy { file: self.file.file.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &lock_path)(error)),
        }
        if !blob.is_file() {
            // The name that hf-hub gives it, so that either goes on where the other stopped.
            let part = blob.with_extension("part");
            self.fetch_part(facts, &part, progress)?;
            fs::rename(&part, &blob).map_err(io_error("write", &blob))?;
        }
        self.point(&pointer, &blob)?;
        cache.create_ref(&facts.commit).map_err(io_error("write to", folder))?;
        Ok(pointer)
    }

    /// Brings `part` to its full length and checks it.
    fn fetch_part(
        &self,
        facts: &Facts,
        part: &Path,
        progress: &ProgressSink,
    ) -> Result<(), HubError> {
        let mut start = fs::metadata(part).map_or(0, |metadata| metadata.len());
        if start > facts.size {
            fs::remove_file(part).map_err(io_error("remove", part))?;
            start = 0;
        }
        self.check_space(facts.size - start, part)?;
        if start < facts.size || facts.size == 0 {
            self.receive(start, facts, part, progress)?;
        }
        self.check_sum(facts, part)
    }

    fn check_space(&self, needed_bytes: u64, part: &Path) -> Result<(), HubError> {
        let folder = part.parent().unwrap_or(Path::new("."));
        let available_bytes = fs4::available_space(folder).unwrap_or(u64::MAX);
        if needed_bytes <= available_bytes {
            return Ok(());
        }
        Err(HubError::NoSpace {
            file: self.file.file.to_owned(),
            folder: folder.to_owned(),
            needed_bytes,
            available_bytes,
        })
    }

    /// Appends what is missing from byte `start` on.
    fn receive(
        &self,
        start: u64,
        facts: &Facts,
        part: &Path,
        progress: &ProgressSink,
    ) -> Result<(), HubError> {
        let mut request = self.agent(10).get(&self.url);
        if let Some(Token(secret)) = &self.options.token {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        if start > 0 {
            request = request.header("range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| self.unreachable(error))?;
        self.check_status(&response)?;
        // A server that ignores the range sends the file from its beginning.
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && header(response.headers(), "content-range")
                .is_some_and(|range| range.starts_with(&format!("bytes {start}-")));
        let mut received = if goes_on { start } else { 0 };
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(goes_on)
            .truncate(!goes_on)
            .open(part)
            .map_err(io_error("write", part))?;
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let interrupted = |received, source| HubError::Interrupted {
                file: self.file.file.to_owned(),
                received,
                total: facts.size,
                source,
            };
            let count =
                reader.read(&mut buffer).map_err(|error| interrupted(received, Some(error)))?;
            if count == 0 {
                file.sync_all().map_err(io_error("write", part))?;
                return if received == facts.size {
                    Ok(())
                } else {
                    Err(interrupted(received, None))
                };
            }
            received += count as u64;
            if received > facts.size {
                drop(file);
                let _ = fs::remove_file(part);
                return Err(self.wrong_answer("it sends more than it said"));
            }
            file.write_all(&buffer[..count]).map_err(io_error("write", part))?;
            progress.tell(FileProgress {
                action: "fetching",
                file: self.file.file,
                done: received,
                total: facts.size,
            });
        }
    }

    /// Makes the file's name in the commit's folder lead to its content, as the hub's own tools do.
    fn point(&self, pointer: &Path, blob: &Path) -> Result<(), HubError> {
        if pointer.exists() {
            return Ok(());
        }
        let folder = pointer.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        // A link whose content is gone is in the way.
        let _ = fs::remove_file(pointer);
        #[cfg(unix)]
        {
            // From snapshots/<commit>/<folders of the file> up to blobs/<etag>; relative, so that the
            // cache may be moved.
            let up = "../".repeat(self.file.file.matches('/').count() + 2);
            let name = blob.file_name().unwrap_or_default().to_string_lossy();
            if std::os::unix::fs::symlink(format!("{up}blobs/{name}"), pointer).is_ok() {
                return Ok(());
            }
        }
        fs::rename(blob, pointer).map_err(io_error("write", pointer))
    }

    /// Compares the checksum, where the hub names one: for large files the etag is SHA-256.
    fn check_sum(&self, facts: &Facts, part: &Path) -> Result<(), HubError> {
        if facts.etag.len() != 64 || !facts.etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        let mut file = File::open(part).map_err(io_error("read", part))?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut file, &mut DigestWriter(&mut hasher)).map_err(io_error("read", part))?;
        let found = crate::model::cache::hex(&hasher.finalize());
        if found.eq_ignore_ascii_case(&facts.etag) {
            return Ok(());
        }
        fs::remove_file(part).map_err(io_error("remove", part))?;
        let file = self.file.file.to_owned();
        Err(HubError::Damaged { file, found, expected: facts.etag.clone() })
    }
}

/// Lets bytes be copied into a digest.
struct DigestWriter<'a>(&'a mut Sha256);

impl Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Io { action, path: path.clone(), source }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Escapes what has a meaning in addresses; slashes stay.
fn escape(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
