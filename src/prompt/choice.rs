//! The choice of a format in an experiment: the model's own template, none, or one by name.

use super::catalog;
use super::format::Format;
use super::message::{Conversation, Message, Role};
use super::piece::Prompt;
use super::template::{ChatTemplate, TemplateError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which format a workload's prompts are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormatChoice {
    /// The model's own chat template, if its file has one; else none.
    #[default]
    Auto,
    /// None: the text as it is.
    None,
    /// One of the catalogue.
    Named(&'static Format),
}

impl FromStr for FormatChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            name => catalog::named(name).map(Self::Named).ok_or_else(|| {
                let known = catalog::names().collect::<Vec<_>>().join(", ");
                format!("'{text}' is no prompt format; there are auto, none, {known}")
            }),
        }
    }
}

impl fmt::Display for FormatChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Named(format) => format.name,
        })
    }
}

impl Serialize for FormatChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FormatChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What opens a thought and what closes it, in the words of models that reason.
const THOUGHTS: [(&str, &str); 8] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
];

/// Puts requests into the format that was chosen for a model.
#[derive(Debug)]
pub enum Prompter {
    /// The text as it is.
    Plain,
    /// A format of the catalogue.
    Format(&'static Format),
    /// The model's own template.
    Template(Box<ChatTemplate>),
}

impl Prompter {
    /// The prompter for a choice; `template` yields the model's own template, if it has one.
    ///
    /// # Errors
    /// The template is asked for and cannot be read.
    pub fn new(
        choice: FormatChoice,
        template: impl FnOnce() -> Result<Option<ChatTemplate>, TemplateError>,
    ) -> Result<Self, TemplateError> {
        Ok(match choice {
            FormatChoice::None => Self::Plain,
            FormatChoice::Named(format) => Self::Format(format),
            FormatChoice::Auto => {
                template()?.map_or(Self::Plain, |template| Self::Template(Box::new(template)))
            }
        })
    }

    /// The prompt of one request.
    ///
    /// # Errors
    /// The model's template fails or refuses the request.
    pub fn request(&self, text: &str) -> Result<Prompt, TemplateError> {
        match self {
            Self::Plain => Ok(Prompt::plain(text)),
            Self::Format(format) => Ok(format.render(&Conversation::request(text))?),
            Self::Template(template) => template.render(&Conversation::request(text)),
        }
    }

    /// The white space that the format puts between the end of a prompt and an answer.
    pub fn gap(&self) -> String {
        const ANSWER: &str = "answer";
        match self {
            Self::Plain => String::new(),
            Self::Format(format) => format.gap().to_owned(),
            Self::Template(template) => {
                let request = Conversation::request("request");
                let mut answered = Conversation { generation_prompt: false, ..request.clone() };
                answered.messages.push(Message::new(Role::Assistant, ANSWER));
                let text =
                    |conversation: &Conversation| Some(template.render(conversation).ok()?.text());
                let gap = || {
                    let (prompt, whole) = (text(&request)?, text(&answered)?);
                    let behind = whole.strip_prefix(&prompt)?;
                    let gap = &behind[..behind.find(ANSWER)?];
                    gap.trim().is_empty().then(|| gap.to_owned())
                };
                template.gap.get_or_init(|| gap().unwrap_or_default()).clone()
            }
        }
    }

    /// What opens a thought that is not closed where an answer begins; `None`: nothing does.
    pub fn open_thought(&self) -> Option<String> {
        const REQUEST: &str = "what is asked";
        let prompt = self.request(REQUEST).ok()?.text();
        // A system message may name the marks, too; it stands before the request.
        let behind = &prompt[prompt.rfind(REQUEST)?..];
        let is_open = |(open, close): &&(&str, &str)| {
            behind.rfind(open).is_some_and(|start| !behind[start..].contains(close))
        };
        THOUGHTS.iter().find(is_open).map(|(open, _)| (*open).to_owned())
    }

    /// What the prompts are put into, in a word: `none`, `chatml`, or `own` for the model's own
    /// template.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain => "none",
            Self::Format(format) => format.name,
            Self::Template(_) => "own",
        }
    }

    /// Texts that end an answer, besides the tokens that end generation.
    pub fn stops(&self) -> &'static [&'static str] {
        match self {
            Self::Format(format) => format.stops,
            Self::Plain | Self::Template(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::SpecialTokens;
    use serde_json::json;
    use time::OffsetDateTime;

    fn prompter(source: &str, variables: serde_json::Value) -> Prompter {
        let serde_json::Value::Object(variables) = variables else { panic!("{variables}") };
        let tokens = SpecialTokens { all: Vec::new(), beginning: None, end: None };
        let template = ChatTemplate::new(source, tokens, OffsetDateTime::UNIX_EPOCH).unwrap();
        let template = template.with_variables(variables);
        Prompter::new(FormatChoice::Auto, || Ok(Some(template))).unwrap()
    }

    #[test]
    fn a_thought_is_open_unless_the_template_closes_it_before_the_answer() {
        let source = "Think in <think> like this.{{ messages[0].content }}\n<think>\n\
                      {% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}";
        let open = |prompter: Prompter| prompter.open_thought();
        assert_eq!(open(prompter(source, json!({}))).as_deref(), Some("<think>"));
        assert_eq!(open(prompter(source, json!({ "enable_thinking": false }))), None);
        let mentioned = "Think in <think>.{{ messages[0].content }}\n";
        assert_eq!(open(prompter(mentioned, json!({}))), None);
        let magistral = prompter("{{ messages[0].content }}[/INST][THINK]", json!({}));
        assert_eq!(open(magistral).as_deref(), Some("[THINK]"));
        assert_eq!(open(Prompter::Plain), None);
    }
}
