//! The job of a task: its questions, and what else it takes, where the worker can read them.

use super::retrieve::CorpusJob;
use super::{TaskRequest, run};
use crate::engine::LoadExtent;
use crate::engine::memory::BufferMemory;
use crate::experiment::tasks::{Answering, CorpusPlan, Question, TaskName, TaskPlan};
use crate::metrics::TaskMetric;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::cache;
use crate::prompt::choice::FormatChoice;
use crate::workload::applicability::{self, Applies};
use crate::workload::jobs::{InputError, Inputs, Target};
use crate::workload::measured::ModelFacts;
use crate::workload::visit::read_list;
use crate::workload::{Measurement, Phase, Visit, Workload, WorkloadError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskJob {
    /// Its name.
    pub name: TaskName,
    /// File with the questions, a list as JSON.
    pub questions: ArtifactRef,
    /// How they are answered.
    pub answering: Answering,
    /// What the answers are measured by.
    pub metrics: Vec<TaskMetric>,
    /// Which format requests are put into.
    pub format: FormatChoice,
    /// What the model's own template is given besides.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// What stands between request and alternative, if it was chosen.
    pub separator: Option<String>,
    /// The passages of a task that finds some.
    pub corpus: Option<CorpusJob>,
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
            name: plan.name,
            questions: list(inputs, &plan.checksum, &plan.questions)?,
            answering: plan.answering.clone(),
            metrics: plan.metrics.clone(),
            format: plan.format,
            chat_template_kwargs: plan.chat_template_kwargs.clone(),
            separator: plan.separator.clone(),
            corpus: corpus.map(|corpus| corpus_job(corpus, target, inputs)).transpose()?,
            pictures: plan.pictures.as_deref().map(|folder| pictures(folder, &plan.questions)),
            projector: plan.pictures.as_ref().and(target.projector.clone()),
        })
    }

    /// Says it of the task if a template is to blame.
    fn answer(&self, visit: &Visit<'_>) -> Result<super::TaskRun, WorkloadError> {
        let prompter = visit.prompter(self.format, &self.chat_template_kwargs)?;
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
            let message = format!("the encoder of task {} is {}", self.name, encoder.class());
            return Err(WorkloadError::Visit(message));
        }
        let request = TaskRequest {
            job: self,
            questions: &questions,
            prompter: &prompter,
            passages: passages.as_deref(),
            encoder: encoder.as_deref(),
        };
        run(visit.model, visit.settings, &request, &mut visit.progress()).map_err(|error| {
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
fn corpus_job(
    corpus: &CorpusPlan,
    target: &Target,
    inputs: &mut Inputs<'_>,
) -> Result<CorpusJob, InputError> {
    let encoder = match corpus.encoder.as_deref() {
        Some(path) => inputs.cache.checksum(path, &mut |_| ())?,
        None => target.checksum.clone(),
    };
    let checksum = format!("{}-{encoder}", corpus.checksum);
    let name = format!("{}.index", &cache::of_bytes(checksum.as_bytes())[..32]);
    Ok(CorpusJob {
        passages: list(inputs, &corpus.checksum, &corpus.passages)?,
        prefix: corpus.prefix.clone(),
        chunk_tokens: corpus.chunk_tokens,
        index: ArtifactRef::place(&name, &inputs.cache.indexes()?.join(&name)),
        checksum,
        encoder: corpus.encoder.as_deref().map(|path| ArtifactRef::input(&encoder, path, 0)),
        template: corpus.template.clone(),
        top: corpus.top,
    })
}

impl Workload for TaskJob {
    fn phase(&self) -> Phase {
        Phase::Task(self.name)
    }

    fn applies(&self, facts: &ModelFacts) -> Applies {
        let sees = self.projector.is_some();
        Applies::unless(applicability::task(&self.answering, facts.class, sees))
    }

    fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let Self { questions, corpus, pictures, projector, .. } = self;
        let mut files = vec![questions];
        files.extend(pictures.iter_mut().chain(projector));
        if let Some(CorpusJob { passages, index, encoder, .. }) = corpus {
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
