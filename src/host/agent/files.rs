//! The files of an agent's machine: those that were sent, kept by checksum, and those that its workers make.

use super::CHUNK;
use crate::causes::in_words;
use crate::files;
use crate::model::artifact::{ArtifactRef, RefKind};
use crate::model::cache::{Cache, Scratch, hex};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use tempfile::TempDir;

/// Where files are, and those that are under way.
pub(super) struct Files {
    /// One folder for each artifact that was sent, named by its checksum.
    artifacts: PathBuf,
    /// What workers make, for the time of this agent.
    made: Scratch,
    receiving: Option<Receiving>,
    sending: Option<Sending>,
}

/// An artifact that is being received.
struct Receiving {
    artifact: ArtifactRef,
    folder: TempDir,
    /// Those of the files that are whole, by name.
    checksums: Vec<(String, String)>,
    current: Option<Received>,
}

impl Receiving {
    fn end_file(&mut self) {
        let ended = self.current.take().map(|it| (it.name, hex(&it.hash.finalize())));
        self.checksums.extend(ended);
    }
}

/// A file that is being sent.
struct Sending {
    path: PathBuf,
    file: File,
    hash: Sha256,
}

struct Received {
    name: String,
    file: File,
    hash: Sha256,
}

impl Files {
    pub(super) fn new(cache: &Cache) -> Result<Self, String> {
        let made = cache.scratch("made").map_err(|error| in_words(&error))?;
        fs::create_dir_all(made.path()).map_err(|error| in_words(&error))?;
        let artifacts = cache.artifacts().map_err(|error| in_words(&error))?;
        Ok(Self { artifacts, made, receiving: None, sending: None })
    }

    /// The folder of an artifact that was sent. Its checksum and its name come from the other end.
    fn folder(&self, artifact: &ArtifactRef) -> Result<PathBuf, String> {
        if !artifact.has_checksum() {
            return Err(format!("'{}' has no checksum and cannot be sent", artifact.name));
        }
        Ok(self.artifacts.join(&artifact.key))
    }

    pub(super) fn has(&self, artifact: &ArtifactRef) -> bool {
        self.folder(artifact).is_ok_and(|folder| folder.is_dir())
    }

    /// Gives a file of a job its place on this machine.
    pub(super) fn place(&self, artifact: &mut ArtifactRef) -> Result<(), String> {
        artifact.path = match artifact.kind {
            RefKind::Input => first_file(&self.folder(artifact)?)?,
            RefKind::Folder => self.folder(artifact)?,
            RefKind::Output | RefKind::Place => self.made(artifact)?,
            RefKind::Scratch => {
                let folder = self.made(artifact)?;
                fs::create_dir_all(&folder).map_err(|error| in_words(&error))?;
                folder
            }
        };
        Ok(())
    }

    /// Where a file that a worker makes is; its folder is made.
    pub(super) fn made(&self, artifact: &ArtifactRef) -> Result<PathBuf, String> {
        let folder = self.made.path().join(plain(&artifact.key)?);
        fs::create_dir_all(&folder).map_err(|error| in_words(&error))?;
        Ok(folder.join(plain(&artifact.name)?))
    }

    pub(super) fn begin(&mut self, artifact: ArtifactRef) -> Result<(), String> {
        self.folder(&artifact)?;
        let folder = tempfile::tempdir_in(self.made.path()).map_err(|error| in_words(&error))?;
        self.receiving = Some(Receiving { artifact, folder, checksums: Vec::new(), current: None });
        Ok(())
    }

    pub(super) fn next_file(&mut self, name: &str) -> Result<(), String> {
        let receiving = self.receiving.as_mut().ok_or("a file comes that nothing announced")?;
        let path = receiving.folder.path().join(relative(name)?);
        let created =
            fs::create_dir_all(files::folder_of(&path)).and_then(|()| File::create(&path));
        let file = created.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        receiving.end_file();
        receiving.current = Some(Received { name: name.to_owned(), file, hash: Sha256::new() });
        Ok(())
    }

    pub(super) fn chunk(&mut self, bytes: &[u8]) -> Result<(), String> {
        let current = self.receiving.as_mut().and_then(|receiving| receiving.current.as_mut());
        let received = current.ok_or("bytes come of no file")?;
        received.hash.update(bytes);
        let written = received.file.write_all(bytes);
        written.map_err(|error| format!("cannot write '{}': {error}", received.name))
    }

