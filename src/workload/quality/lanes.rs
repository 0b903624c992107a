//! How many lanes evaluate side by side, with how many threads each.

use super::QualityError;
use super::lane::{Assignment, Lane};
use crate::experiment::settings::Settings;
use crate::llama::devices;
use crate::llama::model::Model;

/// Memory that lanes may take together, however small the model is, bytes.
const SMALLEST_ALLOWANCE: u64 = 512 << 20;

/// Opens the lanes for a text.
///
/// On a processor as many lanes as threads, as far as chunks and memory allow, one chunk at a time
/// each; where layers are on a GPU one lane, with as many chunks in a batch as there is room for.
/// Lanes of one thread also make figures the same whatever the number of threads, which llama.cpp
/// alone does not promise: rounded activations carry the last bit of a sum into the fourth digit.
pub(super) fn open<'model>(
    model: &'model Model,
    settings: &Settings,
    assignment: &Assignment,
) -> Result<Vec<Lane<'model>>, QualityError> {
    let shape = assignment.shape();
    let threads = settings.threads.unwrap_or_else(|| model.backend().default_threads()).max(1);
    if devices::uses_gpu(model.backend(), settings) {
        let side_by_side = (settings.batch / shape.context).clamp(1, shape.chunks);
        return Ok(vec![Lane::open(model, settings, shape, side_by_side, threads)?]);
    }
    let open = |threads| Lane::open(model, settings, shape, 1, threads);
    let first = open(1)?;
    let outputs = u64::from(shape.rows) * u64::from(shape.vocabulary) * size_of::<f32>() as u64;
    let buffers = first.memory();
    let allocated: u64 = buffers.iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes).sum();
    // Logits lie in llama.cpp's buffer and in the lane's, beside the reference's rows.
    let lane_bytes = allocated + 3 * outputs;
    let count = count(threads.min(shape.chunks), lane_bytes, model.tensor_bytes());
    let each = threads / count;
    let first = if each == 1 { first } else { open(each)? };
    let others = (1..count).map(|_| open(each));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Lanes that fit: together they may take half as much memory as the weights.
pub(in crate::workload) fn count(wanted: u32, lane_bytes: u64, weights_bytes: u64) -> u32 {
    let allowance = SMALLEST_ALLOWANCE.max(weights_bytes / 2);
    let fitting = u32::try_from(allowance / lane_bytes.max(1)).unwrap_or(u32::MAX);
    wanted.min(fitting).max(1)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn lanes_stay_within_half_of_the_weights() {
        // A small model: every thread gets a lane.
        assert_eq!(count(16, 20 << 20, 13 << 20), 16);
        // 8 GiB of weights allow 4 GiB of lanes.
        assert_eq!(count(16, 1 << 30, 8 << 30), 4);
        // One lane is always there, however large.
        assert_eq!(count(16, 64 << 30, 8 << 30), 1);
        assert_eq!(count(2, 0, 0), 2);
    }
}
