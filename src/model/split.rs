//! Split GGUFs: one model in several files named `name-00001-of-00003.gguf`.
//!
//! llama.cpp is given the first part and finds the others by name, so the names are a contract.

use std::path::{Path, PathBuf};

/// The position of one file within a split model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The name without `-00001-of-00003.gguf`.
    pub stem: &'a str,
    /// From 1.
    pub number: u32,
    /// How many parts there are.
    pub count: u32,
}

/// Reads `name-00001-of-00003.gguf`; `None` for every other name.
pub fn part(file_name: &str) -> Option<Part<'_>> {
    let rest = file_name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| {
        (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (number, count) = (digits(number)?, digits(count)?);
    (number >= 1 && number <= count).then_some(Part { stem, number, count })
}

/// The file name without `.gguf` and without a split file's numbers.
pub fn stem(file_name: &str) -> &str {
    if let Some(part) = part(file_name) {
        return part.stem;
    }
    let suffix_at = file_name.len().saturating_sub(5);
    match file_name.get(suffix_at..) {
        Some(suffix) if suffix.eq_ignore_ascii_case(".gguf") => &file_name[..suffix_at],
        _ => file_name,
    }
}

/// The paths of all parts, in order, of the split model that `path` is one part of; only `path`
/// itself if it is not split.
pub fn all_parts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match part(&name) {
        None => vec![path.to_owned()],
        Some(Part { stem, count, .. }) => {
            (1..=count).map(|number| path.with_file_name(part_name(stem, number, count))).collect()
        }
    }
}

/// The file name of one part.
pub fn part_name(stem: &str, number: u32, count: u32) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_read_and_others_are_not() {
        let read = part("big-Q4_0-00002-of-00010.gguf").unwrap();
        assert_eq!((read.stem, read.number, read.count), ("big-Q4_0", 2, 10));
        for name in ["a.gguf", "a-1-of-2.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf"] {
            assert_eq!(part(name), None, "{name}");
        }
    }

    #[test]
    fn the_stem_loses_suffix_and_numbers() {
        assert_eq!(stem("m-00001-of-00002.gguf"), "m");
        assert_eq!(stem("m.Q4_0.GGUF"), "m.Q4_0");
        assert_eq!(stem("ü"), "ü");
    }

    #[test]
    fn every_part_is_listed_from_any_part() {
        let parts = all_parts(Path::new("/x/m-00002-of-00003.gguf"));
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0], Path::new("/x/m-00001-of-00003.gguf"));
        assert_eq!(all_parts(Path::new("/x/m.gguf")), [Path::new("/x/m.gguf")]);
    }
}
