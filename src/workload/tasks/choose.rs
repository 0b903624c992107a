//! Choosing: how probable each alternative is after its request.
//!
//! Groups of questions are evaluated in one go. What alternatives have in common is evaluated once, be
//! it the request of one question or the passage of several; what all questions of the task begin
//! with is evaluated once per context and copied (`llama_memory_seq_cp`).

use super::TaskError;
use super::answerer::{Answer, Answerer, Extent, Groups, ScoredRow, likelihood};
use super::beginning::{Beginning, sequence};
use super::encode::EncodedAlternative;
use super::prefix::PrefixTree;
use crate::engine::ContextShape;
use crate::experiment::settings::Settings;
use crate::workload::batched::BatchedContext;
use std::ops::Range;

/// Tokens that a group has at most, unless a single question has more. More are not faster on a GPU either: an
/// evaluation of 512 is bound by arithmetic, and each token looks at all of its group.
const GROUP_TOKENS: usize = 512;

/// Sequences that a group has at most; llama.cpp has 256.
const GROUP_SEQUENCES: usize = 192;

/// Memory that the outputs of a group take at most, bytes, unless a single question takes more.
const OUTPUT_BYTES: usize = 64 << 20;

/// Scores alternatives.
#[derive(Debug)]
pub(super) struct Chooser {
    /// The alternatives of each question.
    questions: Vec<Vec<EncodedAlternative>>,
    /// Tokens that every alternative begins with.
    shared: Beginning,
}

