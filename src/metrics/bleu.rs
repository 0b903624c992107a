//! BLEU over a corpus: sacrebleu's defaults (tokenizer 13a, exponential smoothing, order 4).
//!
//! Source: Papineni et al. 2002; Post 2018 (sacrebleu), whose values these are.

use super::ngrams;
use crate::statistics::sample::to_f64;
use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Longest n-grams.
const ORDER: usize = 4;

/// Numbers that one question contributes: lengths of answer and reference, then for each order the
/// n-grams that match and all of them.
pub const WIDTH: usize = 2 + 2 * ORDER;

/// How one answer matches its references; sums of such rows make [`score`].
///
/// With several references an n-gram counts as often as in the one that has most of it, and the
/// length compared with is the nearest one (the shorter of two as near).
pub fn counts(answer: &str, references: &[String]) -> Vec<f64> {
    let answer = tokens(answer);
    let references: Vec<Vec<String>> = references.iter().map(|text| tokens(text)).collect();
    let nearest = references
        .iter()
        .map(Vec::len)
        .min_by_key(|&length| (length.abs_diff(answer.len()), length))
        .unwrap_or(0);
    let mut row = vec![to_f64(answer.len()), to_f64(nearest)];
    for order in 1..=ORDER {
        let own = ngrams::count(&answer, order);
        let mut most: HashMap<&[String], u32> = HashMap::new();
        for reference in &references {
            for (ngram, count) in ngrams::count(reference, order) {
                let entry = most.entry(ngram).or_default();
                *entry = count.max(*entry);
            }
        }
        row.push(f64::from(ngrams::overlap(&own, &most)));
        row.push(f64::from(ngrams::total(&own)));
    }
    row
}

/// BLEU, 0 to 100, of summed rows of [`counts`].
pub fn score(sums: &[f64]) -> f64 {
    let [answer_length, reference_length, ref by_order @ ..] = *sums else { return 0.0 };
    if by_order.iter().step_by(2).all(|&matches| matches == 0.0) {
        return 0.0;
    }
    let mut smoothing = 1.0;
    let mut logarithms = 0.0;
    for pair in by_order.chunks_exact(2) {
        let (matches, all) = (pair[0], pair[1]);
        if all == 0.0 {
            // No answer is as long as this order: as sacrebleu, nothing is left of the product.
            return 0.0;
        }
        logarithms += if matches == 0.0 {
            smoothing *= 2.0;
            (1.0 / (smoothing * all)).ln()
        } else {
            (matches / all).ln()
        };
    }
    let brevity = if answer_length >= reference_length {
        1.0
    } else {
        (1.0 - reference_length / answer_length).exp()
    };
    100.0 * brevity * (logarithms / to_f64(ORDER)).exp()
}

/// The tokenizer of mteval-v13a.
fn tokens(text: &str) -> Vec<String> {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rules = [
            (r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", " $1 "),
            (r"([^0-9])([\.,])", "$1 $2 "),
            (r"([\.,])([^0-9])", " $1 $2"),
            (r"([0-9])(-)", "$1 $2 "),
        ];
        // These four are known to be regular expressions.
        rules.into_iter().filter_map(|(rule, with)| Some((Regex::new(rule).ok()?, with))).collect()
    });
    let mut text = text.trim_end().replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let mut text = format!(" {text} ");
    for (rule, with) in RULES.iter() {
        text = rule.replace_all(&text, *with).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}
