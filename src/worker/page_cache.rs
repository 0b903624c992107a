//! Dropping a file from the page cache, for cold loads.

use std::path::Path;

/// Asks the system to forget the cached pages of a file; needs no privilege.
///
/// # Errors
/// A sentence, where the system has no such call or refuses.
#[cfg(target_os = "linux")]
pub(super) fn drop_file(path: &Path) -> Result<(), String> {
    use rustix::fs::{Advice, fadvise, fdatasync};
    let failed = |error: &dyn std::fmt::Display| {
        format!("cannot drop {} from the page cache: {error}", path.display())
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    // Pages not yet written to disk are not dropped; a variant may have been made a moment ago. On
    // a file opened for reading some file systems refuse, and then have nothing to write either.
    let _ = fdatasync(&file);
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed(&error))
}

/// Other systems offer no call for one file.
#[cfg(not(target_os = "linux"))]
pub(super) fn drop_file(_path: &Path) -> Result<(), String> {
    Err("cold loads can be measured on Linux only: this system cannot drop one file from its page \
         cache; set cold_load = false"
        .to_owned())
}
