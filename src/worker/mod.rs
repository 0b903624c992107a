//! The worker: a child process of the same binary that loads one variant and measures it.

pub mod protocol;
