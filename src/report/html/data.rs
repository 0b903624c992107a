//! Raw data within the page, in a script that is not run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use minijinja::Value;
use serde::Serialize;
use std::io::Write as _;

/// Longer data is packed, bytes: a page of a hundred trials stays small.
const PACKED_FROM: usize = 1 << 20;

/// JSON as a script may hold it.
#[derive(Serialize)]
pub(super) struct Data {
    kind: &'static str,
    pub(super) text: Value,
}

impl Data {
    pub(super) fn of(json: &str) -> Self {
        match packed(json).filter(|_| json.len() > PACKED_FROM) {
            Some(text) => Self { kind: "application/gzip", text: Value::from_safe_string(text) },
            // No tag ends within it.
            None => Self {
                kind: "application/json",
                text: Value::from_safe_string(json.replace('<', "\\u003c")),
            },
        }
    }
}

/// Gzip in base 64; writing into memory does not fail.
pub(super) fn packed(json: &str) -> Option<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json.as_bytes()).ok()?;
    Some(STANDARD.encode(encoder.finish().ok()?))
}
