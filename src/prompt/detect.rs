//! Detection: which format a model's own chat template is, found by what it renders.
//!
//! Looking for markers in a template's source would take Phi-3 for Zephyr and miss every change of
//! detail; so both render the same short conversations and the results are compared.

use super::catalog;
use super::format::Format;
use super::message::{Conversation, Message, Role};
use super::piece::{Piece, Prompt};
use super::template::ChatTemplate;
use serde::Serialize;

/// What a template was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The format that it agrees with most; `None`: it agrees with none.
    pub format: Option<&'static Format>,
    /// Where the two disagree; empty: they are the same as far as was tried.
    pub differences: Vec<Difference>,
}

/// One conversation that template and format render differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What kind of conversation.
    pub conversation: &'static str,
    /// The format's rendering, or why it has none.
    pub format: String,
    /// The template's, or why it has none.
    pub template: String,
}

/// The conversations that are tried.
fn probes() -> [(&'static str, Conversation); 5] {
    use Role::{Assistant, System, User};
    let conversation = |turns: &[(Role, &str)], generation_prompt: bool| Conversation {
        messages: turns.iter().map(|&(role, text)| Message::new(role, text)).collect(),
        generation_prompt,
    };
    let short = [(User, "What is 2+2?")];
    let long = [(User, "Hello"), (Assistant, "Hi there!"), (User, "Who are you?")];
    let with_system = [(System, "Be brief."), (User, "What is 2+2?")];
    let whole =
        [(System, "Be brief."), (User, "Hello"), (Assistant, "Hi there!"), (User, "Who are you?")];
    [
        ("one request", conversation(&short, true)),
        ("a request after an answer", conversation(&long, true)),
        ("a request with a system message", conversation(&with_system, true)),
        ("several turns with a system message", conversation(&whole, true)),
        ("a conversation that is over", conversation(&long[..2], false)),
    ]
}

/// Compares a template with every format.
pub fn detect(template: &ChatTemplate) -> Detection {
    let probes = probes();
    let rendered: Vec<Result<Prompt, String>> = probes
        .iter()
        .map(|(_, probe)| template.render(probe).map_err(|error| error.to_string()))
        .collect();
    let mut best = Detection { format: None, differences: Vec::new() };
    let mut fewest = probes.len();
    for format in catalog::all() {
        let differences: Vec<Difference> = probes
            .iter()
            .zip(&rendered)
            .filter_map(|((name, probe), theirs)| difference(format, name, probe, theirs, template))
            .collect();
        if differences.len() < fewest {
            fewest = differences.len();
            best = Detection { format: Some(format), differences };
        }
    }
    best
}

fn difference(
    format: &Format,
    name: &'static str,
    probe: &Conversation,
    theirs: &Result<Prompt, String>,
    template: &ChatTemplate,
) -> Option<Difference> {
    let ours = format.render(probe).map_err(|error| error.to_string());
    let same = match (&ours, theirs) {
        (Ok(ours), Ok(theirs)) => reads_same(ours, theirs, template),
        (Err(_), Err(_)) => true,
        _ => false,
    };
    let told = |rendered: &Result<Prompt, String>| match rendered {
        Ok(prompt) => prompt.text(),
        Err(reason) => reason.clone(),
    };
    (!same).then(|| Difference { conversation: name, format: told(&ours), template: told(theirs) })
}

/// Whether two prompts are the same to a model. The token that begins every text is put there by
/// the tokenizer where a format leaves it out; a token that the model does not have is text.
fn reads_same(ours: &Prompt, theirs: &Prompt, template: &ChatTemplate) -> bool {
    let tokens = template.tokens();
    let beginning = tokens.beginning.as_ref().map_or(0, String::len);
    if ours.text().len().abs_diff(theirs.text().len()) > beginning {
        // Without a look at each piece: a template may write any number of them.
        return false;
    }
    let known = |piece: &Piece| match piece {
        Piece::Special(text) if !tokens.all.iter().any(|token| token == text) => {
            Piece::Text(text.clone())
        }
        _ => piece.clone(),
    };
    let normal = |prompt: &Prompt| {
        let mut normal = Prompt::default();
        for piece in prompt.pieces() {
            match known(piece) {
                Piece::Special(token) => normal.push_marked(&token, std::slice::from_ref(&token)),
                Piece::Text(text) => normal.push_text(&text),
            }
        }
        match &tokens.beginning {
            Some(beginning) => normal.without_first(beginning),
            None => normal,
        }
    };
    normal(ours) == normal(theirs)
}
