//! Which variants are worth a look (the Pareto front) and which one to take (the best trade-off).

use super::figure::{Figure, Relation};
use crate::statistics::estimate::{Estimate, Interval};
use serde::Serialize;

/// What a variant is judged by. A part that no variant of a run has takes no part.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Position of the trial.
    pub row: usize,
    /// Bytes of the file.
    pub size: Option<Figure>,
    /// Tokens per second of generation.
    pub speed: Option<Figure>,
    /// Mean divergence from the reference, nats per token; the reference's is exactly 0. If no
    /// divergence was measured: perplexity.
    pub loss: Option<Figure>,
    /// Whether `loss` is perplexity, whose logarithm is in nats per token.
    pub loss_is_perplexity: bool,
}

/// The best trade-off.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Position of the trial.
    pub row: usize,
    /// Trials whose worth cannot be told apart from the best one's, the chosen one left out, in the
    /// order of the candidates.
    pub equals: Vec<usize>,
    /// Whether speeds decide that were measured once, of which nobody knows how noisy they are.
    pub rests_on_single_speeds: bool,
}

/// How many times the loss of a language model changes relatively when its number of weights
/// changes relatively: L(N) ∝ N^−0.076.
///
/// Source: Kaplan et al. 2020, *Scaling Laws for Neural Language Models*, equation 1.1.
const SCALING_EXPONENT: f64 = 0.076;

/// Files whose sizes differ by less than this fraction are equally large: what separates them is a few
/// tensors or a key of the metadata, and nobody chooses by that.
pub const SIZE_THAT_MATTERS: f64 = 0.01;

/// From this fraction of another's divergence on, a lower one is worth a step to a larger file.
const WORTH_A_STEP: f64 = 0.75;

/// How many times what a smaller model would lose, a smaller file may lose and still be advised.
const MOST_PAID: f64 = 2.0;

/// Whether a file is smaller or larger than another by what matters.
pub(super) fn size_relation(own: &Figure, other: &Figure) -> Relation {
    let (own, other) = (own.estimate.value, other.estimate.value);
    if own < other * (1.0 - SIZE_THAT_MATTERS) {
        Relation::Lower
    } else if other < own * (1.0 - SIZE_THAT_MATTERS) {
        Relation::Higher
    } else {
        Relation::Same
    }
}

/// The Pareto front and what is off it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    /// Rows that no other one beats, in the order of the candidates.
    pub members: Vec<usize>,
    /// The others, each with a row that beats it.
    pub beaten: Vec<Beaten>,
}

/// A row that is not on the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Beaten {
    /// The row.
    pub row: usize,
    /// The row that beats it: the one on the front if there is one, the first of them.
    pub by: usize,
}

/// The candidates that no other one beats.
///
/// One beats another if it is smaller by 1 % or more, or faster or closer to the reference beyond the noise,
/// and in nothing worse by as much. What the 95 % intervals leave open counts as equal, so noise
/// neither adds nor removes a variant by itself; but where they are so wide that they leave a divergence a third
/// higher open, as with few chunks, nothing is known of the two and neither beats the other. A figure that is missing
/// in either decides nothing, so candidates should all have the same ones.
#[must_use]
pub fn pareto_front(candidates: &[Candidate]) -> Front {
    let is_beaten = |subject: &Candidate| candidates.iter().any(|other| beats(other, subject));
    let mut front = Front::default();
    let members: Vec<&Candidate> =
        candidates.iter().filter(|candidate| !is_beaten(candidate)).collect();
    // Equality within noise is not transitive, so a circle of candidates that beat each other is
    // conceivable; then none is shown to be inferior.
    if members.is_empty() {
        front.members = candidates.iter().map(|candidate| candidate.row).collect();
        return front;
    }
    for candidate in candidates {
        let beaten_by = |other: &&Candidate| beats(other, candidate);
        let by =
            members.iter().copied().find(beaten_by).or_else(|| candidates.iter().find(beaten_by));
        match by {
            None => front.members.push(candidate.row),
            Some(by) => front.beaten.push(Beaten { row: candidate.row, by: by.row }),
        }
    }
    front
}

