//! Workloads: what is measured on a loaded model. Runs inside the worker process only, except for
//! `measured`, the plain data that travels.

pub mod measured;
