//! An index of vectors: which of them point most nearly in the direction of another one.
//!
//! An HNSW graph (Malkov and Yashunin 2018, arXiv 1603.09320; the crate `instant-distance`) over
//! cosines, in f32. In a file, graph and vectors are `MessagePack` behind a line of JSON, which says what it is
//! an index of and carries its SHA-256.

use crate::files::Unfinished;
use instant_distance::{Builder, Hnsw, Point, PointId, Search};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::Path;

/// Raised when the file changes its form.
const VERSION: u32 = 1;

/// Why an index cannot be made or used, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IndexError(String);

/// What an index in a file is an index of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Numbers in a vector.
    pub dimensions: usize,
    /// Vectors.
    pub vectors: usize,
    /// Tells apart what the vectors were made from and by.
    pub checksum: String,
}

/// The line before the graph.
#[derive(Debug, Serialize, Deserialize)]
struct Heading {
    format: String,
    version: u32,
    subject: Subject,
    sha256: String,
}

const FORMAT: &str = "quantbench.index";

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its position among those that were put in.
    pub position: usize,
    /// Cosine of the angle between it and what was searched for.
    pub cosine: f32,
}

/// A direction: a vector 1 long, so that a product of two is the cosine between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Direction(Vec<f32>);

impl Point for Direction {
    fn distance(&self, other: &Self) -> f32 {
        1.0 - self.0.iter().zip(&other.0).map(|(x, y)| x * y).sum::<f32>()
    }
}

impl Direction {
    fn of(vector: &[f32]) -> Self {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        Self(vector.iter().map(|x| x * scale).collect())
    }
}

/// Vectors that can be searched.
#[derive(Serialize, Deserialize)]
pub struct VectorIndex {
    graph: Hnsw<Direction>,
    /// Position of every point of the graph among the vectors that were put in.
    positions: Vec<usize>,
    dimensions: usize,
}

impl std::fmt::Debug for VectorIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("VectorIndex").field("vectors", &self.len()).finish_non_exhaustive()
    }
}

/// Seed of the graph's layers; any number would do as long as it stays.
const SEED: u64 = 0x0069_6e64_6578;

/// Candidates that a search keeps, and therefore vectors that it finds at most. The crate's default
/// is 100.
const BREADTH: usize = 400;

impl VectorIndex {
    /// An index of `vectors`, each of `dimensions` numbers. Made by one thread, so that the same
    /// vectors make the same graph.
    ///
    /// # Errors
    /// When a vector has another length or holds what is no number, or there is no thread.
    pub fn build<'v>(
        dimensions: usize,
        vectors: impl Iterator<Item = &'v [f32]>,
    ) -> Result<Self, IndexError> {
        let mut directions = Vec::new();
        for (position, vector) in vectors.enumerate() {
            let wrong = |reason| {
                IndexError(format!("the vector index cannot take vector {position}: {reason}"))
            };
            if vector.len() != dimensions {
                return Err(wrong("it has another length"));
            }
            if vector.iter().any(|x| !x.is_finite()) {
                return Err(wrong("it holds what is no number"));
            }
            directions.push(Direction::of(vector));
        }
        let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| {
            IndexError(format!("cannot start a thread to make the vector index: {error}"))
        })?;
        let builder = Builder::default().seed(SEED).ef_search(BREADTH);
        let (graph, ids): (_, Vec<PointId>) = threads.install(|| builder.build_hnsw(directions));
        let mut positions = vec![0; ids.len()];
        for (position, id) in ids.into_iter().enumerate() {
            positions[id.into_inner() as usize] = position;
        }
        Ok(Self { graph, positions, dimensions })
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `count` vectors nearest to `vector`, the nearest first; fewer if there are fewer, and never
    /// more than 400.
    pub fn nearest(&self, vector: &[f32], count: usize) -> Vec<Neighbour> {
        let mut search = Search::default();
        let found = self.graph.search(&Direction::of(vector), &mut search);
        found
            .take(count)
            .filter_map(|item| {
                let position = *self.positions.get(item.pid.into_inner() as usize)?;
                Some(Neighbour { position, cosine: 1.0 - item.distance })
            })
            .collect()
    }

    /// Writes the index, under a temporary name first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, subject: &Subject) -> Result<u64, IndexError> {
        let io = |error| unusable("write", path, error);
        let mut graph =
            rmp_serde::to_vec(self).map_err(|error| io(std::io::Error::other(error)))?;
        let heading = Heading {
            format: FORMAT.to_owned(),
            version: VERSION,
            subject: subject.clone(),
            sha256: hex(&graph),
        };
        let mut bytes = serde_json::to_vec(&heading).map_err(|error| io(error.into()))?;
        bytes.push(b'\n');
        bytes.append(&mut graph);
        let mut file = Unfinished::beside(path).map_err(io)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(io)?;
        file.finish(path).map_err(io)
    }

    /// Reads an index that [`Self::save`] wrote for the same subject.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is an index of something else.
    pub fn load(path: &Path, subject: &Subject) -> Result<Self, IndexError> {
        let wrong = |reason| {
            IndexError(format!("{} is no index of these vectors: {reason}", path.display()))
        };
        let bytes = fs::read(path).map_err(|error| unusable("read", path, error))?;
        let end =
            bytes.iter().position(|&byte| byte == b'\n').ok_or_else(|| wrong("no heading"))?;
        let (heading, graph) = (&bytes[..end], &bytes[end + 1..]);
        let heading: Heading =
            serde_json::from_slice(heading).map_err(|_| wrong("its first line is no heading"))?;
        if heading.format != FORMAT || heading.version != VERSION {
            return Err(wrong("it has another form"));
        }
        if heading.subject != *subject {
            return Err(wrong("it was made from something else"));
        }
        if heading.sha256 != hex(graph) {
            return Err(wrong("it is damaged"));
        }
        let index: Self = rmp_serde::from_slice(graph).map_err(|_| wrong("it is damaged"))?;
        let whole = index.graph.iter().all(|(_, point)| point.0.len() == subject.dimensions);
        if index.len() != subject.vectors || index.dimensions != subject.dimensions || !whole {
            return Err(wrong("it holds other vectors than it says"));
        }
        Ok(index)
    }
}

