//! Reasons: how a worker ended, in one sentence for the table's footnote.

use crate::files;
use crate::host::Exit;
use crate::model::artifact::KeptTensor;
use crate::results::grouped;
use crate::units::{count, format_bytes, format_seconds};
use std::path::Path;
use std::time::Duration;

/// Lines of standard error that say why native code gave up, most telling first.
const TELLING: [&str; 8] = [
    "GGML_ASSERT",
    "terminate called",
    "what():",
    "panicked at",
    "out of memory",
    "failed to allocate",
    "CUDA error",
    "error",
];

/// A disk with less free is full, bytes.
const FULL_BELOW: u64 = 1 << 20;

/// Characters that are shown at most of what is not this program's own: a line of native code, or of
/// something that took a worker's place.
const LONGEST_QUOTE: usize = 200;

/// Characters of a worker's own message, which ends with what would be right. Names from a hostile file
/// may make it longer.
const LONGEST_MESSAGE: usize = 4000;

/// Tensors that are named where a method left some to simpler rounding.
pub const SHOWN_TENSORS: usize = 4;

/// What is known about memory when a worker was killed, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryAtEnd {
    /// Highest resident memory of the worker that the monitor saw.
    pub peak_rss_bytes: Option<u64>,
    /// Memory that the machine, or the container, has.
    pub machine_bytes: Option<u64>,
}

/// A worker ended before it said that its job is done.
pub fn of_exit(exit: &Exit, memory: MemoryAtEnd) -> String {
    let words = telling_line(&exit.stderr_tail);
    let end = match (exit.signal, exit.code) {
        (Some(9), _) => return killed(memory),
        (Some(6), _) => "the worker aborted".to_owned(),
        (Some(11), _) => "the worker crashed (segmentation fault)".to_owned(),
        (Some(7), _) => {
            "the worker crashed (bus error: the file may have been cut short while it was read)"
                .to_owned()
        }
        (Some(4), _) => {
            "the worker crashed (illegal instruction: built for another processor)".to_owned()
        }
        (Some(8), _) => "the worker crashed (arithmetic fault)".to_owned(),
        (Some(signal), _) => format!("the worker was ended by signal {signal}"),
        (None, Some(0)) => "the worker ended before its job was done".to_owned(),
        (None, Some(code)) => format!("the worker ended with exit code {code}"),
        (None, None) => "the worker ended for an unknown reason".to_owned(),
    };
    match words {
        Some(words) => format!("{end}: {words}"),
        None => end,
    }
}

fn killed(memory: MemoryAtEnd) -> String {
    let used = memory.peak_rss_bytes.map(|bytes| format!("it had used {}", format_bytes(bytes)));
    let figures = match (used, memory.machine_bytes) {
        (Some(used), Some(all)) => format!(" ({used}; the machine has {})", format_bytes(all)),
        (Some(used), None) => format!(" ({used})"),
        (None, _) => String::new(),
    };
    let small = memory.peak_rss_bytes.zip(memory.machine_bytes);
    if small.is_some_and(|(used, all)| used < all / 4) {
        return format!(
            "the worker was killed by another program, or by the system because others left no memory{figures}"
        );
    }
    format!("the worker was killed, probably because memory ran out{figures}")
}

/// A worker said nothing for too long and was ended.
pub fn of_silence(limit: Duration) -> String {
    format!(
        "nothing happened for {} and the worker was ended (phase_limit)",
        format_seconds(limit.as_secs_f64())
    )
}

/// A worker wrote something that is not an event and was ended.
pub fn of_nonsense(line: &str) -> String {
    format!("the worker wrote something that is not an event and was ended: '{}'", printable(line))
}

