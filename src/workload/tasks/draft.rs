//! Drafts: answers that are being written side by side, each in a sequence of its own, the most probable
//! token at a time.

use super::TaskError;
use super::answerer::{Answer, Stream};
use crate::engine::Model;
use crate::workload::softmax::index_of_maximum;

/// Where answers end.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Tokens of an answer at most.
    pub(super) max_tokens: usize,
    stops: Vec<String>,
}

impl Limits {
    /// Answers end after so many tokens, or before one of the texts `stops`.
    pub(super) fn new(max_tokens: u32, stops: Vec<String>) -> Self {
        Self { max_tokens: max_tokens as usize, stops }
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    sequence: i32,
    /// Where the token that comes next is to stand.
    position: usize,
    /// The token that comes next.
    token: i32,
    written: usize,
    bytes: Vec<u8>,
    over: bool,
}

impl Draft {
    /// An answer whose first token is chosen from `logits` and is to stand at `position` of `sequence`.
    pub(super) fn begin(sequence: i32, position: usize, logits: &[f32]) -> Self {
        let token = most_probable(logits);
        Self { sequence, position, token, written: 0, bytes: Vec::new(), over: false }
    }

    /// Takes the token that comes next into the answer, unless it ends it.
    fn take(&mut self, model: &dyn Model, limits: &Limits) {
        if model.ends_generation(self.token) {
            self.over = true;
            return;
        }
        self.bytes.extend(model.token_bytes(self.token));
        self.written += 1;
        let text = String::from_utf8_lossy(&self.bytes);
        if let Some(end) = limits.stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            // Before the stop everything is as it was generated, or mended to be text.
            self.bytes = text[..end].as_bytes().to_vec();
            self.over = true;
        }
        self.over |= self.written == limits.max_tokens;
    }
}

/// Writes all drafts to their ends; the answers in the same order.
///
/// # Errors
/// Evaluation fails.
pub(super) fn write(
    stream: &mut Stream<'_>,
    mut drafts: Vec<Draft>,
    limits: &Limits,
) -> Result<Vec<Answer>, TaskError> {
    loop {
        for draft in drafts.iter_mut().filter(|draft| !draft.over) {
            draft.take(stream.model, limits);
        }
        let active: Vec<&mut Draft> = drafts.iter_mut().filter(|draft| !draft.over).collect();
        if active.is_empty() {
            break;
        }
        step(stream, active)?;
    }
    let text = |draft: Draft| Answer::Text(String::from_utf8_lossy(&draft.bytes).into_owned());
    Ok(drafts.into_iter().map(text).collect())
}

/// Evaluates the next token of every answer that is not over, and finds the one after it.
fn step(stream: &mut Stream<'_>, active: Vec<&mut Draft>) -> Result<(), TaskError> {
    stream.batch.clear();
    for draft in &active {
        let position = i32::try_from(draft.position).unwrap_or(i32::MAX);
        stream.batch.add(draft.token, position, draft.sequence, true)?;
    }
    stream.context.decode(&mut stream.batch)?;
    let vocabulary = stream.model.vocabulary_size();
    let logits = stream.context.all_logits(active.len())?;
    for (draft, row) in active.into_iter().zip(logits.chunks_exact(vocabulary)) {
        draft.token = most_probable(row);
        draft.position += 1;
    }
    Ok(())
}

/// The most probable token of an output.
fn most_probable(logits: &[f32]) -> i32 {
    i32::try_from(index_of_maximum(logits)).unwrap_or(i32::MAX)
}
