//! Quantization methods. `rtn` is llama.cpp's own rounding of a whole file; `gptq` replaces such a
//! file's weights by GPTQ's; `import` takes what GPTQ and AWQ checkpoints hold.
//!
//! Runs inside the worker process. Uses `llama`; used by `worker`.

pub mod gptq;
pub mod import;
pub mod rtn;
