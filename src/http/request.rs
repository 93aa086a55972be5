//! A request head out of a buffer, borrowed from it (RFC 9112 sections 2 to 5, HTTP spec 1).
//!
//! httparse reads the grammar; this file adds what a server must decide before it may read on:
//! where the body ends, whether the connection lives, which heads two readers could read
//! differently and are therefore refused. It does not look at paths, and it does not read bodies.
//!
//! Invariant: a `Head` is given only for a head that is whole, and the length beside it is exactly
//! the head's, so that the body or the next request begins there.

use std::mem::MaybeUninit;

use super::Error;

/// Longest head in bytes, request line, fields and the empty lines around them included.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a head. Also the ceiling of `HeadLimits::headers_max`.
pub const HEADERS_MAX: usize = 64;
/// Bytes of empty lines skipped before a request line. RFC 9112 2.2 asks for at least one line;
/// clients of old send one after a POST body. More is not a request.
pub const EMPTY_LINES_BYTES_MAX: usize = 8;

/// The bounds of a head. At either bound the answer is 431.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    pub head_bytes_max: usize,
    /// At most `HEADERS_MAX`; a larger value counts as that.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: HEAD_BYTES_MAX,
            headers_max: HEADERS_MAX,
        }
    }
}

/// The request method. Methods are case-sensitive (RFC 9110 9.1): `get` is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'b> {
    Get,
    Head,
    Post,
    Options,
    Other(&'b str),
}

impl<'b> Method<'b> {
    fn parse(name: &'b str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            other => Self::Other(other),
        }
    }

    /// The method as the client wrote it; the first line of a string to sign.
    pub fn as_str(&self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Options => "OPTIONS",
            Self::Other(name) => name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    None,
    /// `Content-Length`, in bytes. A number beyond 64 bits counts as the largest of them.
    Length(u64),
    Chunked,
}

impl BodyLength {
    /// Whether the head alone already exceeds `bytes_max`. Exactly the limit is accepted.
    pub fn check(self, bytes_max: u64) -> Result<(), Error> {
        match self {
            Self::Length(length) if length > bytes_max => Err(Error::BodyTooLarge { bytes_max }),
            _ => Ok(()),
        }
    }
}

/// A request head, borrowed from the buffer that it was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct Head<'b> {
    pub method: Method<'b>,
    /// Path and query as the client wrote them; of a target in absolute form what follows its
    /// authority (which may be empty, or a query alone).
    pub target: &'b str,
    /// The path as the client wrote it: begins with `/`, or is `*`. Never empty.
    pub path: &'b str,
    /// What follows the first `?`, undecoded. Empty where there is no `?`.
    pub query: &'b str,
    pub version: Version,
    pub body: BodyLength,
    /// Whether the client wants the connection to live on after the answer. HTTP/1.0 never does.
    pub keep_alive: bool,
    /// `Expect: 100-continue`, from an HTTP/1.1 client.
    pub expect_continue: bool,
    /// A GET of HTTP/1.1 with `Upgrade: websocket` and `Connection: upgrade`, both as
    /// case-insensitive tokens of a list. Whether the handshake is a good one is for `ws` to say.
    pub websocket_upgrade: bool,
    fields: &'b [u8],
}

