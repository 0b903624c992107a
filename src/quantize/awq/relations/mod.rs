//! Where a model's graph lets a scale of channels pass, so that it can be taken out before a product and put
//! into the product's weights.
//!
//! A relation has a producer, whose output's channels can be divided by any positive numbers (the weight vector of
//! a norm, or the rows of a matrix), and the products that see those channels and nothing else does. It is
//! found by following the graph forward from each producer: through what is linear in each channel by itself, up
//! to products with weights. Anything else on the way is a reason why not. No name of a tensor and no
//! architecture is known here. Uses `llama::graph`; used by the entry point.

mod walk;

use crate::engine::llama::graph::{Graph, Node, Operation};
use std::collections::BTreeSet;
use walk::Walk;

/// What takes the scale out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Producer {
    /// A vector that channels are multiplied with: the weight of a norm.
    Vector {
        /// Its name.
        weight: String,
    },
    /// Rows of a matrix, or of each expert's matrix.
    Rows {
        /// Its name.
        weight: String,
        /// The row of the first channel.
        first: usize,
    },
}

impl Producer {
    /// The name of its weight.
    #[must_use]
    pub fn weight(&self) -> &str {
        match self {
            Self::Vector { weight } | Self::Rows { weight, .. } => weight,
        }
    }
}

/// A vector that is added between producer and products, and is scaled with the channels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bias {
    /// Its name.
    pub weight: String,
    /// The element of the first channel.
    pub first: usize,
}

/// Query heads that read the same value head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// Channels of a head.
    pub width: usize,
    /// Heads of products per head of the producer.
    pub heads: usize,
}

/// A producer and the products that its scale can be put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// What takes the scale out.
    pub producer: Producer,
    /// What is added on the way.
    pub biases: Vec<Bias>,
    /// Weights whose columns take the scale in.
    pub products: Vec<String>,
    /// Channels of the producer.
    pub channels: usize,
    /// Columns of the products.
    pub columns: usize,
    /// How columns share channels, if they are more.
    pub sharing: Option<Sharing>,
    /// Sets of scales: 1, or one per expert where producer and products are experts.
    pub experts: usize,
}

impl Relation {
    /// The channel that a column of a product comes from.
    #[must_use]
    pub fn channel_of(&self, column: usize) -> usize {
        self.sharing.map_or(column, |Sharing { width, heads }| {
            column / (width * heads) * width + column % width
        })
    }

    /// Scales of columns, from those of channels.
    #[must_use]
    pub fn spread(&self, channels: &[f32]) -> Vec<f32> {
        (0..self.columns).map(|column| channels[self.channel_of(column)]).collect()
    }
}

/// A weight that no scale can be put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unscaled {
    /// Its name.
    pub weight: String,
    /// Why.
    pub reason: String,
}

/// What a graph says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relations {
    /// In the order of the graph.
    pub found: Vec<Relation>,
    /// All other weights that vectors are multiplied with.
    pub unscaled: Vec<Unscaled>,
    /// All weights that vectors are multiplied with, in the order of the graph.
    pub order: Vec<String>,
}

/// Finds the relations of a graph.
#[must_use]
pub fn find(graph: &Graph) -> Relations {
    let map = Map::new(graph);
    let candidates = map.candidates();
    let mut covered = BTreeSet::new();
    let mut found: Vec<(usize, Relation)> = Vec::new();
    let mut failures: Vec<(BTreeSet<usize>, String)> = Vec::new();
    for candidate in candidates {
        let mut walk = Walk::new(&map, &candidate);
        match walk.relation() {
            Ok(relation) if relation.products.iter().any(|name| covered.contains(name)) => {}
            Ok(relation) => {
                covered.extend(relation.products.iter().cloned());
                found.push((candidate.start, relation));
            }
            Err(reason) => failures.push((walk.seen, reason)),
        }
    }
    found.sort_by_key(|(start, _)| *start);
    let mut unscaled: Vec<Unscaled> = Vec::new();
    let mut order = Vec::new();
    for (index, node) in map.products() {
        let Some(weight) = map.weight(node, 0) else { continue };
        order.push(weight.name.clone());
        let known = unscaled.iter().any(|other| other.weight == weight.name);
        if covered.contains(&weight.name) || known {
            continue;
        }
        let reason = map.reason(index, &failures);
        unscaled.push(Unscaled { weight: weight.name.clone(), reason });
    }
    let found = found.into_iter().map(|(_, relation)| relation).collect();
    Relations { found, unscaled, order }
}

/// A graph with the consumers of each node.
struct Map<'a> {
    nodes: &'a [Node],
    /// Consumers of each node, and as which operand they take it.
    consumers: Vec<Vec<(usize, usize)>>,
}

/// A producer to be followed.
#[derive(Debug, Clone)]
struct Candidate {
    producer: Producer,
    /// The node whose output's channels are scaled.
    start: usize,
    channels: usize,
    biases: Vec<Bias>,
    /// Matrices of the producer.
    experts: usize,
}

