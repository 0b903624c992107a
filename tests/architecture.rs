//! The shape of the program: which module may use which, and what every file must be like.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from left to right: each may use those before it and none after it.
const ORDER: [&str; 19] = [
    "units",
    "statistics",
    "metrics",
    "dataset",
    "model",
    "prompt",
    "retrieval",
    "experiment",
    "llama",
    "quantize",
    "workload",
    "mix",
    "hardware",
    "worker",
    "results",
    "orchestrator",
    "report",
    "error",
    "cli",
];

/// Lines that a file may have, its tests included.
const LONGEST_FILE: usize = 500;

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(&root).unwrap().to_owned();
            let first = below.components().next().unwrap().as_os_str().to_string_lossy();
            let module = first.trim_end_matches(".rs").to_owned();
            Source { text: fs::read_to_string(&path).unwrap(), path: below, module }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The modules that a text names after `crate::`, comments left out.
fn modules_used(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n");
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            // `use crate::{a::b, c}`: the first word of each part.
            let group = group.split('}').next().unwrap_or_default();
            used.extend(group.split(',').map(|part| first_word(part.trim())));
        } else {
            used.insert(first_word(rest));
        }
    }
    used
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn a_module_uses_only_those_to_its_left() {
    let position = |module: &str| ORDER.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = position(&source.module) else { continue };
        for used in modules_used(&source.text) {
            if position(&used).is_some_and(|used| used > own) {
                wrong.push(format!("{} uses {used}", source.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the order of modules:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let known: BTreeSet<&str> = ORDER.into_iter().chain(["main", "lib"]).collect();
    let unknown: BTreeSet<String> = sources()
        .into_iter()
        .map(|source| source.module)
        .filter(|module| !known.contains(module.as_str()))
        .collect();
    assert!(unknown.is_empty(), "not in the order of modules: {unknown:?}");
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{} does not open with //!", source.name()));
        }
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{} has {lines} lines", source.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn native_code_is_called_from_one_folder_only() {
    let calls = ["unsafe {", "unsafe fn", "unsafe impl", "llama_cpp_sys_2", "llama_cpp_2"];
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.module != "llama")
        .filter(|source| calls.iter().any(|call| source.text.contains(call)))
        .map(|source| source.name())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn only_the_command_line_and_the_worker_print() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|source| !["cli", "worker"].contains(&source.module.as_str()))
        .filter(|source| {
            let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
            ["println!(", "eprintln!(", "print!(", "eprint!("].iter().any(|call| {
                code.lines().any(|line| line.contains(call) && !line.trim_start().starts_with("//"))
            })
        })
        .map(|source| source.name())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn uses_are_found_in_every_spelling() {
    let text = "use crate::model::cache::Cache;\nuse crate::{units, results::record::{A, B}};\n\
                let x = crate::worker::main(); // crate::cli\n";
    let found = modules_used(text);
    for module in ["model", "units", "results", "worker"] {
        assert!(found.contains(module), "{module}");
    }
    assert!(!found.contains("cli"));
}

/// Paths of the repository and examples that a text names.
fn named(text: &str) -> Vec<String> {
    let of_path = |letter: char| letter.is_ascii_alphanumeric() || "/_-.".contains(letter);
    let words = text.split(|letter| !of_path(letter)).map(|word| word.trim_end_matches('.'));
    let roots = ["src/", "tests/", "docs/", "examples/", "demo/"];
    let paths = words.filter(|word| roots.iter().any(|root| word.starts_with(root)));
    let examples = text.split("--example ").skip(1);
    let examples = examples.filter_map(|rest| rest.split_whitespace().next());
    let examples = examples.map(|name| format!("examples/{name}.rs"));
    paths.map(str::to_owned).chain(examples).collect()
}

#[test]
fn what_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut missing = Vec::new();
    let mut count = 0;
    for document in documents {
        for path in named(&fs::read_to_string(&document).unwrap()) {
            count += 1;
            if !root.join(&path).exists() {
                missing.push(format!("{} names {path}", document.display()));
            }
        }
    }
    assert!(count > 50, "only {count} paths are found");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert_eq!(
        named("`src/a.rs`, (docs/B.md). cargo --example c -- x/src/no"),
        ["src/a.rs", "docs/B.md", "examples/c.rs"]
    );
}
