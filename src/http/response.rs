//! A response into a buffer (RFC 9112 sections 4 and 6, HTTP spec 1).
//!
//! Status line, fields and body are appended to what the connection has yet to send, in one pass.
//! This file does not decide what to answer, and it has no `Date`: it has no clock, and no client
//! of this API reads one.
//!
//! Invariant: every response that may have a body says its exact `Content-Length`, also to HEAD.

use std::fmt::{self, Write as _};

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The answer to a publish over a connection that lives on, in pieces that stand before, between and
/// after the three numbers of the rate fields. It is what `Writer` makes of the same parts, ready to
/// be copied; a test compares the two.
const OK_TRUE_PIECES: [&[u8]; 4] = [
    b"HTTP/1.1 200 OK\r\nX-RateLimit-Limit: ",
    b"\r\nX-RateLimit-Remaining: ",
    b"\r\nX-RateLimit-Reset: ",
    b"\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}",
];

/// The body of that answer.
pub const OK_TRUE: &str = r#"{"ok":true}"#;

/// The statuses that this server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    Ok = 200,
    NoContent = 204,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    Conflict = 409,
    PayloadTooLarge = 413,
    ExpectationFailed = 417,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    HeadTooLarge = 431,
    InternalError = 500,
    NotImplemented = 501,
    Unavailable = 503,
    VersionNotSupported = 505,
}

impl Status {
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The status line, line break included.
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "HTTP/1.1 200 OK\r\n",
            Self::NoContent => "HTTP/1.1 204 No Content\r\n",
            Self::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Self::Unauthorized => "HTTP/1.1 401 Unauthorized\r\n",
            Self::Forbidden => "HTTP/1.1 403 Forbidden\r\n",
            Self::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Self::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Self::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Self::Conflict => "HTTP/1.1 409 Conflict\r\n",
            Self::PayloadTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Self::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Self::UpgradeRequired => "HTTP/1.1 426 Upgrade Required\r\n",
            Self::TooManyRequests => "HTTP/1.1 429 Too Many Requests\r\n",
            Self::HeadTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Self::InternalError => "HTTP/1.1 500 Internal Server Error\r\n",
            Self::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Self::Unavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Self::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

/// A body and its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// No body and no `Content-Length`: 204 only.
    None,
    Json(&'a [u8]),
    Text(&'a str),
}

/// One response being appended to a buffer: `begin`, any fields, `finish`.
#[derive(Debug)]
#[must_use = "a response without its end is half a response"]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    pub fn begin(out: &'o mut Vec<u8>, status: Status) -> Self {
        out.extend_from_slice(status.line().as_bytes());
        Self { out }
    }

