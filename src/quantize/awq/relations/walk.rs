//! The way of one producer's channels through the graph, and where it must end.

use super::{Bias, Candidate, Map, Relation, Sharing, adds};
use crate::engine::llama::graph::{Node, Operation};
use std::collections::{BTreeMap, BTreeSet};

/// The way of one candidate's channels through the graph.
pub(super) struct Walk<'a, 'm> {
    map: &'m Map<'a>,
    candidate: &'m Candidate,
    /// Nodes whose output has scaled channels.
    pub(super) seen: BTreeSet<usize>,
    products: BTreeMap<usize, String>,
    biases: BTreeSet<Bias>,
    sharing: Option<Sharing>,
    columns: Option<usize>,
    matrices: BTreeSet<usize>,
}

impl<'a, 'm> Walk<'a, 'm> {
    /// At the beginning of the way.
    pub(super) fn new(map: &'m Map<'a>, candidate: &'m Candidate) -> Self {
        Self {
            map,
            candidate,
            seen: BTreeSet::new(),
            products: BTreeMap::new(),
            biases: candidate.biases.iter().cloned().collect(),
            sharing: None,
            columns: None,
            matrices: BTreeSet::new(),
        }
    }

    /// Follows it to its ends.
    pub(super) fn relation(&mut self) -> Result<Relation, String> {
        let mut open = vec![self.candidate.start];
        self.seen.insert(self.candidate.start);
        while let Some(node) = open.pop() {
            for &(consumer, role) in &self.map.consumers[node] {
                let Some(next) = self.step(node, consumer, role)? else { continue };
                if self.seen.insert(next) {
                    open.push(next);
                } else if self.map.nodes[next].operation != Operation::Leaf {
                    return Err(format!("{} combines it with itself", self.at(next)));
                }
            }
        }
        self.finish()
    }

    fn finish(&self) -> Result<Relation, String> {
        let Candidate { producer, channels, experts, .. } = self.candidate;
        let columns = self.columns.ok_or("it reaches no product with a weight")?;
        let expected = channels * self.sharing.map_or(1, |sharing| sharing.heads);
        if columns != expected {
            return Err(format!(
                "{} has {channels} channels, which do not fit products of {columns} columns",
                producer.weight()
            ));
        }
        // Scales of several experts reach the same expert's products only if all are experts.
        if *experts > 1 && (self.matrices.len() != 1 || !self.matrices.contains(experts)) {
            return Err("its experts feed products of all experts".to_owned());
        }
        Ok(Relation {
            producer: producer.clone(),
            biases: self.biases.iter().cloned().collect(),
            products: self.products.values().cloned().collect(),
            channels: *channels,
            columns,
            sharing: self.sharing,
            experts: *experts,
        })
    }

    fn at(&self, index: usize) -> String {
        let node = &self.map.nodes[index];
        if node.name.is_empty() || node.name.starts_with("node_") {
            return node.description.clone();
        }
        format!("{} ('{}')", node.description, node.name)
    }

    /// Where channels go on through a consumer that takes `node` as operand `role`; `None` at an end.
    fn step(&mut self, node: usize, consumer: usize, role: usize) -> Result<Option<usize>, String> {
        let next = &self.map.nodes[consumer];
        let on = Ok(Some(consumer));
        let stopped = |what: &str| Err(format!("{} {what}", self.at(consumer)));
        match (next.operation, role) {
            (Operation::MatrixProduct | Operation::ExpertProduct, 1) => self.product(consumer),
            (
                Operation::Rearrange
                | Operation::Copy
                | Operation::Scale
                | Operation::Relu
                | Operation::PickRows,
                0,
            )
            | (Operation::Gate { .. }, 1) => on,
            (Operation::Repeat, 0) if next.dims[0] == self.map.nodes[node].dims[0] => on,
            (Operation::View, 0) if self.is_whole(node, next) => on,
            (Operation::View, 0) => stopped("uses a part of it"),
            (Operation::Add | Operation::AddExpert, 0) if adds(next, self.candidate.experts) => {
                match self.map.weight(next, 1).filter(|_| self.map.is_alone(next, 1)) {
                    Some(bias) if bias.dims[0] == self.candidate.channels => {
                        self.biases.insert(Bias { weight: bias.name.clone(), first: 0 });
                        on
                    }
                    _ => stopped("adds it to something else"),
                }
            }
            (Operation::Add, _) => stopped("adds it to something else"),
            (Operation::Multiply, 0 | 1) => {
                let length = self.map.nodes[node].dims[0];
                if length == next.dims[0] { on } else { stopped("spreads it") }
            }
            (Operation::StoreRows, 0) if self.is_only_writer(next) => Ok(next.owner),
            (Operation::StoreRows, 2) => Ok(None),
            (Operation::Attention, 2) => self.attention(node, next).map(|()| Some(consumer)),
            (Operation::Attention, _) => stopped("compares queries and keys with it"),
            (Operation::Gate { .. }, 0) => stopped("puts it through its activation function"),
            _ => stopped("lets no scale pass"),
        }
    }

    /// A view of all elements, or of a cache, whose layout attention and products check.
    fn is_whole(&self, node: usize, view: &Node) -> bool {
        let node = &self.map.nodes[node];
        node.operation == Operation::Leaf || node.elements() == view.elements()
    }

    /// Whether a cache is written to by this node alone.
    fn is_only_writer(&self, node: &Node) -> bool {
        let stores =
            |other: &&Node| other.operation == Operation::StoreRows && other.owner == node.owner;
        node.owner.is_some() && self.map.nodes.iter().filter(stores).count() == 1
    }

    fn attention(&mut self, values: usize, node: &Node) -> Result<(), String> {
        // Values are `[width, tokens, heads]`, outputs `[width, heads, tokens]`.
        let [width, _, heads, _] = self.map.nodes[values].dims;
        let fits = node.dims[0] == width
            && heads > 0
            && node.dims[1].is_multiple_of(heads)
            && width * heads == self.candidate.channels
            && self.sharing.is_none();
        if !fits {
            return Err("the heads of its values and of its queries do not fit".to_owned());
        }
        self.sharing = Some(Sharing { width, heads: node.dims[1] / heads });
        Ok(())
    }

    fn product(&mut self, consumer: usize) -> Result<Option<usize>, String> {
        let node = &self.map.nodes[consumer];
        let Some(weight) = self.map.weight(node, 0) else {
            return Err(format!("{} multiplies it with no weight", self.at(consumer)));
        };
        if !self.map.is_alone(node, 0) {
            return Err(format!("the model uses {} in more than one place", weight.name));
        }
        if self.columns.is_some_and(|columns| columns != weight.dims[0]) {
            return Err("products see it in different shapes".to_owned());
        }
        self.columns = Some(weight.dims[0]);
        self.matrices.insert(weight.dims[2]);
        self.products.insert(consumer, weight.name.clone());
        Ok(None)
    }
}
