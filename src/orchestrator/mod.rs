//! The benchmark sequence: for each variant start a worker, watch it, record what it says.