fn unusable(action: &str, path: &Path, error: std::io::Error) -> IndexError {
    IndexError(format!("cannot {action} the vector index {}: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 300 random directions in 16 dimensions.
    fn vectors() -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(5);
        (0..300).map(|_| (0..16).map(|_| random.f32() - 0.5).collect()).collect()
    }

    fn index(vectors: &[Vec<f32>]) -> VectorIndex {
        VectorIndex::build(16, vectors.iter().map(Vec::as_slice)).unwrap()
    }

    fn subject() -> Subject {
        Subject { dimensions: 16, vectors: 300, checksum: "abc".to_owned() }
    }

    fn cosine(one: &[f32], other: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    }

    #[test]
    fn the_nearest_are_those_of_the_highest_cosine() {
        let vectors = vectors();
        let index = index(&vectors);
        let mut agree = 0;
        for query in vectors.iter().step_by(10) {
            let mut exact: Vec<usize> = (0..vectors.len()).collect();
            exact.sort_by(|&a, &b| {
                cosine(query, &vectors[b]).total_cmp(&cosine(query, &vectors[a]))
            });
            let found = index.nearest(query, 5);
            assert!((found[0].cosine - 1.0).abs() < 1e-5);
            let places: Vec<usize> = found.iter().map(|found| found.position).collect();
            agree += usize::from(places == exact[..5]);
        }
        // The graph is approximate; at this size it hardly ever misses.
        assert!(agree >= 28, "{agree} of 30");
        assert_eq!(index.nearest(&vectors[0], 1000).len(), 300);
    }

    #[test]
    fn an_index_reads_back_and_finds_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let vectors = vectors();
        let built = index(&vectors);
        built.save(&path, &subject()).unwrap();
        let read = VectorIndex::load(&path, &subject()).unwrap();
        for query in &vectors[..20] {
            assert_eq!(read.nearest(query, 7), built.nearest(query, 7));
        }
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        index(&vectors()).save(&path, &subject()).unwrap();
        let reason = |subject: &Subject| VectorIndex::load(&path, subject).unwrap_err().to_string();
        let other = Subject { checksum: "abd".to_owned(), ..subject() };
        assert!(reason(&other).ends_with("made from something else"), "{}", reason(&other));
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (bytes, end) in [
            (&flipped[..], "damaged"),
            (&whole[..whole.len() / 2], "damaged"),
            (&whole[..10], "no heading"),
            (b"{}\n", "no heading"),
        ] {
            fs::write(&path, bytes).unwrap();
            assert!(reason(&subject()).ends_with(end), "{}", reason(&subject()));
        }
        fs::remove_file(&path).unwrap();
        assert!(reason(&subject()).starts_with("cannot read"), "{}", reason(&subject()));
    }

    #[test]
    fn the_same_vectors_make_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["one", "other"].map(|name| {
            let path = folder.path().join(name);
            index(&vectors()).save(&path, &subject()).unwrap();
            fs::read(path).unwrap()
        });
        assert!(files[0] == files[1]);
    }

    #[test]
    fn a_vector_that_cannot_be_compared_is_refused() {
        let wrong = |vector: &[f32]| {
            let vectors = [&[1.0, 0.0][..], vector];
            VectorIndex::build(2, vectors.into_iter()).unwrap_err().to_string()
        };
        assert!(wrong(&[1.0]).ends_with("vector 1: it has another length"));
        assert!(wrong(&[f32::NAN, 1.0]).ends_with("no number"));
    }

    #[test]
    fn an_index_of_nothing_finds_nothing() {
        let index = VectorIndex::build(4, std::iter::empty::<&[f32]>()).unwrap();
        assert!(index.is_empty());
        assert_eq!(index.nearest(&[1.0, 0.0, 0.0, 0.0], 3), []);
    }
}
