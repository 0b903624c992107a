//! Round to nearest: llama.cpp's plain quantization, with its progress read from its log.

use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::log;
use crate::engine::llama::quantize::{Rounding, quantize_file};

/// Rounds a file; `progress` is told the fraction of tensors that are done.
///
/// # Errors
/// See [`quantize_file`].
pub fn quantize(
    backend: Backend,
    rounding: &Rounding<'_>,
    progress: impl Fn(f64) + Send + 'static,
) -> Result<(), EngineError> {
    log::listen(Some(Box::new(move |line| {
        if let Some(fraction) = progress_of(line) {
            progress(fraction);
        }
    })));
    let result = quantize_file(backend, rounding);
    log::listen(None);
    result
}

/// The fraction in a log line that begins with `[ 3/ 56]`.
fn progress_of(line: &str) -> Option<f64> {
    let (counts, _) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let (done, all) = counts.split_once('/')?;
    let (done, all): (f64, f64) = (done.trim().parse().ok()?, all.trim().parse().ok()?);
    (all > 0.0).then(|| (done / all).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::progress_of;

    #[test]
    fn progress_is_read_from_the_line_of_a_tensor() {
        assert_eq!(progress_of("[   5/  10]  blk.0.attn_k.weight - [256, 128]"), Some(0.5));
        assert_eq!(progress_of("main: quantizing"), None);
        assert_eq!(progress_of("[x/y] z"), None);
        assert_eq!(progress_of("[1/0] z"), None);
    }
}
