//! Messages of a conversation and their roles.

use serde::{Deserialize, Serialize};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person; in instruction formats, the instruction.
    User,
    /// The model; in instruction formats, the response.
    Assistant,
}

/// One thing said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// What.
    pub content: String,
    /// What an instruction is about (Alpaca's input). Formats without a place for it append it to
    /// the content after an empty line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

impl Message {
    /// A message without an input.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), input: None }
    }

    /// Content and input together, for formats without a place for the latter.
    pub fn whole(&self) -> String {
        match &self.input {
            Some(input) => format!("{}\n\n{input}", self.content),
            None => self.content.clone(),
        }
    }
}

/// What was said so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Conversation {
    /// The messages: one of the system at most, first; then user and assistant in turn.
    pub messages: Vec<Message>,
    /// Whether the prompt ends where the assistant's next message begins.
    pub generation_prompt: bool,
}

/// Why a conversation cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// Nobody says anything.
    #[error("the conversation has no message of the user")]
    Empty,
    /// A message stands where it cannot.
    #[error(
        "message {number} is by the {role}; a conversation is one message of the system at most, then user and assistant in turn"
    )]
    OutOfTurn {
        /// Number of the message, from 1.
        number: usize,
        /// Who says it.
        role: Role,
    },
    /// The format's authors have no place for a message of the system.
    #[error("{format} takes no system message; put it into the first request")]
    SystemRefused {
        /// The format.
        format: &'static str,
    },
    /// The model is asked to go on with nothing asked.
    #[error("the last message is by the assistant, so there is nothing to answer")]
    NothingToAnswer,
}

impl Conversation {
    /// A single request that is to be answered.
    pub fn request(text: impl Into<String>) -> Self {
        Self { messages: vec![Message::new(Role::User, text)], generation_prompt: true }
    }

    /// The system's message, if there is one.
    pub fn system(&self) -> Option<&Message> {
        self.messages.first().filter(|message| message.role == Role::System)
    }

    /// The messages after the system's.
    pub fn turns(&self) -> &[Message] {
        &self.messages[usize::from(self.system().is_some())..]
    }

    /// Checks that messages stand where they may.
    ///
    /// # Errors
    /// [`ConversationError`].
    pub fn check(&self) -> Result<(), ConversationError> {
        let turns = self.turns();
        let skipped = self.messages.len() - turns.len();
        for (position, message) in turns.iter().enumerate() {
            let expected = if position % 2 == 0 { Role::User } else { Role::Assistant };
            if message.role != expected {
                let number = position + skipped + 1;
                return Err(ConversationError::OutOfTurn { number, role: message.role });
            }
        }
        match turns.last() {
            None => Err(ConversationError::Empty),
            Some(last) if last.role == Role::Assistant && self.generation_prompt => {
                Err(ConversationError::NothingToAnswer)
            }
            Some(_) => Ok(()),
        }
    }
}
