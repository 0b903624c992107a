//! Reading the graph of an ONNX file without its weights.
//!
//! A file may hold gigabytes of weights between its nodes. What is read is walked field by field; data of tensors is
//! passed over and its place noted, unless it is small, and so is what nobody asks for. The rest is decoded by prost.
//! The file is input from strangers: every length is checked against the message it stands in, and what is kept is limited.

use super::proto::{Left, Model};
use crate::causes::Problem;
use crate::files;
use crate::units::format_bytes;
use prost::Message as _;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Most bytes that are kept of a file; graphs without weights have some hundred thousand.
const MOST_KEPT: u64 = 64 << 20;
/// Most fields that are kept; the largest graphs have some hundred thousand.
const MOST_FIELDS: u64 = 4 << 20;
/// Most messages within each other: a branch within a branch adds three.
const DEEPEST: u32 = 60;
/// Data of more bytes is left in the file: scalars and shapes are kept.
const SMALL: u64 = 1 << 10;

/// Messages that hold others or data of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
}

/// What is done with a field.
enum Treatment {
    Walk(Kind),
    Keep,
    /// Data of a tensor.
    Data,
    Skip,
}

impl Kind {
    fn treatment(self, field: u64) -> Treatment {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Treatment::Walk(Self::Graph),
            (Self::Graph, 1) => Treatment::Walk(Self::Node),
            (Self::Node, 5) => Treatment::Walk(Self::Attribute),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Treatment::Walk(Self::Tensor),
            (Self::Tensor, 4..=7 | 9..=11) => Treatment::Data,
            (Self::Model, 1..=3 | 8 | 14)
            | (Self::Graph, 2 | 11 | 12)
            | (Self::Node, 1..=4 | 7)
            | (Self::Attribute, 1..=4 | 7 | 8 | 20)
            | (Self::Tensor, 1 | 2 | 8 | 13 | 14) => Treatment::Keep,
            _ => Treatment::Skip,
        }
    }
}

/// Reads the graph of a file; of its weights only what they are and where they lie.
///
/// # Errors
/// It cannot be read, is no ONNX file, is cut off or damaged, or has more nodes than any model has.
pub fn read(path: &Path) -> Result<Model, Problem> {
    let unreadable = |error| Problem::because(format!("cannot read {}", path.display()), error);
    let file = files::open(path).map_err(unreadable)?;
    let end = file.metadata().map_err(unreadable)?.len();
    let mut walk = Walk { path, file: BufReader::new(file), at: 0, kept: 0, fields: 0 };
    let bytes = walk.message(Kind::Model, end, 0)?;
    let model = Model::decode(bytes.as_slice()).map_err(|error| {
        Problem::because(format!("{} is damaged or no ONNX file", path.display()), error)
    })?;
    if model.graph.as_ref().is_none_or(|graph| graph.node.is_empty()) {
        return Err(Problem::new(format!("{} is no ONNX file: it has no graph", path.display())));
    }
    Ok(model)
}

struct Walk<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Where the next byte lies.
    at: u64,
    kept: u64,
    fields: u64,
}

