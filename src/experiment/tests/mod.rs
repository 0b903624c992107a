//! Tests of loading: what a file means, what is said when it is wrong, and that nothing written in
//! one can do harm.

mod meaning;
mod mutations;
mod overrides;
mod pictures;
mod tasks;
#[cfg(feature = "demo")]
mod tour;
mod wrong;

use super::resolved::Experiment;
use super::{Overrides, parse};
use std::path::Path;

/// Switches off what needs the demo, so that these tests hold for every build.
const PLAIN: &str = "\
[workloads]
latency.enabled = false
quality.enabled = false
[[models]]
source = \"hf://owner/name/model.gguf\"
";

fn load(text: &str) -> Experiment {
    parse(text.as_bytes(), Path::new("x.toml"), &Overrides::default())
        .unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

fn error(text: &str) -> String {
    let result = parse(text.as_bytes(), Path::new("x.toml"), &Overrides::default());
    result.expect_err(text).to_string()
}

fn names(experiment: &Experiment, model: usize) -> Vec<String> {
    experiment.models[model].quantizations.iter().map(ToString::to_string).collect()
}
