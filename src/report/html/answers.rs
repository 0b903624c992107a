//! What variants answer, beside the answer of the reference, with what differs marked: those that moved most first.

use crate::report::plot::{Scope, label, scopes};
use crate::report::text::{list, sanitize, sanitize_lines};
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::statistics::sample::to_f64;
use crate::units::significant;
use crate::workload::measured::Response;
use crate::workload::tasks::record::{KeptAnswer, TaskRecord};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use std::fmt::Write as _;

/// Prompts that are shown of each kind.
const MOST_PROMPTS: usize = 12;

/// Variants that are shown of each prompt, those that moved most.
const MOST_VARIANTS: usize = 12;

/// Characters of an answer that are shown.
const MOST_CHARACTERS: usize = 1500;

/// Where more of the words differ nothing is marked: hardly any would not be.
const HARDLY_SHARED: f64 = 0.6;

/// A prompt with what was answered to it.
#[derive(Serialize)]
pub(super) struct Answer {
    /// Where the prompt comes from.
    source: String,
    head: String,
    /// The prompt whole, where it is known and the head is not all of it.
    prompt: String,
    measure: String,
    reference_name: String,
    reference: String,
    others: Vec<Other>,
    /// Those that answer as the reference does.
    same: String,
    #[serde(skip)]
    rank: f64,
}

#[derive(Serialize)]
struct Other {
    name: String,
    measure: String,
    parts: Vec<Piece>,
    #[serde(skip)]
    rank: f64,
}

#[derive(Serialize)]
struct Piece {
    /// `same`, `only_reference`, `only_variant`.
    kind: &'static str,
    text: String,
}

/// What is known of a prompt before its answers are compared.
struct Asked {
    source: String,
    head: String,
    prompt: String,
    reference: (String, String),
    /// Name, text, and how far it moved, where that was measured.
    others: Vec<(String, String, Option<f64>)>,
}

/// The answers that moved most, and a sentence on what is left out.
pub(super) fn of(run: &RunRecord, summary: &Summary) -> (Vec<Answer>, String) {
    let mut answers = Vec::new();
    let mut left_out = 0;
    for scope in scopes(run, summary) {
        let kinds = [
            measured(run, summary, &scope),
            responses(run, summary, &scope),
            tasks(run, summary, &scope),
        ];
        for kind in kinds {
            let mut compared: Vec<Answer> = kind.into_iter().map(compared).collect();
            compared.sort_by(|one, other| other.rank.total_cmp(&one.rank));
            compared.retain(|answer| !answer.others.is_empty());
            left_out += compared.len().saturating_sub(MOST_PROMPTS);
            compared.truncate(MOST_PROMPTS);
            answers.extend(compared);
        }
    }
    let note = match left_out {
        0 => String::new(),
        more => format!("{more} more prompts, whose answers moved less, are in the raw data."),
    };
    (answers, note)
}

/// Answers along which divergence was measured.
fn measured(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let reference = reference(summary, scope).map_or_else(String::new, |row| label(summary, row));
    for &row in &scope.rows {
        let Some(quality) = &run.trials[row].quality else { continue };
        for answer in &quality.worst_answers {
            let prompt = cut(&answer.prompt);
            let own = (label(summary, row), answer.variant.clone(), Some(answer.kld));
            match asked.iter_mut().find(|known| known.prompt == prompt) {
                Some(known) => known.others.push(own),
                None => asked.push(Asked {
                    source: sanitize(&answer.domain),
                    head: head(&answer.prompt),
                    prompt,
                    reference: (reference.clone(), answer.reference.clone()),
                    others: vec![own],
                }),
            }
        }
    }
    asked
}

fn reference(summary: &Summary, scope: &Scope) -> Option<usize> {
    let rows = || scope.rows.iter().copied();
    rows().find(|&row| summary.rows[row].is_reference).or_else(|| rows().next())
}

