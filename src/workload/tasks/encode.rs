//! Questions as tokens.

use super::TaskError;
use crate::engine::Model;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Alternative, Asked, Question};
use crate::prompt::choice::Prompter;
use crate::prompt::piece::Prompt;
use rayon::prelude::*;

/// Turns questions into tokens, as the model sees them.
///
/// In a format, the continuation stands where the answer begins, behind the white space that the format has there, or
/// the separator if one was chosen. In none, request and continuation are
/// one text, turned into tokens together; between them stands the separator, or if none was chosen a
/// space, unless the request is empty or ends with white space. White space between the two belongs
/// to the continuation, as in lm-evaluation-harness.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a> {
    /// Whose tokens.
    pub model: &'a dyn Model,
    /// How it is evaluated.
    pub settings: &'a Settings,
    /// The format.
    pub prompter: &'a Prompter,
    /// What stands between request and continuation.
    pub separator: Option<&'a str>,
}

/// One alternative as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedAlternative {
    /// Request and continuation.
    pub tokens: Vec<i32>,
    /// Where the continuation begins; at least 1.
    pub scored_from: usize,
}

/// Questions as tokens, without those that do not fit the model's context.
#[derive(Debug)]
pub struct Fitted<T> {
    /// Places of those that fit, among all.
    pub positions: Vec<usize>,
    /// Their tokens.
    pub tokens: Vec<T>,
    /// The ids of those that do not.
    pub too_long: Vec<String>,
}

/// Turns questions into tokens, over as many threads as the model is evaluated with; `length` says how many positions of
/// the context they take. An error if none fits.
pub(super) fn fit<T: Send>(
    model: &dyn Model,
    settings: &Settings,
    questions: &[Question],
    encode: impl Fn(&Question) -> Result<T, TaskError> + Send + Sync,
    length: impl Fn(&T) -> usize,
) -> Result<Fitted<T>, TaskError> {
    let context = model.context_length();
    let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads());
    let encode = || -> Vec<Result<T, TaskError>> { questions.par_iter().map(encode).collect() };
    let encoded = match rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build() {
        Ok(pool) => pool.install(encode),
        Err(_) => encode(),
    };
    let mut fitted = Fitted { positions: Vec::new(), tokens: Vec::new(), too_long: Vec::new() };
    for (position, (question, tokens)) in questions.iter().zip(encoded).enumerate() {
        let tokens = tokens?;
        if length(&tokens) as u64 > u64::from(context) {
            fitted.too_long.push(question.id.clone());
        } else {
            fitted.positions.push(position);
            fitted.tokens.push(tokens);
        }
    }
    if fitted.positions.is_empty() {
        return Err(TaskError::NothingFits);
    }
    Ok(fitted)
}

/// A request in its format.
pub(super) fn prompt(
    prompter: &Prompter,
    question: &Question,
    request: &str,
) -> Result<Prompt, TaskError> {
    let template = |source| TaskError::Template { id: question.id.clone(), source };
    prompter.request(request).map_err(template)
}

impl Encoder<'_> {
    /// The alternatives of all questions that have some.
    ///
    /// # Errors
    /// A text cannot be turned into tokens, or no question fits.
    pub fn alternatives(
        &self,
        questions: &[Question],
    ) -> Result<Fitted<Vec<EncodedAlternative>>, TaskError> {
        let encode = |question: &Question| {
            let Asked::Choose { alternatives, .. } = &question.asked else { return Ok(Vec::new()) };
            let mut known = None;
            alternatives.iter().map(|it| self.alternative(question, it, &mut known)).collect()
        };
        let longest = |encoded: &Vec<EncodedAlternative>| {
            encoded.iter().map(|alternative| alternative.tokens.len()).max().unwrap_or(0)
        };
        fit(self.model, self.settings, questions, encode, longest)
    }

    /// The requests of all questions that are answered in writing, with room for an answer.
    ///
    /// # Errors
    /// As [`Self::alternatives`].
    pub fn requests(
        &self,
        questions: &[Question],
        max_tokens: usize,
    ) -> Result<Fitted<Vec<i32>>, TaskError> {
        let encode = |question: &Question| {
            let Asked::Write { request, .. } = &question.asked else { return Ok(Vec::new()) };
            Ok(self.model.tokenize_prompt(&prompt(self.prompter, question, request)?)?)
        };
        fit(self.model, self.settings, questions, encode, |tokens| tokens.len() + max_tokens)
    }

    /// `known` is the request of the alternative before, which most have in common.
    fn alternative<'q>(
        &self,
        question: &Question,
        Alternative { request, continuation }: &'q Alternative,
        known: &mut Option<KnownRequest<'q>>,
    ) -> Result<EncodedAlternative, TaskError> {
        let plain = matches!(self.prompter, Prompter::Plain);
        let bare = request.trim_end();
        let before = match known.take() {
            Some(known) if known.text == request => known,
            _ if plain => {
                let tokens = self.model.tokenize(bare, false, false)?;
                KnownRequest { text: request, prompt: Prompt::default(), tokens }
            }
            _ => {
                let prompt = prompt(self.prompter, question, request)?;
                let tokens = self.model.tokenize_prompt(&prompt)?;
                KnownRequest { text: request, prompt, tokens }
            }
        };
        let known = known.insert(before);
        if !plain {
            return self.answer_in_format(known, continuation);
        }
        let before = &known.tokens;
        let separator = match self.separator {
            Some(separator) => separator,
            None if request.is_empty() || bare.len() < request.len() => "",
            None => " ",
        };
        let continuation = format!("{}{separator}{continuation}", &request[bare.len()..]);
        let whole = self.model.tokenize(&format!("{bare}{continuation}"), false, false)?;
        let (mut scored_from, mut tokens) = (before.len(), whole);
        if scored_from >= tokens.len() {
            // Merged into the request's last token: there is nothing left that is the continuation's.
            tokens.clone_from(before);
            tokens.extend(self.model.tokenize(&continuation, false, false)?);
        }
        let beginning = self.model.beginning_token();
        let beginning = if scored_from == 0 {
            let any = || self.model.any_beginning_token();
            let missing = || {
                TaskError::Other(format!(
                    "question '{}' has no request, and the model has no token that begins a text",
                    question.id
                ))
            };
            Some(beginning.or_else(any).ok_or_else(missing)?)
        } else {
            beginning
        };
        if let Some(token) = beginning {
            tokens.insert(0, token);
            scored_from += 1;
        }
        Ok(EncodedAlternative { tokens, scored_from })
    }

    /// A continuation where the answer begins: one text with what the format ends with there.
    fn answer_in_format(
        &self,
        KnownRequest { prompt, tokens: before, .. }: &KnownRequest<'_>,
        continuation: &str,
    ) -> Result<EncodedAlternative, TaskError> {
        let separator = self.separator.map_or_else(|| self.prompter.gap(), str::to_owned);
        let mut whole = prompt.clone();
        whole.push_text(&format!("{separator}{continuation}"));
        let tokens = self.model.tokenize_prompt(&whole)?;
        let common = before.iter().zip(&tokens).take_while(|(one, other)| one == other).count();
        let scored_from = common.min(tokens.len().saturating_sub(1)).max(1);
        Ok(EncodedAlternative { tokens, scored_from })
    }
}

/// A request with its prompt and its tokens.
struct KnownRequest<'q> {
    text: &'q str,
    prompt: Prompt,
    tokens: Vec<i32>,
}
