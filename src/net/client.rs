//! Who is at the other end: the address and whether its side is encrypted, as far as configured
//! proxies say so.
//!
//! A header counts only if the hop that sent it is in `trusted_proxies`; everybody else is taken for
//! the client. Pure: the peer's address comes in.

use std::net::{IpAddr, SocketAddr};

use crate::config::Network;
use crate::http::{Head, list_has};

use super::proxied::Proxied;

/// Hops of `X-Forwarded-For` that are looked at, from the right; further ones are not believed.
const HOPS_MAX: usize = 32;

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// `None` where the kernel does not know the peer any more.
    pub address: Option<IpAddr>,
    pub tls: bool,
}

impl Client {
    /// `peer` is the address of the socket's other end, `proxied` what the PROXY protocol said.
    pub fn of(
        head: &Head<'_>,
        peer: Option<IpAddr>,
        proxied: Proxied,
        trusted: &[Network],
    ) -> Self {
        let nearest = proxied.client.or(peer);
        let is_trusted = |address: IpAddr| trusted.iter().any(|proxy| proxy.contains(address));
        if !nearest.is_some_and(is_trusted) {
            return Self {
                address: nearest,
                tls: proxied.tls,
            };
        }
        let says_https = head
            .header("X-Forwarded-Proto")
            .any(|value| list_has(value, "https"));
        Self {
            address: forwarded(head, is_trusted).or(nearest),
            tls: proxied.tls || says_https,
        }
    }
}

/// The rightmost address of `X-Forwarded-For` that is not a trusted proxy, or, if all are, the
/// leftmost; without that header the one of `X-Real-IP`. What cannot be read ends the walk.
fn forwarded(head: &Head<'_>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lists: Vec<&[u8]> = head.header("X-Forwarded-For").collect();
    if lists.is_empty() {
        return head.header("X-Real-IP").last().and_then(parse);
    }
    let hops = lists
        .iter()
        .rev()
        .flat_map(|list| list.rsplit(|&byte| byte == b','));
    let mut nearest = None;
    for hop in hops.take(HOPS_MAX) {
        let Some(address) = parse(hop) else { break };
        nearest = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

/// An address, alone or with a port.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let address = text
        .parse()
        .or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, HeadScan};

    const LIMITS: HeadLimits = HeadLimits {
        head_bytes_max: 4096,
        headers_max: 64,
    };

    fn client(peer: &str, proxied: Proxied, headers: &str) -> (String, bool) {
        let wire = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let mut scan = HeadScan::default();
        let (head, _) = scan
            .parse(wire.as_bytes(), &LIMITS)
            .expect("it is lawful")
            .expect("it is whole");
        let trusted = ["10.0.0.0/8", "::1"].map(|text| Network::parse(text).expect("a network"));
        let peer = Some(peer.parse().expect("an address"));
        let Client { address, tls } = Client::of(&head, peer, proxied, &trusted);
        (address.expect("it is known").to_string(), tls)
    }

    #[test]
    fn headers_count_from_configured_proxies_only() {
        let headers = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";
        let none = Proxied::default();
        assert_eq!(
            client("10.0.0.1", none, headers),
            ("203.0.113.7".into(), true)
        );
        assert_eq!(
            client("198.51.100.1", none, headers),
            ("198.51.100.1".into(), false)
        );
        let real = "X-Real-IP: 203.0.113.7\r\n";
        assert_eq!(client("::1", none, real), ("203.0.113.7".into(), false));
        assert_eq!(client("::2", none, real), ("::2".into(), false));
    }

    #[test]
    fn the_first_hop_from_the_right_that_is_no_proxy_is_the_client() {
        let rows = [
            (
                "X-Forwarded-For: 192.0.2.1, 203.0.113.7, 10.0.0.2\r\n",
                "203.0.113.7",
            ),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 203.0.113.7\r\n",
                "203.0.113.7",
            ),
            ("X-Forwarded-For: 203.0.113.7:4711\r\n", "203.0.113.7"),
            ("X-Forwarded-For: [2001:db8::9]:4711\r\n", "2001:db8::9"),
            ("X-Forwarded-For: ::ffff:203.0.113.7\r\n", "203.0.113.7"),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"),
            (
                "X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2\r\n",
                "10.0.0.2",
            ),
            (
                "X-Forwarded-For: \r\nX-Real-IP: 203.0.113.7\r\n",
                "10.0.0.1",
            ),
            ("", "10.0.0.1"),
        ];
        for (headers, expected) in rows {
            let (address, _) = client("10.0.0.1", Proxied::default(), headers);
            assert_eq!(address, expected, "{headers}");
        }
    }

    #[test]
    fn what_the_proxy_protocol_said_stands_for_the_peer() {
        let said = |client: &str| Proxied {
            client: Some(client.parse().expect("an address")),
            tls: true,
        };
        let headers = "X-Forwarded-For: 203.0.113.7\r\n";
        assert_eq!(
            client("10.0.0.1", said("198.51.100.1"), headers),
            ("198.51.100.1".into(), true),
            "a client's own header is not believed"
        );
        assert_eq!(
            client("10.0.0.1", said("10.9.9.9"), headers),
            ("203.0.113.7".into(), true),
            "a proxy before the proxy is"
        );
    }
}
