//! The root under which `/proc` and `/sys` are read: `/` on a machine, a temporary folder in tests.
//!
//! A tree may hold anything: reads are capped, invalid UTF-8 is replaced, and a number must be the
//! whole file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

/// No file of interest is longer; `/proc/cpuinfo` of a machine with 1024 processors has 2 MB.
const LONGEST_FILE: u64 = 8 << 20;

/// Why a file below the root could not be used. Paths are as the system names them, without the root of a test.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct ReadFailure {
    message: String,
    /// What kind of failure the system reported; `None`: the file does not hold what it should.
    kind: Option<io::ErrorKind>,
}

impl ReadFailure {
    pub(super) fn unreadable(path: &Path, reason: &io::Error) -> Self {
        let message = format!("{} cannot be read: {}", path.display(), plain_reason(reason));
        Self { message, kind: Some(reason.kind()) }
    }

    fn garbled(path: &Path, found: &str, expected: &str) -> Self {
        let found: String = found.chars().take(40).collect();
        let message = format!("{} holds {found:?}, which is not {expected}", path.display());
        Self { message, kind: None }
    }

    /// Whether the file exists but may not be read by this user.
    pub fn is_permission(&self) -> bool {
        self.kind == Some(io::ErrorKind::PermissionDenied)
    }

    /// Whether there is no such file.
    pub fn is_absent(&self) -> bool {
        self.kind == Some(io::ErrorKind::NotFound)
    }
}

/// The system's words without Rust's `(os error 2)`, in the lower case of a fragment.
fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads files of the system below a root folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemRoot {
    root: PathBuf,
}

impl Default for SystemRoot {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl SystemRoot {
    /// Where `path` (absolute, such as `/proc/stat`) lies below this root.
    pub fn locate(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether `path` exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.locate(path).exists()
    }

    /// The first bytes of a file, 8 MiB at most.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, ReadFailure> {
        let path = path.as_ref();
        let mut content = Vec::new();
        File::open(self.locate(path))
            .and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut content))
            .map_err(|reason| ReadFailure::unreadable(path, &reason))?;
        Ok(content)
    }

    /// The text of a file, without white space (and NUL, as in device trees) at its ends.
    ///
    /// # Errors
    /// It cannot be read, or the file is empty.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, ReadFailure> {
        let path = path.as_ref();
        let bytes = self.bytes(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let text =
            text.trim_matches(|character: char| character.is_whitespace() || character == '\0');
        if text.is_empty() {
            return Err(ReadFailure::garbled(path, text, "text"));
        }
        Ok(text.to_owned())
    }

    /// The number that a file consists of.
    ///
    /// # Errors
    /// It cannot be read, or the text is not a number of this type.
    pub fn number<N: FromStr>(&self, path: impl AsRef<Path>) -> Result<N, ReadFailure> {
        let path = path.as_ref();
        let text = self.text(path)?;
        text.parse().map_err(|_| ReadFailure::garbled(path, &text, "a number"))
    }

    /// Names in a folder, sorted; none if the folder cannot be read.
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.locate(folder)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Names in a folder that are `prefix` followed by a number, in the order of the number.
    pub fn numbered(&self, folder: impl AsRef<Path>, prefix: &str) -> Vec<String> {
        let number = |name: &String| name.strip_prefix(prefix)?.parse::<u32>().ok();
        let mut names = self.names(folder);
        names.retain(|name| number(name).is_some());
        names.sort_by_key(number);
        names
    }
}

/// The numbers in a kernel list such as `0-3,8`; `None` if it is not one or names over 2^16 numbers.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last < first || last - first >= 1 << 16 {
            return None;
        }
        numbers.extend(first..=last);
        if numbers.len() > 1 << 16 {
            return None;
        }
    }
    Some(numbers)
}

/// A tree of files for tests.
#[cfg(test)]
pub(crate) mod fixture {
    use super::SystemRoot;
    use std::fs;
    use std::path::Path;
    use tempfile::TempDir;

    /// A temporary folder with the given files in it.
    pub(crate) struct Tree {
        folder: TempDir,
    }

    impl Tree {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self { folder: tempfile::tempdir().unwrap() };
            for (path, content) in files {
                tree.write(path, content);
            }
            tree
        }

        pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.root().locate(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        pub(crate) fn folder(&self, path: impl AsRef<Path>) {
            fs::create_dir_all(self.root().locate(path)).unwrap();
        }

        pub(crate) fn root(&self) -> SystemRoot {
            SystemRoot { root: self.folder.path().to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::Tree;
    use super::*;

    #[test]
    fn numbers_must_be_the_whole_file() {
        let tree = Tree::new(&[
            ("/sys/good", " 42\n"),
            ("/sys/negative", "-3\n"),
            ("/sys/garbage", "42 apples\n"),
            ("/sys/empty", ""),
        ]);
        let root = tree.root();
        assert_eq!(root.number::<u64>("/sys/good").unwrap(), 42);
        assert_eq!(root.number::<i64>("/sys/negative").unwrap(), -3);
        let message = |path| root.number::<u64>(path).unwrap_err().to_string();
        assert_eq!(message("/sys/negative"), r#"/sys/negative holds "-3", which is not a number"#);
        assert_eq!(
            message("/sys/garbage"),
            r#"/sys/garbage holds "42 apples", which is not a number"#
        );
        assert_eq!(message("/sys/empty"), r#"/sys/empty holds "", which is not text"#);
        assert_eq!(message("/sys/absent"), "/sys/absent cannot be read: it does not exist");
    }

    #[test]
    fn a_folder_in_place_of_a_file_is_a_failure_and_bytes_that_are_no_text_are_not() {
        let tree = Tree::new(&[]);
        tree.folder("/sys/folder");
        tree.write("/sys/bytes", [0xff, 0xfe, b'a']);
        assert!(tree.root().text("/sys/folder").is_err());
        assert_eq!(tree.root().text("/sys/bytes").unwrap(), "\u{fffd}\u{fffd}a");
    }

    #[test]
    fn numbered_names_are_ordered_as_people_count() {
        let tree = Tree::new(&[]);
        for name in ["cpu10", "cpu2", "cpufreq", "cpu0"] {
            tree.folder(format!("/sys/{name}"));
        }
        assert_eq!(tree.root().names("/sys"), ["cpu0", "cpu10", "cpu2", "cpufreq"]);
        assert_eq!(tree.root().numbered("/sys", "cpu"), ["cpu0", "cpu2", "cpu10"]);
        assert!(tree.root().names("/absent").is_empty());
    }

    #[test]
    fn kernel_lists_are_read_and_absurd_ones_refused() {
        assert_eq!(parse_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        for bad in ["", "a", "3-1", "0-4294967295", "-1", "1,,2"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }
}
