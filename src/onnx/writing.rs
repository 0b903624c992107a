//! Writing an ONNX file whose weights come one after the other: they are never in memory together.

use super::proto::{Entry, Graph, Model, Tensor};
use crate::causes::Problem;
use prost::Message as _;
use std::io::{self, Write};

/// ONNX files are read whole by protobuf, which has this limit; a graph of more bytes has its weights in another file.
pub const MOST_INSIDE: u64 = (1 << 31) - (64 << 20);
/// What the format advises for the places of weights in other files, so that they can be mapped.
const ALIGNMENT: u64 = 4096;
/// Numbers of fields: the graph of a model, a weight of a graph, the data of a tensor.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;

/// A file under way: its graph is written, its weights are to come.
#[derive(Debug)]
pub struct Writer<W> {
    graph: W,
    /// Where the weights go, if not into the file of the graph, and how far it is written.
    data: Option<(W, u64)>,
    /// What is still to come, the next one last, with the bytes of its data.
    awaited: Vec<(Tensor, u64)>,
}

impl<W: Write> Writer<W> {
    /// Begins a file of `model`, in whose graph `weights` are missing. Their data goes into `data`, a file by its name
    /// beside that of the graph, or into the graph.
    ///
    /// # Errors
    /// It cannot be written, or a weight has a shape that cannot be.
    pub fn create(
        model: &Model,
        weights: Vec<Tensor>,
        graph: W,
        data: Option<(W, &str)>,
    ) -> Result<Self, Problem> {
        let sized = weights.into_iter().map(|tensor| match tensor.bytes() {
            Some(bytes) => Ok((tensor, bytes)),
            None => Err(Problem::new(format!("weight '{}' has no shape that can be", tensor.name))),
        });
        let mut awaited: Vec<(Tensor, u64)> = sized.collect::<Result<_, _>>()?;
        let mut whole = model.clone();
        let mut inner = whole.graph.take().unwrap_or_default();
        if let Some((_, location)) = &data {
            let mut end = 0_u64;
            for (tensor, bytes) in &awaited {
                let offset = end.next_multiple_of(ALIGNMENT);
                inner.initializer.push(elsewhere(tensor, location, offset, *bytes));
                end = offset.saturating_add(*bytes);
            }
        }
        let inside = if data.is_none() { awaited.as_slice() } else { &[] };
        let mut writer = Self { graph, data: data.map(|(file, _)| (file, 0)), awaited: Vec::new() };
        writer.begin(&whole, &inner, inside).map_err(unwritable)?;
        awaited.reverse();
        writer.awaited = awaited;
        Ok(writer)
    }

    /// Everything up to the first weight.
    fn begin(&mut self, rest: &Model, graph: &Graph, inside: &[(Tensor, u64)]) -> io::Result<()> {
        let (rest, graph) = (rest.encode_to_vec(), graph.encode_to_vec());
        let weights = inside.iter().map(|(tensor, bytes)| {
            let length = tensor_bytes(tensor, *bytes);
            header(INITIALIZER, length).len() as u64 + length
        });
        let length = graph.len() as u64 + weights.fold(0, u64::saturating_add);
        self.graph.write_all(&rest)?;
        self.graph.write_all(&header(GRAPH, length))?;
        self.graph.write_all(&graph)
    }

    /// Writes the data of the next weight.
    ///
    /// # Errors
    /// It cannot be written, or is not the weight whose turn it is, or of another size.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<(), Problem> {
        let (tensor, bytes) = self
            .awaited
            .pop()
            .filter(|(tensor, bytes)| tensor.name == name && *bytes == data.len() as u64)
            .ok_or_else(|| {
                Problem::new(format!("weight '{name}' comes out of turn or in another size"))
            })?;
        self.put(&tensor, bytes, data).map_err(unwritable)
    }

    fn put(&mut self, tensor: &Tensor, bytes: u64, data: &[u8]) -> io::Result<()> {
        match &mut self.data {
            None => {
                self.graph.write_all(&header(INITIALIZER, tensor_bytes(tensor, bytes)))?;
                self.graph.write_all(&tensor.encode_to_vec())?;
                self.graph.write_all(&header(RAW_DATA, bytes))?;
                self.graph.write_all(data)
            }
            Some((file, end)) => {
                let offset = end.next_multiple_of(ALIGNMENT);
                let gap = usize::try_from(offset - *end).unwrap_or(0);
                file.write_all(&vec![0; gap])?;
                file.write_all(data)?;
                *end = offset + bytes;
                Ok(())
            }
        }
    }

    /// Ends the file and gives back where it was written: the graph, and the weights if they are elsewhere.
    ///
    /// # Errors
    /// It cannot be written, or a weight is missing.
    pub fn finish(mut self) -> Result<(W, Option<W>), Problem> {
        if let Some((tensor, _)) = self.awaited.last() {
            return Err(Problem::new(format!("weight '{}' is missing", tensor.name)));
        }
        self.graph.flush().map_err(unwritable)?;
        let mut data = self.data.map(|(file, _)| file);
        if let Some(file) = &mut data {
            file.flush().map_err(unwritable)?;
        }
        Ok((self.graph, data))
    }
}

