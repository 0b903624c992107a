//! One of the two models, evaluated up to a cut of its graph for every text of the calibration.
//!
//! The values at the cut are kept for all tokens; everything after it is computed from them when it is needed. Uses
//! `llama::partial` and the flow; used by the sequence.

use super::plan::Flow;
use crate::engine::error::EngineError;
use crate::engine::llama::partial::{Part, PartialContext, ProbeKind, Shown};

pub(super) struct PartialForward<'m> {
    /// One per stream.
    contexts: Vec<PartialContext<'m>>,
    /// All of the context's length.
    texts: &'m [&'m [i32]],
    /// The cut whose values are kept; `None`: nothing is computed yet.
    at: Option<usize>,
    /// Its values, for each text.
    hidden: Vec<Vec<f32>>,
}

/// What to read of a text, and which cut to keep the values of.
pub(super) struct Probe {
    part: Part,
    /// Places in `part.shown`.
    wanted: Vec<usize>,
    kept: Option<usize>,
}

impl<'m> PartialForward<'m> {
    pub(super) fn new(contexts: Vec<PartialContext<'m>>, texts: &'m [&'m [i32]]) -> Self {
        Self { contexts, texts, at: None, hidden: vec![Vec::new(); texts.len()] }
    }

    pub(super) fn texts(&self) -> usize {
        self.texts.len()
    }

    /// Tokens of a text.
    pub(super) fn tokens(&self) -> usize {
        self.texts.first().map_or(0, |text| text.len())
    }

    /// How to read `wanted`, in this order, from the present cut on. The values of `next`, the same or a later cut,
    /// replace the present ones text by text; call [`Self::advance`] after the last text.
    pub(super) fn probe(
        &self,
        flow: &Flow,
        wanted: &[(usize, ProbeKind)],
        next: Option<usize>,
    ) -> Probe {
        let next = next.filter(|_| next != self.at).map(|step| (step, ProbeKind::Output));
        let part = flow.part(self.at, wanted.iter().copied().chain(next).collect());
        let place = |probe: &(usize, ProbeKind)| part.shown.iter().position(|shown| shown == probe);
        let wanted = wanted.iter().filter_map(place).collect();
        let kept = next.as_ref().and_then(place);
        Probe { part, wanted, kept }
    }

    /// Number of streams.
    pub(super) fn streams(&self) -> usize {
        self.contexts.len()
    }

    /// The streams with a text each, from text `first` on.
    pub(super) fn from(&mut self, first: usize) -> impl Iterator<Item = TextStream<'_, 'm>> {
        let contexts = self.contexts.iter_mut();
        let texts = contexts.zip(self.hidden[first..].iter_mut().zip(&self.texts[first..]));
        texts.map(|(context, (hidden, text))| TextStream { context, text, hidden })
    }

    /// Makes the cut that the probe kept the present one.
    pub(super) fn advance(&mut self, probe: &Probe) {
        if let Some((step, _)) = probe.kept.and_then(|kept| probe.part.shown.get(kept)) {
            self.at = Some(*step);
        }
    }
}

/// A context with the text it evaluates.
pub(super) struct TextStream<'s, 'm> {
    context: &'s mut PartialContext<'m>,
    text: &'m [i32],
    hidden: &'s mut Vec<f32>,
}

impl TextStream<'_, '_> {
    /// Evaluates the text and reads what the probe wants.
    pub(super) fn read(&mut self, probe: &Probe) -> Result<Vec<Shown>, EngineError> {
        let mut shown = self.context.evaluate(self.text, &probe.part, self.hidden)?;
        if let Some(kept) = probe.kept {
            self.hidden.clone_from(&shown[kept].rows);
        }
        let mut take = |&place: &usize| shown.get_mut(place).map(std::mem::take);
        Ok(probe.wanted.iter().filter_map(&mut take).collect())
    }
}
