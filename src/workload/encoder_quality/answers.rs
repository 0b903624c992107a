//! How a variant of an encoder-decoder differs from the reference in writing the reference's answers.
//!
//! The reference answers every piece, taking the most probable token at each step. Every variant then
//! reads the same pieces and is made to write those answers; at each token its distribution is
//! compared with the reference's, as `quality` does along a text.

use super::reference_file::ReferenceFile;
use super::{longest, pieces};
use crate::engine::Model;
use crate::experiment::settings::Settings;
use crate::statistics::sample::to_f64;
use crate::workload::Progress;
use crate::workload::batched::BatchedContext;
use crate::workload::divergence::{Scores, TokenScore};
use crate::workload::measured::ReferenceStore;
use crate::workload::quality::scoring::{score_against, score_in_place};
use crate::workload::quality::{QualityError, QualityRequest, QualityRun, Reference};
use crate::workload::reference::mismatch;
use std::time::Instant;

/// Tokens of an answer at most.
const LONGEST_ANSWER: u32 = 64;

/// Answers the pieces of the text and keeps the answers with their probabilities, or writes the
/// reference's answers and compares the probabilities.
///
/// # Errors
/// See [`QualityError`].
pub fn run(
    model: &dyn Model,
    settings: &Settings,
    request: &QualityRequest<'_>,
    progress: Progress<'_>,
) -> Result<QualityRun, QualityError> {
    let (pieces, available) = pieces(model, request)?;
    let writer = BatchedContext::for_source(model, settings, longest(&pieces), LONGEST_ANSWER)?;
    let memory = writer.context.memory();
    let start = Instant::now();
    let vocabulary = model.vocabulary_size();
    let mut comparison = Comparison { writer, vocabulary, scores: Scores::default() };
    let (mut reference_store, mut stopped_early) = (None, false);
    match request.reference {
        Reference::None => drop(comparison.answer_all(&pieces, 0, progress)?),
        Reference::Write { path, budget_bytes } => {
            let reference_file = comparison.answer_all(&pieces, budget_bytes, progress)?;
            reference_file.write(path)?;
            let bytes = reference_file.bytes();
            reference_store = Some(ReferenceStore { bytes, top_k: None, kld_error_bound: 0.0 });
        }
        Reference::Read { path } => {
            let reference_file = ReferenceFile::read(path, vocabulary)?;
            let needed: usize = reference_file.tokens.iter().map(Vec::len).sum();
            if reference_file.tokens.len() > pieces.len()
                || needed * vocabulary != reference_file.rows.len()
            {
                return Err(mismatch(path, "the reference answered another text").into());
            }
            stopped_early =
                comparison.compare(&pieces, &reference_file, request.precision, progress)?;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut quality = comparison.scores.quality(available, stopped_early, seconds);
    quality.reference_store = reference_store;
    Ok(QualityRun { quality, memory, left_out: None })
}

struct Comparison<'model> {
    writer: BatchedContext<'model>,
    vocabulary: usize,
    scores: Scores,
}

impl Comparison<'_> {
    /// Answers pieces and scores the answers, as many of them as there is room for their
    /// log-probabilities; 0 keeps none and answers all.
    fn answer_all(
        &mut self,
        pieces: &[Vec<i32>],
        budget_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<ReferenceFile, QualityError> {
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
            progress(to_f64(index + 1) / to_f64(pieces.len()), "");
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
    ) -> Result<bool, QualityError> {
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
            progress(to_f64(index + 1) / to_f64(reference_file.tokens.len()), "");
            let is_precise =
                precision.is_some_and(|precision| self.scores.is_precise(precision, 0));
            if is_precise && index + 1 < reference_file.tokens.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn add(&mut self, piece: usize, scores: &[TokenScore]) -> Result<(), QualityError> {
        if scores.iter().any(|score| score.nll.is_nan()) {
            return Err(QualityError::NotANumber { part: "piece", number: piece + 1 });
        }
        self.scores.add_chunk(scores);
        Ok(())
    }
}
