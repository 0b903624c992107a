//! What a task means: every default filled in, its questions ready to be asked.

use super::corpus::CorpusPlan;
use super::question::Question;
use crate::metrics::TaskMetric;
use crate::prompt::choice::FormatChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// What a task is an example of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum UseCase {
    /// A text is continued.
    TextGeneration,
    /// A text is put into one of a few classes.
    Classification,
    /// A question is answered, by choosing or in words.
    QuestionAnswering,
    /// A text is put into another language.
    Translation,
    /// A text is made short.
    Summarization,
    /// Passages are found for a question.
    Retrieval,
    /// A question is answered with passages that are found for it (retrieval-augmented generation).
    Rag,
    /// A picture is described, or a question about it answered.
    ImageText,
}

/// How a model answers a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case", tag = "by")]
#[strum(serialize_all = "snake_case")]
pub enum Answering {
    /// It writes, the most probable token each time.
    Generate {
        /// Tokens after which it stops at the latest.
        max_tokens: u32,
        /// Texts at which it stops; they are no part of the answer.
        stop: Vec<String>,
    },
    /// The alternative that it finds most probable is its answer.
    Choose,
    /// The right continuation is given; it is answered right if each of its tokens is the most
    /// probable one.
    Predict,
    /// The passages whose embeddings are nearest to the query's are its answer.
    Retrieve,
    /// It writes, with passages in its request that another model found.
    Augment {
        /// Tokens after which it stops at the latest.
        max_tokens: u32,
        /// Texts at which it stops; they are no part of the answer.
        stop: Vec<String>,
    },
    /// It writes, after it has seen a picture.
    See {
        /// Tokens after which it stops at the latest.
        max_tokens: u32,
        /// Texts at which it stops; they are no part of the answer.
        stop: Vec<String>,
    },
}

impl Answering {
    /// Whether the model writes its answer.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Generate { .. } | Self::Augment { .. } | Self::See { .. })
    }

    /// Whether a metric can be computed from such answers.
    pub fn allows(&self, metric: TaskMetric) -> bool {
        use TaskMetric as M;
        match metric {
            M::Accuracy => *self != Self::Retrieve,
            M::AccuracyNormalized => *self == Self::Choose,
            M::MacroF1 => matches!(self, Self::Choose | Self::Generate { .. } | Self::See { .. }),
            M::ExactMatch | M::F1 => self.writes(),
            M::Bleu | M::Chrf | M::Rouge1 | M::Rouge2 | M::RougeL => {
                matches!(self, Self::Generate { .. } | Self::See { .. })
            }
            M::Hit(_) | M::ReciprocalRank | M::Ndcg(_) => {
                matches!(self, Self::Retrieve | Self::Augment { .. })
            }
        }
    }
}

/// One task of an experiment in one prompt format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// Its name, unique in the experiment: what the user wrote, and behind an `@` the format if the
    /// task is measured in several.
    pub name: TaskName,
    /// What it is an example of.
    pub use_case: UseCase,
    /// Where its data set came from, as the user wrote it.
    pub dataset: String,
    /// How a model answers.
    pub answering: Answering,
    /// What its answers are measured by; the first is the one shown first.
    pub metrics: Vec<TaskMetric>,
    /// Which format requests are put into.
    pub format: FormatChoice,
    /// What the model's own template is given besides.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// What stands between a request and an alternative that follows it; `None`: a space if the
    /// request is in no format and does not end with white space.
    pub separator: Option<String>,
    /// The passages of a task that finds some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusPlan>,
    /// The folder at which the paths of pictures begin, of a task that shows some; not stored with a
    /// run.
    #[serde(skip)]
    pub pictures: Option<PathBuf>,
    /// Number of questions.
    pub question_count: u32,
    /// Tells sets of questions apart: the first half of their SHA-256, hex.
    pub checksum: String,
    /// The questions; not stored with a run.
    #[serde(skip)]
    pub questions: Arc<Vec<Question>>,
}

#[cfg(test)]
impl TaskPlan {
    /// A task without questions.
    pub(crate) fn made_up(answering: Answering, metric: TaskMetric) -> Self {
        Self {
            name: "test".parse().unwrap(),
            use_case: UseCase::QuestionAnswering,
            dataset: String::new(),
            answering,
            metrics: vec![metric],
            format: FormatChoice::default(),
            chat_template_kwargs: Map::new(),
            separator: None,
            corpus: None,
            pictures: None,
            question_count: 0,
            checksum: String::new(),
            questions: Arc::default(),
        }
    }
}

/// The name of a task: a few ASCII letters, digits, `-`, `_` and `@`; small enough to be copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskName {
    bytes: [u8; Self::LONGEST],
    length: u8,
}

impl TaskName {
    const LONGEST: usize = 51;

    /// Characters that a user may write; the rest is for a format's name.
    pub const LONGEST_WRITTEN: usize = 32;

    /// The name itself.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// The name of the same task in one of several formats.
    ///
    /// # Errors
    /// The two together are no name.
    pub fn in_format(&self, format: FormatChoice) -> Result<Self, String> {
        format!("{self}@{format}").parse()
    }

    /// What the user wrote, and the format behind it.
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self.as_str().split_once('@') {
            Some((name, format)) => (name, Some(format)),
            None => (self.as_str(), None),
        }
    }
}

impl FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let (text, most) = (text.chars().take(80).collect::<String>(), Self::LONGEST_WRITTEN);
            format!("is '{text}'; a task's name is 1 to {most} letters, digits, '-' and '_'")
        };
        let (name, format) = text.split_once('@').unwrap_or((text, "none"));
        let is_plain = |part: &str, more: char| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == more;
            !part.is_empty() && part.chars().all(plain)
        };
        let fits = name.len() <= Self::LONGEST_WRITTEN && text.len() <= Self::LONGEST;
        if !fits || !is_plain(name, '-') || !is_plain(format, '.') {
            return Err(wrong());
        }
        let mut bytes = [0; Self::LONGEST];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, length: u8::try_from(text.len()).map_err(|_| wrong())? })
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl Serialize for TaskName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TaskName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let name: TaskName = "arc-easy_2".parse().unwrap();
        let chatml: FormatChoice = "chatml".parse().unwrap();
        let swept = name.in_format(chatml).unwrap();
        assert_eq!(swept.as_str(), "arc-easy_2@chatml");
        assert_eq!(swept.parts(), ("arc-easy_2", Some("chatml")));
        assert_eq!(serde_json::to_string(&swept).unwrap(), "\"arc-easy_2@chatml\"");
        for format in crate::prompt::catalog::names() {
            let longest: TaskName = "x".repeat(32).parse().unwrap();
            let format: FormatChoice = format.parse().unwrap();
            assert_eq!(longest.in_format(format).unwrap().parts().1, Some(&*format.to_string()));
        }
        for wrong in ["", "a b", "a.b", "ä", "@x", "a@", "a@b@c", &"x".repeat(33)] {
            assert!(wrong.parse::<TaskName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_metric_goes_with_the_answers_it_can_judge() {
        let writes = Answering::Generate { max_tokens: 8, stop: Vec::new() };
        assert!(writes.allows(TaskMetric::Bleu) && !Answering::Choose.allows(TaskMetric::Bleu));
        assert!(Answering::Choose.allows(TaskMetric::AccuracyNormalized));
        assert!(!Answering::Predict.allows(TaskMetric::MacroF1));
    }
}
