//! Tests of what the cache leaves alone: what is not its own, what is in use, what is not whole any more.

use super::wait_for;
use crate::model::cache::{
    Cache, CacheError, ImportanceKey, Reserved, VariantFilter, VariantKey, checksum,
};
use crate::model::gguf::testing::Builder;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn key(quantization: &str) -> VariantKey {
    VariantKey {
        source_checksum: "00ff".to_owned(),
        quantization: quantization.parse().unwrap(),
        maker: "llama.cpp".to_owned(),
        calibration: None,
    }
}

fn make(cache: &Cache, quantization: &str) {
    let pending = cache.variant(&key(quantization)).reserve(1000).unwrap();
    Builder::model(7).write(pending.path());
    pending.commit(1.5, Vec::new()).unwrap();
}

fn write(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "precious").unwrap();
    }
}

#[test]
fn a_folder_with_other_things_in_it_is_refused_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let names = [".bashrc", "demo/slides.txt", "scratch/thesis/thesis.tex", "variants/own.gguf"];
    write(folder.path(), &names);
    let error = Cache::at(folder.path()).unwrap_err();
    assert!(matches!(error, CacheError::Unusable(_)), "{error:?}");
    assert!(error.to_string().contains("holds other things, such as '.bashrc'"), "{error}");
    assert!(names.iter().all(|name| folder.path().join(name).exists()));
    let count = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(count, 4, "nothing was added");
    // A tag of another program says nothing.
    let folder = tempfile::tempdir().unwrap();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# by cargo\n";
    fs::write(folder.path().join("CACHEDIR.TAG"), tag).unwrap();
    assert!(matches!(Cache::at(folder.path()), Err(CacheError::Unusable(_))));
}

#[test]
fn a_cache_of_a_version_without_the_marker_is_known_by_its_names() {
    let folder = tempfile::tempdir().unwrap();
    make(&Cache::at(folder.path()).unwrap(), "Q8_0");
    let marker = folder.path().join("CACHEDIR.TAG");
    fs::remove_file(&marker).unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    assert!(marker.exists() && cache.variant(&key("Q8_0")).existing().unwrap().is_some());
    fs::remove_file(&marker).unwrap();
    write(folder.path(), &["notes.txt"]);
    assert!(matches!(Cache::at(folder.path()), Err(CacheError::Unusable(_))));
}

