//! Drafts: answers that are being written side by side, each in a sequence of its own, the most probable
//! token at a time.

use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::workload::batched::BatchedContext;
use crate::workload::softmax::index_of_maximum;

/// Where answers end.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Tokens of an answer at most.
    pub(super) max_tokens: usize,
    /// Texts before which it ends.
    pub(super) stops: Vec<String>,
}

/// An answer that was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Written {
    /// What it says.
    pub(super) text: String,
    /// Its tokens, with the one that ended it.
    pub(super) tokens: Vec<i32>,
}

/// An answer that is being written.
pub(super) struct Draft {
    sequence: i32,
    /// Where the token that comes next is to stand.
    position: i32,
    /// The token that comes next.
    token: i32,
    tokens: Vec<i32>,
    bytes: Vec<u8>,
    over: bool,
}

impl Draft {
    /// An answer whose first token is chosen from `logits` and is to stand at `position` of `sequence`.
    pub(super) fn begin(sequence: i32, position: i32, logits: &[f32]) -> Self {
        let token = most_probable(logits);
        Self { sequence, position, token, tokens: Vec::new(), bytes: Vec::new(), over: false }
    }

    /// Takes the token that comes next into the answer, unless it ends it; whether it did.
    fn take(&mut self, model: &dyn Model, limits: &Limits) -> bool {
        self.tokens.push(self.token);
        if model.ends_generation(self.token) {
            self.over = true;
            return false;
        }
        self.bytes.extend(model.token_bytes(self.token));
        let text = String::from_utf8_lossy(&self.bytes);
        if let Some(end) = limits.stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            // Before the stop everything is as it was generated, or mended to be text.
            self.bytes = text[..end].as_bytes().to_vec();
            self.over = true;
        }
        self.over |= self.tokens.len() == limits.max_tokens;
        true
    }
}

/// Writes all drafts to their ends; the answers in the same order.
pub(super) fn write(
    batched: &mut BatchedContext<'_>,
    drafts: Vec<Draft>,
    limits: &Limits,
) -> Result<Vec<Written>, EngineError> {
    write_watched(batched, drafts, limits, &mut |_| ())
}

/// The same; `taken` is told which of them grew, token by token.
pub(super) fn write_watched(
    batched: &mut BatchedContext<'_>,
    mut drafts: Vec<Draft>,
    limits: &Limits,
    taken: &mut dyn FnMut(usize),
) -> Result<Vec<Written>, EngineError> {
    let vocabulary = batched.model.vocabulary_size();
    loop {
        for (at, draft) in drafts.iter_mut().enumerate().filter(|(_, draft)| !draft.over) {
            if draft.take(batched.model, limits) {
                taken(at);
            }
        }
        let active: Vec<&mut Draft> = drafts.iter_mut().filter(|draft| !draft.over).collect();
        if active.is_empty() {
            break;
        }
        batched.batch.clear();
        for draft in &active {
            batched.batch.add(draft.token, draft.position, draft.sequence, true)?;
        }
        batched.context.decode(&mut batched.batch)?;
        let logits = batched.context.all_logits(active.len())?;
        for (draft, row) in active.into_iter().zip(logits.chunks_exact(vocabulary)) {
            draft.token = most_probable(row);
            draft.position += 1;
        }
    }
    let written = |draft: Draft| Written {
        text: String::from_utf8_lossy(&draft.bytes).into_owned(),
        tokens: draft.tokens,
    };
    Ok(drafts.into_iter().map(written).collect())
}

fn most_probable(logits: &[f32]) -> i32 {
    i32::try_from(index_of_maximum(logits)).unwrap_or(i32::MAX)
}
