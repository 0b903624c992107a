//! Streams: contexts of one model that evaluate texts side by side, on a processor.
//!
//! With one thread each nobody waits for another within a layer, and sums do not depend on the number of threads;
//! llama.cpp's own threads meet after every node, which costs more the more there are.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Memory that streams may take together, however small the model is, bytes.
const SMALLEST_ALLOWANCE: u64 = 512 << 20;

/// Streams that fit: together they may take half as much memory as the weights. At least one.
#[must_use]
pub fn that_fit(wanted: u32, stream_bytes: u64, weights_bytes: u64) -> u32 {
    let allowance = SMALLEST_ALLOWANCE.max(weights_bytes / 2);
    let fitting = u32::try_from(allowance / stream_bytes.max(1)).unwrap_or(u32::MAX);
    wanted.min(fitting).max(1)
}

/// Opens up to `most` streams, as many as there are threads and fit in memory. `open` is given the threads of a stream,
/// `bytes` says what the first one takes.
///
/// # Errors
/// That of `open`.
pub fn open<Stream, Error>(
    threads: u32,
    most: u32,
    weights_bytes: u64,
    open: impl Fn(u32) -> Result<Stream, Error>,
    bytes: impl FnOnce(&Stream) -> u64,
) -> Result<Vec<Stream>, Error> {
    let first = open(1)?;
    let count = that_fit(threads.min(most), bytes(&first), weights_bytes);
    let each = threads / count;
    let first = if each == 1 { first } else { open(each)? };
    let others = (1..count).map(|_| open(each));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Does numbered items with a thread for each stream, which takes the next item whenever it is done with one.
///
/// `start` is called once in each thread, `evaluate` for every item; `receive` gets the results in the order of the items, so
/// that what is made of them does not depend on which stream was faster. The first error, or a break, ends all threads.
///
/// # Errors
/// The first one of any of the three.
pub fn run<Stream: Send, State, Output: Send, Error: Send>(
    streams: impl IntoIterator<Item = Stream>,
    items: Range<usize>,
    start: impl Fn(Stream) -> Result<State, Error> + Sync,
    evaluate: impl Fn(&mut State, usize) -> Result<Output, Error> + Sync,
    mut receive: impl FnMut(Output) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let (next, end) = (AtomicUsize::new(items.start), items.end);
    let (next, start, evaluate) = (&next, &start, &evaluate);
    thread::scope(|scope| {
        // Bounded: results can be large.
        let (sender, results) = mpsc::sync_channel(1);
        for stream in streams {
            let sender = sender.clone();
            scope.spawn(move || {
                let work = || {
                    let mut state = start(stream)?;
                    loop {
                        let item = next.fetch_add(1, Ordering::Relaxed);
                        if item >= end {
                            return Ok(());
                        }
                        let output = evaluate(&mut state, item)?;
                        if sender.send(Ok((item, output))).is_err() {
                            return Ok(());
                        }
                    }
                };
                if let Err(error) = work() {
                    // Nobody receives after the first error.
                    let _ = sender.send(Err(error));
                }
            });
        }
        // The loop below ends when the last stream drops its sender.
        drop(sender);
        let receive_all = || {
            let (mut early, mut expected) = (BTreeMap::new(), items.start);
            for result in results {
                let (item, output) = result?;
                early.insert(item, output);
                while let Some(output) = early.remove(&expected) {
                    expected += 1;
                    if receive(output)?.is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let result = receive_all();
        next.store(end, Ordering::Relaxed);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::that_fit;

    #[test]
    fn streams_stay_within_half_of_the_weights() {
        // A small model: every thread gets a stream.
        assert_eq!(that_fit(16, 20 << 20, 13 << 20), 16);
        // 8 GiB of weights allow 4 GiB of streams.
        assert_eq!(that_fit(16, 1 << 30, 8 << 30), 4);
        // One stream is always there, however large.
        assert_eq!(that_fit(16, 64 << 30, 8 << 30), 1);
        assert_eq!(that_fit(2, 0, 0), 2);
    }
}
