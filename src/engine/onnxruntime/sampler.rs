//! The choice of the next token. ONNX Runtime has none; this does what llama.cpp's chain does (top k, top p, temperature,
//! draw), with another generator of random numbers: drawn texts differ between engines, greedy ones do not.

use crate::experiment::workloads::Sampling;

/// Chooses tokens; greedily if nothing else was asked for.
#[derive(Debug, Default)]
pub(super) struct Sampler(Option<(Sampling, fastrand::Rng)>);

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        let draws = sampling.temperature > 0.0;
        let random = || fastrand::Rng::with_seed(u64::from(sampling.seed));
        Self(draws.then(|| (sampling, random())))
    }

    /// A token by its logits.
    pub(super) fn sample(&mut self, logits: &[f32]) -> i32 {
        let chosen = match &mut self.0 {
            None => most_probable(logits),
            Some((sampling, random)) => drawn(logits, *sampling, random.f32()),
        };
        i32::try_from(chosen).unwrap_or(i32::MAX)
    }
}

/// Of equals the first.
fn most_probable(logits: &[f32]) -> usize {
    let mut best = 0;
    for (place, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = place;
        }
    }
    best
}

/// `draw` is between 0 and 1.
fn drawn(logits: &[f32], sampling: Sampling, draw: f32) -> usize {
    let mut ranked: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
    if let Ok(most) = usize::try_from(sampling.top_k)
        && most > 0
    {
        ranked.truncate(most);
    }
    let best = ranked.first().map_or(0.0, |it| it.1);
    let weigh = |ranked: &mut Vec<(usize, f32)>, temperature: f32| {
        ranked.iter().map(|(_, logit)| ((logit - best) / temperature).exp()).collect::<Vec<f32>>()
    };
    let weights = weigh(&mut ranked, 1.0);
    let enough = sampling.top_p * weights.iter().sum::<f32>();
    let mut sum = 0.0;
    let kept = weights.iter().take_while(|weight| {
        let is_kept = sum < enough;
        sum += **weight;
        is_kept
    });
    let kept = kept.count().max(1);
    ranked.truncate(kept);
    let weights = weigh(&mut ranked, sampling.temperature);
    let mut left = draw * weights.iter().sum::<f32>();
    for ((token, _), weight) in ranked.iter().zip(&weights) {
        left -= weight;
        if left <= 0.0 {
            return *token;
        }
    }
    ranked.last().map_or(0, |it| it.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_temperature_the_most_probable_is_taken() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.sample(&[0.0, 3.0, 3.0, 1.0]), 1);
        assert_eq!(Sampler::default().sample(&[f32::NEG_INFINITY, 0.0]), 1);
    }

    #[test]
    fn what_is_cut_off_is_never_drawn_and_the_rest_in_proportion() {
        let logits = [(0.5_f32).ln(), (0.3_f32).ln(), (0.2_f32).ln()];
        let with = |top_k, top_p| Sampling { temperature: 1.0, top_k, top_p, seed: 1 };
        assert_eq!(drawn(&logits, with(0, 1.0), 0.49), 0);
        assert_eq!(drawn(&logits, with(0, 1.0), 0.51), 1);
        assert_eq!(drawn(&logits, with(0, 1.0), 0.99), 2);
        assert_eq!(drawn(&logits, with(2, 1.0), 0.99), 1);
        assert_eq!(drawn(&logits, with(0, 0.5), 0.99), 0);
        assert_eq!(drawn(&logits, with(0, 0.6), 0.99), 1);
        let mut sampler = Sampler::new(with(0, 1.0));
        let counts = (0..2000).filter(|_| sampler.sample(&logits) == 0).count();
        assert!((900..1100).contains(&counts), "{counts}");
    }
}
