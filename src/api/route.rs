//! Method and path into a `Route` (HTTP spec 1.1, WebSocket spec 1.1 and 1.3).
//!
//! It looks at the shape of a path and at nothing behind it: whether the app exists is the next
//! question, and not asked here. Paths are compared as written; only the ids in them are decoded.
//!
//! Invariant: every path gives exactly one endpoint or none, whatever the method.

use std::borrow::Cow;

use crate::http::{Method, Status};

use super::Response;

/// What a request is for. Ids are percent-decoded; what does not decode stays as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'p> {
    /// POST: publish one event.
    Events { app_id: Cow<'p, str> },
    /// POST: publish up to ten.
    BatchEvents { app_id: Cow<'p, str> },
    /// GET `/`.
    Root,
    /// GET `/up`.
    Up,
    /// GET `/up/{app_id}`.
    UpApp { app_id: Cow<'p, str> },
    /// GET `/live`.
    Live,
    /// GET `/ready`.
    Ready,
    /// A WebSocket upgrade to `/app/{key}`.
    WebSocket { key: Cow<'p, str> },
    /// A WebSocket upgrade under `/app` that names no key, or more: upgraded, then closed with
    /// 4005, because a browser would see an HTTP refusal as 1006 and retry for ever.
    WebSocketPath,
}

/// Why a request has no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such path.
    NotFound,
    /// `/app/..` without an upgrade to WebSocket.
    NotUpgraded,
    /// The path is known, with other methods.
    MethodNotAllowed(Methods),
}

/// The methods of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    /// GET, and HEAD, which is GET without the body.
    Get,
    Post,
}

impl Methods {
    fn allow(self, method: &Method<'_>) -> bool {
        match self {
            Self::Get => matches!(method, Method::Get | Method::Head),
            Self::Post => *method == Method::Post,
        }
    }
}

/// Most segments of a path that any endpoint has.
const SEGMENTS_MAX: usize = 5;

impl<'p> Route<'p> {
    /// The route of `path`, which has lost the configured prefix (see `strip_prefix`).
    /// `upgrade` is `Head::websocket_upgrade`. One trailing slash is tolerated.
    pub fn find(method: &Method<'_>, path: &'p str, upgrade: bool) -> Result<Self, Refusal> {
        let mut storage = [""; SEGMENTS_MAX];
        let segments = split(path, &mut storage).ok_or(Refusal::NotFound)?;
        if segments.first() == Some(&"app") {
            return Self::websocket(segments, upgrade);
        }
        let (methods, route) = endpoint(segments).ok_or(Refusal::NotFound)?;
        if methods.allow(method) {
            Ok(route)
        } else {
            Err(Refusal::MethodNotAllowed(methods))
        }
    }

    fn websocket(segments: &[&'p str], upgrade: bool) -> Result<Self, Refusal> {
        if !upgrade {
            return Err(Refusal::NotUpgraded);
        }
        match *segments {
            [_, key] if !key.is_empty() => Ok(Self::WebSocket {
                key: percent_decode(key),
            }),
            _ => Ok(Self::WebSocketPath),
        }
    }
}

/// The table of HTTP spec 1.1 and 10.
fn endpoint<'p>(segments: &[&'p str]) -> Option<(Methods, Route<'p>)> {
    use Methods::{Get, Post};
    let id = |segment: &'p str| percent_decode(segment);
    Some(match *segments {
        ["apps", app, "events"] => (Post, Route::Events { app_id: id(app) }),
        ["apps", app, "batch_events"] => (Post, Route::BatchEvents { app_id: id(app) }),
        [] => (Get, Route::Root),
        ["up"] => (Get, Route::Up),
        ["up", app] => (Get, Route::UpApp { app_id: id(app) }),
        ["live"] => (Get, Route::Live),
        ["ready"] => (Get, Route::Ready),
        // Not served yet, and so unknown: queries (HTTP spec 6, 7, 8) and users (9).
        ["apps", _, "channels"]
        | ["apps", _, "channels", _]
        | ["apps", _, "channels", _, "users"]
        | ["apps", _, "users", _, "terminate_connections"]
        | ["users", _, "terminate_connections"] => return None,
        // `/usage` and `/metrics` are on the metrics port only.
        _ => return None,
    })
}

/// What follows the configured prefix (`""`, `/ws`, `/a/b`; a slash at its end does not count) in
/// `path`, or nothing if the path is not under it. What follows is `""` or begins with a slash.
pub fn strip_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::error(Status::NotFound, "not_found", "Unknown path."),
            Refusal::NotUpgraded => Self::error(
                Status::NotFound,
                "not_found",
                "Unknown path: /app/{key} answers WebSocket upgrades only.",
            ),
            Refusal::MethodNotAllowed(methods) => {
                let (text, fields): (_, &'static [_]) = match methods {
                    Methods::Get => (
                        "Method not allowed: this path takes GET.",
                        &[("Allow", "GET, HEAD")],
                    ),
                    Methods::Post => (
                        "Method not allowed: this path takes POST.",
                        &[("Allow", "POST")],
                    ),
                };
                let mut response =
                    Self::error(Status::MethodNotAllowed, "method_not_allowed", text);
                response.fields = fields;
                response
            }
        }
    }
}

/// The segments of `path`, one trailing slash apart. None if it has more than any endpoint.
fn split<'s, 'p>(path: &'p str, storage: &'s mut [&'p str; SEGMENTS_MAX]) -> Option<&'s [&'p str]> {
    if path.is_empty() || path == "/" {
        return Some(&[]);
    }
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut count = 0;
    for segment in path.split('/') {
        *storage.get_mut(count)? = segment;
        count += 1;
    }
    Some(&storage[..count])
}

/// `%XX` into bytes. An invalid escape stays as written (HTTP spec 2.3), and so does the whole
/// segment if the bytes are no UTF-8.
fn percent_decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|&b| (b as char).to_digit(16));
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(segment), Cow::Owned)
}
