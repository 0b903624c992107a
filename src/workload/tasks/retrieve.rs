//! Retrieval: the passages whose embeddings are nearest to a query's.
//!
//! Passages are cut into chunks that fit the encoder, each chunk is embedded behind the prefix that
//! the encoder was trained with, and the index of the embeddings is kept in a file from which the
//! next task with the same encoder and passages reads it. A passage is as near as its nearest chunk.

use super::TaskError;
use super::record::IndexUse;
use crate::engine::Model;
use crate::engine::memory::BufferMemory;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::CorpusPlan;
use crate::model::artifact::ArtifactRef;
use crate::retrieval::chunk::{Chunk, cut};
use crate::retrieval::index::{Subject, VectorIndex};
use crate::workload::embedder::Embedder;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Passages that are found at most; metrics look no further.
const DEPTH: usize = 100;

/// Where a worker finds passages, and what embeds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusFiles {
    /// File with the passages, a list of texts as JSON.
    pub passages: ArtifactRef,
    /// Where the index is read from, or written to if it is not there.
    pub index: ArtifactRef,
    /// Tells apart the encoder, the passages and how they are cut.
    pub checksum: String,
    /// The file of the model that embeds; `None`: the one that is measured.
    pub encoder: Option<ArtifactRef>,
}

/// Finds passages.
pub(super) struct Retriever<'model> {
    model: &'model dyn Model,
    embedder: Embedder<'model>,
    chunks: Vec<Chunk>,
    index: VectorIndex,
}

/// What was found for a query, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Passages by their positions, the nearest first, each once.
    pub(super) passages: Vec<usize>,
    /// The nearest chunks, by their positions.
    pub(super) chunks: Vec<usize>,
    /// Tokens of the query.
    pub(super) tokens: usize,
    /// Time to embed the query.
    pub(super) embedding: Duration,
    /// Time to search the index.
    pub(super) search: Duration,
}

impl<'model> Retriever<'model> {
    /// A retriever for the passages, with queries of up to the encoder's context.
    pub(super) fn open(
        model: &'model dyn Model,
        settings: &Settings,
        passages: &[String],
        (corpus, files): (&CorpusPlan, &CorpusFiles),
    ) -> Result<(Self, IndexUse), TaskError> {
        let context = model.context_length();
        let embedded = |text: &str| format!("{}{text}", corpus.prefix);
        let most = corpus.chunk_tokens.min(context) as usize;
        let chunks = cut(passages, most, |text| {
            model.tokenize(&embedded(text), true, false).map(|tokens| tokens.len())
        })?;
        let mut embedder = Embedder::new(model, settings, context)?;
        let subject = Subject {
            dimensions: model.embedding_width(),
            vectors: chunks.len(),
            checksum: files.checksum.clone(),
        };
        let start = Instant::now();
        // Not there, damaged or of another form: it is made again, and written over.
        let read = VectorIndex::load(&files.index.path, &subject).ok();
        let was_read = read.is_some();
        let index = if let Some(index) = read {
            index
        } else {
            let texts = chunks
                .iter()
                .map(|chunk| model.tokenize(&embedded(&chunk.content), true, false))
                .collect::<Result<Vec<_>, _>>()?;
            let vectors = embedder.embed(&texts, &mut |_| {})?;
            let rows = vectors.iter().map(Vec::as_slice);
            let index = VectorIndex::build(subject.dimensions, rows)?;
            // One that cannot be kept is made again.
            let _ = index.save(&files.index.path, &subject);
            index
        };
        let chunk_count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let seconds = start.elapsed().as_secs_f64();
        let retriever = Self { model, embedder, chunks, index };
        Ok((retriever, IndexUse { chunks: chunk_count, was_read, seconds }))
    }

    /// The passages nearest to a query; `None` if it is too long for the encoder.
    pub(super) fn find(&mut self, query: &str) -> Result<Option<Found>, TaskError> {
        let start = Instant::now();
        let tokens = self.model.tokenize(query, true, false)?;
        if tokens.len() > self.model.context_length() as usize {
            return Ok(None);
        }
        let count = tokens.len();
        let vector = self.embedder.embed(&[tokens], &mut |_| {})?.concat();
        let embedding = start.elapsed();
        let start = Instant::now();
        // Several chunks of one passage may be near.
        let neighbours = self.index.nearest(&vector, 4 * DEPTH);
        let search = start.elapsed();
        let chunks: Vec<usize> =
            neighbours.iter().map(|it| it.position).filter(|&it| it < self.chunks.len()).collect();
        let mut passages = Vec::new();
        for &chunk in &chunks {
            let passage = self.chunks[chunk].text_position;
            if passages.len() < DEPTH && !passages.contains(&passage) {
                passages.push(passage);
            }
        }
        Ok(Some(Found { passages, chunks, tokens: count, embedding, search }))
    }

    /// What stands in a chunk.
    pub(super) fn content(&self, chunk: usize) -> &str {
        &self.chunks[chunk].content
    }

    /// What the engine allocated.
    pub(super) fn memory(&self) -> Vec<BufferMemory> {
        self.embedder.memory()
    }
}
