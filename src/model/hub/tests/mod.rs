//! Tests against a server on loopback that answers whatever a test wants.

mod lengths;
mod ranges;
mod search;
mod secrets;
mod slow;

use super::{Endpoint, HubError, HubFile, HubOptions, RepoType, Token, fetch};
use crate::model::cache::of_bytes;
use crate::model::progress::{Progress, ProgressSink};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One request, as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A server that gives each request to a function and sends what it returns.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read_request(&stream) else { continue };
                let response = answer(&request);
                seen.lock().unwrap().push(request);
                // The client may have gone; that is its right.
                let _ = (&stream).write_all(&response);
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

pub(super) fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        })
        .collect();
    Some(Request { method, path, headers })
}

pub(crate) fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

/// A hub with one file, which it serves as the real one does: facts first, ranges if asked.
pub(crate) fn hub(content: Vec<u8>) -> impl Fn(&Request) -> Vec<u8> + Send + 'static {
    move |request| {
        let length = content.len().to_string();
        if request.method == "HEAD" {
            let etag = format!("\"{}\"", of_bytes(&content));
            let headers = [
                ("x-repo-commit", COMMIT),
                ("x-linked-etag", etag.as_str()),
                ("x-linked-size", length.as_str()),
                ("location", "http://127.0.0.1:9/elsewhere"),
            ];
            return response("302 Found", &headers, b"");
        }
        let range = request.header("range").and_then(|range| {
            range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        match range {
            None => response("200 OK", &[("content-length", length.as_str())], &content),
            Some(start) => {
                let left = (content.len() - start).to_string();
                let range = format!("bytes {start}-{}/{length}", content.len() - 1);
                let headers =
                    [("content-length", left.as_str()), ("content-range", range.as_str())];
                response("206 Partial Content", &headers, &content[start..])
            }
        }
    }
}

pub(crate) fn options(endpoint: &str, folder: &tempfile::TempDir) -> HubOptions {
    HubOptions {
        endpoint: Endpoint::parse(endpoint),
        token: None,
        cache: folder.path().join("hub"),
        offline: false,
        patience: Duration::from_secs(20),
        connections: 8,
        piece_bytes: 32 << 20,
        progress: crate::model::progress::ProgressSink::default(),
    }
}

const FILE: HubFile<'_> = HubFile {
    kind: RepoType::Model,
    repository: "owner/name",
    revision: None,
    file: "dir/m Q4.gguf",
};

fn get(options: &HubOptions) -> Result<PathBuf, HubError> {
    fetch(FILE, options, &ProgressSink::default())
}

#[test]
fn a_file_is_fetched_once_and_found_offline_afterwards() {
    let content: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let server = Server::start(hub(content.clone()));
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&server.address, &folder);
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let sink = ProgressSink::new(move |what, progress| {
        listener.lock().unwrap().push((what.to_owned(), progress.clone()));
    });
    let path = fetch(FILE, &options, &sink).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert!(path.ends_with(format!("models--owner--name/snapshots/{COMMIT}/dir/m Q4.gguf")));
    let last = ("fetching dir/m Q4.gguf".to_owned(), Progress::of_bytes(1_000_000, 1_000_000));
    assert_eq!(told.lock().unwrap().last(), Some(&last));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].path, "/owner/name/resolve/main/dir/m%20Q4.gguf");
    assert_eq!(requests[1].header("authorization"), None);

    options.offline = true;
    assert_eq!(get(&options).unwrap(), path);
    options.offline = false;
    assert_eq!(get(&options).unwrap(), path);
    assert_eq!(server.requests().len(), 2, "nothing is asked for a file that is there");
}

#[test]
fn a_revision_is_part_of_the_address() {
    let server = Server::start(hub(b"x".to_vec()));
    let folder = tempfile::tempdir().unwrap();
    let file = HubFile { revision: Some("v1.0"), file: "m.gguf", ..FILE };
    fetch(file, &options(&server.address, &folder), &ProgressSink::default()).unwrap();
    assert_eq!(server.requests()[0].path, "/owner/name/resolve/v1.0/m.gguf");
    assert!(folder.path().join("hub/models--owner--name/refs/v1.0").is_file());
    let file = HubFile { revision: Some("refs/pr/1"), file: "m.gguf", ..FILE };
    fetch(file, &options(&server.address, &folder), &ProgressSink::default()).unwrap();
    let request = server.requests().into_iter().nth(2).unwrap();
    assert_eq!(request.path, "/owner/name/resolve/refs%2Fpr%2F1/m.gguf");
    assert!(folder.path().join("hub/models--owner--name/refs/refs/pr/1").is_file());
}

#[test]
fn data_sets_have_a_place_of_their_own() {
    let server = Server::start(hub(b"{}".to_vec()));
    let folder = tempfile::tempdir().unwrap();
    let file = HubFile { kind: RepoType::Dataset, file: "test.jsonl", ..FILE };
    fetch(file, &options(&server.address, &folder), &ProgressSink::default()).unwrap();
    assert_eq!(server.requests()[0].path, "/datasets/owner/name/resolve/main/test.jsonl");
    assert!(folder.path().join("hub/datasets--owner--name/refs/main").is_file());
}

