//! The body of an answer, piece by piece, as long as it comes at a rate that has an end.
//!
//! Limits on a single read do not see a server that sends one byte a minute, and none at all sees one
//! whose bytes carry no content. So the body is read on a thread of its own, and what counts is
//! what arrives here.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use ureq::Body;

/// Bytes per second that have to arrive within each window.
pub(super) const LEAST_RATE: u64 = 1024;

/// Bytes of a piece at most.
const PIECE: usize = 256 << 10;

/// What came of waiting for a piece.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The body ended, or broke off.
    End(Option<io::Error>),
    /// Too little arrived within a window.
    Slow,
}

/// Pieces of a body.
pub(super) struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    window: Duration,
    began: Instant,
    /// Bytes since then.
    arrived: u64,
}

impl Pieces {
    /// Begins to read. Dropped early, the thread ends with its next piece or time limit.
    pub(super) fn of(body: Body, window: Duration) -> Self {
        let (sender, receiver) = sync_channel(4);
        std::thread::spawn(move || {
            let mut reader = body.into_reader();
            loop {
                let mut buffer = vec![0; PIECE];
                let read = reader.read(&mut buffer).map(|count| {
                    buffer.truncate(count);
                    buffer
                });
                let is_last = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        });
        Self { receiver, window, began: Instant::now(), arrived: 0 }
    }

    pub(super) fn next(&mut self) -> Piece {
        loop {
            let left = self.window.saturating_sub(self.began.elapsed());
            match self.receiver.recv_timeout(left) {
                Ok(Ok(bytes)) if bytes.is_empty() => return Piece::End(None),
                Ok(Ok(bytes)) => {
                    self.arrived += bytes.len() as u64;
                    return if self.is_too_slow() { Piece::Slow } else { Piece::Bytes(bytes) };
                }
                Ok(Err(error)) => return Piece::End(Some(error)),
                Err(RecvTimeoutError::Timeout) if self.is_too_slow() => return Piece::Slow,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Piece::End(Some(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }

    /// Judges a window that is over, and begins the next.
    fn is_too_slow(&mut self) -> bool {
        if self.began.elapsed() < self.window {
            return false;
        }
        let least = u128::from(LEAST_RATE) * self.window.as_millis() / 1000;
        let is_too_slow = u128::from(self.arrived) < least;
        (self.began, self.arrived) = (Instant::now(), 0);
        is_too_slow
    }
}
