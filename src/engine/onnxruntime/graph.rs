//! What a graph's file says before it is loaded: its weights, and whether its caches can be shared.

use super::layout::Port;
use crate::causes::Problem;
use crate::onnx::names::Names;
use crate::onnx::proto::{
    Element, Graph, Model, Node, OperatorSet, Shape, TensorKind, ValueInfo, ValueKind,
};
use crate::onnx::storage::{Share, Storage};
use crate::onnx::{CONTRIB, external};
use prost::Message as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The operator that writes keys and values into the buffer that it reads them from.
const IN_PLACE: &str = "GroupQueryAttention";

/// What a file says of its graph.
#[derive(Debug, Clone)]
pub(super) struct GraphFacts {
    pub(super) storage: Storage,
    /// Positions that there are turns (`RoPE`) for; `None`: any.
    pub(super) positions: Option<u32>,
    /// Whether a cache as long as the context may be given as past and as present: attention writes into it, and nothing
    /// else looks at its length.
    pub(super) shares_caches: bool,
    /// What its inputs and outputs are called.
    pub(super) names: Names,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// Numbers of the widest row that a product with weights gives, logits left out.
    pub(super) widest: usize,
    /// Heads of queries; 0: no operator says how many.
    pub(super) heads: usize,
}

impl GraphFacts {
    /// Reads a file's graph, and checks that its weights are there.
    ///
    /// # Errors
    /// It is no ONNX file, or weights are missing.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let model = crate::onnx::read(path)?;
        external::files(path, &model)?;
        let storage = Storage::of(&model);
        let graph = model.graph.unwrap_or_default();
        let names = Names::beside(path);
        let shares_caches = shares_caches(&graph, &names);
        let (inputs, outputs) = Port::in_file(&names, &graph);
        let (positions, widest) = (positions(&graph), widest(&graph, &outputs));
        let heads =
            graph.node.iter().filter_map(|node| usize::try_from(node.number("num_heads")?).ok());
        let heads = heads.max().unwrap_or(0);
        Ok(Self { storage, positions, shares_caches, names, inputs, outputs, widest, heads })
    }

    /// What all weights come to.
    pub(super) fn sum(&self, of: impl Fn(&Share) -> u64) -> u64 {
        self.storage.shares.iter().map(of).fold(0, u64::saturating_add)
    }
}

/// Rows of the smallest table of turns.
fn positions(graph: &Graph) -> Option<u32> {
    let rows = |name: &String| {
        let table = graph.initializer.iter().find(|it| it.name == *name)?;
        table.dims.first().and_then(|&rows| u32::try_from(rows).ok())
    };
    let tables = graph.node.iter().filter_map(|node| match node.op_type.as_str() {
        "GroupQueryAttention" => node.input.get(7).and_then(rows),
        "RotaryEmbedding" if node.domain == CONTRIB => node.input.get(2).and_then(rows),
        _ => None,
    });
    tables.min()
}

/// The smallest graph, as a file: what a session takes besides its weights is known when there is one.
pub(super) fn smallest() -> Vec<u8> {
    let tensor = TensorKind { element: Element::Float.into(), shape: Some(Shape::default()) };
    let value = |name: &str| ValueInfo {
        name: name.to_owned(),
        kind: Some(ValueKind { tensor: Some(tensor.clone()) }),
    };
    let [x, y] = ["x", "y"].map(value);
    let node = Node {
        op_type: "Identity".to_owned(),
        input: vec![x.name.clone()],
        output: vec![y.name.clone()],
        ..Node::default()
    };
    let name = "smallest".to_owned();
    let graph =
        Graph { name, node: vec![node], input: vec![x], output: vec![y], ..Graph::default() };
    let opset_import = vec![OperatorSet { domain: String::new(), version: 13 }];
    let model = Model { ir_version: 8, graph: Some(graph), opset_import, ..Model::default() };
    model.encode_to_vec()
}

