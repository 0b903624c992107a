//! How fast the processor reads memory, by the number of threads that read.

use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that a pass reads: several times the caches of most machines.
const BYTES: u64 = 512 << 20;

/// Part of what is free that the buffer may take.
const OF_FREE: u64 = 4;

/// Less memory than this fits the caches, and says nothing about memory.
const FEWEST_BYTES: u64 = 64 << 20;

/// Passes with each number of threads; their median counts.
const PASSES: usize = 9;

/// The rate at which so many threads read memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReadRate {
    /// Threads.
    pub threads: u32,
    /// Bytes per second, median of the passes.
    pub bytes_per_second: f64,
    /// The slowest quarter of the passes was at or below this.
    pub lower_quartile: f64,
    /// The fastest quarter was at or above this.
    pub upper_quartile: f64,
}

/// Reads memory with 1, 2, 4, … threads up to `most_threads`, pass by pass in turn, for a few seconds at most. `None`
/// where less memory is free than it takes to tell memory from caches.
pub fn read_rates(free_bytes: u64, most_threads: u32) -> Option<Vec<ReadRate>> {
    let bytes = BYTES.min(free_bytes / OF_FREE);
    if bytes < FEWEST_BYTES {
        return None;
    }
    let words = usize::try_from(bytes / 8).ok()?;
    // Not zeros: those may be one page, mapped many times.
    let buffer: Vec<u64> = (0..words as u64).collect();
    Some(rates(&buffer, &thread_counts(most_threads.max(1)), PASSES))
}

/// Powers of two up to `most`, and `most` itself.
fn thread_counts(most: u32) -> Vec<u32> {
    let powers = std::iter::successors(Some(1_u32), |threads| threads.checked_mul(2));
    powers.take_while(|&threads| threads < most).chain([most]).collect()
}

fn rates(buffer: &[u64], thread_counts: &[u32], passes: usize) -> Vec<ReadRate> {
    let mut seconds = vec![Vec::new(); thread_counts.len()];
    // In turn, so that what slows the machine for a while slows all of them.
    for _ in 0..passes {
        for (&threads, seconds) in thread_counts.iter().zip(&mut seconds) {
            seconds.push(pass(buffer, threads).as_secs_f64());
        }
    }
    let bytes = crate::units::to_f64(size_of_val(buffer) as u64);
    let rate = |(&threads, mut seconds): (&u32, Vec<f64>)| {
        seconds.sort_by(f64::total_cmp);
        let at = |part: usize| bytes / seconds[(seconds.len() - 1) * part / 4].max(1e-9);
        let [upper_quartile, bytes_per_second, lower_quartile] = [at(1), at(2), at(3)];
        ReadRate { threads, bytes_per_second, lower_quartile, upper_quartile }
    };
    thread_counts.iter().zip(seconds).map(rate).collect()
}

/// The time in which `threads` threads together read the buffer once.
fn pass(buffer: &[u64], threads: u32) -> Duration {
    let share = buffer.len().div_ceil(threads as usize).max(1);
    let begin = Instant::now();
    thread::scope(|scope| {
        for part in buffer.chunks(share) {
            scope.spawn(move || black_box(sum(part)));
        }
    });
    begin.elapsed()
}

/// As plain as this, a compiler makes as many sums side by side of it as the processor likes; sums written out side by
/// side were kept in memory, and read at a seventh of the rate.
fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (1..=1003).collect();
        assert_eq!(sum(&words), 1003 * 1004 / 2);
    }

    #[test]
    fn numbers_of_threads_double_up_to_the_last() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(6), [1, 2, 4, 6]);
        assert_eq!(thread_counts(8), [1, 2, 4, 8]);
    }

    #[test]
    fn rates_are_ordered_and_of_their_threads() {
        let words: Vec<u64> = (0..1 << 16).collect();
        let measured = rates(&words, &[1, 2], 5);
        assert_eq!(measured.iter().map(|it| it.threads).collect::<Vec<_>>(), [1, 2]);
        for rate in measured {
            assert!(rate.lower_quartile > 0.0, "{rate:?}");
            assert!(rate.lower_quartile <= rate.bytes_per_second, "{rate:?}");
            assert!(rate.bytes_per_second <= rate.upper_quartile, "{rate:?}");
        }
    }

    #[test]
    fn little_memory_says_nothing() {
        assert_eq!(read_rates(OF_FREE * (FEWEST_BYTES - 1), 2), None);
    }
}
