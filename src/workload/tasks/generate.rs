//! Writing: answers generated greedily, many questions in one batch.

use super::TaskError;
use super::answerer::{Answer, Answerer, Extent, GroupSize, Groups};
use super::beginning::{Beginning, sequence};
use super::prefix::PrefixTree;
use crate::engine::ContextShape;
use crate::experiment::settings::Settings;
use crate::workload::batched::BatchedContext;
use crate::workload::draft::{self, Draft, Limits};
use std::ops::Range;

/// Questions that are answered together: in a small group, and in a large one.
const GROUP_QUESTIONS: [usize; 2] = [16, 64];

/// Tokens of the requests of a group at most, unless a single one has more.
const GROUP_TOKENS: [usize; 2] = [2048, 4096];

/// Writes answers.
pub(super) struct Writer {
    requests: Vec<Vec<i32>>,
    /// Tokens that every request begins with.
    shared: Beginning,
    limits: Limits,
}

impl Writer {
    /// Cuts requests into groups.
    pub(super) fn answerer(
        requests: Vec<Vec<i32>>,
        limits: Limits,
        size: GroupSize,
        settings: &Settings,
    ) -> Answerer {
        // The last token is never shared: its output is wanted.
        let most = requests.iter().map(|tokens| tokens.len().saturating_sub(1)).min().unwrap_or(0);
        let shared = Beginning::of(requests.iter().map(Vec::as_slice), most);
        let request_tokens = requests.iter().map(Vec::len).sum();
        let mut groups = Groups { request_tokens, ..Groups::default() };
        let writer = Self { requests, shared: shared.clone(), limits };
        let mut start = 0;
        while start < writer.requests.len() {
            let mut end = (start + GROUP_QUESTIONS[size as usize]).min(writer.requests.len());
            let mut tokens = writer.grow(start..end).0.len();
            while end > start + 1 && tokens > GROUP_TOKENS[size as usize] {
                end -= 1;
                tokens = writer.grow(start..end).0.len();
            }
            let sequences = end - start + 1;
            groups.push(start..end, Extent { tokens, sequences, decoded: 0 });
            start = end;
        }
        let written = groups.most.sequences.saturating_sub(1) * writer.limits.max_tokens;
        let shape = groups.shape(shared.len() + groups.most.tokens + written, shared.len());
        let shape = ContextShape { ubatch: settings.ubatch.min(shape.batch), ..shape };
        let answer =
            Box::new(move |batched: &mut BatchedContext<'_>, group| writer.answer(batched, group));
        Answerer { groups, shape, shared, answer }
    }

    /// The requests of a group as a tree, and the last node of each.
    fn grow(&self, group: Range<usize>) -> (PrefixTree, Vec<usize>) {
        let mut tree = PrefixTree::default();
        let mut last = Vec::new();
        for (nth, request) in self.requests[group].iter().enumerate() {
            let path = tree.insert(sequence(nth), &request[self.shared.len()..]);
            if let Some(&node) = path.last() {
                tree.want_output(node);
                last.push(node);
            }
        }
        (tree, last)
    }

    fn answer(
        &self,
        batched: &mut BatchedContext<'_>,
        questions: Range<usize>,
    ) -> Result<Vec<Answer>, TaskError> {
        let (tree, last) = self.grow(questions.clone());
        self.shared.begin(batched, questions.len());
        tree.fill(&mut batched.batch, self.shared.len())?;
        batched.context.decode(&mut batched.batch)?;
        let vocabulary = batched.model.vocabulary_size();
        let rows = tree.rows();
        let logits = batched.context.all_logits(tree.outputs())?;
        let drafts = last.iter().zip(&self.requests[questions.clone()]).enumerate();
        let drafts = drafts.map(|(nth, (&node, request))| {
            let row = rows[node].unwrap_or(0) * vocabulary;
            let position = i32::try_from(request.len()).unwrap_or(i32::MAX);
            Draft::begin(sequence(nth), position, &logits[row..row + vocabulary])
        });
        let drafts = drafts.collect();
        let texts = draft::write(batched, drafts, &self.limits)?;
        self.shared.end(batched, questions.len());
        Ok(texts.into_iter().map(Answer::Text).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_grouped_and_their_common_beginning_is_set_apart() {
        let beginning: Vec<i32> = (0..20).collect();
        let requests = (100..120).map(|own| [&beginning[..], &[own]].concat());
        let limits = Limits { max_tokens: 8, stops: Vec::new() };
        let writer =
            Writer::answerer(requests.collect(), limits, GroupSize::Small, &Settings::default());
        assert_eq!(writer.shared.len(), 20);
        assert_eq!(writer.groups.questions, [0..16, 16..20]);
        let shape = writer.shape;
        assert_eq!((shape.tokens, shape.sequences), (20 + 16 + 16 * 8, 17));
        assert_eq!((writer.groups.request_tokens, writer.groups.evaluated_tokens), (420, 20));
    }

    #[test]
    fn a_long_request_is_answered_alone() {
        let requests: Vec<Vec<i32>> = vec![(0..1500).collect(), (5000..6500).collect()];
        let groups = |size| {
            let limits = Limits { max_tokens: 8, stops: Vec::new() };
            Writer::answerer(requests.clone(), limits, size, &Settings::default())
                .groups
                .questions
                .len()
        };
        assert_eq!(groups(GroupSize::Small), 2);
        assert_eq!(groups(GroupSize::Large), 1, "a GPU has room for both");
    }
}
