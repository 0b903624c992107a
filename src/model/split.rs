//! Split GGUFs: `name-00001-of-00003.gguf` and the parts that belong to it.

use std::path::{Path, PathBuf};

/// All parts of a model file: itself alone, unless its name says that it is the first of several.
#[must_use]
pub fn parts_of(path: &Path) -> Vec<PathBuf> {
    split_name(path).map_or_else(
        || vec![path.to_owned()],
        |(stem, count)| {
            (1..=count)
                .map(|part| path.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf")))
                .collect()
        },
    )
}

/// The common stem and the number of parts, if the name is that of a part.
#[must_use]
pub fn split_name(path: &Path) -> Option<(String, u32)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = name.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
    let (part, count) = (number(part)?, number(count)?);
    (part >= 1 && part <= count).then(|| (stem.to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_names_all() {
        let parts = parts_of(Path::new("/models/big-00001-of-00003.gguf"));
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[2], Path::new("/models/big-00003-of-00003.gguf"));
    }

    #[test]
    fn other_names_stand_alone() {
        for name in ["model.gguf", "a-1-of-3.gguf", "a-00004-of-00003.gguf", "-of-.gguf"] {
            assert_eq!(parts_of(Path::new(name)), [Path::new(name)], "{name}");
        }
    }
}
