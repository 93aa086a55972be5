//! Requests to the HTTP API from the client's side: signed, and as a line for curl.
//!
//! For people at a terminal. The string to sign is built by the code that checks it, so this shows
//! that the two agree, not that either follows the specification; the vectors in `pusher` do.
//! Sends nothing.
//!
//! Invariant: what is signed is the path and the query that are sent, byte for byte.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use md5::{Digest, Md5};

use crate::app::{App, AppKey};
use crate::pusher::escape;
use crate::pusher::query::{ArrayForm, Decoding, Query, QueryError};

/// A request that is not signed yet.
#[derive(Debug)]
pub(super) struct Request {
    method: String,
    /// Without the configured prefix.
    path: String,
    query: String,
    body: String,
}

/// Where the server is, as it is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub host: IpAddr,
    pub port: u16,
    pub path_prefix: &'a str,
}

/// A request that a server accepts for ten minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    address: SocketAddr,
    method: String,
    /// Path with prefix, and query.
    target: String,
    body: String,
}

impl Request {
    /// The data is published as text, also where the text is JSON: clients parse it.
    pub(super) fn publish(app: &App, channel: &str, event: &str, data: &str) -> Self {
        let mut body = Vec::new();
        for (before, value) in [
            ("{\"name\":", event),
            (",\"channel\":", channel),
            (",\"data\":", data),
        ] {
            body.extend_from_slice(before.as_bytes());
            escape::write_string(&mut body, value);
        }
        body.push(b'}');
        let body = String::from_utf8(body).expect("escaping keeps UTF-8");
        Self::any(
            Some("POST"),
            &format!("/apps/{}/events", app.id),
            Some(&body),
        )
    }

    /// Without a method GET, and POST where there is a body.
    pub(super) fn any(method: Option<&str>, target: &str, body: Option<&str>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let usual = if body.is_some() { "POST" } else { "GET" };
        let method = method.unwrap_or(usual);
        Self {
            method: method.to_ascii_uppercase(),
            path: path.into(),
            query: query.into(),
            body: body.unwrap_or_default().into(),
        }
    }

    /// # Errors
    ///
    /// If the query given with the path cannot be read.
    pub(super) fn sign(
        self,
        key: &AppKey,
        origin: Origin<'_>,
        now_secs: u64,
    ) -> Result<SignedRequest, QueryError> {
        let Self {
            method,
            path,
            mut query,
            body,
        } = self;
        if !query.is_empty() {
            query.push('&');
        }
        let _ = write!(
            query,
            "auth_key={}&auth_timestamp={now_secs}&auth_version=1.0",
            key.key
        );
        if !body.is_empty() {
            let _ = write!(query, "&body_md5={}", hex(&Md5::digest(&body)));
        }
        let mut to_sign = format!("{method}\n{path}\n").into_bytes();
        Query::parse(&query, Decoding::Form)?.write_to_sign(&mut to_sign, ArrayForm::Brackets);
        let signature = key.signing.sign_hex(&[&to_sign]);
        let signature = std::str::from_utf8(&signature).expect("hex digits are ASCII");
        let target = format!(
            "{}{path}?{query}&auth_signature={signature}",
            origin.path_prefix
        );
        Ok(SignedRequest {
            address: reachable(origin),
            method,
            target,
            body,
        })
    }
}

impl SignedRequest {
    /// Where it is sent to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A line for a POSIX shell.
    pub fn curl(&self) -> String {
        let mut line = String::from("curl -sS");
        let usual = if self.body.is_empty() { "GET" } else { "POST" };
        if self.method != usual {
            let _ = write!(line, " -X {}", shell_word(&self.method));
        }
        if !self.body.is_empty() {
            let header = "'Content-Type: application/json'";
            let _ = write!(line, " -H {header} --data-raw {}", shell_word(&self.body));
        }
        let _ = write!(
            line,
            " {}",
            shell_word(&format!("http://{}{}", self.address, self.target))
        );
        line
    }

