//! A model's graph with the consumers of each node. Uses `llama::graph`; used by `awq` and `gptq`.

use crate::engine::llama::graph::{Graph, Node, Operation};

pub(super) struct GraphMap<'a> {
    pub(super) nodes: &'a [Node],
    /// Consumers of each node, and as which operand they take it.
    pub(super) consumers: Vec<Vec<(usize, usize)>>,
}

impl<'a> GraphMap<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        Self { nodes: &graph.nodes, consumers: graph.consumers() }
    }

    /// An operand of a node, if it is a weight or a bias.
    pub(super) fn weight(&self, node: &Node, operand: usize) -> Option<&'a Node> {
        Some(&self.nodes[source(node, operand)?]).filter(|node| is_weight(node))
    }

    /// Whether nothing else takes this operand.
    pub(super) fn is_sole_use(&self, node: &Node, operand: usize) -> bool {
        source(node, operand).is_some_and(|index| self.consumers[index].len() == 1)
    }
}

/// Index of the node that is an operand.
pub(super) fn source(node: &Node, operand: usize) -> Option<usize> {
    node.sources.get(operand).copied().flatten()
}

pub(super) fn is_product(node: &Node) -> bool {
    matches!(node.operation, Operation::MatrixProduct | Operation::ExpertProduct)
}

pub(super) fn is_weight(node: &Node) -> bool {
    node.operation == Operation::Leaf
        && [".weight", ".bias"].iter().any(|end| node.name.ends_with(end))
}
