//! Quantization methods. `rtn` is llama.cpp's own rounding of a whole file; `import` takes what GPTQ and
//! AWQ checkpoints hold.
//!
//! Runs inside the worker process. Uses `llama`; used by `worker`.

pub mod import;
pub mod rtn;
