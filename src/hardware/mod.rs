//! Hardware: what the machine is (`probe`), what it is doing while a worker runs (`monitor`, and over
//! time `timeline`), and how fast it reads memory (`bandwidth`) and computes (`rates`, which the orchestrator has workers measure).
//!
//! Uses no other module. The orchestrator monitors workers with it, `quantbench devices` shows what it
//! finds. Everything that reads `/proc` or `/sys` goes through [`root::SystemRoot`], so tests run on
//! trees of their own; everything a machine lacks is a [`finding::Finding`] that says why.

pub mod bandwidth;
pub mod cgroup;
pub mod disk;
pub mod energy;
pub mod finding;
pub mod gpu;
pub mod memory;
pub mod monitor;
pub mod power;
pub mod probe;
pub mod processor;
pub mod rates;
pub mod root;
pub mod timeline;
pub mod usage;

mod elsewhere;
mod instruments;
mod nvml;
mod process;
mod recorder;
mod seen;
mod sensors;
