//! Files that a command reads and writes: their kind is checked before they are opened, no result
//! replaces an input, and partial files of killed processes are removed.

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Signal, getrlimit};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tempfile::{NamedTempFile, TempPath};
use tokio::signal::unix::{SignalKind, signal};

/// How files begin that are written beside their final name.
const UNFINISHED: &str = ".quantbench-";

/// How they end.
const UNFINISHED_END: &str = ".partial";

/// Links that are followed, as the system does.
const MOST_LINKS: usize = 40;

/// What this process has read. Whatever opens a file that the user named does so here, so that a command
/// need not list its inputs to keep them from being written over.
static INPUTS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Opens a file that the user named. Opening a pipe would block until it has a writer, so the kind of
/// file is checked first.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    // What the shell hands over (`<(command)`, `/dev/stdin`) is open already.
    let handed_over = descriptor(path).is_some() && !metadata.is_dir();
    if !handed_over && let Some(kind) = special_kind(&metadata) {
        let message = format!("it is {kind}, not a regular file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    note_input(path);
    File::open(path)
}

/// The text in a file that the user named.
///
/// # Errors
/// As [`open`], or it is no UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    io::read_to_string(open(path)?)
}

/// The bytes of a file that the user named; `None` if there are more than `most`. The limit is on what is read, since a
/// pipe has no size.
///
/// # Errors
/// As [`open`].
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// Notes that a file is read, where something else opens it.
pub fn note_input(path: &Path) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    INPUTS.lock().unwrap_or_else(PoisonError::into_inner).insert(absolute);
}

/// The input of this process that writing to `path` would destroy, under whatever name: through
/// symbolic and hard links.
#[must_use]
pub fn input_at(path: &Path) -> Option<PathBuf> {
    let target = fs::metadata(path).ok().filter(Metadata::is_file)?;
    let inputs = INPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_target = |input: &&PathBuf| {
        fs::metadata(input).is_ok_and(|it| (it.dev(), it.ino()) == (target.dev(), target.ino()))
    };
    inputs.iter().find(is_target).cloned()
}

/// What a file is that is not regular.
#[must_use]
pub fn special_kind(metadata: &Metadata) -> Option<&'static str> {
    if metadata.is_file() {
        return None;
    }
    let kind = metadata.file_type();
    let kinds = [
        (kind.is_fifo(), "a named pipe (FIFO)"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
        (kind.is_dir(), "a folder"),
    ];
    let known = kinds.into_iter().find(|(is_so, _)| *is_so);
    Some(known.map_or("something else", |(_, name)| name))
}

/// The number in a name of a file that this process has open, as `/dev/fd/3`.
fn descriptor(path: &Path) -> Option<u32> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        name => {
            let prefixes = ["/dev/fd/", "/proc/self/fd/"];
            prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?.parse().ok()
        }
    }
}

/// Where a result goes, once links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Standard output, by one of its names.
    StandardOutput,
    /// A pipe, a device, or another file that is open already: it is written to, never replaced.
    Stream(PathBuf),
    /// A regular file, or none yet. A link stays what it is: this is where it leads.
    File(PathBuf),
}

impl Place {
    /// What writing to `path` would mean.
    ///
    /// # Errors
    /// It is a folder, or a link that leads nowhere.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match descriptor(&path) {
                Some(1) => return Ok(Self::StandardOutput),
                Some(_) => return Ok(Self::Stream(path)),
                None => {}
            }
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Self::File(path));
                }
                Err(error) => return Err(error),
                Ok(metadata) if metadata.is_symlink() => {
                    let target = fs::read_link(&path)?;
                    path = path.parent().unwrap_or(Path::new("")).join(target);
                }
                Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
                Ok(metadata) if metadata.is_file() => return Ok(Self::File(path)),
                Ok(_) => return Ok(Self::Stream(path)),
            }
        }
        Err(io::Error::other("too many symbolic links"))
    }
}

/// How long a pipe waits for someone to read it.
const READER_LIMIT: Duration = Duration::from_secs(10);

/// Opens what is written to as it is. Opening a pipe that nobody reads would wait for ever, deaf to signals.
///
/// # Errors
/// It cannot be opened, or is a pipe that nobody reads.
pub fn open_stream(path: &Path) -> io::Result<File> {
    open_stream_within(path, READER_LIMIT)
}

