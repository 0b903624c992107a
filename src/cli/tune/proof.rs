//! What proves a gain: real prompts, in fresh pairs with the defaults.

use super::found::Found;
use crate::dataset::standard::DOMAINS;
use crate::experiment::resolved::Experiment;
use crate::experiment::tuning::{Goal, Use, same_numbers};
use crate::experiment::workloads::{LatencyPlan, QualityPlan, Sampling, TestPrompt, Workloads};
use crate::prompt::choice::FormatChoice;
use crate::results::gain::{ANSWER, course};
use crate::statistics::sample::Sample;

/// Rounds at most; each has prompts of its own.
const ROUNDS: u32 = 16;

/// Bytes of text for a token that a prompt is to have, before it is cut.
const BYTES_PER_TOKEN: usize = 8;

/// Tokens of a chunk whose divergence is measured.
const CHUNK: u32 = 256;

/// Part of the time of the search that measuring divergence may take.
const QUALITY: f64 = 0.1;

/// The experiment that compares what was found with the defaults.
pub(super) fn planned(search: &Experiment, found: &Found, is_shape: bool) -> Experiment {
    let base = &found.space.base;
    let settings = found.finalists.iter().map(|it| it.settings.clone());
    let settings: Vec<_> = std::iter::once(base.clone()).chain(settings).collect();
    let changes_numbers = settings.iter().any(|it| !same_numbers(it, base));
    let quality = (changes_numbers && !is_shape).then(|| quality(search, found));
    let workloads =
        Workloads { latency: Some(latency(&found.used)), quality, ..Workloads::default() };
    Experiment {
        name: format!("{}, proof", search.name),
        settings,
        workloads,
        rounds: ROUNDS,
        repetitions: 1,
        repeat_within: None,
        budget: None,
        ..search.clone()
    }
}

/// Prompts of the length that is used: questions alone where answers are asked for, else with a text to read.
fn latency(used: &Use) -> LatencyPlan {
    let count = ROUNDS * used.parallel.max(1);
    let reads = used.goal != Goal::Generation || used.depth > 0;
    let bytes = if reads { used.prompt_tokens as usize * BYTES_PER_TOKEN } else { 0 };
    let max_tokens = if used.goal == Goal::Prompt { 2 } else { ANSWER };
    LatencyPlan {
        prompts: prompts(count as usize, bytes),
        source: "standard".to_owned(),
        max_tokens: max_tokens.min(used.generated_tokens * 2).max(2),
        sampling: Sampling::default(),
        format: FormatChoice::Auto,
        chat_template_kwargs: serde_json::Map::new(),
        prompt_tokens: Some(used.prompt_tokens),
        parallel: if used.parallel > 1 { used.parallel } else { 0 },
    }
}

/// Questions of all domains, each followed by a text of its domain that has so many bytes.
fn prompts(count: usize, bytes: usize) -> Vec<TestPrompt> {
    let mut all = Vec::new();
    for at in 0..count {
        let domain = &DOMAINS[at % DOMAINS.len()];
        let questions: Vec<&str> = domain.prompts().collect();
        let nth = at / DOMAINS.len();
        let question = questions.get(nth % questions.len().max(1)).copied().unwrap_or_default();
        let mut text = question.to_owned();
        if bytes > 0 {
            let passage = domain.evaluation();
            // Another part of the text for each question.
            let skipped = passage.chars().count() * nth / 8;
            let passage = passage.chars().cycle().skip(skipped);
            text.push_str("\n\n");
            let mut left = bytes;
            text.extend(passage.take_while(|character| {
                left = left.saturating_sub(character.len_utf8());
                left > 0
            }));
        }
        let id = format!("{}-{nth}", domain.name);
        all.push(TestPrompt { id, kind: domain.name.to_owned(), text });
    }
    all
}

/// As much of a text as there is time for: what other settings compute differs alike everywhere.
fn quality(search: &Experiment, found: &Found) -> QualityPlan {
    let budget = search.budget.map_or(0.0, |budget| budget.as_secs_f64());
    let tests = found.used.tests();
    let course = found.search.trials.first().map(|trial| course(trial, &tests)).unwrap_or_default();
    let speed = Sample::new(course.into_values()).map_or(1.0, |sample| sample.median().exp());
    // One at a time is the slowest of what a text could be read at.
    let tokens = budget * QUALITY * speed / 2.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let chunks = (tokens / f64::from(CHUNK)).clamp(2.0, 32.0) as u32;
    QualityPlan {
        text: DOMAINS[0].evaluation(),
        domains: Vec::new(),
        answers: None,
        source: "standard".to_owned(),
        context: CHUNK.min(found.used.prompt_tokens.max(8)),
        chunks: Some(chunks),
        divergence: true,
        precision: None,
        reference_budget_bytes: 1 << 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prompts_are_the_same() {
        let all = prompts(64, 4096);
        let mut texts: Vec<&str> = all.iter().map(|it| it.text.as_str()).collect();
        assert!(texts.iter().all(|text| text.len() > 4000));
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 64);
    }
}