impl Walk<'_> {
    /// What is kept of the message that ends at `end`.
    fn message(&mut self, kind: Kind, end: u64, depth: u32) -> Result<Vec<u8>, Problem> {
        if depth > DEEPEST {
            return Err(self.damaged("its messages lie too deep within each other"));
        }
        let mut bytes = Vec::new();
        let mut left = None;
        while self.at < end {
            let key = self.varint(end)?;
            let (field, wire) = (key >> 3, key & 7);
            let treatment = kind.treatment(field);
            if !matches!(treatment, Treatment::Skip) {
                self.fields += 1;
                if self.fields > MOST_FIELDS {
                    return Err(self.too_large());
                }
            }
            let length = match wire {
                0 => {
                    let value = self.varint(end)?;
                    if !matches!(treatment, Treatment::Skip) {
                        put_varint(&mut bytes, key);
                        put_varint(&mut bytes, value);
                    }
                    continue;
                }
                1 => 8,
                2 => self.varint(end)?,
                5 => 4,
                _ => return Err(self.damaged("a field has a type that there is not")),
            };
            let field_end = self.at.checked_add(length).filter(|&it| it <= end);
            let field_end = field_end.ok_or_else(|| self.cut_off(length))?;
            let is_message = wire == 2;
            match treatment {
                Treatment::Walk(inner) if is_message => {
                    let inner = self.message(inner, field_end, depth + 1)?;
                    put_varint(&mut bytes, key);
                    put_varint(&mut bytes, inner.len() as u64);
                    bytes.extend(inner);
                }
                Treatment::Data if length > SMALL => {
                    // Fields of tensors have small numbers.
                    let field = u32::try_from(field).unwrap_or(0);
                    left = Some(Left { field, offset: self.at, length });
                    self.skip(length)?;
                }
                Treatment::Keep | Treatment::Data => {
                    put_varint(&mut bytes, key);
                    if is_message {
                        put_varint(&mut bytes, length);
                    }
                    self.copy(length, &mut bytes)?;
                }
                Treatment::Walk(_) => {
                    return Err(self.damaged("a field has another type than ONNX gives it"));
                }
                Treatment::Skip => self.skip(length)?,
            }
        }
        if let Some(left) = left {
            let left = prost::Message::encode_to_vec(&left);
            put_varint(&mut bytes, (100_000 << 3) | 2);
            put_varint(&mut bytes, left.len() as u64);
            bytes.extend(left);
        }
        Ok(bytes)
    }

    /// A number of up to ten bytes, before `end`.
    fn varint(&mut self, end: u64) -> Result<u64, Problem> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return Err(self.cut_off(1));
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(|error| self.unreadable(error))?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a number is longer than ten bytes"))
    }

    fn copy(&mut self, length: u64, bytes: &mut Vec<u8>) -> Result<(), Problem> {
        self.kept = self.kept.saturating_add(length);
        if self.kept > MOST_KEPT {
            return Err(self.too_large());
        }
        let copied = (&mut self.file).take(length).read_to_end(bytes);
        self.at += length;
        match copied {
            Ok(count) if count as u64 == length => Ok(()),
            Ok(_) => Err(self.cut_off(length)),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), Problem> {
        self.at += length;
        let passed = match i64::try_from(length) {
            Ok(distance) => self.file.seek_relative(distance),
            Err(_) => self.file.seek(SeekFrom::Start(self.at)).map(|_| ()),
        };
        passed.map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: io::Error) -> Problem {
        Problem::because(format!("cannot read {}", self.path.display()), error)
    }

    fn damaged(&self, problem: &str) -> Problem {
        let path = self.path.display();
        Problem::new(format!("{path} is damaged or no ONNX file: {problem}, at byte {}", self.at))
    }

    fn cut_off(&self, needed: u64) -> Problem {
        let path = self.path.display();
        Problem::new(format!(
            "{path} is cut off, damaged or no ONNX file: what begins at byte {} needs {needed} bytes, more than follow",
            self.at
        ))
    }

    fn too_large(&self) -> Problem {
        Problem::new(format!(
            "{} has a graph of more than {} or {MOST_FIELDS} fields without its weights, more than any model has",
            self.path.display(),
            format_bytes(MOST_KEPT)
        ))
    }
}

fn put_varint(bytes: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, bytes);
}

#[cfg(test)]
mod tests {
    use super::super::proto::{Attribute, Graph, Node, Tensor};
    use super::*;
    use std::fs;

    fn tensor(name: &str, bytes: usize) -> Tensor {
        let dims = vec![i64::try_from(bytes).unwrap()];
        Tensor {
            name: name.to_owned(),
            dims,
            data_type: 2,
            raw_data: Some(vec![7; bytes]),
            ..Tensor::default()
        }
    }

