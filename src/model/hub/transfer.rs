//! Fetching one file: what the hub says about it, checked, then its bytes, checked.

mod refusals;

use super::endpoint::Endpoint;
use super::facts::{COMMIT, Facts};
use super::pieces::{LEAST_RATE, Piece, Pieces};
use super::ranges::{self, Answer, Ranges};
use super::request::{Bytes, MOST_WAITS, agent, asked_to_wait, header, wrong_proxy};
use super::{HubError, HubFile, HubOptions, Token, cache_variable};
use crate::causes::Problem;
use crate::model::cache::of_reader;
use crate::model::progress::{Progress, ProgressSink};
use crate::model::source::ESCAPED;
use crate::units::{format_bytes, format_seconds};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::{HeaderValue, Method, Response, StatusCode, Uri};
use ureq::{Agent, Body};

/// What is escaped in the path of a file.
const PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// A renamed repository takes one redirect, storage another.
const MOST_REDIRECTS: u32 = 10;

/// A shorter pause is not worth a word.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// How often is looked whether another process has fetched a file.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A file whose length nobody names is a small text that is compressed on its way.
const MOST_WITHOUT_LENGTH: u64 = 64 << 20;

/// A file on the hub, and how to reach it.
pub(super) struct Remote<'a> {
    file: HubFile<'a>,
    options: &'a HubOptions,
    endpoint: &'a Endpoint,
    /// `Bearer …`.
    authorization: Option<HeaderValue>,
    uri: Uri,
    agent: Agent,
}

impl<'a> Remote<'a> {
    pub(super) fn new(file: HubFile<'a>, options: &'a HubOptions) -> Result<Self, HubError> {
        let repo = file.repo();
        let (id, revision) = (repo.url(), utf8_percent_encode(repo.revision(), ESCAPED));
        // Slashes part folders; those of a revision part nothing.
        let path = utf8_percent_encode(file.file, PATH);
        Self::at(&format!("{id}/resolve/{revision}/{path}"), file, options)
    }

