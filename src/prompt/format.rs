//! Prompt formats: what authors document about how their models are spoken to, as data.

use super::message::{Conversation, ConversationError, Message, Role};
use super::piece::Prompt;

/// Stands for a message in the texts of a format.
const CONTENT: &str = "{}";

/// Stands for an instruction's input in the texts of a format.
const INPUT: &str = "{input}";

/// One prompt format. In its texts `{}` stands for a message and, in `user_with_input`, `{input}` for
/// what an instruction is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    /// Name in experiments and on the command line.
    pub name: &'static str,
    /// Which models it is for, in a few words.
    pub models: &'static str,
    /// Where its authors document it.
    pub source: &'static str,
    /// The texts that are one token each.
    pub special: &'static [&'static str],
    /// Texts that set messages apart but are ordinary text to the model: whoever writes them in a
    /// message looks to the model like the format itself.
    pub markers: &'static [&'static str],
    /// What begins every prompt.
    pub beginning: &'static str,
    /// Where the system's message stands.
    pub system: System,
    /// A message of the user.
    pub user: &'static str,
    /// An instruction with an input; `None`: the format has no place for one.
    pub user_with_input: Option<&'static str>,
    /// A message of the assistant that is over.
    pub assistant: &'static str,
    /// What the assistant's next message begins after.
    pub generation: &'static str,
    /// Texts that end an answer.
    pub stops: &'static [&'static str],
    /// Which messages lose the white space around them.
    pub trims: Trims,
}

/// Which messages lose the white space around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trims {
    /// None.
    Nothing,
    /// The assistant's.
    Answers,
    /// The user's and the assistant's.
    Turns,
    /// The same, the user's together with what the system says before it.
    Joined,
    /// All.
    Everything,
}

impl Format {
    /// The white space between where a prompt ends and the assistant's message begins: of `ASSISTANT:` a space, of
    /// `### Response:` nothing.
    pub fn gap(&self) -> &'static str {
        let before = self.assistant.split(CONTENT).next().unwrap_or_default();
        let gap = before.strip_prefix(self.generation);
        gap.filter(|gap| gap.trim().is_empty()).unwrap_or_default()
    }
}

/// Where a format puts the system's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Before all turns.
    Turn {
        /// The text around it.
        text: &'static str,
        /// What stands there if there is none; `None`: nothing.
        default: Option<&'static str>,
        /// What stands there if there is none and the first instruction has an input.
        default_with_input: Option<&'static str>,
    },
    /// Within the first message of the user, before what the user says.
    InFirstUser(&'static str),
    /// Within the last message of the user, before what the user says.
    InLastUser(&'static str),
    /// Nowhere: a conversation with one is refused, as the authors' template refuses it.
    Refused,
}

/// A turn of the system, and what stands there if there is none, whether the first instruction has an input or not.
pub const fn system_turn(text: &'static str, default: Option<&'static str>) -> System {
    System::Turn { text, default, default_with_input: None }
}

impl Format {
    /// Renders a conversation.
    ///
    /// # Errors
    /// [`ConversationError`] for messages out of turn.
    pub fn render(&self, conversation: &Conversation) -> Result<Prompt, ConversationError> {
        conversation.check()?;
        if self.system == System::Refused && conversation.system().is_some() {
            return Err(ConversationError::SystemRefused { format: self.name });
        }
        let mut prompt = Prompt::default();
        prompt.push_marked(self.beginning, self.special);
        self.push_system_turn(conversation, &mut prompt);
        let turns = conversation.turns();
        let last_user = turns.iter().rposition(|message| message.role == Role::User);
        let system = conversation.system().map(|it| self.trimmed(Role::System, &it.content));
        for (position, message) in turns.iter().enumerate() {
            if message.role == Role::Assistant {
                self.push(self.assistant, None, message, &mut prompt);
                continue;
            }
            let folded = match self.system {
                System::InFirstUser(text) if position == 0 => Some(text),
                System::InLastUser(text) if Some(position) == last_user => Some(text),
                _ => None,
            };
            let before = folded.zip(system);
            let text = match (&message.input, self.user_with_input) {
                (Some(_), Some(text)) => text,
                _ => self.user,
            };
            self.push(text, before, message, &mut prompt);
        }
        if conversation.generation_prompt {
            prompt.push_marked(self.generation, self.special);
        }
        Ok(prompt)
    }

    fn push_system_turn(&self, conversation: &Conversation, prompt: &mut Prompt) {
        let System::Turn { text, default, default_with_input } = self.system else { return };
        let with_input = conversation.turns().first().is_some_and(|first| first.input.is_some());
        let written = conversation.system().map(|message| message.content.as_str());
        let default = if with_input { default_with_input.or(default) } else { default };
        if let Some(content) = written.or(default) {
            let message = Message::new(Role::System, content);
            self.push(text, None, &message, prompt);
        }
    }

    /// Adds `text` with `message` in its place, and `before` (a text and the system's message) just
    /// before what is said.
    fn push(
        &self,
        text: &str,
        before: Option<(&str, &str)>,
        message: &Message,
        prompt: &mut Prompt,
    ) {
        let takes_input = text.contains(INPUT);
        let whole = if takes_input { message.content.clone() } else { message.whole() };
        let (ahead, behind) = text.split_once(CONTENT).unwrap_or((text, ""));
        prompt.push_marked(ahead, self.special);
        let said = match before {
            // What stands around a folded message is text in every format.
            Some((text, system)) if self.trims == Trims::Joined => {
                (text.replacen(CONTENT, system, 1) + &whole).trim().to_owned()
            }
            Some((text, system)) => {
                text.replacen(CONTENT, system, 1) + self.trimmed(message.role, &whole)
            }
            None => self.trimmed(message.role, &whole).to_owned(),
        };
        prompt.push_text(&said);
        match (behind.split_once(INPUT), &message.input) {
            (Some((between, behind)), Some(input)) => {
                prompt.push_marked(between, self.special);
                prompt.push_text(self.trimmed(message.role, input));
                prompt.push_marked(behind, self.special);
            }
            _ => prompt.push_marked(behind, self.special),
        }
    }

    fn trimmed<'t>(&self, role: Role, text: &'t str) -> &'t str {
        let trims = match self.trims {
            Trims::Nothing => false,
            Trims::Answers => role == Role::Assistant,
            Trims::Turns | Trims::Joined => role != Role::System,
            Trims::Everything => true,
        };
        if trims { text.trim() } else { text }
    }

    /// Markers of the format that messages hold and that the model cannot tell from the format's
    /// own, because to the model they are ordinary text.
    pub fn imitated(&self, conversation: &Conversation) -> Vec<&'static str> {
        let holds = |marker: &str| {
            conversation.messages.iter().any(|message| message.whole().contains(marker))
        };
        self.markers.iter().copied().filter(|marker| holds(marker)).collect()
    }
}
