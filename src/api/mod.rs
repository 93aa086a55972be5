//! REST requests as decisions: a head and a body in, a `Response` value out (HTTP spec).
//!
//! Synchronous. Nothing here awaits, reads a socket or holds a connection; the connection code
//! calls these functions in the order of HTTP spec 1.3 and writes the value that comes back.
//!
//! Invariant: a `Response` knows nothing of the request but the decision. What the request alone
//! decides about the form of the answer (HEAD, close, origin) is `Framing`, given when it is
//! written.

use std::fmt;

use crate::app::Rate;
use crate::http::response::{self, Content, Writer};
use crate::http::{self, Head, Method, Status};

mod auth;
mod channels;
pub mod cors;
mod counts;
mod events;
pub mod health;
mod keyed;
mod listing;
pub mod request;
pub mod route;
#[cfg(test)]
mod testing;
pub mod upgrade;
mod users;
pub mod waiting;

pub use request::{Accepted, Collecting, Context, OnBody, OnHead, Settings, on_body, on_head};
pub use route::{Refusal, Route};
pub use upgrade::Upgrade;
pub use waiting::{OnAnswer, Waiting, on_stray_answer};

/// An answer, not yet bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: Status,
    pub body: Body,
    /// Further fields, such as `Allow`.
    pub fields: &'static [(&'static str, &'static str)],
    /// `Retry-After`, in seconds: on 429 and 503 only (HTTP spec 11).
    pub retry_after_secs: Option<u32>,
    /// On every response from the rate step on (HTTP spec 11).
    pub rate: Option<Rate>,
    /// Whether the connection ends after this answer, whatever the client wished.
    pub close: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `{"ok":true}`; the one that is copied as a whole.
    OkTrue,
    /// Without a body: 204.
    None,
    /// The text of a JSON object, fixed.
    JsonFixed(&'static str),
    /// The text of a JSON object.
    Json(Vec<u8>),
    Text(&'static str),
}

impl Body {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::None => b"",
            Self::OkTrue => response::OK_TRUE.as_bytes(),
            Self::JsonFixed(text) | Self::Text(text) => text.as_bytes(),
            Self::Json(text) => text,
        }
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.as_bytes().len()
    }
}

/// What the request decides about the form of its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Framing<'c> {
    /// HEAD: everything but the body.
    pub head_only: bool,
    /// The client, or its version of HTTP, wants the connection closed.
    pub close: bool,
    /// The value of `Access-Control-Allow-Origin`, from the configuration.
    pub allow_origin: Option<&'c str>,
}

impl<'c> Framing<'c> {
    pub fn of(head: &Head<'_>, cors_origins: &'c [String]) -> Self {
        Self {
            head_only: head.method == Method::Head,
            close: !head.keep_alive,
            allow_origin: cors::allowed_origin(head, cors_origins),
        }
    }

    /// For an answer to what could not be read as a request.
    pub fn unread() -> Self {
        Self {
            close: true,
            ..Self::default()
        }
    }
}

/// A [`Framing`] that outlives its head: the origin by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeptFraming {
    head_only: bool,
    close: bool,
    origin: Option<usize>,
}

impl KeptFraming {
    fn of(head: &Head<'_>, cors_origins: &[String]) -> Self {
        Self {
            head_only: head.method == Method::Head,
            close: !head.keep_alive,
            origin: cors::allowed_index(head, cors_origins),
        }
    }

    fn framing(self, cors_origins: &[String]) -> Framing<'_> {
        let origin = self.origin.and_then(|index| cors_origins.get(index));
        Framing {
            head_only: self.head_only,
            close: self.close,
            allow_origin: origin.map(String::as_str),
        }
    }
}

/// The error object of a used up budget, with a member more than others have.
const RATE_LIMITED: &str = r#"{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again later.","code":"rate_limited","status":429}"#;

impl Response {
    /// 200 with `{"ok":true}`: a publish (HTTP spec 4.3).
    pub const OK_TRUE: Self = Self::new(Status::Ok, Body::OkTrue);

    pub const fn new(status: Status, body: Body) -> Self {
        Self {
            status,
            body,
            fields: &[],
            retry_after_secs: None,
            rate: None,
            close: false,
        }
    }

    /// The error object (HTTP spec 1.2). `text` is for humans and names the offender.
    pub fn error(status: Status, slug: &'static str, text: impl fmt::Display) -> Self {
        let mut body = Vec::with_capacity(128);
        response::write_error_object(&mut body, text, slug, status);
        Self::new(status, Body::Json(body))
    }

    /// Overload or draining: 503, and when to come again (HTTP spec 1.2).
    pub fn unavailable(text: &'static str, retry_after_secs: u32) -> Self {
        let mut response = Self::error(Status::Unavailable, "service_unavailable", text);
        response.retry_after_secs = Some(retry_after_secs);
        response
    }

    /// The budget is used up: 429, and when the window ends (HTTP spec 11).
    pub fn rate_limited(rate: Rate) -> Self {
        let mut response = Self::new(Status::TooManyRequests, Body::JsonFixed(RATE_LIMITED));
        let secs = u32::try_from(rate.reset_secs).unwrap_or(u32::MAX);
        response.retry_after_secs = Some(secs.max(1));
        response.with_rate(rate)
    }

    /// The same, with the end of the connection: request bytes remain unread (HTTP spec 1).
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The same answer with the `X-RateLimit-*` fields.
    pub fn with_rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Whether the connection must be closed once this has been sent.
    pub fn closes(&self, framing: &Framing<'_>) -> bool {
        self.close || framing.close
    }

