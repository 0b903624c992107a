//! Dimensions of a network, and the keys and tensors that its architecture has of them.

use super::{Template, vocabulary};
use crate::files;
use crate::model::gguf::{GgmlType, RawKey};
use crate::model::text::nearest;
use crate::units::format_bytes;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use toml::{Table, Value};

/// Dimensions that have to be said, with `architecture`.
const REQUIRED: [&str; 5] =
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"];

/// A larger number is a slip; llama.cpp counts most in 32 bits.
const MOST: u64 = 1 << 24;

/// llama.cpp's `LLAMA_MAX_LAYERS`.
const MOST_LAYERS: u64 = 512;

/// A larger file has no dimensions in it.
const MOST_BYTES: u64 = 1 << 20;

/// Matrices that converters leave in F32.
const IN_F32: [&str; 4] = ["_norm.", "ffn_gate_inp", "position_embd", "token_types"];

/// `families.toml`.
#[derive(Deserialize)]
struct Families {
    defaults: BTreeMap<String, String>,
    parts: BTreeMap<String, Vec<String>>,
    keys: BTreeMap<String, Value>,
    architectures: BTreeMap<String, Family>,
}

/// What an architecture consists of.
#[derive(Deserialize)]
struct Family {
    /// Parts that are there once.
    whole: Vec<String>,
    /// Parts of every layer, by what their tensors' names begin with.
    blocks: BTreeMap<String, Vec<String>>,
    /// Keys besides those of all.
    #[serde(default)]
    keys: BTreeMap<String, Value>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "compiled in, and a test reads it")]
    toml::from_str(include_str!("families.toml")).expect("the families are TOML")
});

/// The dimensions of a network, by the names of config.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimensions {
    name: String,
    architecture: String,
    values: BTreeMap<String, u64>,
}

