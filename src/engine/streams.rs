//! Lanes: contexts of one model that evaluate texts side by side, on a processor.
//!
//! With one thread each nobody waits for another within a layer, and sums do not depend on the number of threads;
//! llama.cpp's own threads meet after every node, which costs more the more there are.

/// Memory that lanes may take together, however small the model is, bytes.
const SMALLEST_ALLOWANCE: u64 = 512 << 20;

/// Lanes that fit: together they may take half as much memory as the weights. At least one.
#[must_use]
pub fn that_fit(wanted: u32, lane_bytes: u64, weights_bytes: u64) -> u32 {
    let allowance = SMALLEST_ALLOWANCE.max(weights_bytes / 2);
    let fitting = u32::try_from(allowance / lane_bytes.max(1)).unwrap_or(u32::MAX);
    wanted.min(fitting).max(1)
}

#[cfg(test)]
mod tests {
    use super::that_fit;

    #[test]
    fn lanes_stay_within_half_of_the_weights() {
        // A small model: every thread gets a lane.
        assert_eq!(that_fit(16, 20 << 20, 13 << 20), 16);
        // 8 GiB of weights allow 4 GiB of lanes.
        assert_eq!(that_fit(16, 1 << 30, 8 << 30), 4);
        // One lane is always there, however large.
        assert_eq!(that_fit(16, 64 << 30, 8 << 30), 1);
        assert_eq!(that_fit(2, 0, 0), 2);
    }
}
