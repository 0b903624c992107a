//! A large file in ranges: several connections, each of which asks for one piece after another.
//!
//! `<checksum>.ranges` holds what came, every byte in its place, and `<checksum>.log` a line for each stretch that is
//! whole. Both are there until the file is; another process goes on with what they say.

use super::pieces::{Piece, Pieces};
use super::request::{Bytes, header};
use super::transfer::{Remote, io_error, slow};
use super::{HubError, HubOptions};
use crate::causes::Problem;
use crate::model::progress::ProgressSink;
use crate::units::format_bytes;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use ureq::Body;
use ureq::http::{Method, Response, StatusCode};

/// Bytes after which a stretch is noted, at the latest.
const NOTED: u64 = 1 << 20;

/// From the first of these bytes up to the second.
type Stretch = (u64, u64);

/// What came of asking for ranges.
pub(super) enum Answer {
    /// The file is whole.
    Whole,
    /// The server sends no ranges: this is the file from its beginning.
    NoRanges(Response<Body>),
}

/// A file that comes in ranges.
pub(super) struct Ranges<'a> {
    remote: &'a Remote<'a>,
    size: u64,
    part: PathBuf,
    note: PathBuf,
    data: File,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    left: VecDeque<Stretch>,
    received: u64,
    log: File,
    progress: &'a ProgressSink,
    /// Why it ended; no further piece is begun.
    failure: Option<HubError>,
}

/// Whether a file of which so much is missing is fetched in ranges.
pub(super) fn is_worth_it(missing: u64, options: &HubOptions) -> bool {
    options.connections > 1 && missing >= 2 * options.piece_bytes
}

/// Where the ranges of the file lie whose content goes to `part`.
fn places(part: &Path) -> [PathBuf; 2] {
    [part.with_extension("ranges"), part.with_extension("log")]
}

