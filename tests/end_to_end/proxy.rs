//! The hub behind a proxy: what the environment names is used, but not for hosts that it excludes.

use crate::hub::{Hub, published};
use crate::world::{World, ended};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read, Write as _, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A proxy on loopback, with the connections that it led on.
struct Proxy {
    address: String,
    led: Arc<AtomicUsize>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let led: Arc<AtomicUsize> = Arc::default();
        let counter = Arc::clone(&led);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                thread::spawn(move || lead(&client, &counter));
            }
        });
        Self { address, led }
    }
}

/// Leads a connection where its first line says: `CONNECT host:port`, or a request with a whole address.
fn lead(client: &TcpStream, counter: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
    }
    let target = request.split(' ').nth(1)?;
    let place = target.strip_prefix("http://").unwrap_or(target).split('/').next()?;
    let server = TcpStream::connect(place).ok()?;
    counter.fetch_add(1, Ordering::Relaxed);
    if request.starts_with("CONNECT ") {
        (&mut &*client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    } else {
        (&mut &server)
            .write_all(request.replacen(&format!("http://{place}"), "", 1).as_bytes())
            .ok()?;
    }
    let (mut up, mut down) = (server.try_clone().ok()?, client.try_clone().ok()?);
    let back = thread::spawn(move || copy(&mut up, &mut down));
    let _ = copy(&mut reader.by_ref(), &mut &server);
    let _ = back.join();
    Some(())
}

#[test]
fn a_proxy_is_used_unless_the_host_is_excluded() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    let proxy = Proxy::start();
    let led = |variables: &[(&str, &str)]| {
        let before = proxy.led.load(Ordering::Relaxed);
        let mut command = world.command(&["inspect", "hf://owner/tiny-GGUF:Q8_0"]);
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env("QUANTBENCH_OFFLINE", "0").env("HF_ENDPOINT", hub.address());
        command.env("HF_HOME", world.path("huggingface")).envs(variables.iter().copied());
        ended(&mut command).expect(0);
        proxy.led.load(Ordering::Relaxed) - before
    };
    assert_eq!(led(&[]), 0);
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        assert!(led(&[(name, proxy.address.as_str())]) > 0, "{name}");
    }
    let address = proxy.address.as_str();
    assert_eq!(led(&[("ALL_PROXY", address), ("NO_PROXY", "127.0.0.1")]), 0);
    assert!(led(&[("ALL_PROXY", address), ("NO_PROXY", "example.org")]) > 0);
}
