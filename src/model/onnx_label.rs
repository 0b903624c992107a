//! Labels of ONNX graphs: how most weights are stored, and the graph's own name where several are stored alike.

use super::file_type::FileType;
use crate::onnx::storage::Stored;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What a graph is called of whose weights nothing is known.
const UNKNOWN: &str = "onnx-unknown";

/// What stands before a graph's own name.
const BEFORE_NAME: char = '/';

/// Most bytes of a graph's own name.
const LONGEST_NAME: usize = 200;

/// How most weights of a graph are stored, in a word; its storage tells more.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct OnnxType {
    name: &'static str,
    /// The file type of llama.cpp with about as many bits.
    nearest: &'static str,
}

const fn onnx(name: &'static str, nearest: &'static str) -> OnnxType {
    OnnxType { name, nearest }
}

static ONNX: [OnnxType; 15] = [
    onnx("onnx-fp32", "F32"),
    onnx("onnx-fp16", "F16"),
    onnx("onnx-bf16", "BF16"),
    onnx("onnx-int8", "Q8_0"),
    onnx("onnx-int8-static", "Q8_0"),
    onnx("onnx-int8-dynamic", "Q8_0"),
    onnx("onnx-int8-asym", "Q8_0"),
    onnx("onnx-int4-asym", "Q4_1"),
    onnx("onnx-int4", "Q4_0"),
    onnx("onnx-nf4", "Q4_0"),
    onnx("onnx-fp4", "Q4_0"),
    onnx("onnx-int2-asym", "Q2_K"),
    onnx("onnx-int2", "Q2_K"),
    onnx("onnx-int1", "IQ1_S"),
    // A graph whose file cannot be read, or without weights that are known.
    onnx(UNKNOWN, "IQ1_S"),
];

/// The label of a graph: `onnx-int4`, or `onnx-int4/model_q4f16` where several are stored alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OnnxLabel {
    stored: &'static OnnxType,
    /// The whole label, if it has a graph's own name.
    whole: Option<&'static str>,
}

impl OnnxLabel {
    /// How weights of a graph are stored; `None`: it is not known.
    pub fn of(stored: Option<Stored>) -> Self {
        let name = match stored {
            Some(Stored::F64 | Stored::F32) => "onnx-fp32",
            Some(Stored::F16) => "onnx-fp16",
            Some(Stored::Bf16) => "onnx-bf16",
            Some(Stored::DynamicInt { .. }) => "onnx-int8-dynamic",
            Some(Stored::StaticInt { bits: 8.. }) => "onnx-int8-static",
            Some(Stored::Bnb4 { normal: true, .. }) => "onnx-nf4",
            Some(Stored::Bnb4 { normal: false, .. }) => "onnx-fp4",
            // With zero points.
            Some(Stored::Blocks { bits, symmetric: false, .. }) => match bits {
                8 => "onnx-int8-asym",
                4 => "onnx-int4-asym",
                2 => "onnx-int2-asym",
                _ => UNKNOWN,
            },
            Some(
                Stored::Blocks { bits, .. }
                | Stored::WeightOnlyInt { bits, .. }
                | Stored::StaticInt { bits },
            ) => match bits {
                8 => "onnx-int8",
                4 => "onnx-int4",
                2 => "onnx-int2",
                1 => "onnx-int1",
                _ => UNKNOWN,
            },
            None => UNKNOWN,
        };
        let unknown = &ONNX[ONNX.len() - 1];
        let stored = ONNX.iter().find(|it| it.name == name).unwrap_or(unknown);
        Self { stored, whole: None }
    }

    /// Every label without a graph's own name.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = Self> {
        ONNX.iter().map(|stored| Self { stored, whole: None })
    }

    /// Reads a label; `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let (stored, name) = match text.split_once(BEFORE_NAME) {
            None => (text, None),
            Some((stored, name)) => (stored, Some(name)),
        };
        let stored = ONNX.iter().find(|it| it.name.eq_ignore_ascii_case(stored))?;
        let plain = Self { stored, whole: None };
        match name {
            None => Some(plain),
            Some(name) => {
                let is_name =
                    !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(is_plain);
                is_name.then(|| plain.named(name))
            }
        }
    }

    /// With a graph's own name behind it. What would have to be quoted on a command line becomes `-`.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let name = name.chars().take(LONGEST_NAME).map(|c| if is_plain(c) { c } else { '-' });
        let name: String = name.collect();
        let whole = kept(format!("{}{BEFORE_NAME}{name}", self.stored.name));
        Self { whole: Some(whole), ..self }
    }

    /// The label as it is written.
    pub fn name(self) -> &'static str {
        self.whole.unwrap_or(self.stored.name)
    }

    /// Whether nothing is known of the weights.
    pub fn is_unknown(self) -> bool {
        self.stored.name == UNKNOWN
    }

    /// Whether it is what is asked for: one without a name is met by every graph that is stored so.
    pub fn meets(self, wanted: Self) -> bool {
        self.stored == wanted.stored && (wanted.whole.is_none() || self.whole == wanted.whole)
    }

    /// The file type of llama.cpp that has about as many bits per weight.
    pub fn nearest(self) -> Option<FileType> {
        self.stored.nearest.parse().ok()
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

/// Keeps a text until the process ends, once: labels are copied, and there are few.
fn kept(text: String) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text.as_str()) {
        return known;
    }
    let text: &'static str = text.leak();
    kept.insert(text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_named_by_how_most_weights_are_stored() {
        let blocks = |bits| Stored::Blocks { bits, block: 32, symmetric: true, accuracy_level: 4 };
        for (stored, name) in [
            (Some(Stored::F32), "onnx-fp32"),
            (Some(blocks(4)), "onnx-int4"),
            (Some(blocks(8)), "onnx-int8"),
            (Some(Stored::DynamicInt { bits: 8 }), "onnx-int8-dynamic"),
            (Some(Stored::StaticInt { bits: 8 }), "onnx-int8-static"),
            (Some(Stored::Bnb4 { block: 64, normal: true }), "onnx-nf4"),
            (Some(blocks(3)), UNKNOWN),
            (None, UNKNOWN),
        ] {
            assert_eq!(OnnxLabel::of(stored).name(), name);
        }
    }

    #[test]
    fn a_graph_of_several_has_its_name_behind_the_storage() {
        let plain = OnnxLabel::of(Some(Stored::F16));
        let own = plain.named("model, fp16");
        assert_eq!(own.name(), "onnx-fp16/model--fp16");
        assert_eq!(OnnxLabel::read("ONNX-fp16/model--fp16"), Some(own));
        assert!(own.meets(plain) && own.meets(own) && !plain.meets(own));
        assert!(!own.meets(plain.named("other")));
        for wrong in ["onnx-fp16/", "onnx-fp16/a b", "onnx-fp17/a", "fp16"] {
            assert_eq!(OnnxLabel::read(wrong), None, "{wrong}");
        }
    }
}