impl<'b> Head<'b> {
    /// Reads the head at the start of `buf`. The number is the head's length in bytes, empty lines
    /// before it and the one after it included. `None`: the end of the head has not come yet.
    ///
    /// Each call starts at the first byte. Where a head comes in pieces, use a `HeadScan`.
    pub fn parse(buf: &'b [u8], limits: &HeadLimits) -> Result<Option<(Self, usize)>, Error> {
        let window = &buf[..buf.len().min(limits.head_bytes_max)];
        let start = skip_empty_lines(window)?;
        let mut storage = [const { MaybeUninit::<httparse::Header<'b>>::uninit() }; HEADERS_MAX];
        let headers_max = limits.headers_max.min(HEADERS_MAX);
        let mut request = httparse::Request::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
            &mut request,
            &window[start..],
            &mut storage[..headers_max],
        );
        match parsed {
            Ok(httparse::Status::Complete(length)) => {
                let raw = &window[start..start + length];
                let head = Self::interpret(&request, raw)?;
                Ok(Some((head, start + length)))
            }
            Ok(httparse::Status::Partial) if buf.len() >= limits.head_bytes_max => {
                Err(Error::HeadTooLarge {
                    bytes_max: limits.head_bytes_max,
                })
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(error) => Err(refusal(error, &window[start..], headers_max)),
        }
    }

    /// Gives what httparse found in `raw`, a whole head, its meaning.
    fn interpret(request: &httparse::Request<'_, 'b>, raw: &'b [u8]) -> Result<Self, Error> {
        let method = request.method.ok_or(Error::RequestLine)?;
        let written = request.path.ok_or(Error::RequestLine)?;
        let version = match request.version {
            Some(0) => Version::Http10,
            Some(1) => Version::Http11,
            _ => return Err(Error::Version),
        };
        // httparse takes single spaces only, so the length of the request line is the sum of its
        // parts; after it comes one CR LF or LF.
        let line = method.len() + 1 + written.len() + 1 + "HTTP/1.1".len();
        let break_bytes = if raw.get(line) == Some(&b'\r') { 2 } else { 1 };
        let fields = raw.get(line + break_bytes..).ok_or(Error::RequestLine)?;

        let method = Method::parse(method);
        let target = reduce_target(written)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };

        let seen = Seen::collect(request.headers)?;
        let http11 = version == Version::Http11;
        if http11 && !seen.host {
            return Err(Error::Host);
        }
        let body = match (seen.content_length, seen.transfer_encoding) {
            (None, false) => BodyLength::None,
            (Some(length), false) => BodyLength::Length(length),
            (None, true) if http11 => BodyLength::Chunked,
            (_, true) => return Err(Error::TransferEncodingConflict),
        };
        let websocket_upgrade =
            http11 && method == Method::Get && seen.upgrade && seen.upgrade_websocket;
        Ok(Self {
            method,
            target,
            path,
            query,
            version,
            body,
            keep_alive: http11 && !seen.close,
            expect_continue: http11 && seen.expect_continue,
            websocket_upgrade,
            fields,
        })
    }

    /// The values of every field called `name` (any case), in order, without the white space
    /// around them. Values may hold bytes beyond ASCII; they hold no control character but TAB.
    ///
    /// Walks the head anew at each call: for what is asked once a connection, not once a publish.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.headers()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Every field, name and value, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        // httparse has read these lines: each has a name, a colon, and no fold.
        self.fields.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
}

/// Whether `token` is a member of the comma-separated list `value`, in any case (RFC 9110 5.6.1).
pub fn list_has(value: &[u8], token: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Finds out cheaply whether a head that comes in pieces is whole, so that a peer that sends it
/// byte by byte costs one look at each byte and two parses, not a parse for each byte.
///
/// Belongs to the bytes of one head: reset it (`Default`) when the head has been taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes known to hold no end of a head that the parser accepts. `0 <= scanned <= buf.len()`.
    scanned: usize,
}

impl HeadScan {
    /// `Head::parse`, with a memory. `buf` holds the head from its first byte; between calls it
    /// may only grow.
    pub fn parse<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &HeadLimits,
    ) -> Result<Option<(Head<'b>, usize)>, Error> {
        // The first piece is parsed whatever it is: mostly it is the whole head, and what is no
        // HTTP at all is refused at once instead of after the time-out.
        let first = self.scanned == 0;
        let ended = self.ends(buf);
        if !first && !ended && buf.len() < limits.head_bytes_max {
            return Ok(None);
        }
        Head::parse(buf, limits)
    }