/// Why a file could not be written: a reason of native code says little of a full disk or of a limit, so
/// that is looked at while what was written is still there.
pub fn of_writing(reason: String, written: &Path) -> String {
    let folder = files::folder_of(written);
    let bytes = std::fs::metadata(written).map_or(0, |metadata| metadata.len());
    // Native code may have written elsewhere; then these words are all that is known.
    let is_native = reason.contains("iostream error");
    if files::size_limit().is_some_and(|limit| bytes >= limit || is_native)
        && let Some(limit) = files::in_words_of_size_limit().filter(|it| !reason.contains(it))
    {
        return format!("{limit}: {reason}");
    }
    match fs4::available_space(folder) {
        Ok(free) if free < FULL_BELOW => format!(
            "the disk of {} is full ({} free): {reason}",
            folder.display(),
            format_bytes(free)
        ),
        _ => reason,
    }
}

/// What a worker said of itself, made printable.
pub fn of_message(message: &str) -> String {
    on_one_line(message, LONGEST_MESSAGE)
}

/// The line of standard error that most likely says why, if any.
fn telling_line(lines: &[String]) -> Option<String> {
    TELLING
        .iter()
        .find_map(|mark| {
            let mark = mark.to_lowercase();
            lines.iter().rev().find(|line| line.to_lowercase().contains(&mark))
        })
        .or_else(|| lines.iter().rev().find(|line| !line.trim().is_empty()))
        .map(|line| printable(line))
}

/// One line without control characters, of bounded length: what a worker wrote may be anything.
pub fn printable(text: &str) -> String {
    on_one_line(text, LONGEST_QUOTE)
}

/// The middle is left out of what is longer than `most` characters: the beginning says what it is about,
/// the end what to do.
fn on_one_line(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    }
    let length = shown.chars().count();
    if length <= most {
        return shown;
    }
    let end = most / 2;
    let beginning = shown.chars().take(most - end - 1);
    beginning.chain(['…']).chain(shown.chars().skip(length - end)).collect()
}

/// `needs 58.1 MiB of memory: 12.2 MiB for weights, 45.9 MiB for …`.
pub fn of_memory(parts: &[(String, u64)]) -> String {
    let all = format_bytes(parts.iter().map(|(_, bytes)| bytes).sum());
    let parts: Vec<String> = parts
        .iter()
        .map(|(purpose, bytes)| format!("{} for {}", format_bytes(*bytes), printable(purpose)))
        .collect();
    format!("needs {all} of memory: {}", parts.join(", "))
}

