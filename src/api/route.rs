//! Method and path into a `Route` (HTTP spec 1.1, WebSocket spec 1.1 and 1.3).
//!
//! It looks at the shape of a path and at nothing behind it: whether the app exists is the next
//! question, and not asked here. Paths are compared as written; only the ids in them are decoded.
//!
//! Invariant: every path gives exactly one endpoint or none, whatever the method.

use std::borrow::Cow;

use memchr::memchr;

use crate::http::{Method, Status};

use super::{Response, cors};

/// What a request is for. Ids are percent-decoded; what does not decode stays as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'p> {
    /// POST: publish one event.
    Events { app_id: Cow<'p, str> },
    /// POST: publish up to ten.
    BatchEvents { app_id: Cow<'p, str> },
    /// POST: close all connections of a user.
    TerminateUser {
        app_id: Cow<'p, str>,
        user_id: Cow<'p, str>,
    },
    /// The same under a path without the app, as the Python library posts it: the app is that of
    /// `auth_key` (HTTP spec 9).
    TerminateUserOfKey { user_id: Cow<'p, str> },
    /// GET: list occupied channels.
    Channels { app_id: Cow<'p, str> },
    /// GET: one channel.
    Channel {
        app_id: Cow<'p, str>,
        channel: Cow<'p, str>,
    },
    /// GET: the users of a channel.
    ChannelUsers {
        app_id: Cow<'p, str>,
        channel: Cow<'p, str>,
    },
    /// GET: the number of the app's connections.
    Connections { app_id: Cow<'p, str> },
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

    fn not_allowed(self) -> Response {
        let (text, fields): (_, &'static [_]) = match self {
            Self::Get => (
                "Method not allowed: this path takes GET.",
                &[("Allow", "GET, HEAD")],
            ),
            Self::Post => (
                "Method not allowed: this path takes POST.",
                &[("Allow", "POST")],
            ),
        };
        let mut response = Response::error(Status::MethodNotAllowed, "method_not_allowed", text);
        response.fields = fields;
        response
    }
}

/// Most segments of a path that any endpoint has.
const SEGMENTS_MAX: usize = 5;

impl<'p> Route<'p> {
    /// The route of `path`, which has lost the configured prefix (see `strip_prefix`).
    /// `upgrade` is `Head::websocket_upgrade`. One trailing slash is tolerated.
    pub fn find(method: &Method<'_>, path: &'p str, upgrade: bool) -> Result<Self, Refusal> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == "/app" || path.starts_with("/app/") {
            return if upgrade {
                Ok(Self::websocket(path))
            } else {
                Err(Refusal::NotUpgraded)
            };
        }
        let mut storage = [""; SEGMENTS_MAX];
        let segments = split(path, &mut storage).ok_or(Refusal::NotFound)?;
        let (methods, route) = endpoint(segments).ok_or(Refusal::NotFound)?;
        if methods.allow(method) {
            Ok(route)
        } else {
            Err(Refusal::MethodNotAllowed(methods))
        }
    }

    fn websocket(path: &'p str) -> Self {
        match path.strip_prefix("/app/") {
            Some(key) if !key.is_empty() && !key.contains('/') => Self::WebSocket {
                key: percent_decode(key),
            },
            _ => Self::WebSocketPath,
        }
    }
}

/// The table of HTTP spec 1.1 and 10.
fn endpoint<'p>(segments: &[&'p str]) -> Option<(Methods, Route<'p>)> {
    use Methods::{Get, Post};
    Some(match *segments {
        ["apps", app, "events"] => (
            Post,
            Route::Events {
                app_id: percent_decode(app),
            },
        ),
        ["apps", app, "batch_events"] => (
            Post,
            Route::BatchEvents {
                app_id: percent_decode(app),
            },
        ),
        ["apps", app, "users", user, "terminate_connections"] => (
            Post,
            Route::TerminateUser {
                app_id: percent_decode(app),
                user_id: percent_decode(user),
            },
        ),
        ["users", user, "terminate_connections"] => (
            Post,
            Route::TerminateUserOfKey {
                user_id: percent_decode(user),
            },
        ),
        ["apps", app, "channels"] => (
            Get,
            Route::Channels {
                app_id: percent_decode(app),
            },
        ),
        ["apps", app, "channels", channel] => (
            Get,
            Route::Channel {
                app_id: percent_decode(app),
                channel: percent_decode(channel),
            },
        ),
        ["apps", app, "channels", channel, "users"] => (
            Get,
            Route::ChannelUsers {
                app_id: percent_decode(app),
                channel: percent_decode(channel),
            },
        ),
        ["apps", app, "connections"] => (
            Get,
            Route::Connections {
                app_id: percent_decode(app),
            },
        ),
        [] => (Get, Route::Root),
        ["up"] => (Get, Route::Up),
        ["up", app] => (
            Get,
            Route::UpApp {
                app_id: percent_decode(app),
            },
        ),
        ["live"] => (Get, Route::Live),
        ["ready"] => (Get, Route::Ready),
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

impl Refusal {
    /// The answer. `OPTIONS` on a known path is a preflight where origins are configured.
    pub fn answer(self, method: &Method<'_>, cors_origins: &[String]) -> Response {
        let not_found = |text| Response::error(Status::NotFound, "not_found", text);
        match self {
            Self::NotFound => not_found("Unknown path."),
            Self::NotUpgraded => {
                not_found("Unknown path: /app/{key} answers WebSocket upgrades only.")
            }
            Self::MethodNotAllowed(methods) => (*method == Method::Options)
                .then(|| cors::preflight(methods, cors_origins))
                .flatten()
                .unwrap_or_else(|| methods.not_allowed()),
        }
    }
}

/// The segments of `path`, which has no trailing slash. None if there are more than any endpoint
/// has, or the path does not begin with a slash.
fn split<'s, 'p>(path: &'p str, storage: &'s mut [&'p str; SEGMENTS_MAX]) -> Option<&'s [&'p str]> {
    if path.is_empty() {
        return Some(&[]);
    }
    let (mut rest, mut count) = (path.strip_prefix('/')?, 0);
    loop {
        let slash = memchr(b'/', rest.as_bytes());
        *storage.get_mut(count)? = &rest[..slash.unwrap_or(rest.len())];
        count += 1;
        match slash {
            Some(at) => rest = &rest[at + 1..],
            None => return Some(&storage[..count]),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn find(path: &str) -> Result<Route<'_>, Refusal> {
        Route::find(&Method::Get, path, false)
    }

    fn post(path: &str) -> Result<Route<'_>, Refusal> {
        Route::find(&Method::Post, path, false)
    }

    fn upgrade(path: &str) -> Result<Route<'_>, Refusal> {
        Route::find(&Method::Get, path, true)
    }

    #[test]
    fn every_endpoint_has_its_path_with_and_without_a_trailing_slash() {
        let app = || Cow::Borrowed("3");
        let table = [
            (
                Method::Post,
                "/apps/3/events",
                Route::Events { app_id: app() },
            ),
            (
                Method::Post,
                "/apps/3/batch_events",
                Route::BatchEvents { app_id: app() },
            ),
            (
                Method::Post,
                "/apps/3/users/u%40/terminate_connections",
                Route::TerminateUser {
                    app_id: app(),
                    user_id: Cow::Borrowed("u@"),
                },
            ),
            (
                Method::Post,
                "/users/u/terminate_connections",
                Route::TerminateUserOfKey {
                    user_id: Cow::Borrowed("u"),
                },
            ),
            (
                Method::Get,
                "/apps/3/channels",
                Route::Channels { app_id: app() },
            ),
            (
                Method::Get,
                "/apps/3/channels/a%3Db%40c",
                Route::Channel {
                    app_id: app(),
                    channel: "a=b@c".into(),
                },
            ),
            (
                Method::Get,
                "/apps/3/channels/users/users",
                Route::ChannelUsers {
                    app_id: app(),
                    channel: "users".into(),
                },
            ),
            (
                Method::Get,
                "/apps/3/connections",
                Route::Connections { app_id: app() },
            ),
            (Method::Get, "", Route::Root),
            (Method::Get, "/up", Route::Up),
            (Method::Get, "/up/3", Route::UpApp { app_id: app() }),
            (Method::Get, "/live", Route::Live),
            (Method::Get, "/ready", Route::Ready),
        ];
        for (method, path, route) in table {
            assert_eq!(
                Route::find(&method, path, false).as_ref(),
                Ok(&route),
                "{path}"
            );
            let slash = format!("{path}/");
            assert_eq!(
                Route::find(&method, &slash, false).as_ref(),
                Ok(&route),
                "{slash}"
            );
            let two = format!("{path}//");
            assert_ne!(
                Route::find(&method, &two, false).as_ref(),
                Ok(&route),
                "{two}"
            );
        }
    }

    #[test]
    fn unknown_paths_are_not_found_whatever_the_method() {
        let paths = [
            "/nope",
            "*",
            "up",
            "//",
            "///",
            "/UP",
            "/apps",
            "/apps/3",
            "/apps/3/event",
            "/apps/3/events/x",
            "/apps/3/channels/c/events",
            "/apps/3/channels/c/stats",
            "/apps/3/connections/1",
            "/apps/3/events//",
            "/apps/a/b/events",
            "/apps/3/%65vents",
            "/apps/3/../3/events",
            "/up/3/4",
            "/application/k",
            "/appx",
            "/metrics",
            "/usage",
            "/a/b/c/d/e/f/g/h",
        ];
        for path in paths {
            for method in [
                Method::Get,
                Method::Post,
                Method::Options,
                Method::Other("PUT"),
            ] {
                let found = Route::find(&method, path, false);
                assert_eq!(found, Err(Refusal::NotFound), "{path}");
            }
            assert_eq!(upgrade(path), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn a_known_path_names_its_methods() {
        let get = Err(Refusal::MethodNotAllowed(Methods::Get));
        for path in [
            "/",
            "/up",
            "/up/3",
            "/live",
            "/ready",
            "/apps/3/channels",
            "/apps/3/channels/c",
            "/apps/3/channels/c/users",
            "/apps/3/connections",
        ] {
            assert_eq!(post(path), get, "{path}");
            assert_eq!(Route::find(&Method::Other("get"), path, false), get);
            assert!(Route::find(&Method::Head, path, false).is_ok(), "{path}");
        }
        let only_post = Err(Refusal::MethodNotAllowed(Methods::Post));
        for path in [
            "/apps/3/events",
            "/apps/3/batch_events",
            "/apps/3/users/u/terminate_connections",
            "/users/u/terminate_connections",
        ] {
            assert_eq!(find(path), only_post, "{path}");
            assert_eq!(upgrade(path), only_post, "{path}");
            assert_eq!(Route::find(&Method::Head, path, false), only_post);
            assert_eq!(Route::find(&Method::Options, path, false), only_post);
        }
    }

    #[test]
    fn an_upgrade_names_one_key_or_gets_4005() {
        let key = |key: &'static str| {
            Ok(Route::WebSocket {
                key: Cow::Borrowed(key),
            })
        };
        for (path, expected) in [
            ("/app/278d", key("278d")),
            ("/app/278d/", key("278d")),
            ("/app/a%20b%2Fc", key("a b/c")),
            ("/app/%zz%4", key("%zz%4")),
            ("/app/%ff", key("%ff")),
            ("/app/caf%C3%A9", key("caf\u{e9}")),
            ("/app", Ok(Route::WebSocketPath)),
            ("/app/", Ok(Route::WebSocketPath)),
            ("/app//", Ok(Route::WebSocketPath)),
            ("/app/a/b", Ok(Route::WebSocketPath)),
            ("/app/a//", Ok(Route::WebSocketPath)),
            ("/app//a", Ok(Route::WebSocketPath)),
            ("/app/a/b/c/d/e/f", Ok(Route::WebSocketPath)),
        ] {
            assert_eq!(upgrade(path), expected, "{path}");
            assert_eq!(find(path), Err(Refusal::NotUpgraded), "{path}");
            assert_eq!(post(path), Err(Refusal::NotUpgraded), "{path}");
        }
    }

    #[test]
    fn ids_are_decoded_after_the_path_has_been_split() {
        let app_id = Cow::Borrowed("a/b");
        assert_eq!(post("/apps/a%2fb/events"), Ok(Route::Events { app_id }));
        let app_id = Cow::Borrowed("");
        assert_eq!(post("/apps//events"), Ok(Route::Events { app_id }));
    }

    #[test]
    fn a_prefix_is_taken_off_at_a_slash_only() {
        let table = [
            ("/up", "", Some("/up")),
            ("/up", "/", Some("/up")),
            ("/ws/up", "/ws", Some("/up")),
            ("/ws/up", "/ws/", Some("/up")),
            ("/ws", "/ws", Some("")),
            ("/ws/", "/ws", Some("/")),
            ("/a/b/app/k", "/a/b", Some("/app/k")),
            ("/wsx/up", "/ws", None),
            ("/up", "/ws", None),
            ("*", "", None),
        ];
        for (path, prefix, expected) in table {
            assert_eq!(strip_prefix(path, prefix), expected, "{path} {prefix}");
        }
    }

    #[test]
    fn a_refusal_is_answered_with_its_status_and_allow() {
        let none: &[String] = &[];
        let some = &["https://a.example".to_owned()];
        let get = Refusal::MethodNotAllowed(Methods::Get);
        let post = Refusal::MethodNotAllowed(Methods::Post);
        for (refusal, method, origins, status, fields) in [
            (Refusal::NotFound, Method::Get, none, 404, &[][..]),
            (Refusal::NotFound, Method::Options, some, 404, &[]),
            (Refusal::NotUpgraded, Method::Get, none, 404, &[]),
            (get, Method::Post, none, 405, &[("Allow", "GET, HEAD")]),
            (get, Method::Options, none, 405, &[("Allow", "GET, HEAD")]),
            (post, Method::Options, none, 405, &[("Allow", "POST")]),
            (post, Method::Get, some, 405, &[("Allow", "POST")]),
        ] {
            let response = refusal.answer(&method, origins);
            assert_eq!((response.status.code(), response.fields), (status, fields));
        }
        let preflight = post.answer(&Method::Options, some);
        assert_eq!(preflight.status, Status::NoContent);
    }

    /// No path panics, and one that is refused for its method has a method that it takes.
    fn fuzz_route(path: &str) {
        let _ = upgrade(path);
        if let Err(Refusal::MethodNotAllowed(methods)) = find(path) {
            assert_eq!(methods, Methods::Post);
            assert!(post(path).is_ok());
        }
    }

    #[test]
    fn mutated_paths_never_panic() {
        let paths = [
            "/apps/3/events",
            "/app/%C3%A9",
            "/up/3",
            "/apps/%2f/batch_events/",
        ];
        let mut seed = Seed::new(5);
        for _ in 0..20_000 {
            let mut path = paths[seed.below(paths.len())].as_bytes().to_vec();
            seed.mutate(&mut path, b"/%2fFaps\xc3\xa9");
            if let Ok(path) = std::str::from_utf8(&path) {
                fuzz_route(path);
            }
        }
    }
}