impl<'a> Map<'a> {
    fn new(graph: &'a Graph) -> Self {
        Self { nodes: &graph.nodes, consumers: graph.consumers() }
    }

    /// The weight that is an operand, if it is one.
    fn weight(&self, node: &Node, role: usize) -> Option<&'a Node> {
        let operand = &self.nodes[source(node, role)?];
        let named = [".weight", ".bias"].iter().any(|end| operand.name.ends_with(end));
        (operand.operation == Operation::Leaf && named).then_some(operand)
    }

    /// Whether nothing else takes this operand.
    fn is_alone(&self, node: &Node, role: usize) -> bool {
        source(node, role).is_some_and(|index| self.consumers[index].len() == 1)
    }

    /// Products with weights.
    fn products(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.nodes.iter().enumerate().filter(|(_, node)| is_product(node))
    }

    /// Producers: vectors first, since a scale is best taken out where it comes nearest to the products.
    fn candidates(&self) -> Vec<Candidate> {
        let vectors = self.nodes.iter().enumerate().filter_map(|(start, node)| {
            if node.operation != Operation::Multiply {
                return None;
            }
            let weight = self.weight(node, 1)?;
            let channels = node.dims[0];
            let fits = weight.elements() == channels && channels > 1;
            (fits && self.is_alone(node, 1)).then(|| Candidate {
                producer: Producer::Vector { weight: weight.name.clone() },
                start,
                channels,
                biases: Vec::new(),
                experts: 1,
            })
        });
        let rows = self.products().flat_map(|(start, node)| self.row_candidates(start, node));
        vectors.chain(rows).collect()
    }

    /// The rows of a matrix: all of them, or the ranges that the graph splits them into.
    fn row_candidates(&self, product: usize, node: &Node) -> Vec<Candidate> {
        let Some(weight) = self.weight(node, 0).filter(|_| self.is_alone(node, 0)) else {
            return Vec::new();
        };
        let rows = node.dims[0];
        let mut start = product;
        let mut biases = Vec::new();
        // What follows at once and leaves the rows as they are.
        while let [(next, 0)] = self.consumers[start][..] {
            let node = &self.nodes[next];
            let adds = adds(node, weight.dims[2]) && self.is_alone(node, 1);
            match self.weight(node, 1).filter(|bias| adds && bias.dims[0] == rows) {
                Some(bias) => biases.push(bias.name.clone()),
                None => break,
            }
            start = next;
        }
        let candidate = |first: usize, channels: usize, start: usize| Candidate {
            producer: Producer::Rows { weight: weight.name.clone(), first },
            start,
            channels,
            biases: biases.iter().map(|name| Bias { weight: name.clone(), first }).collect(),
            experts: weight.dims[2],
        };
        if let [(gate, 0)] = self.consumers[start][..]
            && let Operation::Gate { swapped } = self.nodes[gate].operation
            && self.nodes[gate].sources.len() == 1
        {
            let half = rows / 2;
            return vec![candidate(if swapped { 0 } else { half }, half, gate)];
        }
        let vectors = (self.nodes[start].elements() / rows.max(1)).max(1);
        let mut parts: Vec<(usize, usize, usize)> = self.consumers[start]
            .iter()
            .map(|&(view, _)| {
                (self.nodes[view].offset, self.nodes[view].elements() / vectors, view)
            })
            .collect();
        parts.sort_unstable();
        let split = parts.len() > 1
            && parts.iter().all(|&(.., view)| self.nodes[view].operation == Operation::View)
            && parts.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
            && parts.last().is_some_and(|&(first, channels, _)| first + channels <= rows);
        if split {
            return parts
                .into_iter()
                .map(|(first, rows, view)| candidate(first, rows, view))
                .collect();
        }
        vec![candidate(0, rows, start)]
    }

    /// Why a product's weight takes no scale in.
    fn reason(&self, product: usize, failures: &[(BTreeSet<usize>, String)]) -> String {
        let node = &self.nodes[product];
        if !self.is_alone(node, 0) {
            return "the model uses it in more than one place".to_owned();
        }
        let Some(mut input) = source(node, 1) else { return "it has no input".to_owned() };
        if let Some((_, reason)) = failures.iter().rev().find(|(seen, _)| seen.contains(&input)) {
            return reason.clone();
        }
        while matches!(self.nodes[input].operation, Operation::Rearrange | Operation::Copy)
            && let Some(before) = source(&self.nodes[input], 0)
        {
            input = before;
        }
        format!(
            "no scale can be taken out of its input, which {} makes",
            self.nodes[input].description
        )
    }
}

/// The node that is an operand, by index.
fn source(node: &Node, role: usize) -> Option<usize> {
    node.sources.get(role).copied().flatten()
}

fn is_product(node: &Node) -> bool {
    matches!(node.operation, Operation::MatrixProduct | Operation::ExpertProduct)
}

/// Whether a node adds a vector to each channel of a producer of so many experts.
fn adds(node: &Node, experts: usize) -> bool {
    match node.operation {
        Operation::Add => experts == 1,
        Operation::AddExpert => experts > 1,
        _ => false,
    }
}