/// What a method did and what it left to simpler rounding, in lines: one for each reason, with the names of so many
/// tensors.
pub fn of_kept(chosen: u64, kept: &[KeptTensor], shown: usize) -> Vec<String> {
    let named = kept.iter().map(|KeptTensor { tensor, format, reason }| {
        (reason, printable(&format!("{tensor} ({format})")))
    });
    let mut lines = vec![format!("chose the weights of {}", count(chosen, "tensor"))];
    lines.extend(grouped(named).into_iter().map(|(reason, names)| {
        let more = if names.len() > shown { ", …" } else { "" };
        let left = count(names.len(), "tensor");
        let names = names[..names.len().min(shown)].join(", ");
        format!("left {left} as imatrix rounds them: {}: {names}{more}", printable(reason))
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: Option<i32>, signal: Option<i32>, words: &[&str]) -> Exit {
        let stderr_tail = words.iter().map(ToString::to_string).collect();
        Exit { code, signal, stderr_tail }
    }

    #[test]
    fn a_worker_killed_by_the_system_is_told_with_its_memory() {
        let memory = MemoryAtEnd { peak_rss_bytes: Some(3 << 30), machine_bytes: Some(4 << 30) };
        assert_eq!(
            of_exit(&exit(None, Some(9), &["loading"]), memory),
            "the worker was killed, probably because memory ran out \
             (it had used 3.00 GiB; the machine has 4.00 GiB)"
        );
        assert_eq!(
            of_exit(&exit(None, Some(9), &[]), MemoryAtEnd::default()),
            "the worker was killed, probably because memory ran out"
        );
        let memory = MemoryAtEnd { peak_rss_bytes: Some(60 << 20), ..memory };
        let told = of_exit(&exit(None, Some(9), &[]), memory);
        assert!(told.starts_with("the worker was killed by another program"), "{told}");
    }

    #[test]
    fn an_abort_is_told_with_the_assertion_not_with_the_last_line() {
        let words = ["load ok", "ggml.c:12: GGML_ASSERT(n > 0) failed", "#3 0x1234 in main"];
        assert_eq!(
            of_exit(&exit(None, Some(6), &words), MemoryAtEnd::default()),
            "the worker aborted: ggml.c:12: GGML_ASSERT(n > 0) failed"
        );
    }

    #[test]
    fn an_exit_without_a_telling_line_quotes_the_last_one() {
        assert_eq!(
            of_exit(&exit(Some(3), None, &["one", "two", " "]), MemoryAtEnd::default()),
            "the worker ended with exit code 3: two"
        );
        assert_eq!(
            of_exit(&exit(Some(0), None, &[]), MemoryAtEnd::default()),
            "the worker ended before its job was done"
        );
    }

    #[test]
    fn what_a_worker_wrote_is_shown_without_control_characters_and_short() {
        assert_eq!(printable("a\u{1b}[31mb\tc\r\n"), "a\u{fffd}[31mb c");
        assert_eq!(printable(&"x".repeat(5000)).chars().count(), 200);
    }

    #[test]
    fn a_worker_s_own_words_are_shown_whole_and_long_ones_lose_their_middle() {
        let advice = format!("{} is packed otherwise; convert it again", "x".repeat(500));
        assert_eq!(of_message(&advice), advice);
        let long = format!("'{}' is unknown; write Q4_K", "y".repeat(100_000));
        let shown = of_message(&long);
        assert_eq!(shown.chars().count(), LONGEST_MESSAGE);
        assert!(shown.starts_with("'yyy") && shown.ends_with("is unknown; write Q4_K"));
        let quote = printable(&format!("ggml.c:12: {} failed", "z".repeat(300)));
        assert!(quote.starts_with("ggml.c:12: z") && quote.ends_with("z failed"), "{quote}");
        assert_eq!(quote.chars().count(), LONGEST_QUOTE);
    }

    #[test]
    fn silence_names_the_limit() {
        assert_eq!(
            of_silence(Duration::from_mins(10)),
            "nothing happened for 10 min 00 s and the worker was ended (phase_limit)"
        );
    }

    #[test]
    fn memory_is_told_with_what_it_is_for() {
        assert_eq!(
            of_memory(&[("weights".to_owned(), 1 << 30), ("a chunk".to_owned(), 1 << 29)]),
            "needs 1.50 GiB of memory: 1.00 GiB for weights, 512 MiB for a chunk"
        );
    }

    #[test]
    fn tensors_left_to_simpler_rounding_are_told_by_reason() {
        let kept = |tensor: String, reason: &str| KeptTensor {
            tensor,
            format: "Q6_K".to_owned(),
            reason: reason.to_owned(),
        };
        let mut all: Vec<KeptTensor> =
            (0..6).map(|index| kept(format!("blk.{index}.x"), "it is no matrix")).collect();
        all.push(kept("output.weight".to_owned(), "it belongs to no layer"));
        let lines = of_kept(1, &all, SHOWN_TENSORS);
        assert_eq!(lines[0], "chose the weights of 1 tensor");
        assert!(lines[1].starts_with("left 6 tensors as imatrix rounds them: it is no matrix: "));
        assert!(lines[1].ends_with("blk.3.x (Q6_K), …"), "{}", lines[1]);
        assert!(lines[2].ends_with("it belongs to no layer: output.weight (Q6_K)"));
        let lines = of_kept(1, &all, usize::MAX);
        assert!(lines[1].ends_with("blk.4.x (Q6_K), blk.5.x (Q6_K)"), "{}", lines[1]);
    }
}
