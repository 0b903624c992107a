//! Large files in ranges: what is asked for, what is gone on with, and servers that misbehave.

use super::super::HubOptions;
use super::{COMMIT, Request, get, options, read_request, response};
use crate::model::cache::of_bytes;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What is served, and what was asked for; each connection has a thread of its own.
struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<(usize, usize)>>>,
}

/// What a server makes of a request for a range: the answer's bytes.
type Serve = dyn Fn(&[u8], Option<(usize, usize)>) -> Vec<u8> + Send + Sync;

fn whole(content: &[u8]) -> Vec<u8> {
    response("200 OK", &[("content-length", &content.len().to_string())], content)
}

/// The range as it was asked for, but `sent` of it.
fn part(content: &[u8], (from, to): (usize, usize), sent: usize) -> Vec<u8> {
    let range = format!("bytes {from}-{}/{}", to - 1, content.len());
    let length = (to - from).to_string();
    let headers = [("content-length", length.as_str()), ("content-range", range.as_str())];
    response("206 Partial Content", &headers, &content[from..from + sent])
}

fn honest(content: &[u8], range: Option<(usize, usize)>) -> Vec<u8> {
    range.map_or_else(|| whole(content), |range| part(content, range, range.1 - range.0))
}

fn asked(request: &Request) -> Option<(usize, usize)> {
    let (from, to) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse::<usize>().ok()? + 1))
}

impl Server {
    /// `pace`: bytes per second of each connection.
    fn start(content: Vec<u8>, pace: Option<usize>, serve: Box<Serve>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ranges: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
        let (seen, shared) = (Arc::clone(&ranges), Arc::new((content, serve)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, shared) = (Arc::clone(&seen), Arc::clone(&shared));
                std::thread::spawn(move || {
                    let (content, serve) = &*shared;
                    let Some(request) = read_request(&stream) else { return };
                    if request.method == "HEAD" {
                        let (etag, length) = (of_bytes(content), content.len().to_string());
                        let headers = [
                            ("x-repo-commit", COMMIT),
                            ("x-linked-etag", etag.as_str()),
                            ("x-linked-size", length.as_str()),
                        ];
                        let _ = (&stream).write_all(&response("200 OK", &headers, b""));
                        return;
                    }
                    let range = asked(&request);
                    seen.lock().unwrap().extend(range);
                    let answer = serve(content, range);
                    let tenth = pace.map_or(answer.len(), |pace| pace / 10).max(1);
                    for bytes in answer.chunks(tenth) {
                        if (&stream).write_all(bytes).is_err() {
                            return;
                        }
                        if pace.is_some() {
                            std::thread::sleep(Duration::from_millis(100));
                        }
                    }
                });
            }
        });
        Self { address, ranges }
    }

    fn ranges(&self) -> Vec<(usize, usize)> {
        let mut ranges = std::mem::take(&mut *self.ranges.lock().unwrap());
        ranges.sort_unstable();
        ranges
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 / 7).to_le_bytes()[0]).collect()
}

const PIECE: usize = 100_000;

fn in_pieces(server: &Server, folder: &TempDir) -> HubOptions {
    HubOptions { piece_bytes: PIECE as u64, ..options(&server.address, folder) }
}

/// The files in the folder of contents, without locks.
fn left(folder: &TempDir) -> Vec<PathBuf> {
    let blobs = folder.path().join("hub/models--owner--name/blobs");
    let files = std::fs::read_dir(blobs).into_iter().flatten().flatten().map(|it| it.path());
    files.filter(|it| it.extension().is_none_or(|end| end != "lock")).collect()
}