#[test]
fn offline_without_the_file_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = HubOptions { offline: true, ..options("http://127.0.0.1:9", &folder) };
    let error = get(&options).unwrap_err();
    let expected = "and offline mode is on; fetch it once without QUANTBENCH_OFFLINE";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn what_the_hub_refuses_is_said_with_the_remedy() {
    let with_token = |status: &'static str, code: &'static str, token: Option<&str>| {
        let server = Server::start(move |_| {
            response(status, &[("x-error-code", code), ("retry-after", "0")], b"")
        });
        let folder = tempfile::tempdir().unwrap();
        let token = token.and_then(Token::new);
        let options = HubOptions { token, ..options(&server.address, &folder) };
        let shown = get(&options).unwrap_err().to_string().replace(&server.address, "HUB");
        (shown, server.requests())
    };
    let (shown, _) = with_token("401 Unauthorized", "", None);
    assert_eq!(
        shown,
        "the hub shows owner/name to nobody without a token: it is private or gated, or there is \
         no such repository; set HF_TOKEN"
    );
    let (shown, requests) = with_token("401 Unauthorized", "", Some("secret\n"));
    assert_eq!(shown, "the hub does not accept the token in HF_TOKEN for owner/name");
    assert_eq!(requests[0].header("authorization"), Some("Bearer secret"));
    let (shown, _) = with_token("403 Forbidden", "GatedRepo", Some("secret"));
    assert!(shown.ends_with("accept its conditions at HUB/owner/name"), "{shown}");
    let (shown, _) = with_token("404 Not Found", "EntryNotFound", None);
    assert!(
        shown.ends_with("in owner/name; 'quantbench files owner/name' lists its variants"),
        "{shown}"
    );
    let (shown, _) = with_token("404 Not Found", "RepoNotFound", None);
    assert!(shown.ends_with("owner/name; 'quantbench search name' finds others"), "{shown}");
    let (shown, _) = with_token("404 Not Found", "RevisionNotFound", None);
    assert_eq!(shown, "the hub has no revision 'main' of owner/name");
    let (shown, _) = with_token("503 Service Unavailable", "", None);
    assert!(shown.contains("answered 503 for owner/name/dir/m Q4.gguf; try again"), "{shown}");
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Port 9 is discard, and nothing listens there.
    let error = get(&options("http://127.0.0.1:9", &folder)).unwrap_err();
    let told = crate::causes::in_words(&error);
    assert!(told.starts_with("cannot reach the hub at http://127.0.0.1:9: Connection"), "{told}");
}

#[test]
fn a_body_cut_off_is_gone_on_with_where_it_stopped() {
    let content: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let whole = hub(content.clone());
    let cut = Arc::new(Mutex::new(true));
    let cuts = Arc::clone(&cut);
    let server = Server::start(move |request| {
        let mut bytes = whole(request);
        if request.method == "GET" && *cuts.lock().unwrap() {
            bytes.truncate(bytes.len() - 100_000);
        }
        bytes
    });
    let folder = tempfile::tempdir().unwrap();
    let options = options(&server.address, &folder);
    let error = get(&options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the connection ended after 195 KiB of 293 KiB of dir/m Q4.gguf; run again to go on from \
         there"
    );
    *cut.lock().unwrap() = false;
    let path = get(&options).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(server.requests().last().unwrap().header("range"), Some("bytes=200000-"));
}

#[test]
fn a_server_that_ignores_the_range_is_read_from_the_beginning() {
    let content = vec![7; 5000];
    let whole = hub(content.clone());
    let server = Server::start(move |request| {
        let mut plain = request.clone();
        plain.headers.remove("range");
        whole(&plain)
    });
    let folder = tempfile::tempdir().unwrap();
    let options = options(&server.address, &folder);
    let blobs = options.cache.join("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{}.part", of_bytes(&content))), [7; 1000]).unwrap();
    assert_eq!(std::fs::read(get(&options).unwrap()).unwrap(), content);
}

#[test]
fn content_that_was_damaged_is_removed() {
    let content = vec![7; 5000];
    let whole = hub(content);
    let server = Server::start(move |request| {
        let mut bytes = whole(request);
        if request.method == "GET" {
            *bytes.last_mut().unwrap() = 8;
        }
        bytes
    });
    let folder = tempfile::tempdir().unwrap();
    let options = options(&server.address, &folder);
    for _ in 0..2 {
        let error = get(&options).unwrap_err();
        assert!(error.to_string().contains("was damaged on its way: its checksum is"), "{error}");
    }
    assert_eq!(server.requests()[3].header("range"), None, "it was not gone on with");
}

