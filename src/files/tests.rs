//! What is opened, written through and swept.

use super::*;

#[test]
fn a_pipe_is_written_to_if_someone_reads_it_and_waits_for_nobody_for_ever() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let error = open_stream_within(&pipe, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.to_string(), "nobody reads the pipe");
    let reader = pipe.clone();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        File::open(reader).unwrap().read_to_string(&mut text).unwrap();
        text.len()
    });
    // More than a pipe holds: writing waits for the reader again.
    let text = vec![b'x'; 1 << 20];
    open_stream_within(&pipe, Duration::from_mins(1)).unwrap().write_all(&text).unwrap();
    assert_eq!(reader.join().unwrap(), text.len());
}

#[test]
fn what_is_no_regular_file_is_refused_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert_eq!(error, "it is a folder, not a regular file");
    {
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = open(&socket).unwrap_err().to_string();
        assert_eq!(error, "it is a socket, not a regular file");
        let error = open(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(error, "it is a device, not a regular file");
    }
    assert_eq!(open(&folder.path().join("x")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_input_is_known_by_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("input"), "x").unwrap();
    fs::write(path("other"), "x").unwrap();
    assert_eq!(input_at(&path("input")), None, "it was not read yet");
    open(&path("input")).unwrap();
    fs::hard_link(path("input"), path("hard")).unwrap();
    std::os::unix::fs::symlink("input", path("soft")).unwrap();
    for name in ["input", "hard", "soft", "../"] {
        let named = folder.path().join(name);
        let expected = (name != "../").then(|| path("input"));
        assert_eq!(input_at(&named), expected, "{name}");
    }
    assert_eq!(input_at(&path("other")), None);
    let unfinished = Unfinished::beside(&path("hard")).unwrap();
    let error = unfinished.finish(&path("hard")).unwrap_err().to_string();
    assert!(error.ends_with("input, an input"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn links_are_followed_to_what_is_written() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    symlink("to", path("from")).unwrap();
    symlink("from", path("first")).unwrap();
    assert_eq!(Place::of(&path("first")).unwrap(), Place::File(path("to")));
    symlink("/dev/stdout", path("out")).unwrap();
    assert_eq!(Place::of(&path("out")).unwrap(), Place::StandardOutput);
    assert_eq!(Place::of(Path::new("/dev/fd/1")).unwrap(), Place::StandardOutput);
    let device = PathBuf::from("/dev/null");
    assert_eq!(Place::of(&device).unwrap(), Place::Stream(device));
    symlink("round", path("round")).unwrap();
    assert!(Place::of(&path("round")).is_err());
    assert!(Place::of(folder.path()).is_err());
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_a_living_one_writes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("result");
    let dead = folder.path().join(".quantbench-dead.gguf.partial");
    fs::write(&dead, "half").unwrap();
    fs::write(folder.path().join(".other.partial"), "of another program").unwrap();
    let living = Unfinished::beside(&result).unwrap();
    assert!(!dead.exists());
    let second = Unfinished::beside(&result).unwrap();
    assert!(living.path().exists());
    drop(second);
    living.finish(&result).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_stamp_shows_that_a_file_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let time = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    for path in [&one, &other] {
        fs::write(path, "same").unwrap();
        OpenOptions::new().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    let stamp = |path: &Path| Stamp::of(&fs::metadata(path).unwrap());
    let before = stamp(&one);
    assert_eq!(stamp(&one), before);
    fs::rename(&other, &one).unwrap();
    assert_ne!(stamp(&one), before, "size and time of change are the same");
}

#[test]
fn a_result_is_named_without_a_way_around_and_refused_where_none_can_be() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let around = folder.path().join("a/../result");
    let unfinished = Unfinished::beside(&around).unwrap();
    let real = fs::canonicalize(folder.path()).unwrap();
    assert_eq!(unfinished.path().parent(), Some(real.as_path()));
    assert_eq!(absolute(&around).unwrap(), real.join("result"));
    let refused = |path: &str| Unfinished::beside(Path::new(path)).unwrap_err().to_string();
    assert_eq!(refused("/proc/result"), "no file can be made in /proc");
    assert_eq!(refused("/nowhere/result"), "there is no folder /nowhere");
}
