//! HTTP/1.1 as functions over bytes (RFC 9112, HTTP spec 1).
//!
//! A head and the framing of a body come out of a buffer that the caller fills, a response goes
//! into a buffer that the caller sends. Nothing here reads a socket, a clock or an app, and nothing
//! here knows a path: those are `net` and `api`. "More bytes are needed" is `Ok(None)`; an `Error`
//! is final for the connection, because after it nobody knows where the next request begins.

use std::fmt;

pub mod body;
pub mod fields;
pub mod request;
pub mod response;
pub mod scan;

pub use body::BodyDecoder;
pub use fields::{BodyLength, list_has};
pub use request::{Head, HeadLimits, Method, Version};
pub use response::Status;
pub use scan::HeadScan;

/// Why a request cannot be read on. The answer is `status()`; then the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The bytes are no request line.
    RequestLine,
    /// The version, or a CR, with something else than the end of the line behind it.
    LineEnd,
    /// The target is neither a path nor an absolute URL nor `*`.
    Target,
    /// More empty lines before a request than the few that RFC 9112 2.2 forgives.
    EmptyLines,
    /// A header field with white space before its colon, a folded line, or a control character.
    HeaderField,
    /// HTTP/1.1 without `Host`, or with two.
    Host,
    /// A `Content-Length` that is not all digits, or two that differ.
    ContentLength,
    /// `Transfer-Encoding` together with `Content-Length`, or in HTTP/1.0: two readers could
    /// disagree about where the body ends.
    TransferEncodingConflict,
    /// `Transfer-Encoding` other than `chunked`.
    TransferEncoding,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// An `Expect` other than `100-continue`.
    Expect,
    /// The head is longer than the limit, whether or not its end has come.
    HeadTooLarge { bytes_max: usize },
    /// The head has more header fields than the limit.
    HeadersTooMany { headers_max: usize },
    /// The body is, or announces to be, longer than the limit that applies.
    BodyTooLarge { bytes_max: u64 },
    /// A chunk size that is no hexadecimal number, or a line of the framing that does not end so.
    ChunkSize,
    /// A chunk that is not followed by CR LF.
    ChunkEnd,
    /// Chunk extensions and trailers over their limit together.
    ChunkExtras { bytes_max: usize },
    /// A request that was begun and not finished in time. Never made by this module, which has no
    /// clock; it is here so that every answer given before a route is known has one table.
    Timeout,
}

impl Error {
    /// The status of the answer (HTTP spec 1.2).
    pub fn status(self) -> Status {
        match self {
            Self::RequestLine
            | Self::LineEnd
            | Self::Target
            | Self::EmptyLines
            | Self::HeaderField
            | Self::Host
            | Self::ContentLength
            | Self::TransferEncodingConflict
            | Self::ChunkSize
            | Self::ChunkEnd
            | Self::ChunkExtras { .. } => Status::BadRequest,
            Self::Timeout => Status::RequestTimeout,
            Self::BodyTooLarge { .. } => Status::PayloadTooLarge,
            Self::Expect => Status::ExpectationFailed,
            Self::HeadTooLarge { .. } | Self::HeadersTooMany { .. } => Status::HeadTooLarge,
            Self::TransferEncoding => Status::NotImplemented,
            Self::Version => Status::VersionNotSupported,
        }
    }

    /// The `code` of the error object (HTTP spec 1.2).
    pub fn slug(self) -> &'static str {
        match self.status() {
            Status::RequestTimeout => "request_timeout",
            Status::PayloadTooLarge => "payload_too_large",
            Status::HeadTooLarge => "head_too_large",
            Status::ExpectationFailed | Status::NotImplemented | Status::VersionNotSupported => {
                "unsupported"
            }
            _ => "invalid_input",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RequestLine => f.write_str("Invalid request: the request line is malformed."),
            Self::LineEnd => f.write_str("Invalid request: a line of the head does not end."),
            Self::Target => f.write_str("Invalid request: the request target must be a path."),
            Self::EmptyLines => f.write_str("Invalid request: empty lines instead of a request."),
            Self::HeaderField => f.write_str("Invalid request: a header field is malformed."),
            Self::Host => f.write_str("Invalid request: exactly one 'Host' header is required."),
            Self::ContentLength => {
                f.write_str("Invalid request: 'Content-Length' must be one decimal number.")
            }
            Self::TransferEncodingConflict => f.write_str(
                "Invalid request: 'Transfer-Encoding' cannot be combined with 'Content-Length' \
                 or HTTP/1.0.",
            ),
            Self::TransferEncoding => {
                f.write_str("Unsupported 'Transfer-Encoding': only 'chunked' is known.")
            }
            Self::Version => {
                f.write_str("Unsupported HTTP version: only HTTP/1.1 and HTTP/1.0 are known.")
            }
            Self::Expect => f.write_str("Unsupported 'Expect': only '100-continue' is known."),
            Self::HeadTooLarge { bytes_max } => {
                write!(
                    f,
                    "Request head too large. Maximum size is {bytes_max} bytes."
                )
            }
            Self::HeadersTooMany { headers_max } => {
                write!(f, "Too many header fields. Maximum is {headers_max}.")
            }
            Self::BodyTooLarge { bytes_max } => {
                write!(
                    f,
                    "Payload too large. Maximum size is {}.",
                    ByteSize(bytes_max)
                )
            }
            Self::ChunkSize => f.write_str("Invalid request: a chunk size is malformed."),
            Self::ChunkEnd => f.write_str("Invalid request: a chunk does not end where it must."),
            Self::ChunkExtras { bytes_max } => write!(
                f,
                "Invalid request: more than {bytes_max} bytes of chunk extensions and trailers."
            ),
            Self::Timeout => f.write_str("The request was not finished in time."),
        }
    }
}

