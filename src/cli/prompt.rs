//! `quantbench prompt`: prompt formats listed, a conversation rendered, a model's template detected.

use super::inspect::{Named, named};
use super::output;
use super::session::resolve_options;
use crate::error::{Error, Outcome};
use crate::experiment::reader::nearest;
use crate::files;
use crate::model::cache::Cache;
use crate::model::gguf::{Header, SpecialTokens};
use crate::model::source::Source;
use crate::prompt::catalog;
use crate::prompt::detect::detect;
use crate::prompt::format::Format;
use crate::prompt::message::{Conversation, Message, Role};
use crate::prompt::piece::{Piece, Prompt};
use crate::prompt::template::{self, ChatTemplate, TemplateError};
use crate::report::sanitize;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;
use time::OffsetDateTime;

/// Flags of `quantbench prompt`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// List the prompt formats that have a name
    List {
        /// How to show them
        #[arg(long, value_enum, default_value_t = output::Format::Table)]
        format: output::Format,
    },
    /// Show a conversation as a model sees it
    Render(Render),
    /// Say which format a model's own chat template is, and where the two differ
    Detect {
        /// A GGUF (first part, if split), `owner/name:Q4_K_M` on the hub, `ollama:name`, or `demo`
        model: String,
    },
}

/// Flags of `quantbench prompt render`.
#[derive(Debug, Clone, Args)]
struct Render {
    /// A format of `quantbench prompt list`, or a model with a chat template of its own: a GGUF, `owner/name:Q4_K_M` on the
    /// hub, `ollama:name`
    #[arg(value_name = "FORMAT|MODEL")]
    format: String,
    /// What is said, user and assistant in turn (repeatable)
    #[arg(value_name = "MESSAGE", required = true)]
    messages: Vec<String>,
    /// The system's message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// What the last instruction is about
    #[arg(long, value_name = "TEXT")]
    input: Option<String>,
    /// Variables for a model's own template, an object as JSON
    #[arg(long, value_name = "JSON", value_parser = variables)]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// How to show it
    #[arg(long = "show", value_enum, default_value_t)]
    show: Show,
}

/// How a prompt is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Show {
    /// The text as it is
    #[default]
    Text,
    /// One piece per line, special tokens told from text
    Pieces,
    /// The pieces as JSON
    Json,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The name is neither a format nor a model.
    #[error("'{name}' is neither a prompt format nor a model; {}", format_instead(.name))]
    Unknown {
        /// What was written.
        name: String,
    },
    /// Formats have no variables.
    #[error("'{name}' is no template of a model, so --chat-template-kwargs has no meaning for it")]
    NoVariables {
        /// The format.
        name: &'static str,
    },
    /// The file has no chat template.
    #[error("{model} has no chat template (tokenizer.chat_template); name a format instead: {}", catalog::names().collect::<Vec<_>>().join(", "))]
    NoTemplate {
        /// As the user wrote it.
        model: String,
    },
    /// The template or the conversation is wrong.
    #[error(transparent)]
    Template(TemplateError),
}

/// The format that was probably meant, or all of them.
fn format_instead(name: &str) -> String {
    match nearest(name, catalog::names()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("formats are {}", catalog::names().collect::<Vec<_>>().join(", ")),
    }
}

/// Lists, renders or detects.
///
/// # Errors
/// [`PromptError`], or that standard output does not take the result.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let text = match &arguments.command {
        Command::List { format: output::Format::Table } => list(),
        Command::List { format: output::Format::Json } => {
            let formats = catalog::all().iter().map(|Format { name, models, source, .. }| {
                json!({ "name": name, "models": models, "source": source })
            });
            let formats: Vec<Value> = formats.collect();
            output::json("quantbench.prompts", json!({ "formats": formats }))?
        }
        Command::Render(render) => show(&rendered(render)?, render.show)?,
        Command::Detect { model } => detected(model)?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn variables(text: &str) -> Result<Map<String, Value>, String> {
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        format!("no object as JSON, such as {{\"enable_thinking\": false}}: {error}")
    })?;
    match template::OWN_VALUES.iter().find(|key| map.contains_key(**key)) {
        Some(key) => Err(format!("every template is given its own '{key}'")),
        None => Ok(map),
    }
}