#[test]
fn files_of_others_within_a_cache_are_neither_swept_nor_cleaned() {
    let folder = tempfile::tempdir().unwrap();
    make(&Cache::at(folder.path()).unwrap(), "Q8_0");
    let names = [
        ".hidden",
        "variants/own.gguf",
        "variants/.hidden",
        "variants/notes.json",
        "variants/download.partial",
        "importance/own.gguf",
        "demo/slides.txt",
        "demo/.hidden",
        "demo/0123456789abcdef/other.gguf",
        "measurements/lab.jsonl",
        "indexes/own.index",
        "scratch/thesis/thesis.tex",
    ];
    write(folder.path(), &names);
    let cache = Cache::at(folder.path()).unwrap();
    assert_eq!(cache.list().unwrap().len(), 1);
    assert_eq!(cache.clean(&VariantFilter::default()).unwrap().removed.len(), 1);
    for name in names {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

#[test]
fn what_another_process_uses_is_not_cleaned() {
    let folder = tempfile::tempdir().unwrap();
    let run = Cache::at(folder.path()).unwrap();
    for quantization in ["Q8_0", "Q4_0"] {
        make(&run, quantization);
    }
    let demo = folder.path().join("demo/0123456789abcdef/quantbench-demo-F16.gguf");
    write(folder.path(), &["demo/0123456789abcdef/quantbench-demo-F16.gguf"]);
    drop(run);
    let run = Cache::at(folder.path()).unwrap();
    let used = run.variant(&key("Q8_0")).existing().unwrap().unwrap().path;
    let other = Cache::at(folder.path()).unwrap();
    assert_eq!(other.matching(&VariantFilter::default()).unwrap().len(), 1);
    let cleaned = other.clean(&VariantFilter::default()).unwrap();
    assert_eq!((cleaned.removed.len(), cleaned.in_use), (1, 1));
    assert!(used.exists() && demo.exists());
    drop(run);
    assert_eq!(other.clean(&VariantFilter::default()).unwrap().removed.len(), 1);
    assert!(!used.exists() && !demo.exists());
}

#[test]
fn a_variant_that_was_just_made_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let run = Cache::at(folder.path()).unwrap();
    make(&run, "Q8_0");
    let other = Cache::at(folder.path()).unwrap();
    assert_eq!(other.clean(&VariantFilter::default()).unwrap().in_use, 1);
    // The process that uses it can make it anew if it is damaged.
    let slot = run.variant(&key("Q8_0"));
    fs::write(slot.path(), "damaged").unwrap();
    assert_eq!(slot.existing().unwrap(), None);
    make(&run, "Q8_0");
    assert!(slot.existing().unwrap().is_some());
}

#[test]
fn a_matrix_is_served_only_as_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    let slot = cache.importance(&ImportanceKey {
        source_checksum: "00".to_owned(),
        text_checksum: "0a".to_owned(),
        context: 512,
        chunks: None,
        maker: "llama.cpp".to_owned(),
    });
    assert_eq!(slot.existing(), None);
    let pending = slot.reserve().unwrap();
    fs::write(slot.path(), "sums").unwrap();
    assert_eq!(slot.existing(), None, "it is not recorded yet");
    pending.commit().unwrap();
    assert_eq!(slot.existing(), Some(slot.path()));
    let other = Cache::at(folder.path()).unwrap();
    other.clean(&VariantFilter::default()).unwrap();
    assert!(slot.path().exists(), "it is in use");
    for damaged in ["sumt", "su", ""] {
        fs::write(slot.path(), damaged).unwrap();
        assert_eq!(slot.existing(), None, "{damaged}");
    }
    let pending = slot.reserve().unwrap();
    fs::write(slot.path(), "sums").unwrap();
    assert!(pending.unless_made().is_none(), "another process has made it");
}

#[test]
fn a_checksum_is_remembered_until_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(&folder.path().join("cache")).unwrap();
    let path = folder.path().join("big");
    let hour = SystemTime::now() - Duration::from_hours(1);
    let write = |path: &Path, content: &[u8]| {
        fs::write(path, content).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(hour).unwrap();
    };
    let checksum = |settled| checksum::remembered(&cache, &path, settled, &mut |_| ()).unwrap();
    write(&path, b"abc");
    // Source: FIPS 180-2, appendix B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(checksum(Duration::from_hours(1)), abc);
    let memo = folder.path().join("cache/checksums.json");
    assert!(!memo.exists(), "it may change again without showing it");
    assert_eq!(checksum(Duration::ZERO), abc);
    let remembered = fs::read_to_string(&memo).unwrap();
    assert_eq!(checksum(Duration::from_hours(1)), abc);
    // What is remembered is served: another checksum in the memo shows that the file is not read.
    fs::write(&memo, remembered.replace(abc, "remembered")).unwrap();
    assert_eq!(checksum(Duration::ZERO), "remembered");
    // Another file takes its place, of the same size and time.
    let other = folder.path().join("other");
    write(&other, b"abd");
    fs::rename(&other, &path).unwrap();
    assert_ne!(checksum(Duration::ZERO), abc);
    assert_ne!(checksum(Duration::ZERO), "remembered");
}

#[test]
fn a_variant_that_another_process_made_and_uses_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let run = Cache::at(folder.path()).unwrap();
    let pending = run.variant(&key("Q8_0")).reserve(1000).unwrap();
    let other = Cache::at(folder.path()).unwrap();
    let waiting = std::thread::spawn(move || wait_for(&other.variant(&key("Q8_0"))));
    Builder::model(7).write(pending.path());
    pending.commit(1.5, Vec::new()).unwrap();
    assert!(matches!(waiting.join().unwrap(), Reserved::Made(_)));
    drop(run);
}
