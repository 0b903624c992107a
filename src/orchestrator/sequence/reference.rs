//! What becomes of a comparison whose reference cannot be computed: the next most precise trial takes its place.

use super::Benchmark;
use crate::experiment::workloads::Stage;
use crate::host::Host;
use crate::orchestrator::event::SequenceError;
use crate::worker::protocol::Phase;

impl<H: Host> Benchmark<'_, H> {
    /// A resumed run goes on with the references that it had.
    pub(super) fn take_stored_references(&mut self) {
        for (planned, stored) in self.plan.trials.iter_mut().zip(&self.run.trials) {
            planned.is_reference = stored.is_reference;
        }
    }

    /// Replaces references that nobody named and that have no quality, before anything was compared with them. Where nothing
    /// is left to take the place, the first of them is the reference again.
    pub(super) fn replace_lost_references(&mut self) -> Result<(), SequenceError> {
        for reference in 0..self.plan.trials.len() {
            if !self.plan.trials[reference].is_reference || !self.may_be_replaced(reference) {
                continue;
            }
            let first = self.run.trials[reference].stands_in_for.take();
            let next = self
                .next_reference(reference)
                .or_else(|| self.of_label(reference, first.as_ref()?));
            let Some(next) = next else { continue };
            let label = first.unwrap_or_else(|| self.run.trials[reference].label.clone());
            for (trial, is_reference) in [(reference, false), (next, true)] {
                self.plan.trials[trial].is_reference = is_reference;
                self.run.trials[trial].is_reference = is_reference;
            }
            if self.run.trials[next].label != label {
                self.run.trials[next].stands_in_for = Some(label);
            }
            self.tell_trial(reference)?;
            self.tell_trial(next)?;
        }
        Ok(())
    }

    fn may_be_replaced(&self, reference: usize) -> bool {
        let model = self.plan.trials[reference].model_position;
        let workloads = self.experiment.workloads_of(model);
        let compares = workloads.has(Stage::Quality) && workloads.compare();
        compares && self.experiment.models[model].reference.is_none() && self.is_lost(reference)
    }

    /// Whether a trial has no quality and will have none.
    fn is_lost(&self, trial: usize) -> bool {
        let trial = &self.run.trials[trial];
        // Logits that are no numbers, say.
        let was_visited = trial.failed_workloads.iter().any(|it| it.phase == Phase::Quality);
        !trial.has_quality() && (trial.failure.is_some() || was_visited)
    }

    /// The most precise trial that can still be computed, in the same settings, if another variant is left to be compared with
    /// it and none was compared with the lost one.
    fn next_reference(&self, lost: usize) -> Option<usize> {
        let planned = &self.plan.trials;
        let model = planned[lost].model_position;
        let of_model =
            |&trial: &usize| planned[trial].model_position == model && !self.is_lost(trial);
        let left: Vec<usize> = (0..planned.len()).filter(of_model).collect();
        let is_compared = |&trial: &usize| {
            let trial = &self.run.trials[trial];
            let quality = trial.quality.as_ref();
            quality.is_some_and(|it| it.divergence.is_some()) || trial.embedding_quality.is_some()
        };
        let variants = left.iter().map(|&trial| planned[trial].variant);
        let is_one = variants.clone().min() == variants.max();
        if is_one || left.iter().any(is_compared) {
            return None;
        }
        let same = |&&trial: &&usize| planned[trial].settings == planned[lost].settings;
        let rank = |&&trial: &&usize| self.plan.variant_of(trial).reference_rank();
        left.iter().filter(same).min_by_key(rank).copied()
    }

    /// The trial of a label in the model and the settings of another.
    fn of_label(&self, other: usize, label: &str) -> Option<usize> {
        let planned = &self.plan.trials;
        (0..planned.len()).find(|&trial| {
            planned[trial].model_position == planned[other].model_position
                && planned[trial].settings == planned[other].settings
                && self.run.trials[trial].label == label
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::harness::{Harness, nth};
    use crate::host::{Exit, WorkerMessage};
    use crate::orchestrator::scripted::Fault;

    #[test]
    fn the_next_most_precise_takes_the_place_of_a_reference_that_cannot_be_computed() {
        let fault = || Fault::After(3, WorkerMessage::Ended(Exit::default()));
        let harness = || Harness::of(&["F16", "Q4_0", "Q8_0"]).with_quality();
        let shown = harness().run(nth(1, "F16 quality, writes", fault()));
        let jobs: Vec<&str> =
            shown.jobs.iter().map(String::as_str).filter(|job| job.contains("quality")).collect();
        assert_eq!(
            jobs,
            ["F16 quality, writes", "Q8_0 quality, writes", "Q4_0 quality, reads Q8_0"]
        );
        let [lost, compared, next] = [0, 1, 2].map(|trial| &shown.run.trials[trial]);
        assert!(!lost.is_reference && next.is_reference);
        assert_eq!(next.stands_in_for.as_deref(), Some("F16"));
        assert!(compared.quality.as_ref().unwrap().divergence.is_some());
        // A reference that was named is what is meant, and nothing else.
        let named = harness()
            .change(|experiment| experiment.models[0].reference = Some("F16".parse().unwrap()))
            .run(nth(1, "F16 quality, writes", fault()));
        assert!(named.run.trials[0].is_reference);
        // Where nothing is left to compare, it stays the first.
        let none = harness().run(move |job| match job {
            "F16 quality, writes" | "Q8_0 quality, writes" => fault(),
            _ => Fault::None,
        });
        let references: Vec<bool> =
            none.run.trials.iter().map(|trial| trial.is_reference).collect();
        assert_eq!(references, [true, false, false]);
        assert!(none.run.trials.iter().all(|trial| trial.stands_in_for.is_none()));
    }
}
