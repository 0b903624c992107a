//! Prompts: how a conversation becomes what a model sees.
//!
//! `message` is what is said and by whom; `format` and `catalog` are the formats that authors
//! document, as data; `template` renders the Jinja template that a model's own file carries;
//! `detect` says which format such a template is;
//! `choice` is what an experiment chooses; `sandbox` renders templates, which are strangers' programs, in a process of
//! limited time and memory, by the rules of `environment`. All of them yield a `piece::Prompt`, which keeps
//! special tokens apart from text, so that text never becomes a special token. Uses `model` for the
//! vocabulary's special tokens; used by `experiment`, `workload` and the command line.

pub mod catalog;
pub mod choice;
pub mod detect;
mod environment;
pub mod format;
pub mod message;
pub mod piece;
pub mod sandbox;
pub mod template;
#[cfg(test)]
mod tests;