/// What a graph says of a weight in another file.
fn elsewhere(tensor: &Tensor, location: &str, offset: u64, bytes: u64) -> Tensor {
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    let external_data = vec![
        entry("location", location.to_owned()),
        entry("offset", offset.to_string()),
        entry("length", bytes.to_string()),
    ];
    Tensor { data_location: Some(1), external_data, ..tensor.clone() }
}

/// The beginning of a field that has a length.
fn header(field: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint((field << 3) | 2, &mut bytes);
    prost::encoding::encode_varint(length, &mut bytes);
    bytes
}

/// Bytes of a tensor with its data.
fn tensor_bytes(tensor: &Tensor, data: u64) -> u64 {
    (tensor.encoded_len() as u64)
        .saturating_add(header(RAW_DATA, data).len() as u64)
        .saturating_add(data)
}

fn unwritable(error: io::Error) -> Problem {
    Problem::because("the file cannot be written", error)
}

#[cfg(test)]
mod tests {
    use super::super::proto::{Element, Node};
    use super::*;
    use std::fs;

    fn weight(name: &str, dims: &[i64]) -> Tensor {
        let data_type = Element::Float.into();
        Tensor { name: name.to_owned(), dims: dims.to_vec(), data_type, ..Tensor::default() }
    }

    fn model() -> Model {
        let node = Node { op_type: "MatMul".to_owned(), ..Node::default() };
        let small = Tensor { raw_data: Some(vec![0; 4]), ..weight("small", &[1]) };
        let graph = Graph { node: vec![node], initializer: vec![small], ..Graph::default() };
        Model { ir_version: 10, graph: Some(graph), ..Model::default() }
    }

    /// The files of a model with two weights.
    fn written(location: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let weights = vec![weight("a", &[2, 3]), weight("b", &[0]), weight("c", &[300])];
        let data = location.map(|location| (Vec::new(), location));
        let mut writer = Writer::create(&model(), weights, Vec::new(), data).unwrap();
        writer.write("a", &[1; 24]).unwrap();
        writer.write("b", &[]).unwrap();
        writer.write("c", &[3; 1200]).unwrap();
        let (graph, data) = writer.finish().unwrap();
        (graph, data.unwrap_or_default())
    }

    #[test]
    fn a_streamed_file_is_the_one_that_prost_would_write() {
        let (bytes, _) = written(None);
        let mut expected = model();
        let graph = expected.graph.as_mut().unwrap();
        for (name, dims, data) in [
            ("a", vec![2, 3], vec![1; 24]),
            ("b", vec![0], vec![]),
            ("c", vec![300], vec![3; 1200]),
        ] {
            graph.initializer.push(Tensor { raw_data: Some(data), ..weight(name, &dims) });
        }
        assert_eq!(Model::decode(bytes.as_slice()).unwrap(), expected);
        assert_eq!(bytes.len(), expected.encoded_len());
    }

    #[test]
    fn weights_beside_the_graph_lie_where_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let (graph, data) = written(Some("model.onnx_data"));
        fs::write(&path, graph).unwrap();
        let beside = folder.path().join("model.onnx_data");
        fs::write(&beside, &data).unwrap();
        let read = super::super::read(&path).unwrap();
        assert_eq!(super::super::external::files(&path, &read).unwrap(), [(beside, 4096 + 1200)]);
        let graph = read.graph.unwrap();
        let place = super::super::external::External::of(&graph.initializer[3]).unwrap().unwrap();
        assert_eq!((place.offset, place.length), (4096, Some(1200)));
        assert_eq!((&data[..24], &data[4096..]), ([1; 24].as_slice(), [3; 1200].as_slice()));
    }

    #[test]
    fn weights_out_of_turn_and_missing_ones_are_told() {
        let begin = || {
            let weights = vec![weight("a", &[1]), weight("b", &[1])];
            Writer::create(&model(), weights, Vec::new(), None).unwrap()
        };
        assert!(begin().write("b", &[0; 4]).is_err());
        assert!(begin().write("a", &[0; 3]).is_err());
        let mut writer = begin();
        writer.write("a", &[0; 4]).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("'b' is missing"));
    }
}
