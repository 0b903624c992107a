//! Tests of reading headers: what is right is read whole, what lies is refused with its place.

use super::testing::{Builder, text};
use super::{Header, Value};
use crate::model::file_type::FileType;
use crate::model::split::part_name;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn read(bytes: &[u8]) -> Result<Header, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    std::fs::write(&path, bytes).unwrap();
    let shown = path.display().to_string();
    Header::read(&path).map_err(|error| error.to_string().replace(&shown, "x.gguf"))
}

#[test]
fn a_whole_header_is_read() {
    for version in [2, 3] {
        let header = read(&Builder::model(7).version(version).bytes()).unwrap();
        assert_eq!(header.version, version);
        assert_eq!(header.architecture(), "llama");
        assert_eq!(header.name(), Some("Tiny"));
        assert_eq!(header.file_type().map(FileType::name), Some("Q8_0"));
        assert_eq!(header.context_length(), Some(2048));
        assert_eq!((header.layers(), header.vocabulary()), (Some(2), Some(10)));
        assert_eq!(header.chat_template(), Some("{{ messages }}"));
        assert_eq!(header.parameters(), 640 + 64);
        assert_eq!(header.tensor_bytes(), 680 + 256);
        assert!((header.bits_per_weight().unwrap() - 936.0 * 8.0 / 704.0).abs() < 1e-12);
        let formats = header.by_format();
        assert_eq!((formats[0].format.name(), formats[0].bytes), ("Q8_0", 680));
        assert_eq!((formats[1].format.name(), formats[1].weights), ("F32", 64));
        assert_eq!(header.tensors[0].dimensions, [64, 10]);
    }
}

#[test]
fn every_type_of_value_is_read() {
    let header = read(
        &Builder::new()
            .key("a", 0, &[200])
            .key("b", 1, &[0xff])
            .key("c", 2, &60_000_u16.to_le_bytes())
            .key("d", 3, &(-5_i16).to_le_bytes())
            .key("e", 5, &(-6_i32).to_le_bytes())
            .key("f", 6, &1e-5_f32.to_le_bytes())
            .key("g", 7, &[1])
            .key("h", 10, &u64::MAX.to_le_bytes())
            .key("i", 11, &i64::MIN.to_le_bytes())
            .key("j", 12, &1e300_f64.to_le_bytes())
            .strings("k", &["one", "two"])
            .bytes(),
    )
    .unwrap();
    let shown: Vec<String> = header.metadata.iter().map(|(_, value)| value.to_string()).collect();
    assert_eq!(
        &shown[..9],
        [
            "200",
            "-1",
            "60000",
            "-5",
            "-6",
            "0.00001",
            "true",
            "18446744073709551615",
            "-9223372036854775808"
        ]
    );
    assert_eq!(header.get("j"), Some(&Value::Float(1e300)));
    assert_eq!(shown[10], "[one, two] (2 str)");
}

