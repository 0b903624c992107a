//! Prefix trees: what several sequences of tokens have in common at their beginning is one branch.

use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use std::collections::HashMap;

/// Sequences of tokens, merged as far as they agree from their beginning.
#[derive(Debug, Default)]
pub(super) struct PrefixTree {
    nodes: Vec<Node>,
    children: HashMap<(Option<usize>, i32), usize>,
    outputs: usize,
}

#[derive(Debug)]
struct Node {
    token: i32,
    depth: usize,
    /// The sequences that run through it.
    sequences: Vec<i32>,
    /// Whether what follows it is to be predicted.
    output: bool,
}

impl PrefixTree {
    /// Adds `tokens` as a sequence; returns the node of each. A parent always stands before its
    /// children.
    pub(super) fn insert(&mut self, sequence: i32, tokens: &[i32]) -> Vec<usize> {
        let mut path = Vec::with_capacity(tokens.len());
        let mut parent = None;
        for (depth, &token) in tokens.iter().enumerate() {
            let node = *self.children.entry((parent, token)).or_insert_with(|| {
                self.nodes.push(Node { token, depth, sequences: Vec::new(), output: false });
                self.nodes.len() - 1
            });
            self.nodes[node].sequences.push(sequence);
            path.push(node);
            parent = Some(node);
        }
        path
    }

    /// Asks for what follows a node.
    pub(super) fn want_output(&mut self, node: usize) {
        if !self.nodes[node].output {
            self.nodes[node].output = true;
            self.outputs += 1;
        }
    }

    /// Number of tokens to be evaluated.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Fills a batch; the first token of each sequence has the position `from`.
    pub(super) fn fill(&self, batch: &mut Batch, from: usize) -> Result<(), EngineError> {
        batch.clear();
        for node in &self.nodes {
            let position = i32::try_from(from + node.depth).unwrap_or(i32::MAX);
            batch.add_shared(node.token, position, &node.sequences, node.output)?;
        }
        Ok(())
    }

    /// For each node the number of its output among the outputs, in the batch's order.
    pub(super) fn rows(&self) -> Vec<Option<usize>> {
        let mut next = 0;
        let row = |node: &Node| {
            node.output.then(|| {
                next += 1;
                next - 1
            })
        };
        self.nodes.iter().map(row).collect()
    }
}

/// How many tokens all sequences begin with alike, at most `most`.
pub(super) fn common<'t>(mut sequences: impl Iterator<Item = &'t [i32]>, most: usize) -> usize {
    let Some(first) = sequences.next() else { return 0 };
    sequences.fold(most.min(first.len()), |length, other| {
        first[..length].iter().zip(other).take_while(|(own, others)| own == others).count()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_common_is_there_once() {
        let mut tree = PrefixTree::default();
        let one = tree.insert(0, &[1, 2, 3]);
        let two = tree.insert(1, &[1, 2, 4, 5]);
        let three = tree.insert(2, &[2, 2]);
        assert_eq!((one, two, three), (vec![0, 1, 2], vec![0, 1, 3, 4], vec![5, 6]));
        assert_eq!(tree.len(), 7, "of nine tokens");
        assert_eq!(tree.nodes[1].sequences, [0, 1]);
        assert_eq!(tree.nodes[6].depth, 1);
    }

    #[test]
    fn outputs_are_counted_once_and_numbered_in_order() {
        let mut tree = PrefixTree::default();
        tree.insert(0, &[1, 2, 3]);
        for node in [2, 0, 2] {
            tree.want_output(node);
        }
        assert_eq!(tree.outputs(), 2);
        assert_eq!(tree.rows(), [Some(0), None, Some(1)]);
    }

    #[test]
    fn the_common_beginning_of_all_is_found() {
        let sequences: [&[i32]; 3] = [&[1, 2, 3, 4], &[1, 2, 3], &[1, 2, 4]];
        assert_eq!(common(sequences.into_iter(), 9), 2);
        assert_eq!(common(sequences.into_iter(), 1), 1);
        assert_eq!(common(std::iter::empty(), 9), 0);
        assert_eq!(common([&[1, 2][..], &[]].into_iter(), 9), 0);
    }
}
