//! Dependencies between the steps of a graph, and the cuts: steps from whose values alone, and the weights, all later
//! steps can be computed.
//!
//! In a network with a residual stream the cuts are that stream, before and after each layer's parts. No architecture is
//! known here. Uses `llama::graph`; used by the plan.

use crate::engine::llama::graph::{Graph, Node, Operation};
use crate::engine::llama::partial::{Part, ProbeKind};
use crate::quantize::graph::is_weight;
use std::collections::HashMap;

/// The dependencies and cuts of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Steps whose values, or whose writing to memory, each step needs.
    needs: Vec<Vec<usize>>,
    /// Ascending.
    cuts: Vec<usize>,
}

impl Flow {
    pub(crate) fn new(graph: &Graph) -> Self {
        let needs = needs(graph);
        let cuts = cuts(graph, &needs);
        Self { needs, cuts }
    }

    /// The last cut before a step; `None`: the step needs the tokens.
    pub(crate) fn cut_before(&self, step: usize) -> Option<usize> {
        self.cuts[..self.cuts.partition_point(|&cut| cut < step)].last().copied()
    }

    /// The part of the graph that shows these steps, with the values of a cut given. Each step is shown once, ascending.
    pub(crate) fn part(&self, given: Option<usize>, mut shown: Vec<(usize, ProbeKind)>) -> Part {
        shown.sort_unstable_by_key(|(step, _)| *step);
        shown.dedup();
        let mut computed = vec![false; self.needs.len()];
        let mut open = Vec::new();
        for &(step, look) in &shown {
            match look {
                ProbeKind::Output => open.push(step),
                ProbeKind::Input => open.extend(&self.needs[step]),
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

/// The step of each node that is computed.
pub(super) fn steps(graph: &Graph) -> HashMap<usize, usize> {
    graph.steps.iter().enumerate().map(|(step, &node)| (node, step)).collect()
}

/// Whether a node only shows another one's memory.
fn is_view(node: &Node) -> bool {
    matches!(node.operation, Operation::View | Operation::Rearrange)
}

fn needs(graph: &Graph) -> Vec<Vec<usize>> {
    let steps = steps(graph);
    let mut writers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut all = Vec::with_capacity(graph.steps.len());
    for (step, &index) in graph.steps.iter().enumerate() {
        let node = &graph.nodes[index];
        let mut own: Vec<usize> = Vec::new();
        for &source in node.sources.iter().flatten() {
            own.extend(steps.get(&source));
            // A cache is read after everything that writes to it before.
            let owner = graph.nodes[source].owner.unwrap_or(source);
            own.extend(writers.get(&owner).into_iter().flatten());
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
    // Values made from positions and masks alone are the same for all texts, and cheap: they are computed again.
    let mut fixed: Vec<bool> = Vec::with_capacity(needs.len());
    let mut last_use = vec![0; needs.len()];
    for (step, own) in needs.iter().enumerate() {
        let node = &graph.nodes[graph.steps[step]];
        let sees_weight =
            node.sources.iter().flatten().any(|&source| is_weight(&graph.nodes[source]));
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
