//! Tests of the formats: golden renderings from their authors' documentation, agreement with the
//! templates that the authors publish, and what a message can not do.

mod authors;
mod golden;
mod injection;

use super::message::{Conversation, Message, Role};

/// A conversation of system (if not empty), user, assistant, user, …; `ask` adds the generation
/// prompt.
fn conversation(system: &str, turns: &[&str], ask: bool) -> Conversation {
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(Message::new(Role::System, system));
    }
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    messages.extend(roles.zip(turns).map(|(role, text)| Message::new(role, *text)));
    Conversation { messages, generation_prompt: ask }
}
