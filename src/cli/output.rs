//! Output: results to standard output or a file, words to standard error.

use crate::error::Error;
use crate::files::{self, Place, Unfinished};
use crate::model::cache::{Cache, CacheError, Scratch};
use clap::ValueEnum;
use serde::Serialize;
use std::fs::File;
use std::io::{self, IsTerminal, Read as _, Write};
use std::path::{Path, PathBuf};

/// Writes one message to standard error. Where that is closed there is nobody to tell.
pub(super) fn tell(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Asks a person, who answers yes or no; `by_default` is what a line without a word means.
pub(super) fn ask(question: &str, by_default: bool) -> bool {
    tell(question);
    let mut answer = String::new();
    // An end of input is no consent.
    let is_answered = io::stdin().read_line(&mut answer).is_ok_and(|bytes| bytes > 0);
    is_answered
        && matches!(
            (answer.trim().to_lowercase().as_str(), by_default),
            ("", true) | ("y" | "yes", _)
        )
}

/// Writes a result to standard output.
pub(super) fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|source| Error::Output { path: None, source })
}

/// How a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// JSON for programs
    Json,
}

/// Version of the JSON forms of all commands but `run` and `show`; rises when a field changes its meaning or goes away.
const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<T> {
    format: &'static str,
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// A document with fields as JSON, its format's name before them and a line break at the end.
pub(super) fn json(format: &'static str, content: impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(&Document { format, version: JSON_VERSION, content });
    let text = text.map_err(|error| Error::Output { path: None, source: error.into() })?;
    Ok(text + "\n")
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
    /// A pipe or a device.
    Stream(PathBuf),
    /// A file.
    File {
        /// Its name.
        path: PathBuf,
        /// What will get that name.
        file: Unfinished,
    },
}

impl Destination {
    /// Standard output for `None` and `-`.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::StandardOutput);
        };
        let failed = |source| Error::Output { path: Some(path.to_owned()), source };
        let destination = match Place::of(path).map_err(failed)? {
            Place::StandardOutput => Self::StandardOutput,
            Place::Stream(path) => Self::Stream(path),
            Place::File(path) => {
                // That it is an input says more.
                spare_inputs(&path)?;
                spare_models(&path).map_err(failed)?;
                Self::File { file: Unfinished::beside(&path).map_err(failed)?, path }
            }
        };
        destination.spare_inputs()?;
        Ok(destination)
    }

    /// Refuses to replace what this command has read so far.
    pub(super) fn spare_inputs(&self) -> Result<(), Error> {
        match self {
            Self::File { path, .. } => spare_inputs(path),
            Self::StandardOutput | Self::Stream(_) => Ok(()),
        }
    }

    /// Writes the result.
    pub(super) fn write(self, bytes: &[u8]) -> Result<(), Error> {
        self.spare_inputs()?;
        match self {
            Self::StandardOutput => print(bytes),
            Self::Stream(path) => files::open_stream(&path)
                .and_then(|mut stream| stream.write_all(bytes))
                .map_err(|source| Error::Output { path: Some(path), source }),
            Self::File { path, mut file } => file
                .write_all(bytes)
                .and_then(|()| file.finish(&path))
                .map(|_| ())
                .map_err(|source| Error::Output { path: Some(path), source }),
        }
    }
}

/// A result replaces an older one, and neither a model nor a store, whose making took long.
fn spare_models(path: &Path) -> io::Result<()> {
    let mut beginning = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut beginning));
    let what = match (&read, beginning.as_slice()) {
        (Ok(_), [b'G', b'G', b'U', b'F', ..]) => "a GGUF",
        (Ok(_), b"SQLite format 3\0") => "a database",
        _ => return Ok(()),
    };
    let message = format!("it is {what}, which no result replaces; name another file");
    Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
}

/// Refuses a file to write that is one of those that were read.
pub(super) fn spare_inputs(path: &Path) -> Result<(), Error> {
    match files::input_at(path) {
        None => Ok(()),
        Some(input) => Err(Error::OutputIsInput { path: path.to_owned(), input }),
    }
}

