//! Which workloads apply to which class of architecture. What does not apply is not measured, and its
//! field in a table is blank: neither zero nor a failure.

use super::measured::{LeftOut, ModelFacts};
use crate::experiment::tasks::Answering;
use crate::experiment::workloads::SpeedTest;
use crate::model::architecture::ArchitectureClass;
use std::fmt;

/// Whether a workload has a meaning for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applies {
    /// It is measured.
    Yes,
    /// Its field in a table is blank.
    No,
    /// Its field is blank, and the run says why.
    LeftOut(LeftOut),
}

impl Applies {
    /// It has one if there is no reason why not.
    pub(super) fn unless(reason: Option<Inapplicable>) -> Self {
        if reason.is_some() { Self::No } else { Self::Yes }
    }

    /// What is too long for the model is told of.
    pub(super) fn left_out(what: String, reason: Inapplicable) -> Self {
        Self::LeftOut(LeftOut { what, reason: reason.to_string() })
    }
}

/// Why a workload does not apply to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inapplicable {
    /// The model writes no text, so nothing about generation can be measured.
    NoGeneration,
    /// Sequences side by side are measured of decoders; embeddings are of encoders.
    OneSequence,
    /// The model is not made to embed texts.
    NoEmbeddings,
    /// The model keeps nothing between two calls that more tokens could follow.
    NoDepth,
    /// The model was given nothing to see pictures with.
    NoSight,
    /// Retrieval-augmented answers and those about pictures are measured of decoders alone.
    NotMeasured,
    /// The model has no position for a token so far behind.
    TooLong {
        /// Tokens it can read at most.
        context: u32,
    },
}

impl fmt::Display for Inapplicable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGeneration => formatter.write_str("it generates nothing"),
            Self::OneSequence => formatter
                .write_str("sequences side by side are measured of decoders, or as embeddings"),
            Self::NoEmbeddings => formatter.write_str("it is not made to embed texts"),
            Self::NoDepth => formatter.write_str("it reads every text anew, whole"),
            Self::NoSight => formatter.write_str("it sees no pictures"),
            Self::NotMeasured => formatter.write_str("it is measured of decoders alone"),
            Self::TooLong { context } => {
                write!(formatter, "it reads {context} tokens at most")
            }
        }
    }
}

/// Why a throughput test does not apply to a model; `None`: it does.
///
/// An encoder's `pp` is one text of so many tokens, encoded whole. An encoder-decoder's `pp` is the
/// encoder alone and its `tg` the decoder alone; a depth before `tg` is the length of what the
/// encoder has read.
#[must_use]
pub fn speed(test: SpeedTest, facts: &ModelFacts) -> Option<Inapplicable> {
    match facts.class {
        ArchitectureClass::DecoderOnly | ArchitectureClass::EncoderDecoder if test.embeds => {
            Some(Inapplicable::NoEmbeddings)
        }
        ArchitectureClass::DecoderOnly => beyond_positions(test.positions(), facts),
        _ if test.sequences > 1 && !test.embeds => Some(Inapplicable::OneSequence),
        ArchitectureClass::EncoderDecoder => {
            (test.depth > 0 && !test.is_generation_only()).then_some(Inapplicable::NoDepth)
        }
        ArchitectureClass::EncoderOnly if test.generated_tokens > 0 => {
            Some(Inapplicable::NoGeneration)
        }
        ArchitectureClass::EncoderOnly if test.depth > 0 => Some(Inapplicable::NoDepth),
        ArchitectureClass::EncoderOnly => (test.prompt_tokens > facts.context_length)
            .then_some(Inapplicable::TooLong { context: facts.context_length }),
    }
}

/// Why a text of so many tokens cannot be computed; `None`: it can. Most models compute texts longer than
/// those they were trained on, but learnt embeddings of positions end somewhere.
#[must_use]
pub fn beyond_positions(tokens: u32, facts: &ModelFacts) -> Option<Inapplicable> {
    let positions = facts.positions.filter(|&positions| tokens > positions);
    positions.map(|context| Inapplicable::TooLong { context })
}

/// Why perplexity over chunks of so many tokens does not apply to a model; `None`: it does. What encoders
/// read is cut to their length.
#[must_use]
pub fn quality(context: u32, facts: &ModelFacts) -> Option<Inapplicable> {
    let decoder = facts.class == ArchitectureClass::DecoderOnly;
    beyond_positions(context, facts).filter(|_| decoder)
}