impl Dimensions {
    /// Reads a file with dimensions.
    ///
    /// # Errors
    /// It cannot be read, or says something that is none; in words.
    pub fn read_file(path: &Path) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("it cannot be read ({error})");
        let bytes = files::read_at_most(path, MOST_BYTES).map_err(unreadable)?;
        let bytes =
            bytes.ok_or_else(|| format!("it is larger than {}", format_bytes(MOST_BYTES)))?;
        let text = String::from_utf8(bytes).map_err(|_| "it is no UTF-8 text")?;
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| error.message().replace('\n', "; "))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::read(&name, &table)
    }

    /// Reads a table with `architecture` and dimensions.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(name: &str, table: &Table) -> Result<Self, String> {
        let families = &FAMILIES.architectures;
        let known = families.keys().cloned().collect::<Vec<_>>().join(", ");
        let architecture = match table.get("architecture").and_then(Value::as_str) {
            Some(it) if families.contains_key(it) => it.to_owned(),
            Some(it) => return Err(format!("the architecture '{it}' is none of {known}")),
            None => return Err(format!("it does not say its architecture, one of {known}")),
        };
        let mut values = BTreeMap::new();
        for (key, value) in table.iter().filter(|(key, _)| *key != "architecture") {
            let names = || REQUIRED.into_iter().chain(FAMILIES.defaults.keys().map(String::as_str));
            if !names().any(|name| name == key) {
                let hint = nearest(key, names()).map(|name| format!("; did you mean '{name}'?"));
                return Err(format!("'{key}' is no dimension{}", hint.unwrap_or_default()));
            }
            let number = match value {
                Value::Boolean(value) => Some(u64::from(*value)),
                Value::Integer(value) => u64::try_from(*value).ok(),
                // As config.json writes bases of frequencies.
                Value::Float(value) if value.fract() == 0.0 => format!("{value:.0}").parse().ok(),
                _ => None,
            };
            let most = if key == "num_hidden_layers" { MOST_LAYERS } else { MOST };
            let least = u64::from(REQUIRED.contains(&key.as_str()));
            let number = number.filter(|number| (least..=most).contains(number));
            let wrong = || format!("'{key}' is {value}, no whole number from {least} to {most}");
            values.insert(key.clone(), number.ok_or_else(wrong)?);
        }
        if let Some(missing) = REQUIRED.iter().find(|key| !values.contains_key(**key)) {
            return Err(format!("it does not say '{missing}'"));
        }
        let dimensions = Self { name: name.to_owned(), architecture, values };
        let fewest = vocabulary::FEWEST;
        if dimensions.at("vocab_size", 0) < fewest {
            return Err(format!("'vocab_size' is below {fewest}, which bytes alone need"));
        }
        dimensions.check_heads()?;
        Ok(dimensions)
    }

    /// Whether what heads share divides without a rest: llama.cpp would stop the process.
    fn check_heads(&self) -> Result<(), String> {
        let of = |name: &str| self.at(name, 0);
        let mut pairs = vec![("num_attention_heads", "num_key_value_heads")];
        if !self.values.contains_key("head_dim") {
            pairs.push(("hidden_size", "num_attention_heads"));
        }
        for (whole, part) in pairs {
            if !of(whole).is_multiple_of(of(part).max(1)) {
                let (value, by) = (of(whole), of(part));
                let hint = if part == "num_attention_heads" { " (or say 'head_dim')" } else { "" };
                return Err(format!("'{whole}' is {value}, no multiple of '{part}', {by}{hint}"));
            }
        }
        Ok(())
    }

    /// A network of an architecture with these values and so many positions.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(architecture: &str, values: &[(&str, u64)], positions: u32) -> Result<Self, String> {
        let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let values = values.iter().map(|&(name, value)| (name.to_owned(), number(value)));
        let mut table: Table = values.collect();
        table.insert("architecture".to_owned(), Value::String(architecture.to_owned()));
        table.insert("max_position_embeddings".to_owned(), number(positions.into()));
        Self::read(architecture, &table)
    }

    /// Names of the weights that quantization rounds.
    pub fn matrices(&self) -> Vec<String> {
        let tensors = self.tensors().into_iter();
        tensors.filter(|(_, _, format)| *format == GgmlType::F16).map(|it| it.0).collect()
    }

    fn family(&self) -> &'static Family {
        &FAMILIES.architectures[&self.architecture]
    }

    /// A dimension of a layer by its name.
    fn at(&self, name: &str, layer: u64) -> u64 {
        if let Some(value) = self.values.get(name) {
            return *value;
        }
        let of = |name: &str| self.at(name, layer);
        let has_experts = of_layer(name) && {
            let all = of("num_experts");
            all > 0 && layer >= of("first_k_dense_replace")
        };
        match name {
            "first" => u64::from(layer == 0),
            "dense" if has_experts => 0,
            "dense" => of("intermediate_size"),
            "experts" | "shared" if !has_experts => 0,
            "experts" => of("num_experts"),
            "shared" => of("n_shared_experts").saturating_mul(of("moe_intermediate_size")),
            "untied" if of("tie_word_embeddings") > 0 => 0,
            "untied" => of("vocab_size"),
            _ => FAMILIES.defaults.get(name).map_or(0, |default| self.value(default, layer)),
        }
    }

    /// A sum of products: `2*a+b/2`.
    pub(crate) fn value(&self, expression: &str, layer: u64) -> u64 {
        let number = |text: &str| text.parse().unwrap_or_else(|_| self.at(text, layer));
        let factor = |text: &str| match text.split_once('/') {
            None => number(text),
            Some((value, by)) => number(value).checked_div(number(by)).unwrap_or(0),
        };
        let product = |text: &str| text.split('*').map(factor).fold(1, u64::saturating_mul);
        expression.split('+').map(product).fold(0, u64::saturating_add)
    }

    /// Names, dimensions and formats of its tensors.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<u64>, GgmlType)> {
        let Family { whole, blocks, .. } = self.family();
        let mut tensors = Vec::new();
        let mut add = |parts: &[String], before: &str, layer: u64| {
            for line in parts.iter().flat_map(|part| &FAMILIES.parts[part]) {
                let mut words = line.split(' ');
                let name = format!("{before}{}", words.next().unwrap_or_default());
                let dimensions: Vec<u64> = words.map(|it| self.value(it, layer)).collect();
                if !dimensions.contains(&0) {
                    let is_f32 = dimensions.len() == 1
                        || !name.ends_with("weight")
                        || IN_F32.iter().any(|part| name.contains(part));
                    let format = if is_f32 { GgmlType::F32 } else { GgmlType::F16 };
                    tensors.push((name, dimensions, format));
                }
            }
        };
        add(whole, "", 0);
        for (prefix, parts) in blocks {
            for layer in 0..self.at("num_hidden_layers", 0) {
                add(parts, &format!("{prefix}.{layer}."), layer);
            }
        }
        tensors
    }

    /// Metadata keys of the model, its vocabulary included.
    fn keys(&self) -> Vec<RawKey> {
        let architecture = &self.architecture;
        // For models that are called phi-3, llama.cpp looks for special tokens of theirs.
        let name = self.name.replace('-', " ").replace("phi3", "phi 3");
        let mut keys = vec![
            RawKey::text("general.architecture", architecture),
            RawKey::text("general.type", "model"),
            RawKey::text("general.name", &format!("{name} (generated weights)")),
            RawKey::u32("general.quantization_version", 2),
        ];
        #[expect(clippy::cast_precision_loss, reason = "at most 2^24, which f32 holds")]
        let base = self.at("rope_theta", 0) as f32;
        keys.push(RawKey::f32(&format!("{architecture}.rope.freq_base"), base));
        let own = &self.family().keys;
        let others = FAMILIES.keys.iter().filter(|(key, _)| !own.contains_key(*key));
        for (key, value) in others.chain(own) {
            let name = format!("{architecture}.{key}");
            keys.extend(match value {
                #[expect(clippy::cast_possible_truncation, reason = "what a GGUF has is f32")]
                Value::Float(value) => Some(RawKey::f32(&name, *value as f32)),
                Value::Boolean(value) => Some(RawKey::bool(&name, *value)),
                Value::Integer(value) => {
                    u32::try_from(*value).ok().map(|value| RawKey::u32(&name, value))
                }
                Value::String(expression) => {
                    let value = u32::try_from(self.value(expression, 0)).unwrap_or(u32::MAX);
                    (value > 0).then(|| RawKey::u32(&name, value))
                }
                _ => None,
            });
        }
        keys.extend(vocabulary::keys(self.at("vocab_size", 0)));
        keys
    }

    /// The header of its file.
    ///
    /// # Errors
    /// A tensor cannot be, in words.
    pub fn template(&self) -> Result<Template, String> {
        Template::new(self.keys(), self.tensors().into_iter())
    }

    /// Number of weights.
    #[cfg(test)]
    pub(super) fn parameters(&self) -> Option<u64> {
        let count = |(_, dimensions, _): (String, Vec<u64>, GgmlType)| {
            dimensions.into_iter().try_fold(1, u64::checked_mul)
        };
        self.tensors().into_iter().map(count).sum()
    }

    /// The same network with other values.
    #[cfg(test)]
    pub(crate) fn with(&self, values: &[(&str, u64)]) -> Self {
        let mut other = self.clone();
        other.values.extend(values.iter().map(|&(name, value)| (name.to_owned(), value)));
        other
    }

    /// Its architecture.
    #[cfg(test)]
    pub(crate) fn architecture(&self) -> &str {
        &self.architecture
    }
}

