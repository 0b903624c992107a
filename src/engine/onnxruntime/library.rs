//! The library of ONNX Runtime: where it is and which version it has. Nothing is loaded here, for the orchestrator asks
//! too, and what a stranger's library does when it is loaded is for a worker to bear.

use crate::files;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The variable that names the library, as ONNX Runtime's bindings read it.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The oldest version whose interface is spoken: 1.21.
pub const OLDEST: u32 = 21;

/// What installs the library.
pub const INSTALL: &str = "pip install onnxruntime";

/// What stands before the version among the symbols of a library for Linux.
const SYMBOLS: &[u8] = b"VERS_";

/// Most bytes that are read of a library; those for processors alone have 40 MB.
const LARGEST: u64 = 1 << 30;

/// Bytes that say what a file is.
const START: u64 = 64;

/// What `--onnxruntime` named.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Takes what the user chose; workers get it through the environment.
pub fn choose(path: &Path) {
    // Of a folder the library in it is meant.
    let inside = newest_in(path);
    let path = inside.as_deref().unwrap_or(path);
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // The command line is read once.
    let _ = CHOSEN.set(absolute);
}

/// What the user chose on the command line.
pub fn chosen() -> Option<&'static Path> {
    CHOSEN.get().map(PathBuf::as_path)
}

/// Who named the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `--onnxruntime`.
    Flag,
    /// `ORT_DYLIB_PATH`.
    Variable,
    /// An installed wheel of Python's.
    Wheel,
    /// A folder of the system's.
    System,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Flag => "--onnxruntime",
            Self::Variable => VARIABLE,
            Self::Wheel => "an installed wheel",
            Self::System => "the system",
        })
    }
}

/// A library that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// Who named it.
    pub place: Place,
}

/// Why a library is of no use; `Display` says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// There is none.
    #[error(
        "no library of ONNX Runtime was found; install it with '{INSTALL}', or name it with --onnxruntime PATH or {VARIABLE}"
    )]
    None,
    /// The file cannot be read.
    #[error(
        "cannot read {}, the library of ONNX Runtime that {} names: {reason}",
        path.display(), given(*place)
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Who named it.
        place: Place,
        /// What the system said.
        reason: String,
    },
    /// The file is something else.
    #[error("{} is no library of ONNX Runtime: {reason}; '{INSTALL}' installs one", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its version is too old.
    #[error(
        "{} is ONNX Runtime {version}, and 1.{OLDEST} is the oldest that is spoken with; '{INSTALL}' installs a newer one",
        path.display()
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// What a user may have written. Workers get what the flag named by the variable.
const fn given(place: Place) -> &'static str {
    match place {
        Place::Flag => "--onnxruntime",
        Place::Variable => "--onnxruntime or ORT_DYLIB_PATH",
        Place::Wheel => "an installed wheel",
        Place::System => "the system",
    }
}

/// Finds the library: what the user chose, else an installed wheel, else the system's.
///
/// # Errors
/// [`LibraryError::None`].
pub fn find() -> Result<Library, LibraryError> {
    if let Some(path) = chosen() {
        return Ok(Library { path: path.to_owned(), place: Place::Flag });
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(Library { path: PathBuf::from(path), place: Place::Variable });
    }
    let wheel = prefixes().iter().find_map(|prefix| in_prefix(prefix));
    let wheel = wheel.map(|path| Library { path, place: Place::Wheel });
    let system = || {
        let path = system_folders().iter().find_map(|folder| newest_in(folder))?;
        Some(Library { path, place: Place::System })
    };
    wheel.or_else(system).ok_or(LibraryError::None)
}

