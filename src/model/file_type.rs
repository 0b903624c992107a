//! File types of llama.cpp by their names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A file type of llama.cpp: which block formats the weights of a GGUF are stored in.
///
/// The number is `llama_ftype` in llama.cpp's `llama.h` and `general.file_type` in a GGUF; the name
/// is the one `llama-quantize` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileType(&'static Entry);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Entry {
    name: &'static str,
    number: u32,
    needs_importance_matrix: bool,
}

const fn entry(name: &'static str, number: u32) -> Entry {
    Entry { name, number, needs_importance_matrix: false }
}

/// llama.cpp refuses to make these without an importance matrix, since plain rounding at this few
/// bits gives a useless model.
const fn entry_with_matrix(name: &'static str, number: u32) -> Entry {
    Entry { name, number, needs_importance_matrix: true }
}

/// All file types of llama.cpp 0.6.0, from most to fewest bits per weight.
static ENTRIES: [Entry; 37] = [
    entry("F32", 0),
    entry("F16", 1),
    entry("BF16", 32),
    entry("Q8_0", 7),
    entry("Q6_K", 18),
    entry("Q5_1", 9),
    entry("Q5_K_M", 17),
    entry("Q5_K_S", 16),
    entry("Q5_0", 8),
    entry("Q4_1", 3),
    entry("Q4_K_M", 15),
    entry("Q4_K_S", 14),
    entry("Q4_0", 2),
    entry("IQ4_NL", 25),
    entry("NVFP4", 39),
    entry("MXFP4_MOE", 38),
    entry("IQ4_XS", 30),
    entry("Q3_K_L", 13),
    entry("Q3_K_M", 12),
    entry("IQ3_M", 27),
    entry("IQ3_S", 26),
    entry("Q3_K_S", 11),
    entry_with_matrix("IQ3_XS", 22),
    entry_with_matrix("IQ3_XXS", 23),
    entry("Q2_K", 10),
    entry_with_matrix("Q2_K_S", 21),
    entry_with_matrix("IQ2_M", 29),
    entry_with_matrix("IQ2_S", 28),
    entry_with_matrix("IQ2_XS", 20),
    entry_with_matrix("IQ2_XXS", 19),
    entry("Q2_0", 41),
    entry("TQ2_0", 37),
    entry_with_matrix("IQ1_M", 31),
    entry("TQ1_0", 36),
    entry_with_matrix("IQ1_S", 24),
    entry("Q1_0", 40),
    entry("Q4_1_SOME_F16", 4),
];

/// Names that people use for a file type of another name.
const ALIASES: [(&str, &str); 11] = [
    ("FP32", "F32"),
    ("FP16", "F16"),
    ("INT8", "Q8_0"),
    ("INT4", "Q4_0"),
    ("Q3_K", "Q3_K_M"),
    ("Q4_K", "Q4_K_M"),
    ("Q5_K", "Q5_K_M"),
    ("Q6_K_M", "Q6_K"),
    ("Q8", "Q8_0"),
    ("Q4", "Q4_0"),
    ("MXFP4", "MXFP4_MOE"),
];

impl FileType {
    /// Numbers of 16 bits.
    pub const F16: Self = Self(&ENTRIES[1]);

    /// Every file type, from most to fewest bits per weight.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().filter(|entry| entry.number != 4).map(FileType)
    }

    /// The file type that a GGUF's `general.file_type` names, if llama.cpp still knows it.
    pub fn from_number(number: u32) -> Option<Self> {
        ENTRIES.iter().find(|entry| entry.number == number).map(FileType)
    }

    /// The name, as `llama-quantize` accepts it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The value of `llama_ftype`.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Whether llama.cpp refuses to make this type without an importance matrix.
    pub fn needs_importance_matrix(self) -> bool {
        self.0.needs_importance_matrix
    }

    /// Whether weights of this type are plain floating point numbers: what other variants are made
    /// from, and what quality is measured against.
    pub fn is_float(self) -> bool {
        matches!(self.0.name, "F32" | "F16" | "BF16")
    }

    /// Rank in descending order of precision: 0 is F32. Used to choose the reference.
    pub fn precision_rank(self) -> usize {
        ENTRIES.iter().position(|entry| entry == self.0).unwrap_or(ENTRIES.len())
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.0.name)
    }
}

/// No file type has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not a quantization of llama.cpp{}", suggestion(.nearest.as_deref()))]
pub struct UnknownFileType {
    /// What was written.
    pub name: String,
    /// The nearest name that exists, if one is near.
    pub nearest: Option<String>,
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

impl FromStr for FileType {
    type Err = UnknownFileType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.trim().to_ascii_uppercase();
        // `Q4KM` is `Q4_K_M` and no `Q4_1`.
        let bare = |name: &str| name.replace(['_', '-'], "");
        let name = ALIASES
            .iter()
            .find(|(alias, _)| *alias == upper)
            .map_or(upper.as_str(), |(_, name)| name);
        Self::all().find(|file_type| file_type.name() == name).ok_or_else(|| {
            let nearest = Self::all()
                .map(|file_type| {
                    let name = file_type.name();
                    let written = strsim::damerau_levenshtein(name, &upper);
                    (strsim::damerau_levenshtein(&bare(name), &bare(&upper)), written, name)
                })
                .min_by_key(|&(distance, written, _)| (distance, written))
                .filter(|&(distance, _, _)| distance <= 3)
                .map(|(_, _, name)| name.to_owned());
            UnknownFileType { name: text.to_owned(), nearest }
        })
    }
}

impl Serialize for FileType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for FileType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_itself_in_any_case() {
        for file_type in FileType::all() {
            assert_eq!(file_type.name().to_lowercase().parse(), Ok(file_type));
            assert_eq!(FileType::from_number(file_type.number()), Some(file_type));
        }
    }

    #[test]
    fn names_of_other_programs_are_accepted() {
        assert_eq!("INT8".parse::<FileType>().map(FileType::name), Ok("Q8_0"));
        assert_eq!("INT4".parse::<FileType>().map(FileType::name), Ok("Q4_0"));
        assert_eq!("fp16".parse::<FileType>().map(FileType::name), Ok("F16"));
    }

    #[test]
    fn a_misspelled_name_is_answered_with_the_nearest() {
        let error = "Q4_KM".parse::<FileType>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "'Q4_KM' is not a quantization of llama.cpp; did you mean 'Q4_K_M'?"
        );
        let error = "q4km".parse::<FileType>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean 'Q4_K_M'?"), "{error}");
    }

    #[test]
    fn floating_point_types_outrank_all_others() {
        let rank = |name: &str| name.parse::<FileType>().unwrap().precision_rank();
        assert!(rank("F32") < rank("F16"));
        assert!(rank("BF16") < rank("Q8_0"));
        assert!(rank("Q4_K_M") < rank("Q2_K"));
    }
}
