//! The quality job: what is compared with what, and the files that takes.
//!
//! The reference's visits write its log-probabilities to a scratch file that the visits of the model's other
//! trials read. At most one such file exists at a time, and none after the run. Where a trial is visited part by
//! part, a scratch file of its own carries what it scored.

use super::{Part, QualityRequest, Reference, run};
use crate::engine::memory::BufferMemory;
use crate::experiment::workloads::{QualityPlan, TextDomain};
use crate::files::folder_of;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{self, Cache, Scratch};
use crate::workload::applicability::{self, Applies};
use crate::workload::encoder_quality::{answers, embeddings};
use crate::workload::jobs::{InputError, Inputs, Target};
use crate::workload::measured::ModelFacts;
use crate::workload::{Measurement, Phase, Visit, Workload, WorkloadError};
use serde::{Deserialize, Serialize};
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
        let QualityPlan { context, chunks, precision, .. } = *plan;
        let domains = plan.domains.clone();
        Ok(Self { text, domains, context, chunks, reference, precision, part })
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
        std::iter::once(&mut self.text).chain(reference).chain(scores).collect()
    }

    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError> {
        let path = &self.text.path;
        let text = std::fs::read_to_string(path).map_err(|error| {
            WorkloadError::Visit(format!("cannot read the text {}: {error}", path.display()))
        })?;
        let request = QualityRequest {
            text: &text,
            domains: &self.domains,
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
        };
        let Visit { model, settings, observer, .. } = *visit;
        let progress = &mut visit.progress();
        let run = match visit.facts.class {
            ArchitectureClass::DecoderOnly => run(model, settings, request, progress)
                .map_err(|error| WorkloadError::visit(&error))?,
            ArchitectureClass::EncoderDecoder => answers::run(model, settings, &request, progress)
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

/// What it is called before it is measured of a model of a class.
pub(in crate::workload) fn names(plan: &QualityPlan, class: ArchitectureClass) -> Vec<String> {
    let perplexity = (class == ArchitectureClass::DecoderOnly).then_some("perplexity");
    let compared = if class.generates() { "divergence" } else { "distance of embeddings" };
    let compared = plan.divergence.then_some(compared);
    perplexity.into_iter().chain(compared).map(str::to_owned).collect()
}
