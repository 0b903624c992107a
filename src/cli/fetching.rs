//! What takes long before a run begins, shown on standard error: files that are fetched or checked.

use super::output;
use crate::model::progress::{FileProgress, ProgressSink};
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::display::Verbosity;
use crate::units::format_bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What takes less is not worth a word.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// How to resolve sources, with progress shown unless nothing is to be shown.
pub(super) fn resolve_options(verbosity: Verbosity) -> ResolveOptions {
    let progress = match verbosity {
        Verbosity::Quiet => ProgressSink::default(),
        Verbosity::Live => {
            let shown = Mutex::new(Shown::default());
            ProgressSink::new(move |progress| {
                if let Ok(mut shown) = shown.lock() {
                    shown.on_event(progress);
                }
            })
        }
    };
    ResolveOptions { progress, ..ResolveOptions::from_environment() }
}

/// The file that is shown at the moment.
#[derive(Default)]
struct Shown {
    file: String,
    began: Option<Instant>,
    line: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn on_event(&mut self, progress: FileProgress<'_>) {
        let now = Instant::now();
        if self.file != progress.file || self.began.is_none() {
            *self = Self::default();
            progress.file.clone_into(&mut self.file);
            self.began = Some(now);
        }
        let is_long = self.began.is_some_and(|began| now - began > QUIET_TIME);
        if progress.done >= progress.total {
            *self = Self::default();
        } else if is_long && io::stderr().is_terminal() {
            self.bar.get_or_insert_with(|| bar(progress)).set_position(progress.done);
        } else if is_long && self.line.is_none_or(|line| now - line > LINE_INTERVAL) {
            self.line = Some(now);
            output::tell(&line(progress));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(progress: FileProgress<'_>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(4);
    let bar = ProgressBar::with_draw_target(Some(progress.total), target);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:24} {bytes}/{total_bytes} · {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message(format!("{} {}", progress.action, progress.file));
    bar
}

fn line(progress: FileProgress<'_>) -> String {
    format!(
        "{} {}: {} of {}",
        progress.action,
        progress.file,
        format_bytes(progress.done),
        format_bytes(progress.total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_work_is() {
        let progress =
            FileProgress { action: "fetching", file: "m.gguf", done: 1 << 30, total: 3 << 30 };
        assert_eq!(line(progress), "fetching m.gguf: 1.00 GiB of 3.00 GiB");
    }
}