#[test]
fn long_arrays_are_passed_over_without_being_kept() {
    let mut numbers = 4_u32.to_le_bytes().to_vec();
    numbers.extend(100_000_u64.to_le_bytes());
    numbers.extend(vec![7; 400_000]);
    let words = vec!["word"; 50_000];
    let header =
        read(&Builder::new().key("n", 9, &numbers).strings("w", &words).u32("last", 9).bytes())
            .unwrap();
    assert_eq!(header.get("last"), Some(&Value::Unsigned(9)));
    let kept = |key: &str| match header.get(key) {
        Some(Value::Array { count, first, .. }) => (*count, first.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(kept("n"), (100_000, 1024));
    assert_eq!(kept("w"), (50_000, 8));
}

#[test]
fn the_file_type_is_guessed_from_the_weights_where_it_is_not_said() {
    let guess = |format: u32| {
        let builder = Builder::new().tensor("a", format, &[256, 4]).tensor("b", 0, &[256]);
        read(&builder.bytes()).unwrap().file_type().map(|one| one.name().to_owned())
    };
    assert_eq!(guess(12).as_deref(), Some("Q4_K_M"));
    assert_eq!(guess(30).as_deref(), Some("BF16"));
    assert_eq!(guess(23).as_deref(), Some("IQ4_XS"));
    assert_eq!(guess(26), None, "32-bit integers are no weights");
}

#[test]
fn what_is_no_gguf_is_told_by_its_first_bytes() {
    for (bytes, expected) in [
        (&b""[..], "x.gguf is no GGUF file: it is empty"),
        (b"GG", "x.gguf is no GGUF file: it has only 2 B"),
        (b"PK\x03\x04aaaa", "it looks like a PyTorch checkpoint"),
        (b"\x10\0\0\0\0\0\0\0{\"__metadata__\"", "it looks like safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
        (b"<!doctype html>", "it looks like a web page"),
        (b"abcdefgh", "it begins with 'abcd' instead of 'GGUF'"),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let big_endian = [b"GGUF".as_slice(), &3_u32.to_be_bytes(), &[0; 16]].concat();
    assert!(read(&big_endian).unwrap_err().contains("big-endian"));
    let version = |version: u32| read(&Builder::new().version(version).bytes()).unwrap_err();
    assert_eq!(
        version(1),
        "x.gguf is a GGUF of version 1; versions 2 and 3 are read, convert it again"
    );
    assert!(version(0).contains("version 0") && version(4).contains("version 4"));
    let folder = tempfile::tempdir().unwrap();
    let error = Header::read(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("it is a folder, not a regular file"), "{error}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of lies")]
fn lengths_that_lie_are_refused_at_once() {
    let huge = u64::MAX.to_le_bytes();
    let with_count = |at: usize, count: u64| {
        let mut bytes = Builder::model(7).bytes();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        bytes
    };
    let array = |kind: u32, count: u64| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        Builder::new().key("a", 9, &bytes).bytes()
    };
    let started = Instant::now();
    for (bytes, expected) in [
        (
            with_count(8, u64::MAX),
            "the number of tensors at byte 8 is 18446744073709551615, more than 16384",
        ),
        (
            with_count(8, 1 << 14),
            "is cut off: it has 1600 bytes, but what follows the number of tensors at byte 16 needs 393216",
        ),
        // llama.cpp's time grows with the square of these.
        (with_count(8, (1 << 14) + 1), "the number of tensors at byte 8 is 16385, more than 16384"),
        (with_count(16, (1 << 12) + 1), "is 4097, more than 4096"),
        (Builder::new().u32(&"k".repeat(1025), 1).bytes(), "is 1025, more than 1024"),
        (array(8, (1 << 22) + 1), "is 4194305, more than 4194304"),
        (Builder::new().entry("t", 0, &[1 << 40, 0, 1 << 40], 0).bytes(), "impossible dimensions"),
        (with_count(16, 1 << 40), "the number of metadata keys at byte 16 is 1099511627776"),
        (
            Builder::new().key("a", 8, &huge).bytes(),
            "but 'a' at byte 45 needs 18446744073709551615",
        ),
        (Builder::new().key("a", 8, &(1_u64 << 62).to_le_bytes()).bytes(), "is cut off"),
        (array(4, 1 << 61), "is cut off"),
        (array(4, u64::MAX / 2), "is cut off"),
        (array(8, u64::MAX), "'a' at byte 41 is 18446744073709551615, more than 4194304"),
        (array(8, 1 << 20), "is cut off"),
        (array(9, 1), "'a' is an array of arrays"),
        (array(13, 1), "'a' at byte 37 has the unknown type 13"),
        (Builder::new().key("a", 99, &[]).bytes(), "'a' at byte 33 has the unknown type 99"),
        (Builder::new().entry("t", 0, &[u64::MAX, 2], 0).bytes(), "impossible dimensions"),
        (Builder::new().entry("t", 0, &[1 << 62, 1], 0).bytes(), "tensor 't'"),
        (
            Builder::new().entry("t", 0, &[1, 1, 1, 1, 1], 0).bytes(),
            "dimensions of 't' at byte 33 is 5, more than 4",
        ),
        (
            Builder::new().entry("t", 5, &[32], 0).bytes(),
            "tensor 't' at byte 45 has the unknown type 5",
        ),
        (
            Builder::new().entry("t", 12, &[128], 0).bytes(),
            "rows of 128 weights, which Q4_K cannot store",
        ),
        (
            Builder::new().entry("t", 0, &[8], 0).bytes(),
            "is cut off: it has 64 bytes, but tensor 't' at byte 64 needs 32; get it again",
        ),
        (Builder::new().entry("t", 0, &[8], u64::MAX - 31).bytes(), "is cut off"),
        (Builder::new().entry("t", 0, &[0], 1).bytes(), "begins at 1, no multiple of 32"),
        (
            Builder::new().entry(&"t".repeat(64), 0, &[1], 0).bytes(),
            "the name of a tensor at byte 24 is 64, more than 63",
        ),
        (
            Builder::new().u32("general.alignment", 24).bytes(),
            "the alignment 24 is no power of two",
        ),
        (Builder::new().u32("general.alignment", 0).bytes(), "the alignment 0 is no power of two"),
        (Builder::new().u32("a", 1).u32("a", 2).bytes(), "metadata key 'a' occurs twice"),
        (
            Builder::new().tensor("t", 0, &[8]).tensor("t", 0, &[8]).bytes(),
            "tensor 't' occurs twice",
        ),
        (
            Builder::new().tensor("t", 0, &[16]).entry("u", 0, &[8], 32).bytes(),
            "tensors 't' and 'u' overlap",
        ),
    ] {
        let error = read(&bytes).unwrap_err();
        assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "nothing was read in vain");
}

#[test]
fn a_split_model_is_read_from_all_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: u32| folder.path().join(part_name("m", number, 2));
    Builder::model(7).u32("split.count", 2).write(&path(1));
    Builder::new().u32("split.count", 2).tensor("output.weight", 8, &[64, 10]).write(&path(2));
    let header = Header::read(&path(1)).unwrap();
    assert_eq!((header.parts, header.tensors.len()), (2, 3));
    assert_eq!(Header::read(&path(2)).unwrap(), header, "any part leads to the whole");
    let bytes =
        std::fs::metadata(path(1)).unwrap().len() + std::fs::metadata(path(2)).unwrap().len();
    assert_eq!(header.file_bytes, bytes);

    Builder::new().tensor("token_embd.weight", 8, &[64, 10]).write(&path(2));
    let error = Header::read(&path(1)).unwrap_err().to_string();
    assert!(error.contains("'token_embd.weight' is in an earlier part already"), "{error}");
    std::fs::remove_file(path(2)).unwrap();
    let error = Header::read(&path(1)).unwrap_err().to_string();
    assert!(
        error.contains("m-00002-of-00002.gguf is not there; the model is split into 2"),
        "{error}"
    );
}

#[test]
fn a_part_under_another_name_is_refused() {
    let error = read(&Builder::model(7).u32("split.count", 3).bytes()).unwrap_err();
    assert!(error.contains("the model has 3 parts, but its name is not that of a part"), "{error}");
}

/// Reads hostile bytes; it may succeed or fail, but at once and with the file's name.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let started = Instant::now();
    match read(bytes) {
        Ok(header) => prop_assert!(header.tensor_bytes() <= bytes.len() as u64),
        Err(error) => prop_assert!(error.contains("x.gguf"), "{error}"),
    }
    prop_assert!(started.elapsed() < Duration::from_secs(5));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_truncated_file_is_refused(cut in 1..Builder::model(7).bytes().len()) {
        let bytes = Builder::model(7).bytes();
        let kept = bytes.len() - cut;
        // Cutting only the padding behind the last tensor takes nothing away.
        let lost = kept < bytes.len() - 1;
        let result = read(&bytes[..kept]);
        prop_assert!(result.is_err() || !lost);
        if let Err(error) = result {
            prop_assert!(error.contains("cut off") || error.contains("no GGUF"), "{error}");
        }
    }

    #[test]
    fn flipped_bits_do_no_harm(
        flips in prop::collection::vec((0..Builder::model(7).bytes().len(), 0..8_u32), 1..8)
    ) {
        let mut bytes = Builder::model(7).bytes();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        check(&bytes)?;
    }

    #[test]
    fn foreign_numbers_in_the_header_do_no_harm(
        at in 4..Builder::model(7).header().len() - 8,
        number in prop::sample::select(vec![0, 1, 0xff, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX, u64::MAX - 7])
    ) {
        let mut bytes = Builder::model(7).bytes();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        check(&bytes)?;
    }

    #[test]
    fn random_bytes_behind_the_magic_do_no_harm(
        tail in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let bytes = [b"GGUF\x03\0\0\0".as_slice(), &tail].concat();
        check(&bytes)?;
    }
}

#[test]
fn a_string_is_its_length_and_its_bytes() {
    assert_eq!(text("ab"), [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
}
