//! Quantization methods. `rtn` is llama.cpp's own rounding of a whole file; `importance` makes the matrix
//! that such rounding can be weighted with; `gptq` replaces such a file's weights by GPTQ's; `import` takes
//! what GPTQ and AWQ checkpoints hold.
//!
//! Runs inside the worker process. Uses `llama`; used by `worker`.

pub mod gptq;
pub mod import;
pub mod importance;
pub mod rtn;
