//! `quantbench --version`: what this program is and, on request, what it was built from.

use super::output;
use crate::engine::onnxruntime::library;
use crate::error::{Error, Outcome};
use crate::host::environment::Build;
use crate::host::interrupt::Interrupt;
use crate::host::local::LocalHost;
use crate::model::engine_name::{EngineIdentity, EngineName};
use std::fmt::Write as _;

/// Set by build.rs; a build that could not find something out says so.
const UNKNOWN: &str = "unknown";

macro_rules! built {
    ($variable:literal) => {
        match option_env!($variable) {
            Some(value) => value,
            None => UNKNOWN,
        }
    };
}

/// What this program was built from: names for people with their values.
const PARTS: [(&str, &str); 9] = [
    ("commit", built!("QUANTBENCH_COMMIT")),
    ("llama.cpp", built!("QUANTBENCH_LLAMA_VERSION")),
    ("ggml", built!("QUANTBENCH_GGML_VERSION")),
    ("llama.cpp's build", built!("QUANTBENCH_LLAMA_PROFILE")),
    ("for this processor", built!("QUANTBENCH_LLAMA_NATIVE")),
    ("target", built!("QUANTBENCH_TARGET")),
    ("Rust", built!("QUANTBENCH_RUSTC")),
    ("C++", built!("QUANTBENCH_CXX")),
    ("features", built!("QUANTBENCH_FEATURES")),
];

/// The build, as every stored run names it.
#[must_use]
pub fn build() -> Build {
    let flags = PARTS.iter().skip(3).map(|(name, value)| format!("{name} {value}"));
    Build {
        quantbench: format!("{} ({})", env!("CARGO_PKG_VERSION"), PARTS[0].1),
        engines: vec![engine(EngineName::LlamaCpp)],
        flags: flags.collect::<Vec<_>>().join("; "),
    }
}

/// This machine, whose workers run this build.
///
/// # Errors
/// The system does not tell where this program is.
pub(super) fn local_host(interrupt: Interrupt) -> std::io::Result<LocalHost> {
    LocalHost::new(build(), interrupt)
}

/// An engine of this build, as every trial that it computes names it.
#[must_use]
pub fn engine(name: EngineName) -> EngineIdentity {
    let version = match name {
        EngineName::LlamaCpp => PARTS[1].1.to_owned(),
        // Where there is none, or none that can be used, its trials say why.
        EngineName::OnnxRuntime => {
            library::find().and_then(|found| found.version()).unwrap_or_default()
        }
        #[cfg(test)]
        EngineName::Toy => "1".to_owned(),
    };
    EngineIdentity { name, version }
}

/// What makes variants: another version of llama.cpp may round otherwise.
#[must_use]
pub fn maker() -> String {
    format!("llama.cpp {}", PARTS[1].1)
}

/// Prints the version; with `verbose` also what the program was built from.
///
/// # Errors
/// Standard output does not take it.
pub fn run(verbose: bool) -> Result<Outcome, Error> {
    let mut text = format!("quantbench {}\n", env!("CARGO_PKG_VERSION"));
    if verbose {
        let width = PARTS.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in PARTS {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:width$}  {value}");
        }
    }
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}
