//! What is to be done, from a model's graph: products with weights, in their order, those with the same inputs
//! together, where to begin computing those inputs, and which residual stream a product is added to.
//!
//! No architecture is known here; of names, only that llama.cpp begins those of layers' weights with `blk.`. Uses
//! `llama::graph`; used by the sequence.

mod flow;

pub use flow::Flow;

use crate::engine::llama::graph::{Graph, Node, Operation};
use std::collections::HashMap;

/// Products that have the same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The names of their weights, in the order of the graph.
    pub weights: Vec<String>,
    /// The first product's step.
    pub step: usize,
    /// The last cut before it.
    pub cut: Option<usize>,
    /// Columns of the weights.
    pub columns: usize,
    /// Matrices of each weight: 1, or the number of experts.
    pub matrices: usize,
    /// Whether each vector is multiplied with chosen matrices, not all with their own.
    pub is_routed: bool,
    /// Steps whose outputs are added to the product, all of them before it: the residual stream.
    pub streams: Vec<usize>,
    /// Rows of a matrix, where there is a residual stream.
    pub stream_width: usize,
}

impl Group {
    /// The layer that its weights' names give.
    #[must_use]
    pub fn layer(&self) -> Option<u32> {
        self.weights.first()?.strip_prefix("blk.")?.split('.').next()?.parse().ok()
    }
}

/// What a graph says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What needs what.
    pub flow: Flow,
    /// The groups, in the order of the graph.
    pub groups: Vec<Group>,
    /// Weights of layers that are in none, and why.
    pub left: Vec<(String, &'static str)>,
}

impl Plan {
    /// Of a graph.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let map = Map::new(graph);
        let flow = Flow::new(graph);
        let mut groups: Vec<((usize, bool, usize), Group)> = Vec::new();
        let mut left: Vec<(String, &'static str)> = Vec::new();
        for (step, &index) in graph.steps.iter().enumerate() {
            let node = &graph.nodes[index];
            let Some((weight, input)) = map.product(node) else { continue };
            let name = graph.nodes[weight].name.clone();
            if map.consumers[weight].len() > 1 {
                if left.iter().all(|(other, _)| *other != name) {
                    left.push((name, "the model uses it in more than one place"));
                }
                continue;
            }
            let [columns, rows, matrices, _] = graph.nodes[weight].dims;
            let is_routed = node.operation == Operation::ExpertProduct;
            let key = (map.origin(input), is_routed, matrices);
            if let Some((_, group)) = groups.iter_mut().find(|(other, _)| *other == key) {
                group.weights.push(name);
                // A drift of the stream would be that of one of them only.
                group.streams.clear();
                continue;
            }
            let streams = if matrices == 1 { map.streams(index, step) } else { Vec::new() };
            let group = Group {
                weights: vec![name],
                step,
                cut: flow.cut_before(step),
                columns,
                matrices,
                is_routed,
                streams,
                stream_width: rows,
            };
            groups.push((key, group));
        }
        Self { flow, groups: groups.into_iter().map(|(_, group)| group).collect(), left }
    }
}

/// A graph with the consumers of each node.
struct Map<'a> {
    nodes: &'a [Node],
    /// Consumers of each node, and as which operand they take it.
    consumers: Vec<Vec<(usize, usize)>>,
    steps: HashMap<usize, usize>,
}

impl<'a> Map<'a> {
    fn new(graph: &'a Graph) -> Self {
        let steps = graph.steps.iter().enumerate().map(|(step, &node)| (node, step)).collect();
        Self { nodes: &graph.nodes, consumers: graph.consumers(), steps }
    }

    /// Weight and input of a product with a layer's weight.
    fn product(&self, node: &Node) -> Option<(usize, usize)> {
        let is_product =
            matches!(node.operation, Operation::MatrixProduct | Operation::ExpertProduct);
        let weight = source(node, 0).filter(|_| is_product)?;
        let leaf = &self.nodes[weight];
        let of_layer = leaf.name.starts_with("blk.") && leaf.name.ends_with(".weight");
        let input = source(node, 1)?;
        (leaf.operation == Operation::Leaf && of_layer).then_some((weight, input))
    }

    /// Whether a node has all values of its first operand, in their order.
    fn is_same(&self, node: &Node) -> bool {
        let Some(before) = source(node, 0).map(|index| &self.nodes[index]) else { return false };
        match node.operation {
            Operation::Rearrange => true,
            Operation::View => node.elements() == before.elements(),
            // The positions that have an output: all of them.
            Operation::PickRows => {
                let rows = source(node, 1).map(|index| &self.nodes[index]);
                node.dims == before.dims
                    && rows.is_some_and(|rows| rows.operation == Operation::Leaf)
            }
            _ => false,
        }
    }

    /// The node whose values a node has.
    fn origin(&self, mut node: usize) -> usize {
        while self.is_same(&self.nodes[node])
            && let Some(before) = source(&self.nodes[node], 0)
        {
            node = before;
        }
        node
    }

    /// What is added to a product before anything else is done with it, as far as it is computed before.
    fn streams(&self, product: usize, step: usize) -> Vec<usize> {
        let mut streams = Vec::new();
        let mut at = product;
        while let [(next, role)] = self.consumers[at][..] {
            let node = &self.nodes[next];
            if node.operation == Operation::Add
                && let Some(other) = source(node, 1 - role.min(1))
            {
                let other = self.origin(other);
                let fits = self.nodes[other].elements() == node.elements();
                // A bias is no step: it is the same in both models.
                let other = self.steps.get(&other).filter(|_| fits);
                streams.extend(other.filter(|&&other| other < step));
            } else if role != 0 || !self.is_same(node) {
                break;
            }
            at = next;
        }
        streams
    }
}

/// The node that is an operand, by index.
fn source(node: &Node, role: usize) -> Option<usize> {
    node.sources.get(role).copied().flatten()
}

#[cfg(test)]
mod tests;