/// Whether a dimension depends on whether its layer has experts.
fn of_layer(name: &str) -> bool {
    matches!(name, "dense" | "experts" | "shared")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dimensions, String> {
        Dimensions::read("mine", &text.parse().unwrap())
    }

    const TINY: &str = "architecture = 'llama'\nhidden_size = 64\nnum_hidden_layers = 2\n\
        num_attention_heads = 4\nintermediate_size = 96\nvocab_size = 320\n";

    #[test]
    fn every_name_of_the_families_is_one() {
        let known = |name: &str| {
            let of_layers = ["first", "dense", "experts", "shared", "untied"];
            REQUIRED.contains(&name)
                || of_layers.contains(&name)
                || FAMILIES.defaults.contains_key(name)
                || name.parse::<u64>().is_ok()
        };
        let check = |expression: &str| {
            for name in expression.split(['*', '+', '/']) {
                assert!(known(name), "'{name}' in '{expression}'");
            }
        };
        let words = |line: &'static String| line.split(' ').skip(1);
        FAMILIES.parts.values().flatten().flat_map(words).for_each(check);
        FAMILIES.defaults.values().for_each(|expression| check(expression));
        let own = FAMILIES.architectures.values().flat_map(|family| &family.keys);
        for value in FAMILIES.keys.iter().chain(own).filter_map(|(_, value)| value.as_str()) {
            check(value);
        }
        for family in FAMILIES.architectures.values() {
            for part in family.whole.iter().chain(family.blocks.values().flatten()) {
                assert!(FAMILIES.parts.contains_key(part), "{part}");
            }
        }
    }

    #[test]
    fn dimensions_that_are_not_said_follow_from_the_others() {
        let dimensions = read(TINY).unwrap();
        let tensors = dimensions.tensors();
        let find = |name: &str| tensors.iter().find(|it| it.0 == name).map(|it| it.1.clone());
        assert_eq!(find("blk.1.attn_k.weight"), Some(vec![64, 64]));
        assert_eq!(find("output.weight"), Some(vec![64, 320]));
        assert_eq!((find("blk.0.ffn_gate_inp.weight"), find("rope_freqs.weight")), (None, None));
        let grouped = dimensions.with(&[("num_key_value_heads", 2), ("head_dim", 32)]);
        let value = grouped.tensors().into_iter().find(|it| it.0 == "blk.0.attn_v.weight");
        assert_eq!(value.unwrap().1, [64, 64]);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        for (text, expected) in [
            ("hidden_size = 64", "does not say its architecture, one of bert, deepseek2"),
            ("architecture = 'x'", "'x' is none of bert"),
            (&TINY.replace("vocab_size = 320", ""), "does not say 'vocab_size'"),
            (&TINY.replace("320", "20"), "below 259"),
            (&TINY.replace("= 64", "= -1"), "'hidden_size' is -1, no whole number from 1"),
            (&format!("{TINY}hiden_size = 1"), "did you mean 'hidden_size'?"),
            (&TINY.replace("layers = 2", "layers = 1000"), "from 1 to 512"),
            (&TINY.replace("heads = 4", "heads = 5"), "'hidden_size' is 64, no multiple of"),
            (&format!("{TINY}num_key_value_heads = 3"), "is 4, no multiple of 'num_key_value"),
            (&format!("{TINY}num_key_value_heads = 8"), "is 4, no multiple of 'num_key_value"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
