//! Encoder-decoders: sources are encoded together, and what follows them is decoded side by side.
//!
//! llama.cpp keeps what its last call encoded, and of each token to which sequences it belongs: a source that
//! several alternatives follow is encoded once. All pairs of tokens of a call are computed, those of different
//! sources in vain, which is why groups are small.

use super::TaskError;
use super::answerer::{Answer, Answerer, Extent, GroupSize, Groups, ScoredRow, likelihood};
use super::beginning::Beginning;
use crate::workload::batched::BatchedContext;
use crate::workload::draft::{self, Draft, Limits};
use std::ops::Range;

/// Tokens of the sources of a group at most, unless a single one has more: of a small group, and of a large one.
const GROUP_TOKENS: [usize; 2] = [256, 512];

/// Sequences of a group at most, unless a single question has more alternatives.
const GROUP_SEQUENCES: usize = 64;

/// The tokens of request and continuation of every alternative.
pub(super) type Pairs = Vec<(Vec<i32>, Vec<i32>)>;

/// Groups of questions that take so much each.
fn groups(each: impl Iterator<Item = Extent>, size: GroupSize) -> Groups {
    let mut groups = Groups::default();
    let (mut start, mut end) = (0, 0);
    let mut group = Extent::default();
    for extent in each {
        let is_full = group.tokens + extent.tokens > GROUP_TOKENS[size as usize]
            || group.sequences + extent.sequences > GROUP_SEQUENCES;
        if is_full && end > start {
            groups.push(start..end, group);
            (start, group) = (end, Extent::default());
        }
        group.tokens += extent.tokens;
        group.sequences += extent.sequences;
        group.decoded += extent.decoded;
        end += 1;
    }
    if end > start {
        groups.push(start..end, group);
    }
    groups
}

/// Encodes sources, each for the sequences that follow it.
fn encode<'s>(
    batched: &mut BatchedContext<'_>,
    sources: impl Iterator<Item = (&'s [i32], Vec<i32>)>,
) -> Result<(), TaskError> {
    batched.context.clear_memory();
    batched.batch.clear();
    for (source, sequences) in sources {
        for (position, &token) in (0..).zip(source) {
            batched.batch.add_shared(token, position, &sequences, true)?;
        }
    }
    Ok(batched.context.encode(&mut batched.batch)?)
}

/// The number of a sequence.
fn sequence(nth: usize) -> i32 {
    i32::try_from(nth).unwrap_or(i32::MAX)
}

/// Writes what follows sources.
pub(super) struct SourceWriter {
    sources: Vec<Vec<i32>>,
    limits: Limits,
    start_token: i32,
}

impl SourceWriter {
    /// Answers begin with the token `start_token`.
    pub(super) fn answerer(
        sources: Vec<Vec<i32>>,
        limits: Limits,
        start_token: i32,
        size: GroupSize,
    ) -> Answerer {
        let each = |source: &Vec<i32>| Extent { tokens: source.len(), sequences: 1, decoded: 1 };
        let mut groups = groups(sources.iter().map(each), size);
        groups.request_tokens = groups.evaluated_tokens;
        let sequences = groups.most.sequences;
        // The token that an answer begins with is kept too.
        let shape = groups.shape(sequences * (limits.max_tokens + 1), sequences);
        let writer = Self { sources, limits, start_token };
        let answer =
            Box::new(move |batched: &mut BatchedContext<'_>, group| writer.answer(batched, group));
        Answerer { groups, shape, shared: Beginning::default(), answer }
    }

    fn answer(
        &self,
        batched: &mut BatchedContext<'_>,
        questions: Range<usize>,
    ) -> Result<Vec<Answer>, TaskError> {
        let sources = &self.sources[questions];
        let each = sources.iter().enumerate();
        encode(batched, each.map(|(nth, source)| (source.as_slice(), vec![sequence(nth)])))?;
        batched.batch.clear();
        for nth in 0..sources.len() {
            batched.batch.add(self.start_token, 0, sequence(nth), true)?;
        }
        batched.context.decode(&mut batched.batch)?;
        let vocabulary = batched.model.vocabulary_size();
        let logits = batched.context.all_logits(sources.len())?.chunks_exact(vocabulary);
        let begin = |(nth, row): (usize, &[f32])| Draft::begin(sequence(nth), 1, row);
        let drafts = logits.enumerate().map(begin).collect();
        let texts = draft::write(batched, drafts, &self.limits)?;
        Ok(texts.into_iter().map(Answer::Text).collect())
    }
}

/// One question: its sources, each once, and what may follow them.
struct Choice {
    /// A source, and the alternatives that follow it.
    sources: Vec<(Vec<i32>, Vec<usize>)>,
    alternatives: Vec<Vec<i32>>,
}

impl Choice {
    fn new(pairs: Pairs) -> Self {
        let mut choice = Self { sources: Vec::new(), alternatives: Vec::new() };
        for (nth, (source, alternative)) in pairs.into_iter().enumerate() {
            match choice.sources.iter_mut().find(|(other, _)| *other == source) {
                Some((_, followers)) => followers.push(nth),
                None => choice.sources.push((source, vec![nth])),
            }
            choice.alternatives.push(alternative);
        }
        choice
    }