    fn model() -> Model {
        let branch = Graph {
            node: vec![Node { op_type: "Identity".to_owned(), ..Node::default() }],
            initializer: vec![tensor("inner", 5000)],
            ..Graph::default()
        };
        let attribute = |name: &str| Attribute { name: name.to_owned(), ..Attribute::default() };
        let node = Node {
            input: vec!["condition".to_owned(), String::new()],
            op_type: "If".to_owned(),
            attribute: vec![
                Attribute { g: Some(branch), kind: 5, ..attribute("then_branch") },
                Attribute { t: Some(tensor("value", 8)), kind: 4, ..attribute("value") },
                Attribute { ints: vec![-1, 2], kind: 7, ..attribute("axes") },
                Attribute { f: Some(0.0), kind: 1, ..attribute("epsilon") },
            ],
            ..Node::default()
        };
        let graph = Graph {
            node: vec![node],
            initializer: vec![tensor("large", 100_000), tensor("small", 16)],
            ..Graph::default()
        };
        Model { ir_version: 10, graph: Some(graph), ..Model::default() }
    }

    fn read_bytes(bytes: &[u8]) -> Result<Model, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        fs::write(&path, bytes).unwrap();
        read(&path).map_err(|error| crate::causes::in_words(&error))
    }

    #[test]
    fn large_data_is_left_in_the_file_and_its_place_is_known() {
        let bytes = model().encode_to_vec();
        let mut read = read_bytes(&bytes).unwrap();
        let graph = read.graph.as_mut().unwrap();
        let left = graph.initializer[0].left.take().unwrap();
        assert_eq!((left.field, left.length), (9, 100_000));
        let start = usize::try_from(left.offset).unwrap();
        assert_eq!(bytes[start..start + 100_000], *vec![7; 100_000]);
        assert_ne!(bytes[start - 1], 7);
        graph.initializer[0].raw_data = Some(vec![7; 100_000]);
        let inner = &mut graph.node[0].attribute[0].g.as_mut().unwrap().initializer[0];
        assert_eq!(inner.left.take().unwrap().length, 5000);
        inner.raw_data = Some(vec![7; 5000]);
        assert_eq!(read, model());
    }

    #[test]
    fn a_place_that_the_file_itself_names_is_not_believed() {
        let mut own = model();
        own.graph.as_mut().unwrap().initializer[1].left =
            Some(Left { field: 9, offset: 1 << 60, length: 1 << 60 });
        let read = read_bytes(&own.encode_to_vec()).unwrap();
        assert_eq!(read.graph.unwrap().initializer[1].left, None);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(read_bytes(b"").unwrap_err().contains("has no graph"));
        let error = read_bytes(b"GGUF\x03\0\0\0and more").unwrap_err();
        assert!(error.contains("no ONNX file"), "{error}");
        let error = read_bytes(&model().encode_to_vec()[..50_000]).unwrap_err();
        assert!(error.contains("is cut off"), "{error}");
    }

    #[test]
    fn graphs_within_graphs_end_somewhere() {
        let mut graph = Graph { node: vec![Node::default()], ..Graph::default() };
        for _ in 0..30 {
            let attribute = Attribute { g: Some(graph), ..Attribute::default() };
            let node = Node { attribute: vec![attribute], ..Node::default() };
            graph = Graph { node: vec![node], ..Graph::default() };
        }
        let bytes = Model { graph: Some(graph), ..Model::default() }.encode_to_vec();
        assert!(read_bytes(&bytes).unwrap_err().contains("too deep"));
    }

    #[test]
    fn three_hundred_damaged_files_are_refused_or_read() {
        let whole = model().encode_to_vec();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..6) {
                // The graph lies before the weights, which are most of the file.
                let end = if random.bool() { bytes.len() } else { 300 };
                let at = random.usize(..end);
                bytes[at] = random.u8(..);
            }
            if random.bool() {
                bytes.truncate(random.usize(..bytes.len()));
            }
            if let Ok(model) = read_bytes(&bytes) {
                let _ = super::super::storage::Storage::of(&model);
            }
        }
    }
}
