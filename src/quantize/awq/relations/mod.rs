//! Which weights of a model can be scaled against each other without changing its function.
//!
//! A relation has a producer (the weight vector of a norm, or the rows of a matrix), whose output channels can be
//! divided by any positive numbers, and the products that are the only ones to use these channels. It is found by
//! following the graph forward from each producer, through operations that are linear in each channel by itself, up to
//! products with weights. Any other operation on the way is the reason why there is no relation. No tensor name and no
//! architecture is known here. Uses `llama::graph`; used by the entry point.

mod walk;

use crate::engine::llama::graph::{Graph, Node, Operation};
use crate::quantize::graph::{GraphMap, is_product, source};
use std::collections::BTreeSet;
use walk::Walk;

/// What is divided by the scales: a vector that channels are multiplied with (the weight of a norm), or rows of a matrix
/// or of each expert's matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) weight: String,
    /// The row of the first channel; `None`: a vector.
    pub(super) first_row: Option<usize>,
}

/// A vector that is added between producer and products, and is divided with the channels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bias {
    pub(super) weight: String,
    /// The element of the first channel.
    pub(super) first: usize,
}

/// Query heads that read the same value head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Channels of a head.
    pub(super) width: usize,
    /// Heads of products per head of the producer.
    pub(super) heads: usize,
}

/// A producer and the products that share its scales.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) producer: Producer,
    pub(super) biases: Vec<Bias>,
    /// Weights whose columns are multiplied by the scales.
    pub(super) products: Vec<String>,
    /// Channels of the producer.
    pub(super) channels: usize,
    /// Columns of the products.
    pub(super) columns: usize,
    /// How columns share channels, if there are more columns.
    pub(super) sharing: Option<Sharing>,
    /// Sets of scales: 1, or one per expert where producer and products are experts.
    pub(super) experts: usize,
}

impl Relation {
    /// The channel that a column of a product comes from.
    pub(super) fn channel_of(&self, column: usize) -> usize {
        self.sharing.map_or(column, |Sharing { width, heads }| {
            column / (width * heads) * width + column % width
        })
    }

    /// Scales of columns, from those of channels.
    pub(super) fn spread(&self, channels: &[f32]) -> Vec<f32> {
        (0..self.columns).map(|column| channels[self.channel_of(column)]).collect()
    }
}

/// A weight that cannot be scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unscaled {
    pub(super) weight: String,
    /// The obstacle, as a clause.
    pub(super) reason: String,
}

/// The relations of a graph, and all weights that vectors are multiplied with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Relations {
    /// In the order of the graph.
    pub(super) found: Vec<Relation>,
    /// Weights in no relation.
    pub(super) unscaled: Vec<Unscaled>,
    /// All weights, in the order of the graph.
    pub(super) order: Vec<String>,
}

/// Finds the relations of a graph.
pub(super) fn find(graph: &Graph) -> Relations {
    let map = GraphMap::new(graph);
    let mut covered = BTreeSet::new();
    let mut found: Vec<(usize, Relation)> = Vec::new();
    let mut failures: Vec<(BTreeSet<usize>, String)> = Vec::new();
    for candidate in candidates(&map) {
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
    for (index, node) in products(&map) {
        let Some(weight) = map.weight(node, 0) else { continue };
        order.push(weight.name.clone());
        let known = unscaled.iter().any(|other| other.weight == weight.name);
        if covered.contains(&weight.name) || known {
            continue;
        }
        let reason = reason(&map, index, &failures);
        unscaled.push(Unscaled { weight: weight.name.clone(), reason });
    }
    let found = found.into_iter().map(|(_, relation)| relation).collect();
    Relations { found, unscaled, order }
}

/// A producer whose channels are to be followed.
#[derive(Debug, Clone)]
struct Candidate {
    producer: Producer,
    /// The node whose output has the channels.
    start: usize,
    channels: usize,
    biases: Vec<Bias>,
    /// Matrices of the producer.
    experts: usize,
}

fn products<'a>(map: &GraphMap<'a>) -> impl Iterator<Item = (usize, &'a Node)> {
    map.nodes.iter().enumerate().filter(|(_, node)| is_product(node))
}

