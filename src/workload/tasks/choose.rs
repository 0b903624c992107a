//! Choosing: how probable each alternative is after its request.
//!
//! Groups of questions are evaluated in one go. What alternatives have in common is evaluated once, be
//! it the request of one question or the passage of several; what all questions of the task begin
//! with is evaluated once per context and copied (`llama_memory_seq_cp`).

use super::TaskError;
use super::answerer::{Answer, Answerer, Likelihood, Stream};
use super::beginning::{Beginning, sequence};
use super::encode::{Encoded, EncodedAlternative};
use super::prefix::PrefixTree;
use super::record::Work;
use crate::engine::ContextShape;
use crate::experiment::settings::Settings;
use crate::workload::softmax::{index_of_maximum, log_sum_exp};
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
pub struct Chooser {
    questions: Vec<Encoded<Vec<EncodedAlternative>>>,
    groups: Vec<Range<usize>>,
    sizes: Vec<usize>,
    /// Tokens that every alternative begins with.
    shared: Beginning,
    /// Most tokens and most sequences of any group.
    tokens: usize,
    sequences: usize,
    evaluated: usize,
}

/// One group as a tree, with the nodes of each alternative.
struct Grown {
    tree: PrefixTree,
    paths: Vec<Vec<usize>>,
}

impl Chooser {
    /// Cuts questions into groups.
    #[must_use]
    pub fn new(questions: Vec<Encoded<Vec<EncodedAlternative>>>, vocabulary: usize) -> Self {
        let all = || questions.iter().flat_map(|question| &question.tokens);
        // The last token before a continuation is never shared: its output is wanted.
        let most = all().map(|it| it.scored_from.saturating_sub(1)).min().unwrap_or(0);
        let shared = Beginning::of(all().map(|it| it.tokens.as_slice()), most);
        let most_outputs = OUTPUT_BYTES / (vocabulary.max(1) * size_of::<f32>());
        let mut chooser = Self {
            questions,
            groups: Vec::new(),
            sizes: Vec::new(),
            shared,
            tokens: 0,
            sequences: 0,
            evaluated: 0,
        };
        let mut start = 0;
        while start < chooser.questions.len() {
            let end = chooser.end_of_group(start, most_outputs);
            let grown = chooser.grow(start..end);
            chooser.tokens = chooser.tokens.max(grown.tree.len());
            chooser.sequences = chooser.sequences.max(grown.paths.len());
            chooser.evaluated += grown.tree.len();
            chooser.groups.push(start..end);
            chooser.sizes.push(end - start);
            start = end;
        }
        chooser
    }

    /// Where the group that begins with question `start` ends: after at least one question.
    fn end_of_group(&self, start: usize, most_outputs: usize) -> usize {
        let mut tree = PrefixTree::default();
        let mut sequences = 0;
        for (end, question) in self.questions.iter().enumerate().skip(start) {
            self.add(&mut tree, sequences, &question.tokens);
            sequences += question.tokens.len();
            let fits = tree.len() <= GROUP_TOKENS
                && sequences <= GROUP_SEQUENCES
                && tree.outputs() <= most_outputs;
            if !fits {
                return end.max(start + 1);
            }
        }
        self.questions.len()
    }

    fn grow(&self, group: Range<usize>) -> Grown {
        let mut grown = Grown { tree: PrefixTree::default(), paths: Vec::new() };
        for question in &self.questions[group] {
            let paths = self.add(&mut grown.tree, grown.paths.len(), &question.tokens);
            grown.paths.extend(paths);
        }
        grown
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
}

impl Answerer for Chooser {
    fn groups(&self) -> &[usize] {
        &self.sizes
    }

    fn work(&self) -> Work {
        let alternatives = self.questions.iter().flat_map(|question| &question.tokens);
        let each = alternatives.map(|alternative| alternative.tokens.len());
        Work { request_tokens: each.sum::<usize>() as u64, evaluated_tokens: self.evaluated as u64 }
    }

    fn shape(&self, settings: &Settings) -> ContextShape {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let sequences = self.sequences + 1;
        // llama.cpp wants room for one output of each sequence.
        let batch = narrow(self.tokens.max(self.shared.len()).max(sequences));
        ContextShape {
            tokens: narrow(self.tokens + self.shared.len()).max(batch),
            sequences: narrow(sequences),
            batch,
            ubatch: settings.ubatch.min(batch),
        }
    }

