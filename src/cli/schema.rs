//! `quantbench schema NAME`: what the JSON of commands looks like.

use super::output;
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use clap::Args;

/// The schemas of docs/schema, which packages have, too; each has its version in its `$id`.
const SCHEMAS: [(&str, &str); 13] = [
    ("run", include_str!("../../docs/schema/run.json")),
    ("trial", include_str!("../../docs/schema/trial.json")),
    ("compare", include_str!("../../docs/schema/compare.json")),
    ("devices", include_str!("../../docs/schema/devices.json")),
    ("inspect", include_str!("../../docs/schema/inspect.json")),
    ("list", include_str!("../../docs/schema/list.json")),
    ("plan", include_str!("../../docs/schema/plan.json")),
    ("query", include_str!("../../docs/schema/query.json")),
    ("recommendation", include_str!("../../docs/schema/recommendation.json")),
    ("status", include_str!("../../docs/schema/status.json")),
    ("tables", include_str!("../../docs/schema/tables.json")),
    ("trend", include_str!("../../docs/schema/trend.json")),
    ("tune", include_str!("../../docs/schema/tune.json")),
];

/// Flags of `quantbench schema`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Which JSON, as its field `format` names it: run for quantbench.run; left out: which there are
    pub name: Option<String>,
}

/// Prints a schema, or the names of all.
///
/// # Errors
/// If there is none of that name.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let names = || SCHEMAS.map(|(name, _)| name).join("\n");
    let text = match &arguments.name {
        None => names() + "\n",
        Some(wanted) => {
            let wanted = wanted.trim_start_matches("quantbench.");
            let found = SCHEMAS.iter().find(|(name, _)| *name == wanted);
            let help = || {
                format!("there is no schema '{wanted}'; there are {}", names().replace('\n', ", "))
            };
            found.ok_or_else(|| Problem::new(help()))?.1.to_owned()
        }
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn every_schema_is_listed_and_says_its_version() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
        let files: BTreeSet<String> = files.map(|name| name.into_string().unwrap()).collect();
        let listed: BTreeSet<String> =
            SCHEMAS.iter().map(|(name, _)| format!("{name}.json")).collect();
        assert_eq!(files, listed);
        for (name, text) in SCHEMAS {
            let schema: Value = serde_json::from_str(text).unwrap();
            let properties = &schema["properties"];
            assert_eq!(properties["format"]["const"], format!("quantbench.{name}"));
            let version = &properties["version"]["const"];
            assert_eq!(schema["$id"], format!("urn:quantbench:{name}:{version}"));
        }
    }
}