/// The stretches that are here, sorted, none of which touches another. A line that a kill has cut counts for nothing.
fn stretches(part: &Path, size: u64) -> Vec<Stretch> {
    let [data, note] = places(part);
    let there = fs::metadata(data).map_or(0, |it| it.len());
    let text = fs::read_to_string(note).unwrap_or_default();
    let read = |line: &str| {
        let (from, to) = line.strip_suffix(" .")?.split_once(' ')?;
        let stretch: Stretch = (from.parse().ok()?, to.parse().ok()?);
        (stretch.0 < stretch.1 && stretch.1 <= size.min(there)).then_some(stretch)
    };
    let mut all: Vec<Stretch> = text.lines().filter_map(read).collect();
    all.sort_unstable();
    let mut merged: Vec<Stretch> = Vec::new();
    for (from, to) in all {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// What is missing, in pieces.
fn missing(there: &[Stretch], size: u64, piece: u64) -> VecDeque<Stretch> {
    let mut pieces = VecDeque::new();
    let mut at = 0;
    for &(from, to) in there.iter().chain([&(size, size)]) {
        while at < from {
            let end = from.min(at.saturating_add(piece.max(1)));
            pieces.push_back((at, end));
            at = end;
        }
        at = to;
    }
    pieces
}

/// Bytes that came in ranges before; `None`: none were asked for.
pub(super) fn received(part: &Path, size: u64) -> Option<u64> {
    let [data, _] = places(part);
    let there = data.is_file().then(|| stretches(part, size))?;
    Some(there.iter().map(|(from, to)| to - from).sum())
}

/// Forgets what came in ranges.
pub(super) fn forget(part: &Path) {
    for path in places(part) {
        let _ = fs::remove_file(path);
    }
}

impl<'a> Ranges<'a> {
    /// Goes on with what is there: ranges, or the beginning of the file in `part`.
    pub(super) fn open(
        remote: &'a Remote<'a>,
        size: u64,
        part: &Path,
        progress: &'a ProgressSink,
    ) -> Result<Self, HubError> {
        let [data, note] = places(part);
        let begun = fs::metadata(part).map_or(0, |metadata| metadata.len());
        if begun > 0 && !data.is_file() {
            fs::write(&note, format!("0 {begun} .\n")).map_err(io_error("write", &note))?;
            fs::rename(part, &data).map_err(io_error("write", &data))?;
        }
        let there = stretches(part, size);
        let open = |path: &Path| {
            let mut how = OpenOptions::new();
            how.create(true).truncate(false).write(true).append(path == note);
            how.open(path).map_err(io_error("write", path))
        };
        let state = Mutex::new(State {
            left: missing(&there, size, remote.options().piece_bytes),
            received: there.iter().map(|(from, to)| to - from).sum(),
            log: open(&note)?,
            progress,
            failure: None,
        });
        Ok(Self { remote, size, part: part.to_owned(), data: open(&data)?, note, state })
    }

    /// Brings the file to its full length. The first piece shows whether the server sends ranges at all.
    pub(super) fn receive(self) -> Result<Answer, HubError> {
        if let Some(first) = self.next() {
            let response = self.ask(first)?;
            if response.status() == StatusCode::OK {
                forget(&self.part);
                return Ok(Answer::NoRanges(response));
            }
            let response = Mutex::new(Some((first, response)));
            thread::scope(|scope| {
                for _ in 0..self.remote.options().connections {
                    scope.spawn(|| self.work(&response));
                }
            });
        }
        let [data, _] = places(&self.part);
        self.data.sync_all().map_err(io_error("write", &data))?;
        if let Some(failure) = self.locked().failure.take() {
            return Err(failure);
        }
        fs::rename(&data, &self.part).map_err(io_error("write", &self.part))?;
        fs::remove_file(&self.note).map_err(io_error("remove", &self.note))?;
        Ok(Answer::Whole)
    }

    fn locked(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Stretch> {
        let mut state = self.locked();
        if state.failure.is_some() { None } else { state.left.pop_front() }
    }

    /// One connection: piece after piece until none is left or one fails.
    fn work(&self, begun: &Mutex<Option<(Stretch, Response<Body>)>>) {
        loop {
            let begun = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
            let received = match begun {
                Some((piece, response)) => self.take(piece, Some(response)),
                None => match self.next() {
                    Some(piece) => self.take(piece, None),
                    None => return,
                },
            };
            if let Err(error) = received {
                self.locked().failure.get_or_insert(error);
                return;
            }
        }
    }

    fn ask(&self, (from, to): Stretch) -> Result<Response<Body>, HubError> {
        let response = self.remote.request(&Method::GET, &Bytes::Range(from, to))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let range = header(response.headers(), "content-range").unwrap_or_default();
        let expected = format!("bytes {from}-{}/{}", to - 1, self.size);
        if range != expected {
            let reason = format!("asked for '{expected}', it sends '{range}'");
            return Err(self.remote.wrong_answer(&reason));
        }
        Ok(response)
    }

    /// Receives a piece. A connection that breaks off is made again as long as something comes of it.
    fn take(&self, piece: Stretch, begun: Option<Response<Body>>) -> Result<(), HubError> {
        let (mut at, to) = piece;
        let mut response = begun;
        while at < to {
            let answer = match response.take() {
                Some(response) => response,
                None => self.ask((at, to))?,
            };
            if answer.status() != StatusCode::PARTIAL_CONTENT {
                return Err(self.remote.wrong_answer("it sends ranges no longer"));
            }
            let before = at;
            let ended = self.store(answer, &mut at, to);
            self.note(before, at)?;
            match ended? {
                _ if at == to => {}
                // Others may have failed in the meantime.
                _ if self.locked().failure.is_some() => return Ok(()),
                source if at == before => return Err(self.broken_off(source)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the bytes of an answer to their place, from `at` on, until it ends; how it ended.
    fn store(
        &self,
        answer: Response<Body>,
        at: &mut u64,
        to: u64,
    ) -> Result<Option<io::Error>, HubError> {
        let mut pieces = Pieces::of(answer.into_body(), self.remote.options().patience);
        let mut noted = *at;
        loop {
            let bytes = match pieces.next() {
                Piece::Bytes(bytes) => bytes,
                Piece::End(source) => return Ok(source),
                Piece::Slow => {
                    let received = self.locked().received;
                    return Err(slow(self.remote.name(), received));
                }
            };
            let length = bytes.len() as u64;
            if length > to - *at {
                return Err(self.remote.wrong_answer("it sends more than it was asked for"));
            }
            let written = self.data.write_all_at(&bytes, *at);
            written.map_err(io_error("write", &places(&self.part)[0]))?;
            *at += length;
            if *at - noted >= NOTED {
                self.note(noted, *at)?;
                noted = *at;
            }
            let mut state = self.locked();
            state.received += length;
            let (received, progress) = (state.received, state.progress);
            progress.tell("fetching", self.remote.name(), received, self.size);
        }
    }

    /// Notes a stretch that is whole.
    fn note(&self, from: u64, to: u64) -> Result<(), HubError> {
        if from == to {
            return Ok(());
        }
        let line = format!("{from} {to} .\n");
        let written = self.locked().log.write_all(line.as_bytes());
        written.map_err(io_error("write", &self.note))
    }

    fn broken_off(&self, source: Option<io::Error>) -> HubError {
        let message = format!(
            "the connection ended after {} of {} of {}; run again to go on from there",
            format_bytes(self.locked().received),
            format_bytes(self.size),
            self.remote.name()
        );
        match source {
            Some(source) => Problem::because(message, source),
            None => Problem::new(message),
        }
    }
}
