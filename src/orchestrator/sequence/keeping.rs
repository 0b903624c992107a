//! Which files stay: where not all do, a variant is fetched or made at its turn and deleted after its last visit.

use super::Benchmark;
use crate::experiment::resolved::Keep;
use crate::host::Host;
use crate::model::cache::{PassingFile, PassingFiles};
use crate::orchestrator::event::SequenceError;
use crate::orchestrator::plan::Origin;
use crate::orchestrator::schedule::PlannedVisit;
use crate::results::summary::Summary;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The files of a run that do not stay; `None`: all do.
pub(super) struct Keeping(Option<Passing>);

struct Passing {
    files: PassingFiles,
    /// Variants whose files this process has made sure of.
    there: BTreeSet<usize>,
}

impl<H: Host> Benchmark<'_, H> {
    /// Makes all variants that will be visited, in that order, if all stay.
    pub(super) async fn prepare(&mut self, variants: Vec<usize>) -> Result<Keeping, SequenceError> {
        if !self.experiment.keep.is_all() {
            let files = self.cache.passing(&self.run.id);
            return Ok(Keeping(Some(Passing { files, there: BTreeSet::new() })));
        }
        for variant in variants {
            self.note_time();
            if self.strategy.has_time_for_file(&self.known(), variant) {
                self.make_variant(variant).await?;
            }
        }
        Ok(Keeping(None))
    }

    /// Makes sure of the file of a variant whose turn it is.
    pub(super) async fn at_turn(
        &mut self,
        visit: PlannedVisit,
        keeping: &mut Keeping,
    ) -> Result<(), SequenceError> {
        let Some(passing) = &mut keeping.0 else { return Ok(()) };
        let variant = self.plan.trials[visit.trial].variant;
        let artifact = self.run.trials[visit.trial].artifact.take().filter(|it| !it.deleted);
        if artifact.is_some() && !passing.there.insert(variant) {
            self.run.trials[visit.trial].artifact = artifact;
            return Ok(());
        }
        passing.there.insert(variant);
        for file in self.own_files(variant).into_iter().chain(self.source_files(variant)) {
            passing.files.add(file)?;
        }
        self.make_variant(variant).await
    }

    /// Deletes what no visit needs any more.
    pub(super) fn delete_after(&mut self, keeping: &mut Keeping) -> Result<(), SequenceError> {
        let Some(passing) = &mut keeping.0 else { return Ok(()) };
        // What was interrupted is visited again.
        if self.host.is_interrupted() {
            return Ok(());
        }
        let ahead = self.strategy.ahead(&self.known());
        let is_sound = |visit: &&PlannedVisit| self.run.trials[visit.trial].failure.is_none();
        let ahead = ahead.iter().filter(is_sound).map(|it| self.plan.trials[it.trial].variant);
        let mut needed: BTreeSet<PathBuf> = BTreeSet::new();
        for variant in ahead.chain(self.best()).collect::<BTreeSet<usize>>() {
            let is_there = passing.there.contains(&variant);
            let source = if is_there { Vec::new() } else { self.source_files(variant) };
            let files = self.own_files(variant).into_iter().chain(source);
            needed.extend(files.map(|file| file.path().to_owned()));
        }
        let deleted = passing.files.delete_but(|path| needed.contains(path))?;
        for trial in 0..self.run.trials.len() {
            let artifact = self.run.trials[trial].artifact.as_mut();
            let Some(artifact) = artifact.filter(|it| deleted.contains(&it.path)) else { continue };
            artifact.deleted = true;
            self.tell_trial(trial)?;
        }
        Ok(())
    }

    /// At the end: deletes what is left over, and makes again what is recommended after all.
    pub(super) async fn keep_what_stays(
        &mut self,
        keeping: &mut Keeping,
    ) -> Result<(), SequenceError> {
        self.delete_after(keeping)?;
        let Some(Passing { mut files, .. }) = keeping.0.take() else { return Ok(()) };
        let best = self.best();
        let mut stay = BTreeSet::new();
        for &variant in &best {
            stay.extend(self.own_files(variant).iter().map(|file| file.path().to_owned()));
            let mut trials = self.plan.trials.iter().zip(&self.run.trials);
            let is_deleted = trials.any(|(planned, trial)| {
                let is_gone = trial.artifact.as_ref().is_some_and(|artifact| artifact.deleted);
                planned.variant == variant && is_gone
            });
            if is_deleted {
                for file in self.source_files(variant) {
                    files.add(file)?;
                }
                self.make_variant(variant).await?;
            }
        }
        files.delete_but(|path| stay.contains(path))?;
        files.forget()?;
        Ok(())
    }

    /// The variants that stay by what is known now: the recommended ones, and all of a model that nothing is
    /// recommended of.
    fn best(&self) -> BTreeSet<usize> {
        let mut best = BTreeSet::new();
        if self.experiment.keep != Keep::Best {
            return best;
        }
        let summary = Summary::of(&self.run);
        for (at, planned) in self.plan.trials.iter().enumerate() {
            let name = &self.run.trials[at].model;
            let model = summary.models.iter().find(|model| model.name == *name);
            let choice = model.and_then(|model| model.choice.as_ref());
            if choice.is_none_or(|choice| choice.row == at) {
                best.insert(planned.variant);
            }
        }
        best
    }

    /// The files of a variant that are not the user's.
    fn own_files(&self, variant: usize) -> Vec<PassingFile> {
        match &self.plan.variants[variant].origin {
            Origin::Ready(_) => Vec::new(),
            Origin::Remote(_, remote) => remote.places(&self.files.hub),
            Origin::Make { key, .. } => vec![PassingFile::Made(self.cache.variant(key).path())],
        }
    }

    /// The files that a variant is made from and that are fetched for it.
    fn source_files(&self, variant: usize) -> Vec<PassingFile> {
        match &self.plan.variants[variant].origin {
            Origin::Make { remote: Some(remote), key, .. }
                if !self.cache.variant(key).path().exists() =>
            {
                remote.places(&self.files.hub)
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::WorkerMessage;
    use crate::orchestrator::scripted::Fault;
    use crate::orchestrator::sequence::harness::{Harness, nothing_goes_wrong, nth};
    use crate::results::record::RunRecord;
    use std::path::Path;

    fn harness(keep: Keep) -> Harness {
        Harness::of(&["Q8_0", "F16", "Q4_0"]).with_quality().change(|it| it.keep = keep)
    }

    /// The labels of the variants whose files are there.
    fn there(run: &RunRecord) -> Vec<&str> {
        let artifact = |trial: &&crate::results::record::TrialRecord| {
            let artifact = trial.artifact.as_ref().unwrap();
            assert_eq!(artifact.deleted, !artifact.path.exists());
            artifact.path.exists()
        };
        run.trials.iter().filter(artifact).map(|trial| trial.label.as_str()).collect()
    }

    fn files_below(folder: &Path) -> usize {
        std::fs::read_dir(folder).map_or(0, |files| files.flatten().count())
    }

    const ONE_BY_ONE: [&str; 11] = [
        "F16 quality, writes",
        "F16 tg4×2",
        "F16 tg4×2",
        "make Q8_0",
        "Q8_0 quality, reads F16",
        "Q8_0 tg4×2",
        "Q8_0 tg4×2",
        "make Q4_0",
        "Q4_0 quality, reads F16",
        "Q4_0 tg4×2",
        "Q4_0 tg4×2",
    ];

    #[test]
    fn where_none_is_kept_one_variant_is_done_and_deleted_before_the_next_is_made() {
        let mut harness = harness(Keep::None);
        let shown = harness.run(nothing_goes_wrong);
        assert_eq!(shown.jobs, ONE_BY_ONE);
        assert_eq!(there(&shown.run), ["F16"], "the user's own file stays");
        let cache = harness.folder.path().join("cache");
        assert_eq!(
            [files_below(&cache.join("variants")), files_below(&cache.join("passing"))],
            [0, 0]
        );
        assert!(shown.run.drift_controls.is_empty() && shown.run.finished.is_some());
    }

    #[test]
    fn what_was_made_before_stays() {
        let mut harness = Harness::of(&["Q8_0"]);
        harness.run(nothing_goes_wrong);
        harness.stored = None;
        let mut harness = harness.change(|it| it.keep = Keep::None);
        assert_eq!(there(&harness.run(nothing_goes_wrong).run), ["Q8_0"]);
    }

    #[test]
    fn the_recommended_variant_stays_and_without_a_recommendation_all_do() {
        let mut compared = harness(Keep::Best);
        let run = compared.run(nothing_goes_wrong).run;
        let summary = Summary::of(&run);
        let chosen = run.trials[summary.models[0].choice.as_ref().unwrap().row].label.as_str();
        let mut expected = vec![chosen, "F16"];
        expected.sort_by_key(|label| run.trials.iter().position(|trial| trial.label == *label));
        expected.dedup();
        assert_eq!(there(&run), expected);
        let mut alone = Harness::of(&["Q8_0", "Q4_0"]).change(|it| it.keep = Keep::Best);
        assert_eq!(there(&alone.run(nothing_goes_wrong).run), ["Q8_0", "Q4_0"]);
    }

    #[test]
    fn a_run_that_goes_on_makes_what_it_needs_and_deletes_what_it_made_before() {
        let mut harness = harness(Keep::None);
        let stop = Fault::After(2, WorkerMessage::Interrupted);
        let first = harness.run(nth(2, "Q8_0 tg4×2", stop));
        assert_eq!(
            there(&RunRecord { trials: first.run.trials[..2].to_vec(), ..first.run }),
            ["Q8_0", "F16"]
        );
        let second = harness.run(nothing_goes_wrong);
        // What the reference wrote down is gone with the process.
        assert_eq!(
            second.jobs,
            [
                "F16 quality, writes",
                "Q8_0 tg4×2",
                "make Q4_0",
                "Q4_0 quality, reads F16",
                "Q4_0 tg4×2",
                "Q4_0 tg4×2"
            ]
        );
        assert_eq!(there(&second.run), ["F16"]);
    }
}