impl Library {
    /// Whether the file can be what it is to be.
    ///
    /// # Errors
    /// It cannot be read, is no library, or one for another processor.
    pub fn check(&self) -> Result<(), LibraryError> {
        let path = &self.path;
        let mut start = Vec::new();
        let read = files::open(path).and_then(|file| {
            let bytes = file.metadata()?.len();
            file.take(START).read_to_end(&mut start)?;
            Ok(bytes)
        });
        let bytes = read.map_err(|error| self.unreadable(&error))?;
        match not_loadable(&start).or_else(|| cut_off(&start, bytes)) {
            None => Ok(()),
            Some(reason) => Err(self.other(reason)),
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> LibraryError {
        let Self { path, place } = self.clone();
        LibraryError::Unreadable { path, place, reason: error.to_string() }
    }

    fn other(&self, reason: impl Into<String>) -> LibraryError {
        LibraryError::Other { path: self.path.clone(), reason: reason.into() }
    }

    /// Its version, such as `1.32.0`, read from the file.
    ///
    /// # Errors
    /// It cannot be read, is none, is for another processor, or is too old.
    pub fn version(&self) -> Result<String, LibraryError> {
        self.check()?;
        let path = &self.path;
        let bytes = files::read_at_most(path, LARGEST).map_err(|error| self.unreadable(&error))?;
        let bytes = bytes.ok_or_else(|| self.other("it is larger than any library"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let version = in_symbols(&bytes).or_else(|| in_name(&name));
        let version = version.ok_or_else(|| self.other("it names no version"))?;
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        if version.starts_with("1.") && minor.is_some_and(|minor: u32| minor < OLDEST) {
            return Err(LibraryError::TooOld { path: path.clone(), version });
        }
        Ok(version)
    }
}

/// Why the system would not load a file; `None` if it would, as far as its beginning says.
fn not_loadable(bytes: &[u8]) -> Option<String> {
    const ELF_MACHINES: [(u16, &str); 5] = [
        (0x3e, "x86_64"),
        (0xb7, "aarch64"),
        (0xf3, "riscv64"),
        (0x28, "arm"),
        (0x15, "powerpc64"),
    ];
    const MACH: [[u8; 4]; 2] = [[0xcf, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe]];
    let Some(start) = bytes.get(..20) else { return Some("it is no shared library".to_owned()) };
    if start.starts_with(b"\x7fELF") {
        let machine = u16::from_le_bytes([start[18], start[19]]);
        let named = ELF_MACHINES.iter().find(|(number, _)| *number == machine);
        let name = named.map_or("another processor", |(_, name)| name);
        let own = std::env::consts::ARCH;
        return (name != own)
            .then(|| format!("it is built for {name}, and this program for {own}"));
    }
    let is_mach = MACH.iter().any(|magic| start.starts_with(magic));
    (!is_mach).then(|| "it is no shared library".to_owned())
}

/// Whether a library for Linux ends before its table of sections, which is the last of it.
fn cut_off(start: &[u8], bytes: u64) -> Option<String> {
    if !start.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let number = |at: usize| {
        let pair = start.get(at..at + 2).and_then(|it| it.try_into().ok());
        u64::from(pair.map_or(0, u16::from_le_bytes))
    };
    let offset =
        start.get(0x28..0x30).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes);
    let end = offset.saturating_add(number(0x3a) * number(0x3c));
    (end > bytes).then(|| format!("it is cut off: it has {bytes} bytes of {end}"))
}

/// The version that stands at the symbols of a library for Linux.
fn in_symbols(bytes: &[u8]) -> Option<String> {
    let finder = aho_corasick::AhoCorasick::new([SYMBOLS]).ok()?;
    let mut found = finder.find_iter(bytes);
    found.find_map(|found| version_at(&bytes[found.end()..]))
}

/// The version in a name like `libonnxruntime.so.1.32.0` or `libonnxruntime.1.32.0.dylib`.
fn in_name(name: &str) -> Option<String> {
    let (_, rest) = name.split_once("onnxruntime")?;
    let start = rest.find(|c: char| c.is_ascii_digit())?;
    version_at(&rest.as_bytes()[start..])
}

/// Three numbers with dots between.
fn version_at(bytes: &[u8]) -> Option<String> {
    let length = bytes.iter().take(20).take_while(|it| it.is_ascii_digit() || **it == b'.').count();
    let text = std::str::from_utf8(&bytes[..length]).ok()?.trim_end_matches('.');
    let parts = text.split('.').collect::<Vec<_>>();
    let are_numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
    (parts.len() == 3 && are_numbers).then(|| text.to_owned())
}

/// Where Pythons are installed, the most particular first: an environment that is active, the folder's own, those whose
/// `python3` is found first, the user's, the system's.
fn prefixes() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).collect();
    prefixes.push(PathBuf::from(".venv"));
    for folder in variable("PATH").iter().flat_map(std::env::split_paths) {
        let python = folder.join("python3");
        // Links lead to the Python that an environment was made with, which has wheels of its own.
        let real = std::fs::canonicalize(&python).ok();
        for python in std::iter::once(python).filter(|it| it.exists()).chain(real) {
            prefixes.extend(python.parent().and_then(Path::parent).map(Path::to_owned));
        }
    }
    if let Some(folders) = directories::BaseDirs::new() {
        prefixes.push(folders.home_dir().join(".local"));
        // Its commands are scripts that choose one of these.
        let versions = std::fs::read_dir(folders.home_dir().join(".pyenv/versions"));
        let mut versions: Vec<PathBuf> =
            versions.into_iter().flatten().flatten().map(|it| it.path()).collect();
        versions.sort();
        prefixes.extend(versions.into_iter().rev());
    }
    prefixes.extend(["/usr/local", "/usr", "/opt/homebrew"].map(PathBuf::from));
    prefixes
}

/// The library of the wheel that a Python has.
fn in_prefix(prefix: &Path) -> Option<PathBuf> {
    let mut libraries: Vec<PathBuf> = std::fs::read_dir(prefix.join("lib"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|it| it.file_name().to_string_lossy().starts_with("python3"))
        .map(|it| it.path())
        .collect();
    libraries.sort();
    let folders = libraries.iter().rev().flat_map(|library| {
        ["site-packages", "dist-packages"].map(|it| library.join(it).join("onnxruntime/capi"))
    });
    folders.into_iter().find_map(|folder| newest_in(&folder))
}

fn system_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("LD_LIBRARY_PATH");
    let named = named.iter().flat_map(std::env::split_paths).filter(|it| it.is_absolute());
    let triple = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let usual = ["/usr/local/lib", "/usr/lib64", triple.as_str(), "/usr/lib", "/opt/homebrew/lib"];
    named.chain(usual.into_iter().map(PathBuf::from)).collect()
}

/// The library in a folder; of several the one of the highest version.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten();
    let libraries = files.filter_map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        let is_one = name.starts_with("libonnxruntime.so")
            || name.starts_with("libonnxruntime.")
                && file.path().extension().is_some_and(|end| end == "dylib");
        let numbers = in_name(&name).unwrap_or_default();
        let numbers: Vec<u32> = numbers.split('.').filter_map(|it| it.parse().ok()).collect();
        is_one.then(|| (numbers, file.path()))
    });
    libraries.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a library for this processor begins with, and what stands behind.
    fn library(machine: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.resize(18, 0);
        bytes.extend(machine.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    fn version_of(name: &str, bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let library = Library { path, place: Place::Flag };
        library.version().map_err(|error| error.to_string())
    }

    fn own_machine() -> u16 {
        if cfg!(target_arch = "aarch64") { 0xb7 } else { 0x3e }
    }

    #[test]
    fn the_version_is_read_from_the_symbols_or_the_name() {
        let named = library(own_machine(), b"\0VERS_\0OrtGetApiBase\0VERS_1.32.0\0");
        assert_eq!(version_of("libonnxruntime.so", &named).unwrap(), "1.32.0");
        let plain = library(own_machine(), b"\0");
        assert_eq!(version_of("libonnxruntime.so.1.25.1", &plain).unwrap(), "1.25.1");
        let error = version_of("libonnxruntime.so", &plain).unwrap_err();
        assert!(error.contains("it names no version"), "{error}");
    }

    #[test]
    fn what_is_no_library_or_of_another_processor_or_too_old_is_named() {
        let error = version_of("x.so", b"not a library, though it is long enough").unwrap_err();
        assert!(error.contains("it is no shared library"), "{error}");
        let error = version_of("x.so", &library(0x15, b"VERS_1.32.0\0")).unwrap_err();
        assert!(error.contains("it is built for powerpc64"), "{error}");
        let error = version_of("x.so", &library(own_machine(), b"VERS_1.19.2\0")).unwrap_err();
        assert!(error.contains("ONNX Runtime 1.19.2, and 1.21 is the oldest"), "{error}");
        let missing = Library { path: PathBuf::from("/no/x.so"), place: Place::Variable };
        let error = missing.version().unwrap_err().to_string();
        assert!(error.contains("that --onnxruntime or ORT_DYLIB_PATH names"), "{error}");
        let mut cut = library(own_machine(), b"\0VERS_1.32.0\0");
        cut[4] = 2;
        cut.resize(100, 0);
        for (end, is_cut) in [(101_u64, true), (100, false)] {
            cut[0x28..0x30].copy_from_slice(&end.to_le_bytes());
            cut[0x3a..0x40].fill(0);
            let version = version_of("libonnxruntime.so.1.32.0", &cut);
            assert_eq!(version.is_err_and(|it| it.contains("it is cut off")), is_cut);
        }
    }

    #[test]
    fn a_wheel_is_found_where_python_puts_it() {
        let folder = tempfile::tempdir().unwrap();
        let capi = folder.path().join("lib/python3.11/site-packages/onnxruntime/capi");
        std::fs::create_dir_all(&capi).unwrap();
        assert_eq!(in_prefix(folder.path()), None);
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime_providers_shared.so",
        ] {
            std::fs::write(capi.join(name), "").unwrap();
        }
        assert_eq!(in_prefix(folder.path()), Some(capi.join("libonnxruntime.so.1.32.0")));
    }
}
