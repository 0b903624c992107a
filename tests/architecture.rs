//! The shape of the program: which module may use which, and what every file must be like.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

/// The modules from left to right: each may use those before it and none after it.
const ORDER: [&str; 25] = [
    "units",
    "files",
    "causes",
    "statistics",
    "metrics",
    "dataset",
    "onnx",
    "model",
    "prompt",
    "retrieval",
    "experiment",
    "engine",
    "quantize",
    "workload",
    "mix",
    "hardware",
    "worker",
    "results",
    "host",
    "orchestrator",
    "decide",
    "report",
    "deploy",
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

/// What the code of a file names: paths, and macros with what is handed to them. Tests are part of it or not.
#[derive(Default)]
struct Named {
    tests: bool,
    /// Paths of the program, from its root on: `["model", "cache"]`.
    paths: Vec<Vec<String>>,
    /// Other paths, as they are written.
    others: Vec<Vec<String>>,
    /// Name and tokens.
    macros: Vec<(String, String)>,
    /// Modules around what is visited.
    place: Vec<String>,
}

impl Named {
    fn of(source: &Source, tests: bool) -> Self {
        let mut place: Vec<String> = source.path.with_extension("").iter().map(into_text).collect();
        if place.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            place.pop();
        }
        let mut named = Self { tests, place, ..Self::default() };
        named.visit_file(&syn::parse_file(&source.text).unwrap());
        named
    }

    /// The first word of every path: the modules that are used.
    fn modules(&self) -> BTreeSet<&str> {
        self.paths.iter().filter_map(|path| path.first()).map(String::as_str).collect()
    }

    fn add(&mut self, words: &[String]) {
        let Some(first) = words.first() else { return };
        let above = words.iter().take_while(|word| *word == "super").count();
        let own = usize::from(first == "self");
        let rest = &words[above + own..];
        match first.as_str() {
            "crate" => self.paths.push(words[1..].to_vec()),
            "super" | "self" => {
                let kept = self.place.len().saturating_sub(above);
                self.paths.push([&self.place[..kept], rest].concat());
            }
            _ => self.others.push(words.to_vec()),
        }
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |word: &syn::Ident| [before, &[word.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|it| self.add_tree(it, before)),
        }
    }

    fn leaves_out(&self, attributes: &[syn::Attribute]) -> bool {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        !self.tests && attributes.iter().any(is_test)
    }
}

fn into_text(part: &std::ffi::OsStr) -> String {
    part.to_string_lossy().into_owned()
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => item.attrs.as_slice(),
            Item::Fn(item) => item.attrs.as_slice(),
            Item::Impl(item) => item.attrs.as_slice(),
            Item::Use(item) => item.attrs.as_slice(),
            Item::Struct(item) => item.attrs.as_slice(),
            Item::Const(item) => item.attrs.as_slice(),
            _ => &[],
        };
        if !self.leaves_out(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.place.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.place.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.add(&words);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|it| it.ident.to_string()).unwrap_or_default();
        let tokens = call.tokens.to_string();
        // What a macro is given is no syntax yet; paths in it are.
        for (at, start) in tokens.match_indices("crate ::").chain(tokens.match_indices("super ::"))
        {
            let is_word = |word: &&str| word.chars().all(|c| c.is_alphanumeric() || c == '_');
            let rest = tokens[at + start.len()..].split("::").map(str::trim);
            let rest = rest.map(|word| word.split_whitespace().next().unwrap_or_default());
            let words = [&start[..5]].into_iter().chain(rest.take_while(is_word));
            self.add(&words.map(str::to_owned).collect::<Vec<_>>());
        }
        self.macros.push((name, tokens));
    }
}

