//! The file of an adapter, checked against the model that it changes.

use super::{ResolveOptions, Resolved, checksum, what_else};
use crate::causes::Problem;
use crate::model::adapter::{Adapter, AdapterSource};
use crate::model::artifact::Artifact;
use crate::model::cache::Cache;
use crate::model::gguf::{Header, Value};

/// Looks at the files of adapters of a model.
///
/// # Errors
/// One is no adapter, or one of another architecture.
pub fn adapters(
    sources: &[AdapterSource],
    model: &Resolved,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Vec<Adapter>, Problem> {
    let Some(first) = model.ready.first().filter(|_| !sources.is_empty()) else {
        return Ok(Vec::new());
    };
    let base = match &first.remote {
        Some(remote) if !first.artifact.path.exists() => remote.header(&options.hub)?,
        _ => Header::read(&first.artifact.path)?,
    };
    let adapter = |AdapterSource { path, scale }: &AdapterSource| {
        let shown = path.display();
        let header = Header::read(path)?;
        let text = |key| header.get(key).and_then(Value::as_text);
        if text("general.type") != Some("adapter") {
            let holds = what_else(&header).unwrap_or_else(|| "a model".to_owned());
            return Err(Problem::new(format!("{shown} is no adapter (LoRA): it holds {holds}")));
        }
        if let Some(kind) = text("adapter.type").filter(|kind| *kind != "lora") {
            let message =
                format!("{shown} is an adapter of the kind '{kind}'; only LoRA is applied");
            return Err(Problem::new(message));
        }
        let (own, models) = (header.architecture(), base.architecture());
        if own != models {
            return Err(Problem::new(format!(
                "{shown} is an adapter for the architecture '{own}', but the model's is '{models}'"
            )));
        }
        let checksum = checksum(path, cache, options)?;
        let file = Artifact::found(path.clone(), checksum, header.file_bytes);
        Ok(Adapter { file, scale: *scale })
    };
    sources.iter().map(adapter).collect()
}
