//! How alike the embeddings of a variant and of the reference are.

use super::reference_file::ReferenceFile;
use super::{longest, pieces};
use crate::engine::Model;
use crate::engine::memory::BufferMemory;
use crate::experiment::settings::Settings;
use crate::statistics::sample::{Sample, to_f64};
use crate::workload::Progress;
use crate::workload::embedder::{Embedder, cosine};
use crate::workload::measured::{EmbeddingQuality, EmbeddingSimilarity, LeftOut, MeanWithError};
use crate::workload::quality::{QualityError, QualityRequest, Reference};
use std::time::Instant;

/// What is left out where tokens differ.
const SIMILARITY: &str = "the cosine with the reference's embeddings";

/// The figures, and the memory that the context took.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingQualityRun {
    /// The figures.
    pub quality: EmbeddingQuality,
    /// What the engine allocated.
    pub memory: Vec<BufferMemory>,
    /// The comparison, where the reference saw other tokens.
    pub left_out: Option<LeftOut>,
}

/// Embeds the pieces of the text, and keeps the embeddings or compares them with the reference's.
///
/// # Errors
/// See [`QualityError`].
pub fn run(
    model: &dyn Model,
    settings: &Settings,
    request: &QualityRequest<'_>,
    progress: Progress<'_>,
) -> Result<EmbeddingQualityRun, QualityError> {
    let (pieces, _) = pieces(model, request)?;
    let mut embedder = Embedder::new(model, settings, longest(&pieces))?;
    let start = Instant::now();
    let count = pieces.len();
    let mut told = |done: usize| progress(to_f64(done) / to_f64(count), "");
    let embeddings = embedder.embed(&pieces, &mut told)?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(piece) = embeddings.iter().position(|row| row.iter().any(|x| x.is_nan())) {
        return Err(QualityError::NotANumber { part: "piece", number: piece + 1 });
    }
    let tokens = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut left_out = None;
    let similarity = match request.reference {
        Reference::None => None,
        Reference::Write { path, .. } => {
            let width = model.embedding_width();
            ReferenceFile { width, tokens: pieces, rows: embeddings.concat() }.write(path)?;
            None
        }
        Reference::Read { path } => {
            let reference_file = ReferenceFile::read(path, model.embedding_width())?;
            if reference_file.tokens == pieces {
                let reference: Vec<&[f32]> =
                    reference_file.rows.chunks_exact(reference_file.width.max(1)).collect();
                let own: Vec<&[f32]> = embeddings.iter().map(Vec::as_slice).collect();
                compare(&own, &reference)
            } else {
                // That it embeds, and how fast, is worth knowing.
                let reason = "the reference saw other tokens of the text".to_owned();
                left_out = Some(LeftOut { what: SIMILARITY.to_owned(), reason });
                None
            }
        }
    };
    let quality = EmbeddingQuality {
        pieces: u32::try_from(count).unwrap_or(u32::MAX),
        tokens,
        seconds,
        similarity,
    };
    Ok(EmbeddingQualityRun { quality, memory: embedder.memory(), left_out })
}

/// Compares the embeddings of the same pieces; `None` if there are none.
fn compare(own: &[&[f32]], reference: &[&[f32]]) -> Option<EmbeddingSimilarity> {
    let cosines: Vec<f64> =
        own.iter().zip(reference).map(|(own, reference)| cosine(own, reference)).collect();
    let sample = Sample::new(cosines.iter().copied())?;
    let count = to_f64(cosines.len());
    let is_same = |&piece: &usize| nearest(own, piece) == nearest(reference, piece);
    let same_nearest = to_f64((0..cosines.len()).filter(is_same).count()) / count;
    Some(EmbeddingSimilarity {
        cosine: MeanWithError {
            mean: sample.mean(),
            standard_error: sample.standard_deviation().unwrap_or(0.0) / count.sqrt(),
        },
        cosine_minimum: sample.minimum(),
        same_nearest,
        piece_cosines: cosines,
    })
}

/// The other piece whose embedding has the highest cosine with this one's; the first of several.
fn nearest(embeddings: &[&[f32]], piece: usize) -> Option<usize> {
    let others = (0..embeddings.len()).filter(|&other| other != piece);
    let similarity = |other: usize| cosine(embeddings[piece], embeddings[other]);
    others
        .map(|other| (similarity(other), other))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toy::{Parameters, Toy};
    use crate::engine::{Engine as _, LoadExtent};
    use crate::model::architecture::ArchitectureClass;

    #[test]
    fn equal_embeddings_are_alike_in_everything() {
        let rows: [&[f32]; 3] = [&[1.0, 0.0], &[0.8, 0.6], &[-1.0, 0.1]];
        let similarity = compare(&rows, &rows).unwrap();
        assert!((similarity.cosine.mean - 1.0).abs() < 1e-12);
        assert!((similarity.cosine_minimum - 1.0).abs() < 1e-12);
        assert!((similarity.same_nearest - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_reads_a_text_as_other_tokens_is_not_compared_and_measured_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (model, kept) = (folder.path().join("m"), folder.path().join("kept"));
        let encoder = Parameters { class: ArchitectureClass::EncoderOnly, ..Parameters::default() };
        std::fs::write(&model, serde_json::to_vec(&encoder).unwrap()).unwrap();
        let settings = Settings::default();
        let model = Toy::default().load(&model, &settings, LoadExtent::Everything).unwrap();
        let run = |text: &str, reference: Reference<'_>| {
            let request = QualityRequest {
                text,
                domains: &[],
                context: 8,
                chunks: None,
                reference,
                precision: None,
                answers: None,
                part: None,
            };
            run(model.as_ref(), &settings, &request, &mut |_, _| {}).unwrap()
        };
        run("one\ntwo", Reference::Write { path: &kept, budget_bytes: 1 << 20 });
        let same = run("one\ntwo", Reference::Read { path: &kept });
        assert!(same.quality.similarity.is_some() && same.left_out.is_none());
        let other = run("one\nsix", Reference::Read { path: &kept });
        assert_eq!((other.quality.pieces, other.quality.similarity), (2, None));
        assert!(other.left_out.unwrap().reason.contains("other tokens"));
    }

    #[test]
    fn a_turned_vector_shows_in_mean_minimum_and_neighbours() {
        let reference: [&[f32]; 3] = [&[1.0, 0.0], &[0.8, 0.6], &[-1.0, 0.1]];
        // The second now lies beside the third.
        let own: [&[f32]; 3] = [&[1.0, 0.0], &[-0.8, 0.6], &[-1.0, 0.1]];
        let similarity = compare(&own, &reference).unwrap();
        assert!((similarity.cosine_minimum - (0.36 - 0.64)).abs() < 1e-6);
        assert!((similarity.cosine.mean - (1.0 + 1.0 - 0.28) / 3.0).abs() < 1e-6);
        // Nearest to the first is still the second; the second and the third have changed theirs.
        assert!((similarity.same_nearest - 2.0 / 3.0).abs() < 1e-12, "{similarity:?}");
    }
}
