//! HTTP/1.1 as functions over bytes (RFC 9112, HTTP spec 1).
//!
//! A head and the framing of a body come out of a buffer that the caller fills, a response goes
//! into a buffer that the caller sends. Nothing here reads a socket, a clock or an app, and nothing
//! here knows a path: those are `net` and `api`. "More bytes are needed" is `Ok(None)`; an `Error`
//! is final for the connection, because after it nobody knows where the next request begins.

use std::fmt;

pub mod body;
pub mod request;
pub mod response;

pub use body::BodyDecoder;
pub use request::{BodyLength, Head, HeadLimits, HeadScan, Method, Version};
pub use response::Status;

/// Why a request cannot be read on. The answer is `status()`; then the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The bytes are no request line.
    RequestLine,
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
