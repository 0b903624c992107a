//! Retrieval: passages cut into chunks, and an index of their embeddings that finds the nearest.
//!
//! Knows nothing of models: the caller counts tokens and embeds. `chunk` cuts, `index` wraps an
//! HNSW graph and keeps it in a file. Uses no other folder; used by `workload`.

pub mod chunk;
pub mod index;
