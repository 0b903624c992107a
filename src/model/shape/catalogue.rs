//! The catalogue: public models by name, as the folder `catalogue/` has them.

use super::dimensions::Dimensions;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use toml::{Table, Value};

/// A public model.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The repository on the hub whose config.json has its dimensions.
    pub source: String,
    /// Weights, as its publisher counts them.
    pub parameters: u64,
    /// Its dimensions.
    pub dimensions: Dimensions,
}

const WRITTEN: &str =
    concat!(include_str!("catalogue/dense.toml"), include_str!("catalogue/others.toml"));

static ENTRIES: LazyLock<BTreeMap<String, Entry>> = LazyLock::new(|| {
    let read: Result<BTreeMap<String, Table>, _> = toml::from_str(WRITTEN);
    #[expect(clippy::expect_used, reason = "compiled in, and a test reads it")]
    let tables = read.expect("the catalogue is TOML");
    let entry = |(name, mut table): (String, Table)| {
        let source = table.remove("source").and_then(|it| it.as_str().map(str::to_owned))?;
        let parameters = table.remove("parameters").as_ref().and_then(Value::as_integer)?;
        let (parameters, dimensions) =
            (u64::try_from(parameters).ok()?, Dimensions::read(&name, &table).ok()?);
        Some((name, Entry { source, parameters, dimensions }))
    };
    tables.into_iter().filter_map(entry).collect()
});

/// All of them, by name.
pub fn entries() -> &'static BTreeMap<String, Entry> {
    &ENTRIES
}

/// The name in the catalogue that is written so, in any case.
pub(super) fn named(text: &str) -> Option<&'static str> {
    ENTRIES.keys().map(String::as_str).find(|name| name.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::to_f64;

    #[test]
    fn every_entry_is_read_has_a_source_and_as_many_weights_as_its_publisher_says() {
        let written: BTreeMap<String, Table> = toml::from_str(WRITTEN).unwrap();
        for (name, table) in &written {
            let mut dimensions = table.clone();
            dimensions.retain(|key, _| key != "source" && key != "parameters");
            assert_eq!(Dimensions::read(name, &dimensions).map(|_| ()), Ok(()), "{name}");
        }
        assert_eq!(entries().len(), written.len());
        let guide = include_str!("../../../docs/SHAPES.md");
        assert_eq!(written.keys().find(|name| !guide.contains(&format!("`{name}`"))), None);
        assert!(written.len() >= 25);
        for (name, entry) in entries() {
            assert_eq!(entry.source.split('/').count(), 2, "{name}: {}", entry.source);
            let made = to_f64(entry.dimensions.parameters().unwrap());
            let ratio = made / to_f64(entry.parameters);
            assert!((ratio - 1.0).abs() < 0.001, "{name} has {made}, {ratio} of what is published");
        }
    }

    #[test]
    fn what_a_model_shares_between_input_and_output_is_there_once() {
        let has_output = |name: &str| {
            let tensors = entries()[name].dimensions.tensors();
            tensors.iter().any(|(tensor, ..)| tensor == "output.weight")
        };
        for (name, expected) in [
            ("llama-3.2-1b", false),
            ("llama-3.1-8b", true),
            ("qwen2.5-3b", false),
            ("qwen2.5-7b", true),
            ("qwen3-4b", false),
            ("qwen3-8b", true),
            ("gemma-2-2b", false),
            ("smollm2-135m", false),
            ("t5-small", false),
            ("flan-t5-base", true),
        ] {
            assert_eq!(has_output(name), expected, "{name}");
        }
    }
}