#[test]
fn every_byte_is_asked_for_once_and_the_file_is_whole() {
    let content = content(10 * PIECE + 5);
    let server = Server::start(content.clone(), None, Box::new(honest));
    let folder = tempfile::tempdir().unwrap();
    let path = get(&in_pieces(&server, &folder)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let expected: Vec<(usize, usize)> =
        (0..11).map(|at| (at * PIECE, ((at + 1) * PIECE).min(content.len()))).collect();
    assert_eq!(server.ranges(), expected);
    assert_eq!(left(&folder).len(), 1, "{:?}", left(&folder));
}

#[test]
fn a_server_without_ranges_sends_the_file_in_one_stream() {
    let content = content(5 * PIECE);
    let server = Server::start(content.clone(), None, Box::new(|content, _| whole(content)));
    let folder = tempfile::tempdir().unwrap();
    let path = get(&in_pieces(&server, &folder)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(server.ranges().len(), 1, "one request shows it");
    assert_eq!(left(&folder).len(), 1);
}

#[test]
fn what_came_before_a_kill_is_not_fetched_again() {
    let content = content(6 * PIECE);
    let server = Server::start(content.clone(), None, Box::new(honest));
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("hub/models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let place = |end: &str| blobs.join(format!("{}.{end}", of_bytes(&content)));
    // The second piece, half of the fourth, and a line that was not written to its end.
    let mut data = vec![0; 4 * PIECE];
    for (from, to) in [(PIECE, 2 * PIECE), (3 * PIECE, 3 * PIECE + PIECE / 2)] {
        data[from..to].copy_from_slice(&content[from..to]);
    }
    std::fs::write(place("ranges"), data).unwrap();
    let log = format!("{PIECE} {} .\n{} {} .\n0 50", 2 * PIECE, 3 * PIECE, 3 * PIECE + PIECE / 2);
    std::fs::write(place("log"), log).unwrap();
    let path = get(&in_pieces(&server, &folder)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let half = 3 * PIECE + PIECE / 2;
    assert_eq!(
        server.ranges(),
        [
            (0, PIECE),
            (2 * PIECE, 3 * PIECE),
            (half, half + PIECE),
            (half + PIECE, half + 2 * PIECE),
            (half + 2 * PIECE, 6 * PIECE),
        ]
    );
    // The beginning that one stream left counts too.
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("hub/models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{}.part", of_bytes(&content))), &content[..PIECE]).unwrap();
    get(&in_pieces(&server, &folder)).unwrap();
    assert_eq!(server.ranges().first(), Some(&(PIECE, 2 * PIECE)));
}

#[test]
fn connections_that_break_off_are_made_again_as_long_as_something_comes() {
    let content = content(4 * PIECE);
    let half = |content: &[u8], range: Option<(usize, usize)>| {
        let (from, to) = range.unwrap();
        part(content, (from, to), (to - from).div_ceil(2))
    };
    let server = Server::start(content.clone(), None, Box::new(half));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(std::fs::read(get(&in_pieces(&server, &folder)).unwrap()).unwrap(), content);

    let nothing = |content: &[u8], range: Option<(usize, usize)>| match range.unwrap() {
        (0, to) => part(content, (0, to), to),
        range => part(content, range, 0),
    };
    let server = Server::start(content.clone(), None, Box::new(nothing));
    let folder = tempfile::tempdir().unwrap();
    let options = HubOptions { connections: 2, ..in_pieces(&server, &folder) };
    let error = get(&options).unwrap_err().to_string();
    assert!(
        error.starts_with("the connection ended after") && error.ends_with("from there"),
        "{error}"
    );
    // What came is there for another time.
    assert_eq!(left(&folder).len(), 2, "{:?}", left(&folder));
}

#[test]
fn servers_that_lie_are_told_from_others() {
    let shifted = |content: &[u8], range: Option<(usize, usize)>| {
        let (from, to) = range.unwrap();
        part(content, (from - from.min(1), to - from.min(1)), to - from)
    };
    let longer = |content: &[u8], range: Option<(usize, usize)>| {
        let (from, to) = range.unwrap();
        let header = part(content, (from, to), 0);
        let text = String::from_utf8(header).unwrap().replace("content-length", "x-length");
        [text.as_bytes(), &content[from..], b"more"].concat()
    };
    let sometimes = |content: &[u8], range: Option<(usize, usize)>| match range.unwrap() {
        (0, to) => part(content, (0, to), to),
        _ => whole(content),
    };
    let damaged = |content: &[u8], range: Option<(usize, usize)>| {
        let mut answer = honest(content, range);
        *answer.last_mut().unwrap() ^= 1;
        answer
    };
    let servers: [(Box<Serve>, &str); 4] = [
        (Box::new(shifted), "asked for 'bytes "),
        (Box::new(longer), "it sends more than it was asked for"),
        (Box::new(sometimes), "it sends ranges no longer"),
        (Box::new(damaged), "was damaged on its way"),
    ];
    for (serve, expected) in servers {
        let server = Server::start(content(4 * PIECE), None, serve);
        let folder = tempfile::tempdir().unwrap();
        let error = get(&in_pieces(&server, &folder)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn several_connections_are_faster_where_each_is_limited() {
    let content = content(3 << 20);
    let server = Server::start(content, Some(1 << 20), Box::new(honest));
    let fetched_in = |connections: usize| {
        let folder = tempfile::tempdir().unwrap();
        let options =
            HubOptions { connections, piece_bytes: 384 << 10, ..in_pieces(&server, &folder) };
        let began = Instant::now();
        get(&options).unwrap();
        began.elapsed().as_secs_f64()
    };
    let (one, eight) = (fetched_in(1), fetched_in(8));
    assert!(one / eight > 2.0, "{one} s and {eight} s");
}
