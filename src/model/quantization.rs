//! Quantizations: the labels under which engines store weights, and the method that chose the weights.

pub use super::method::Method;

use super::engine_name::EngineName;
use super::file_type::{FileType, UnknownFileType};
use super::onnx_label::OnnxLabel;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is measured below floating point numbers if nobody says what.
pub const USUAL: [&str; 6] = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"];

/// A name for how weights are stored, with the engine that reads them behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// A file type of llama.cpp.
    FileType(FileType),
    /// A recipe of those who publish GGUFs for llama.cpp. Only ready files have it.
    Published(&'static Published),
    /// How most weights of an ONNX graph are stored. Only ready files have it.
    Onnx(OnnxLabel),
    /// The only one of the engine of the tests.
    #[cfg(test)]
    Toy,
}

/// A recipe of those who publish GGUFs: which type each tensor has is known to them only.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Published {
    name: &'static str,
    /// The file type with about as many bits.
    nearest: &'static str,
}

const fn published(name: &'static str, nearest: &'static str) -> Published {
    Published { name, nearest }
}

/// Names on the Hugging Face hub in November 2026: Unsloth's dynamic ones (`UD-`), and those of
/// bartowski and others with embeddings and output at 8 bits (`_L`, `_XL`).
static PUBLISHED: [Published; 32] = [
    published("UD-Q8_K_XL", "Q8_0"),
    published("Q8_K_XL", "Q8_0"),
    published("UD-Q6_K_XL", "Q6_K"),
    published("Q6_K_XL", "Q6_K"),
    published("Q6_K_L", "Q6_K"),
    published("UD-Q6_K", "Q6_K"),
    published("UD-Q5_K_XL", "Q5_K_M"),
    published("Q5_K_XL", "Q5_K_M"),
    published("Q5_K_L", "Q5_K_M"),
    published("UD-Q5_K_M", "Q5_K_M"),
    published("UD-Q4_K_XL", "Q4_K_M"),
    published("Q4_K_XL", "Q4_K_M"),
    published("Q4_K_L", "Q4_K_M"),
    published("UD-Q4_K_M", "Q4_K_M"),
    published("UD-IQ4_NL", "IQ4_NL"),
    published("UD-IQ4_XS", "IQ4_XS"),
    published("UD-Q3_K_XL", "Q3_K_L"),
    published("Q3_K_XL", "Q3_K_L"),
    published("UD-Q3_K_M", "Q3_K_M"),
    published("UD-IQ3_M", "IQ3_M"),
    published("UD-IQ3_S", "IQ3_S"),
    published("UD-IQ3_XXS", "IQ3_XXS"),
    published("UD-Q2_K_XL", "Q2_K"),
    published("Q2_K_XL", "Q2_K"),
    published("Q2_K_L", "Q2_K"),
    published("UD-IQ2_M", "IQ2_M"),
    published("UD-IQ2_S", "IQ2_S"),
    published("UD-IQ2_XS", "IQ2_XS"),
    published("UD-IQ2_XXS", "IQ2_XXS"),
    published("UD-IQ1_M", "IQ1_M"),
    published("UD-IQ1_S", "IQ1_S"),
    published("UD-TQ1_0", "TQ1_0"),
];

impl Label {
    /// The name, without the engine's.
    pub fn name(self) -> &'static str {
        match self {
            Self::FileType(file_type) => file_type.name(),
            Self::Published(published) => published.name,
            Self::Onnx(onnx) => onnx.name(),
            #[cfg(test)]
            Self::Toy => "exact",
        }
    }

    /// What computes weights that are stored so.
    pub fn engine(self) -> EngineName {
        match self {
            Self::FileType(_) | Self::Published(_) => EngineName::LlamaCpp,
            Self::Onnx(_) => EngineName::OnnxRuntime,
            #[cfg(test)]
            Self::Toy => EngineName::Toy,
        }
    }

    /// The file type of llama.cpp that has about as many bits per weight.
    fn nearest(self) -> Option<FileType> {
        match self {
            Self::FileType(file_type) => Some(file_type),
            Self::Published(published) => published.nearest.parse().ok(),
            Self::Onnx(onnx) => onnx.nearest(),
            #[cfg(test)]
            Self::Toy => None,
        }
    }
}

impl From<FileType> for Label {
    fn from(file_type: FileType) -> Self {
        Self::FileType(file_type)
    }
}

/// Why a name is no quantization; `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantizationError {
    /// No label is written so.
    #[error(transparent)]
    Unknown(#[from] UnknownFileType),
    /// A method where a label was to be.
    #[error(
        "'{name}' is a method, not what weights are stored in; write both, such as '{method}:Q4_0'"
    )]
    MethodAlone {
        /// What was written.
        name: String,
        /// The method.
        method: Method,
    },
    /// The part before the colon is no method.
    #[error("'{name}' is not a method; methods are {}", Method::names(Method::all(), "and"))]
    UnknownMethod {
        /// What was written.
        name: String,
    },
}

/// A label that only ready files have was to be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make {label}: {reason}; {remedy}")]
pub struct NotMade {
    /// The label.
    pub label: &'static str,
    /// Why not.
    pub reason: &'static str,
    /// What would do.
    pub remedy: String,
}

impl FromStr for Label {
    type Err = QuantizationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        if let Some(published) = PUBLISHED.iter().find(|it| it.name.eq_ignore_ascii_case(name)) {
            return Ok(Self::Published(published));
        }
        if let Some(onnx) = OnnxLabel::read(name) {
            return Ok(Self::Onnx(onnx));
        }
        #[cfg(test)]
        if name == Self::Toy.name() {
            return Ok(Self::Toy);
        }
        name.parse().map(Self::FileType).map_err(|unknown| match name.parse() {
            Ok(method) => QuantizationError::MethodAlone { name: text.to_owned(), method },
            Err(_) => unknown.into(),
        })
    }
}