/// Why a task does not apply to a class of architecture, with a projector or without; `None`: it does.
/// An encoder chooses what lies nearest, but writes nothing.
#[must_use]
pub fn task(answering: &Answering, class: ArchitectureClass, sees: bool) -> Option<Inapplicable> {
    match (answering, class) {
        (Answering::See { .. }, _) if !sees => Some(Inapplicable::NoSight),
        (Answering::Choose, _) | (Answering::Retrieve, ArchitectureClass::EncoderOnly) => None,
        (Answering::Retrieve, _) => Some(Inapplicable::NoEmbeddings),
        (_, ArchitectureClass::EncoderOnly) => Some(Inapplicable::NoGeneration),
        (Answering::Augment { .. } | Answering::See { .. }, ArchitectureClass::EncoderDecoder) => {
            Some(Inapplicable::NotMeasured)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why_not(test: &str, class: ArchitectureClass) -> Option<Inapplicable> {
        let facts = ModelFacts { class, context_length: 256, ..ModelFacts::default() };
        speed(test.parse().unwrap(), &facts)
    }

    #[test]
    fn an_encoder_reads_and_embeds_but_does_not_write() {
        let class = ArchitectureClass::EncoderOnly;
        for test in ["pp128", "pp256", "embed128x8"] {
            assert_eq!(why_not(test, class), None, "{test}");
        }
        let too_long = Some(Inapplicable::TooLong { context: 256 });
        assert_eq!(why_not("pp512", class), too_long);
        assert_eq!(why_not("embed512x2", class), too_long);
        assert_eq!(why_not("tg16", class), Some(Inapplicable::NoGeneration));
        assert_eq!(why_not("pp16+tg16", class), Some(Inapplicable::NoGeneration));
        assert_eq!(why_not("pp16@d16", class), Some(Inapplicable::NoDepth));
    }

    #[test]
    fn an_encoder_decoder_encodes_generates_and_generates_after_what_was_encoded() {
        let class = ArchitectureClass::EncoderDecoder;
        for test in ["pp128", "tg16", "pp128+tg16", "tg16@d128"] {
            assert_eq!(why_not(test, class), None, "{test}");
        }
        assert_eq!(why_not("pp16@d16", class), Some(Inapplicable::NoDepth));
        assert_eq!(why_not("embed16x2", class), Some(Inapplicable::NoEmbeddings));
    }

    #[test]
    fn pictures_are_for_decoders_with_a_projector() {
        let answering = Answering::See { max_tokens: 8, stop: Vec::new() };
        let why_not = |class, sees| task(&answering, class, sees);
        assert_eq!(why_not(ArchitectureClass::DecoderOnly, true), None);
        let blind = Some(Inapplicable::NoSight);
        assert_eq!(why_not(ArchitectureClass::DecoderOnly, false), blind);
        let no = Some(Inapplicable::NoGeneration);
        assert_eq!(why_not(ArchitectureClass::EncoderOnly, true), no);
        let unmeasured = Some(Inapplicable::NotMeasured);
        assert_eq!(why_not(ArchitectureClass::EncoderDecoder, true), unmeasured);
    }

    #[test]
    fn a_decoder_with_learnt_positions_computes_no_more_of_them() {
        let facts =
            ModelFacts { positions: Some(128), context_length: 128, ..ModelFacts::default() };
        let why_not = |test: &str| speed(test.parse().unwrap(), &facts);
        let too_long = Some(Inapplicable::TooLong { context: 128 });
        assert_eq!(why_not("pp128"), None);
        assert_eq!(why_not("pp512"), too_long);
        assert_eq!(why_not("tg16@d120"), too_long);
        assert_eq!(beyond_positions(128, &facts), None);
        assert_eq!(beyond_positions(129, &facts), too_long);
    }

    #[test]
    fn a_decoder_does_all_that_llama_bench_does() {
        let class = ArchitectureClass::DecoderOnly;
        for test in ["pp512", "tg16", "pp128+tg16", "tg16@d4096"] {
            assert_eq!(why_not(test, class), None, "{test}");
        }
        assert_eq!(why_not("embed16x2", class), Some(Inapplicable::NoEmbeddings));
    }
}
