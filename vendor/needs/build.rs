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
            "cargo::error=llama.cpp cannot be compiled: {} not found. Install what is missing (Debian, Ubuntu: apt-get \
             install cmake libclang-dev; Fedora: dnf install cmake clang-devel; macOS: brew install cmake llvm), or run \
             `make build`, which does. If it is installed: cmake goes into PATH, the folder of libclang into LIBCLANG_PATH",
            missing.join(" and ")
        );
    }
}
