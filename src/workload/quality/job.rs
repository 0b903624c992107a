//! The quality job: what is compared with what, and the files that takes.
//!
//! The reference's visits write its answers and its log-probabilities to scratch files that the visits of the model's
//! other trials read. They are of one model at a time, and gone after the run. Where a trial is visited part by part, a
//! scratch file of its own carries what it scored.

use super::answers::{self, Along, Answered};
use super::{Part, QualityRequest, Reference, run};
use crate::causes;
use crate::engine::memory::BufferMemory;
use crate::experiment::workloads::{AnswersPlan, QualityPlan, TextDomain};
use crate::files::folder_of;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{self, Cache, Scratch};
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::workload::applicability::{self, Applies};
use crate::workload::encoder_quality::{self, embeddings};
use crate::workload::jobs::{InputError, Inputs, Target};
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
    /// The chunks that are evaluated in this visit; `None`: all.
    #[serde(default)]
    pub part: Option<Box<QualityPart>>,
    /// Answers that are evaluated, besides the text or in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Box<AnswersUse>>,
}

/// What a quality job does about the reference's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswersUse {
    /// What is answered.
    pub plan: AnswersPlan,
    /// Where the reference keeps its answers; `None`: there is no reference.
    pub file: Option<ArtifactRef>,
}

/// Chunks of a text that are evaluated in one visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityPart {
    /// The first; those before it were scored in earlier visits.
    pub from: u32,
    /// The one to stop before.
    pub until: u32,
    /// What was scored, from one visit to the next.
    pub scores: ArtifactRef,
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

/// What visits for quality leave for later ones, of the model under way.
#[derive(Debug, Default)]
pub struct QualityFiles {
    /// The log-probabilities of the model's reference.
    reference: Option<Written>,
    /// Its answers.
    answers: Option<Scratch>,
    /// What trials scored that are visited part by part.
    scores: Vec<Written>,
}

#[derive(Debug)]
struct Written {
    /// The model, or the trial.
    of: usize,
    file: Scratch,
    /// The visit that wrote it succeeded: the file is whole.
    complete: bool,
}

impl QualityFiles {
    pub(in crate::workload) fn succeeded(&mut self, target: &Target) {
        let reference = self.reference.iter_mut().filter(|it| it.of == target.model);
        let reference = reference.filter(|_| target.is_reference);
        let scores = self.scores.iter_mut().filter(|it| it.of == target.trial);
        reference.chain(scores).for_each(|it| it.complete = true);
    }

    /// Where a trial's scores are kept, and whether those of its earlier visits are there. They are not once a visit
    /// begins, until it succeeds.
    fn scores(
        &mut self,
        target: &Target,
        cache: &Cache,
    ) -> Result<(ArtifactRef, bool), InputError> {
        let known = self.scores.iter().position(|it| it.of == target.trial);
        let at = known.unwrap_or(self.scores.len());
        if known.is_none() {
            let file = cache.scratch("scores")?;
            self.scores.push(Written { of: target.trial, file, complete: false });
        }
        let Written { file, complete, .. } = &mut self.scores[at];
        let place = ArtifactRef::place(&format!("scores-{}", target.trial), file.path());
        Ok((place, std::mem::take(complete)))
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
        let Inputs { quality: files, cache, .. } = inputs;
        let written = files.reference.take_if(|it| it.of == target.model && it.complete);
        let goes_on = written.is_some();
        let (reference, part) = match (written, target.until) {
            _ if !plan.divergence => (ReferenceUse::None, None),
            (written, until) if target.is_reference => {
                let written = written.filter(|_| until.is_some());
                // The reference before is no longer needed; its files go before the next ones come.
                if written.is_none() {
                    *files = QualityFiles::default();
                }
                let file = match written {
                    Some(written) => written.file,
                    None => cache.scratch("reference")?,
                };
                let budget_bytes = plan.reference_budget_bytes.min(room(file.path()));
                let use_ = ReferenceUse::Write { file: logits(&file), budget_bytes };
                files.reference = Some(Written { of: target.model, file, complete: false });
                (use_, until)
            }
            (Some(written), until) => {
                let use_ = ReferenceUse::Read { file: logits(&written.file) };
                files.reference = Some(written);
                (use_, until)
            }
            // The reference failed: perplexity is measured all the same.
            (None, _) => (ReferenceUse::None, None),
        };
        let part = match part {
            None => None,
            Some(until) => {
                let (scores, are_there) = files.scores(target, cache)?;
                let from = if are_there && goes_on { target.scored.min(until) } else { 0 };
                Some(Box::new(QualityPart { from, until, scores }))
            }
        };
        if files.answers.is_none() && target.is_reference {
            files.answers = Some(cache.scratch("answers")?);
        }
        let kept = files.answers.as_ref().filter(|_| reference != ReferenceUse::None);
        let kept = kept.map(|file| ArtifactRef::place("reference-answers", file.path()));
        let answers = plan.answers.clone().map(|plan| Box::new(AnswersUse { plan, file: kept }));
        let QualityPlan { context, chunks, precision, .. } = *plan;
        let domains = plan.domains.clone();
        Ok(Self { text, domains, context, chunks, reference, precision, part, answers })
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
        let scores = self.part.as_mut().map(|part| &mut part.scores);
        let answers = self.answers.iter_mut().filter_map(|answers| answers.file.as_mut());
        let files = reference.into_iter().chain(scores).chain(answers);
        std::iter::once(&mut self.text).chain(files).collect()
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
            part: self.part.as_ref().map(|part| Part {
                from: part.from,
                until: part.until,
                scores: &part.scores.path,
            }),
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
            ArchitectureClass::EncoderDecoder => {
                encoder_quality::answers::run(model, settings, &request, progress)
                    .map_err(|error| WorkloadError::visit(&error))?
            }
            ArchitectureClass::EncoderOnly => {
                let run = embeddings::run(model, settings, &request, progress)
                    .map_err(|error| WorkloadError::visit(&error))?;
                observer.measured(Measurement::EmbeddingQuality(run.quality));
                if let Some(left_out) = run.left_out {
                    visit.leave_out(left_out);
                }
                return Ok(run.memory);
            }
        };
        observer.measured(Measurement::Quality(run.quality));
        if let Some(left_out) = run.left_out {
            visit.leave_out(left_out);
        }
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
            (ReferenceUse::Write { .. }, Some(file)) if !self.goes_on() => {
                let asked = Self::asked(visit, &answers.plan);
                // What is empty tells the others that there are none.
                let kept = asked.as_deref().unwrap_or_default();
                answers::keep(&file.path, kept).map_err(|error| WorkloadError::visit(&error))?;
                asked
            }
            (ReferenceUse::Write { .. } | ReferenceUse::Read { .. }, Some(file)) => {
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
                    let (what, reason) = (ALONG_ANSWERS.to_owned(), reason.into_owned());
                    visit.leave_out(LeftOut { what, reason });
                }
                Ok(None)
            }
        }
    }

    /// Whether earlier visits evaluated what comes first.
    fn goes_on(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.from > 0)
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

/// What is left out of a model that answers nothing.
pub const ALONG_ANSWERS: &str = "quality along answers";

/// Why a model answers nothing, and what to do.
pub const NO_TEMPLATE: &str =
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
