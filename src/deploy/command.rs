//! How llama-server is told: its long flags, in the order in which people read them.

use super::Deployment;
use crate::causes::Problem;
use crate::report::{quoted, server_settings};
use std::path::Path;

impl Deployment {
    /// Long flags without dashes and their values, `None` where there is none. The model is `file`.
    pub(super) fn flags(
        &self,
        file: &Path,
    ) -> Result<Vec<(&'static str, Option<String>)>, Problem> {
        let mut flags = vec![
            ("model", Some(self.text(file)?.to_owned())),
            ("alias", Some(self.name.clone())),
            ("ctx-size", Some(self.tokens().to_string())),
            ("parallel", Some(self.parallel.to_string())),
            // A cache of prompts beside the slots' own, of 8 GiB, was in no measured peak.
            ("cache-ram", Some("0".to_owned())),
        ];
        flags.extend(server_settings(&self.settings).map(|(_, long, value)| (long, value)));
        for (path, scale) in &self.adapters {
            flags.push(("lora-scaled", Some(format!("{}:{scale}", self.text(path)?))));
        }
        flags.extend(self.embeds.then_some(("embedding", None)));
        Ok(flags)
    }

    /// Words behind `llama-server`, which listens at `host`; its port comes last.
    pub(super) fn words(&self, file: &Path, host: &str) -> Result<Vec<String>, Problem> {
        let mut words = Vec::new();
        for (flag, value) in self.flags(file)? {
            words.push(format!("--{flag}"));
            words.extend(value);
        }
        words.extend(
            ["--host", host, "--metrics", "--port", &self.port.to_string()].map(str::to_owned),
        );
        Ok(words)
    }

    /// The command as a shell takes it.
    pub(super) fn shell(&self) -> Result<String, Problem> {
        let words = self.words(&self.file, "127.0.0.1")?;
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        Ok(format!("llama-server {}", words.join(" ")))
    }
}
