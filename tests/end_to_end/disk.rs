//! Disks that are full or cannot be written: one clear error, or one trial that says why.
//!
//! Real full and read-only file systems need the right to mount; where it is missing a test says so
//! and checks nothing.

use crate::world::{World, ended};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path).then_some(Self(path))
    }

    fn make_read_only(&self) -> bool {
        mount(&["-o", "remount,ro"], &self.0)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(path).output();
    let done = output.as_ref().is_ok_and(|output| output.status.success());
    if !done {
        eprintln!("skipped: this test may not mount file systems ({output:?})");
    }
    done
}

const QUICK: [&str; 4] = ["run", "--quiet", "--rounds", "1"];

#[test]
fn a_disk_too_full_for_a_variant_fails_that_trial_before_it_is_made() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let Some(_disk) = SmallDisk::mount(world.path("cache"), "4m") else { return };
    let ended = world.run(&QUICK).expect(3);
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("free, but"), "{said}");
}

#[test]
fn a_disk_that_fills_up_while_a_file_is_written_is_one_clear_error_and_leaves_nothing() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(world.path("disk"), "32k") else { return };
    let ended = world
        .run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0", "-o", "disk"])
        .expect_message(2, &["cannot make Q8_0", "the disk of", "is full"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
}

#[test]
fn a_one_off_is_measured_even_if_it_cannot_be_kept() {
    let world = World::new();
    world.write("runs.sqlite", &"this is no database ".repeat(100));
    let arguments = ["bench", "tiny-F16.gguf", "-p", "8", "-n", "0", "-r", "1", "--quiet"];
    let ended = world.run(&arguments).expect_message(0, &["not kept", "runs.sqlite"]);
    assert!(ended.stdout.contains("pp8"), "{}", ended.stdout);
}

#[test]
fn a_store_on_a_full_disk_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let Some(disk) = SmallDisk::mount(world.path("disk"), "1m") else { return };
    fs::write(disk.0.join("filler"), vec![0; (1 << 20) - 16384]).unwrap();
    let mut command = world.command(&QUICK);
    ended(command.env("QUANTBENCH_STORE", disk.0.join("runs.sqlite")))
        .expect_message(2, &["no space is left", "runs.sqlite"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let Some(disk) = SmallDisk::mount(world.path("cache"), "4m") else { return };
    if !disk.make_read_only() {
        return;
    }
    let ended = world.run(&QUICK).expect_message(2, &["cache", "QUANTBENCH_CACHE"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_cache_that_is_a_file_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    world.write("cache", "not a folder");
    world.run(&QUICK).expect_message(2, &["cache"]);
}

#[test]
fn a_store_that_is_no_database_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    world.write("runs.sqlite", &"this is no database ".repeat(100));
    world.run(&QUICK).expect_message(2, &["runs.sqlite", "damaged or no database"]);
}