/// Vectors come first: among several producers of a product, the nearest one is best.
fn candidates(map: &GraphMap<'_>) -> Vec<Candidate> {
    let vectors = map.nodes.iter().enumerate().filter_map(|(start, node)| {
        let weight = map.weight(node, 1).filter(|_| node.operation == Operation::Multiply)?;
        let channels = node.dims[0];
        let fits = weight.elements() == channels && channels > 1;
        (fits && map.is_sole_use(node, 1)).then(|| Candidate {
            producer: Producer { weight: weight.name.clone(), first_row: None },
            start,
            channels,
            biases: Vec::new(),
            experts: 1,
        })
    });
    let rows = products(map).flat_map(|(start, node)| row_candidates(map, start, node));
    vectors.chain(rows).collect()
}

/// The rows of a matrix: all of them, or the ranges that the graph splits them into.
fn row_candidates(map: &GraphMap<'_>, product: usize, node: &Node) -> Vec<Candidate> {
    let Some(weight) = map.weight(node, 0).filter(|_| map.is_sole_use(node, 0)) else {
        return Vec::new();
    };
    let rows = node.dims[0];
    let mut start = product;
    let mut biases = Vec::new();
    while let [(next, 0)] = map.consumers[start][..] {
        let node = &map.nodes[next];
        let adds = adds(node, weight.dims[2]) && map.is_sole_use(node, 1);
        match map.weight(node, 1).filter(|bias| adds && bias.dims[0] == rows) {
            Some(bias) => biases.push(bias.name.clone()),
            None => break,
        }
        start = next;
    }
    let candidate = |first: usize, channels: usize, start: usize| Candidate {
        producer: Producer { weight: weight.name.clone(), first_row: Some(first) },
        start,
        channels,
        biases: biases.iter().map(|name| Bias { weight: name.clone(), first }).collect(),
        experts: weight.dims[2],
    };
    if let [(gate, 0)] = map.consumers[start][..]
        && let Operation::Gate { swapped } = map.nodes[gate].operation
        && map.nodes[gate].sources.len() == 1
    {
        let half = rows / 2;
        return vec![candidate(if swapped { 0 } else { half }, half, gate)];
    }
    let vectors = (map.nodes[start].elements() / rows.max(1)).max(1);
    let part = |&(view, _): &(usize, usize)| {
        (map.nodes[view].offset, map.nodes[view].elements() / vectors, view)
    };
    let mut parts: Vec<(usize, usize, usize)> = map.consumers[start].iter().map(part).collect();
    parts.sort_unstable();
    let is_split = parts.len() > 1
        && parts.iter().all(|&(.., view)| map.nodes[view].operation == Operation::View)
        && parts.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
        && parts.last().is_some_and(|&(first, channels, _)| first + channels <= rows);
    if is_split {
        return parts.into_iter().map(|(first, rows, view)| candidate(first, rows, view)).collect();
    }
    vec![candidate(0, rows, start)]
}

/// Why a product's weight is in no relation.
fn reason(map: &GraphMap<'_>, product: usize, failures: &[(BTreeSet<usize>, String)]) -> String {
    let node = &map.nodes[product];
    if !map.is_sole_use(node, 0) {
        return "the model uses it in more than one place".to_owned();
    }
    let Some(mut input) = source(node, 1) else { return "it has no input".to_owned() };
    if let Some((_, reason)) = failures.iter().rev().find(|(seen, _)| seen.contains(&input)) {
        return reason.clone();
    }
    while matches!(map.nodes[input].operation, Operation::Rearrange | Operation::Copy)
        && let Some(before) = source(&map.nodes[input], 0)
    {
        input = before;
    }
    let description = &map.nodes[input].description;
    format!("no scale can be taken out of its input, which {description} makes")
}

/// Whether a node adds a vector to the channels of a producer with this number of experts.
fn adds(node: &Node, experts: usize) -> bool {
    match node.operation {
        Operation::Add => experts == 1,
        Operation::AddExpert => experts > 1,
        _ => false,
    }
}