impl Chooser {
    /// Cuts questions into groups.
    pub(super) fn answerer(
        questions: Vec<Vec<EncodedAlternative>>,
        vocabulary: usize,
        settings: &Settings,
    ) -> Answerer {
        let all = || questions.iter().flatten();
        // The last token before a continuation is never shared: its output is wanted.
        let most = all().map(|it| it.scored_from.saturating_sub(1)).min().unwrap_or(0);
        let shared = Beginning::of(all().map(|it| it.tokens.as_slice()), most);
        let most_outputs = OUTPUT_BYTES / (vocabulary.max(1) * size_of::<f32>());
        let request_tokens = all().map(|it| it.tokens.len()).sum();
        let mut groups = Groups { request_tokens, ..Groups::default() };
        let chooser = Self { questions, shared: shared.clone() };
        let mut start = 0;
        while start < chooser.questions.len() {
            let end = chooser.end_of_group(start, most_outputs);
            let (tree, paths) = chooser.grow(start..end);
            let (tokens, sequences) = (tree.len(), paths.len() + 1);
            groups.push(start..end, Extent { tokens, sequences, decoded: 0 });
            start = end;
        }
        let shape = groups.shape(groups.most.tokens + shared.len(), shared.len());
        let shape = ContextShape { ubatch: settings.ubatch.min(shape.batch), ..shape };
        let answer =
            Box::new(move |batched: &mut BatchedContext<'_>, group| chooser.answer(batched, group));
        Answerer { groups, shape, shared, answer }
    }

    /// Where the group that begins with question `start` ends: after at least one question.
    fn end_of_group(&self, start: usize, most_outputs: usize) -> usize {
        let mut tree = PrefixTree::default();
        let mut sequences = 0;
        for (end, question) in self.questions.iter().enumerate().skip(start) {
            sequences += self.add(&mut tree, sequences, question).len();
            let fits = tree.len() <= GROUP_TOKENS
                && sequences <= GROUP_SEQUENCES
                && tree.outputs() <= most_outputs;
            if !fits {
                return end.max(start + 1);
            }
        }
        self.questions.len()
    }

    /// A group as a tree, with the nodes of each alternative.
    fn grow(&self, group: Range<usize>) -> (PrefixTree, Vec<Vec<usize>>) {
        let (mut tree, mut paths) = (PrefixTree::default(), Vec::new());
        for question in &self.questions[group] {
            let added = self.add(&mut tree, paths.len(), question);
            paths.extend(added);
        }
        (tree, paths)
    }

    /// Adds alternatives to a tree as sequences from `first` on; the nodes of each.
    fn add(
        &self,
        tree: &mut PrefixTree,
        first: usize,
        alternatives: &[EncodedAlternative],
    ) -> Vec<Vec<usize>> {
        let shared = self.shared.len();
        let mut add = |(nth, alternative): (usize, &EncodedAlternative)| {
            // Nobody asks what follows the last token.
            let last = alternative.tokens.len().saturating_sub(1);
            let path = tree.insert(sequence(first + nth), &alternative.tokens[shared..last]);
            for scored in alternative.scored_from..alternative.tokens.len() {
                tree.want_output(path[scored - 1 - shared]);
            }
            path
        };
        alternatives.iter().enumerate().map(&mut add).collect()
    }

    fn answer(
        &self,
        batched: &mut BatchedContext<'_>,
        questions: Range<usize>,
    ) -> Result<Vec<Answer>, TaskError> {
        let (tree, paths) = self.grow(questions.clone());
        let shared = self.shared.len();
        self.shared.begin(batched, paths.len());
        tree.fill(&mut batched.batch, shared)?;
        batched.context.decode(&mut batched.batch)?;
        let vocabulary = batched.model.vocabulary_size();
        let scored: Vec<ScoredRow<'_>> = match tree.outputs() {
            0 => Vec::new(),
            outputs => {
                let logits = batched.context.all_logits(outputs)?;
                logits.chunks_exact(vocabulary).map(ScoredRow::new).collect()
            }
        };
        let rows = tree.rows();
        let mut paths_left = paths.iter();
        let mut score = |alternative: &EncodedAlternative| {
            let path = paths_left.next().map_or(&[][..], Vec::as_slice);
            let places = alternative.scored_from..alternative.tokens.len();
            likelihood(places.map(|at| {
                let row = rows[path[at - 1 - shared]].and_then(|row| scored.get(row));
                (alternative.tokens[at], row)
            }))
        };
        let answers = self.questions[questions]
            .iter()
            .map(|question| Answer::Alternatives(question.iter().map(&mut score).collect()))
            .collect();
        self.shared.end(batched, paths.len());
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(alternatives: &[(&[i32], usize)]) -> Vec<EncodedAlternative> {
        let tokens = alternatives.iter().map(|&(tokens, scored_from)| EncodedAlternative {
            tokens: tokens.to_vec(),
            scored_from,
        });
        tokens.collect()
    }

    #[test]
    fn a_request_is_evaluated_once_for_all_its_choices() {
        let long: Vec<i32> = (0..100).collect();
        let with = |token: i32| [&long[..], &[token]].concat();
        let choices: Vec<Vec<i32>> = (200..204).map(with).collect();
        let choices: Vec<(&[i32], usize)> = choices.iter().map(|it| (it.as_slice(), 100)).collect();
        let chooser = Chooser::answerer(vec![question(&choices)], 1000, &Settings::default());
        assert_eq!(chooser.shared.len(), 99);
        assert_eq!(
            (chooser.groups.request_tokens, chooser.groups.evaluated_tokens),
            (404, 1),
            "what is chosen from follows one token"
        );
    }

    #[test]
    fn groups_are_full_but_never_empty() {
        let long: Vec<i32> = (0..400).collect();
        let questions = (0..4_i32).map(|nth| {
            let mut tokens = long.clone();
            tokens[0] = -nth;
            question(&[(&tokens, 399)])
        });
        let chooser = Chooser::answerer(questions.collect(), 1000, &Settings::default());
        assert_eq!(chooser.groups.questions, [0..1, 1..2, 2..3, 3..4]);
        let huge: Vec<i32> = (0..2000).collect();
        let both = vec![question(&[(&huge, 1)]), question(&[(&[1, 2], 1)])];
        let chooser = Chooser::answerer(both, 10, &Settings::default());
        assert_eq!(chooser.groups.questions, [0..1, 1..2]);
        assert_eq!(chooser.shape.tokens, 1999);
    }

    #[test]
    fn small_questions_share_a_group() {
        let questions = (0..10_usize).map(|nth| {
            let token = i32::try_from(nth).unwrap();
            question(&[(&[1, token, 5], 2), (&[1, token, 6], 2)])
        });
        let chooser = Chooser::answerer(questions.collect(), 1000, &Settings::default());
        assert_eq!(chooser.groups.questions.len(), 1);
        assert_eq!(chooser.shape.sequences, 21);
    }
}
