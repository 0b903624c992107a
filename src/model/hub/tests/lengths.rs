//! Files whose length the hub does not name, or names wrongly.

use super::{COMMIT, FILE, Request, Server, fetch, get, hub, options, response};
use crate::model::cache::of_bytes;
use crate::model::progress::ProgressSink;

#[test]
fn a_file_without_a_length_is_read_to_its_marked_end() {
    let answer = |end: &'static [u8]| {
        move |request: &Request| {
            let headers =
                [("x-repo-commit", COMMIT), ("etag", "W/\"ab\""), ("transfer-encoding", "chunked")];
            let body = [b"7\r\ncontent\r\n".as_slice(), end].concat();
            response("200 OK", &headers, if request.method == "HEAD" { b"" } else { &body })
        }
    };
    let server = Server::start(answer(b"0\r\n\r\n"));
    let folder = tempfile::tempdir().unwrap();
    let path = get(&options(&server.address, &folder)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"content");
    assert_eq!(server.requests()[1].header("accept-encoding"), Some("identity"));

    let server = Server::start(answer(b""));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&options(&server.address, &folder)).unwrap_err();
    assert!(error.to_string().starts_with("the connection ended after 7 B of dir/"), "{error}");
}

#[test]
fn answers_whose_lengths_cannot_be_true_are_refused() {
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let answers: [(&str, Headers<'_>, &str); 2] = [
        ("10", &[("content-length", "7")], "has 10 bytes, then that it has 7"),
        ("7", &[("content-encoding", "zstd")], "it compresses the file as 'zstd'"),
    ];
    for (size, headers, expected) in answers {
        let server = Server::start(move |request| {
            let facts = [("x-repo-commit", COMMIT), ("etag", "ab"), ("x-linked-size", size)];
            match request.method.as_str() {
                "HEAD" => response("200 OK", &facts, b""),
                _ => response("200 OK", headers, b"content"),
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let error = get(&options(&server.address, &folder)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_file_that_does_not_come_whole_leaves_a_folder_that_the_hubs_own_tools_accept() {
    let server = Server::start(|request| {
        let facts = [("x-repo-commit", COMMIT), ("etag", "ab"), ("x-linked-size", "10")];
        match request.method.as_str() {
            "HEAD" => response("200 OK", &facts, b""),
            _ => response("200 OK", &[("content-length", "10")], b"content"),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    get(&options(&server.address, &folder)).unwrap_err();
    let repository = folder.path().join("hub/models--owner--name");
    // What their scan asks for: snapshots, and no reference to one that is not there.
    assert!(repository.join("snapshots").is_dir());
    assert!(!repository.join("refs").exists());
}

#[test]
fn a_file_larger_than_the_disk_is_not_begun() {
    let server = Server::start(|_| {
        let headers =
            [("x-repo-commit", COMMIT), ("etag", "ab"), ("x-linked-size", "9000000000000000000")];
        response("200 OK", &headers, b"")
    });
    let folder = tempfile::tempdir().unwrap();
    let error = get(&options(&server.address, &folder)).unwrap_err();
    assert!(error.to_string().contains(" has 8185452 TiB, but the disk with"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_full_disk_is_told_as_the_cause() {
    let full = crate::model::hub::transfer::io_error("write", std::path::Path::new("a.part"));
    let error = full(std::io::ErrorKind::StorageFull.into()).to_string();
    assert_eq!(
        error,
        "cannot write a.part: no space is left; free some or set HF_HOME to another disk"
    );
}

#[test]
fn what_fails_once_is_asked_for_again() {
    let content = vec![7; 5000];
    let (whole, gets) = (hub(content.clone()), std::sync::Mutex::new(0));
    let server = Server::start(move |request| {
        let mut bytes = whole(request);
        let mut gets = gets.lock().unwrap();
        *gets += usize::from(request.method == "GET");
        match (request.method.as_str(), *gets) {
            ("GET", 1) => return response("502 Bad Gateway", &[("retry-after", "0")], b""),
            ("GET", 2) => bytes.truncate(bytes.len() - 1000),
            _ => {}
        }
        bytes
    });
    let folder = tempfile::tempdir().unwrap();
    let path = get(&options(&server.address, &folder)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(server.requests().last().unwrap().header("range"), Some("bytes=4000-"));
}

#[test]
fn a_file_that_another_process_fetches_is_waited_for() {
    let server = Server::start(hub(vec![7; 50]));
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("hub/models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let lock = std::fs::File::create(blobs.join(format!("{}.lock", of_bytes(&[7; 50])))).unwrap();
    lock.lock().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let progress = ProgressSink::new(move |what, progress| {
        let _ = told.send(format!("{what}: {progress:?}"));
    });
    let options = options(&server.address, &folder);
    std::thread::scope(|scope| {
        let fetched = scope.spawn(|| fetch(FILE, &options, &progress));
        let note = heard.recv();
        let has_waited = !fetched.is_finished();
        lock.unlock().unwrap();
        let fetched = fetched.join().unwrap().unwrap();
        let note = note.unwrap();
        assert!(note.contains("another process is fetching it") && has_waited, "{note}");
        assert_eq!(std::fs::read(fetched).unwrap(), [7; 50]);
    });
}
