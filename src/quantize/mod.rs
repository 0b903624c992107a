//! Quantization methods. `rtn` is llama.cpp's own rounding of a whole file.
//!
//! Runs inside the worker process. Uses `llama`; used by `worker`.

pub mod gptq;
pub mod rtn;
