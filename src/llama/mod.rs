//! Safe wrappers over llama.cpp; the only folder with `unsafe`.
