//! Tasks: questions that a model answers, and what its answers are measured by.
//!
//! `file` is what the user wrote in `[[workloads.tasks]]`, `plan` what it means, `question` one
//! example of a data set once templates have been filled in, `corpus` the passages of a task that finds some, `pictures` what
//! a task shows, `expand` goes from the first to the
//! others. Uses `dataset`, `metrics` and `prompt`; used by `experiment` itself and by whoever answers
//! (`workload`). docs/TASKS.md explains every key.

mod corpus;
mod expand;
mod file;
mod pictures;
mod plan;
mod question;

pub use corpus::CorpusPlan;
pub use pictures::PictureFile;
pub use plan::{Answering, TaskName, TaskPlan, UseCase};
pub use question::{Alternative, Asked, Question, Sought};

pub(super) use expand::expand;
pub(super) use file::TaskFile;
