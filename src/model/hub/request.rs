//! Requests to the hub: how it is spoken to, which bytes are asked for, and when to ask again.

use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

/// Times that one request is sent again because the server is asked too often.
pub(super) const MOST_WAITS: u32 = 5;

/// A server that asks for more patience than this is told of instead, seconds.
const LONGEST_WAIT: u64 = 300;

/// Which bytes of an answer are wanted.
pub(super) enum Bytes {
    All,
    From(u64),
    /// From the first up to the second.
    Range(u64, u64),
    First(u64),
}

impl Bytes {
    pub(super) fn range(&self) -> Option<String> {
        match self {
            Self::All | Self::From(0) => None,
            Self::From(start) => Some(format!("bytes={start}-")),
            Self::Range(from, to) => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
            Self::First(count) => Some(format!("bytes=0-{}", count.saturating_sub(1))),
        }
    }
}

/// How long to wait before asking again, if the server says so and it is not too long.
pub(super) fn asked_to_wait(response: &Response<Body>) -> Option<Duration> {
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds =
        header(response.headers(), "retry-after").map_or(Some(1), |it| it.parse().ok())?;
    (seconds <= LONGEST_WAIT).then(|| Duration::from_secs(seconds))
}

/// How the hub is spoken to. Redirects are not left to it: where secrets go is decided here.
pub(super) fn agent(patience: Duration, is_secure: bool) -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(patience))
        .timeout_connect(Some(patience))
        .timeout_send_request(Some(patience))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .https_only(is_secure)
        // Compressed content has another length, and cannot be gone on with.
        .accept_encoding("identity")
        .user_agent(concat!("quantbench/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
