//! Encoder-decoders: sources are encoded together, and what follows them is decoded side by side.
//!
//! llama.cpp keeps what its last call encoded, and of each token to which sequences it belongs: a source that
//! several alternatives follow is encoded once. All pairs of tokens of a call are computed, those of different
//! sources in vain, which is why groups are small.

use super::TaskError;
use super::answerer::{Answer, Answerer, GroupSize, Likelihood, Stream};
use super::draft::{self, Draft, Limits};
use super::record::Work;
use crate::engine::ContextShape;
use crate::experiment::settings::Settings;
use crate::workload::softmax::{index_of_maximum, log_sum_exp};
use std::ops::Range;

/// Tokens of the sources of a group at most, unless a single one has more: of a small group, and of a large one.
const GROUP_TOKENS: (usize, usize) = (256, 512);

/// Sequences of a group at most, unless a single question has more alternatives.
const GROUP_SEQUENCES: usize = 64;

/// The tokens of request and continuation of every alternative.
pub(super) type Pairs = Vec<(Vec<i32>, Vec<i32>)>;

/// What a question takes of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Tokens that are encoded.
    encoded: usize,
    sequences: usize,
    /// Tokens that are decoded.
    decoded: usize,
}

/// Questions that are answered together.
#[derive(Debug)]
struct Groups {
    questions: Vec<Range<usize>>,
    counts: Vec<usize>,
    /// The most that any group takes, of each.
    most: Size,
    /// Tokens that are encoded in all.
    encoded: usize,
}

impl Groups {
    fn new(sizes: &[Size], size: GroupSize) -> Self {
        let most_tokens = size.limit(GROUP_TOKENS.0, GROUP_TOKENS.1);
        let mut groups =
            Self { questions: Vec::new(), counts: Vec::new(), most: Size::default(), encoded: 0 };
        let mut start = 0;
        let mut group = Size::default();
        for (nth, size) in sizes.iter().enumerate() {
            let full = group.encoded + size.encoded > most_tokens
                || group.sequences + size.sequences > GROUP_SEQUENCES;
            if full && nth > start {
                groups.close(start..nth, group);
                (start, group) = (nth, Size::default());
            }
            group.encoded += size.encoded;
            group.sequences += size.sequences;
            group.decoded += size.decoded;
        }
        if start < sizes.len() {
            groups.close(start..sizes.len(), group);
        }
        groups
    }

    fn close(&mut self, questions: Range<usize>, size: Size) {
        self.counts.push(questions.len());
        self.questions.push(questions);
        self.most.encoded = self.most.encoded.max(size.encoded);
        self.most.sequences = self.most.sequences.max(size.sequences);
        self.most.decoded = self.most.decoded.max(size.decoded);
        self.encoded += size.encoded;
    }

    /// A context for any group, of whose answers up to `kept` tokens are kept and `at_once` decoded at once.
    fn shape(&self, kept: usize, at_once: usize) -> ContextShape {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
        // Sources are encoded at once; llama.cpp takes no batch larger than the context.
        // It also wants room for one output of each sequence.
        let batch = narrow(self.most.encoded.max(at_once).max(self.most.sequences));
        ContextShape {
            tokens: narrow(kept).max(batch),
            sequences: narrow(self.most.sequences),
            batch,
            ubatch: batch,
        }
    }
}

/// Encodes sources, each for the sequences that follow it.
fn encode<'s>(
    stream: &mut Stream<'_>,
    sources: impl Iterator<Item = (&'s [i32], Vec<i32>)>,
) -> Result<(), TaskError> {
    stream.context.clear_memory();
    stream.batch.clear();
    for (source, sequences) in sources {
        for (position, &token) in (0..).zip(source) {
            stream.batch.add_shared(token, position, &sequences, true)?;
        }
    }
    Ok(stream.context.encode(&mut stream.batch)?)
}

/// The number of a sequence.
fn sequence(nth: usize) -> i32 {
    i32::try_from(nth).unwrap_or(i32::MAX)
}

/// Writes what follows sources.
#[derive(Debug)]
pub(super) struct SourceWriter {
    sources: Vec<Vec<i32>>,
    groups: Groups,
    limits: Limits,
    start_token: i32,
}

impl SourceWriter {
    /// Answers begin with the token `start_token`.
    pub(super) fn new(
        sources: Vec<Vec<i32>>,
        limits: Limits,
        start_token: i32,
        size: GroupSize,
    ) -> Self {
        let each = |source: &Vec<i32>| Size { encoded: source.len(), sequences: 1, decoded: 1 };
        let groups = Groups::new(&sources.iter().map(each).collect::<Vec<_>>(), size);
        Self { sources, groups, limits, start_token }
    }
}

impl Answerer for SourceWriter {
    fn groups(&self) -> &[usize] {
        &self.groups.counts
    }

    fn work(&self) -> Work {
        let tokens = self.groups.encoded as u64;
        Work { request_tokens: tokens, evaluated_tokens: tokens }
    }

