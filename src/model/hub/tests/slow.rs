//! A hub from which nothing more comes, or next to nothing.

use super::{get, hub, options, read_request};
use crate::model::hub::HubOptions;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[test]
fn a_hub_that_falls_silent_within_a_file_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            let whole = hub(vec![7; 5000]);
            let Some(request) = read_request(&stream) else { continue };
            let mut bytes = whole(&request);
            if request.method == "GET" {
                bytes.truncate(bytes.len() - 1000);
            }
            let _ = (&stream).write_all(&bytes);
            held.extend((request.method == "GET").then_some(stream));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let options = HubOptions { patience: Duration::from_millis(300), ..options(&address, &folder) };
    let started = Instant::now();
    let error = get(&options).unwrap_err();
    assert!(error.to_string().contains("after 3.91 KiB"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_hub_that_drips_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some(request) = read_request(&stream) else { continue };
            let whole = hub(vec![7; 1 << 20])(&request);
            if request.method == "HEAD" {
                let _ = (&stream).write_all(&whole);
                continue;
            }
            // Far within any limit on a single read; it ends when the client hangs up.
            for byte in whole.chunks(256) {
                if (&stream).write_all(byte).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(600));
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let options = HubOptions { patience: Duration::from_secs(4), ..options(&address, &folder) };
    let error = get(&options).unwrap_err();
    assert!(error.to_string().contains("came with less than 1.00 KiB a second"), "{error}");
}