    /// One field. The value must come from this server: a line break in it is our own bug.
    pub fn field(self, name: &str, value: &str) -> Self {
        debug_assert!(!value.bytes().any(|byte| byte.is_ascii_control()));
        for part in [name, ": ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }

    /// One field whose value is a number.
    pub fn number(self, name: &str, value: u64) -> Self {
        for part in [name, ": "] {
            self.out.extend_from_slice(part.as_bytes());
        }
        write_decimal(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Says that the connection ends after this response.
    pub fn close(self) -> Self {
        self.field("Connection", "close")
    }

    /// The fields of the body, the end of the head and the body. The answer to HEAD has the first
    /// two only.
    pub fn finish(mut self, content: Content<'_>, head_only: bool) {
        let (media_type, body) = match content {
            Content::None => {
                self.out.extend_from_slice(b"\r\n");
                return;
            }
            Content::Json(body) => ("application/json", body),
            Content::Text(text) => ("text/plain; charset=utf-8", text.as_bytes()),
        };
        self = self
            .field("Content-Type", media_type)
            .number("Content-Length", body.len() as u64);
        self.out.extend_from_slice(b"\r\n");
        if !head_only {
            self.out.extend_from_slice(body);
        }
    }
}

/// Appends that answer, with the numbers of `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
pub fn write_ok_true(out: &mut Vec<u8>, rate: [u64; 3]) {
    let [begin, between @ ..] = OK_TRUE_PIECES;
    out.extend_from_slice(begin);
    for (number, piece) in rate.into_iter().zip(between) {
        write_decimal(out, number);
        out.extend_from_slice(piece);
    }
}

/// The error object `{"error":..,"code":..,"status":..}` (HTTP spec 1.2), appended to `out`.
pub fn write_error_object(
    out: &mut Vec<u8>,
    text: impl fmt::Display,
    slug: &'static str,
    status: Status,
) {
    out.extend_from_slice(b"{\"error\":\"");
    // Writing into memory does not fail; a `Display` that gives up leaves a shorter text.
    let _ = write!(JsonText { out }, "{text}");
    out.extend_from_slice(b"\",\"code\":\"");
    out.extend_from_slice(slug.as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    write_decimal(out, u64::from(status.code()));
    out.push(b'}');
}

/// Escapes what is written through it as the inside of a JSON string (RFC 8259 7). For short texts:
/// it looks at one byte at a time.
struct JsonText<'o> {
    out: &'o mut Vec<u8>,
}

impl fmt::Write for JsonText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for &byte in text.as_bytes() {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                0..=0x1f => {
                    let high = HEX[usize::from(byte >> 4)];
                    let low = HEX[usize::from(byte & 15)];
                    self.out
                        .extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                }
                _ => self.out.push(byte),
            }
        }
        Ok(())
    }
}

fn write_decimal(out: &mut Vec<u8>, mut value: u64) {
    // 20 digits hold every u64.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 18] = [
        Status::Ok,
        Status::NoContent,
        Status::BadRequest,
        Status::Unauthorized,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::Conflict,
        Status::PayloadTooLarge,
        Status::ExpectationFailed,
        Status::UpgradeRequired,
        Status::TooManyRequests,
        Status::HeadTooLarge,
        Status::InternalError,
        Status::NotImplemented,
        Status::Unavailable,
        Status::VersionNotSupported,
    ];

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("our responses are text")
    }

    #[test]
    fn every_status_line_begins_with_its_code_and_is_read_by_a_client() {
        for status in STATUSES {
            let text = written(|out| Writer::begin(out, status).finish(Content::Text("x"), false));
            let mut storage = [httparse::EMPTY_HEADER; 4];
            let mut response = httparse::Response::new(&mut storage);
            let parsed = response.parse(text.as_bytes());
            assert!(parsed.is_ok_and(|parsed| parsed.is_complete()), "{text:?}");
            assert_eq!(response.code, Some(status.code()));
            assert!(response.reason.is_some_and(|reason| !reason.is_empty()));
        }
    }

    #[test]
    fn the_copied_answer_is_what_the_writer_writes() {
        for rate in [
            [1, 0, 60],
            [1_000_000_000, 999_999_999, 1],
            [u64::MAX, u64::MAX, 0],
        ] {
            let slow = written(|out| {
                Writer::begin(out, Status::Ok)
                    .number("X-RateLimit-Limit", rate[0])
                    .number("X-RateLimit-Remaining", rate[1])
                    .number("X-RateLimit-Reset", rate[2])
                    .finish(Content::Json(OK_TRUE.as_bytes()), false);
            });
            assert_eq!(written(|out| write_ok_true(out, rate)), slow);
        }
    }

    #[test]
    fn the_length_is_that_of_the_bytes_also_for_head() {
        let caf = Content::Text("caf\u{e9}");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Length: 5\r\n\r\n";
        let answer =
            |head_only| written(|out| Writer::begin(out, Status::Ok).finish(caf, head_only));
        assert_eq!(answer(true), head);
        assert_eq!(answer(false), format!("{head}caf\u{e9}"));
    }

    #[test]
    fn fields_stand_in_their_order_and_204_has_no_length() {
        let text = written(|out| {
            Writer::begin(out, Status::NoContent)
                .close()
                .field("Allow", "POST")
                .number("X", u64::MAX)
                .number("Y", 0)
                .finish(Content::None, false);
        });
        assert_eq!(
            text,
            "HTTP/1.1 204 No Content\r\nConnection: close\r\nAllow: POST\r\n\
             X: 18446744073709551615\r\nY: 0\r\n\r\n"
        );
    }

    #[test]
    fn the_error_object_is_json_whatever_the_text() {
        let texts = [
            "plain",
            "\"quoted\" \\ back",
            "\0\x01\x1f\x7f \r\n\t",
            "\u{2603}\u{1f600}",
            "",
        ];
        for text in texts {
            let object = written(|out| {
                write_error_object(out, text, "invalid_input", Status::BadRequest);
            });
            let read: serde_json::Value = serde_json::from_str(&object).expect("JSON");
            let expected =
                serde_json::json!({"error": text, "code": "invalid_input", "status": 400});
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn the_error_object_has_its_members_in_the_order_of_the_specification() {
        let object = written(|out| {
            write_error_object(
                out,
                "Invalid signature: ...",
                "auth_failed",
                Status::Unauthorized,
            );
        });
        let expected = r#"{"error":"Invalid signature: ...","code":"auth_failed","status":401}"#;
        assert_eq!(object, expected);
    }
}
