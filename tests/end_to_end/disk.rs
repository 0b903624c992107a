//! Disks that are full or cannot be written: one clear error, or one trial that says why.
//!
//! Real full and read-only file systems need the right to mount. Tests that use them are ignored unless
//! they are asked for (`make test-disks`), and fail where that right is missing; the others reach the same
//! code through the limit on the size of files, which needs none.

use crate::world::{Ended, PATIENCE, World, ended, program, words};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path);
        Self(path)
    }

    fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], &self.0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let output = Command::new("mount").args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "this test must be allowed to mount: {output:?}");
}

/// Runs the program where no file may grow beyond a few KiB, as batch systems have it.
fn run_limited(world: &World, blocks: u32, arguments: &[&str]) -> Ended {
    let mut command = assert_cmd::Command::new("sh");
    let script = format!("ulimit -f {blocks}; exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(program()).args(arguments);
    command.current_dir(world.path("")).envs(world.environment()).timeout(PATIENCE);
    ended(&mut command)
}

const QUICK: [&str; 4] = ["run", "--quiet", "--rounds", "1"];

#[test]
#[ignore = "needs the right to mount file systems"]
fn a_disk_too_full_for_a_variant_fails_that_trial_before_it_is_made() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let _disk = SmallDisk::mount(world.path("cache"), "4m");
    let ended = world.run(&QUICK).expect(3);
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("free, but"), "{said}");
}

#[test]
#[ignore = "needs the right to mount file systems"]
fn a_disk_that_fills_up_while_a_file_is_written_is_one_clear_error_and_leaves_nothing() {
    let world = World::new();
    let disk = SmallDisk::mount(world.path("disk"), "32k");
    let ended = world
        .run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0", "-o", "disk"])
        .expect_message(2, &["cannot make Q8_0", "the disk of", "is full"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
}

#[test]
fn a_file_that_may_not_grow_is_one_clear_error_and_leaves_nothing() {
    let world = World::new();
    fs::create_dir(world.path("folder")).unwrap();
    let arguments = ["quantize", "tiny-F16.gguf", "--to", "Q8_0", "-o", "folder"];
    let ended = run_limited(&world, 16, &arguments);
    let ended =
        ended.expect_message(2, &["cannot make Q8_0", "files may have at most", "ulimit -f"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(fs::read_dir(world.path("folder")).unwrap().count(), 0);
}

#[test]
fn whatever_is_made_where_files_may_not_grow_leaves_nothing() {
    let world = World::new();
    world.write("text.txt", &words(400));
    fs::create_dir(world.path("folder")).unwrap();
    let look = ["--calibration", "text.txt", "--context", "64", "--chunks", "2"];
    for made in [
        &["calibrate", "tiny-F16.gguf", "-o", "folder/matrix.gguf"][..],
        &["mix", "tiny-F16.gguf", "--target-bpw", "6", "-o", "folder/mix.gguf"],
        &["quantize", "tiny-F16.gguf", "--to", "gptq:Q4_0", "-o", "folder/gptq.gguf"],
    ] {
        let ended = run_limited(&world, 4, &[made, &look, &["--quiet"]].concat());
        let ended = ended.expect_message(2, &["files may have at most", "ulimit -f"]);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(fs::read_dir(world.path("folder")).unwrap().count(), 0, "{made:?}");
    }
}

#[test]
fn a_store_that_may_not_grow_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let ended = run_limited(&world, 16, &QUICK);
    let ended = ended.expect_message(2, &["runs.sqlite cannot grow", "ulimit -f"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
#[ignore = "needs the right to mount file systems"]
fn a_cache_that_may_only_be_read_serves_what_is_in_it() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let disk = SmallDisk::mount(world.path("cache"), "64m");
    world.run(&QUICK).expect(0);
    disk.make_read_only();
    world.run(&QUICK).expect(0);
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
#[ignore = "needs the right to mount file systems"]
fn a_store_on_a_full_disk_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let disk = SmallDisk::mount(world.path("disk"), "1m");
    fs::write(disk.0.join("filler"), vec![0; (1 << 20) - 16384]).unwrap();
    let mut command = world.command(&QUICK);
    ended(command.env("QUANTBENCH_STORE", disk.0.join("runs.sqlite")))
        .expect_message(2, &["no space is left", "runs.sqlite"]);
}

#[test]
#[ignore = "needs the right to mount file systems"]
fn a_cache_that_cannot_be_written_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let disk = SmallDisk::mount(world.path("cache"), "4m");
    disk.make_read_only();
    let ended = world.run(&QUICK).expect_message(2, &["cache", "QUANTBENCH_CACHE"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_cache_that_is_a_file_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    world.write("cache", "not a folder");
    let ended = world.run(&QUICK).expect_message(2, &["cannot make the folder", "/cache"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_store_that_is_no_database_is_one_clear_error() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    world.write("runs.sqlite", &"this is no database ".repeat(100));
    world.run(&QUICK).expect_message(2, &["runs.sqlite", "damaged or no database"]);
}
