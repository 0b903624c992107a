//! Empty: what counts is `build.rs`.
