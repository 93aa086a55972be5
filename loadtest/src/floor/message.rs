//! What the floor reads of requests and messages: a few names, found by search.
//!
//! It trusts what it reads. Members are found by the bytes that well-known clients send, so that
//! nothing is parsed; what it does not find it does not serve.

use memchr::memmem;
use sha1::{Digest, Sha1};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Subscribe {
        channel: &'a [u8],
    },
    Unsubscribe {
        channel: &'a [u8],
    },
    Ping,
    /// To be passed on as it is.
    ClientEvent {
        channel: &'a [u8],
    },
    Nothing,
}

/// What a message asks for.
pub(super) fn asked(text: &[u8]) -> Asked<'_> {
    let Some(event) = string(text, b"\"event\":") else {
        return Asked::Nothing;
    };
    let channel = string(text, b"\"channel\":");
    match (event, channel) {
        (b"pusher:subscribe", Some(channel)) => Asked::Subscribe { channel },
        (b"pusher:unsubscribe", Some(channel)) => Asked::Unsubscribe { channel },
        (b"pusher:ping", _) => Asked::Ping,
        (event, Some(channel)) if event.starts_with(b"client-") => Asked::ClientEvent { channel },
        _ => Asked::Nothing,
    }
}

/// An event of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub(super) name: &'a [u8],
    pub(super) channel: &'a [u8],
    /// The characters of a JSON string, as they came.
    pub(super) data: &'a [u8],
}

/// The event of a body with one channel and a string as data.
pub(super) fn publish(body: &[u8]) -> Option<Publish<'_>> {
    Some(Publish {
        name: string(body, b"\"name\":")?,
        channel: string(body, b"\"channel\":").or_else(|| string(body, b"\"channels\":["))?,
        data: string(body, b"\"data\":")?,
    })
}

/// A request whose head and body have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

/// The request at the start of `bytes` and its length.
pub(super) fn request(bytes: &[u8]) -> Option<(Request<'_>, usize)> {
    let head_bytes = crate::http::head_end(bytes)?;
    let head = &bytes[..head_bytes];
    let body_bytes = match head.starts_with(b"POST") {
        true => crate::http::field(head, b"content-length").map_or(0, number),
        false => 0,
    };
    let body = bytes.get(head_bytes..head_bytes.checked_add(body_bytes)?)?;
    Some((Request { head, body }, head_bytes + body_bytes))
}

fn number(digits: &[u8]) -> usize {
    let text = std::str::from_utf8(digits).unwrap_or("");
    text.trim().parse().unwrap_or(0)
}

/// The answer to the key of a handshake (RFC 6455, section 4.2.2).
pub(super) fn accept(key: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = hash.finalize();
    let mut out = String::with_capacity(28);
    for group in digest.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            let is_filler = at > group.len();
            let digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if is_filler { '=' } else { char::from(digit) });
        }
    }
    out
}

/// The string behind the first `name`: `"channel":"news"` for `"channel":`.
fn string<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = &text[memmem::find(text, name)? + name.len()..];
    let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &rest[at..])?;
        match rest[at] {
            b'"' => return Some(&rest[..at]),
            _ => at += 2,
        }
        if at > rest.len() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_clients_are_known_by_their_event() {
        let channel: &[u8] = b"news";
        for (text, expected) in [
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#,
                Asked::Subscribe { channel },
            ),
            (
                r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
                Asked::Unsubscribe { channel },
            ),
            (r#"{"event": "pusher:ping"}"#, Asked::Ping),
            (
                r#"{"event":"client-a","channel":"news","data":{}}"#,
                Asked::ClientEvent { channel },
            ),
            (r#"{"event":"pusher:subscribe","data":{}}"#, Asked::Nothing),
            (r#"{"event":"x\"#, Asked::Nothing),
            (r#"{"event":"#, Asked::Nothing),
            ("", Asked::Nothing),
        ] {
            assert_eq!(asked(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_publish_keeps_its_data_as_it_came() {
        let body = br#"{"name":"n","channels":["c"],"data":"{\"a\":\"b\\\"}"}"#;
        let read = publish(body).unwrap();
        assert_eq!((read.name, read.channel), (&b"n"[..], &b"c"[..]));
        assert_eq!(read.data, br#"{\"a\":\"b\\\"}"#);
        assert_eq!(publish(br#"{"name":"n","channel":"c","data":1}"#), None);
    }

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let bytes = b"POST /apps/1/events HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET";
        let end = bytes.len() - 3;
        for split in 0..end {
            assert_eq!(request(&bytes[..split]), None, "cut at {split}");
        }
        let (read, used) = request(bytes).unwrap();
        assert_eq!((read.body, used), (&b"{}"[..], end));
    }

    #[test]
    fn the_example_of_rfc_6455_1_3_is_accepted() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