fn beats(subject: &Candidate, other: &Candidate) -> bool {
    let relation = |own: Option<&Figure>, others: Option<&Figure>| match (own, others) {
        (Some(own), Some(others)) => own.relation(others),
        _ => Relation::Same,
    };
    let size = match (&subject.size, &other.size) {
        (Some(own), Some(others)) => size_relation(own, others),
        _ => Relation::Same,
    };
    let speed = relation(subject.speed.as_ref(), other.speed.as_ref());
    let loss = match (&subject.loss, &other.loss) {
        (Some(own), Some(others)) if subject.loss_is_perplexity == other.loss_is_perplexity => {
            match own.relation(others) {
                Relation::Same if is_worth_a_step(others, own) => Relation::Higher,
                relation => relation,
            }
        }
        _ => Relation::Same,
    };
    let worse = size == Relation::Higher || speed == Relation::Lower || loss == Relation::Higher;
    let better = size == Relation::Lower || speed == Relation::Higher || loss == Relation::Lower;
    better && !worse
}

/// Whether a loss is lower than another's by so much that a larger file may be worth it.
fn is_worth_a_step(lower: &Figure, than: &Figure) -> bool {
    let (lower, than) = (lower.estimate.value, than.estimate.value);
    lower < than && lower <= WORTH_A_STEP * than
}

/// Whether a larger file is advised for what it loses less than the chosen one.
pub(super) fn is_advised_for_loss(larger: &Candidate, chosen: &Candidate) -> bool {
    let (Some(own), Some(others)) = (&larger.loss, &chosen.loss) else { return false };
    // A perplexity is mostly the text's own; what a step takes off it cannot be a quarter.
    (larger.loss_is_perplexity || is_worth_a_step(own, others))
        && own.relation(others) == Relation::Lower
}

/// Whether a file is advised for its size: it is smaller by what matters, and what it loses more than the chosen one
/// is at most twice what a model with as many fewer weights would lose (see [`best_trade_off`]).
pub(super) fn is_advised_for_size(
    smaller: &Candidate,
    chosen: &Candidate,
    reference_loss: f64,
) -> bool {
    let (Some(own), Some(others)) = (&smaller.size, &chosen.size) else { return false };
    let gain =
        SCALING_EXPONENT * reference_loss * -(own.estimate.value / others.estimate.value).ln();
    size_relation(own, others) == Relation::Lower
        && loss_difference(smaller, chosen).is_some_and(|loss| loss.value <= MOST_PAID * gain)
}

