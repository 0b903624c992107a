//! Divergence in words, for those whom nats tell nothing.
//!
//! The limits come from measured flips: questions to which a variant chooses another answer than the reference. Of ARC-Easy's and
//! PIQA's questions 0.27 · √KLD flipped (SmolLM2-135M, ten variants; docs/CHOOSING.md), so that the words end where 1, 2.5,
//! 5 and 10 of a hundred do.

use crate::statistics::estimate::Estimate;

/// Words and the divergence that they reach up to, mean KLD in nats.
pub const WORDS: [(&str, f64); 5] = [
    ("near lossless", 0.0015),
    ("very good", 0.009),
    ("good", 0.035),
    ("noticeable", 0.14),
    ("severe", f64::INFINITY),
];

/// A divergence in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InWords {
    /// One of [`WORDS`].
    pub words: &'static str,
    /// The 95 % interval reaches into the next word.
    pub is_open: bool,
}

impl InWords {
    /// Of a mean KLD; `None` if it is no number.
    pub fn of(kld: Estimate) -> Option<Self> {
        let words = |nats: f64| WORDS.iter().find(|(_, limit)| nats <= *limit).map(|it| it.0);
        let own = words(kld.value)?;
        let ends = kld.interval.map(|interval| [words(interval.low), words(interval.high)]);
        let is_open = ends.is_some_and(|ends| ends.iter().any(|&end| end != Some(own)));
        Some(Self { words: own, is_open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::estimate::Interval;

    #[test]
    fn a_divergence_has_words_and_an_interval_across_a_limit_leaves_them_open() {
        let of = |value: f64, low: f64, high: f64| {
            let interval = Some(Interval { low, high });
            let found = InWords::of(Estimate { value, interval, n: 9 }).unwrap();
            (found.words, found.is_open)
        };
        let [near_lossless, very_good, good, noticeable, severe] = WORDS.map(|(words, _)| words);
        assert_eq!(of(0.0, 0.0, 0.0), (near_lossless, false));
        let (limit, next) = (WORDS[0].1, WORDS[1].1);
        assert_eq!(of(limit, limit * 0.9, limit), (near_lossless, false));
        assert_eq!(of(limit * 1.01, limit * 0.99, limit * 1.03), (very_good, true));
        assert_eq!(of(next * 1.5, next * 1.4, next * 1.6), (good, false));
        assert_eq!(of(WORDS[3].1, WORDS[3].1, WORDS[3].1), (noticeable, false));
        assert_eq!(of(9.0, 8.0, 10.0), (severe, false));
        assert_eq!(InWords::of(Estimate::single(f64::NAN)), None);
    }
}