    /// Looks at the bytes not yet looked at. True if a line among them is empty: then, and only
    /// then, the parser may find the end of the head. Lines end with CR LF or LF alone, in any
    /// mixture, because the parser takes them so; a scan for CR LF CR LF would hang `\n\r\n`.
    fn ends(&mut self, buf: &[u8]) -> bool {
        let from = self.scanned.min(buf.len());
        self.scanned = buf.len();
        (from..buf.len()).any(|at| {
            buf[at] == b'\n' && (buf[..at].ends_with(b"\n") || buf[..at].ends_with(b"\n\r"))
        })
    }
}

/// What the fields say that this server must know of every request.
#[derive(Default)]
struct Seen {
    host: bool,
    content_length: Option<u64>,
    transfer_encoding: bool,
    close: bool,
    upgrade: bool,
    upgrade_websocket: bool,
    expect_continue: bool,
}

impl Seen {
    fn collect(headers: &[httparse::Header<'_>]) -> Result<Self, Error> {
        let mut seen = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // The length first: most fields of a request are none of these.
            match header.name.len() {
                4 if is("Host") => {
                    if seen.host {
                        return Err(Error::Host);
                    }
                    seen.host = true;
                }
                6 if is("Expect") => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Error::Expect);
                    }
                    seen.expect_continue = true;
                }
                7 if is("Upgrade") => seen.upgrade_websocket |= list_has(header.value, "websocket"),
                10 if is("Connection") => {
                    seen.close |= list_has(header.value, "close");
                    seen.upgrade |= list_has(header.value, "upgrade");
                }
                14 if is("Content-Length") => {
                    let length = parse_length(header.value).ok_or(Error::ContentLength)?;
                    if seen.content_length.is_some_and(|other| other != length) {
                        return Err(Error::ContentLength);
                    }
                    seen.content_length = Some(length);
                }
                17 if is("Transfer-Encoding") => {
                    if seen.transfer_encoding || !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Error::TransferEncoding);
                    }
                    seen.transfer_encoding = true;
                }
                _ => {}
            }
        }
        Ok(seen)
    }
}

/// All digits or nothing. Beyond 64 bits is the largest number there is: too large, not malformed.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// The path and query of a target in origin, absolute or asterisk form (RFC 9112 3.2).
fn reduce_target(written: &str) -> Result<&str, Error> {
    if written.starts_with('/') || written == "*" {
        return Ok(written);
    }
    let (scheme, rest) = written.split_once("://").ok_or(Error::Target)?;
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    if !named || authority == 0 {
        return Err(Error::Target);
    }
    Ok(&rest[authority..])
}

/// The number of bytes of empty lines before the request line.
fn skip_empty_lines(buf: &[u8]) -> Result<usize, Error> {
    let start = buf
        .iter()
        .position(|byte| !b"\r\n".contains(byte))
        .unwrap_or(buf.len());
    if start > EMPTY_LINES_BYTES_MAX {
        return Err(Error::EmptyLines);
    }
    // A lone CR is no line: httparse, which begins after the skipped bytes, never sees it.
    let lone =
        (0..start).any(|at| buf[at] == b'\r' && buf.get(at + 1).is_some_and(|&b| b != b'\n'));
    if lone {
        Err(Error::RequestLine)
    } else {
        Ok(start)
    }
}

/// Our error for httparse's, which was met in `rest`.
fn refusal(error: httparse::Error, rest: &[u8], headers_max: usize) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::HeadersTooMany { headers_max },
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Error::HeaderField,
        httparse::Error::Version if names_http(rest) => Error::Version,
        // A bad line break may be anywhere, but after the first line it is part of a field.
        httparse::Error::NewLine if rest.contains(&b'\n') => Error::HeaderField,
        _ => Error::RequestLine,
    }
}

/// Whether the third word of the first line is an HTTP version, though not one of ours.
fn names_http(rest: &[u8]) -> bool {
    let line = rest.split(|&byte| byte == b'\n').next().unwrap_or(rest);
    let version = line.split(|&byte| byte == b' ').nth(2).unwrap_or(b"");
    version
        .strip_prefix(b"HTTP/")
        .is_some_and(|number| number.first().is_some_and(u8::is_ascii_digit))
}