    fn prepare(&self, stream: &mut Stream<'_>) -> Result<(), TaskError> {
        self.shared.prepare(stream)
    }

    fn answer(&self, stream: &mut Stream<'_>, group: usize) -> Result<Vec<Answer>, TaskError> {
        let questions = self.groups[group].clone();
        let Grown { tree, paths } = self.grow(questions.clone());
        let shared = self.shared.len();
        self.shared.begin(stream, paths.len());
        tree.fill(&mut stream.batch, shared)?;
        stream.context.decode(&mut stream.batch)?;
        stream.context.synchronize();
        let outputs = tree.outputs();
        let vocabulary = stream.model.vocabulary_size();
        let scored: Vec<ScoredRow<'_>> = if outputs == 0 {
            Vec::new()
        } else {
            let logits = stream.context.all_logits(outputs)?;
            logits.chunks_exact(vocabulary).map(ScoredRow::new).collect()
        };
        let rows = tree.rows();
        let mut paths_left = paths.iter();
        let mut likelihood = |alternative: &EncodedAlternative| {
            let path = paths_left.next().map_or(&[][..], Vec::as_slice);
            let mut found = Likelihood { log_likelihood: 0.0, is_greedy: true };
            for at in alternative.scored_from..alternative.tokens.len() {
                let row = rows[path[at - 1 - shared]].and_then(|row| scored.get(row));
                let token = usize::try_from(alternative.tokens[at]).unwrap_or(usize::MAX);
                let log_p = row.and_then(|row| row.log_probability(token));
                found.log_likelihood += log_p.unwrap_or(f64::NAN);
                found.is_greedy &= row.is_some_and(|row| row.most_probable == token);
            }
            found
        };
        let answers = self.questions[questions].iter().map(|question| {
            Answer::Alternatives(question.tokens.iter().map(&mut likelihood).collect())
        });
        let answers = answers.collect();
        self.shared.end(stream, paths.len());
        Ok(answers)
    }
}

/// One output, with what every probability in it needs.
struct ScoredRow<'a> {
    logits: &'a [f32],
    normaliser: f32,
    most_probable: usize,
}

impl<'a> ScoredRow<'a> {
    fn new(logits: &'a [f32]) -> Self {
        Self { logits, normaliser: log_sum_exp(logits), most_probable: index_of_maximum(logits) }
    }

    fn log_probability(&self, token: usize) -> Option<f64> {
        self.logits.get(token).map(|logit| f64::from(logit - self.normaliser))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(
        position: usize,
        alternatives: &[(&[i32], usize)],
    ) -> Encoded<Vec<EncodedAlternative>> {
        let tokens = alternatives.iter().map(|&(tokens, scored_from)| EncodedAlternative {
            tokens: tokens.to_vec(),
            scored_from,
        });
        Encoded { position, tokens: tokens.collect() }
    }

    #[test]
    fn a_request_is_evaluated_once_for_all_its_choices() {
        let long: Vec<i32> = (0..100).collect();
        let with = |token: i32| [&long[..], &[token]].concat();
        let choices: Vec<Vec<i32>> = (200..204).map(with).collect();
        let choices: Vec<(&[i32], usize)> = choices.iter().map(|it| (it.as_slice(), 100)).collect();
        let chooser = Chooser::new(vec![question(0, &choices)], 1000);
        assert_eq!(chooser.shared.len(), 99);
        let work = chooser.work();
        assert_eq!(
            (work.request_tokens, work.evaluated_tokens),
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
            question(nth.unsigned_abs() as usize, &[(&tokens, 399)])
        });
        let chooser = Chooser::new(questions.collect(), 1000);
        assert_eq!(chooser.groups(), [1, 1, 1, 1]);
        let huge: Vec<i32> = (0..2000).collect();
        let chooser =
            Chooser::new(vec![question(0, &[(&huge, 1)]), question(1, &[(&[1, 2], 1)])], 10);
        assert_eq!(chooser.groups(), [1, 1]);
        assert_eq!(chooser.shape(&Settings::default()).tokens, 1999);
    }

    #[test]
    fn small_questions_share_a_group() {
        let questions = (0..10_usize).map(|nth| {
            let token = i32::try_from(nth).unwrap();
            question(nth, &[(&[1, token, 5], 2), (&[1, token, 6], 2)])
        });
        let chooser = Chooser::new(questions.collect(), 1000);
        assert_eq!(chooser.groups(), [10]);
        assert_eq!(chooser.shape(&Settings::default()).sequences, 21);
    }
}