fn list() -> String {
    let width = catalog::names().map(str::len).max().unwrap_or(0);
    let mut text = String::new();
    for Format { name, models, source, .. } in catalog::all() {
        let _ = writeln!(text, "{name:width$}  {models}\n{:width$}  {source}", "");
    }
    text
}

fn rendered(arguments: &Render) -> Result<Prompt, Error> {
    let mut conversation = Conversation { messages: Vec::new(), generation_prompt: true };
    if let Some(system) = &arguments.system {
        conversation.messages.push(Message::new(Role::System, system));
    }
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    conversation
        .messages
        .extend(roles.zip(&arguments.messages).map(|(role, text)| Message::new(role, text)));
    if let Some(last) = conversation.messages.last_mut() {
        last.input.clone_from(&arguments.input);
        conversation.generation_prompt = last.role == Role::User;
    }
    let prompt = if let Some(format) = catalog::named(&arguments.format) {
        if arguments.chat_template_kwargs.is_some() {
            return Err(Error::command(PromptError::NoVariables { name: format.name }));
        }
        warn_of_imitation(format, &conversation);
        format.render(&conversation).map_err(TemplateError::from)
    } else {
        let source = Source::parse(&arguments.format, Path::new(""));
        if source.is_err() {
            return Err(Error::command(PromptError::Unknown { name: arguments.format.clone() }));
        }
        let variables = arguments.chat_template_kwargs.clone().unwrap_or_default();
        own_template(&arguments.format)?.with_variables(variables).render(&conversation)
    };
    prompt.map_err(template_error)
}

fn warn_of_imitation(format: &Format, conversation: &Conversation) {
    let imitated = format.imitated(conversation);
    if !imitated.is_empty() {
        output::tell(&format!(
            "warning: the messages hold {}, which {} marks turns with and models read as text: \
             they cannot tell the two apart",
            imitated.join(" and "),
            format.name
        ));
    }
}

fn show(prompt: &Prompt, how: Show) -> Result<String, Error> {
    Ok(match how {
        // Nothing but the prompt: a further line end would count as part of it.
        Show::Text => prompt.text(),
        Show::Json => output::json("quantbench.prompt", json!({ "pieces": prompt }))?,
        Show::Pieces => prompt.pieces().iter().fold(String::new(), |mut lines, piece| {
            let _ = match piece {
                Piece::Special(text) => writeln!(lines, "token  {}", sanitize(text)),
                Piece::Text(text) => writeln!(lines, "text   {text:?}"),
            };
            lines
        }),
    })
}

/// The chat template that a model carries. Of one on the hub no more is fetched than its header.
fn own_template(model: &str) -> Result<ChatTemplate, Error> {
    let Named { mut path, remote } = named(model)?;
    let scratch = remote.as_ref().map(|_| Cache::open()?.scratch("prompt")).transpose()?;
    if let (Some(remote), Some(scratch)) = (&remote, &scratch) {
        path = remote.outline(files::folder_of(scratch.path()), &resolve_options(false).hub)?;
    }
    let header = Header::read(&path)?;
    let source = header.chat_template();
    let source = source
        .ok_or_else(|| Error::command(PromptError::NoTemplate { model: model.to_owned() }))?;
    let tokens = SpecialTokens::read(&path)?;
    ChatTemplate::new(source, tokens, OffsetDateTime::now_utc()).map_err(template_error)
}

fn template_error(error: TemplateError) -> Error {
    Error::command(PromptError::Template(error))
}

fn detected(model: &str) -> Result<String, Error> {
    let template = own_template(model)?;
    // What cannot render a single request is no format at all.
    template.render(&Conversation::request("Hello")).map_err(template_error)?;
    let detection = detect(&template);
    let mut text = match detection.format {
        None => {
            "The chat template is none of the formats that have a name; it is rendered as it is.\n"
                .to_owned()
        }
        Some(format) if detection.differences.is_empty() => {
            format!("{}: the chat template renders the same as this format.\n", format.name)
        }
        Some(format) => format!(
            "{}: the chat template is most like this format, and differs in {} of 5 \
             conversations:\n",
            format.name,
            detection.differences.len()
        ),
    };
    for difference in &detection.differences {
        let _ = writeln!(
            text,
            "\n{}\n  format    {:?}\n  template  {:?}",
            difference.conversation, difference.format, difference.template
        );
    }
    if !template.takes_system() {
        text.push_str("\nThe chat template refuses a system message.\n");
    }
    Ok(text)
}
