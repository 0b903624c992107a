//! What each step of a graph needs, and where everything flows through one step.
//!
//! Such a step is a cut: with its values alone, and the weights, all that comes behind it can be computed. In a
//! network with a residual stream the cuts are that stream, before and after each of its parts. Nothing is
//! known here of architectures or names but those of weights. Uses `llama::graph`; used by the plan.

use crate::engine::llama::graph::{Graph, Node, Operation};
use crate::engine::llama::partial::{Look, Part};
use std::collections::HashMap;

/// The steps of a graph, and what they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Steps whose values, or whose writing to memory, each step needs.
    needs: Vec<Vec<usize>>,
    /// Steps that all later ones see nothing beyond of, ascending.
    cuts: Vec<usize>,
}

impl Flow {
    /// Of a graph.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let needs = needs(graph);
        let cuts = cuts(graph, &needs);
        Self { needs, cuts }
    }

    /// The last cut before a step; `None`: it is computed from the tokens on.
    #[must_use]
    pub fn cut_before(&self, step: usize) -> Option<usize> {
        self.cuts[..self.cuts.partition_point(|&cut| cut < step)].last().copied()
    }

    /// The part of the graph that shows this, with the values of a cut given. Steps are shown once each, ascending.
    #[must_use]
    pub fn part(&self, given: Option<usize>, mut shown: Vec<(usize, Look)>) -> Part {
        shown.sort_unstable_by_key(|(step, _)| *step);
        shown.dedup();
        let mut computed = vec![false; self.needs.len()];
        let mut open = Vec::new();
        for &(step, look) in &shown {
            match look {
                Look::Output => open.push(step),
                Look::Input => open.extend(&self.needs[step]),
            }
        }
        while let Some(step) = open.pop() {
            if Some(step) != given && !std::mem::replace(&mut computed[step], true) {
                open.extend(&self.needs[step]);
            }
        }
        Part { given, computed, shown }
    }
}

/// The tensor whose memory a node's values are in.
fn memory(graph: &Graph, node: usize) -> usize {
    graph.nodes[node].owner.unwrap_or(node)
}

/// Whether a node only shows another one's memory.
fn is_view(node: &Node) -> bool {
    matches!(node.operation, Operation::View | Operation::Rearrange)
}

fn needs(graph: &Graph) -> Vec<Vec<usize>> {
    let steps: HashMap<usize, usize> =
        graph.steps.iter().enumerate().map(|(step, &node)| (node, step)).collect();
    let mut writers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut all = Vec::with_capacity(graph.steps.len());
    for (step, &index) in graph.steps.iter().enumerate() {
        let node = &graph.nodes[index];
        let mut own: Vec<usize> = Vec::new();
        for &source in node.sources.iter().flatten() {
            own.extend(steps.get(&source));
            // A cache is read as it was left by all that wrote to it before.
            own.extend(writers.get(&memory(graph, source)).into_iter().flatten());
        }
        own.sort_unstable();
        own.dedup();
        own.retain(|&need| need < step);
        all.push(own);
        if let Some(owner) = node.owner.filter(|_| !is_view(node)) {
            writers.entry(owner).or_default().push(step);
        }
    }
    all
}

fn cuts(graph: &Graph, needs: &[Vec<usize>]) -> Vec<usize> {
    let is_weight = |index: usize| {
        let node = &graph.nodes[index];
        node.operation == Operation::Leaf
            && [".weight", ".bias"].iter().any(|end| node.name.ends_with(end))
    };
    // What is made of positions and masks alone is the same for all texts, and cheap: it is computed again.
    let mut fixed: Vec<bool> = Vec::with_capacity(needs.len());
    let mut last_use = vec![0; needs.len()];
    for (step, own) in needs.iter().enumerate() {
        let node = &graph.nodes[graph.steps[step]];
        let sees_weight = node.sources.iter().flatten().any(|&source| is_weight(source));
        fixed.push(!sees_weight && own.iter().all(|&need| fixed[need]));
        for &need in own {
            last_use[need] = step;
        }
    }
    let mut open: Vec<usize> = Vec::new();
    let mut cuts = Vec::new();
    for step in 0..needs.len() {
        open.retain(|&earlier| last_use[earlier] > step);
        if !fixed[step] && last_use[step] > step {
            open.push(step);
        }
        let node = &graph.nodes[graph.steps[step]];
        if open == [step] && node.plain && !is_view(node) {
            cuts.push(step);
        }
    }
    cuts
}
