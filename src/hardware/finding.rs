//! Findings: a fact about the machine, or the reason why it is not known.

use serde::{Deserialize, Serialize};

/// A fact about the machine, or why this machine does not tell it.
///
/// Serialized as `{"known": …}` or `{"missing": "why"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding<T> {
    /// What was found.
    Known(T),
    /// Why nothing was found: a lowercase fragment, with a remedy where there is one.
    Missing(String),
}

impl<T> Finding<T> {
    /// The fact, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Missing(_) => None,
        }
    }

    /// The reason, if the fact is not known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Missing(reason) => Some(reason),
        }
    }

    /// Turns an absent value into a finding with this reason.
    pub fn from_option(value: Option<T>, reason: impl FnOnce() -> String) -> Self {
        value.map_or_else(|| Self::Missing(reason()), Self::Known)
    }

    /// Applies `change` to a fact that is known.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Finding<U> {
        match self {
            Self::Known(value) => Finding::Known(change(value)),
            Self::Missing(reason) => Finding::Missing(reason),
        }
    }
}

impl<T> Finding<Vec<T>> {
    /// A list, or why it is empty.
    pub fn from_list(list: Vec<T>, reason: impl FnOnce() -> String) -> Self {
        Self::from_option((!list.is_empty()).then_some(list), reason)
    }
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Finding<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(error) => Self::Missing(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_value_or_a_reason_in_json() {
        let known = serde_json::to_string(&Finding::Known(3)).unwrap();
        let missing = serde_json::to_string(&Finding::<u32>::Missing("no sensor".into())).unwrap();
        assert_eq!(
            (known.as_str(), missing.as_str()),
            (r#"{"known":3}"#, r#"{"missing":"no sensor"}"#)
        );
        assert_eq!(serde_json::from_str::<Finding<u32>>(&known).unwrap(), Finding::Known(3));
    }

    #[test]
    fn a_failed_reading_keeps_its_message() {
        let finding = Finding::from("x".parse::<u32>());
        assert_eq!(finding.reason(), Some("invalid digit found in string"));
        assert_eq!(finding.known(), None);
    }
}