    /// What lies at a path of the hub; `file` names it in errors.
    pub(super) fn at(
        path: &str,
        file: HubFile<'a>,
        options: &'a HubOptions,
    ) -> Result<Self, HubError> {
        // It may hold a password, so it is not shown.
        let no_address = || {
            Problem::new("HF_ENDPOINT is no web address; write one such as https://huggingface.co")
        };
        let endpoint = options.endpoint.as_ref().ok_or_else(no_address)?;
        let authorization = match &options.token {
            None => None,
            Some(Token(secret)) => {
                let value = HeaderValue::try_from(format!("Bearer {secret}"));
                let mut value = value.map_err(|_| {
                    Problem::new(
                        "the token in HF_TOKEN has characters that no token has; copy it again",
                    )
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        // Without this, the hub would be spoken to past the proxy.
        if let Some(name) = wrong_proxy() {
            let right = "write one such as http://host:3128, or unset it";
            return Err(Problem::new(format!("{name} is no address of a proxy; {right}")));
        }
        let uri = format!("{endpoint}/{path}").parse().map_err(|_| no_address())?;
        let agent = agent(options.patience, endpoint.is_secure());
        Ok(Self { file, options, endpoint, authorization, uri, agent })
    }

    fn unreachable(&self, source: ureq::Error) -> HubError {
        let what = format!("cannot reach the hub at {}", self.endpoint);
        // What ureq says of a system's error is the same with `io:` before it.
        match source {
            ureq::Error::Io(source) => Problem::because(what, source),
            other => Problem::because(what, other),
        }
    }

    /// How the hub is reached.
    pub(super) fn options(&self) -> &HubOptions {
        self.options
    }

    /// The file's path in the repository.
    pub(super) fn name(&self) -> &str {
        self.file.file
    }

    pub(super) fn wrong_answer(&self, reason: &str) -> HubError {
        Problem::new(format!(
            "the hub at {} gave a wrong answer for {}: {reason}",
            self.endpoint, self.file
        ))
    }

    /// The answer to a request, of at most `most` bytes.
    pub(super) fn read(&self, most: usize) -> Result<Vec<u8>, HubError> {
        let response = self.request(&Method::GET, &Bytes::All)?;
        let mut pieces = Pieces::of(response.into_body(), self.options.patience);
        let mut answer = Vec::new();
        loop {
            match pieces.next() {
                Piece::Bytes(bytes) => answer.extend(bytes),
                Piece::End(None) => return Ok(answer),
                Piece::End(Some(source)) => return Err(self.unreachable(source.into())),
                Piece::Slow => return Err(self.wrong_answer("it takes too long")),
            }
            if answer.len() > most {
                let reason = format!("it is longer than {}", format_bytes(most as u64));
                return Err(self.wrong_answer(&reason));
            }
        }
    }

    /// The first `most` bytes, as they come; whoever drops the reader needs no more of them.
    pub(super) fn beginning(&self, most: u64) -> Result<impl Read + Send + use<>, HubError> {
        let response = self.request(&Method::GET, &Bytes::First(most))?;
        Ok(response.into_body().into_reader().take(most))
    }

    /// Asks the hub about the file, without fetching it. Redirects within the hub are followed; the
    /// one to where the bytes lie is not, for its answer lacks what is asked.
    pub(super) fn facts(&self) -> Result<Facts, HubError> {
        Facts::read(self, &self.request(&Method::HEAD, &Bytes::All)?)
    }

    /// Sends a request and follows redirects. Secrets are for the hub's own origin alone, and only until a
    /// redirect has led elsewhere.
    pub(super) fn request(
        &self,
        method: &Method,
        bytes: &Bytes,
    ) -> Result<Response<Body>, HubError> {
        let mut uri = self.uri.clone();
        let mut is_within = true;
        let mut began = Instant::now();
        let mut waits = 0;
        for _ in 0..=MOST_REDIRECTS + MOST_WAITS {
            // All redirects together may take as long as one answer.
            let left = self.options.patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(self.wrong_answer("it redirects without coming to an end"));
            }
            let with_credentials =
                if is_within { self.endpoint.with_credentials(&uri) } else { None };
            let target = with_credentials.unwrap_or_else(|| uri.clone());
            let mut request = match *method {
                Method::HEAD => self.agent.head(target),
                _ => self.agent.get(target),
            };
            if let Some(authorization) = self.authorization.as_ref().filter(|_| is_within) {
                request = request.header("authorization", authorization);
            }
            if let Some(range) = bytes.range() {
                request = request.header("range", range);
            }
            let request = request.config().timeout_recv_response(Some(left)).build();
            let response = request.call().map_err(|error| self.unreachable(error))?;
            if let Some(pause) = asked_to_wait(&response).filter(|_| waits < MOST_WAITS) {
                self.tell_pause(response.status(), pause);
                std::thread::sleep(pause);
                (waits, began) = (waits + 1, Instant::now());
                continue;
            }
            self.check_status(&response, is_within)?;
            let is_answer = *method == Method::HEAD && response.headers().contains_key(COMMIT);
            if !response.status().is_redirection() || is_answer {
                return Ok(response);
            }
            let location = header(response.headers(), "location").unwrap_or_default();
            let next = self.endpoint.next(&uri, location);
            uri = next.map_err(|reason| self.wrong_answer(reason))?;
            is_within &= self.endpoint.owns(&uri);
            if *method == Method::HEAD && !is_within {
                let reason = "it redirects elsewhere without saying which commit it has";
                return Err(self.wrong_answer(reason));
            }
        }
        Err(self.wrong_answer("it redirects in circles"))
    }

    /// A pause that somebody would wonder about is told before it begins.
    fn tell_pause(&self, status: StatusCode, pause: Duration) {
        if pause >= LONG_PAUSE {
            let (endpoint, length) = (self.endpoint, format_seconds(pause.as_secs_f64()));
            let note = if status == StatusCode::TOO_MANY_REQUESTS {
                format!("{endpoint} is asked too often and says to wait {length}")
            } else {
                format!("{endpoint} answered {}; it is asked again in {length}", status.as_u16())
            };
            self.options.progress.say(self.file.repository, &Progress::Note(note));
        }
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
        // Without it the hub's own tools take the folder for a corrupted one, and a file that does not come makes none.
        let snapshots = folder.with_file_name("snapshots");
        fs::create_dir_all(&snapshots).map_err(io_error("make the folder", &snapshots))?;
        let lock_path = blob.with_extension("lock");
        let lock = File::create(&lock_path).map_err(io_error("make the lock", &lock_path))?;
        let mut is_told = false;
        while let Err(error) = lock.try_lock() {
            match error {
                TryLockError::WouldBlock if is_told => std::thread::sleep(LOOK_AGAIN),
                TryLockError::WouldBlock => {
                    let note = "another process is fetching it, which is waited for".to_owned();
                    progress.say(self.file.file, &Progress::Note(note));
                    is_told = true;
                }
                TryLockError::Error(error) => return Err(io_error("lock", &lock_path)(error)),
            }
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
        if let Some(size) = facts.size {
            let in_ranges = ranges::received(part, size);
            let missing = size - in_ranges.unwrap_or(start).min(size);
            if in_ranges.is_some() || ranges::is_worth_it(missing, self.options) {
                self.check_space(missing, part)?;
                match Ranges::open(self, size, part, progress)?.receive()? {
                    Answer::Whole => {}
                    Answer::NoRanges(response) => {
                        self.check_space(size, part)?;
                        self.receive_all(response, 0, facts, part, progress)?;
                    }
                }
                return self.check_sum(facts, part);
            }
        }
        if facts.size.is_none_or(|size| start > size) {
            if start > 0 {
                fs::remove_file(part).map_err(io_error("remove", part))?;
            }
            start = 0;
        }
        self.check_space(facts.size.unwrap_or(MOST_WITHOUT_LENGTH) - start, part)?;
        if facts.size.is_none_or(|size| start < size || size == 0) {
            let response = self.request(&Method::GET, &Bytes::From(start))?;
            self.receive_all(response, start, facts, part, progress)?;
        }
        self.check_sum(facts, part)
    }

    fn check_space(&self, needed_bytes: u64, part: &Path) -> Result<(), HubError> {
        let folder = part.parent().unwrap_or(Path::new("."));
        let available_bytes = fs4::available_space(folder).unwrap_or(u64::MAX);
        if needed_bytes <= available_bytes {
            return Ok(());
        }
        Err(Problem::new(format!(
            "{} has {}, but the disk with {} has {} free; free some or set {} to another disk",
            self.file.file,
            format_bytes(needed_bytes),
            folder.display(),
            format_bytes(available_bytes),
            cache_variable()
        )))
    }

    /// Appends what is missing from byte `start` on, which was asked for. A connection that breaks off is made again as long
    /// as something comes of it.
    fn receive_all(
        &self,
        mut response: Response<Body>,
        mut start: u64,
        facts: &Facts,
        part: &Path,
        progress: &ProgressSink,
    ) -> Result<(), HubError> {
        while let Some((received, error)) = self.receive(response, start, facts, part, progress)? {
            // Without a size nobody knows what is missing.
            if facts.size.is_none() || received <= start {
                return Err(error);
            }
            start = received;
            response = self.request(&Method::GET, &Bytes::From(start))?;
        }
        Ok(())
    }

    /// Appends one answer; where its connection broke off, how many bytes are there and why.
    fn receive(
        &self,
        response: Response<Body>,
        start: u64,
        facts: &Facts,
        part: &Path,
        progress: &ProgressSink,
    ) -> Result<Option<(u64, HubError)>, HubError> {
        // A server that ignores the range sends the file from its beginning.
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && header(response.headers(), "content-range")
                .is_some_and(|range| range.starts_with(&format!("bytes {start}-")));
        let mut received = if goes_on { start } else { 0 };
        let total = self.total(&response, received, facts)?;
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(goes_on)
            .truncate(!goes_on)
            .open(part)
            .map_err(io_error("write", part))?;
        let mut pieces = Pieces::of(response.into_body(), self.options.patience);
        loop {
            let piece = match pieces.next() {
                Piece::Bytes(bytes) => bytes,
                Piece::End(None) if total.is_none_or(|total| received == total) => {
                    file.sync_all().map_err(io_error("write", part))?;
                    return Ok(None);
                }
                Piece::End(source) => {
                    file.sync_all().map_err(io_error("write", part))?;
                    let of = total.map(|total| format!(" of {}", format_bytes(total)));
                    let message = format!(
                        "the connection ended after {}{} of {}; run again to go on from there",
                        format_bytes(received),
                        of.unwrap_or_default(),
                        self.file.file
                    );
                    let error = match source {
                        Some(source) => Problem::because(message, source),
                        None => Problem::new(message),
                    };
                    return Ok(Some((received, error)));
                }
                Piece::Slow => return Err(slow(self.file.file, received)),
            };
            received += piece.len() as u64;
            if received > total.unwrap_or(MOST_WITHOUT_LENGTH) {
                drop(file);
                let _ = fs::remove_file(part);
                return Err(match total {
                    Some(_) => self.wrong_answer("it sends more than it said"),
                    None => self.wrong_answer(&format!(
                        "it sends more than {} without naming a size",
                        format_bytes(MOST_WITHOUT_LENGTH)
                    )),
                });
            }
            file.write_all(&piece).map_err(io_error("write", part))?;
            progress.tell("fetching", self.file.file, received, total.unwrap_or(received));
        }
    }

    /// Bytes of the whole file, of which `received` are here already. `None` where only the end of
    /// the answer tells, which then has to be one that a lost connection cannot feign.
    fn total(
        &self,
        response: &Response<Body>,
        received: u64,
        facts: &Facts,
    ) -> Result<Option<u64>, HubError> {
        let headers = response.headers();
        let encoding = header(headers, "content-encoding").unwrap_or("identity");
        if !encoding.eq_ignore_ascii_case("identity") {
            let reason = format!("it compresses the file as '{encoding}', which was not asked for");
            return Err(self.wrong_answer(&reason));
        }
        let sent = response.body().content_length().map(|length| length.saturating_add(received));
        match (facts.size, sent) {
            (Some(size), Some(sent)) if size != sent => Err(self.wrong_answer(&format!(
                "it says that the file has {size} bytes, then that it has {sent}"
            ))),
            (None, Some(sent)) if sent > MOST_WITHOUT_LENGTH => {
                Err(self.wrong_answer("it names no size for a large file"))
            }
            (None, None) if header(headers, "transfer-encoding").is_none() => {
                Err(self.wrong_answer("it names no size"))
            }
            (size, sent) => Ok(size.or(sent)),
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
        // From snapshots/<commit>/<folders of the file> up to blobs/<etag>; relative, so that the cache
        // may be moved.
        let up = "../".repeat(self.file.file.matches('/').count() + 2);
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        // A file system without links gets the file itself.
        symlink(format!("{up}blobs/{name}"), pointer)
            .or_else(|_| fs::rename(blob, pointer))
            .map_err(io_error("write", pointer))
    }

    /// Compares the checksum, where the hub names one.
    fn check_sum(&self, facts: &Facts, part: &Path) -> Result<(), HubError> {
        if !facts.has_checksum() {
            return Ok(());
        }
        let found = File::open(part).and_then(|file| of_reader(file, &mut |_| ()));
        let found = found.map_err(io_error("read", part))?;
        if found.eq_ignore_ascii_case(&facts.etag) {
            return Ok(());
        }
        fs::remove_file(part).map_err(io_error("remove", part))?;
        Err(Problem::new(format!(
            "{} was damaged on its way: its checksum is {found}, the hub's is {}; it was removed, run \
             again",
            self.file.file, facts.etag
        )))
    }
}

/// A server that sends next to nothing.
pub(super) fn slow(file: &str, received: u64) -> HubError {
    Problem::new(format!(
        "{file} came with less than {} a second, and was given up after {}; run again to go on from there",
        format_bytes(LEAST_RATE),
        format_bytes(received)
    ))
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> HubError {
    let what = format!("cannot {action} {}", path.display());
    move |source| {
        let variable = cache_variable();
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            let message =
                format!("{what}: no space is left; free some or set {variable} to another disk");
            return Problem::new(message);
        }
        Problem::because(format!("{what}; set {variable} to a folder you can write to"), source)
    }
}