#[test]
fn answers_that_lead_astray_are_refused() {
    let answers: [(&[(&str, &str)], &str); 7] = [
        (&[], "it names no commit"),
        (&[("x-repo-commit", COMMIT)], "it names no checksum"),
        (&[("x-repo-commit", COMMIT), ("etag", "ab")], "it names no size"),
        (
            &[("x-repo-commit", COMMIT), ("etag", "../../x"), ("x-linked-size", "1")],
            "its checksum is no plain word",
        ),
        (
            &[("x-repo-commit", "/etc"), ("etag", "ab"), ("x-linked-size", "1")],
            "its commit is no plain word",
        ),
        (
            &[("x-repo-commit", COMMIT), ("etag", "\"\""), ("x-linked-size", "1")],
            "its checksum is no plain word",
        ),
        (&[("x-repo-commit", COMMIT), ("etag", "ab"), ("x-linked-size", "-1")], "it names no size"),
    ];
    for (headers, expected) in answers {
        let server = Server::start(move |_| response("200 OK", headers, b""));
        let folder = tempfile::tempdir().unwrap();
        let error = get(&options(&server.address, &folder)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("gave a wrong answer for") && error.contains(expected), "{error}");
    }
}

#[test]
fn redirects_end() {
    for (location, expected) in [
        ("/owner/name/resolve/main/x", "it redirects in circles"),
        ("http://127.0.0.2:9/x", "it redirects elsewhere"),
        ("", "it redirects"),
    ] {
        let server = Server::start(move |_| {
            response("307 Temporary Redirect", &[("location", location)], b"")
        });
        let folder = tempfile::tempdir().unwrap();
        let error = get(&options(&server.address, &folder)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_renamed_repository_is_followed() {
    let whole = hub(b"content".to_vec());
    let server = Server::start(move |request| {
        if request.path.starts_with("/owner/name/") {
            let location = request.path.replace("/owner/name/", "/new/name/");
            return response("307 Temporary Redirect", &[("location", &location)], b"");
        }
        whole(request)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = get(&options(&server.address, &folder)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"content");
}

#[test]
fn more_than_was_announced_is_not_kept() {
    let server = Server::start(|request| {
        let headers = [("x-repo-commit", COMMIT), ("etag", "ab"), ("x-linked-size", "10")];
        match request.method.as_str() {
            "HEAD" => response("200 OK", &headers, b""),
            _ => response("200 OK", &[], &[0; 5000]),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let error = get(&options(&server.address, &folder)).unwrap_err();
    assert!(error.to_string().contains("it sends more than it said"), "{error}");
}

#[test]
fn a_hub_that_falls_silent_is_given_up() {
    // Accepts and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let options = HubOptions { patience: Duration::from_millis(300), ..options(&address, &folder) };
    let started = Instant::now();
    let error = get(&options).unwrap_err();
    assert!(error.to_string().starts_with("cannot reach the hub at"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn redirects_have_as_long_as_one_answer() {
    let server = Server::start(move |request| {
        std::thread::sleep(Duration::from_millis(200));
        let facts = [("x-repo-commit", COMMIT), ("etag", "ab"), ("x-linked-size", "7")];
        match request.method.as_str() {
            "HEAD" => response("200 OK", &facts, b""),
            _ => response("302 Found", &[("location", "/again")], b""),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(900);
    let options = HubOptions { patience, ..options(&server.address, &folder) };
    let error = get(&options).unwrap_err().to_string();
    assert!(!error.contains("in circles"), "{error}");
    assert!(server.requests().len() < 8, "{}", server.requests().len());
}

#[test]
fn a_hub_that_is_asked_too_often_is_asked_again_when_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (refusals, serve) = (Mutex::new(2), hub(b"content".to_vec()));
    let server = Server::start(move |request| {
        let mut left = refusals.lock().unwrap();
        if *left == 0 {
            return serve(request);
        }
        *left -= 1;
        let wait = if *left == 0 { "1" } else { "0" };
        response("429 Too Many Requests", &[("retry-after", wait), ("content-length", "0")], b"")
    });
    let told: std::sync::Arc<Mutex<Vec<String>>> = std::sync::Arc::default();
    let heard = std::sync::Arc::clone(&told);
    let progress = ProgressSink::new(move |what, progress| {
        heard.lock().unwrap().push(format!("{what}: {progress:?}"));
    });
    let path = get(&HubOptions { progress, ..options(&server.address, &folder) }).unwrap();
    let told = told.lock().unwrap().join("\n");
    assert_eq!(told.matches("says to wait 1").count(), 1, "the one of a second: {told}");
    assert_eq!(std::fs::read(path).unwrap(), b"content");
    assert_eq!(server.requests().len(), 4, "two refused, facts, content");

    let patient = Server::start(|_| {
        response("429 Too Many Requests", &[("retry-after", "3600"), ("content-length", "0")], b"")
    });
    let folder = tempfile::tempdir().unwrap();
    let error = get(&options(&patient.address, &folder)).unwrap_err().to_string();
    assert!(error.contains("answered 429"), "{error}");
    assert_eq!(patient.requests().len(), 1);
}
