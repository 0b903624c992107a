//! Task jobs: the questions of an experiment's tasks, where workers can read them.

use super::quality::QualityError;
use crate::experiment::resolved::Experiment;
use crate::experiment::tasks::{CorpusPlan, Question};
use crate::model::artifact::{Artifact, ArtifactRef};
use crate::model::cache::{Cache, Scratch};
use crate::workload::jobs::TaskJob;
use crate::workload::tasks::retrieve::CorpusJob;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The jobs of all tasks, by model; their files are deleted with it.
#[derive(Debug)]
pub struct TaskInputs {
    jobs: Vec<Vec<TaskJob>>,
    _files: Files,
}

/// Lists that workers read, each written once, by what tells them apart.
#[derive(Debug, Default)]
struct Files(Vec<(String, ArtifactRef, Scratch)>);

impl Files {
    /// The file of a list.
    fn of<T: Serialize>(
        &mut self,
        cache: &Cache,
        checksum: &str,
        list: &[T],
    ) -> Result<ArtifactRef, QualityError> {
        if let Some((_, file, _)) = self.0.iter().find(|(known, ..)| known == checksum) {
            return Ok(file.clone());
        }
        let written = cache.scratch("questions")?;
        // Plain data with string keys always serializes.
        let json = serde_json::to_vec(list).unwrap_or_default();
        fs::write(written.path(), &json)
            .map_err(|source| QualityError::Write { path: written.path().to_owned(), source })?;
        let file = ArtifactRef::text(&json, written.path());
        self.0.push((checksum.to_owned(), file.clone(), written));
        Ok(file)
    }
}

/// The pictures that questions show.
fn pictures(folder: &Path, questions: &[Question]) -> ArtifactRef {
    let pictures = questions.iter().filter_map(Question::picture);
    let files: BTreeMap<String, String> =
        pictures.map(|picture| (picture.name.clone(), picture.checksum.clone())).collect();
    ArtifactRef::folder(folder, &files)
}

/// What a worker needs to find passages; which model embeds them is filled in with the visit.
fn corpus_job(
    cache: &Cache,
    corpus: &CorpusPlan,
    files: &mut Files,
) -> Result<CorpusJob, QualityError> {
    let encoder = corpus.encoder.as_deref();
    let encoder_checksum =
        encoder.map(|path| cache.checksum(path, &mut |_| ())).transpose()?.unwrap_or_default();
    Ok(CorpusJob {
        passages: files.of(cache, &corpus.checksum, &corpus.passages)?,
        prefix: corpus.prefix.clone(),
        chunk_tokens: corpus.chunk_tokens,
        index: ArtifactRef::place("indexes", &cache.indexes()?),
        checksum: format!("{}-{encoder_checksum}", corpus.checksum),
        encoder: encoder.map(|path| ArtifactRef::input(&encoder_checksum, path, 0)),
        template: corpus.template.clone(),
        top: corpus.top,
    })
}

impl TaskInputs {
    /// Writes the questions of every task; those of a task in several formats or of several models
    /// once.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn new(cache: &Cache, experiment: &Experiment) -> Result<Self, QualityError> {
        let mut files = Files::default();
        let models = 0..experiment.models.len();
        let mut jobs: Vec<Vec<TaskJob>> = vec![Vec::new(); models.len()];
        let tasks = models.flat_map(|model| {
            experiment.workloads_of(model).tasks.iter().map(move |it| (model, it))
        });
        for (model, task) in tasks {
            let path = files.of(cache, &task.checksum, &task.questions)?;
            let corpus = match &task.corpus {
                None => None,
                Some(corpus) => Some(corpus_job(cache, corpus, &mut files)?),
            };
            jobs[model].push(TaskJob {
                name: task.name,
                questions: path,
                answering: task.answering.clone(),
                metrics: task.metrics.clone(),
                format: task.format,
                chat_template_kwargs: task.chat_template_kwargs.clone(),
                separator: task.separator.clone(),
                corpus,
                pictures: task.pictures.as_deref().map(|folder| pictures(folder, &task.questions)),
                projector: None,
            });
        }
        Ok(Self { jobs, _files: files })
    }

    /// The jobs of the model at `position`, in the order of the experiment, for a variant with this
    /// checksum: where it embeds itself, the index of the passages is its own. `projector` is what it
    /// sees pictures with.
    #[must_use]
    pub fn jobs(
        &self,
        position: usize,
        variant_checksum: &str,
        projector: Option<&Artifact>,
    ) -> Vec<TaskJob> {
        let mut jobs = self.jobs.get(position).cloned().unwrap_or_default();
        for job in jobs.iter_mut().filter(|job| job.pictures.is_some()) {
            job.projector = projector.map(Artifact::as_input);
        }
        for corpus in jobs.iter_mut().filter_map(|job| job.corpus.as_mut()) {
            if corpus.encoder.is_none() {
                corpus.checksum.push_str(variant_checksum);
            }
            let name = Sha256::digest(corpus.checksum.as_bytes());
            let name = name.iter().take(16).fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
            let name = format!("{name}.index");
            corpus.index = ArtifactRef::place(&name, &corpus.index.path.join(&name));
        }
        jobs
    }
}