fn open_stream_within(path: &Path, limit: Duration) -> io::Result<File> {
    let waiting = OFlags::NONBLOCK.bits().cast_signed();
    let start = Instant::now();
    loop {
        match OpenOptions::new().append(true).custom_flags(waiting).open(path) {
            Ok(stream) => {
                let flags = rustix::fs::fcntl_getfl(&stream)?;
                rustix::fs::fcntl_setfl(&stream, flags - OFlags::NONBLOCK)?;
                return Ok(stream);
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                if start.elapsed() >= limit {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads the pipe"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A file by an absolute path without `..`, whether it is there yet or not.
///
/// # Errors
/// There is no such folder.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let folder = fs::canonicalize(folder_of(path))?;
    Ok(path.file_name().map_or_else(|| folder.clone(), |name| folder.join(name)))
}

/// A disk, and what is free on it.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Tells disks apart.
    pub device: u64,
    /// Bytes; `None`: the system does not tell.
    pub free: Option<u64>,
}

impl Room {
    /// The disk of a folder, which need not be there yet.
    pub fn of(folder: &Path) -> Self {
        let there = folder.ancestors().find(|it| it.exists()).unwrap_or_else(|| Path::new("."));
        let device = fs::metadata(there).map_or(0, |metadata| metadata.dev());
        Self { device, free: fs4::available_space(there).ok() }
    }
}

/// The folder of a file.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// A file that is written beside its final name, so that it appears there only when it is whole. It is
/// removed when this is dropped; if this process is killed, by the next one that writes to the folder.
#[derive(Debug)]
pub struct Unfinished {
    path: TempPath,
    /// Locked: tells others that this process lives.
    file: File,
}

impl Unfinished {
    /// A file beside `path`. What dead processes left there is removed.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path);
        sweep(folder);
        loop {
            let (file, path) = named(folder)?.into_parts();
            // Where locks are not to be had, nobody sweeps either.
            let locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            // Another process may have swept it before it was locked.
            if locked && path.exists() {
                return Ok(Self { path, file });
            }
        }
    }

    /// Its name for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sees what was written to the disk and gives it its name; an input is not replaced. Returns its
    /// bytes.
    ///
    /// # Errors
    /// It cannot be written or renamed, or `path` is an input.
    pub fn finish(self, path: &Path) -> io::Result<u64> {
        if let Some(input) = input_at(path) {
            return Err(io::Error::other(format!("it is {}, an input", input.display())));
        }
        // What is there already keeps its permissions; a temporary file is private.
        let permissions = fs::metadata(path).map(|metadata| metadata.permissions());
        self.file.set_permissions(permissions.unwrap_or(Permissions::from_mode(0o644)))?;
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        self.path.persist(path).map_err(|error| error.error)?;
        Ok(bytes)
    }
}

impl io::Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.file).flush()
    }
}

/// A file that is never seen half written under its final name, for whoever removes what is left over
/// by other means than [`Unfinished`].
///
/// # Errors
/// The folder cannot be written to.
pub fn named(folder: &Path) -> io::Result<NamedTempFile> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let not_found = |words: &'static str| {
        move |error: io::Error| match error.kind() {
            kind @ io::ErrorKind::NotFound => {
                io::Error::new(kind, format!("{words} {}", folder.display()))
            }
            _ => error,
        }
    };
    // What messages say of it has no `..` in it.
    let real = fs::canonicalize(folder).map_err(not_found("there is no folder"))?;
    // tempfile's own errors name the temporary file, which nobody asked for.
    let builder = &mut tempfile::Builder::new();
    let made = builder.prefix(UNFINISHED).suffix(UNFINISHED_END);
    made.make_in(real, |path| options.open(path)).map_err(not_found("no file can be made in"))
}

/// Whether a file of this name is one that quantbench had not finished.
#[must_use]
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED) && name.ends_with(UNFINISHED_END)
}

/// Removes what dead processes left in a folder. That it cannot be done costs space, nothing else.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_unfinished(&entry.file_name().to_string_lossy()) {
            let free = OpenOptions::new().write(true).open(entry.path());
            if let Ok(file) = free
                && file.try_lock().is_ok()
            {
                // Removed while it is locked: whoever made it just now sees that it is gone.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What tells a file from one that takes its place, even where both have one size and one time of
/// change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    bytes: u64,
    modified_ns: Option<u64>,
    /// When its content or its description changed: no program can set this.
    #[serde(default)]
    changed_ns: Option<u64>,
    #[serde(default)]
    device: Option<u64>,
    #[serde(default)]
    inode: Option<u64>,
}

impl Stamp {
    /// The stamp of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let seconds = u64::try_from(metadata.ctime()).ok();
        let part = u64::try_from(metadata.ctime_nsec()).unwrap_or(0);
        Self {
            bytes: metadata.len(),
            modified_ns: since.and_then(|since| u64::try_from(since.as_nanos()).ok()),
            changed_ns: seconds.map(|it| it.saturating_mul(1_000_000_000).saturating_add(part)),
            device: Some(metadata.dev()),
            inode: Some(metadata.ino()),
        }
    }

    /// The last change that the stamp shows, nanoseconds since 1970; `None` if it shows none.
    #[must_use]
    pub fn last_change_ns(&self) -> Option<u64> {
        self.modified_ns?;
        self.modified_ns.max(self.changed_ns)
    }
}

/// Has writing beyond the limit on the size of files fail with an error. Unless it is handled, the signal
/// that comes with it ends the process without a word.
pub fn survive_size_limit() {
    let kind = SignalKind::from_raw(Signal::XFSZ.as_raw());
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
        let _context = runtime.enter();
        // The handler stays when the runtime is gone. Where there is none, all is as it was.
        let _ = signal(kind);
    }
}

/// The most bytes that a file may have which this process writes (`ulimit -f`); `None`: no limit.
#[must_use]
pub fn size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// What is said of a write that met the limit on the size of files.
#[must_use]
pub fn in_words_of_size_limit() -> Option<String> {
    let limit = crate::units::format_bytes(size_limit()?);
    Some(format!("files may have at most {limit} here ('ulimit -f' shows and raises that)"))
}

#[cfg(test)]
mod tests;
