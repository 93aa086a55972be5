//! The opening handshake (RFC 6455 section 4.2) over header fields that somebody else has parsed.
//!
//! Method, target and HTTP version are for the caller: only a GET of HTTP/1.1 may be an upgrade.
//! No subprotocol and no extension is ever selected (WebSocket spec 1.1).

use sha1::{Digest, Sha1};

/// The only version there is, as `Sec-WebSocket-Version` of a 426 says it.
pub const VERSION: &str = "13";

/// What a request's header fields ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// An ordinary HTTP request.
    NotUpgrade,
    /// An upgrade to another version than [`VERSION`], or to none: 426.
    OtherVersion,
    /// An upgrade whose `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64: 400.
    BadKey,
    /// An upgrade to be accepted; [`encode_response`] does.
    Accept(AcceptKey),
}

impl Handshake {
    /// Judges the header fields of a request, in any order. Names are matched in any case; lists
    /// may be spread over several fields. A wrong version is found before a bad key, since
    /// another version may have other keys.
    pub fn parse<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut has_upgrade = false;
        let mut has_connection = false;
        let mut versions = Once::Absent;
        let mut keys = Once::Absent;
        for (name, value) in fields {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            // The length first: most fields of a request are none of these.
            match name.len() {
                7 if is("Upgrade") => has_upgrade |= has_token(value, "websocket"),
                10 if is("Connection") => has_connection |= has_token(value, "upgrade"),
                17 if is("Sec-WebSocket-Key") => keys.push(value.trim_ascii()),
                21 if is("Sec-WebSocket-Version") => versions.push(value.trim_ascii()),
                _ => {}
            }
        }
        if !has_upgrade || !has_connection {
            return Self::NotUpgrade;
        }
        if versions.value() != Some(VERSION.as_bytes()) {
            return Self::OtherVersion;
        }
        match keys.value() {
            Some(key) if is_key(key) => Self::Accept(AcceptKey::of(key)),
            _ => Self::BadKey,
        }
    }
}

/// The value of `Sec-WebSocket-Accept`: 20 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKey([u8; ACCEPT_BYTES]);

impl AcceptKey {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(key: &[u8]) -> Self {
        let mut sha1 = Sha1::new();
        sha1.update(key);
        sha1.update(GUID);
        Self(base64(&sha1.finalize().into()))
    }
}

