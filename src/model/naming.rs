//! What file names of GGUFs say: `Llama-3-8B-Instruct-Q4_K_M.gguf`.

use super::quantization::{Label, Quantization};
use super::split;
use crate::model::file_type::FileType;
use std::path::Path;

/// What separates the words of a file name.
pub const SEPARATORS: [char; 3] = ['-', '.', ' '];

/// The publisher's recipe in the name of a file: `UD-Q4_K_XL` in `m-UD-Q4_K_XL-00001-of-00002.gguf`.
pub fn published_in(path: &Path) -> Option<Label> {
    let name = path.file_name()?.to_string_lossy();
    let stem = split::stem(&name);
    let words = stem.match_indices(SEPARATORS).map(|(at, separator)| at + separator.len());
    let mut starts = std::iter::once(0).chain(words);
    let label = |at: usize| stem[at..].parse::<Label>().ok();
    starts.find_map(|at| label(at).filter(|label| matches!(label, Label::Published(_))))
}

/// The file type in a file's name: the last word between `-`, `.` or spaces that is one, or ends in one after `_`.
pub fn file_type_in(file_name: &str) -> Option<FileType> {
    let name = file_name.rsplit('/').next().unwrap_or(file_name);
    split::stem(name).rsplit(SEPARATORS).find_map(|word| {
        let ends = word.match_indices('_').map(|(at, _)| &word[at + 1..]);
        std::iter::once(word).chain(ends).find_map(|end| end.parse().ok())
    })
}

/// What a ready variant is called in tables: its quantization or, where the file's name has another
/// name for it (`UD-Q4_K_XL`), that name.
pub fn label(file_name: &str, quantization: Quantization) -> String {
    if file_type_in(file_name) == quantization.file_type() {
        return quantization.to_string();
    }
    let stem = split::stem(file_name);
    // A word such as Q4_K_XL or IQ4_KS, and what stands directly before it in capitals.
    let mut words: Vec<&str> = stem.split(SEPARATORS).collect();
    while let Some(word) = words.pop() {
        let plain = word.trim_start_matches(['I', 'i', 'T', 't']);
        let mut characters = plain.chars();
        let names_bits = matches!(characters.next(), Some('Q' | 'q'))
            && characters.next().is_some_and(|c| c.is_ascii_digit());
        if names_bits {
            return match words.last() {
                Some(&"UD") => format!("UD-{word}"),
                _ => word.to_owned(),
            };
        }
    }
    quantization.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_found_where_people_write_it() {
        for (name, expected) in [
            ("Llama-3-8B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("dir/model.iq4_xs.gguf", Some("IQ4_XS")),
            ("m-BF16-00001-of-00002.gguf", Some("BF16")),
            ("model-f16.gguf", Some("F16")),
            ("ggml-model.gguf", None),
            ("My_Model_q2_k.gguf", Some("Q2_K")),
            ("my_model_f16.gguf", Some("F16")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4_MOE")),
            ("m-Q4_K_XL.gguf", None),
            ("x-UD-Q4_K_XL.gguf", None),
        ] {
            assert_eq!(file_type_in(name).map(FileType::name), expected, "{name}");
        }
    }

    #[test]
    fn a_label_says_more_than_the_type_where_the_file_does() {
        let label = |name: &str| label(name, "Q4_K_M".parse().unwrap());
        assert_eq!(label("m-Q4_K_M.gguf"), "Q4_K_M");
        assert_eq!(label("m-UD-Q4_K_XL.gguf"), "UD-Q4_K_XL");
        let published = |name| published_in(Path::new(name)).map(Label::name).unwrap_or_default();
        assert_eq!(published("a/m-UD-Q4_K_XL-00001-of-00002.gguf"), "UD-Q4_K_XL");
        assert_eq!(published("UD-IQ2_M.gguf"), "UD-IQ2_M");
        assert_eq!(published("m.Q6_K_L.gguf"), "Q6_K_L");
        assert_eq!(published("m-UD-Q4_K_XL-Q4_K_M.gguf"), "");
        assert_eq!(label("m-IQ4_KS-00001-of-00002.gguf"), "IQ4_KS");
        assert_eq!(label("Qwen2-7B.gguf"), "Q4_K_M", "Qwen2 names no bits");
        assert_eq!(label("model.gguf"), "Q4_K_M");
    }
}
