//! Compiles and binds the shim, checks that llama.cpp is the version that `vendor/UPSTREAM.toml`
//! names, and records what the program was built from.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const UPSTREAM: &str = "vendor/UPSTREAM.toml";
const SHIM_HEADER: &str = "vendor/shim/quantbench_shim.h";
const SHIM_SOURCE: &str = "vendor/shim/quantbench_shim.cpp";
const SHIM_GUARD: &str = "vendor/shim/quantbench_guarded.h";
/// What needs libmtmd, which only the feature `multimodal` compiles.
const PICTURES_HEADER: &str = "vendor/shim/quantbench_pictures.h";
const PICTURES_SOURCE: &str = "vendor/shim/quantbench_pictures.cpp";

#[derive(Deserialize)]
struct Upstream {
    package: Package,
    llama_cpp: LlamaCpp,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct LlamaCpp {
    version: String,
    ggml_version: String,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

fn main() {
    let shim = [SHIM_HEADER, SHIM_SOURCE, SHIM_GUARD, PICTURES_HEADER, PICTURES_SOURCE];
    for path in [UPSTREAM, "Cargo.lock", "build.rs"].iter().chain(&shim) {
        println!("cargo::rerun-if-changed={path}");
    }
    let upstream: Upstream = read_toml(UPSTREAM);
    check_lock(&upstream.package);
    let sources = llama_cpp_sources();
    check_sources(&sources, &upstream.llama_cpp);
    compile_shim(&sources);
    bind_shim(&sources);
    find_modules();
    record_provenance(&upstream.llama_cpp);
}

fn read_toml<T: for<'de> Deserialize<'de>>(path: &str) -> T {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Stops the build when Cargo.lock resolved another package than `UPSTREAM.toml` names.
fn check_lock(expected: &Package) {
    let lock: Lock = read_toml("Cargo.lock");
    let resolved =
        lock.package.iter().find(|package| package.name == expected.name).unwrap_or_else(|| {
            panic!("Cargo.lock has no package {}; run `cargo update`", expected.name)
        });
    assert!(
        resolved.version == expected.version && resolved.checksum == expected.checksum,
        "Cargo.lock has {} {} ({}), but {UPSTREAM} names {} ({}). Update both together: see the \
         comment in {UPSTREAM}",
        resolved.name,
        resolved.version,
        resolved.checksum.as_deref().unwrap_or("no checksum"),
        expected.version,
        expected.checksum.as_deref().unwrap_or("no checksum"),
    );
}

/// The folder with llama.cpp's sources, as cmake recorded it when llama-cpp-sys-2 compiled them.
///
/// Headers of another version than the linked library would be silent memory corruption, so they
/// are taken from nowhere else.
fn llama_cpp_sources() -> PathBuf {
    let cmake_dir = env::var("DEP_LLAMA_GGML_CMAKE_DIR").expect(
        "llama-cpp-sys-2 did not publish its cmake folder (DEP_LLAMA_GGML_CMAKE_DIR); is it another \
         version than vendor/UPSTREAM.toml names?",
    );
    // <out>/lib/cmake → <out>/build/CMakeCache.txt
    let cache = Path::new(&cmake_dir)
        .ancestors()
        .map(|folder| folder.join("build").join("CMakeCache.txt"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no build/CMakeCache.txt above {cmake_dir}"));
    let text = fs::read_to_string(&cache)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", cache.display()));
    let home = text
        .lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="))
        .unwrap_or_else(|| panic!("{} names no CMAKE_HOME_DIRECTORY", cache.display()));
    for (name, variable) in
        [("CMAKE_BUILD_TYPE:STRING=", "PROFILE"), ("GGML_NATIVE:BOOL=", "NATIVE")]
    {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
        println!("cargo::rustc-env=QUANTBENCH_LLAMA_{variable}={value}");
    }
    PathBuf::from(home)
}

fn check_sources(sources: &Path, expected: &LlamaCpp) {
    for (file, prefix, version) in [
        ("CMakeLists.txt", "LLAMA", &expected.version),
        ("ggml/CMakeLists.txt", "GGML", &expected.ggml_version),
    ] {
        let path = sources.join(file);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let part = |name: &str| {
            let start = format!("set({prefix}_VERSION_{name} ");
            text.lines()
                .find_map(|line| line.trim().strip_prefix(&start)?.strip_suffix(')'))
                .unwrap_or("?")
                .to_owned()
        };
        let found = format!("{}.{}.{}", part("MAJOR"), part("MINOR"), part("PATCH"));
        assert!(
            &found == version,
            "{} says version {found}, but {UPSTREAM} names {version}",
            path.display()
        );
    }
}

fn include_folders(sources: &Path) -> Vec<PathBuf> {
    ["include", "ggml/include", "src", "common", "vendor", "tools/mtmd"]
        .iter()
        .map(|folder| sources.join(folder))
        .chain([PathBuf::from("vendor/shim")])
        .collect()
}

/// In the portable build llama.cpp is shared libraries and its back ends are modules. The program looks for them beside
/// itself, in `../lib/quantbench` of where it is installed, then where they were built; never at a path of this
/// machine.
fn find_modules() {
    if env::var_os("CARGO_FEATURE_PORTABLE").is_none() {
        return;
    }
    let modules = PathBuf::from(env::var("DEP_LLAMA_BACKENDS_DIR").expect(
        "llama-cpp-sys-2 did not publish its folder of modules (DEP_LLAMA_BACKENDS_DIR); is it another version than \
         vendor/UPSTREAM.toml names?",
    ));
    // <profile>/build/llama-cpp-sys-2-<hash>/out/backends; programs are in <profile>, tests in <profile>/deps.
    let built = modules
        .ancestors()
        .nth(4)
        .and_then(|profile| modules.strip_prefix(profile).ok())
        .and_then(Path::parent)
        .unwrap_or_else(|| panic!("{} is not deep enough", modules.display()))
        .display();
    println!("cargo::rustc-env=QUANTBENCH_BUILT_DIR={built}");
    let origin = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        Ok("windows") => return,
        _ => "$ORIGIN",
    };
    for folder in ["lib", "../lib/quantbench/lib", &format!("{built}/lib")] {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{origin}/{folder}");
    }
    println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{origin}/../{built}/lib");
}

fn sees_pictures() -> bool {
    env::var_os("CARGO_FEATURE_MULTIMODAL").is_some()
}

fn compile_shim(sources: &Path) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file(SHIM_SOURCE)
        .files(sees_pictures().then_some(PICTURES_SOURCE))
        .includes(include_folders(sources))
        .warnings(false)
        .compile("quantbench_shim");
}

fn bind_shim(sources: &Path) {
    let mut builder = bindgen::Builder::default()
        .header(SHIM_HEADER)
        .allowlist_item("quantbench_.*")
        .allowlist_recursively(false)
        .raw_line("use llama_cpp_sys_2::*;")
        .derive_default(false);
    if sees_pictures() {
        builder = builder.header(PICTURES_HEADER);
    }
    for folder in include_folders(sources) {
        builder = builder.clang_arg(format!("-I{}", folder.display()));
    }
    let output = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("shim.rs");
    builder
        .generate()
        .expect("bindgen could not read the shim's header; is libclang installed?")
        .write_to_file(&output)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", output.display()));
}

/// What `quantbench --version --verbose` prints and every stored run carries.
fn record_provenance(llama_cpp: &LlamaCpp) {
    let commit = command_line("git", &["rev-parse", "--short=12", "HEAD"]);
    let branch = command_line("git", &["symbolic-ref", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // Asked for, because a worktree's are in two folders; one that is missing would count as changed in every build.
        let path = command_line("git", &["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()))
        .filter(|name| name != "default")
        .collect();
    let compiler = cc::Build::new().cpp(true).get_compiler();
    let compiler_version = compiler
        .path()
        .to_str()
        .and_then(|path| command_line(path, &["--version"]))
        .and_then(|text| text.lines().next().map(str::to_owned));
    let rustc = env::var("RUSTC").ok().and_then(|path| command_line(&path, &["--version"]));
    let mut features = features;
    features.sort();
    for (name, value) in [
        ("COMMIT", commit),
        ("RUSTC", rustc),
        ("CXX", compiler_version),
        ("FEATURES", Some(features.join(" "))),
        ("TARGET", env::var("TARGET").ok()),
        ("LLAMA_VERSION", Some(llama_cpp.version.clone())),
        ("GGML_VERSION", Some(llama_cpp.ggml_version.clone())),
    ] {
        println!(
            "cargo::rustc-env=QUANTBENCH_{name}={}",
            value.unwrap_or_else(|| "unknown".to_owned())
        );
    }
}

fn command_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
