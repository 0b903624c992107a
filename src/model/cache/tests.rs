//! Tests of the cache: what is served, what is not, and what is left when a process is killed.

mod safety;

use super::{
    Cache, CacheError, CalibrationKey, PendingVariant, Reserved, VariantFilter, VariantKey,
    VariantSlot,
};
use crate::model::gguf::testing::Builder;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(&folder.path().join("cache")).unwrap();
    (folder, cache)
}

fn key(quantization: &str) -> VariantKey {
    VariantKey {
        source_checksum: "00ff".to_owned(),
        quantization: quantization.parse().unwrap(),
        maker: "llama.cpp 0.6.0".to_owned(),
        calibration: None,
    }
}

fn calibrated() -> VariantKey {
    let calibration = CalibrationKey {
        text_checksum: "0a".to_owned(),
        context: 512,
        chunks: None,
        parameters: String::new(),
    };
    VariantKey { calibration: Some(calibration), ..key("imatrix:Q8_0") }
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn partials(cache: &Cache) -> usize {
    files(&cache.variants()).iter().filter(|name| name.ends_with(".partial")).count()
}

/// What becomes of a place that another makes, once it is free.
fn wait_for(slot: &VariantSlot) -> Reserved {
    loop {
        // Whoever made it keeps its lock while using it.
        if let Some(artifact) = slot.existing().unwrap() {
            return Reserved::Made(artifact);
        }
        match slot.reserve(1000) {
            Ok(pending) => return pending.unless_made().unwrap(),
            Err(CacheError::Busy(_)) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn make(cache: &Cache, quantization: &str) -> PathBuf {
    let pending = cache.variant(&key(quantization)).reserve(1000).unwrap();
    Builder::model(7).write(pending.path());
    pending.commit(1.5, Vec::new()).unwrap().path
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_variant_is_made_once_and_served_from_then_on() {
    let (_folder, cache) = cache();
    let slot = cache.variant(&key("Q8_0"));
    assert_eq!(slot.existing().unwrap(), None);
    let pending = slot.reserve(1000).unwrap();
    Builder::model(7).write(pending.path());
    assert_eq!(slot.existing().unwrap(), None, "not before it is whole");
    let made = pending.commit(1.5, Vec::new()).unwrap();
    assert_eq!(made.quantize_seconds, Some(1.5));
    assert_eq!(made.file_bytes, Builder::model(7).bytes().len() as u64);
    let served = slot.existing().unwrap().unwrap();
    assert_eq!((served.path, served.checksum), (made.path, made.checksum));
    assert_eq!(served.quantize_seconds, Some(1.5));
    assert_eq!(partials(&cache), 0);
    let again = Cache::at(cache.root()).unwrap();
    assert!(again.variant(&key("Q8_0")).existing().unwrap().is_some());
}

#[test]
fn every_part_of_the_key_changes_the_address() {
    let one = key("Q8_0");
    let others = [
        key("Q4_0"),
        VariantKey { source_checksum: "00fe".to_owned(), ..one.clone() },
        VariantKey { maker: "llama.cpp 0.6.1".to_owned(), ..one.clone() },
    ];
    assert!(others.iter().all(|other| other.address() != one.address()));
    let on = |change: fn(&mut CalibrationKey)| {
        let mut other = calibrated();
        other.calibration.iter_mut().for_each(change);
        other.address()
    };
    let mut addresses = vec![
        calibrated().address(),
        VariantKey { calibration: None, ..calibrated() }.address(),
        on(|calibration| calibration.text_checksum = "0b".to_owned()),
        on(|calibration| calibration.context = 256),
        on(|calibration| calibration.chunks = Some(8)),
        on(|calibration| calibration.parameters = "damping 0.1".to_owned()),
    ];
    let count = addresses.len();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), count);
    // Variants of earlier versions are still found.
    assert_eq!(one.address(), "4a5a94d5e3a8fa04f96ce4320d999464");
    assert_eq!(one.address(), key("INT8").address(), "a name's spelling does not");
}

#[test]
fn a_variant_that_is_given_up_leaves_nothing() {
    let (_folder, cache) = cache();
    let slot = cache.variant(&key("Q8_0"));
    let pending = slot.reserve(1000).unwrap();
    fs::write(pending.path(), b"half").unwrap();
    assert_eq!(partials(&cache), 1);
    drop(pending);
    assert_eq!(partials(&cache), 0);
    assert!(slot.reserve(1000).is_ok(), "and the place is free again");
}

#[test]
fn what_is_no_whole_model_is_not_committed() {
    let (_folder, cache) = cache();
    let slot = cache.variant(&key("Q8_0"));
    let commit = |bytes: &[u8]| {
        let pending: PendingVariant = slot.reserve(1000).unwrap();
        fs::write(pending.path(), bytes).unwrap();
        pending.commit(1.0, Vec::new())
    };
    let bytes = Builder::model(7).bytes();
    for part in [b"".as_slice(), &bytes[..bytes.len() - 100]] {
        let error = commit(part).unwrap_err().to_string();
        assert_eq!(error, "the variant that was made is not whole");
    }
    assert_eq!(slot.existing().unwrap(), None);
    assert_eq!(partials(&cache), 0);
}

#[test]
fn a_file_that_was_changed_is_not_served() {
    let (_folder, cache) = cache();
    let slot = cache.variant(&key("Q8_0"));
    let path = make(&cache, "Q8_0");
    let whole = fs::read(&path).unwrap();

    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(slot.existing().unwrap(), None, "another size");
    let mut flipped = whole.clone();
    flipped[700] ^= 1;
    fs::write(&path, &flipped).unwrap();
    set_modified(&path, SystemTime::now() + Duration::from_secs(5));
    assert_eq!(slot.existing().unwrap(), None, "the same size, another content");
    fs::write(&path, &whole).unwrap();
    set_modified(&path, SystemTime::now() + Duration::from_secs(9));
    assert!(slot.existing().unwrap().is_some(), "only the time differs");
    fs::remove_file(&path).unwrap();
    assert_eq!(slot.existing().unwrap(), None, "no file");
    make(&cache, "Q8_0");
    fs::write(path.with_extension("json"), b"{\"bytes\":").unwrap();
    assert_eq!(slot.existing().unwrap(), None, "no record");
}

#[test]
fn two_do_not_make_the_same_variant() {
    let (_folder, cache) = cache();
    let slot = cache.variant(&key("Q8_0"));
    let pending = slot.reserve(1000).unwrap();
    let error = slot.reserve(1000).unwrap_err();
    assert!(matches!(error, CacheError::Busy(_)), "{error}");
    assert!(error.to_string().starts_with("another quantbench is making Q8_0 ("), "{error}");
    assert!(cache.variant(&key("Q4_0")).reserve(1000).is_ok(), "another is free");

    let waiting = {
        let slot = slot.clone();
        std::thread::spawn(move || wait_for(&slot))
    };
    std::thread::sleep(Duration::from_millis(50));
    Builder::model(7).write(pending.path());
    pending.commit(1.0, Vec::new()).unwrap();
    assert!(matches!(waiting.join().unwrap(), Reserved::Made(_)));
}

#[test]
fn a_disk_too_full_is_told_before_anything_is_written() {
    let (_folder, cache) = cache();
    let error = cache.variant(&key("Q8_0")).reserve(1 << 60).unwrap_err();
    assert!(error.to_string().starts_with("the disk with the cache at "), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("free, but 1048576 TiB are needed; free some with"), "{shown}");
    assert_eq!(partials(&cache), 0);
}

/// A folder that this user may not write to: root may write to every folder of a disk, but not to
/// the kernel's own file system.
fn unwritable(parent: &Path) -> PathBuf {
    let folder = parent.join("read-only");
    fs::create_dir(&folder).unwrap();
    let mut permissions = fs::metadata(&folder).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&folder, permissions).unwrap();
    if File::create(folder.join("probe")).is_err() { folder } else { PathBuf::from("/sys/kernel") }
}

#[test]
fn a_folder_that_may_not_be_written_to_is_one_clear_error() {
    let parent = tempfile::tempdir().unwrap();
    let error = Cache::at(&unwritable(parent.path()).join("cache")).unwrap_err();
    assert!(matches!(error, CacheError::NotWritable(_)), "{error:?}");
    assert!(error.to_string().contains("set QUANTBENCH_CACHE to another folder"), "{error}");

    let file = parent.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Cache::at(&file.join("cache")).unwrap_err();
    assert!(error.to_string().starts_with("cannot make the folder"), "{error}");
}

#[test]
fn a_scratch_file_goes_with_its_owner() {
    let (_folder, cache) = cache();
    let scratch = cache.scratch("../log probabilities").unwrap();
    assert!(scratch.path().starts_with(cache.root()), "{:?}", scratch.path());
    assert!(scratch.path().ends_with(".._log_probabilities"));
    fs::write(scratch.path(), b"x").unwrap();
    Cache::at(cache.root()).unwrap();
    assert!(scratch.path().exists(), "another process does not sweep what is in use");
    assert_ne!(cache.scratch("a").unwrap().path(), cache.scratch("a").unwrap().path());
    assert_ne!(cache.scratch("lock").unwrap().path().file_name().unwrap(), "lock");
    assert!(cache.scratch("..").unwrap().path().ends_with("file-.."));
    drop(scratch);
    assert!(files(&cache.scratches()).is_empty());
}

const CHILD_FOLDER: &str = "QUANTBENCH_TEST_CACHE_OF_CHILD";

#[test]
#[ignore = "the process that `what_a_killed_process_leaves_is_swept` starts and kills"]
fn child_that_is_killed() {
    let folder = std::env::var_os(CHILD_FOLDER).expect("started by the test");
    let cache = Cache::at(Path::new(&folder)).unwrap();
    let pending = cache.variant(&key("Q8_0")).reserve(1000).unwrap();
    fs::write(pending.path(), b"half").unwrap();
    let scratch = cache.scratch("probabilities").unwrap();
    fs::write(scratch.path(), b"half").unwrap();
    let mut out = std::io::stdout();
    out.write_all(b"\nready\n").unwrap();
    out.flush().unwrap();
    std::thread::sleep(Duration::from_mins(2));
}

#[test]
fn what_a_killed_process_leaves_is_swept() {
    let (_folder, cache) = cache();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "model::cache::tests::child_that_is_killed", "--ignored", "--nocapture"])
        .env(CHILD_FOLDER, cache.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));

    let slot = cache.variant(&key("Q8_0"));
    Cache::at(cache.root()).unwrap();
    assert_eq!(partials(&cache), 1, "while it lives its files stay");
    assert_eq!(files(&cache.scratches()).len(), 1);
    assert!(matches!(slot.reserve(1000), Err(CacheError::Busy(_))));

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(partials(&cache), 1, "it had no time to clean up");
    Cache::at(cache.root()).unwrap();
    assert_eq!(partials(&cache), 0);
    assert_eq!(files(&cache.scratches()).len(), 0);
    make(&cache, "Q8_0");
    assert!(slot.existing().unwrap().is_some());
}

