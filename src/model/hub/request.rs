//! Requests to the hub: how it is spoken to, which bytes are asked for, and when to ask again.

use super::PROXY_VARIABLES;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

/// Times that one request is sent again because the server is asked too often, or is not well.
pub(super) const MOST_WAITS: u32 = 5;

/// A server that asks for more patience than this is told of instead.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

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
    const PASSING: [StatusCode; 5] = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if !PASSING.contains(&response.status()) {
        return None;
    }
    wanted_wait(response).filter(|wait| *wait <= LONGEST_WAIT)
}

/// How long the server says to wait, in seconds or until a time; a second if it does not say. `None`: it is none of both.
pub(super) fn wanted_wait(response: &Response<Body>) -> Option<Duration> {
    let Some(text) = header(response.headers(), "retry-after") else {
        return Some(Duration::from_secs(1));
    };
    let until = || {
        let until = OffsetDateTime::parse(text, &Rfc2822).ok()?;
        Some((until - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO))
    };
    text.parse().ok().map(Duration::from_secs).or_else(until)
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

/// The variable that names a proxy which is none.
pub(super) fn wrong_proxy() -> Option<&'static str> {
    let names_none = |name: &&str| {
        let address = std::env::var(name).unwrap_or_default();
        !address.is_empty() && ureq::Proxy::new(&address).is_err()
    };
    PROXY_VARIABLES.into_iter().find(names_none)
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_time() {
        let asked = |wait: Option<&str>| {
            let mut builder = Response::builder().status(StatusCode::TOO_MANY_REQUESTS);
            if let Some(wait) = wait {
                builder = builder.header("retry-after", wait);
            }
            builder.body(Body::builder().data("")).unwrap()
        };
        let seconds = |wait| asked_to_wait(&asked(wait)).map(|wait| wait.as_secs());
        assert_eq!((seconds(None), seconds(Some("7"))), (Some(1), Some(7)));
        assert_eq!((seconds(Some("3600")), seconds(Some("soon"))), (None, None));
        assert_eq!(wanted_wait(&asked(Some("3600"))), Some(Duration::from_hours(1)));
        assert_eq!(seconds(Some("Wed, 21 Oct 2015 07:28:00 GMT")), Some(0), "it is over");
        let far = wanted_wait(&asked(Some("Wed, 21 Oct 2150 07:28:00 GMT"))).unwrap();
        assert!(far > Duration::from_hours(24 * 365));
    }
}