/// Answers to the test prompts of latency.
fn responses(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Asked> {
    let first = |trial: &'_ TrialRecord, prompt: &str| -> Option<String> {
        let mut all = trial.visits.iter().flat_map(|visit| &visit.responses);
        all.find(|response| response.prompt_id == prompt)
            .map(|response: &Response| response.text.clone())
    };
    let Some(reference) = reference(summary, scope) else { return Vec::new() };
    let own = run.trials[reference].visits.iter().flat_map(|visit| &visit.responses);
    let ids = crate::results::each_once(own.map(|response| response.prompt_id.clone()));
    let prompt = |id: &str| {
        let all = run.experiment.pointer("/workloads/latency/prompts")?.as_array()?;
        let own = all.iter().find(|prompt| prompt.get("id").is_some_and(|it| it == id))?;
        own.get("text")?.as_str().map(cut)
    };
    let asked = ids.into_iter().filter_map(|id| {
        let others = scope.rows.iter().filter(|&&row| row != reference);
        let others = others
            .filter_map(|&row| Some((label(summary, row), first(&run.trials[row], &id)?, None)));
        Some(Asked {
            source: "test prompt".to_owned(),
            head: sanitize(&id),
            prompt: prompt(&id).unwrap_or_default(),
            reference: (label(summary, reference), first(&run.trials[reference], &id)?),
            others: others.collect(),
        })
    });
    asked.collect()
}

