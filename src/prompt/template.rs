//! Chat templates: the Jinja program that a model's file carries, rendered without letting messages
//! become special tokens.
//!
//! A template yields one text. To tell in it what the template wrote from what the messages say,
//! every text of a special token within a message is broken by a character that occurs nowhere
//! else (of Unicode's private use area), and mended again after special tokens have been found.
//! Messages without such texts reach the template untouched, so that what it does with them (trim,
//! split, compare) is what its authors meant.

use super::message::{Conversation, ConversationError, Role};
use super::piece::{Prompt, finder};
use super::sandbox::{Fault, Sandbox};
use crate::model::gguf::SpecialTokens;
use aho_corasick::AhoCorasick;
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};
use std::sync::{LazyLock, OnceLock};
use time::OffsetDateTime;

/// Characters that may break texts; one that occurs in no message is taken.
const BREAKERS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{e0ff}';

/// The one template of a sandbox.
const NAME: &str = "chat_template";

/// What every template is given, whatever variables there are besides.
pub const OWN_VALUES: [&str; 4] = ["messages", "add_generation_prompt", "bos_token", "eos_token"];

/// Why a chat template yields no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no template, or fails, or refuses the conversation.
    #[error("{0}")]
    Template(String),
    /// The conversation is none.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
}

impl From<Fault> for TemplateError {
    fn from(fault: Fault) -> Self {
        let what = match fault {
            Fault::Syntax(_) => "cannot be read",
            Fault::Refused(_) => "refuses the conversation",
            Fault::Failed(_) | Fault::Ended(_) => "fails",
        };
        Self::Template(format!("the chat template {what}: {fault}"))
    }
}

/// A model's own chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    sandbox: Sandbox,
    tokens: SpecialTokens,
    /// Finds the texts of the special tokens, of several at one place the longest.
    finder: AhoCorasick,
    variables: Map<String, Value>,
    /// The white space before an answer, once it was looked for.
    pub(super) gap: OnceLock<String>,
}

impl ChatTemplate {
    /// Reads a template; `tokens` are the model's, `now` is the date that templates may ask for.
    ///
    /// # Errors
    /// It is no template.
    pub fn new(
        source: &str,
        tokens: SpecialTokens,
        now: OffsetDateTime,
    ) -> Result<Self, TemplateError> {
        let sandbox = Sandbox::chat(now);
        sandbox.add(NAME, &without_generation_blocks(source)).map_err(|fault| match fault {
            Fault::Ended(reason) => Fault::Syntax(reason),
            fault => fault,
        })?;
        let finder = finder(tokens.all.iter().map(String::as_str))
            .map_err(|error| Fault::Failed(error.to_string()))?;
        Ok(Self { sandbox, tokens, finder, variables: Map::new(), gap: OnceLock::new() })
    }

    /// The same template with more variables, such as `enable_thinking`, that it may read.
    #[must_use]
    pub fn with_variables(self, variables: Map<String, Value>) -> Self {
        Self { variables, ..self }
    }

