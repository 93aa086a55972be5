//! The PROXY protocol in front of a connection (HAProxy, versions 1 and 2): what a proxy says of
//! its client. Only configured proxies are asked, and then each connection of theirs must begin
//! with it: guessing would let a client write its own address.
//!
//! Invariant: a prefix of a header is "more bytes", never an error, and never over
//! [`HEADER_BYTES_MAX`].

use std::net::IpAddr;

use ppp::{v1, v2};

/// Longest header that is read; over it the connection is closed. The first version has 107 bytes
/// at most, the second an address and what a proxy likes to add.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Longest header of the first version.
const LINE_BYTES_MAX: usize = 107;
/// Bytes of the second version before its length is known.
const FIXED_BYTES: usize = 16;
/// The type of what the second version tells about TLS, and the bit that says "the client uses it".
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// What the proxy said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    /// The client's address; `None` where the proxy speaks for itself or does not know it.
    pub client: Option<IpAddr>,
    /// The client's side is encrypted.
    pub tls: bool,
}

/// No header where one has to be: the connection is not to be trusted with anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

/// Reads the header off the front of what has come, and says how many bytes it has; `None` while
/// more is needed.
pub fn read(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, NoHeader> {
    let shared = bytes.len().min(v2::PROTOCOL_PREFIX.len());
    if bytes[..shared] == v2::PROTOCOL_PREFIX[..shared] {
        read_binary(bytes)
    } else {
        read_line(bytes)
    }
}

fn read_line(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, NoHeader> {
    let prefix = v1::PROTOCOL_PREFIX.as_bytes();
    let shared = bytes.len().min(prefix.len());
    if bytes[..shared] != prefix[..shared] {
        return Err(NoHeader);
    }
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") else {
        return match searched.len() < LINE_BYTES_MAX {
            true => Ok(None),
            false => Err(NoHeader),
        };
    };
    let line = &bytes[..end + 2];
    let header = v1::Header::try_from(line).map_err(|_| NoHeader)?;
    let client = match header.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    };
    let tls = false;
    Ok(Some((Proxied { client, tls }, line.len())))
}

fn read_binary(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, NoHeader> {
    let Some(&[high, low]) = bytes.get(FIXED_BYTES - 2..FIXED_BYTES) else {
        return Ok(None);
    };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_BYTES_MAX {
        return Err(NoHeader);
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    let header = v2::Header::try_from(whole).map_err(|_| NoHeader)?;
    if header.command == v2::Command::Local {
        return Ok(Some((Proxied::default(), length)));
    }
    let client = match header.addresses {
        v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    };
    let tells_tls = |part: v2::TypeLengthValue<'_>| {
        part.kind == TYPE_SSL
            && part
                .value
                .first()
                .is_some_and(|bits| bits & CLIENT_SSL != 0)
    };
    let tls = header.tlvs().flatten().any(tells_tls);
    Ok(Some((Proxied { client, tls }, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn of(client: &str, tls: bool) -> Proxied {
        let client = Some(client.parse().expect("an address"));
        Proxied { client, tls }
    }

    fn headers() -> Vec<(Vec<u8>, Proxied)> {
        let v4 = [203, 0, 113, 7, 127, 0, 0, 1, 0x30, 0x39, 0x17, 0x71];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 9;
        let ssl = |bits: u8| [&v4[..], &[TYPE_SSL, 0, 5, bits, 0, 0, 0, 0]].concat();
        let line = |text: &str| text.as_bytes().to_vec();
        vec![
            (
                line("PROXY TCP4 203.0.113.7 127.0.0.1 12345 6001\r\n"),
                of("203.0.113.7", false),
            ),
            (
                line("PROXY TCP6 2001:db8::9 ::1 12345 6001\r\n"),
                of("2001:db8::9", false),
            ),
            (line("PROXY UNKNOWN\r\n"), Proxied::default()),
            (line("PROXY UNKNOWN ffff:f...f 1 2\r\n"), Proxied::default()),
            (binary(1, 0x11, &v4), of("203.0.113.7", false)),
            (binary(1, 0x21, &v6), of("2001:db8::9", false)),
            (binary(1, 0x11, &ssl(1)), of("203.0.113.7", true)),
            (binary(1, 0x11, &ssl(0)), of("203.0.113.7", false)),
            (binary(0, 0x00, &[]), Proxied::default()),
            (binary(0, 0x11, &ssl(1)), Proxied::default()),
            (binary(1, 0x00, &[1, 2, 3]), Proxied::default()),
        ]
    }

    #[test]
    fn every_header_is_read_and_every_prefix_of_one_waits_for_more() {
        for (mut bytes, expected) in headers() {
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(read(&bytes[..cut]), Ok(None), "{cut} of {bytes:?}");
            }
            bytes.extend(b"GET / HTTP/1.1\r\n");
            assert_eq!(read(&bytes), Ok(Some((expected, length))));
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let rows: [&[u8]; 10] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"proxy TCP4 203.0.113.7 127.0.0.1 1 2\r\n",
            b"PROXY\r\n",
            b"PROXY TCP4 203.0.113.7 127.0.0.1 1\r\n",
            b"PROXY TCP4 203.0.113.777 127.0.0.1 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 203.0.113.7 127.0.0.1 1 99999\r\n",
            &[b'P'; 2],
            &binary(2, 0x11, &[0; 12]),
            &binary(1, 0x11, &[0; 11]),
        ];
        for bytes in rows {
            assert_eq!(read(bytes), Err(NoHeader), "{bytes:?}");
        }
        let long = [b"PROXY UNKNOWN ", &[b'x'; LINE_BYTES_MAX][..]].concat();
        assert_eq!(read(&long), Err(NoHeader));
        let mut long = binary(1, 0x00, &[]);
        let claimed = (HEADER_BYTES_MAX - FIXED_BYTES + 1) as u16;
        long[FIXED_BYTES - 2..].copy_from_slice(&claimed.to_be_bytes());
        assert_eq!(read(&long), Err(NoHeader));
    }

    /// For libFuzzer, and for the loop below.
    fn fuzz_read(data: &[u8]) {
        if let Ok(Some((_, length))) = read(data) {
            assert!(length <= data.len() && length <= HEADER_BYTES_MAX);
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut seed = Seed::new(1);
        for _ in 0..20_000 {
            let mut data = headers()[seed.below(11)].0.clone();
            seed.mutate(&mut data, b"PROXY TCP46 :.\r\n\x00\x11\x20\x21\xff");
            fuzz_read(&data);
        }
    }
}
