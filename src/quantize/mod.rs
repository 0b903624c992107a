//! Quantization methods.
