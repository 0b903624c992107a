//! Chat templates: the Jinja program that a model's file carries, rendered without letting messages
//! become special tokens.
//!
//! A template yields one text. To tell in it what the template wrote from what the messages say,
//! every text of a special token within a message is broken by a character that occurs nowhere
//! else (of Unicode's private use area), and mended again after special tokens have been found.
//! Messages without such texts reach the template untouched, so that what it does with them (trim,
//! split, compare) is what its authors meant.

use super::environment::{environment, in_words, raised};
use super::message::{Conversation, ConversationError, Role};
use super::piece::Prompt;
use crate::model::gguf::SpecialTokens;
use minijinja::{Environment, Value, context};
use time::OffsetDateTime;

/// Characters that may break texts; one that occurs in no message is taken.
const BREAKERS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{e0ff}';

/// The one template of an environment.
const NAME: &str = "chat_template";

/// Why a chat template yields no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no Jinja template.
    #[error("the chat template cannot be read: {0}")]
    Syntax(String),
    /// It refuses the conversation.
    #[error("the chat template refuses the conversation: {0}")]
    Refused(String),
    /// It fails.
    #[error("the chat template fails: {0}")]
    Failed(String),
    /// The conversation is none.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// Messages use up all characters that could break them.
    #[error("the messages hold every character of U+E000 to U+E0FF, so none is left to mark them")]
    NoBreaker,
}

/// A model's own chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: SpecialTokens,
}

impl ChatTemplate {
    /// Reads a template; `tokens` are the model's, `now` is the date that templates may ask for.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn new(
        source: &str,
        tokens: SpecialTokens,
        now: OffsetDateTime,
    ) -> Result<Self, TemplateError> {
        let mut environment = environment(now);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TemplateError::Syntax(in_words(&error)))?;
        Ok(Self { environment, tokens })
    }

    /// The model's special tokens.
    #[must_use]
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
                context! { role => message.role.name(), content => content }
            })
            .collect();
        let text = self.text(messages, conversation.generation_prompt)?;
        let mut prompt = Prompt::default();
        prompt.push_marked(&text, &self.tokens.all);
        Ok(prompt.map_text(|text| text.replace(breaker, "")))
    }

    fn text(&self, messages: Vec<Value>, generation: bool) -> Result<String, TemplateError> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| TemplateError::Syntax(in_words(&error)))?;
        let values = context! {
            messages => messages,
            add_generation_prompt => generation,
            bos_token => self.tokens.beginning.as_deref().unwrap_or(""),
            eos_token => self.tokens.end.as_deref().unwrap_or(""),
        };
        template.render(values).map_err(|error| match raised(&error) {
            Some(message) => TemplateError::Refused(message),
            None => TemplateError::Failed(in_words(&error)),
        })
    }

    fn breaker(&self, conversation: &Conversation) -> Result<char, TemplateError> {
        let occurs = |breaker: char| {
            conversation.messages.iter().any(|message| message.whole().contains(breaker))
                || self.tokens.all.iter().any(|token| token.contains(breaker))
        };
        BREAKERS.into_iter().find(|&breaker| !occurs(breaker)).ok_or(TemplateError::NoBreaker)
    }

    /// Whether the template has a place for a system's message of its own or folds it somewhere:
    /// `false` if it refuses one.
    #[must_use]
    pub fn takes_system(&self) -> bool {
        let message = |role: Role| context! { role => role.name(), content => "x" };
        self.text(vec![message(Role::System), message(Role::User)], true).is_ok()
    }
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
        assert_eq!(refused, TemplateError::NoBreaker);
    }

    #[test]
    fn refusals_and_faults_are_told_apart() {
        let refuses = template("{{ raise_exception('no') }}");
        let request = Conversation::request("x");
        assert_eq!(refuses.render(&request), Err(TemplateError::Refused("no".to_owned())));
        assert!(!refuses.takes_system());
        let fails = template("{{ nothing.at.all }}");
        assert!(matches!(fails.render(&request), Err(TemplateError::Failed(_))));
        let wrong = ChatTemplate::new("{% if", tokens(), OffsetDateTime::UNIX_EPOCH).unwrap_err();
        assert!(matches!(wrong, TemplateError::Syntax(_)));
    }
}
