//! Writing: answers generated greedily, many questions in one batch.

use super::TaskError;
use super::answerer::{Answer, Answerer, GroupSize, Stream};
use super::beginning::{Beginning, sequence};
use super::draft::{self, Draft, Limits};
use super::encode::Encoded;
use super::prefix::PrefixTree;
use super::record::Work;
use crate::engine::ContextShape;
use crate::experiment::settings::Settings;
use std::ops::Range;

/// Questions that are answered together: in a small group, and in a large one.
const GROUP_QUESTIONS: (usize, usize) = (16, 64);

/// Tokens of the requests of a group at most, unless a single one has more.
const GROUP_TOKENS: (usize, usize) = (2048, 4096);

/// Writes answers.
#[derive(Debug)]
pub(super) struct Writer {
    questions: Vec<Encoded<Vec<i32>>>,
    groups: Vec<Range<usize>>,
    sizes: Vec<usize>,
    /// Tokens that every request begins with.
    shared: Beginning,
    limits: Limits,
    /// Most tokens of the requests of any group.
    tokens: usize,
    evaluated: usize,
}

impl Writer {
    pub(super) fn new(questions: Vec<Encoded<Vec<i32>>>, limits: Limits, size: GroupSize) -> Self {
        let most_questions = size.limit(GROUP_QUESTIONS.0, GROUP_QUESTIONS.1);
        let most_tokens = size.limit(GROUP_TOKENS.0, GROUP_TOKENS.1);
        let requests = || questions.iter().map(|question| question.tokens.as_slice());
        // The last token is never shared: its output is wanted.
        let most = requests().map(|tokens| tokens.len().saturating_sub(1)).min().unwrap_or(0);
        let shared = Beginning::of(requests(), most);
        let mut writer = Self {
            questions,
            groups: Vec::new(),
            sizes: Vec::new(),
            shared,
            limits,
            tokens: 0,
            evaluated: 0,
        };
        let mut start = 0;
        while start < writer.questions.len() {
            let mut end = (start + most_questions).min(writer.questions.len());
            while end > start + 1 && writer.grow(start..end).0.len() > most_tokens {
                end -= 1;
            }
            let tokens = writer.grow(start..end).0.len();
            writer.tokens = writer.tokens.max(tokens);
            writer.evaluated += tokens;
            writer.groups.push(start..end);
            writer.sizes.push(end - start);
            start = end;
        }
        writer
    }

    /// The requests of a group as a tree, and the last node of each.
    fn grow(&self, group: Range<usize>) -> (PrefixTree, Vec<usize>) {
        let mut tree = PrefixTree::default();
        let mut last = Vec::new();
        for (nth, question) in self.questions[group].iter().enumerate() {
            let path = tree.insert(sequence(nth), &question.tokens[self.shared.len()..]);
            if let Some(&node) = path.last() {
                tree.want_output(node);
                last.push(node);
            }
        }
        (tree, last)
    }
}

impl Answerer for Writer {
    fn groups(&self) -> &[usize] {
        &self.sizes
    }

    fn work(&self) -> Work {
        let each = self.questions.iter().map(|question| question.tokens.len());
        Work { request_tokens: each.sum::<usize>() as u64, evaluated_tokens: self.evaluated as u64 }
    }

    fn shape(&self, settings: &Settings) -> ContextShape {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let questions = self.sizes.iter().copied().max().unwrap_or(1);
        // llama.cpp wants room for one output of each sequence.
        let batch = narrow(self.tokens.max(self.shared.len()).max(questions + 1));
        ContextShape {
            tokens: narrow(self.shared.len() + self.tokens + questions * self.limits.max_tokens)
                .max(batch),
            sequences: narrow(questions + 1),
            batch,
            ubatch: settings.ubatch.min(batch),
        }
    }

    fn prepare(&self, stream: &mut Stream<'_>) -> Result<(), TaskError> {
        self.shared.prepare(stream)
    }

    fn answer(&self, stream: &mut Stream<'_>, group: usize) -> Result<Vec<Answer>, TaskError> {
        let questions = self.groups[group].clone();
        let (tree, last) = self.grow(questions.clone());
        self.shared.begin(stream, questions.len());
        tree.fill(&mut stream.batch, self.shared.len())?;
        stream.context.decode(&mut stream.batch)?;
        let vocabulary = stream.model.vocabulary_size();
        let rows = tree.rows();
        let logits = stream.context.all_logits(tree.outputs())?;
        let drafts = last.iter().zip(&self.questions[questions.clone()]).enumerate();
        let drafts = drafts.map(|(nth, (&node, question))| {
            let row = rows[node].unwrap_or(0) * vocabulary;
            Draft::begin(sequence(nth), question.tokens.len(), &logits[row..row + vocabulary])
        });
        let drafts = drafts.collect();
        let answers = draft::write(stream, drafts, &self.limits)?;
        self.shared.end(stream, questions.len());
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_grouped_and_their_common_beginning_is_set_apart() {
        let beginning: Vec<i32> = (0..20).collect();
        let questions = (0..20_usize).map(|position| {
            let own = i32::try_from(position).unwrap() + 100;
            Encoded { position, tokens: [&beginning[..], &[own]].concat() }
        });
        let writer = Writer::new(questions.collect(), Limits::new(8, Vec::new()), GroupSize::Small);
        assert_eq!(writer.shared.len(), 20);
        assert_eq!(writer.groups(), [16, 4]);
        let shape = writer.shape(&Settings::default());
        assert_eq!((shape.tokens, shape.sequences), (20 + 16 + 16 * 8, 17));
        assert_eq!(writer.work(), Work { request_tokens: 420, evaluated_tokens: 20 });
    }

    #[test]
    fn a_long_request_is_answered_alone() {
        let long = |first: i32| Encoded { position: 0, tokens: (first..first + 1500).collect() };
        let limits = Limits::new(8, Vec::new());
        let writer = Writer::new(vec![long(0), long(5000)], limits.clone(), GroupSize::Small);
        assert_eq!(writer.groups(), [1, 1]);
        let writer = Writer::new(writer.questions, limits, GroupSize::Large);
        assert_eq!(writer.groups(), [2], "a GPU has room for both");
    }
}
