//! Tokens and passwords go to the hub's own origin, and into no message.

use super::super::{HubOptions, Token};
use super::{Server, get, hub, options, response};
use std::process::Command;
use std::sync::{Arc, Mutex};

#[test]
fn a_token_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::new("hf_secret");
    let shown = format!("{:?}", HubOptions { token, ..options("http://hub", &folder) });
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(Token::new(" \n"), None);
}

#[test]
fn a_token_comes_from_a_regular_file_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    assert_eq!(Token::in_file(&path), None);
    std::fs::write(&path, "hf_secret\n").unwrap();
    assert_eq!(Token::in_file(&path).as_deref(), Some("hf_secret\n"));
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(Token::in_file(&path), None);
}

#[test]
fn secrets_are_not_sent_on_to_another_origin() {
    for host in ["127.0.0.1", "localhost"] {
        secrets_stay(host);
    }
}

/// Storage at another port of `host` sees neither the token nor the password of the endpoint.
fn secrets_stay(host: &str) {
    let content = b"content".to_vec();
    let store = Server::start(hub(content.clone()));
    let elsewhere = store.address.replace("127.0.0.1", host);
    let whole = hub(content);
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => whole(request),
        _ => response("302 Found", &[("location", &format!("{elsewhere}/blob"))], b""),
    });
    let folder = tempfile::tempdir().unwrap();
    let with_password = server.address.replace("http://", "http://me:hunter2@");
    let token = Token::new("secret");
    get(&HubOptions { token, ..options(&server.address, &folder) }).unwrap();
    assert_eq!(server.requests()[1].header("authorization"), Some("Bearer secret"));
    let folder = tempfile::tempdir().unwrap();
    get(&options(&with_password, &folder)).unwrap();
    assert_eq!(server.requests()[3].header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
    assert_eq!(store.requests().len(), 2);
    assert!(store.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_token_does_not_come_back_from_elsewhere() {
    let content = b"content".to_vec();
    let whole = hub(content.clone());
    // Storage sends the client back to an address of its own choice at the hub.
    let back = Arc::new(Mutex::new(String::new()));
    let target = Arc::clone(&back);
    let store = Server::start(move |_| {
        response("302 Found", &[("location", &format!("{}/chosen", target.lock().unwrap()))], b"")
    });
    let elsewhere = store.address.clone();
    let server = Server::start(move |request| match request.method.as_str() {
        "GET" if request.path != "/chosen" => {
            response("302 Found", &[("location", &format!("{elsewhere}/blob"))], b"")
        }
        _ => whole(request),
    });
    back.lock().unwrap().clone_from(&server.address);
    let folder = tempfile::tempdir().unwrap();
    let token = Token::new("secret");
    get(&HubOptions { token, ..options(&server.address, &folder) }).unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!((last.path.as_str(), last.header("authorization")), ("/chosen", None));
}

#[test]
fn what_is_wrong_with_secrets_is_said_without_them() {
    let folder = tempfile::tempdir().unwrap();
    let error = get(&options("http://me:hunter2@127.0.0.1:9", &folder)).unwrap_err();
    assert_eq!(error.to_string(), "cannot reach the hub at http://127.0.0.1:9");
    let error = get(&options("me:hunter2@host", &folder)).unwrap_err();
    assert!(error.to_string().starts_with("HF_ENDPOINT is no web address"), "{error}");
    let token = Token::new("hf_sec\nret");
    let options = HubOptions { token, ..options("http://127.0.0.1:9", &folder) };
    let error = get(&options).unwrap_err().to_string();
    assert!(error.starts_with("the token in HF_TOKEN has") && !error.contains("sec"), "{error}");
}

#[test]
fn a_refusal_of_the_storage_is_not_blamed_on_the_token() {
    let store = Server::start(|_| response("403 Forbidden", &[], b""));
    let elsewhere = store.address.clone();
    let whole = hub(b"content".to_vec());
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => whole(request),
        _ => response("302 Found", &[("location", &format!("{elsewhere}/blob"))], b""),
    });
    let folder = tempfile::tempdir().unwrap();
    let error = get(&options(&server.address, &folder)).unwrap_err();
    assert!(error.to_string().contains("answered 403 for"), "{error}");
}
