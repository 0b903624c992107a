//! The quality job: what is compared with what, and the files that takes.
//!
//! The reference's visit writes its log-probabilities to a scratch file that the visits of the model's other
//! trials read. At most one such file exists at a time, and none after the run.

use super::{QualityRequest, Reference, run};
use crate::engine::memory::BufferMemory;
use crate::experiment::workloads::{QualityPlan, TextDomain};
use crate::files::folder_of;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{self, Scratch};
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
            let budget_bytes = plan.reference_budget_bytes.min(room(file.path()));
            let logits = logits(&file);
            let shelved = WrittenReference { model: target.model, file, complete: false };
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
        let QualityPlan { context, chunks, precision, .. } = *plan;
        Ok(Self { text, domains: plan.domains.clone(), context, chunks, reference, precision })
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
        std::iter::once(&mut self.text).chain(reference).collect()
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
