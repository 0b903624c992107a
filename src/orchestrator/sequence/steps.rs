//! Quality in steps: the figures are those of one pass over the text.

use super::exact::{measured, measured_by, variants};
use super::*;
use crate::engine::toy::Parameters;
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::workload::measured::Quality;

/// Quality of every trial in one visit.
struct AtOnce;

impl Strategy for AtOnce {
    fn next(&mut self, known: &Known<'_>) -> Step {
        let trial = known.run.trials.iter().position(|trial| !trial.has_quality());
        let purpose = Purpose::Quality { until: None };
        trial.map_or(Step::Done, |trial| Step::Visit(PlannedVisit { trial, purpose }))
    }

    fn ahead(&self, _known: &Known<'_>) -> Vec<PlannedVisit> {
        (0..2).map(|trial| PlannedVisit { trial, purpose: Purpose::Tasks }).collect()
    }
}

#[test]
fn figures_of_steps_are_those_of_one_pass() {
    let variants = variants().map(|(label, it)| {
        let odd = Some(if label == "F16" { 0.5 } else { 0.49 });
        (label, Parameters { odd, ..it })
    });
    let mut random = fastrand::Rng::with_seed(7);
    let text: String = (0..8 * 200).map(|_| random.lowercase()).collect();
    let change = |experiment: &mut Experiment| {
        let quality = experiment.workloads.quality.as_mut().unwrap();
        quality.text.clone_from(&text);
        quality.precision = Some(0.1);
    };
    let [reference, whole] = in_steps_as_at_once(&variants, change);
    assert!(reference.chunks < whole.chunks);
}

/// Two variants in steps have the figures that they have in one pass; returns the reference's of both.
pub(super) fn in_steps_as_at_once(
    variants: &[(&str, Parameters)],
    change: impl Fn(&mut Experiment),
) -> [Quality; 2] {
    let steps = measured(variants, &change);
    let once = measured_by(Box::new(AtOnce), variants, &change);
    let quality = |run: &RunRecord, trial: usize| {
        let found = run.trials[trial].quality.clone().unwrap();
        Quality { seconds: 0.0, reference_store: None, ..found }
    };
    assert!(steps.trials[1].stages.len() > 1, "{:?}", quality(&steps, 1));
    assert_eq!(quality(&steps, 1), quality(&once, 1));
    let [reference, whole] = [&steps, &once].map(|run| quality(run, 0));
    assert!(quality(&steps, 1).chunks <= reference.chunks);
    assert_eq!(reference.chunk_nll, whole.chunk_nll[..reference.chunk_nll.len()]);
    [reference, whole]
}
