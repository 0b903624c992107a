//! chrF++ over a corpus: sacrebleu's chrF with character order 6, word order 2 and β = 2.
//!
//! Source: Popović 2015 and 2017; sacrebleu (without its option `eps_smoothing`), whose values these
//! are.

use super::ngrams;
use std::hash::Hash;

const CHARACTER_ORDER: usize = 6;
const WORD_ORDER: usize = 2;
const BETA: f64 = 2.0;

/// Stands for a precision or recall that is not defined, as in sacrebleu.
const EPSILON: f64 = 1e-16;

/// Numbers that one question contributes: for each order the n-grams of the answer, of the reference
/// and of both.
pub const WIDTH: usize = 3 * (CHARACTER_ORDER + WORD_ORDER);

/// Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// How one answer matches the reference that it matches best; sums of such rows make [`score`].
pub fn counts(answer: &str, references: &[String]) -> Vec<f64> {
    let answer = Units::of(answer);
    let mut best = vec![0.0; WIDTH];
    let mut highest = f64::NEG_INFINITY;
    for reference in references {
        let row = answer.compare(&Units::of(reference));
        let found = score(&row);
        if found > highest {
            (highest, best) = (found, row);
        }
    }
    best
}

/// chrF++, 0 to 100, of summed rows of [`counts`].
pub fn score(sums: &[f64]) -> f64 {
    let factor = BETA * BETA;
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in sums.chunks_exact(3) {
        let (answer, reference, both) = (order[0], order[1], order[2]);
        if answer > 0.0 && reference > 0.0 {
            precision += both / answer;
            recall += both / reference;
            orders += 1.0;
        }
    }
    if orders == 0.0 {
        return 0.0;
    }
    let (precision, recall): (f64, f64) = (precision / orders, recall / orders);
    if precision + recall < EPSILON {
        return 0.0;
    }
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// A text as characters without white space, and as words.
struct Units {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Units {
    fn of(text: &str) -> Self {
        Self {
            characters: text.chars().filter(|character| !character.is_whitespace()).collect(),
            words: text.split_whitespace().flat_map(split_punctuation).collect(),
        }
    }

    fn compare(&self, reference: &Self) -> Vec<f64> {
        let mut row = Vec::with_capacity(WIDTH);
        for order in 1..=CHARACTER_ORDER {
            row.extend(compare(&self.characters, &reference.characters, order));
        }
        for order in 1..=WORD_ORDER {
            row.extend(compare(&self.words, &reference.words, order));
        }
        row
    }
}

fn compare<T: Hash + Eq>(answer: &[T], reference: &[T], order: usize) -> [f64; 3] {
    let (answer, reference) = (ngrams::count(answer, order), ngrams::count(reference, order));
    // An order that the reference does not have is left out of both.
    let all = if reference.is_empty() { 0 } else { ngrams::total(&answer) };
    [all, ngrams::total(&reference), ngrams::overlap(&answer, &reference)].map(f64::from)
}

/// Sets a punctuation mark at the end of a word apart, or else one at its beginning.
fn split_punctuation(word: &str) -> Vec<String> {
    let is_mark = |character: &char| PUNCTUATION.contains(*character);
    let characters: Vec<char> = word.chars().collect();
    let [first, .., last] = characters.as_slice() else { return vec![word.to_owned()] };
    let at = if is_mark(last) {
        word.len() - last.len_utf8()
    } else if is_mark(first) {
        first.len_utf8()
    } else {
        return vec![word.to_owned()];
    };
    let (ahead, behind) = word.split_at(at);
    vec![ahead.to_owned(), behind.to_owned()]
}
