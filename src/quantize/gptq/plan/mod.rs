//! The plan that follows from a model's graph: products with weights in their order, grouped by inputs, the cut from
//! which those inputs are computed, and the residual stream that a product is added to.
//!
//! No architecture is known here, and only one rule about names: llama.cpp begins those of layers with `blk.`. Uses
//! `llama::graph`; used by the sequence.

mod flow;

pub(super) use flow::Flow;

use crate::engine::llama::graph::{Graph, Node, Operation};
use crate::quantize::graph::{GraphMap, is_product, source};
use std::collections::HashMap;

/// Products with the same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The names of their weights, in the order of the graph.
    pub(super) weights: Vec<String>,
    /// The first product's step.
    pub(super) step: usize,
    /// The last cut before it.
    pub(super) cut: Option<usize>,
    /// Columns of the weights.
    pub(super) columns: usize,
    /// Matrices of each weight: 1, or the number of experts.
    pub(super) matrices: usize,
    /// Whether a router chooses the matrices that each vector is multiplied with.
    pub(super) is_routed: bool,
    /// Earlier steps whose outputs are added to the product: the residual stream.
    pub(super) residuals: Vec<usize>,
    /// Rows of a matrix, where there is a residual stream.
    pub(super) residual_width: usize,
}

impl Group {
    /// The layer, from the name of the first weight.
    pub(super) fn layer(&self) -> Option<u32> {
        self.weights.first()?.strip_prefix("blk.")?.split('.').next()?.parse().ok()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GptqPlan {
    pub(super) flow: Flow,
    /// In the order of the graph.
    pub(super) groups: Vec<Group>,
    /// Weights of layers that are in no group, and why.
    pub(super) left: Vec<(String, &'static str)>,
}

impl GptqPlan {
    pub(super) fn new(graph: &Graph) -> Self {
        let map = Map { graph: GraphMap::new(graph), steps: flow::steps(graph) };
        let flow = Flow::new(graph);
        let mut groups: Vec<((usize, bool, usize), Group)> = Vec::new();
        let mut left: Vec<(String, &'static str)> = Vec::new();
        for (step, &index) in graph.steps.iter().enumerate() {
            let node = &graph.nodes[index];
            let Some((weight, input)) = map.product(node) else { continue };
            let name = graph.nodes[weight].name.clone();
            if map.graph.consumers[weight].len() > 1 {
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
                // Each product would need a residual stream of its own.
                group.residuals.clear();
                continue;
            }
            let residuals = if matrices == 1 { map.residuals(index, step) } else { Vec::new() };
            let group = Group {
                weights: vec![name],
                step,
                cut: flow.cut_before(step),
                columns,
                matrices,
                is_routed,
                residuals,
                residual_width: rows,
            };
            groups.push((key, group));
        }
        Self { flow, groups: groups.into_iter().map(|(_, group)| group).collect(), left }
    }
}

struct Map<'a> {
    graph: GraphMap<'a>,
    /// The step of each node that is computed.
    steps: HashMap<usize, usize>,
}

impl Map<'_> {
    fn node(&self, index: usize) -> &Node {
        &self.graph.nodes[index]
    }

    /// Weight and input of a product with a layer's weight.
    fn product(&self, node: &Node) -> Option<(usize, usize)> {
        let (weight, input) = (source(node, 0)?, source(node, 1)?);
        let leaf = self.node(weight);
        let is_of_layer = leaf.name.starts_with("blk.") && leaf.name.ends_with(".weight");
        (is_product(node) && leaf.operation == Operation::Leaf && is_of_layer)
            .then_some((weight, input))
    }

    /// Whether a node has the values of its first operand, all of them and in the same order.
    fn is_same(&self, node: &Node) -> bool {
        let Some(before) = source(node, 0).map(|index| self.node(index)) else { return false };
        match node.operation {
            Operation::Rearrange => true,
            Operation::View => node.elements() == before.elements(),
            // The positions that have an output: all of them.
            Operation::PickRows => {
                let rows = source(node, 1).map(|index| self.node(index).operation);
                node.dims == before.dims && rows == Some(Operation::Leaf)
            }
            _ => false,
        }
    }

    /// The first node with the values of a node.
    fn origin(&self, mut node: usize) -> usize {
        while self.is_same(self.node(node))
            && let Some(before) = source(self.node(node), 0)
        {
            node = before;
        }
        node
    }

    /// Earlier steps whose outputs are added to a product before anything else is done with it.
    fn residuals(&self, product: usize, step: usize) -> Vec<usize> {
        let mut residuals = Vec::new();
        let mut at = product;
        while let [(next, role)] = self.graph.consumers[at][..] {
            let node = self.node(next);
            if node.operation == Operation::Add
                && let Some(other) = source(node, 1 - role.min(1))
            {
                let other = self.origin(other);
                let fits = self.node(other).elements() == node.elements();
                // A bias is no step: both models have the same.
                let other = self.steps.get(&other).filter(|_| fits);
                residuals.extend(other.filter(|&&other| other < step));
            } else if role != 0 || !self.is_same(node) {
                break;
            }
            at = next;
        }
        residuals
    }
}

#[cfg(test)]
mod tests;
