//! Where the hub is, and which addresses a secret may be sent to.

use std::fmt;
use ureq::http::Uri;

/// Address of the hub. A name and password in it are sent, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port and path, without a slash at the end.
    shown: String,
    origin: Origin,
    /// `name:password`.
    credentials: Option<String>,
}

/// What a secret is meant for: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    is_secure: bool,
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads an address such as `https://huggingface.co`; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.trim().parse().ok()?;
        let origin = Origin::of(&uri)?;
        let authority = uri.authority()?.as_str();
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials.to_owned()), place),
            None => (None, authority),
        };
        let path = uri.path().trim_end_matches('/');
        let shown = format!("{}://{place}{path}", uri.scheme_str()?);
        uri.query().is_none().then_some(Self { shown, origin, credentials })
    }

    /// Whether `uri` belongs to the hub itself.
    pub(super) fn owns(&self, uri: &Uri) -> bool {
        Origin::of(uri).is_some_and(|origin| origin == self.origin)
    }

    /// Whether answers cannot be read on their way.
    pub(super) fn is_secure(&self) -> bool {
        self.origin.is_secure
    }

    /// An address of the hub with the name and password that `HF_ENDPOINT` had; not to be shown.
    pub(super) fn with_credentials(&self, uri: &Uri) -> Option<Uri> {
        let credentials = self.credentials.as_ref()?;
        let mut parts = uri.clone().into_parts();
        parts.authority = format!("{credentials}@{}", parts.authority?).parse().ok();
        Uri::from_parts(parts).ok()
    }

    /// The address that a redirect from `here` leads to, or why it is not followed.
    pub(super) fn next(&self, here: &Uri, location: &str) -> Result<Uri, &'static str> {
        const NO_ADDRESS: &str = "it redirects to no address";
        let own_scheme = here.scheme_str().unwrap_or_default();
        let own_place = here.authority().map_or("", |authority| authority.as_str());
        let whole = if location.starts_with("//") {
            format!("{own_scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{own_scheme}://{own_place}{location}")
        } else {
            location.to_owned()
        };
        let next: Uri = whole.parse().map_err(|_| NO_ADDRESS)?;
        let origin = Origin::of(&next).ok_or(NO_ADDRESS)?;
        if next.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("it redirects to an address with a name and password in it");
        }
        if self.is_secure() && !origin.is_secure {
            return Err("it redirects from https to http");
        }
        Ok(next)
    }
}

impl Origin {
    fn of(uri: &Uri) -> Option<Self> {
        let is_secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let port = match uri.authority()?.port() {
            Some(port) => port.as_u16(),
            None if is_secure => 443,
            None => 80,
        };
        Some(Self { is_secure, host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Endpoint({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_and_password_are_sent_to_the_hub_and_never_shown() {
        let endpoint = Endpoint::parse(" https://me:hunter2@Hub.org:8443/mirror/ ").unwrap();
        assert_eq!(endpoint.to_string(), "https://Hub.org:8443/mirror");
        assert!(!format!("{endpoint:?}").contains("hunter2"));
        let sent = endpoint.with_credentials(&uri("https://hub.org:8443/x?y")).unwrap();
        assert_eq!(sent, uri("https://me:hunter2@hub.org:8443/x?y"));
        let open = Endpoint::parse("http://hub.org").unwrap();
        assert_eq!(open.with_credentials(&uri("http://hub.org/x")), None);
    }

    #[test]
    fn what_is_no_web_address_is_no_hub() {
        for text in ["", "hub.org", "me:pw@hub.org", "ftp://hub.org", "http://", "http://h/?q=1"] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let endpoint = Endpoint::parse("https://hub.org/mirror").unwrap();
        for own in ["https://hub.org/else", "https://HUB.org:443/x", "https://a:b@hub.org/x"] {
            assert!(endpoint.owns(&uri(own)), "{own}");
        }
        for other in [
            "http://hub.org/mirror",
            "http://hub.org:443/mirror",
            "https://hub.org:8443/mirror",
            "https://hub.org.evil.org/",
            "https://hub.org@evil.org/",
            "https://sub.hub.org/",
        ] {
            assert!(!endpoint.owns(&uri(other)), "{other}");
        }
    }

    #[test]
    fn redirects_lead_to_plain_addresses_that_are_no_less_secure() {
        let endpoint = Endpoint::parse("https://hub.org").unwrap();
        let next = |location: &str| endpoint.next(&uri("https://cdn.org:1/a/b"), location);
        assert_eq!(next("/c?d=1").unwrap(), uri("https://cdn.org:1/c?d=1"));
        assert_eq!(next("//other.org/c").unwrap(), uri("https://other.org/c"));
        assert_eq!(next("https://hub.org/c").unwrap(), uri("https://hub.org/c"));
        assert_eq!(next("http://hub.org/c"), Err("it redirects from https to http"));
        for location in ["https://u:p@hub.org/c", "https://u@hub.org/c", "//u@hub.org/c"] {
            assert!(next(location).unwrap_err().contains("name and password"), "{location}");
        }
        for location in ["", "c", "file:///etc/passwd", "https://"] {
            assert_eq!(next(location), Err("it redirects to no address"), "{location}");
        }
        let open = Endpoint::parse("http://hub.org").unwrap();
        assert!(open.next(&uri("http://hub.org/a"), "http://cdn.org/c").is_ok());
    }
}
