//! How many streams evaluate side by side, with how many threads each.

use super::QualityError;
use super::stream::{Assignment, Stream};
use crate::engine::Model;
use crate::engine::streams;
use crate::experiment::settings::Settings;

/// Opens the streams for a text.
///
/// On a processor as many streams as threads, as far as chunks and memory allow, one chunk at a time
/// each; where layers are on a GPU one stream, with as many chunks in a batch as there is room for.
/// Streams of one thread also make figures the same whatever the number of threads, which llama.cpp
/// alone does not promise: rounded activations carry the last bit of a sum into the fourth digit.
pub(super) fn open<'model>(
    model: &'model dyn Model,
    settings: &Settings,
    assignment: &Assignment,
) -> Result<Vec<Stream<'model>>, QualityError> {
    let shape = assignment.shape();
    let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads()).max(1);
    if model.engine().uses_gpu(settings) {
        let side_by_side = (settings.batch / shape.context).clamp(1, shape.chunks);
        return Ok(vec![Stream::open(model, settings, shape, side_by_side, threads)?]);
    }
    let open = |threads| Stream::open(model, settings, shape, 1, threads);
    let first = open(1)?;
    let outputs = u64::from(shape.rows) * u64::from(shape.vocabulary) * size_of::<f32>() as u64;
    let buffers = first.memory();
    let allocated: u64 = buffers.iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes).sum();
    // Logits lie in llama.cpp's buffer and in the stream's, beside the reference's rows.
    let lane_bytes = allocated + 3 * outputs;
    let count = streams::that_fit(threads.min(shape.chunks), lane_bytes, model.tensor_bytes());
    let each = threads / count;
    let first = if each == 1 { first } else { open(each)? };
    let others = (1..count).map(|_| open(each));
    std::iter::once(Ok(first)).chain(others).collect()
}
