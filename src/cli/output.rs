//! Output: results to standard output or a file, words to standard error.

use crate::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Writes one message to standard error. Where that is closed there is nobody to tell.
pub(super) fn tell(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Writes a result to standard output.
pub(super) fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|source| Error::Output { path: None, source })
}

/// Whether a result on standard output may be colored.
pub(super) fn may_color(destination: &Destination) -> bool {
    matches!(destination, Destination::StandardOutput)
        && io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Where a result goes. A file appears under its name only when it is whole; that it can be made is
/// known before anything is measured.
#[derive(Debug)]
pub(super) enum Destination {
    /// Standard output.
    StandardOutput,
    /// A file.
    File {
        /// Its name.
        path: PathBuf,
        /// What will get that name.
        file: NamedTempFile,
    },
}

impl Destination {
    /// Standard output for `None` and `-`.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::StandardOutput);
        };
        let failed = |source| Error::Output { path: Some(path.to_owned()), source };
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        Ok(Self::File { path: path.to_owned(), file })
    }

    /// Writes the result.
    pub(super) fn write(self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::StandardOutput => print(bytes),
            Self::File { path, mut file } => {
                let failed = |source| Error::Output { path: Some(path.clone()), source };
                file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
                make_readable(&file).map_err(failed)?;
                file.persist(&path).map_err(|error| failed(error.error))?;
                Ok(())
            }
        }
    }
}

/// A temporary file is private; a result is as readable as any file.
#[cfg(unix)]
fn make_readable(file: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same shape as on Unix")]
fn make_readable(_file: &NamedTempFile) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_appears_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        fs::write(&path, "old").unwrap();
        let destination = Destination::open(Some(&path)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        destination.write(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        drop(Destination::open(Some(&path)).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_at_once() {
        let message = Destination::open(Some(Path::new("/nowhere/result.json"))).unwrap_err();
        assert!(message.to_string().contains("/nowhere/result.json"));
    }
}