/// Where a worker writes a file that the user named.
#[derive(Debug)]
pub(super) enum Product {
    /// Beside its final name.
    File {
        /// That name.
        path: PathBuf,
        /// What gets it.
        file: Unfinished,
    },
    /// Under its final name, which the worker gives it when it is whole; what is done before that it keeps beside it.
    Resumable(PathBuf),
    /// In the cache, from where it is copied into a pipe or a device: workers go back and forth in what
    /// they write.
    Copied {
        /// Where to.
        place: Place,
        /// The file.
        file: Scratch,
    },
}

impl Product {
    /// A place for a file that is to be called `path`, which is none of the inputs; the cache is opened only
    /// where it is needed.
    pub(super) fn open(
        path: &Path,
        cache: impl FnOnce() -> Result<Cache, CacheError>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Output { path: Some(path.to_owned()), source };
        spare_inputs(path)?;
        Ok(match Place::of(path).map_err(failed)? {
            Place::File(path) => {
                Self::File { file: Unfinished::beside(&path).map_err(failed)?, path }
            }
            place => Self::Copied { place, file: cache()?.scratch("product")? },
        })
    }

    /// The same of a file whose worker goes on with what lies beside it; `written` are all names that it may write to.
    pub(super) fn resumable(
        path: &Path,
        written: impl Fn(&Path) -> Vec<PathBuf>,
        cache: &Cache,
    ) -> Result<Self, Error> {
        match Self::open(path, || Ok(cache.clone()))? {
            Self::File { path, .. } => {
                written(&path).iter().try_for_each(|written| spare_inputs(written))?;
                Ok(Self::Resumable(files::absolute(&path).unwrap_or(path)))
            }
            other => Ok(other),
        }
    }

    /// Where the worker writes.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File { file, .. } => file.path(),
            Self::Resumable(path) => path,
            Self::Copied { file, .. } => file.path(),
        }
    }

    /// Gives a whole file its name, or copies it to where it goes. Returns its bytes.
    pub(super) fn finish(self) -> Result<u64, Error> {
        let (path, result) = match self {
            Self::File { path, file } => {
                let result = file.finish(&path);
                (Some(path), result)
            }
            Self::Resumable(path) => {
                let result = path.metadata().map(|metadata| metadata.len());
                (Some(path), result)
            }
            Self::Copied { place, file } => {
                let path = match &place {
                    Place::Stream(path) | Place::File(path) => Some(path.clone()),
                    Place::StandardOutput => None,
                };
                (path, copy(file.path(), &place))
            }
        };
        result.map_err(|source| Error::Output { path, source })
    }

    /// Prints the line about what was made; where that itself went to standard output, to standard error.
    pub(super) fn print_line(to: &Path, line: &str) -> Result<(), Error> {
        match Place::of(to) {
            Ok(Place::StandardOutput) => {
                tell(line.trim_end());
                Ok(())
            }
            _ => print(line.as_bytes()),
        }
    }
}

fn copy(from: &Path, to: &Place) -> io::Result<u64> {
    let mut file = File::open(from)?;
    match to {
        Place::StandardOutput => {
            let mut output = io::stdout().lock();
            let bytes = io::copy(&mut file, &mut output)?;
            output.flush()?;
            Ok(bytes)
        }
        Place::Stream(path) | Place::File(path) => {
            io::copy(&mut file, &mut files::open_stream(path)?)
        }
    }
}

/// Whether something is there that only `--force` may replace. What is written to, such as a pipe, is
/// not replaced.
pub(super) fn is_there(path: &Path) -> bool {
    path.exists() && !matches!(Place::of(path), Ok(Place::StandardOutput | Place::Stream(_)))
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

    #[test]
    fn what_was_read_before_or_since_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.toml");
        fs::write(&path, "precious").unwrap();
        let destination = Destination::open(Some(&path)).unwrap();
        files::open(&path).unwrap();
        let error = destination.write(b"table").unwrap_err().to_string();
        assert!(error.contains("input.toml") && error.contains("is an input"), "{error}");
        assert!(matches!(Destination::open(Some(&path)), Err(Error::OutputIsInput { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
