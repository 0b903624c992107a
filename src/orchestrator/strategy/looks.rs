//! Looks: how often a speed is timed and how much of the text is read before it is asked again what is proved.

use crate::units::to_f64;

/// After how many rounds a speed is looked at.
pub(super) const ROUNDS: [u32; 8] = [2, 3, 4, 6, 8, 12, 16, 24];

/// After how many chunks a divergence is looked at.
pub(super) const CHUNKS: [u32; 7] = [4, 8, 16, 32, 64, 128, 256];

/// More than it seems to take: what is seen of a spread has an error, too.
const MARGIN: f64 = 1.1;

/// What is seen of a spread is believed from this look on, counted from 0: what seems to take so many times as much as the
/// last look has is given up then, and what was looked at so often waits for what is easier.
pub(super) const BELIEVED: usize = 2;
const HOPELESS: f64 = 4.0;

/// A step takes so many times what was measured so far at most.
const LARGEST_STEP: f64 = 4.0;

/// The next number of observations to look at: as many as it seems to take, of those that are looked at; `None`: there is no
/// look left.
pub(super) fn next_of(looks: &[u32], done: u32, more: Option<u64>) -> Option<u32> {
    let least = looks.iter().copied().find(|&look| look > done)?;
    let Some(more) = more.filter(|_| done > 0) else { return Some(least) };
    let needed = f64::from(done) + to_f64(more) * MARGIN;
    let most = looks.last().copied().map_or(0.0, f64::from);
    if done >= looks[BELIEVED] && needed > HOPELESS * most {
        return None;
    }
    let needed = needed.min(f64::from(done) * LARGEST_STEP);
    let enough = looks.iter().copied().find(|&look| f64::from(look) >= needed);
    Some(enough.or(looks.last().copied()).map_or(least, |enough| enough.max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_as_far_as_it_seems_to_take() {
        assert_eq!(next_of(&ROUNDS, 0, None), Some(2));
        assert_eq!(next_of(&ROUNDS, 2, Some(1)), Some(4));
        assert_eq!(next_of(&ROUNDS, 2, Some(100)), Some(8), "four times at most");
        assert_eq!(next_of(&ROUNDS, 6, Some(200)), None, "hopeless");
        assert_eq!(next_of(&ROUNDS, 24, Some(1)), None);
        assert_eq!(next_of(&CHUNKS, 5, None), Some(8));
    }
}
