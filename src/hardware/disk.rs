//! The disk that a folder lies on.

use crate::hardware::finding::Finding;
use crate::hardware::root::SystemRoot;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The disk that a folder lies on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// The folder asked about.
    pub path: PathBuf,
    /// Size of its file system, bytes.
    pub total_bytes: Finding<u64>,
    /// What may still be written by this user, bytes.
    pub free_bytes: Finding<u64>,
    /// Kind of file system and device: `ext4 on /dev/vda`.
    pub file_system: Finding<String>,
    /// Whether the device says that it is a rotating disk.
    pub rotating: Finding<bool>,
}

impl Disk {
    /// Looks at the disk of a folder, or of its nearest parent that exists.
    pub fn of(path: &Path, root: &SystemRoot) -> Self {
        let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
        let mount = mount_of(root, existing);
        Self {
            path: path.to_owned(),
            total_bytes: Finding::from(fs4::total_space(existing)),
            free_bytes: Finding::from(fs4::available_space(existing)),
            rotating: rotating(root, mount.as_ref()),
            file_system: Finding::from_option(mount, || {
                "/proc/self/mountinfo does not list the file system".to_owned()
            })
            .map(|mount| format!("{} on {}", mount.file_system, mount.source)),
        }
    }
}

/// A line of `/proc/self/mountinfo`.
///
/// Source: `proc_pid_mountinfo(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// `major:minor` of the device.
    pub(super) device: String,
    /// The folder within the file system that is mounted.
    pub(super) root: String,
    /// Where it is mounted.
    pub(super) point: String,
    /// Kind of file system.
    pub(super) file_system: String,
    /// What is mounted.
    pub(super) source: String,
    /// Options of the file system; for version 1 control groups, the controllers.
    pub(super) options: String,
}

/// All mounts of this process, in the order in which they were made.
pub(super) fn mounts(root: &SystemRoot) -> Vec<Mount> {
    let text = root.text("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let mut file_system = file_system.split(' ');
    Some(Mount {
        device: (*mount.get(2)?).to_owned(),
        root: unescape(mount.get(3)?),
        point: unescape(mount.get(4)?),
        file_system: file_system.next()?.to_owned(),
        source: unescape(file_system.next()?),
        options: file_system.next().unwrap_or_default().to_owned(),
    })
}

/// Undoes the kernel's escapes of white space in paths.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn mount_of(root: &SystemRoot, path: &Path) -> Option<Mount> {
    let path = path.canonicalize().ok()?;
    let mounts = mounts(root).into_iter().filter(|mount| path.starts_with(&mount.point));
    // Of mounts at one point the last hides the others: `max_by_key` returns the last of equals.
    mounts.max_by_key(|mount| mount.point.len())
}

fn rotating(root: &SystemRoot, mount: Option<&Mount>) -> Finding<bool> {
    let Some(mount) = mount else {
        return Finding::Missing("the file system's device is not known".to_owned());
    };
    let device = format!("/sys/dev/block/{}", mount.device);
    // A partition has no queue of its own: its disk is the folder above.
    let flag = root
        .number::<u8>(format!("{device}/queue/rotational"))
        .or_else(|_| root.number::<u8>(format!("{device}/../queue/rotational")));
    Finding::from(flag.map_err(|failure| format!("{failure} (no block device of its own)")))
        .map(|flag| flag != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    /// A machine whose root is on one disk and whose folder for temporary files is on another.
    fn machine() -> Tree {
        let temporary = std::env::temp_dir().canonicalize().unwrap();
        let mounts = format!(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
             27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
             40 27 8:1 / {} rw shared:5 - xfs /dev/sd\\040a1 rw\n\
             garbage\n\
             41 27 8:1 /\n",
            temporary.display()
        );
        Tree::new(&[
            ("/proc/self/mountinfo", &mounts),
            ("/sys/dev/block/254:0/queue/rotational", "1\n"),
        ])
    }

    #[test]
    fn a_folder_belongs_to_the_innermost_mount_above_it() {
        let tree = machine();
        assert_eq!(mounts(&tree.root()).len(), 3);
        let mount = mount_of(&tree.root(), &std::env::temp_dir()).unwrap();
        assert_eq!((mount.file_system.as_str(), mount.source.as_str()), ("xfs", "/dev/sd a1"));
        assert_eq!(mount_of(&tree.root(), Path::new("/")).unwrap().file_system, "ext4");
    }

    #[test]
    fn a_rotating_disk_is_recognized_and_a_missing_queue_is_a_reason() {
        let tree = machine();
        assert_eq!(Disk::of(Path::new("/"), &tree.root()).rotating, Finding::Known(true));
        let other = Disk::of(&std::env::temp_dir(), &tree.root()).rotating;
        assert!(other.reason().unwrap().contains("no block device"));
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_on_the_disk_of_its_parent() {
        let parent = tempfile::tempdir().unwrap();
        let disk = Disk::of(&parent.path().join("not/made/yet"), &SystemRoot::default());
        assert!(disk.total_bytes.known().unwrap() >= disk.free_bytes.known().unwrap());
    }
}
