//! The diagram *Model Architecture Comparison* that the project started from, as data: what it says of
//! each class of architecture in a word.

/// A class of architecture as the diagram has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Architecture {
    DecoderOnly,
    EncoderOnly,
    EncoderDecoder,
    MixtureOfExperts,
    RetrievalAugmented,
    MultiModal,
}

/// What a model is used for, as the diagram has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    TextGeneration,
    Classification,
    QuestionAnswering,
    Translation,
    Summarization,
    ImageText,
}

/// What a model is like, as the diagram has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trait {
    ContextLength,
    InferenceSpeed,
    MemoryUsage,
    Accuracy,
}

impl Architecture {
    pub(super) const ALL: [Self; 6] = [
        Self::DecoderOnly,
        Self::EncoderOnly,
        Self::EncoderDecoder,
        Self::MixtureOfExperts,
        Self::RetrievalAugmented,
        Self::MultiModal,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DecoderOnly => "decoder-only",
            Self::EncoderOnly => "encoder-only",
            Self::EncoderDecoder => "encoder-decoder",
            Self::MixtureOfExperts => "mixture of experts",
            Self::RetrievalAugmented => "retrieval-augmented",
            Self::MultiModal => "multi-modal",
        }
    }

    /// The diagram's word for a use case; `None`: it draws no arrow.
    pub(super) fn word_for(self, use_case: Use) -> Option<&'static str> {
        use Architecture as A;
        use Use as U;
        Some(match (self, use_case) {
            (A::DecoderOnly | A::MixtureOfExperts, U::TextGeneration)
            | (A::EncoderOnly, U::Classification)
            | (A::MixtureOfExperts | A::RetrievalAugmented, U::QuestionAnswering) => "Excellent",
            (A::DecoderOnly | A::EncoderDecoder, U::QuestionAnswering | U::Summarization)
            | (A::EncoderDecoder, U::Translation)
            | (A::RetrievalAugmented | A::MultiModal, U::TextGeneration) => "Good",
            (A::EncoderOnly, U::TextGeneration) => "Limited",
            (A::MultiModal, U::ImageText) => "Enables",
            _ => return None,
        })
    }

    /// The diagram's word for a characteristic; `None`: it draws no arrow.
    pub(super) fn word_of(self, characteristic: Trait) -> Option<&'static str> {
        use Architecture as A;
        use Trait as T;
        Some(match (self, characteristic) {
            (A::DecoderOnly, T::ContextLength) => "Long",
            (A::EncoderOnly, T::ContextLength) => "Short",
            (A::EncoderDecoder, T::ContextLength) => "Medium",
            (A::EncoderOnly, T::InferenceSpeed) => "Fast",
            (A::RetrievalAugmented | A::MultiModal, T::InferenceSpeed) => "Slower",
            (A::DecoderOnly | A::MultiModal, T::MemoryUsage)
            | (A::MixtureOfExperts, T::Accuracy) => "High",
            (A::MixtureOfExperts, T::MemoryUsage) => "Very High",
            (A::RetrievalAugmented, T::Accuracy) => "Factual",
            _ => return None,
        })
    }
}

impl Use {
    pub(super) const ALL: [Self; 6] = [
        Self::TextGeneration,
        Self::Classification,
        Self::QuestionAnswering,
        Self::Translation,
        Self::Summarization,
        Self::ImageText,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TextGeneration => "text generation",
            Self::Classification => "classification",
            Self::QuestionAnswering => "question answering",
            Self::Translation => "translation",
            Self::Summarization => "summarization",
            Self::ImageText => "image-text",
        }
    }
}

impl Trait {
    pub(super) const ALL: [Self; 4] =
        [Self::ContextLength, Self::InferenceSpeed, Self::MemoryUsage, Self::Accuracy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ContextLength => "context length",
            Self::InferenceSpeed => "inference speed",
            Self::MemoryUsage => "memory usage",
            Self::Accuracy => "accuracy",
        }
    }
}