/// Appends the response that ends HTTP on the connection: status 101 and its fields.
pub fn encode_response(accept: AcceptKey, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// A field that must not be repeated (RFC 6455 section 11.3).
enum Once<'a> {
    Absent,
    Value(&'a [u8]),
    Repeated,
}

impl<'a> Once<'a> {
    fn push(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Value(value),
            Self::Value(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn value(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }
}

/// Whether a comma-separated list holds a token, in any case.
fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether a value has the form of 16 bytes in base64. The 4 bits that are left over in its last
/// digit are not looked at: decoders ignore them, and the key is hashed as text.
fn is_key(value: &[u8]) -> bool {
    let Some(digits) = value.strip_suffix(b"==") else {
        return false;
    };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/');
    digits.len() == 22 && digits.iter().all(is_digit)
}

/// Base64 of a SHA-1 digest: six groups of 3 bytes, and one of 2 with its padding.
fn base64(digest: &[u8; 20]) -> [u8; ACCEPT_BYTES] {
    let mut out = [b'='; ACCEPT_BYTES];
    for (group, digits) in digest.chunks(3).zip(out.chunks_exact_mut(4)) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for (at, digit) in digits.iter_mut().take(group.len() + 1).enumerate() {
            *digit = BASE64[(bits >> (18 - 6 * at) & 63) as usize];
        }
    }
    out
}

const ACCEPT_BYTES: usize = 28;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn fields<'a>(fields: &[(&'a str, &'a str)]) -> Handshake {
        let fields = fields.iter();
        Handshake::parse(fields.map(|&(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    fn with_key(key: &str) -> Handshake {
        fields(&[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ])
    }

    fn is_accepted(handshake: Handshake) -> bool {
        matches!(handshake, Handshake::Accept(_))
    }

    #[test]
    fn the_key_of_the_rfc_gives_its_accept_value() {
        let Handshake::Accept(accept) = with_key(KEY) else {
            panic!("not accepted");
        };
        assert_eq!(accept.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut out = b"before".to_vec();
        encode_response(accept, &mut out);
        assert_eq!(
            str::from_utf8(&out).unwrap(),
            "beforeHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
    }

    #[test]
    fn base64_of_other_digests_is_right() {
        let counting: [u8; 20] = std::array::from_fn(|at| at as u8);
        let table = [
            ([0; 20], b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ([0xff; 20], b"//////////////////////////8="),
            (counting, b"AAECAwQFBgcICQoLDA0ODxAREhM="),
        ];
        for (digest, text) in table {
            assert_eq!(&base64(&digest), text);
        }
    }

    #[test]
    fn tokens_are_found_in_any_case_and_in_several_lists() {
        let table: &[(&[(&str, &str)], bool)] = &[
            (
                &[
                    ("Connection", "keep-alive, Upgrade"),
                    ("Upgrade", "websocket"),
                ],
                true,
            ),
            (&[("CONNECTION", "upgrade"), ("upgrade", "WebSocket")], true),
            (
                &[
                    ("Upgrade", "h2c,\twebsocket ,x"),
                    ("Connection", ",,UPGRADE,"),
                ],
                true,
            ),
            (
                &[
                    ("Connection", "keep-alive"),
                    ("Upgrade", "h2c"),
                    ("Connection", "Upgrade"),
                    ("Upgrade", "websocket"),
                ],
                true,
            ),
            (&[("Connection", "Upgrade"), ("Upgrade", "h2c")], false),
            (&[("Connection", "close"), ("Upgrade", "websocket")], false),
            (
                &[("Connection", "Upgraded"), ("Upgrade", "websocket")],
                false,
            ),
            (
                &[("Connection", "Upgrade"), ("Upgrade", "websocket/13")],
                false,
            ),
            (&[("Connection", "Upgrade")], false),
            (&[("Upgrade", "websocket")], false),
            (&[("Connection", ""), ("Upgrade", "")], false),
            (&[], false),
        ];
        for &(lists, accepted) in table {
            let mut all = lists.to_vec();
            all.extend([("Sec-WebSocket-Version", "13"), ("sec-websocket-key", KEY)]);
            let handshake = fields(&all);
            assert_eq!(is_accepted(handshake), accepted, "{lists:?}");
            assert_eq!(handshake == Handshake::NotUpgrade, !accepted, "{lists:?}");
        }
    }

    #[test]
    fn any_version_but_13_is_another_whatever_the_key() {
        for versions in [
            &["12"][..],
            &["8"],
            &[""],
            &["013"],
            &["13, 8"],
            &["13", "13"],
            &[],
        ] {
            for key in [KEY, "bad"] {
                let mut all = vec![
                    ("Upgrade", "websocket"),
                    ("Connection", "Upgrade"),
                    ("Sec-WebSocket-Key", key),
                ];
                all.extend(
                    versions
                        .iter()
                        .map(|&version| ("Sec-WebSocket-Version", version)),
                );
                assert_eq!(fields(&all), Handshake::OtherVersion, "{versions:?}");
            }
        }
    }

    #[test]
    fn a_key_must_be_16_bytes_in_base64() {
        let table = [
            (KEY, true),
            ("  dGhlIHNhbXBsZSBub25jZQ== ", true),
            ("+/++////abcXYZ01234567==", true),
            // The left-over bits of the last digit are not zero.
            ("dGhlIHNhbXBsZSBub25jZZ==", true),
            ("", false),
            ("==", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZQA=", false),
            ("dGhlIHNhbXBsZSBub25jZQAA", false),
            ("dGhlIHNhbXBsZSBub25jZ==", false),
            ("dGhlIHNhbXBsZSBub25jZQQ==", false),
            ("dGhlIHNhbXBsZSBub2 jZQ==", false),
            ("dGhlIHNhbXBsZS-ub2_jZQ==", false),
            ("dGhlIHNhbXBsZSBub25j=Q==", false),
            ("dGhlIHNhbXBsZSBub25é==", false),
        ];
        for (key, accepted) in table {
            let handshake = with_key(key);
            assert_eq!(is_accepted(handshake), accepted, "{key:?}");
            assert_eq!(handshake == Handshake::BadKey, !accepted, "{key:?}");
        }
    }

    #[test]
    fn a_missing_or_repeated_key_is_bad() {
        let mut all = vec![
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
        ];
        assert_eq!(fields(&all), Handshake::BadKey);
        all.extend([("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)]);
        assert_eq!(fields(&all), Handshake::BadKey);
    }

    fn lines(text: &str) -> Vec<(&str, &str)> {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .collect()
    }

    /// Any fields, one a line, name and value at the first colon. Accepted is only what a slower
    /// reading of the same lines accepts.
    fn fuzz_handshake(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let lines = lines(&text);
        let values = |wanted: &str| -> Vec<String> {
            let of_name = lines
                .iter()
                .filter(|(name, _)| name.to_lowercase() == wanted);
            of_name
                .map(|(_, value)| value.trim_matches([' ', '\t']).to_owned())
                .collect()
        };
        let has = |name: &str, token: &str| {
            let lists = values(name).join(",").to_lowercase();
            lists
                .split(',')
                .any(|item| item.trim_matches([' ', '\t']) == token)
        };
        let is_upgrade = has("upgrade", "websocket") && has("connection", "upgrade");
        let has_version = values("sec-websocket-version") == ["13"];
        let keys = values("sec-websocket-key");
        match fields(&lines) {
            Handshake::NotUpgrade => assert!(!is_upgrade),
            Handshake::OtherVersion => assert!(is_upgrade && !has_version),
            Handshake::BadKey => {
                assert!(is_upgrade && has_version);
                assert!(keys.len() != 1 || keys[0].len() != 24 || !keys[0].ends_with("=="));
            }
            Handshake::Accept(accept) => {
                assert!(is_upgrade && has_version && keys.len() == 1);
                assert_eq!(accept, AcceptKey::of(keys[0].as_bytes()));
            }
        }
    }

    #[test]
    fn random_fields_are_judged_like_a_slower_reading() {
        let pieces = [
            "Upgrade: ",
            "websocket",
            "h2c",
            ", ",
            "\n",
            "\n",
            "Connection:",
            "keep-alive",
            "UPGRADE",
            "Sec-WebSocket-Version: 13\n",
            "Sec-WebSocket-Version:",
            "12",
            "Upgrade:WebSocket\n",
            "connection: upgrade\n",
            "Sec-WebSocket-Key:",
            KEY,
            "==",
            "\t",
        ];
        let mut random = Seed::new(7);
        let mut accepted = 0;
        for _ in 0..20_000 {
            let count = random.below(16);
            let text: String = (0..count)
                .map(|_| pieces[random.below(pieces.len())])
                .collect();
            fuzz_handshake(text.as_bytes());
            let complete = format!("{text}\nSec-WebSocket-Key:{KEY}\nSec-WebSocket-Version:13");
            fuzz_handshake(complete.as_bytes());
            accepted += usize::from(is_accepted(fields(&lines(&complete))));
        }
        assert!(accepted > 100, "one-sided inputs: {accepted}");
    }

    #[test]
    fn nothing_is_asked_of_other_fields() {
        let all = [
            ("Host", "a"),
            ("Sec-WebSocket-Protocol", "foo"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ];
        assert_eq!(fields(&all), with_key(KEY));
    }
}