#[test]
fn a_variant_without_a_record_is_swept() {
    let (_folder, cache) = cache();
    let path = make(&cache, "Q8_0");
    let kept = make(&cache, "Q4_0");
    fs::remove_file(path.with_extension("json")).unwrap();
    // What a process uses is not swept.
    let root = cache.root().to_owned();
    Cache::at(&root).unwrap();
    assert!(path.exists());
    drop(cache);
    Cache::at(&root).unwrap();
    assert!(!path.exists() && kept.exists());
}

#[test]
fn variants_are_listed_and_removed_by_quantization_and_age() {
    let (_folder, cache) = cache();
    let old = make(&cache, "Q8_0");
    make(&cache, "Q4_0");
    make(&cache, "Q4_K_M");
    let month = Duration::from_hours(24 * 30);
    set_modified(&old.with_extension("json"), SystemTime::now() - 2 * month);
    let list = cache.list().unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(
        (list[2].quantization.to_string().as_str(), list[2].quantize_seconds),
        ("Q8_0", 1.5)
    );
    assert_eq!(list[2].model.as_deref(), Some("Tiny"));

    let unused = VariantFilter { unused_for: Some(month), ..VariantFilter::default() };
    let cleaned = cache.clean(&unused).unwrap();
    assert_eq!((cleaned.removed.len(), cleaned.bytes), (1, list[2].bytes));
    assert!(!old.exists() && cache.variant(&key("Q8_0")).existing().unwrap().is_none());
    let named =
        VariantFilter { quantizations: vec!["INT4".parse().unwrap()], ..VariantFilter::default() };
    assert_eq!(cache.clean(&named).unwrap().removed.len(), 1);
    assert_eq!(cache.clean(&VariantFilter::default()).unwrap().removed.len(), 1);
    assert!(cache.list().unwrap().is_empty());
    assert!(files(&cache.variants()).is_empty(), "{:?}", files(&cache.variants()));
}

#[test]
fn a_variant_is_kept_while_another_process_makes_it_anew() {
    let (_folder, cache) = cache();
    make(&cache, "Q8_0");
    let pending = cache.variant(&key("Q8_0")).reserve(1000).unwrap();
    assert!(cache.clean(&VariantFilter::default()).unwrap().removed.is_empty());
    drop(pending);
    assert_eq!(cache.clean(&VariantFilter::default()).unwrap().removed.len(), 1);
}

#[test]
fn a_file_that_was_just_written_is_not_remembered() {
    let (folder, cache) = cache();
    let path = folder.path().join("new");
    let now = SystemTime::now();
    fs::write(&path, b"abc").unwrap();
    set_modified(&path, now);
    let before = cache.checksum(&path, &mut |_| ()).unwrap();
    fs::write(&path, b"abd").unwrap();
    set_modified(&path, now);
    assert_ne!(cache.checksum(&path, &mut |_| ()).unwrap(), before);
}
