//! Looks for what compiling llama.cpp needs and cargo does not bring. Cargo builds this crate beside the dependencies of
//! llama-cpp-sys-2, so that what is missing is said here and not by a panic in that crate's build script.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let cmake = env::var_os("CMAKE").unwrap_or_else(|| "cmake".into());
    let mut missing = Vec::new();
    if Command::new(&cmake).arg("--version").output().is_err() {
        missing.push("cmake");
    }
    if clang_sys::load().is_err() {
        missing.push("libclang");
    }
    if !missing.is_empty() {
        println!(
            "cargo::error={} is missing, with which llama.cpp is compiled. Install it (Debian, Ubuntu: apt-get install \
             cmake libclang-dev; Fedora: dnf install cmake clang-devel; macOS: brew install cmake llvm), or run \
             `make build`, which does. What is not found where it should be: put cmake into PATH, the folder of \
             libclang into LIBCLANG_PATH",
            missing.join(" and ")
        );
    }
}
