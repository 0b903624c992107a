//! Races: several candidates measured in the same rounds, the first of them what all are compared with.
//!
//! What is compared are logarithms of speeds, as differences within a round. Their spread is taken to be the same for
//! all candidates and pooled over them, since each alone has too few rounds to tell it.

use super::interval::one_sided_t;
use super::sample::to_f64;
use super::spread::Spread;
use std::collections::BTreeMap;

/// Logarithms of the speeds of a candidate, by round.
pub type Course = BTreeMap<u32, f64>;

/// A mean of differences within rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lead {
    /// The mean, in logarithms.
    pub mean: f64,
    /// Rounds that both were measured in, at least 1.
    pub rounds: usize,
}

/// What was measured of all candidates, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Race {
    /// One for each.
    pub courses: Vec<Course>,
}

impl Race {
    /// How far one is ahead of another; `None`: they met in no round.
    pub fn lead(&self, one: usize, other: usize) -> Option<Lead> {
        let differences = self.differences(one, other);
        let rounds = differences.len();
        let mean = differences.iter().sum::<f64>() / to_f64(rounds);
        (rounds > 0).then_some(Lead { mean, rounds })
    }

    fn differences(&self, one: usize, other: usize) -> Vec<f64> {
        let (Some(one), Some(other)) = (self.courses.get(one), self.courses.get(other)) else {
            return Vec::new();
        };
        one.iter().filter_map(|(round, own)| Some(own - other.get(round)?)).collect()
    }

    /// The spread of a difference within a round, from all that met the first in several rounds; `None`: there are none.
    pub fn spread(&self) -> Option<Spread> {
        let (mut squares, mut freedom) = (0.0, 0);
        for one in 1..self.courses.len() {
            let differences = self.differences(one, 0);
            if differences.len() > 1 {
                let mean = differences.iter().sum::<f64>() / to_f64(differences.len());
                squares += differences.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
                freedom += differences.len() - 1;
            }
        }
        (freedom > 0)
            .then(|| Spread { deviation: (squares / to_f64(freedom)).sqrt(), degrees: freedom })
    }
}

impl Spread {
    /// Standard error of a lead.
    pub fn standard_error(&self, lead: Lead) -> f64 {
        self.deviation / to_f64(lead.rounds).sqrt()
    }

    /// Half the width of a lead's 95 % interval, when so many are looked at (Bonferroni).
    pub fn half_width(&self, lead: Lead, comparisons: usize) -> f64 {
        let probability = 0.025 / to_f64(comparisons.max(1));
        one_sided_t(probability, self.degrees) * self.standard_error(lead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn race(courses: &[&[f64]]) -> Race {
        let course = |values: &&[f64]| (0..).zip(values.iter().copied()).collect();
        Race { courses: courses.iter().map(course).collect() }
    }

    #[test]
    fn what_slows_a_round_slows_all_in_it() {
        let race = race(&[&[1.0, 0.5, 0.8], &[1.1, 0.6, 0.9], &[0.9, 0.4]]);
        let lead = race.lead(1, 0).unwrap();
        assert!((lead.mean - 0.1).abs() < 1e-12 && lead.rounds == 3);
        assert!((race.lead(2, 1).unwrap().mean + 0.2).abs() < 1e-12);
        assert!(race.spread().unwrap().half_width(lead, 2) < 1e-9);
        assert_eq!(race.lead(3, 0), None);
    }

    #[test]
    fn the_spread_is_pooled() {
        // Differences −0.1, 0.1 and 0, 0.2: each has a variance of 0.02 around its mean.
        let race = race(&[&[0.0, 0.0], &[-0.1, 0.1], &[0.0, 0.2]]);
        let spread = race.spread().unwrap();
        assert!((spread.deviation.powi(2) - 0.02).abs() < 1e-12);
        assert_eq!(spread.degrees, 2);
        let lead = race.lead(2, 0).unwrap();
        assert!((spread.standard_error(lead) - 0.1).abs() < 1e-12);
        // SciPy: stats.t.ppf(0.975, 2) is 4.302652730, at 0.9875 it is 6.205346817.
        assert!((spread.half_width(lead, 1) - 0.430_265_273).abs() < 1e-6);
        assert!((spread.half_width(lead, 2) - 0.620_534_682).abs() < 1e-6);
    }

    #[test]
    fn one_round_tells_no_spread() {
        assert_eq!(race(&[&[1.0], &[2.0]]).spread(), None);
    }
}