/// The best trade-off of size, speed and divergence; `None` without at least two candidates whose
/// size and loss are known.
///
/// The question is what a saving of memory and time may cost in quality. The yardstick is what
/// people did before quantization, and still can do: take a smaller model. Models of a family lose
/// 0.076 · L nats per token for every factor e by which their weights are fewer (Kaplan et al.
/// 2020), where L is the reference's own loss in nats per token (`reference_loss`, ln of its
/// perplexity). Mean divergence is in the same unit: it is the loss a variant adds on text that the
/// reference writes. A model with fewer weights is smaller and faster by the same factor, so a
/// variant that is s times smaller and t times faster saves as much as one with √(s·t) times fewer
/// weights. The worth of a variant then is, in nats per token,
///
/// ```text
/// worth = 0.076 · L · ½ · ln(s · t) − divergence
/// ```
///
/// and the variant of the highest worth is the one furthest ahead of "just take a smaller model".
/// A worth below 0 means that a smaller model would do better.
///
/// It follows that: the highest worth lies on the Pareto front, since each part rises with a
/// better figure; a variant's worth does not depend on which others were measured (no
/// normalisation to the best or the worst, so adding `Q2_K` to a run moves nothing); and no weight
/// has to be made up. On the figures published with llama.cpp for Llama-3-8B it picks among the
/// 4-bit variants, as people do by experience.
///
/// Noise: two worths whose difference lies within its own 95 % interval (speed paired by round,
/// divergence paired by chunk, combined as independent errors) are equal. All that equal the highest
/// are judged again without their speeds, which are what a restless machine blurs: size and
/// divergence hardly vary from run to run, so neither does the choice, and a speed that says
/// nothing decides nothing. Without speed a file s times smaller is taken to be s times faster, as
/// it is where memory bandwidth limits generation. Among those that noise does not separate even
/// then, the smallest file is chosen; a last tie goes to the first in the experiment. Where
/// something was measured only once, its noise is not known and the value is taken as it is; where such speeds decide, the
/// choice says so.
pub fn best_trade_off(candidates: &[Candidate], reference_loss: f64) -> Option<Choice> {
    let complete: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.size.is_some() && candidate.loss.is_some())
        .collect();
    if complete.len() < 2 {
        return None;
    }
    let price = SCALING_EXPONENT * reference_loss.max(f64::MIN_POSITIVE) / 2.0;
    let with_speed = complete.iter().all(|candidate| candidate.speed.is_some());
    let equals = Worth { price, with_speed }.level_with_the_best(&complete);
    let without_speed = Worth { price, with_speed: false };
    let chosen = smallest(without_speed.level_with_the_best(&equals))?;
    let is_once = |candidate: &&Candidate| {
        candidate.speed.as_ref().is_some_and(|speed| speed.estimate.interval.is_none())
    };
    let rests_on_single_speeds = with_speed
        && complete.iter().any(is_once)
        && smallest(without_speed.level_with_the_best(&complete))?.row != chosen.row;
    let others = equals.iter().map(|candidate| candidate.row).filter(|&row| row != chosen.row);
    Some(Choice { row: chosen.row, equals: others.collect(), rests_on_single_speeds })
}

fn smallest(candidates: Vec<&Candidate>) -> Option<&Candidate> {
    let size = |candidate: &Candidate| {
        candidate.size.as_ref().map_or(f64::INFINITY, |size| size.estimate.value)
    };
    candidates.into_iter().reduce(|best, next| if size(next) < size(best) { next } else { best })
}

/// How worths are compared.
#[derive(Clone, Copy)]
struct Worth {
    /// Nats per token that a factor e in size, or in speed, may cost.
    price: f64,
    /// Whether speeds count, or sizes stand in for them.
    with_speed: bool,
}

impl Worth {
    /// The candidates of the highest worth and all that noise does not separate from it.
    fn level_with_the_best<'a>(self, candidates: &[&'a Candidate]) -> Vec<&'a Candidate> {
        let ahead = |subject: &Candidate, other: &Candidate| {
            self.advantage(subject, other).is_some_and(|advantage| advantage.value > 0.0)
        };
        let Some(top) = candidates
            .iter()
            .copied()
            .reduce(|best, next| if ahead(next, best) { next } else { best })
        else {
            return Vec::new();
        };
        let level = |candidate: &&Candidate| {
            candidate.row == top.row
                || self
                    .advantage(top, candidate)
                    .and_then(|advantage| advantage.interval)
                    .is_some_and(|interval| interval.contains(0.0))
        };
        candidates.iter().copied().filter(level).collect()
    }

    /// By how much the worth of `subject` exceeds that of `other`, nats per token. The interval is
    /// that of what was measured more than once; `None` of it: nothing was.
    fn advantage(self, subject: &Candidate, other: &Candidate) -> Option<Estimate> {
        let smaller = -subject.size.as_ref()?.ratio(other.size.as_ref()?)?.value.ln();
        let faster = if self.with_speed {
            subject.speed.as_ref()?.ratio(other.speed.as_ref()?)?.map(f64::ln)
        } else {
            Estimate::exact(smaller)
        };
        let loss = loss_difference(subject, other)?;
        let value = self.price * (smaller + faster.value) - loss.value;
        let speed_error = faster.half_width().map(|half| half * self.price);
        let known: Vec<f64> = [speed_error, loss.half_width()].into_iter().flatten().collect();
        let interval = (!known.is_empty()).then(|| {
            let half = known.iter().fold(0.0_f64, |sum, part| sum.hypot(*part));
            Interval { low: value - half, high: value + half }
        });
        Some(Estimate { value, interval, n: faster.n.min(loss.n) })
    }
}

