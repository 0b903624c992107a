//! The quality job: what is compared with what, and the files that takes.
//!
//! The reference's visit writes its answers and its log-probabilities to scratch files that the visits of the model's
//! other trials read. They are of one model at a time, and gone after the run.

use super::answers::{self, Along, Answered};
use super::{QualityRequest, Reference, run};
use crate::engine::memory::BufferMemory;
use crate::experiment::workloads::{AnswersPlan, QualityPlan, TextDomain};
use crate::causes;
use crate::files::folder_of;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{self, Scratch};
use crate::workload::applicability::{self, Applies};
use crate::workload::encoder_quality::{self, embeddings};
use crate::workload::jobs::{InputError, Inputs, Target};
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::workload::measured::{LeftOut, ModelFacts};
use crate::workload::{Measurement, Phase, Visit, Workload, WorkloadError};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::borrow::Cow;
use std::path::Path;

/// Perplexity and divergence of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityJob {
    /// File with the text.
    pub text: ArtifactRef,
    /// Its parts, if it has several.
    #[serde(default)]
    pub domains: Vec<TextDomain>,
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// What to do about the reference.
    pub reference: ReferenceUse,
    /// Stop once the 95 % interval of the mean KLD is within this fraction of it.
    pub precision: Option<f64>,
    /// Answers that are evaluated, besides the text or in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersUse>,
}

/// What a quality job does about the reference's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswersUse {
    /// What is answered.
    pub plan: AnswersPlan,
    /// Where the reference keeps its answers; `None`: there is no reference.
    pub file: Option<ArtifactRef>,
}

/// What a quality job does about the reference's log-probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reference")]
pub enum ReferenceUse {
    /// Perplexity only.
    None,
    /// This variant is the reference: write its log-probabilities here.
    Write {
        /// The file to make.
        file: ArtifactRef,
        /// Bytes it may take; above it the top K and the tail mass are kept.
        budget_bytes: u64,
    },
    /// Compare with the log-probabilities in this file.
    Read {
        /// The file that the reference's visit wrote.
        file: ArtifactRef,
    },
}

/// The log-probabilities of the reference of the model under way.
#[derive(Debug, Default)]
pub struct ReferenceFiles(Option<WrittenReference>);

#[derive(Debug)]
struct WrittenReference {
    model: usize,
    file: Scratch,
    answers: Scratch,
    /// The reference's visit succeeded: the file is whole.
    complete: bool,
}

impl ReferenceFiles {
    pub(in crate::workload) fn succeeded(&mut self, target: &Target) {
        let current = self.0.iter_mut().filter(|it| it.model == target.model);
        current.for_each(|it| it.complete |= target.is_reference);
    }
}

impl QualityJob {
    pub(in crate::workload) fn new(
        plan: &QualityPlan,
        target: &Target,
        inputs: &mut Inputs<'_>,
    ) -> Result<Self, InputError> {
        let checksum = cache::of_bytes(plan.text.as_bytes());
        let text = inputs.file("evaluation-text", &checksum, || plan.text.clone().into_bytes())?;
        let reference = if !plan.divergence {
            ReferenceUse::None
        } else if target.is_reference {
            // The reference before is no longer needed; its file goes before the next one comes.
            inputs.reference.0 = None;
            let file = inputs.cache.scratch("reference")?;
            let answers = inputs.cache.scratch("answers")?;
            let budget_bytes = plan.reference_budget_bytes.min(room(file.path()));
            let logits = logits(&file);
            let shelved = WrittenReference { model: target.model, file, answers, complete: false };
            inputs.reference.0 = Some(shelved);
            ReferenceUse::Write { file: logits, budget_bytes }
        } else {
            match &inputs.reference.0 {
                Some(it) if it.complete && it.model == target.model => {
                    ReferenceUse::Read { file: logits(&it.file) }
                }
                // The reference failed: perplexity is measured all the same.
                _ => ReferenceUse::None,
            }
        };
        let kept = match (&reference, &inputs.reference.0) {
            (ReferenceUse::None, _) | (_, None) => None,
            (_, Some(it)) => Some(ArtifactRef::place("reference-answers", it.answers.path())),
        };
        let answers = plan.answers.clone().map(|plan| AnswersUse { plan, file: kept });
        let QualityPlan { context, chunks, precision, .. } = *plan;
        let domains = plan.domains.clone();
        Ok(Self { text, domains, context, chunks, reference, precision, answers })
    }
}

/// The one file of log-probabilities that there is at a time, where a job writes or reads it.
fn logits(file: &Scratch) -> ArtifactRef {
    ArtifactRef::place("reference-logits", file.path())
}

/// Half of what is free on the disk of a file, bytes: less of the reference is kept rather than none.
fn room(path: &Path) -> u64 {
    fs4::available_space(folder_of(path)).map_or(u64::MAX, |free| free / 2)
}

impl Workload for QualityJob {
    fn phase(&self) -> Phase {
        Phase::Quality
    }

    fn applies(&self, facts: &ModelFacts) -> Applies {
        // Prompts that are too long are left out one by one.
        if self.answers.is_some() {
            return Applies::Yes;
        }
        let what = || format!("perplexity over chunks of {}", self.context);
        applicability::quality(self.context, facts)
            .map_or(Applies::Yes, |reason| Applies::left_out(what(), reason))
    }

    fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let reference = match &mut self.reference {
            ReferenceUse::None => None,
            ReferenceUse::Write { file, .. } | ReferenceUse::Read { file } => Some(file),
        };
        let answers = self.answers.iter_mut().filter_map(|answers| answers.file.as_mut());
        std::iter::once(&mut self.text).chain(reference).chain(answers).collect()
    }

    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError> {
        let path = &self.text.path;
        let text = std::fs::read_to_string(path).map_err(|error| {
            WorkloadError::Visit(format!("cannot read the text {}: {error}", path.display()))
        })?;
        let along = self.along(visit)?;
        let (text, domains) = match &along {
            // The text is for models that answer nothing.
            Some((_, answers)) if answers.plan.or_text => ("", &[][..]),
            _ => (text.as_str(), self.domains.as_slice()),
        };
        if text.is_empty() && along.is_none() {
            return Ok(Vec::new());
        }
        let request = QualityRequest {
            text,
            domains,
            context: self.context,
            chunks: self.chunks,
            reference: match &self.reference {
                ReferenceUse::None => Reference::None,
                ReferenceUse::Write { file, budget_bytes } => {
                    Reference::Write { path: &file.path, budget_bytes: *budget_bytes }
                }
                ReferenceUse::Read { file } => Reference::Read { path: &file.path },
            },
            precision: self.precision,
            answers: along.as_ref().and_then(|(answered, answers)| {
                let file = &answers.file.as_ref()?.path;
                Some(Along { plan: &answers.plan, answered, file })
            }),
        };
        let Visit { model, settings, observer, .. } = *visit;
        let progress = &mut visit.progress();
        let run = match visit.facts.class {
            ArchitectureClass::DecoderOnly => run(model, settings, request, progress)
                .map_err(|error| WorkloadError::visit(&error))?,
            ArchitectureClass::EncoderDecoder => encoder_quality::answers::run(model, settings, &request, progress)
                .map_err(|error| WorkloadError::visit(&error))?,
            ArchitectureClass::EncoderOnly => {
                let run = embeddings::run(model, settings, &request, progress)
                    .map_err(|error| WorkloadError::visit(&error))?;
                observer.measured(Measurement::EmbeddingQuality(run.quality));
                return Ok(run.memory);
            }
        };
        observer.measured(Measurement::Quality(run.quality));
        Ok(run.memory)
    }
}

impl QualityJob {
    /// The answers along which the model is measured, those of the reference still to be written; none where there is
    /// no reference or it has no chat template, which is told if it was not foreseen.
    fn along(
        &self,
        visit: &Visit<'_>,
    ) -> Result<Option<(Vec<Answered>, &AnswersUse)>, WorkloadError> {
        let Some(answers) = &self.answers else { return Ok(None) };
        let found = match (&self.reference, &answers.file) {
            (ReferenceUse::Write { .. }, Some(file)) => {
                let asked = Self::asked(visit, &answers.plan);
                // What is empty tells the others that there are none.
                let kept = asked.as_deref().unwrap_or_default();
                answers::keep(&file.path, kept).map_err(|error| WorkloadError::visit(&error))?;
                asked
            }
            (ReferenceUse::Read { .. }, Some(file)) => {
                let kept = answers::kept(&file.path, &answers.plan);
                let kept = kept.map_err(|error| WorkloadError::visit(&error))?;
                if kept.is_empty() { Err(Cow::Borrowed(NO_ANSWERS)) } else { Ok(kept) }
            }
            _ => Err(Cow::Borrowed(NO_ANSWERS)),
        };
        match found {
            Ok(answered) => Ok(Some((answered, answers))),
            Err(reason) => {
                // A model that does not chat is measured on the text, as foreseen.
                if !answers.plan.or_text || reason != NO_TEMPLATE && reason != NO_ANSWERS {
                    let (what, reason) = ("quality along answers".to_owned(), reason.into_owned());
                    visit.leave_out(LeftOut { what, reason });
                }
                Ok(None)
            }
        }
    }

    /// The prompts as the model sees them, or why it cannot be asked.
    fn asked(visit: &Visit<'_>, plan: &AnswersPlan) -> Result<Vec<Answered>, Cow<'static, str>> {
        if visit.facts.class != ArchitectureClass::DecoderOnly {
            return Err(Cow::Borrowed(NO_TEMPLATE));
        }
        let prompter = visit.prompter(FormatChoice::Auto, &Map::new());
        let prompter = prompter.map_err(|error| Cow::Owned(error.to_string()))?;
        if matches!(prompter, Prompter::Plain) {
            return Err(Cow::Borrowed(NO_TEMPLATE));
        }
        let asked = answers::asked(visit.model, plan, &prompter);
        let asked = asked.map_err(|error| Cow::Owned(causes::in_words(&error)))?;
        if asked.len() < 2 { Err(Cow::Borrowed(NO_ROOM)) } else { Ok(asked) }
    }
}

/// Why a model answers nothing, and what to do.
const NO_TEMPLATE: &str =
    "it has no chat template (text = \"standard\" in [workloads.quality] measures it on texts)";

/// Why there is nothing to measure a variant along.
const NO_ANSWERS: &str = "its reference answered no prompt";

/// Why a model with a chat template answers nothing.
const NO_ROOM: &str = "its context has no room for prompts and answers";

/// What it is called before it is measured of a model of a class.
pub(in crate::workload) fn names(plan: &QualityPlan, class: ArchitectureClass) -> Vec<String> {
    let perplexity = (class == ArchitectureClass::DecoderOnly).then_some("perplexity");
    let compared = if class.generates() { "divergence" } else { "distance of embeddings" };
    let compared = plan.divergence.then_some(compared);
    perplexity.into_iter().chain(compared).map(str::to_owned).collect()
}
