//! How many requests side by side are worth it: more of them share what is read of the weights.

use super::fitting::Fitting;
use crate::causes::Problem;
use crate::experiment::resolved::Experiment;
use crate::experiment::tuning::Use;
use crate::experiment::workloads::{SpeedTest, Workloads};
use crate::results::gain::course;
use crate::results::record::RunRecord;
use crate::statistics::sample::Sample;

/// Part of the budget that this may take.
pub(super) const SWEEP: f64 = 0.1;

/// Numbers of requests.
const COUNTS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// Tokens that each generates.
const GENERATED: u32 = 16;

/// Rounds, all of which visit every number.
const ROUNDS: u32 = 3;

/// More requests that gain less than this part in all are not worth their waiting.
const WORTHWHILE: f64 = 0.05;

fn test(used: &Use, parallel: u32) -> SpeedTest {
    SpeedTest {
        generated_tokens: GENERATED,
        depth: used.depth,
        sequences: parallel,
        ..SpeedTest::default()
    }
}

/// The experiment, and the numbers of requests that fit.
pub(super) fn planned(
    search: &Experiment,
    used: &Use,
    fitting: &Fitting,
) -> Result<(Experiment, Vec<u32>), Problem> {
    let counts = fitting.sequences(&COUNTS)?;
    let speed = counts.iter().map(|&count| test(used, count)).collect();
    let experiment = Experiment {
        name: format!("{}, requests", search.name),
        workloads: Workloads { speed, ..Workloads::default() },
        rounds: ROUNDS,
        budget: None,
        ..search.clone()
    };
    Ok((experiment, counts))
}

/// Numbers of requests with their speeds, tokens per second.
pub(super) fn speeds(run: &RunRecord, used: &Use, counts: &[u32]) -> Vec<(u32, f64)> {
    let speed = |&count: &u32| {
        let course = course(run.trials.first()?, &[test(used, count)]);
        Some((count, Sample::new(course.into_values())?.median().exp()))
    };
    counts.iter().filter_map(speed).collect()
}

/// The smallest number that is nearly as fast as the fastest.
pub(super) fn best(speeds: &[(u32, f64)]) -> Option<u32> {
    let most = speeds.iter().map(|(_, speed)| *speed).reduce(f64::max)?;
    let enough = speeds.iter().find(|(_, speed)| *speed >= most * (1.0 - WORTHWHILE));
    enough.map(|(count, _)| *count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_requests_are_taken_only_if_they_gain() {
        assert_eq!(best(&[(1, 10.0), (2, 19.0), (4, 30.0), (8, 31.0), (16, 29.0)]), Some(4));
        assert_eq!(best(&[(1, 10.0), (2, 9.0)]), Some(1));
        assert_eq!(best(&[]), None);
    }
}
