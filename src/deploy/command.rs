//! How llama-server is told: its long flags, in the order in which people read them.

use super::Deployment;
use crate::causes::Problem;
use crate::report::quoted;
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
        flags.extend(self.settings.changed().into_iter().filter_map(|(short, value)| {
            Some(match short {
                "t" => ("threads", Some(value)),
                "tb" => ("threads-batch", Some(value)),
                "ngl" => ("n-gpu-layers", Some(value)),
                "fa" => ("flash-attn", Some(value)),
                "b" => ("batch-size", Some(value)),
                "ub" => ("ubatch-size", Some(value)),
                "ctk" => ("cache-type-k", Some(value)),
                "ctv" => ("cache-type-v", Some(value)),
                "sm" => ("split-mode", Some(value)),
                "ts" => ("tensor-split", Some(value.replace('/', ","))),
                "mg" => ("main-gpu", Some(value)),
                "nkvo" => ("no-kv-offload", None),
                "mmap" => ("no-mmap", None),
                "repack" => ("no-repack", None),
                "nopo" => ("no-op-offload", None),
                "swa-full" => ("swa-full", None),
                "cmoe" => ("cpu-moe", None),
                _ => return None,
            })
        }));
        for (path, scale) in &self.adapters {
            flags.push(("lora-scaled", Some(format!("{}:{scale}", self.text(path)?))));
        }
        flags.extend(self.embeds.then_some(("embedding", None)));
        Ok(flags)
    }

    /// Words behind `llama-server`, which listens at `host`.
    pub(super) fn words(&self, file: &Path, host: &str) -> Result<Vec<String>, Problem> {
        let mut words = Vec::new();
        for (flag, value) in self.flags(file)? {
            words.push(format!("--{flag}"));
            words.extend(value);
        }
        words.extend(
            ["--host", host, "--port", &self.port.to_string(), "--metrics"].map(str::to_owned),
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
