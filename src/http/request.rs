//! A request head out of a buffer, borrowed from it (RFC 9112 sections 2 to 5, HTTP spec 1).
//!
//! httparse reads the grammar; this file bounds it, takes the target apart and refuses what the
//! grammar allows and a server must not. What the fields mean is in `fields`. It does not look at
//! paths, and it does not read bodies.
//!
//! Invariant: a `Head` is given only for a head that is whole, and the length beside it is exactly
//! the head's, so that the body or the next request begins there.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::fields::Known;
use super::{BodyLength, Error};

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
    /// There is an `Authorization`: for most requests `header` need not look for it.
    pub has_authorization: bool,
    /// There is an `X-Idempotency-Key`, likewise.
    pub has_idempotency_key: bool,
    /// A GET of HTTP/1.1 with `Upgrade: websocket` and `Connection: upgrade`, both as
    /// case-insensitive tokens of a list. Whether the handshake is a good one is for `ws` to say.
    pub websocket_upgrade: bool,
    fields: &'b [u8],
}

impl<'b> Head<'b> {
    /// Reads the head at the start of `buf`. The number is the head's length in bytes, empty lines
    /// before it and the one after it included. `None`: the end of the head has not come yet.
    ///
    /// Each call begins with the first byte: where a head comes in pieces, use a `HeadScan`.
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
        let (path, query) = match memchr(b'?', target.as_bytes()) {
            Some(bytes) => (&target[..bytes], &target[bytes + 1..]),
            None => (target, ""),
        };
        let path = if path.is_empty() { "/" } else { path };

