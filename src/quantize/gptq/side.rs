//! One of the two models, evaluated up to some step of its graph for every text of the calibration.
//!
//! What is kept are the values of a cut, for all tokens; all that comes behind is computed from them, whenever it is
//! asked for. Uses `llama::partial` and the flow; used by the sequence.

use super::plan::Flow;
use crate::engine::error::EngineError;
use crate::engine::llama::partial::{Look, Part, PartialContext, Shown};

/// A model, part-way through its graph.
#[derive(Debug)]
pub struct Side<'m> {
    /// As many texts are evaluated at once.
    contexts: Vec<PartialContext<'m>>,
    /// The texts, all of the context's length.
    texts: &'m [&'m [i32]],
    /// The cut whose values are kept; `None`: nothing is computed yet.
    at: Option<usize>,
    /// Its values, for each text.
    hidden: Vec<Vec<f32>>,
}

/// What to see of a text, and which cut to keep the values of.
#[derive(Debug)]
pub struct Glance {
    part: Part,
    /// Places in `part.shown`.
    wanted: Vec<usize>,
    kept: Option<usize>,
}

impl<'m> Side<'m> {
    /// Before the first step.
    #[must_use]
    pub fn new(contexts: Vec<PartialContext<'m>>, texts: &'m [&'m [i32]]) -> Self {
        Self { contexts, texts, at: None, hidden: vec![Vec::new(); texts.len()] }
    }

    /// Tokens of a text.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.texts.first().map_or(0, |text| text.len())
    }

    /// How to see `wanted`, in this order, from the cut kept now on. The values of `next`, the same or a later cut,
    /// are kept in place of the present ones, text by text; after the last text [`Self::arrive`] must follow.
    #[must_use]
    pub fn glance(&self, flow: &Flow, wanted: &[(usize, Look)], next: Option<usize>) -> Glance {
        let next = next.filter(|_| next != self.at).map(|step| (step, Look::Output));
        let part = flow.part(self.at, wanted.iter().copied().chain(next).collect());
        let place = |look: &(usize, Look)| part.shown.iter().position(|shown| shown == look);
        let wanted = wanted.iter().filter_map(place).collect();
        let kept = next.as_ref().and_then(place);
        Glance { part, wanted, kept }
    }

    /// Texts that are evaluated at once.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.contexts.len()
    }

    /// Lanes for as many texts as there are, beginning with this one.
    pub fn from(&mut self, first: usize) -> impl Iterator<Item = Lane<'_, 'm>> {
        let contexts = self.contexts.iter_mut();
        let texts = contexts.zip(self.hidden[first..].iter_mut().zip(&self.texts[first..]));
        texts.map(|(context, (hidden, text))| Lane { context, text, hidden })
    }

    /// After all texts: the values that were kept are those that evaluations begin with.
    pub fn arrive(&mut self, glance: &Glance) {
        if let Some((step, _)) = glance.kept.and_then(|kept| glance.part.shown.get(kept)) {
            self.at = Some(*step);
        }
    }
}

/// A text in front of a context of its own.
#[derive(Debug)]
pub struct Lane<'s, 'm> {
    context: &'s mut PartialContext<'m>,
    text: &'m [i32],
    hidden: &'s mut Vec<f32>,
}

impl Lane<'_, '_> {
    /// Evaluates the text.
    ///
    /// # Errors
    /// When llama.cpp cannot, or what is wanted cannot be read.
    pub fn look(&mut self, glance: &Glance) -> Result<Vec<Shown>, EngineError> {
        let mut shown = self.context.evaluate(self.text, &glance.part, self.hidden)?;
        if let Some(kept) = glance.kept {
            self.hidden.clone_from(&shown[kept].rows);
        }
        let mut take = |&place: &usize| shown.get_mut(place).map(std::mem::take);
        Ok(glance.wanted.iter().filter_map(&mut take).collect())
    }
}