/// Written answers to the questions of tasks.
fn tasks(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Asked> {
    let Some(reference) = reference(summary, scope) else { return Vec::new() };
    let text = |task: &TaskRecord, at: usize| match task.answers.get(at) {
        Some(KeptAnswer::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let of_task = |own: &TaskRecord| {
        let asked = (0..own.answers.len()).filter_map(|at| {
            let others = scope.rows.iter().filter(|&&row| row != reference).filter_map(|&row| {
                let task = run.trials[row].tasks.iter().find(|task| task.task == own.task)?;
                Some((label(summary, row), text(task, at)?, None))
            });
            Some(Asked {
                source: format!("task {}", own.task),
                head: format!("question {}", at + 1),
                prompt: String::new(),
                reference: (label(summary, reference), text(own, at)?),
                others: others.collect(),
            })
        });
        asked.collect::<Vec<Asked>>()
    };
    run.trials[reference].tasks.iter().flat_map(of_task).collect()
}

/// What the measure of answers is that have no divergence.
pub(super) const OTHER_WORDS: &str = "Other words are, of all words of both answers, the part that the other answer does not have in the same order.";

fn compared(asked: Asked) -> Answer {
    let Asked { source, head, prompt, reference: (reference_name, reference), others } = asked;
    let reference = cut(&reference);
    let mut same = Vec::new();
    let mut different = Vec::new();
    for (name, text, kld) in others {
        let text = cut(&text);
        if text == reference && kld.is_none() {
            same.push(name);
            continue;
        }
        let (moved, parts) = differences(&reference, &text);
        let measure = match kld {
            Some(kld) => format!("KLD {} nats", significant(kld, 3)),
            None => format!("{:.0} % other words", moved * 100.0),
        };
        different.push(Other { name, measure, parts, rank: kld.unwrap_or(moved) });
    }
    different.sort_by(|one, other| other.rank.total_cmp(&one.rank));
    let rank = different.first().map_or(0.0, |worst| worst.rank);
    let measure = match different.first() {
        Some(worst) => format!("{}: {}", worst.name, worst.measure),
        None => String::new(),
    };
    let left_out = different.len().saturating_sub(MOST_VARIANTS);
    different.truncate(MOST_VARIANTS);
    let mut same =
        if same.len() > MOST_VARIANTS { format!("{} variants", same.len()) } else { list(&same) };
    if left_out > 0 {
        let more = format!("{left_out} more variants moved less and are in the raw data");
        same = [same, more].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
    }
    let prompt = if prompt == head { String::new() } else { prompt };
    Answer {
        source,
        head,
        prompt,
        measure,
        reference_name,
        reference,
        others: different,
        same,
        rank,
    }
}

/// The share of words that differ, and the text with them marked. What changed together is told together: words with
/// nothing but space between them are one change.
fn differences(reference: &str, text: &str) -> (f64, Vec<Piece>) {
    let diff = TextDiff::from_words(reference, text);
    let words = |tag: Option<ChangeTag>| {
        let own = diff.iter_all_changes().filter(|it| tag.is_none_or(|tag| it.tag() == tag));
        own.filter(|it| !it.value().trim().is_empty()).count()
    };
    let (all, same) = (words(None), words(Some(ChangeTag::Equal)));
    // A shared word is one change, and stands in both texts.
    let moved = if all == 0 { 0.0 } else { 1.0 - to_f64(2 * same) / to_f64(all + same) };
    let mut parts: Vec<Piece> = Vec::new();
    if moved > HARDLY_SHARED {
        parts.push(Piece { kind: "same", text: text.to_owned() });
        return (moved, parts);
    }
    let (mut gone, mut new) = (String::new(), String::new());
    let mut tell = |gone: &mut String, new: &mut String, same: &str| {
        let told =
            [("only_reference", gone.as_str()), ("only_variant", new.as_str()), ("same", same)];
        for (kind, text) in told.into_iter().filter(|(_, text)| !text.is_empty()) {
            match parts.last_mut().filter(|last| last.kind == kind) {
                Some(last) => last.text.push_str(text),
                None => parts.push(Piece { kind, text: text.to_owned() }),
            }
        }
        gone.clear();
        new.clear();
    };
    for change in diff.iter_all_changes() {
        let word = change.value();
        match change.tag() {
            ChangeTag::Delete => gone.push_str(word),
            ChangeTag::Insert => new.push_str(word),
            ChangeTag::Equal if word.trim().is_empty() && !(gone.is_empty() && new.is_empty()) => {
                gone.push_str(word);
                new.push_str(word);
            }
            ChangeTag::Equal => tell(&mut gone, &mut new, word),
        }
    }
    tell(&mut gone, &mut new, "");
    (moved, parts)
}

/// The beginning of a prompt, in a line.
fn head(prompt: &str) -> String {
    const CHARACTERS: usize = 90;
    let line = sanitize(prompt.get(..prompt.floor_char_boundary(2000)).unwrap_or_default());
    if line.chars().count() <= CHARACTERS {
        return line;
    }
    line.chars().take(CHARACTERS).chain(['…']).collect()
}

/// As much of a text as is shown.
fn cut(text: &str) -> String {
    let shown: String = text.chars().take(MOST_CHARACTERS).collect();
    let mut shown = sanitize_lines(&shown);
    let all = text.chars().count();
    if all > MOST_CHARACTERS {
        let _ = write!(shown, "… ({all} characters; the whole is in the raw data)");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reference: &str, text: &str) -> String {
        let (_, parts) = differences(reference, text);
        let told = parts.into_iter().map(|Piece { kind, text }| match kind {
            "only_reference" => format!("[-{text}-]"),
            "only_variant" => format!("[+{text}+]"),
            _ => text,
        });
        told.collect()
    }

    #[test]
    fn words_that_changed_together_are_one_change() {
        assert_eq!(
            told("In autumn all the green leaves fade.", "In autumn all the old trees fade."),
            "In autumn all the [-green leaves -][+old trees +]fade."
        );
        assert_eq!(told("the same", "the same"), "the same");
    }

    #[test]
    fn of_texts_that_share_hardly_a_word_nothing_is_marked() {
        assert_eq!(told("one two three four", "five six seven four"), "five six seven four");
        assert_eq!(told("", "all new"), "all new");
    }

    #[test]
    fn a_long_answer_is_cut_and_says_so() {
        let shown = cut(&"long ".repeat(10_000));
        assert!(shown.ends_with("… (50000 characters; the whole is in the raw data)"), "{shown}");
        assert!(shown.len() < 2000);
    }
}
