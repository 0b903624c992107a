//! Exact match and F1 of `SQuAD` 1.1: what is left of an answer once case, punctuation and articles
//! are gone.
//!
//! Source: Rajpurkar et al. 2016, the data set's evaluate-v1.1.py.

use super::ngrams;
use regex::Regex;
use std::sync::LazyLock;

/// 1 if the answer is one of the references once both are normalized, else 0.
pub fn exact_match(answer: &str, references: &[String]) -> f64 {
    let answer = normalized(answer);
    f64::from(u8::from(references.iter().any(|reference| normalized(reference) == answer)))
}

/// F1 of the words that answer and reference share, 0 to 1; of several references the best counts.
pub fn f1(answer: &str, references: &[String]) -> f64 {
    let answer = normalized(answer);
    let answer: Vec<&str> = answer.split_whitespace().collect();
    let of_one = |reference: &String| {
        let reference = normalized(reference);
        let reference: Vec<&str> = reference.split_whitespace().collect();
        ngrams::shared(&answer, &reference, 1)
    };
    references.iter().map(of_one).fold(0.0, f64::max)
}

/// Lower case, without ASCII punctuation and English articles, one space between words.
fn normalized(text: &str) -> String {
    static ARTICLES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(a|an|the)\b").ok());
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|it| !it.is_ascii_punctuation()).collect();
    let bare = match ARTICLES.as_ref() {
        Some(articles) => articles.replace_all(&bare, " ").into_owned(),
        None => bare,
    };
    bare.split_whitespace().collect::<Vec<_>>().join(" ")
}