/// The widest row that a product with weights gives, but for those that the graph gives itself.
fn widest(graph: &Graph, outputs: &[Port]) -> usize {
    let widths: HashMap<&str, i64> = graph
        .initializer
        .iter()
        .filter_map(|it| Some((it.name.as_str(), *it.dims.last()?)))
        .collect();
    // What the graph gives is counted by its shape; a product in whole numbers is scaled before that.
    let is_given = |width: i64| outputs.iter().any(|it| it.dimensions.last() == Some(&width));
    let width = |node: &Node| match node.op_type.as_str() {
        "MatMulNBits" | "MatMulBnb4" => node.number("N"),
        "MatMul" | "MatMulInteger" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => {
            node.input.get(1).and_then(|name| widths.get(name.as_str()).copied())
        }
        _ => None,
    };
    let widths = graph.node.iter().filter_map(width).filter(|&width| !is_given(width));
    widths.filter_map(|width| usize::try_from(width).ok()).max().unwrap_or(0)
}

/// Files beside a graph's that hold its weights.
///
/// # Errors
/// As [`GraphFacts::read`].
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let files = external::files(path, &crate::onnx::read(path)?)?;
    Ok(files.into_iter().map(|(file, _)| file).collect())
}

/// Whether every cache is read by one attention alone, which writes in place what comes out.
fn shares_caches(graph: &Graph, names: &Names) -> bool {
    let mut readers: HashMap<&str, Vec<(&Node, usize)>> = HashMap::new();
    let mut writers: HashMap<&str, &Node> = HashMap::new();
    for node in &graph.node {
        for (place, input) in node.input.iter().enumerate() {
            readers.entry(input).or_default().push((node, place));
        }
        for output in &node.output {
            writers.insert(output, node);
        }
        // What a branch reads from around it is not followed.
        if node.attribute.iter().any(|it| it.g.is_some() || !it.graphs.is_empty()) {
            return false;
        }
    }
    let is_attention = |node: &Node| node.op_type == IN_PLACE && node.domain == CONTRIB;
    let is_past = |name: &str| names.input(name).starts_with("past");
    let mut pasts = graph.input.iter().filter(|input| is_past(&input.name)).peekable();
    pasts.peek().is_some()
        && pasts.all(|past| {
            let Some(&[(reader, place)]) = readers.get(past.name.as_str()).map(Vec::as_slice)
            else {
                return false;
            };
            // Inputs 3 and 4 are the past, outputs 1 and 2 the present.
            let present = place.checked_sub(2).and_then(|place| reader.output.get(place));
            is_attention(reader)
                && matches!(place, 3 | 4)
                && present.is_some_and(|present| {
                    graph.output.iter().any(|output| output.name == *present)
                        && writers.get(present.as_str()).is_some_and(|it| std::ptr::eq(*it, reader))
                        && !readers.contains_key(present.as_str())
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::ValueInfo;

    fn value(name: &str) -> ValueInfo {
        ValueInfo { name: name.to_owned(), ..ValueInfo::default() }
    }

    fn graph(operator: &str, others: &[&str]) -> Graph {
        let texts = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let attention = Node {
            op_type: operator.to_owned(),
            domain: CONTRIB.to_owned(),
            input: texts(&["q", "k", "v", "past.0.key", "past.0.value", "lengths", "total"]),
            output: texts(&["y", "present.0.key", "present.0.value"]),
            ..Node::default()
        };
        let other = Node { op_type: "Shape".to_owned(), input: texts(others), ..Node::default() };
        Graph {
            node: vec![attention, other],
            input: ["past.0.key", "past.0.value"].map(value).to_vec(),
            output: ["present.0.key", "present.0.value"].map(value).to_vec(),
            ..Graph::default()
        }
    }

    #[test]
    fn caches_are_shared_where_attention_alone_looks_at_them() {
        let shares_caches = |graph: &Graph| shares_caches(graph, &Names::default());
        assert!(shares_caches(&graph(IN_PLACE, &["mask"])));
        assert!(!shares_caches(&graph("MultiHeadAttention", &["mask"])));
        assert!(!shares_caches(&graph(IN_PLACE, &["past.0.key"])), "their length is looked at");
        assert!(!shares_caches(&graph(IN_PLACE, &["present.0.value"])));
        assert!(!shares_caches(&Graph::default()), "there is no cache");
    }
}
