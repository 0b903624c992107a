//! `quantbench` alone: what this machine is, and what to type next.

use super::{output, version};
use crate::error::{Error, Outcome};
use crate::hardware::probe::Machine;
use crate::host::environment::environment;
use crate::report::machine;
use crate::results::record::{HostId, HostRecord};

/// Prints what can be done next.
///
/// # Errors
/// Standard output does not take it.
pub(super) fn run() -> Result<Outcome, Error> {
    let environment = environment(&Machine::probe(), &version::build());
    let host = HostRecord { id: HostId::default(), environment };
    let text = format!(
        "{}

quantbench run                         measure twelve variants of the built-in model, in a minute
quantbench MODEL                       recommend a variant: of a GGUF, a folder of them, or owner/name[:Q4_K_M]
quantbench plan MODEL                  what of it fits and how fast it will be, before anything is fetched
quantbench tune FILE.gguf              the fastest settings for it on this machine
quantbench search WORDS                find a model's GGUFs on the Hugging Face hub
quantbench models                      models that Ollama and other programs have here
quantbench quantize MODEL --to Q4_K_M  make a variant
quantbench --help                      all commands
",
        machine(&host)
    );
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}