    /// Appends the response to what the connection has to send.
    pub fn write(&self, framing: &Framing<'_>, out: &mut Vec<u8>) {
        if let Some(rate) = self.rate
            && *framing == Framing::default()
            && *self == Self::OK_TRUE.with_rate(rate)
        {
            let Rate {
                limit,
                remaining,
                reset_secs,
            } = rate;
            return response::write_ok_true(out, [limit, remaining, reset_secs]);
        }
        let mut writer = Writer::begin(out, self.status);
        if self.closes(framing) {
            writer = writer.close();
        }
        for (name, value) in self.fields {
            writer = writer.field(name, value);
        }
        if let Some(rate) = self.rate {
            writer = writer
                .number("X-RateLimit-Limit", rate.limit)
                .number("X-RateLimit-Remaining", rate.remaining)
                .number("X-RateLimit-Reset", rate.reset_secs);
        }
        if let Some(secs) = self.retry_after_secs {
            writer = writer.number("Retry-After", u64::from(secs));
        }
        if let Some(origin) = framing.allow_origin {
            writer = writer.field("Access-Control-Allow-Origin", origin);
            if origin != cors::ANY {
                writer = writer.field("Vary", "Origin");
            }
        }
        let content = match &self.body {
            Body::None => Content::None,
            Body::OkTrue => Content::Json(response::OK_TRUE.as_bytes()),
            Body::JsonFixed(text) => Content::Json(text.as_bytes()),
            Body::Json(text) => Content::Json(text),
            Body::Text(text) => Content::Text(text),
        };
        writer.finish(content, framing.head_only);
    }
}

impl From<http::Error> for Response {
    /// Each of these leaves the stream unreadable, so each ends the connection.
    fn from(error: http::Error) -> Self {
        Self::error(error.status(), error.slug(), error).closing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, framing: &Framing<'_>) -> String {
        let mut out = Vec::new();
        response.write(framing, &mut out);
        String::from_utf8(out).expect("our responses are text")
    }

    #[test]
    fn the_copied_answer_carries_the_budget_and_equals_the_written_one() {
        let rate = Rate {
            limit: 10,
            remaining: 0,
            reset_secs: 60,
        };
        let head = "X-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 60\r\n\
                    Content-Type: application/json\r\nContent-Length: 11\r\n\r\n";
        let answer = Response::OK_TRUE.with_rate(rate);
        let copied = format!("HTTP/1.1 200 OK\r\n{head}{{\"ok\":true}}");
        assert_eq!(written(&answer, &Framing::default()), copied);
        let slow = Response::new(Status::Ok, Body::JsonFixed(r#"{"ok":true}"#)).with_rate(rate);
        assert_eq!(written(&slow, &Framing::default()), copied);
        let close = Framing {
            close: true,
            ..Framing::default()
        };
        let closing = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{head}{{\"ok\":true}}");
        assert_eq!(written(&answer, &close), closing);
        assert_eq!(written(&slow, &close), closing);
    }

    #[test]
    fn a_used_up_budget_says_when_the_next_one_begins() {
        let rate = |reset_secs| Rate {
            limit: 5,
            remaining: 0,
            reset_secs,
        };
        let body = r#"{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again later.","code":"rate_limited","status":429}"#;
        for (reset_secs, retry_secs) in [(7, 7), (0, 1)] {
            let response = Response::rate_limited(rate(reset_secs));
            assert!(!response.close);
            assert_eq!(
                written(&response, &Framing::default()),
                format!(
                    "HTTP/1.1 429 Too Many Requests\r\nX-RateLimit-Limit: 5\r\n\
                     X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {reset_secs}\r\n\
                     Retry-After: {retry_secs}\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            );
        }
    }

    #[test]
    fn a_server_that_cannot_says_when_to_come_again() {
        let response = Response::unavailable("The server is overloaded.", 1);
        assert!(!response.closes(&Framing::default()));
        let body =
            r#"{"error":"The server is overloaded.","code":"service_unavailable","status":503}"#;
        assert_eq!(
            written(&response.closing(), &Framing::default()),
            format!(
                "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        );
    }

    #[test]
    fn what_cannot_be_read_is_answered_and_closed() {
        let response = Response::from(http::Error::HeadersTooMany { headers_max: 64 });
        assert!(response.close);
        let text = written(&response, &Framing::unread());
        assert!(text.starts_with("HTTP/1.1 431 "));
        assert_eq!(text.matches("Connection: close").count(), 1);
        assert!(text.ends_with(
            r#"{"error":"Too many header fields. Maximum is 64.","code":"head_too_large","status":431}"#
        ));
    }

    #[test]
    fn head_is_answered_without_the_body_but_with_its_length() {
        let head_only = Framing {
            head_only: true,
            ..Framing::default()
        };
        let whole = written(&health::root(), &Framing::default());
        let head = written(&health::root(), &head_only);
        assert!(head.contains("Content-Length: 2\r\n"));
        assert_eq!(format!("{head}OK"), whole);
    }

    #[test]
    fn a_listed_origin_is_named_and_caches_are_told() {
        let named = Framing {
            allow_origin: Some("https://a.example"),
            ..Framing::default()
        };
        let text = written(&Response::OK_TRUE, &named);
        assert!(text.contains("\r\nAccess-Control-Allow-Origin: https://a.example\r\n"));
        assert!(text.contains("\r\nVary: Origin\r\n"));
        let any = Framing {
            allow_origin: Some(cors::ANY),
            ..Framing::default()
        };
        assert!(!written(&Response::OK_TRUE, &any).contains("Vary"));
    }
}
