//! GPTQ (Frantar et al. 2022, arXiv:2210.17323) in ggml's block formats.

mod block;
mod factor;
mod layout;
mod part;
mod solve;
mod sweep;
#[cfg(test)]
mod testing;
mod trial;