    /// The model's special tokens.
    pub fn tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TemplateError`]; most templates refuse messages out of turn.
    pub fn render(&self, conversation: &Conversation) -> Result<Prompt, TemplateError> {
        conversation.check()?;
        let breaker = self.breaker(conversation)?;
        let messages: Vec<Value> = conversation
            .messages
            .iter()
            .map(|message| {
                let content = broken(&message.whole(), &self.tokens.all, breaker);
                json!({ "role": message.role, "content": content })
            })
            .collect();
        let text = self.text(messages, conversation.generation_prompt)?;
        let mut prompt = Prompt::default();
        prompt.push_found(&text, &self.finder);
        Ok(prompt.map_text(|text| text.replace(breaker, "")))
    }

    fn text(&self, messages: Vec<Value>, generation: bool) -> Result<String, TemplateError> {
        let mut values = self.variables.clone();
        let tokens = &self.tokens;
        let beginning = tokens.beginning.as_deref().unwrap_or("");
        let end = tokens.end.as_deref().unwrap_or("");
        let own = [messages.into(), generation.into(), beginning.into(), end.into()];
        values.extend(OWN_VALUES.into_iter().map(str::to_owned).zip(own));
        Ok(self.sandbox.render_one(NAME, values)?)
    }

    fn breaker(&self, conversation: &Conversation) -> Result<char, TemplateError> {
        let occurs = |breaker: char| {
            conversation.messages.iter().any(|message| message.whole().contains(breaker))
                || self.tokens.all.iter().any(|token| token.contains(breaker))
        };
        BREAKERS.into_iter().find(|&breaker| !occurs(breaker)).ok_or_else(|| {
            let used = "the messages hold every character of U+E000 to U+E0FF";
            TemplateError::Template(format!("{used}, so none is left to mark them"))
        })
    }

    /// Whether the template has a place for a system's message of its own or folds it somewhere:
    /// `false` if it refuses one.
    pub fn takes_system(&self) -> bool {
        let message = |role: Role| json!({ "role": role, "content": "x" });
        self.text(vec![message(Role::System), message(Role::User)], true).is_ok()
    }
}

/// A template without the marks that transformers knows around what the assistant says, which are for
/// training: `{% generation %}` … `{% endgeneration %}`. Each becomes a block that does nothing, so that the
/// white space around it is trimmed as before; comments and raw text stay as they are.
fn without_generation_blocks(source: &str) -> String {
    static MARKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?s)\{#.*?#\}|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}|(?<open>\{%[-+]?\s*)(?<end>end)?generation(?<close>\s*[-+]?%\})",
        )
        .ok()
    });
    let Some(marks) = &*MARKS else { return source.to_owned() };
    let replaced = marks.replace_all(source, |found: &Captures<'_>| {
        match (found.name("open"), found.name("close")) {
            (Some(open), Some(close)) => {
                let block = if found.name("end").is_some() { "endif" } else { "if true" };
                format!("{}{block}{}", open.as_str(), close.as_str())
            }
            _ => found[0].to_owned(),
        }
    });
    replaced.into_owned()
}

/// `text` with `breaker` after the first character of every special token's text, and where it could
/// complete, with what the template puts around it, such a text: at its beginning and its end
/// without the white space around it, which a template may take away.
fn broken(text: &str, special: &[String], breaker: char) -> String {
    let core = text.trim();
    let start = text.len() - text.trim_start().len();
    let (lead, trail) = (&text[..start], &text[start + core.len()..]);
    let mut result = String::with_capacity(text.len());
    result.push_str(lead);
    let continues = |token: &String| {
        let is_within = !core.is_empty() && token.contains(core);
        is_within || suffixes(token).any(|suffix| core.starts_with(suffix))
    };
    if special.iter().any(continues) {
        result.push(breaker);
    }
    for (start, character) in core.char_indices() {
        result.push(character);
        let rest = &core[start..];
        if special.iter().any(|token| rest.starts_with(token.as_str())) {
            result.push(breaker);
        }
    }
    if special.iter().any(|token| prefixes(token).any(|prefix| core.ends_with(prefix))) {
        result.push(breaker);
    }
    result.push_str(trail);
    result
}

/// What may follow the first characters of `token`.
fn suffixes(token: &str) -> impl Iterator<Item = &str> {
    token.char_indices().skip(1).map(|(start, _)| &token[start..])
}

/// What may stand before the last characters of `token`.
fn prefixes(token: &str) -> impl Iterator<Item = &str> {
    token.char_indices().skip(1).map(|(end, _)| &token[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::message::Message;
    use crate::prompt::piece::Piece;

    fn tokens() -> SpecialTokens {
        SpecialTokens {
            all: ["<s>", "</s>", "<|x|>"].map(str::to_owned).to_vec(),
            beginning: Some("<s>".to_owned()),
            end: Some("</s>".to_owned()),
        }
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source, tokens(), OffsetDateTime::UNIX_EPOCH).unwrap()
    }

    const ECHO: &str = "{{ bos_token }}{% for m in messages %}{{ m.content | trim }}{% endfor %}";

    #[test]
    fn special_tokens_are_those_that_the_template_writes() {
        let prompt = template(ECHO).render(&Conversation::request(" a</s><|x|>b ")).unwrap();
        let text = Piece::Text("a</s><|x|>b".to_owned());
        assert_eq!(prompt.pieces(), [Piece::Special("<s>".to_owned()), text]);
    }

    #[test]
    fn messages_and_template_together_write_none_either() {
        // The template puts `<|x` before and `>` behind what the user says.
        let around = template("<|x{{ messages[0].content }}>");
        let prompt = around.render(&Conversation::request("|")).unwrap();
        assert_eq!(prompt.pieces(), [Piece::Text("<|x|>".to_owned())]);
        let two = Conversation {
            messages: vec![Message::new(Role::System, "a<| "), Message::new(Role::User, "\n x|>b")],
            generation_prompt: true,
        };
        let prompt = template(ECHO).render(&two).unwrap();
        assert_eq!(prompt.special().collect::<Vec<_>>(), ["<s>"]);
        assert_eq!(prompt.text(), "<s>a<|x|>b");
    }

    #[test]
    fn the_breaking_character_of_a_message_is_its_own() {
        let prompt = template(ECHO).render(&Conversation::request("\u{e000}</s>")).unwrap();
        assert_eq!(prompt.text(), "<s>\u{e000}</s>");
        assert_eq!(prompt.special().count(), 1);
        let all: String = BREAKERS.collect();
        let refused = template(ECHO).render(&Conversation::request(all)).unwrap_err();
        assert!(refused.to_string().ends_with("none is left to mark them"), "{refused}");
    }

    #[test]
    fn refusals_and_faults_are_told_apart() {
        let refuses = template("{{ raise_exception('no') }}");
        let request = Conversation::request("x");
        let refused = "the chat template refuses the conversation: no".to_owned();
        assert_eq!(refuses.render(&request), Err(TemplateError::Template(refused)));
        assert!(!refuses.takes_system());
        let fails = template("{{ nothing.at.all }}");
        let failed = fails.render(&request).unwrap_err().to_string();
        assert!(failed.starts_with("the chat template fails: "), "{failed}");
        let wrong = ChatTemplate::new("{% if", tokens(), OffsetDateTime::UNIX_EPOCH).unwrap_err();
        assert!(wrong.to_string().starts_with("the chat template cannot be read: "), "{wrong}");
    }

    #[test]
    fn marks_of_what_the_assistant_says_do_nothing() {
        let source = "{% for m in messages %}\n  {%- generation %} {{ m.content }}.{% endgeneration -%}\n |{% endfor %}\
                      {# {% generation %} #}{% raw %}{% generation %}{% endraw %}{% set generation = 1 %}{{ generation }}";
        let prompt = template(source).render(&Conversation::request("hi")).unwrap();
        assert_eq!(prompt.text(), " hi.|{% generation %}1");
    }

    #[test]
    fn variables_reach_the_template_and_its_own_values_stay() {
        let source = "{{ enable_thinking }} {{ more[0].a }} {{ messages[0].content }}";
        let variables = json!({ "enable_thinking": false, "more": [{ "a": 1 }], "messages": [] });
        let Value::Object(variables) = variables else { panic!("{variables}") };
        let prompt = template(source).with_variables(variables);
        let prompt = prompt.render(&Conversation::request("x")).unwrap();
        assert_eq!(prompt.text(), "False 1 x");
    }

    #[test]
    fn a_text_full_of_special_tokens_is_taken_apart_in_one_pass() {
        let mut tokens = tokens();
        tokens.all.extend((0..6000).map(|number| format!("<unused{number}>")));
        let source = "{% for i in range(90000) %}</s><{% endfor %}";
        let template = ChatTemplate::new(source, tokens, OffsetDateTime::UNIX_EPOCH).unwrap();
        let prompt = template.render(&Conversation::request("x")).unwrap();
        assert_eq!(prompt.special().count(), 90_000);
    }
}
