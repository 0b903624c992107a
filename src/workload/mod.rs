//! Workloads: what is measured on a loaded model.
//!
//! `speed`, `latency`, `quality`, `encoder_quality` and `tasks` run inside the worker process. `measured` is the plain data
//! that travels from there into records and reports, `jobs` says what to measure, `applicability` which of them apply to
//! which class of architecture. `batched` is a context that reads one text at a time, `embedder` embeds several at once.
//! `softmax` and `divergence` are the arithmetic, without llama.cpp. `reference` is the file that carries the reference's
//! log-probabilities from one worker to the next, `top_row` a row of it when it cannot be kept whole. Uses `engine`,
//! `prompt` and `metrics`; used by `worker`.

pub mod applicability;
pub mod batched;
pub mod divergence;
pub mod embedder;
pub mod encoder_quality;
pub mod jobs;
pub mod latency;
pub mod measured;
pub mod quality;
pub mod reference;
pub mod softmax;
pub mod speed;
pub mod tasks;
pub mod top_row;

/// Told how far a workload is: a fraction from 0 to 1 and the latest figure in words.
pub type Progress<'a> = &'a mut dyn FnMut(f64, &str);
