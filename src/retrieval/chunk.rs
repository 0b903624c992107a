//! Chunks: texts cut where sentences end, so that each fits an encoder.

use unicode_segmentation::UnicodeSegmentation as _;

/// A part of a text that is embedded and found on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The text that it is a part of, by its position.
    pub text_position: usize,
    /// What stands in it, without white space around.
    pub content: String,
}

/// Cuts texts into chunks of at most `most` tokens; `count` says how many tokens a text has.
///
/// A text that fits stays whole. Else its sentences are put together as long as they fit, a sentence
/// that does not fit alone is cut between words, and a word between letters; a letter that is still
/// too long stays. Texts of nothing but white space have no chunk.
///
/// # Errors
/// Whatever `count` fails with.
pub fn cut<E>(
    texts: &[String],
    most: usize,
    mut count: impl FnMut(&str) -> Result<usize, E>,
) -> Result<Vec<Chunk>, E> {
    let mut chunks = Vec::new();
    for (text_position, text) in texts.iter().enumerate() {
        let mut parts = Vec::new();
        cut_one(text, most, &mut count, &mut parts)?;
        let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
        chunks.extend(parts.map(|part| Chunk { text_position, content: part.to_owned() }));
    }
    Ok(chunks)
}

fn cut_one<'t, E>(
    text: &'t str,
    most: usize,
    count: &mut impl FnMut(&str) -> Result<usize, E>,
    parts: &mut Vec<&'t str>,
) -> Result<(), E> {
    let units = if count(text.trim())? <= most { Vec::new() } else { units(text) };
    if units.len() < 2 {
        parts.push(text);
        return Ok(());
    }
    // The units stand one behind the other in the text, so joining some is a slice of it.
    let (mut start, mut end) = (0, 0);
    for unit in units {
        let with_it = end + unit.len();
        if end > start && count(text[start..with_it].trim())? > most {
            cut_one(&text[start..end], most, count, parts)?;
            start = end;
        }
        end = with_it;
    }
    cut_one(&text[start..end], most, count, parts)
}

/// The parts of a text at the coarsest border that it has inside: sentences, words, letters.
fn units(text: &str) -> Vec<&str> {
    let sentences: Vec<&str> = text.split_sentence_bounds().collect();
    if sentences.len() > 1 {
        return sentences;
    }
    let words: Vec<&str> = text.split_word_bounds().collect();
    if words.len() > 1 { words } else { text.graphemes(true).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts words, as a tokenizer of words would.
    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn contents(texts: &[&str], most: usize) -> Vec<(usize, String)> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let chunks = cut(&texts, most, |text| Ok::<_, ()>(words(text))).unwrap();
        chunks.into_iter().map(|chunk| (chunk.text_position, chunk.content)).collect()
    }

    #[test]
    fn what_fits_stays_whole_and_what_does_not_is_cut_after_sentences() {
        let texts = ["One two. Three four five. Six.", "  ", "Seven eight."];
        let found = contents(&texts, 5);
        let expected = [(0, "One two. Three four five."), (0, "Six."), (2, "Seven eight.")];
        assert_eq!(found, expected.map(|(position, text)| (position, text.to_owned())));
        assert_eq!(contents(&texts, 6)[0].1, "One two. Three four five. Six.");
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut_between_words_and_a_word_between_letters() {
        let found = contents(&["a b c d e"], 2);
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["a b", "c d", "e"]);
        let letters =
            cut(&["abcdefg".to_owned()], 3, |text| Ok::<_, ()>(text.chars().count())).unwrap();
        let letters: Vec<&str> = letters.iter().map(|chunk| chunk.content.as_str()).collect();
        assert_eq!(letters, ["abc", "def", "g"]);
    }

    #[test]
    fn an_error_of_the_tokenizer_is_passed_on() {
        assert_eq!(cut(&["a".to_owned()], 1, |_| Err("no tokenizer")), Err("no tokenizer"));
    }

    proptest! {
        #[test]
        fn no_letter_is_lost_and_every_chunk_fits(text in "[a-z .]{0,200}", most in 1_usize..12) {
            let count = |text: &str| Ok::<_, ()>(text.chars().count());
            let chunks = cut(std::slice::from_ref(&text), most, count).unwrap();
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            let found: String = chunks.iter().map(|chunk| letters(&chunk.content)).collect();
            prop_assert_eq!(found, letters(&text));
            for chunk in chunks {
                prop_assert!(chunk.content.chars().count() <= most);
            }
        }
    }
}