        let known = Known::collect(request.headers, version)?;
        let http11 = version == Version::Http11;
        Ok(Self {
            method,
            target,
            path,
            query,
            version,
            body: known.body,
            keep_alive: http11 && !known.close,
            expect_continue: http11 && known.expect_continue,
            has_authorization: known.authorization,
            has_idempotency_key: known.idempotency_key,
            websocket_upgrade: http11 && method == Method::Get && known.websocket,
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
        let mut rest = self.fields;
        // httparse has read these lines: each has a name, a colon, and no fold. The one that ends
        // the head has none of these.
        std::iter::from_fn(move || {
            let (line, behind) = rest.split_at_checked(memchr(b'\n', rest)? + 1)?;
            rest = behind;
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
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
        httparse::Error::NewLine => Error::LineEnd,
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

/// No input panics, and our walk over the fields finds what httparse found.
#[cfg(test)]
pub fn fuzz_head(data: &[u8]) {
    let Ok(Some((head, length))) = Head::parse(data, &HeadLimits::default()) else {
        return;
    };
    assert!(length <= data.len() && data[..length].ends_with(b"\n"));
    assert!(head.path.starts_with('/') || head.path == "*");
    let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut slow = httparse::Request::new(&mut storage);
    assert_eq!(
        slow.parse(&data[..length])
            .map(|parsed| parsed.is_complete()),
        Ok(true)
    );
    let expected = slow
        .headers
        .iter()
        .map(|field| (field.name.as_bytes(), field.value));
    assert!(head.headers().eq(expected));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Status;
    use crate::seed::Seed;

    fn parse(text: &str) -> Result<Option<(Head<'_>, usize)>, Error> {
        Head::parse(text.as_bytes(), &HeadLimits::default())
    }

    fn whole(text: &str) -> Head<'_> {
        let (head, length) = parse(text).expect("a lawful head").expect("a whole head");
        assert_eq!(length, text.len());
        head
    }

    #[test]
    fn a_signed_publish_is_taken_apart() {
        let head = whole(
            "POST /apps/3/events?auth_key=k&body_md5=%2F&auth_version=1.0 HTTP/1.1\r\n\
             host: 127.0.0.1:6001\r\n\
             Content-Type:application/json \r\n\
             content-LENGTH: \t68 \t\r\n\
             Authorization: k:s\r\n\
             X-Forwarded-Proto:\r\n\
             x-forwarded-proto: https\r\n\r\n",
        );
        assert_eq!(head.method, Method::Post);
        assert_eq!(
            head.target,
            "/apps/3/events?auth_key=k&body_md5=%2F&auth_version=1.0"
        );
        assert_eq!(head.path, "/apps/3/events");
        assert_eq!(head.query, "auth_key=k&body_md5=%2F&auth_version=1.0");
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.body, BodyLength::Length(68));
        assert!(head.keep_alive && !head.expect_continue && !head.websocket_upgrade);
        let values = |name| head.header(name).collect::<Vec<_>>();
        assert_eq!(values("AUTHORIZATION"), [b"k:s"]);
        assert_eq!(values("Content-Type"), [b"application/json"]);
        assert_eq!(values("X-Forwarded-Proto"), [&b""[..], b"https"]);
        assert!(values("Origin").is_empty());
        assert_eq!(head.headers().count(), 6);
    }

    #[test]
    fn a_websocket_upgrade_is_a_get_of_http_1_1() {
        let fields = "Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n";
        for (line, expected) in [
            ("GET /app/k HTTP/1.1\r\n", true),
            ("HEAD /app/k HTTP/1.1\r\n", false),
            ("POST /app/k HTTP/1.1\r\n", false),
            ("GET /app/k HTTP/1.0\r\n", false),
        ] {
            let text = format!("{line}{fields}");
            assert_eq!(whole(&text).websocket_upgrade, expected, "{line}");
        }
    }

    #[test]
    fn a_target_is_its_path_and_query_in_every_form() {
        let table = [
            ("/", "/", "/", ""),
            ("/up?", "/up?", "/up", ""),
            ("/a//b/?x=1?y", "/a//b/?x=1?y", "/a//b/", "x=1?y"),
            ("/a?u=http://h/p", "/a?u=http://h/p", "/a", "u=http://h/p"),
            ("//host/up", "//host/up", "//host/up", ""),
            ("http://host/apps/3?x=1", "/apps/3?x=1", "/apps/3", "x=1"),
            ("HTTPS://host:443/up", "/up", "/up", ""),
            ("http://host", "", "/", ""),
            ("http://host?x=/", "?x=/", "/", "x=/"),
            ("ws://[::1]:80/app/k", "/app/k", "/app/k", ""),
            ("*", "*", "*", ""),
            ("/caf\u{e9}", "/caf\u{e9}", "/caf\u{e9}", ""),
        ];
        for (written, target, path, query) in table {
            let text = format!("GET {written} HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = whole(&text);
            assert_eq!(
                (head.target, head.path, head.query),
                (target, path, query),
                "{written}"
            );
        }
    }

    #[test]
    fn methods_keep_their_case_and_their_name() {
        for name in ["GET", "HEAD", "POST", "OPTIONS", "PATCH", "get", "M-SEARCH"] {
            let text = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(whole(&text).method.as_str(), name);
        }
        assert_eq!(whole("get / HTTP/1.0\r\n\r\n").method, Method::Other("get"));
    }

    #[test]
    fn http_1_0_never_lives_on_and_expects_nothing() {
        let head =
            whole("GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n");
        assert!(!head.keep_alive && !head.expect_continue);
        assert!(whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").keep_alive);
    }

    #[test]
    fn empty_lines_before_a_request_are_skipped_and_bounded() {
        for before in ["\r\n", "\n", "\r\n\n\r\n", "\r\n\r\n\r\n\r\n"] {
            let text = format!("{before}GET /up HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(whole(&text).path, "/up");
        }
        assert_eq!(parse("\r\n\r\n\r\n\r\n\n").err(), Some(Error::EmptyLines));
        assert_eq!(
            parse("\rGET / HTTP/1.1\r\n").err(),
            Some(Error::RequestLine)
        );
        assert!(parse("\r\n\r").is_ok_and(|head| head.is_none()));
    }

    /// Heads that are refused, without their last empty line, and why.
    const REFUSED: [(&str, Error); 25] = [
        ("GET / HTTP/1.1\r\nX: y\r\n", Error::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", Error::Host),
        ("GET / HTTP/1.1\r\nHost : a\r\n", Error::HeaderField),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n", Error::HeaderField),
        ("GET / HTTP/1.1\r\n Host: a\r\n", Error::HeaderField),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n",
            Error::HeaderField,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n",
            Error::HeaderField,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n",
            Error::HeaderField,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n",
            Error::HeaderField,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n",
            Error::HeaderField,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: a\r\n",
            Error::HeaderField,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n",
            Error::HeaderField,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n", Error::HeaderField),
        ("GET / HTTP/2.0\r\nHost: a\r\n", Error::Version),
        ("GET / HTTP/1.2\r\nHost: a\r\n", Error::Version),
        ("PRI * HTTP/2.0\r\n", Error::Version),
        ("GET / HTTX/1.1\r\nHost: a\r\n", Error::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n", Error::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n", Error::LineEnd),
        ("GET  / HTTP/1.1\r\nHost: a\r\n", Error::RequestLine),
        ("GET /\r\n", Error::RequestLine),
        ("G\"T / HTTP/1.1\r\nHost: a\r\n", Error::RequestLine),
        ("GET /a\x01 HTTP/1.1\r\nHost: a\r\n", Error::RequestLine),
        ("GET up HTTP/1.1\r\nHost: a\r\n", Error::Target),
        ("CONNECT host:443 HTTP/1.1\r\nHost: a\r\n", Error::Target),
    ];

    #[test]
    fn malformed_heads_are_refused_and_no_prefix_of_them_is_accepted() {
        for (text, expected) in REFUSED {
            let text = format!("{text}\r\n");
            assert_eq!(parse(&text).err(), Some(expected), "{text:?}");
            for end in 0..text.len() {
                let Some(prefix) = text.get(..end) else {
                    continue;
                };
                let early = parse(prefix);
                assert!(!matches!(early, Ok(Some(_))), "{prefix:?}");
            }
        }
    }

    #[test]
    fn a_path_that_is_no_utf_8_is_refused() {
        let head = b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n";
        let refused = Head::parse(head, &HeadLimits::default()).err();
        assert_eq!(refused, Some(Error::RequestLine));
        let value = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n";
        let (head, _) = Head::parse(value, &HeadLimits::default())
            .expect("a lawful head")
            .expect("a whole head");
        assert_eq!(head.header("x").next(), Some(&b"\xff"[..]));
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_read() {
        let fixed = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let long = |length: usize| {
            let filler = "x".repeat(length - fixed);
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {filler}\r\n\r\n")
        };
        let exact = long(HEAD_BYTES_MAX);
        assert_eq!(whole(&exact).headers().count(), 2);
        let with_body = format!("{exact}{}", "y".repeat(HEAD_BYTES_MAX));
        assert!(matches!(parse(&with_body), Ok(Some((_, HEAD_BYTES_MAX)))));
        assert!(matches!(parse(&exact[..HEAD_BYTES_MAX - 1]), Ok(None)));

        let too_large = Some(Error::HeadTooLarge {
            bytes_max: HEAD_BYTES_MAX,
        });
        let over = long(HEAD_BYTES_MAX + 1);
        assert_eq!(parse(&over).err(), too_large);
        assert_eq!(parse(&over[..HEAD_BYTES_MAX]).err(), too_large);
        assert_eq!(
            Error::HeadTooLarge { bytes_max: 1 }.status(),
            Status::HeadTooLarge
        );
    }

    #[test]
    fn the_65th_header_field_is_one_too_many() {
        let with = |count: usize| {
            let fields = "X: y\r\n".repeat(count - 1);
            format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
        };
        let most = with(HEADERS_MAX);
        assert_eq!(whole(&most).headers().count(), HEADERS_MAX);
        let too_many = Some(Error::HeadersTooMany {
            headers_max: HEADERS_MAX,
        });
        assert_eq!(parse(&with(HEADERS_MAX + 1)).err(), too_many);
        let few = HeadLimits {
            headers_max: 2,
            ..HeadLimits::default()
        };
        let refused = Head::parse(with(3).as_bytes(), &few).err();
        assert_eq!(refused, Some(Error::HeadersTooMany { headers_max: 2 }));
    }

    #[test]
    fn mutated_heads_never_panic_and_keep_their_fields() {
        let base = b"POST http://h/apps/3/events?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 7\n\
            Connection:  close \r\nX-Empty:\r\nExpect: 100-continue\r\n\r\n{\"a\":1}";
        let mut seed = Seed::new(2);
        for _ in 0..20_000 {
            let mut head = base.to_vec();
            seed.mutate(&mut head, b"\r\n :;,/?*0aX\t\0\x7f\xc3\xa9");
            fuzz_head(&head);
        }
    }
}
