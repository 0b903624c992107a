//! Methods: how stored weights are chosen. One row says what the program has to know of each.

use super::architecture::ArchitectureClass;
use super::quantization::QuantizationError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the stored weights were chosen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Round to nearest: llama.cpp's plain quantization.
    #[default]
    Rtn,
    /// llama.cpp's quantization weighted by an importance matrix.
    Imatrix,
    /// GPTQ (Frantar et al. 2022).
    Gptq,
    /// AWQ (Lin et al. 2023).
    Awq,
}

/// What a method looks at besides the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// An importance matrix.
    Matrix,
    /// An importance matrix, and the text itself.
    Text,
}

/// What is to be known of a method.
#[derive(Debug)]
pub struct Facts {
    /// Which.
    pub method: Method,
    /// The name in `gptq:Q4_0`, in lower case.
    pub name: &'static str,
    /// The name in sentences.
    pub title: &'static str,
    /// What it does, for the help: a clause.
    pub help: &'static str,
    /// What it looks at.
    pub needs: Needs,
    /// The only class of models that it can do; `None`: all.
    pub class: Option<ArchitectureClass>,
    /// File types of which it writes no part: all their blocks are in formats that it does not know.
    pub without: &'static [&'static str],
}

/// Every method, in the order of [`Method`].
static FACTS: [Facts; 4] = [
    Facts {
        method: Method::Rtn,
        name: "rtn",
        title: "rtn",
        help: "rounds to the nearest value, as llama-quantize does; looks at no text",
        needs: Needs::Nothing,
        class: None,
        without: &[],
    },
    Facts {
        method: Method::Imatrix,
        name: "imatrix",
        title: "imatrix",
        help: "weighs errors of rounding with an importance matrix, as llama-quantize --imatrix does",
        needs: Needs::Matrix,
        class: None,
        without: &[],
    },
    Facts {
        method: Method::Gptq,
        name: "gptq",
        title: "GPTQ",
        help: "chooses weights one after the other, each making up for the errors before it; slow",
        needs: Needs::Text,
        class: Some(ArchitectureClass::DecoderOnly),
        without: &[
            "NVFP4",
            "MXFP4_MOE",
            "IQ3_M",
            "IQ3_S",
            "IQ3_XS",
            "IQ3_XXS",
            "IQ2_M",
            "IQ2_S",
            "IQ2_XS",
            "IQ2_XXS",
            "IQ1_M",
            "IQ1_S",
            "Q2_0",
            "Q1_0",
            "TQ2_0",
            "TQ1_0",
            "Q4_1_SOME_F16",
        ],
    },
    Facts {
        method: Method::Awq,
        name: "awq",
        title: "AWQ",
        help: "scales columns with large inputs up before rounding, and what makes the inputs down",
        needs: Needs::Text,
        class: None,
        without: &[],
    },
];

impl Method {
    /// Every method.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        FACTS.iter().map(|facts| facts.method)
    }

    /// Its row.
    #[must_use]
    pub fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// Whether it looks at a calibration text, if only for an importance matrix.
    #[must_use]
    pub fn is_calibrated(self) -> bool {
        self.facts().needs > Needs::Nothing
    }

    /// Whether it looks at the text itself.
    #[must_use]
    pub fn needs_text(self) -> bool {
        self.facts().needs == Needs::Text
    }

    /// The names of methods in a sentence: `rtn, imatrix, gptq and awq`.
    #[must_use]
    pub fn names(methods: impl DoubleEndedIterator<Item = Self>, and: &str) -> String {
        let mut names = methods.map(|method| method.facts().name);
        let last = names.next_back().unwrap_or_default();
        match names.collect::<Vec<_>>().join(", ") {
            others if others.is_empty() => last.to_owned(),
            others => format!("{others} {and} {last}"),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.facts().name)
    }
}

impl FromStr for Method {
    type Err = QuantizationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = FACTS.iter().find(|facts| text.trim().eq_ignore_ascii_case(facts.name));
        let unknown = || QuantizationError::UnknownMethod { name: text.to_owned() };
        named.map(|facts| facts.method).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_row_and_is_written_and_stored_by_its_name() {
        for (position, facts) in FACTS.iter().enumerate() {
            assert_eq!(facts.method as usize, position, "{}", facts.name);
            assert_eq!(facts.name.to_uppercase().parse(), Ok(facts.method));
            assert_eq!(serde_json::to_value(facts.method).unwrap(), facts.name);
            for name in facts.without {
                assert!(
                    name.parse::<crate::model::file_type::FileType>().is_ok()
                        || *name == "Q4_1_SOME_F16"
                );
            }
        }
        assert_eq!(Method::names(Method::all(), "and"), "rtn, imatrix, gptq and awq");
        assert_eq!(Method::names(Method::all().filter(|it| it.needs_text()), "or"), "gptq or awq");
    }
}