/// How weights are stored, and the method that chose them. Written `Q4_K_M` or `gptq:Q4_K_M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantization {
    /// How they are stored, and for which engine.
    pub label: Label,
    /// How the stored weights were chosen; `rtn` for floating point types too.
    pub method: Method,
}

impl Quantization {
    /// What computes it.
    pub fn engine(self) -> EngineName {
        self.label.engine()
    }

    /// The file type of llama.cpp, if its label is one.
    pub fn file_type(self) -> Option<FileType> {
        match self.label {
            Label::FileType(file_type) => Some(file_type),
            Label::Published(_) | Label::Onnx(_) => None,
            #[cfg(test)]
            Label::Toy => None,
        }
    }

    /// The file type that it is made as.
    ///
    /// # Errors
    /// It is a label that only ready files have.
    pub fn to_make(self) -> Result<FileType, NotMade> {
        self.file_type().ok_or_else(|| NotMade {
            label: self.label.name(),
            reason: match self.label {
                Label::Onnx(_) => "runs measure ONNX files that are there",
                _ => "it is a recipe of those who publish GGUFs, known to them only",
            },
            remedy: match (self.label, self.label.nearest()) {
                (Label::Onnx(_), _) => {
                    "name the folder that has one with onnx = [\"FOLDER\"] or --onnx FOLDER"
                        .to_owned()
                }
                (_, Some(nearest)) => {
                    format!("measure a ready file of it, or make '{nearest}'")
                }
                (_, None) => "measure a ready file of it".to_owned(),
            },
        })
    }

    /// Whether it is what is asked for: a plain name is met by any method, and by any of several graphs.
    pub fn meets(self, wanted: Self) -> bool {
        let by_any = wanted.method == Method::Rtn;
        let is_stored_so = match (self.label, wanted.label) {
            (Label::Onnx(own), Label::Onnx(wanted)) => own.meets(wanted),
            (own, wanted) => own == wanted,
        };
        is_stored_so && (by_any || self.method == wanted.method)
    }

    /// Whether weights are plain floating point numbers: what others are made from, and what quality
    /// is measured against.
    pub fn is_float(self) -> bool {
        let onnx = match self.label {
            Label::Onnx(_) => self.label.nearest(),
            _ => None,
        };
        self.file_type().or(onnx).is_some_and(FileType::is_float)
    }

    /// Rank in descending order of precision: 0 is F32. Used to choose the reference.
    pub fn precision_rank(self) -> usize {
        self.label.nearest().map_or(usize::MAX, FileType::precision_rank)
    }
}

impl From<FileType> for Quantization {
    fn from(file_type: FileType) -> Self {
        Self { label: file_type.into(), method: Method::Rtn }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Method::Rtn => formatter.pad(self.label.name()),
            method => formatter.pad(&format!("{method}:{}", self.label.name())),
        }
    }
}

impl FromStr for Quantization {
    type Err = QuantizationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, label) = match text.split_once(':') {
            None => (Method::Rtn, text),
            Some((method, label)) => (method.trim().parse()?, label),
        };
        Ok(Self { label: label.parse()?, method })
    }
}

impl Serialize for Quantization {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantization {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_read_as_it_is_written() {
        let file_types = FileType::all().map(Label::FileType);
        let ready = PUBLISHED.iter().map(Label::Published).chain(OnnxLabel::all().map(Label::Onnx));
        for label in file_types.chain(ready).chain([Label::Toy]) {
            let text = Quantization { label, method: Method::Rtn }.to_string();
            assert_eq!(text.parse::<Quantization>().unwrap().label, label, "{text}");
        }
    }

    #[test]
    fn a_published_recipe_ranks_with_the_file_type_of_as_many_bits() {
        let rank = |name: &str| name.parse::<Quantization>().unwrap().precision_rank();
        for published in &PUBLISHED {
            assert_eq!(rank(published.name), rank(published.nearest), "{}", published.name);
        }
        let published: Quantization = "ud-q4_k_xl".parse().unwrap();
        assert_eq!((published.file_type(), published.is_float()), (None, false));
        assert_eq!(published.engine(), EngineName::LlamaCpp);
    }

    #[test]
    fn another_engine_has_labels_of_its_own() {
        let toy: Quantization = "exact".parse().unwrap();
        assert_eq!((toy.engine(), toy.file_type()), (EngineName::Toy, None));
    }

    #[test]
    fn graphs_are_there_or_not() {
        let float: Quantization = "onnx-fp16".parse().unwrap();
        assert!(float.is_float() && float.engine() == EngineName::OnnxRuntime);
        let error = float.to_make().unwrap_err().to_string();
        assert!(error.contains("onnx = "), "{error}");
    }

    #[test]
    fn a_method_alone_is_answered_with_how_to_write_it() {
        for name in ["GPTQ", "awq", "imatrix"] {
            let error = name.parse::<Quantization>().unwrap_err().to_string();
            let remedy = format!("'{}:Q4_0'", name.to_lowercase());
            assert!(error.contains("is a method") && error.ends_with(&remedy), "{error}");
        }
        assert!("gptq:awq".parse::<Quantization>().unwrap_err().to_string().contains("method"));
    }

    #[test]
    fn a_method_is_written_before_a_colon() {
        let quantization: Quantization = "gptq:q4_0".parse().unwrap();
        assert_eq!(quantization.method, Method::Gptq);
        assert_eq!(quantization.to_string(), "gptq:Q4_0");
        assert!("bogus:Q4_0".parse::<Quantization>().is_err());
    }
}
