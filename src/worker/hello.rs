//! The first line on every pipe: who speaks, so that two versions do not misunderstand each other.

use serde::{Deserialize, Serialize};

/// The number of the messages' form; it is raised when one changes its meaning.
const PROTOCOL: u32 = 7;

/// Says who writes to a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's number.
    pub hello: u32,
    /// The version of quantbench.
    pub quantbench: String,
}

impl Default for Hello {
    /// This program's.
    fn default() -> Self {
        Self { hello: PROTOCOL, quantbench: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

impl Hello {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        format!("{{\"hello\":{},\"quantbench\":\"{}\"}}\n", self.hello, self.quantbench)
            .into_bytes()
    }

    /// Checks the first line of the other end, which `who` names (`the worker`).
    ///
    /// # Errors
    /// In a sentence: it is another version; `None` where the line is no hello at all.
    pub fn check(line: &[u8], who: &str) -> Result<(), Option<String>> {
        let Ok(other) = serde_json::from_slice::<Self>(line) else { return Err(None) };
        let own = Self::default();
        if other == own {
            return Ok(());
        }
        let version: String =
            other.quantbench.chars().filter(|c| !c.is_control()).take(40).collect();
        Err(Some(format!(
            "{who} is quantbench {version} (protocol {}) and this is quantbench {} (protocol {}); \
             install the same version at both ends",
            other.hello, own.quantbench, own.hello
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_with_both() {
        assert_eq!(Hello::check(&Hello::default().line(), "the worker"), Ok(()));
        let other = Hello { hello: 9, quantbench: "7.7.7\u{1b}".to_owned() };
        let line = serde_json::to_vec(&other).unwrap();
        let told = Hello::check(&line, "the worker").unwrap_err().unwrap();
        let own = env!("CARGO_PKG_VERSION");
        assert!(
            told.starts_with("the worker is quantbench 7.7.7 (protocol 9) and this is"),
            "{told}"
        );
        assert!(
            told.contains(&format!("quantbench {own} (protocol {PROTOCOL}); install")),
            "{told}"
        );
        assert_eq!(Hello::check(b"{\"event\":\"phase\"}", "the worker"), Err(None));
    }
}
