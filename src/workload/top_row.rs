//! One position of a reference that is too large to be kept whole: its most probable tokens, and how
//! far a divergence computed from them can be off.

/// The most probable tokens of one position, and what is known of the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct TopRow {
    /// Log-probability of the token that followed in the text.
    pub following: f32,
    /// Probability of all tokens not listed, together.
    pub rest: f32,
    /// Tokens, most probable first.
    pub tokens: Vec<u32>,
    /// Their log-probabilities.
    pub log_probabilities: Vec<f32>,
}

/// A divergence and how far below the true one it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundedDivergence {
    /// A lower bound, nats.
    pub value: f64,
    /// The true value is at most this much higher, nats.
    pub error_bound: f64,
}

impl TopRow {
    /// Keeps the `top` most probable tokens of a whole row of log-probabilities; `following` is the
    /// token that followed in the text.
    #[must_use]
    pub fn of(log_probabilities: &[f32], top: usize, following: i32) -> Self {
        let mut order: Vec<u32> =
            (0..u32::try_from(log_probabilities.len()).unwrap_or(0)).collect();
        let descending = |a: &u32, b: &u32| {
            log_probabilities[*b as usize].total_cmp(&log_probabilities[*a as usize]).then(a.cmp(b))
        };
        if top < order.len() {
            order.select_nth_unstable_by(top, descending);
            order.truncate(top);
        }
        order.sort_unstable_by(descending);
        let kept: f64 =
            order.iter().map(|&token| f64::from(log_probabilities[token as usize]).exp()).sum();
        #[expect(clippy::cast_possible_truncation, reason = "f32 is what is stored")]
        let rest = (1.0 - kept).max(0.0) as f32;
        Self {
            following: usize::try_from(following)
                .ok()
                .and_then(|token| log_probabilities.get(token).copied())
                .unwrap_or(f32::NAN),
            rest: if order.len() == log_probabilities.len() { 0.0 } else { rest },
            log_probabilities: order
                .iter()
                .map(|&token| log_probabilities[token as usize])
                .collect(),
            tokens: order,
        }
    }

    /// `[following, rest, tokens as bits…, log-probabilities…]`.
    #[must_use]
    pub fn encode(&self) -> Vec<f32> {
        [self.following, self.rest]
            .into_iter()
            .chain(self.tokens.iter().map(|&token| f32::from_bits(token)))
            .chain(self.log_probabilities.iter().copied())
            .collect()
    }

    /// Reads what [`Self::encode`] wrote. Too few values make a row that knows nothing.
    #[must_use]
    pub fn decode(values: &[f32]) -> Self {
        let top = values.len().saturating_sub(2) / 2;
        Self {
            following: values.first().copied().unwrap_or(f32::NAN),
            rest: values.get(1).copied().unwrap_or(f32::NAN),
            tokens: values.iter().skip(2).take(top).map(|value| value.to_bits()).collect(),
            log_probabilities: values.iter().skip(2 + top).copied().collect(),
        }
    }

    /// The most probable token.
    #[must_use]
    pub fn most_probable(&self) -> usize {
        self.tokens.first().map_or(0, |&token| token as usize)
    }

    /// KL(reference ‖ variant) as far as this row tells.
    ///
    /// The listed tokens are exact. The rest counts as one outcome, which by the log-sum inequality
    /// gives at most the true value. At least: no token of the rest has more probability than the
    /// last one listed, so its mass lies on at least `rest / that` tokens; the worst case puts it on
    /// those that the variant finds least probable (rounded down, which only widens the bound).
    #[must_use]
    pub fn divergence(&self, logits: &[f32], normaliser: f32) -> BoundedDivergence {
        let log_q =
            |token: usize| f64::from(logits.get(token).copied().unwrap_or(f32::NAN) - normaliser);
        let mut value = 0.0;
        let mut kept_q = 0.0;
        for (&token, &log_p) in self.tokens.iter().zip(&self.log_probabilities) {
            let (log_p, log_q) = (f64::from(log_p), log_q(token as usize));
            value += log_p.exp() * (log_p - log_q);
            kept_q += log_q.exp();
        }
        let rest = f64::from(self.rest);
        if rest <= 0.0 {
            return BoundedDivergence { value, error_bound: 0.0 };
        }
        let rest_q = (1.0 - kept_q).max(f64::MIN_POSITIVE);
        let lumped = rest * (rest.ln() - rest_q.ln());
        let last = f64::from(self.log_probabilities.last().copied().unwrap_or(0.0));
        let mut others = logits.to_vec();
        for &token in &self.tokens {
            if let Some(logit) = others.get_mut(token as usize) {
                *logit = f32::INFINITY;
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the number of tokens"
        )]
        let spread = ((rest / last.exp()).floor().max(1.0) as usize).min(others.len());
        if spread < others.len() {
            others.select_nth_unstable_by(spread, f32::total_cmp);
        }
        #[expect(clippy::cast_precision_loss, reason = "fewer tokens than 2^53")]
        let lowest = others[..spread]
            .iter()
            .filter(|logit| logit.is_finite())
            .map(|logit| f64::from(logit - normaliser))
            .sum::<f64>()
            / spread as f64;
        let worst = rest * (last - lowest);
        BoundedDivergence { value: value + lumped, error_bound: (worst - lumped).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::softmax::{divergence, index_of_maximum, log_softmax, log_sum_exp};
    use proptest::prelude::*;

    fn logits(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() * 12.0 - 6.0).collect()
    }

    proptest! {
        #[test]
        fn the_true_divergence_lies_within_the_bound(
            seed in 0_u64..1000, top in 1_usize..99, noise in 0.0_f32..2.0,
        ) {
            let p = logits(seed, 100);
            let mut random = fastrand::Rng::with_seed(seed + 5000);
            let q: Vec<f32> = p.iter().map(|p| p + noise * (random.f32() - 0.5)).collect();
            let mut log_p = p.clone();
            log_softmax(&mut log_p);
            let normaliser = log_sum_exp(&q);
            let exact = divergence(&log_p, &q, normaliser);
            let row = TopRow::decode(&TopRow::of(&log_p, top, 5).encode());
            let bounded = row.divergence(&q, normaliser);
            prop_assert!(bounded.value <= exact + 1e-5, "{bounded:?} {exact}");
            prop_assert!(exact <= bounded.value + bounded.error_bound + 1e-5, "{bounded:?} {exact}");
            prop_assert_eq!(row.most_probable(), index_of_maximum(&log_p));
        }
    }
}