#[test]
fn a_module_uses_only_those_to_its_left() {
    let position = |module: &str| ORDER.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = position(&source.module) else { continue };
        let named = Named::of(&source, true);
        for used in named.modules() {
            if position(used).is_some_and(|used| used > own) {
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
fn the_library_lists_its_modules_in_that_order() {
    let text = include_str!("../src/lib.rs");
    let listed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(listed, ORDER);
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
fn no_text_that_is_compiled_in_is_long() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dataset/standard");
    let folders = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let texts = folders.flat_map(|it| fs::read_dir(it).unwrap()).map(|it| it.unwrap().path());
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<PathBuf> = texts.filter(|path| lines(path) > LONGEST_FILE).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn native_code_is_called_from_one_folder_only() {
    let calls = ["unsafe {", "unsafe fn", "unsafe impl", "llama_cpp_sys_2", "llama_cpp_2"];
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.path.starts_with("engine/llama"))
        .filter(|source| calls.iter().any(|call| source.text.contains(call)))
        .map(|source| source.name())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Whether a source names an engine behind the traits, its tests left out.
fn names_an_engine(source: &Source) -> bool {
    let named = Named::of(source, false);
    let is_one = |path: &Vec<String>| path.len() > 1 && path[0] == "engine" && path[1] == "llama";
    named.paths.iter().any(is_one)
}

#[test]
fn workloads_know_an_engine_by_its_traits_alone() {
    let is_tests = |source: &Source| source.path.file_stem().is_some_and(|stem| stem == "tests");
    let workloads = sources().into_iter().filter(|it| it.module == "workload" && !is_tests(it));
    let wrong: Vec<String> = workloads.filter(names_an_engine).map(|it| it.name()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(names_an_engine(&file("a.rs", "use crate::engine::{Model, llama::backend::Backend};")));
    let in_tests = "#[cfg(test)]\nmod tests { use crate::engine::llama::backend::Backend; }";
    assert!(!names_an_engine(&file("a.rs", in_tests)));
}

/// What may write to standard error besides the command line and the worker: llama.cpp's log, which is the
/// worker's, and the display of a run.
const WRITE_TO_STDERR: [&str; 2] = ["engine/llama/log.rs", "orchestrator/display"];

/// Tests that start this binary again as another process, which prints to the test that started it.
const CHILDREN: [&str; 1] = ["model/cache/tests.rs"];

/// How a file prints, if it does.
fn prints(source: &Source) -> Option<String> {
    let named = Named::of(source, false);
    let may_stderr = WRITE_TO_STDERR.iter().any(|path| source.path.starts_with(path));
    let is_stream = |word: &str| word == "stdout" || (word == "stderr" && !may_stderr);
    let printed = named.macros.iter().find(|(name, tokens)| {
        let words = || tokens.split(|c: char| !c.is_alphanumeric());
        ["println", "eprintln", "print", "eprint", "dbg"].contains(&name.as_str())
            || (["write", "writeln"].contains(&name.as_str()) && words().any(is_stream))
    });
    // A constructor `Stdio::piped` or a field `stdout` is no stream of this process; `io::stdout` is.
    let opened = named.others.iter().find(|path| match path.as_slice() {
        [.., module, last] => module == "io" && is_stream(last),
        _ => false,
    });
    printed.map(|(name, _)| format!("{name}!")).or(opened.map(|path| path.join("::")))
}

#[test]
fn only_the_command_line_and_the_worker_print() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|source| !["cli", "worker"].contains(&source.module.as_str()))
        .filter(|source| !CHILDREN.iter().any(|path| source.path.starts_with(path)))
        .filter_map(|source| Some(format!("{}: {}", source.name(), prints(&source)?)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn file(path: &str, text: &str) -> Source {
    let module = path.split('/').next().unwrap().to_owned();
    Source { path: path.into(), module, text: text.to_owned() }
}

#[test]
fn uses_are_found_in_every_spelling() {
    let text = "use crate::model::cache::Cache;\nuse crate::{units, results::{record::{A, B}, store}};\n\
                use super::super::prompt::{self, piece};\n\
                fn f() { crate::worker::main(); // crate::cli\n format!(\"{}\", crate::dataset::read()); }\n\
                #[cfg(test)] mod tests { use super::super::super::super::mix::choose; }\n";
    let source = file("report/deep/file.rs", text);
    let all = Named::of(&source, true);
    let expected = ["dataset", "mix", "model", "results", "units", "worker"];
    let found = all.modules();
    for module in expected {
        assert!(found.contains(module), "{module} in {found:?}");
    }
    assert!(!found.contains("cli"));
    // Two above report/deep/file is report itself.
    assert!(all.paths.contains(&["report", "prompt", "piece"].map(str::to_owned).to_vec()));
    assert!(!Named::of(&source, false).modules().contains("mix"));
}

#[test]
fn printing_is_found_in_every_spelling() {
    let found = |text: &str| prints(&file("report/file.rs", text));
    for text in [
        "fn f() { println!(\"a\"); }",
        "#[cfg(test)] mod tests {}\nfn f() { eprint!(\"a\"); }",
        "fn f() { let _ = writeln!(stderr, \"a\"); }",
        "fn f() { let _ = write!(std::io::stdout(), \"a\"); }",
        "fn f() { std::io::stderr().write_all(b\"a\"); }",
        "use std::io::stdout;",
    ] {
        assert!(found(text).is_some(), "{text}");
    }
    for text in [
        "#[cfg(test)] mod tests { fn f() { println!(\"a\"); } }",
        "// println!(\"a\")",
        "fn f() { let text = \"println!()\"; let _ = writeln!(text, \"a\"); }",
    ] {
        assert_eq!(found(text), None, "{text}");
    }
}

/// One attribute `#[error(…)]` and the fields of what it is about.
fn errors(text: &str) -> Vec<(&str, &str)> {
    let attributes = text.match_indices("#[error(").map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(")]\n").unwrap();
        let (attribute, rest) = rest.split_at(end);
        // The fields end where the next variant begins, or the type.
        let next = rest.find("#[error(").unwrap_or(rest.len());
        let end = rest.find("\n}").map_or(next, |end| end.min(next));
        (attribute, &rest[..end])
    });
    attributes.collect()
}

/// The field that is an error's source, as thiserror finds it.
fn source_field(fields: &str) -> Option<&str> {
    let marked = ["#[from]", "#[source]"].into_iter().find_map(|mark| fields.split_once(mark));
    match marked {
        Some((_, field)) => match field.trim_start().split_once(':') {
            Some((name, _)) if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                Some(name)
            }
            _ => Some("0"),
        },
        None => fields.contains(" source: ").then_some("source"),
    }
}

/// Whether a message shows a field: `{field}`, `{field:?}`, or as an argument behind the text.
fn shows(attribute: &str, field: &str) -> bool {
    let arguments = attribute.rsplit_once('"').map_or("", |(_, arguments)| arguments);
    let is_word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    [format!("{{{field}}}"), format!("{{{field}:")].iter().any(|it| attribute.contains(it.as_str()))
        || arguments.split(is_word).any(|word| word == field)
}

#[test]
fn no_message_contains_that_of_its_source() {
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for source in sources() {
        for (attribute, fields) in errors(&source.text) {
            let Some(field) = source_field(fields) else { continue };
            looked_at += 1;
            if shows(attribute, field) {
                wrong.push(format!("{}: {attribute}", source.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "the cause would be told twice:\n{}", wrong.join("\n"));
    assert!(looked_at > 50, "only {looked_at} errors with a source were found");
}

#[test]
fn a_message_with_that_of_its_source_is_found() {
    let is_wrong = |text: &str| {
        errors(text).into_iter().any(|(attribute, fields)| {
            source_field(fields).is_some_and(|field| shows(attribute, field))
        })
    };
    assert!(is_wrong("#[error(\"a: {source}\")]\nA {\n    source: io::Error,\n},\n"));
    assert!(is_wrong("#[error(\"a: {0}\")]\nA(#[from] Other),\n"));
    assert!(is_wrong("#[error(\"a {}\", words(source))]\nA {\n    source: io::Error,\n},\n"));
    assert!(is_wrong("#[error(\"a {why}\")]\nA {\n    #[source]\n    why: io::Error,\n},\n"));
    assert!(!is_wrong("#[error(\"a {0}\")]\nA(Leaf),\n#[error(\"b\")]\nB(#[from] Other),\n"));
    assert!(!is_wrong("#[error(\"a {path}\")]\nA {\n    path: X,\n    source: io::Error,\n},\n"));
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

/// Headings as GitHub makes anchors of them.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_documents_lead_to_headings_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut broken, mut count) = (Vec::new(), 0);
    for folder in ["", "docs", "docs/reference", "demo"] {
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|end| end == "md")) {
            let text = fs::read_to_string(&path).unwrap();
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let Some((file, anchor)) = link.split_once('#') else { continue };
                if link.contains("://") {
                    continue;
                }
                let target = match file {
                    "" => path.clone(),
                    file => path.parent().unwrap().join(file),
                };
                count += 1;
                let found =
                    fs::read_to_string(&target).is_ok_and(|it| anchors(&it).contains(anchor));
                if !found {
                    broken.push(format!("{}: {link}", path.display()));
                }
            }
        }
    }
    assert!(count > 10, "only {count} links are found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