    /// As it goes over the wire; the server closes after its answer.
    pub fn http(&self) -> String {
        let Self {
            address,
            method,
            target,
            body,
        } = self;
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Who listens on all addresses is reached on the machine's own.
pub(super) fn reachable(origin: Origin<'_>) -> SocketAddr {
    let host = match origin.host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, origin.port)
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::app::AppSettings;
    use crate::pusher::rest_signature::RestRequest;

    use super::*;

    const NOW_SECS: u64 = 1_700_000_000;

    fn app() -> App {
        App::new(
            0,
            "app-id",
            vec![AppKey::new("app-key", "app-secret")],
            AppSettings::default(),
        )
    }

    fn origin(host: &str, path_prefix: &'static str) -> Origin<'static> {
        Origin {
            host: host.parse().unwrap(),
            port: 6001,
            path_prefix,
        }
    }

    #[test]
    fn what_is_signed_is_accepted_by_the_server_s_own_check() {
        let requests = [
            Request::publish(&app(), "my-channel", "my-event", "{\"a\":\"ü'\\n\"}"),
            Request::any(
                None,
                "/apps/app-id/channels?info=user_count&filter_by_prefix=presence-",
                None,
            ),
            Request::any(Some("post"), "/apps/app-id/events", Some("{}")),
            Request::any(Some("HEAD"), "/apps/app-id/channels?x=%20+a", None),
        ];
        for request in requests {
            for prefix in ["", "/ws"] {
                let Request {
                    method,
                    path,
                    query,
                    body,
                } = &request;
                let copy = Request {
                    method: method.clone(),
                    path: path.clone(),
                    query: query.clone(),
                    body: body.clone(),
                };
                let signed = copy
                    .sign(&app().keys[0], origin("127.0.0.1", prefix), NOW_SECS)
                    .unwrap();
                let (path, query) = signed.target.split_once('?').unwrap();
                let head = RestRequest {
                    method: &signed.method,
                    path: path.strip_prefix(prefix).unwrap(),
                    prefix,
                    query,
                    authorization: None,
                    body_bytes: Some(signed.body.len() as u64),
                };
                let app = app();
                let key_of = |key: &str| app.key(key).map(|key| &key.signing);
                let authentic = head.verify(NOW_SECS, &mut Vec::new(), key_of).unwrap();
                let md5 = Md5::digest(&signed.body).into();
                authentic.check_body(signed.body.len() as u64, md5).unwrap();
            }
        }
    }

    #[test]
    fn a_line_for_curl_survives_the_shell() {
        let publish = Request::publish(&app(), "c", "e", "it's");
        let line = publish
            .sign(&app().keys[0], origin("0.0.0.0", ""), NOW_SECS)
            .unwrap()
            .curl();
        assert!(line.starts_with(
            "curl -sS -H 'Content-Type: application/json' \
             --data-raw '{\"name\":\"e\",\"channel\":\"c\",\"data\":\"it'\\''s\"}' \
             'http://127.0.0.1:6001/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000\
             &auth_version=1.0&body_md5="
        ));
        assert!(!line.contains("app-secret"));
        let head = Request::any(Some("HEAD"), "/up", None);
        let line = head
            .sign(&app().keys[0], origin("::", "/ws"), NOW_SECS)
            .unwrap()
            .curl();
        assert!(
            line.starts_with("curl -sS -X 'HEAD' 'http://[::1]:6001/ws/up?auth_key="),
            "{line}"
        );
    }

    #[test]
    fn a_request_on_the_wire_declares_its_body() {
        let request = Request::any(None, "/apps/app-id/events", Some("{\"ü\":1}"));
        let http = request
            .sign(&app().keys[0], origin("127.0.0.1", ""), NOW_SECS)
            .unwrap()
            .http();
        assert!(http.starts_with("POST /apps/app-id/events?auth_key=app-key&"));
        assert!(
            http.ends_with("Content-Length: 8\r\n\r\n{\"ü\":1}"),
            "{http}"
        );
    }
}