    /// Checks what was received and gives it its place.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let mut received = self.receiving.take().ok_or("nothing was sent")?;
        received.end_file();
        let Receiving { artifact, folder, checksums, .. } = received;
        let found = artifact.checksum_of(&checksums);
        if found != artifact.key {
            return Err(format!(
                "'{}' arrived with checksum {found} instead of {}; the file was changed, or the connection is faulty",
                artifact.name, artifact.key
            ));
        }
        self.keep(&folder, &artifact.key)
    }

    /// Begins to send a file that a worker made.
    pub(super) fn open(&mut self, artifact: &ArtifactRef) -> Result<(), String> {
        let path = self.made(artifact)?;
        let file = File::open(&path);
        let file = file.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        self.sending = Some(Sending { path, file, hash: Sha256::new() });
        Ok(())
    }

    /// The next bytes of it; none: it was sent, and is kept by its checksum so that it need not come back.
    pub(super) fn more(&mut self) -> Result<Vec<u8>, String> {
        let sending = self.sending.as_mut().ok_or("no file is wanted")?;
        let mut chunk = vec![0; CHUNK];
        let read = sending.file.read(&mut chunk);
        let unreadable = |error| format!("cannot read {}: {error}", sending.path.display());
        chunk.truncate(read.map_err(unreadable)?);
        sending.hash.update(&chunk);
        if chunk.is_empty()
            && let Some(Sending { path, hash, .. }) = self.sending.take()
        {
            let folder =
                tempfile::tempdir_in(self.made.path()).map_err(|error| in_words(&error))?;
            let kept = folder.path().join(path.file_name().unwrap_or_default());
            fs::rename(path, kept).map_err(|error| in_words(&error))?;
            self.keep(&folder, &hex(&hash.finalize()))?;
        }
        Ok(chunk)
    }

    fn keep(&self, folder: &TempDir, checksum: &str) -> Result<(), String> {
        let place = self.artifacts.join(checksum);
        match fs::rename(folder.path(), &place) {
            // It was there already.
            Err(_) if place.is_dir() => Ok(()),
            renamed => {
                renamed.map_err(|error| format!("cannot write {}: {error}", place.display()))
            }
        }
    }
}

/// The one file of an artifact, or the first part of a split one. It has the name that it had when it was sent first.
fn first_file(folder: &Path) -> Result<PathBuf, String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let first = files.map(|file| file.path()).min();
    first.ok_or_else(|| format!("nothing is in {}", folder.display()))
}

/// A name that leads nowhere else: it comes from the other end.
fn plain(name: &str) -> Result<&str, String> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(name),
        _ => Err(format!("'{}' is no name of a file", crate::model::text::printable(name))),
    }
}

/// A path that leads nowhere else.
fn relative(path: &str) -> Result<&Path, String> {
    let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if is_below && !path.is_empty() {
        return Ok(Path::new(path));
    }
    Err(format!("'{}' leads out of its folder", crate::model::text::printable(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cache::of_bytes;

    fn sent(
        files: &mut Files,
        artifact: &ArtifactRef,
        parts: &[(&str, &[u8])],
    ) -> Result<(), String> {
        files.begin(artifact.clone())?;
        for (name, bytes) in parts {
            files.next_file(name)?;
            files.chunk(bytes)?;
        }
        files.finish()
    }

    #[test]
    fn what_arrives_is_kept_only_if_it_has_its_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::new(&Cache::at(folder.path()).unwrap()).unwrap();
        let mut artifact = ArtifactRef::input(&of_bytes(b"whole"), Path::new("/far/a.gguf"), 5);
        let wrong = sent(&mut files, &artifact, &[("a.gguf", b"whale")]).unwrap_err();
        assert!(wrong.contains(&of_bytes(b"whale")) && wrong.contains(&artifact.key), "{wrong}");
        assert!(!files.has(&artifact));
        sent(&mut files, &artifact, &[("a.gguf", b"whole")]).unwrap();
        assert!(files.has(&artifact));
        files.place(&mut artifact).unwrap();
        assert_eq!(fs::read(&artifact.path).unwrap(), b"whole");
        // Nothing is left of what was refused.
        assert_eq!(fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 1);
    }

    #[test]
    fn names_from_the_other_end_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::new(&Cache::at(folder.path()).unwrap()).unwrap();
        let artifact = ArtifactRef::input(&of_bytes(b""), Path::new("a"), 0);
        files.begin(artifact.clone()).unwrap();
        for name in ["../a", "/a", "", "a/../../b"] {
            assert!(files.next_file(name).is_err(), "{name}");
        }
        for key in ["..", "../../x", "zz", ""] {
            let mut foreign = ArtifactRef { key: key.to_owned(), ..artifact.clone() };
            assert!(files.begin(foreign.clone()).is_err() && files.place(&mut foreign).is_err());
        }
        let mut output =
            ArtifactRef { name: "../x".to_owned(), ..ArtifactRef::output(Path::new("/o/x")) };
        assert!(files.place(&mut output).is_err());
    }
}
