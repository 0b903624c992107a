//! The job of a task: its questions, and what else it takes, where the worker can read them.

use super::retrieve::CorpusFiles;
use super::{TaskRequest, run};
use crate::engine::LoadExtent;
use crate::engine::memory::BufferMemory;
use crate::experiment::tasks::{CorpusPlan, Question, TaskPlan};
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::cache;
use crate::workload::applicability::{self, Applies};
use crate::workload::jobs::{InputError, Inputs, Target};
use crate::workload::measured::ModelFacts;
use crate::workload::visit::read_list;
use crate::workload::{Measurement, Phase, Visit, Workload, WorkloadError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskJob {
    /// The task; its questions and passages are in the files.
    pub plan: TaskPlan,
    /// File with the questions, a list as JSON.
    pub questions: ArtifactRef,
    /// The files of a task that finds passages.
    pub corpus: Option<CorpusFiles>,
    /// The folder at which the paths of pictures begin, of a task that shows some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<ArtifactRef>,
    /// The file of the projector, of a model that sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<ArtifactRef>,
}

impl TaskJob {
    /// The questions of a task in several formats, or of several models, are written once.
    pub(in crate::workload) fn new(
        plan: &TaskPlan,
        target: &Target,
        inputs: &mut Inputs<'_>,
    ) -> Result<Self, InputError> {
        let corpus = plan.corpus.as_ref();
        Ok(Self {
            plan: plan.clone(),
            questions: list(inputs, &plan.checksum, &plan.questions)?,
            corpus: corpus.map(|corpus| corpus_files(corpus, target, inputs)).transpose()?,
            pictures: plan.pictures.as_deref().map(|folder| pictures(folder, &plan.questions)),
            projector: plan.pictures.as_ref().and(target.projector.clone()),
        })
    }

    /// Says it of the task if a template is to blame.
    fn answer(&self, visit: &Visit<'_>) -> Result<super::TaskRun, WorkloadError> {
        let prompter = visit.prompter(self.plan.format, &self.plan.chat_template_kwargs)?;
        let questions: Vec<Question> = read_list(&self.questions)?;
        let corpus = self.corpus.as_ref();
        let passages: Option<Vec<String>> =
            corpus.map(|corpus| read_list(&corpus.passages)).transpose()?;
        let encoder = corpus.and_then(|corpus| corpus.encoder.as_ref()).map(|file| {
            let loaded = visit.engine.load(&file.path, visit.settings, LoadExtent::Everything);
            loaded.map_err(|error| WorkloadError::visit(&error))
        });
        let encoder = encoder.transpose()?;
        if let Some(encoder) = &encoder
            && encoder.class() != ArchitectureClass::EncoderOnly
        {
            let message = format!("the encoder of task {} is {}", self.plan.name, encoder.class());
            return Err(WorkloadError::Visit(message));
        }
        let request = TaskRequest {
            model: visit.model,
            settings: visit.settings,
            job: self,
            questions: &questions,
            prompter: &prompter,
            passages: passages.as_deref(),
            encoder: encoder.as_deref(),
        };
        run(&request, &mut visit.progress()).map_err(|error| {
            if error.is_of_template() {
                WorkloadError::this_one(&error)
            } else {
                WorkloadError::visit(&error)
            }
        })
    }
}

/// A list as JSON, where the worker can read it.
fn list<T: Serialize>(
    inputs: &mut Inputs<'_>,
    checksum: &str,
    list: &[T],
) -> Result<ArtifactRef, InputError> {
    // Plain data with string keys always serializes.
    inputs.file("questions", checksum, || serde_json::to_vec(list).unwrap_or_default())
}

/// The pictures that questions show.
fn pictures(folder: &Path, questions: &[Question]) -> ArtifactRef {
    let pictures = questions.iter().filter_map(Question::picture);
    let files: BTreeMap<String, String> =
        pictures.map(|picture| (picture.name.clone(), picture.checksum.clone())).collect();
    ArtifactRef::folder(folder, &files)
}

/// What a worker needs to find passages. Where the variant embeds them itself, their index is its own.
fn corpus_files(
    corpus: &CorpusPlan,
    target: &Target,
    inputs: &mut Inputs<'_>,
) -> Result<CorpusFiles, InputError> {
    let encoder = match corpus.encoder.as_deref() {
        Some(path) => inputs.cache.checksum(path, &mut |_| ())?,
        None => target.checksum.clone(),
    };
    let checksum = format!("{}-{encoder}", corpus.checksum);
    let name = format!("{}.index", &cache::of_bytes(checksum.as_bytes())[..32]);
    Ok(CorpusFiles {
        passages: list(inputs, &corpus.checksum, &corpus.passages)?,
        index: ArtifactRef::place(&name, &inputs.cache.indexes()?.join(&name)),
        checksum,
        encoder: corpus.encoder.as_deref().map(|path| ArtifactRef::input(&encoder, path, 0)),
    })
}

impl Workload for TaskJob {
    fn phase(&self) -> Phase {
        Phase::Task(self.plan.name)
    }

    fn applies(&self, facts: &ModelFacts) -> Applies {
        let sees = self.projector.is_some();
        Applies::unless(applicability::task(&self.plan.answering, facts.class, sees))
    }

    fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let Self { questions, corpus, pictures, projector, .. } = self;
        let mut files = vec![questions];
        files.extend(pictures.iter_mut().chain(projector));
        if let Some(CorpusFiles { passages, index, encoder, .. }) = corpus {
            files.extend([passages, index].into_iter().chain(encoder));
        }
        files
    }

    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError> {
        let run = self.answer(visit)?;
        visit.observer.measured(Measurement::Task(run.record));
        Ok(run.memory)
    }
}