    fn shape(&self, _settings: &Settings) -> ContextShape {
        let sequences = self.groups.most.sequences;
        // The token that an answer begins with is kept too.
        self.groups.shape(sequences * (self.limits.max_tokens + 1), sequences)
    }

    fn prepare(&self, _lane: &mut Stream<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn answer(&self, stream: &mut Stream<'_>, group: usize) -> Result<Vec<Answer>, TaskError> {
        let sources = &self.sources[self.groups.questions[group].clone()];
        let each = sources.iter().enumerate();
        encode(stream, each.map(|(nth, source)| (source.as_slice(), vec![sequence(nth)])))?;
        stream.batch.clear();
        for nth in 0..sources.len() {
            stream.batch.add(self.start_token, 0, sequence(nth), true)?;
        }
        stream.context.decode(&mut stream.batch)?;
        let vocabulary = stream.model.vocabulary_size();
        let logits = stream.context.all_logits(sources.len())?.chunks_exact(vocabulary);
        let begin = |(nth, row): (usize, &[f32])| Draft::begin(sequence(nth), 1, row);
        let drafts = logits.enumerate().map(begin).collect();
        draft::write(stream, drafts, &self.limits)
    }
}

/// One question: its sources, each once, and what may follow them.
#[derive(Debug)]
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

    fn size(&self) -> Size {
        Size {
            encoded: self.sources.iter().map(|(source, _)| source.len()).sum(),
            sequences: self.alternatives.len(),
            decoded: self.alternatives.iter().map(Vec::len).sum(),
        }
    }
}

/// Finds how probable what may follow a source is.
#[derive(Debug)]
pub(super) struct SourceChooser {
    choices: Vec<Choice>,
    groups: Groups,
    start_token: i32,
}

impl SourceChooser {
    /// Answers begin with the token `start_token`.
    pub(super) fn new(questions: Vec<Pairs>, start_token: i32, size: GroupSize) -> Self {
        let choices: Vec<Choice> = questions.into_iter().map(Choice::new).collect();
        let groups = Groups::new(&choices.iter().map(Choice::size).collect::<Vec<_>>(), size);
        Self { choices, groups, start_token }
    }
}

impl Answerer for SourceChooser {
    fn groups(&self) -> &[usize] {
        &self.groups.counts
    }

    fn work(&self) -> Work {
        let sources = self.choices.iter().flat_map(|choice| &choice.sources);
        let tokens = sources.map(|(source, followers)| source.len() * followers.len());
        Work {
            request_tokens: tokens.sum::<usize>() as u64,
            evaluated_tokens: self.groups.encoded as u64,
        }
    }

    fn shape(&self, _settings: &Settings) -> ContextShape {
        let decoded = self.groups.most.decoded;
        self.groups.shape(decoded, decoded)
    }

    fn prepare(&self, _lane: &mut Stream<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn answer(&self, stream: &mut Stream<'_>, group: usize) -> Result<Vec<Answer>, TaskError> {
        let choices = &self.choices[self.groups.questions[group].clone()];
        let mut first = 0;
        let mut sources = Vec::new();
        for choice in choices {
            for (source, followers) in &choice.sources {
                let sequences = followers.iter().map(|nth| sequence(first + nth));
                sources.push((source.as_slice(), sequences.collect()));
            }
            first += choice.alternatives.len();
        }
        encode(stream, sources.into_iter())?;
        stream.batch.clear();
        let alternatives = || choices.iter().flat_map(|choice| &choice.alternatives);
        for (nth, alternative) in alternatives().enumerate() {
            // Nobody asks what follows the last token.
            let before = std::iter::once(self.start_token).chain(alternative.iter().copied());
            for (position, token) in (0..).zip(before.take(alternative.len())) {
                stream.batch.add(token, position, sequence(nth), true)?;
            }
        }
        let vocabulary = stream.model.vocabulary_size().max(1);
        let outputs = stream.batch.len();
        let mut logits: &[f32] = &[];
        if outputs > 0 {
            stream.context.decode(&mut stream.batch)?;
            logits = stream.context.all_logits(outputs)?;
        }
        let mut rows = logits.chunks_exact(vocabulary);
        let answer = |choice: &Choice| {
            let each = choice.alternatives.iter().map(|it| likelihood(&mut rows, it));
            Answer::Alternatives(each.collect())
        };
        Ok(choices.iter().map(answer).collect())
    }
}

/// How probable an answer is, of which `rows` begin with the logits that its tokens are chosen from.
fn likelihood<'l>(rows: &mut impl Iterator<Item = &'l [f32]>, answer: &[i32]) -> Likelihood {
    let mut likelihood = Likelihood { log_likelihood: 0.0, is_greedy: true };
    for (&token, row) in answer.iter().zip(rows) {
        let token = usize::try_from(token).unwrap_or(usize::MAX);
        let logit = row.get(token).copied().unwrap_or(f32::NAN);
        likelihood.log_likelihood += f64::from(logit - log_sum_exp(row));
        likelihood.is_greedy &= index_of_maximum(row) == token;
    }
    likelihood
}