impl std::error::Error for Error {}

/// A limit as the documented texts print it: `100KB`, `10MB`, else plain bytes.
#[derive(Debug, Clone, Copy)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KB: u64 = 1024;
        const MB: u64 = 1024 * KB;
        match self.0 {
            n if n >= MB && n % MB == 0 => write!(f, "{}MB", n / MB),
            n if n >= KB && n % KB == 0 => write!(f, "{}KB", n / KB),
            n => write!(f, "{n} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_status_and_code() {
        let table = [
            (Error::RequestLine, 400, "invalid_input"),
            (Error::LineEnd, 400, "invalid_input"),
            (Error::Target, 400, "invalid_input"),
            (Error::EmptyLines, 400, "invalid_input"),
            (Error::HeaderField, 400, "invalid_input"),
            (Error::Host, 400, "invalid_input"),
            (Error::ContentLength, 400, "invalid_input"),
            (Error::TransferEncodingConflict, 400, "invalid_input"),
            (Error::ChunkSize, 400, "invalid_input"),
            (Error::ChunkEnd, 400, "invalid_input"),
            (Error::ChunkExtras { bytes_max: 1 }, 400, "invalid_input"),
            (Error::Timeout, 408, "request_timeout"),
            (
                Error::BodyTooLarge { bytes_max: 1 },
                413,
                "payload_too_large",
            ),
            (Error::Expect, 417, "unsupported"),
            (Error::HeadTooLarge { bytes_max: 1 }, 431, "head_too_large"),
            (
                Error::HeadersTooMany { headers_max: 1 },
                431,
                "head_too_large",
            ),
            (Error::TransferEncoding, 501, "unsupported"),
            (Error::Version, 505, "unsupported"),
        ];
        for (error, status, slug) in table {
            assert_eq!(
                (error.status().code(), error.slug()),
                (status, slug),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_text_names_its_limit() {
        let table = [
            (
                Error::BodyTooLarge {
                    bytes_max: 100 * 1024,
                },
                "Payload too large. Maximum size is 100KB.",
            ),
            (
                Error::BodyTooLarge {
                    bytes_max: 10 << 20,
                },
                "Payload too large. Maximum size is 10MB.",
            ),
            (
                Error::BodyTooLarge { bytes_max: 1025 },
                "Payload too large. Maximum size is 1025 bytes.",
            ),
            (
                Error::HeadTooLarge { bytes_max: 16_384 },
                "Request head too large. Maximum size is 16384 bytes.",
            ),
            (
                Error::HeadersTooMany { headers_max: 64 },
                "Too many header fields. Maximum is 64.",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }

    /// A connection in small: what a buffer of pipelined requests says, read as it grows.
    fn converse(wire: &[u8], cuts: impl IntoIterator<Item = usize>) -> Vec<(String, String)> {
        let mut requests = Vec::new();
        let mut scan = HeadScan::default();
        let mut body: Option<(String, BodyDecoder, Vec<u8>)> = None;
        let mut at = 0;
        for cut in cuts.into_iter().chain([wire.len()]) {
            loop {
                if let Some((target, mut decoder, mut decoded)) = body.take() {
                    let (taken, done) = decoder
                        .decode(&wire[at..cut], &mut decoded)
                        .expect("a lawful body");
                    at += taken;
                    if !done {
                        body = Some((target, decoder, decoded));
                        break;
                    }
                    requests.push((target, String::from_utf8(decoded).expect("text")));
                }
                let limits = HeadLimits::default();
                let parsed = scan.parse(&wire[at..cut], &limits).expect("a lawful head");
                let Some((head, length)) = parsed else { break };
                at += length;
                let decoder = BodyDecoder::new(head.body, 100).expect("a small body");
                body = Some((head.target.to_owned(), decoder, Vec::new()));
            }
        }
        assert_eq!(at, wire.len());
        requests
    }

    #[test]
    fn pipelined_requests_are_the_same_at_every_pair_of_cuts() {
        let wire = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /2?x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n\
            \r\nPOST /3 HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\r\n\
            2;x\r\n{}\r\n0\r\nT: u\r\n\r\n\
            POST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        let owned = |target: &str, body: &str| (target.to_owned(), body.to_owned());
        let expected = [
            owned("/1", ""),
            owned("/2?x", "\r\n\r\n"),
            owned("/3", "{}"),
            owned("/4", ""),
        ];
        assert_eq!(converse(wire, 0..wire.len()), expected);
        for first in 0..=wire.len() {
            for second in first..=wire.len() {
                assert_eq!(
                    converse(wire, [first, second]),
                    expected,
                    "cut {first} {second}"
                );
            }
        }
    }
}