/// Difference in loss, nats per token.
fn loss_difference(subject: &Candidate, other: &Candidate) -> Option<Estimate> {
    let (own, others) = (subject.loss.as_ref()?, other.loss.as_ref()?);
    if subject.loss_is_perplexity != other.loss_is_perplexity {
        return None;
    }
    if !subject.loss_is_perplexity {
        return own.difference(others);
    }
    // The ratio of perplexities is paired by chunk where there are chunks.
    own.ratio(others).map(|ratio| ratio.map(f64::ln)).or_else(|| {
        let value = (own.estimate.value / others.estimate.value).ln();
        value.is_finite().then_some(Estimate::single(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::figure::Evidence;
    use crate::statistics::interval::median_estimate;
    use crate::statistics::sample::Sample;

    /// Published with llama.cpp (tools/perplexity/README.md): Llama-3-8B on wikitext-2, size in GiB
    /// and mean KLD, quantized without an importance matrix.
    const LLAMA_3_8B: [(&str, f64, f64); 9] = [
        ("f16", 14.97, 0.0),
        ("q8_0", 7.96, 0.001_355),
        ("q6_K", 6.14, 0.005_452),
        ("q5_K_M", 5.33, 0.010_762),
        ("q5_K_S", 5.21, 0.016_595),
        ("q4_K_M", 4.58, 0.031_273),
        ("q4_K_S", 4.37, 0.043_136),
        ("q3_K_M", 3.74, 0.101_913),
        ("q2_K", 2.96, 0.445_132),
    ];

    /// Its perplexity was 6.2332.
    const LLAMA_3_8B_LOSS: f64 = 1.829_9;

    fn measured(value: f64, half_width: f64) -> Figure {
        let interval = Interval { low: value - half_width, high: value + half_width };
        Figure {
            estimate: Estimate { value, interval: Some(interval), n: 9 },
            evidence: Evidence::IntervalOnly,
        }
    }

    fn candidate(row: usize, size: f64, loss: Figure) -> Candidate {
        Candidate {
            row,
            size: Some(Figure::exact(size)),
            speed: None,
            loss: Some(loss),
            loss_is_perplexity: false,
        }
    }

    fn llama(kld_error: f64) -> Vec<Candidate> {
        let row = |(row, (_, size, kld)): (usize, &(&str, f64, f64))| {
            candidate(row, *size, measured(*kld, kld_error * kld))
        };
        LLAMA_3_8B.iter().enumerate().map(row).collect()
    }

    #[test]
    fn published_figures_lead_to_the_variant_that_people_take() {
        let choice = best_trade_off(&llama(0.001), LLAMA_3_8B_LOSS).unwrap();
        assert_eq!(LLAMA_3_8B[choice.row].0, "q4_K_M");
        assert!(choice.equals.is_empty());
    }

    #[test]
    fn figures_that_noise_does_not_separate_are_equal_and_the_smaller_one_is_taken() {
        let choice = best_trade_off(&llama(0.05), LLAMA_3_8B_LOSS).unwrap();
        assert_eq!(LLAMA_3_8B[choice.row].0, "q4_K_M");
        assert_eq!(
            choice.equals.iter().map(|&row| LLAMA_3_8B[row].0).collect::<Vec<_>>(),
            ["q5_K_M"]
        );
    }

    #[test]
    fn speeds_that_say_nothing_decide_nothing() {
        let mut candidates = llama(0.001);
        for candidate in &mut candidates {
            let rounds =
                [(0, 10.0), (1, 90.0 - 9.0 * f64::from(u32::try_from(candidate.row).unwrap()))];
            let sample = Sample::new(rounds.iter().map(|(_, speed)| *speed)).unwrap();
            candidate.speed = Some(Figure {
                estimate: median_estimate(&sample),
                evidence: Evidence::Rounds(rounds.into_iter().collect()),
            });
        }
        let choice = best_trade_off(&candidates, LLAMA_3_8B_LOSS).unwrap();
        assert_eq!(LLAMA_3_8B[choice.row].0, "q4_K_M");
        assert!(choice.equals.len() > 5, "{choice:?}");
    }

    #[test]
    fn speeds_drowned_in_noise_do_not_make_a_ruined_variant_the_choice() {
        // Two rounds on a machine that was busy with something else.
        let with_speed = |row: usize, size: f64, rounds: [f64; 2], kld: f64| Candidate {
            speed: Some(Figure {
                estimate: Estimate { value: rounds[0], interval: None, n: 2 },
                evidence: Evidence::Rounds([(0, rounds[0]), (1, rounds[1])].into()),
            }),
            ..candidate(row, size, measured(kld, 0.02 * kld))
        };
        let variants = [
            with_speed(0, 12.3, [166.0, 8.7], 0.0),
            with_speed(1, 4.0, [9.0, 107.0], 0.076),
            with_speed(2, 2.8, [433.0, 169.0], 1.1),
        ];
        let choice = best_trade_off(&variants, 2.29).unwrap();
        assert_eq!(choice.row, 1);
    }

    #[test]
    fn a_choice_by_speeds_that_were_measured_once_says_so() {
        // The smaller one would be taken by its size, and the larger one generates twice as fast.
        let once = |row: usize, size: f64, speed: f64, half: Option<f64>| Candidate {
            speed: Some(match half {
                Some(half) => measured(speed, half),
                None => Figure {
                    estimate: Estimate::single(speed),
                    evidence: Evidence::Rounds([(0, speed)].into()),
                },
            }),
            ..candidate(row, size, measured(0.01 + 0.001 * size, 1e-5))
        };
        let choice = |half: Option<f64>, faster: f64| {
            best_trade_off(&[once(0, 4.0, 10.0 * faster, half), once(1, 3.0, 10.0, half)], 2.0)
                .unwrap()
        };
        let single = choice(None, 2.0);
        assert_eq!((single.row, single.rests_on_single_speeds), (0, true));
        let known = choice(Some(0.1), 2.0);
        assert_eq!((known.row, known.rests_on_single_speeds), (0, false));
        // Where speed changes nothing, that it was measured once does not, either.
        let same = choice(None, 1.0);
        assert_eq!((same.row, same.rests_on_single_speeds), (1, false));
    }

    #[test]
    fn a_variant_that_loses_more_than_a_smaller_model_would_is_not_chosen() {
        let variants =
            [candidate(0, 8.0, Figure::exact(0.0)), candidate(1, 4.0, measured(0.2, 0.01))];
        assert_eq!(best_trade_off(&variants, 2.0).map(|choice| choice.row), Some(0));
        // 0.076 · 2 · ln 2 is 0.105 nats: what halving a model costs.
        let variants =
            [candidate(0, 8.0, Figure::exact(0.0)), candidate(1, 4.0, measured(0.1, 0.001))];
        assert_eq!(best_trade_off(&variants, 2.0).map(|choice| choice.row), Some(1));
    }

    #[test]
    fn a_smaller_variant_that_diverges_more_beats_nothing() {
        assert_eq!(pareto_front(&llama(0.001)).members, (0..9).collect::<Vec<_>>());
        let larger_and_worse = candidate(9, 5.0, measured(0.05, 0.001));
        let mut candidates = llama(0.001);
        candidates.push(larger_and_worse);
        // Rows 5 and 6 beat it; the first of the front is named.
        assert_eq!(pareto_front(&candidates).beaten, [Beaten { row: 9, by: 5 }]);
    }

    #[test]
    fn candidates_that_are_equal_all_stay() {
        let same = vec![candidate(0, 4.0, measured(0.1, 0.01)); 3];
        assert_eq!(pareto_front(&same).members.len(), 3);
    }

    #[test]
    fn one_candidate_is_no_choice() {
        assert_eq!(best_trade_off(&llama(0.001)[..1], LLAMA_3_8B_LOSS), None);
        assert_eq!(best_trade_off(&[], LLAMA_3_8B_LOSS), None);
    }
}
