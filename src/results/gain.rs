//! Gains: how much faster a trial is under other settings, round by round.

use super::record::{TrialRecord, VisitRecord};
use crate::experiment::tuning::Goal;
use crate::experiment::workloads::SpeedTest;
use crate::statistics::estimate::Estimate;
use crate::statistics::interval::mean_estimate_among;
use crate::statistics::race::Course;
use crate::statistics::sample::{Sample, to_f64};
use crate::workload::measured::Response;

/// Logarithms of a trial's speed by round: of the geometric mean over tests, each with the median of its repetitions.
/// A round without one of the tests has none.
pub fn course(trial: &TrialRecord, tests: &[SpeedTest]) -> Course {
    let of_visit = |visit: &VisitRecord| {
        let rates = tests.iter().map(|&test| {
            let record = visit.speed.iter().find(|record| record.test == test)?;
            let rates = record.samples.iter().map(|sample| sample.rate(test));
            Some(Sample::new(rates)?.median()).filter(|&rate| rate > 0.0)
        });
        let logarithms = rates.map(|rate| rate.map(f64::ln)).collect::<Option<Vec<f64>>>()?;
        (!logarithms.is_empty()).then(|| logarithms.iter().sum::<f64>() / to_f64(logarithms.len()))
    };
    let visits = trial.visits.iter();
    visits.filter_map(|visit| Some((visit.round, of_visit(visit)?))).collect()
}

/// The same of the prompts that were answered: what the goal says of a round's answers. Answers of one token tell
/// nothing of generation.
pub fn answered(trial: &TrialRecord, goal: Goal) -> Course {
    let visits = trial.visits.iter();
    let speed = |visit: &VisitRecord| {
        let speed = speed_of(&visit.responses, goal)?;
        (speed.is_finite() && speed > 0.0).then(|| (visit.round, speed.ln()))
    };
    visits.filter_map(speed).collect()
}

/// The speed of a round's answers: tokens per second, or requests per second where a request is waited for.
pub fn speed_of(responses: &[Response], goal: Goal) -> Option<f64> {
    let reading = || {
        let seconds = last(responses.iter().map(Response::ttft_seconds))?;
        let tokens: u32 = responses.iter().map(|it| it.prompt_tokens).sum();
        Some(f64::from(tokens) / seconds)
    };
    // Answers may differ in length; the time of a token does not depend on it.
    let writing = || {
        let gaps = responses.iter().flat_map(Response::itl_seconds);
        let (sum, count) = gaps.fold((0.0, 0.0), |(sum, count), gap| (sum + gap, count + 1.0));
        (count > 0.0).then(|| to_f64(responses.len()) * count / sum)
    };
    match goal {
        Goal::Prompt => reading(),
        Goal::Generation => writing(),
        Goal::Balanced => Some((reading()? * writing()?).sqrt()),
        Goal::Latency => {
            let first = last(responses.iter().map(Response::ttft_seconds))?;
            let rest = f64::from(ANSWER - 1) * to_f64(responses.len()) / writing()?;
            Some(1.0 / (first + rest))
        }
        Goal::Throughput => {
            let ends = responses.iter().map(|it| it.token_nanoseconds.last());
            #[expect(clippy::cast_precision_loss, reason = "below 2^53 for 100 days")]
            let seconds = last(ends.map(|end| end.map(|&end| end as f64 / 1e9)))?;
            let read: u32 = responses.iter().map(|it| it.prompt_tokens).sum();
            let written: usize = responses.iter().map(|it| it.token_nanoseconds.len()).sum();
            Some((f64::from(read) + to_f64(written)) / seconds)
        }
    }
}

/// Tokens of the answer that a request is waited for with.
pub const ANSWER: u32 = 64;

fn last(times: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    times.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

/// How many times as fast `one` is as `other`: the mean over the rounds of both, in logarithms, with Student's 95 % interval,
/// wider where it is one of several that are looked at.
pub fn gain(one: &Course, other: &Course, among: usize) -> Option<Estimate> {
    let differences = one.iter().filter_map(|(round, own)| Some(own - other.get(round)?));
    let sample = Sample::new(differences)?;
    Some(mean_estimate_among(&sample, among).map(f64::exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(milliseconds: &[u64], prompt_tokens: u32) -> Response {
        Response {
            prompt_id: "p".to_owned(),
            prompt_tokens,
            text: String::new(),
            token_nanoseconds: milliseconds.iter().map(|it| it * 1_000_000).collect(),
            finish_reason: "length".to_owned(),
        }
    }

    #[test]
    fn the_speed_of_answers_is_what_the_goal_says() {
        let one = [response(&[100, 120, 140], 50)];
        let speed = |goal| speed_of(&one, goal).unwrap();
        assert!((speed(Goal::Prompt) - 500.0).abs() < 1e-9);
        assert!((speed(Goal::Generation) - 50.0).abs() < 1e-9);
        assert!((speed(Goal::Balanced) - (500.0_f64 * 50.0).sqrt()).abs() < 1e-9);
        assert!((1.0 / speed(Goal::Latency) - (0.1 + 63.0 * 0.02)).abs() < 1e-9);
        assert!((speed(Goal::Throughput) - 53.0 / 0.14).abs() < 1e-9);
    }

    #[test]
    fn answers_side_by_side_are_counted_together() {
        let two = [response(&[100, 120], 50), response(&[110, 130, 150], 50)];
        let speed = |goal| speed_of(&two, goal).unwrap();
        assert!((speed(Goal::Prompt) - 100.0 / 0.11).abs() < 1e-9);
        assert!((speed(Goal::Generation) - 100.0).abs() < 1e-9);
        assert!((speed(Goal::Throughput) - 105.0 / 0.15).abs() < 1e-9);
    }

    #[test]
    fn an_answer_of_one_token_tells_nothing_of_generation() {
        assert_eq!(speed_of(&[response(&[100], 50)], Goal::Generation), None);
        assert_eq!(speed_of(&[response(&[], 50)], Goal::Prompt), None);
    }

    #[test]
    fn a_gain_is_that_within_rounds() {
        let course =
            |values: &[f64]| (0..).zip(values.iter().map(|it| it.ln())).collect::<Course>();
        let gain = gain(&course(&[20.0, 40.0, 10.0]), &course(&[10.0, 20.0, 5.0, 9.0]), 1).unwrap();
        assert!((gain.value - 2.0).abs() < 1e-12 && gain.n == 3);
    }
}