    fn extent(&self) -> Extent {
        Extent {
            tokens: self.sources.iter().map(|(source, _)| source.len()).sum(),
            sequences: self.alternatives.len(),
            decoded: self.alternatives.iter().map(Vec::len).sum(),
        }
    }
}

/// Finds how probable what may follow a source is.
pub(super) struct SourceChooser {
    choices: Vec<Choice>,
    start_token: i32,
}

impl SourceChooser {
    /// Answers begin with the token `start_token`.
    pub(super) fn answerer(questions: Vec<Pairs>, start_token: i32, size: GroupSize) -> Answerer {
        let request_tokens = questions.iter().flatten().map(|(source, _)| source.len()).sum();
        let choices: Vec<Choice> = questions.into_iter().map(Choice::new).collect();
        let groups = groups(choices.iter().map(Choice::extent), size);
        let shape = groups.shape(groups.most.decoded, groups.most.decoded);
        let chooser = Self { choices, start_token };
        let answer =
            Box::new(move |batched: &mut BatchedContext<'_>, group| chooser.answer(batched, group));
        let groups = Groups { request_tokens, ..groups };
        Answerer { groups, shape, shared: Beginning::default(), answer }
    }

    fn answer(
        &self,
        batched: &mut BatchedContext<'_>,
        questions: Range<usize>,
    ) -> Result<Vec<Answer>, TaskError> {
        let choices = &self.choices[questions];
        let mut first = 0;
        let mut sources = Vec::new();
        for choice in choices {
            for (source, followers) in &choice.sources {
                let sequences = followers.iter().map(|nth| sequence(first + nth));
                sources.push((source.as_slice(), sequences.collect()));
            }
            first += choice.alternatives.len();
        }
        encode(batched, sources.into_iter())?;
        batched.batch.clear();
        let alternatives = choices.iter().flat_map(|choice| &choice.alternatives);
        for (nth, alternative) in alternatives.enumerate() {
            // Nobody asks what follows the last token.
            let before = std::iter::once(self.start_token).chain(alternative.iter().copied());
            for (position, token) in (0..).zip(before.take(alternative.len())) {
                batched.batch.add(token, position, sequence(nth), true)?;
            }
        }
        let vocabulary = batched.model.vocabulary_size().max(1);
        let outputs = batched.batch.len();
        let mut logits: &[f32] = &[];
        if outputs > 0 {
            batched.context.decode(&mut batched.batch)?;
            logits = batched.context.all_logits(outputs)?;
        }
        let mut rows = logits.chunks_exact(vocabulary);
        let mut score = |alternative: &Vec<i32>| {
            let rows: Vec<ScoredRow<'_>> =
                rows.by_ref().take(alternative.len()).map(ScoredRow::new).collect();
            likelihood(alternative.iter().copied().zip(rows.iter().map(Some)))
        };
        let answer = |choice: &Choice| {
            Answer::Alternatives(choice.alternatives.iter().map(&mut score).collect())
        };
        Ok(choices.iter().map(answer).collect())
    }
}
