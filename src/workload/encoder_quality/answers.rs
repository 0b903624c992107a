//! How a variant of an encoder-decoder differs from the reference in writing the reference's answers.
//!
//! The reference answers every piece, taking the most probable token at each step. Every variant then
//! reads the same pieces and is made to write those answers; at each token its distribution is
//! compared with the reference's, as `quality` does along a text.

use super::reference_file::{ReferenceFile, ShelfError};
use super::{EncoderQualityError, longest, pieces};
use crate::engine::Model;
use crate::engine::memory::BufferMemory;
use crate::experiment::settings::Settings;
use crate::workload::Progress;
use crate::workload::divergence::{Scores, TokenScore};
use crate::workload::measured::{Quality, ReferenceStore};
use crate::workload::quality::scoring::{score_against, score_in_place};
use crate::workload::quality::{QualityRequest, QualityRun, Reference};
use crate::workload::seq2seq::SequenceToSequence;
use std::time::Instant;

/// Tokens of an answer at most.
const LONGEST_ANSWER: u32 = 64;

/// Answers the pieces of the text and keeps the answers with their probabilities, or writes the
/// reference's answers and compares the probabilities.
///
/// # Errors
/// See [`EncoderQualityError`].
pub fn run(
    model: &dyn Model,
    settings: &Settings,
    request: &QualityRequest<'_>,
    progress: Progress<'_>,
) -> Result<QualityRun, EncoderQualityError> {
    let (pieces, available) = pieces(model, request)?;
    let mut writer = SequenceToSequence::new(model, settings, longest(&pieces), LONGEST_ANSWER)?;
    let memory: Vec<BufferMemory> = writer.memory();
    let start = Instant::now();
    let vocabulary = model.vocabulary_size();
    let mut comparison = Comparison { writer: &mut writer, vocabulary, scores: Scores::default() };
    let (store, stopped_early) = match request.reference {
        Reference::None => {
            comparison.answer_all(&pieces, 0, progress)?;
            (None, false)
        }
        Reference::Write { file, budget_bytes } => {
            let reference_file = comparison.answer_all(&pieces, *budget_bytes, progress)?;
            reference_file.write(&file.path)?;
            let store =
                ReferenceStore { bytes: reference_file.bytes(), top_k: None, kld_error_bound: 0.0 };
            (Some(store), false)
        }
        Reference::Read { file } => {
            let path = &file.path;
            let reference_file = ReferenceFile::read(path, vocabulary)?;
            let needed: usize = reference_file.tokens.iter().map(Vec::len).sum();
            if reference_file.tokens.len() > pieces.len()
                || needed * vocabulary != reference_file.rows.len()
            {
                let reason = "the reference answered another text";
                return Err(ShelfError::Mismatch { path: path.clone(), reason }.into());
            }
            let stopped =
                comparison.compare(&pieces, &reference_file, request.precision, progress)?;
            (None, stopped)
        }
    };
    let scores = comparison.scores;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let quality = Quality {
        perplexity: scores.perplexity(),
        context: 0,
        chunks: count(scores.chunk_nll().len()),
        chunks_available: count(available),
        scored_tokens: scores.tokens(),
        chunk_nll: scores.chunk_nll().to_vec(),
        seconds: start.elapsed().as_secs_f64(),
        divergence: scores.divergence(stopped_early),
        reference_store: store,
    };
    Ok(QualityRun { quality, memory })
}

struct Comparison<'a, 'model> {
    writer: &'a mut SequenceToSequence<'model>,
    vocabulary: usize,
    scores: Scores,
}

impl Comparison<'_, '_> {
    /// Answers pieces and scores the answers, as many of them as there is room for their
    /// log-probabilities; 0 keeps none and answers all.
    fn answer_all(
        &mut self,
        pieces: &[Vec<i32>],
        budget_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<ReferenceFile, EncoderQualityError> {
        let mut reference_file =
            ReferenceFile { width: self.vocabulary, ..ReferenceFile::default() };
        for (index, piece) in pieces.iter().enumerate() {
            let answer = self.writer.answer(piece, LONGEST_ANSWER)?;
            let mut rows = self.writer.logits_of(piece, &answer)?;
            let scores: Vec<TokenScore> = rows
                .chunks_exact_mut(self.vocabulary)
                .zip(&answer)
                .map(|(row, &token)| score_in_place(row, token))
                .collect();
            self.add(index, &scores)?;
            if budget_bytes > 0 {
                reference_file.rows.append(&mut rows);
            }
            reference_file.tokens.push(answer);
            tell(progress, index + 1, pieces.len());
            let enough =
                reference_file.bytes() + u64::from(LONGEST_ANSWER) * self.vocabulary as u64 * 4;
            if budget_bytes > 0 && enough > budget_bytes {
                break;
            }
        }
        Ok(reference_file)
    }

    /// Writes the reference's answers; returns whether it stopped early because the precision was
    /// reached.
    fn compare(
        &mut self,
        pieces: &[Vec<i32>],
        reference_file: &ReferenceFile,
        precision: Option<f64>,
        progress: Progress<'_>,
    ) -> Result<bool, EncoderQualityError> {
        let mut reference = reference_file.rows.chunks_exact(self.vocabulary.max(1));
        for (index, (piece, answer)) in pieces.iter().zip(&reference_file.tokens).enumerate() {
            let rows = self.writer.logits_of(piece, answer)?;
            let scores: Vec<TokenScore> = rows
                .chunks_exact(self.vocabulary)
                .zip(answer)
                .zip(&mut reference)
                .map(|((row, &token), reference)| score_against(row, token, reference))
                .collect();
            self.add(index, &scores)?;
            tell(progress, index + 1, reference_file.tokens.len());
            let precise = precision.is_some_and(|precision| self.scores.is_precise(precision));
            if precise && index + 1 < reference_file.tokens.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn add(&mut self, piece: usize, scores: &[TokenScore]) -> Result<(), EncoderQualityError> {
        if scores.iter().any(|score| score.nll.is_nan()) {
            return Err(EncoderQualityError::NotANumber { piece: piece + 1 });
        }
        self.scores.add_chunk(scores);
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
fn tell(progress: Progress<'_>, done: usize, all: usize) {
    progress(done as f64 / all as f64, "");
}
