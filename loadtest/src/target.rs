//! The server that the load goes to, and the addresses that connections come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections from one source address, at most. The kernel has some 28 000 ports for each, and
/// finds a free one quickly only among the half that it prefers: beyond 14 000 a connect takes it a
/// millisecond.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

/// A server and the app of it that is used.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) app_id: String,
    pub(crate) app_key: String,
    pub(crate) app_secret: String,
}

impl Target {
    /// Where connection number `index` comes from: on loopback every address of 127/8 is ours, so
    /// that ports do not run out. `None` leaves it to the kernel.
    pub(crate) fn source(&self, index: usize) -> Option<SocketAddr> {
        let source = index / CONNECTIONS_PER_SOURCE;
        if !matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback()) || source == 0 {
            return None;
        }
        let [_, _, high, low] = (source as u32).to_be_bytes();
        Some(SocketAddr::new(Ipv4Addr::new(127, 1, high, low).into(), 0))
    }

    /// The request that makes a WebSocket of a connection.
    pub(crate) fn upgrade(&self) -> String {
        format!(
            "GET /app/{}?protocol=7&client=loadtest&version=0.1.0 HTTP/1.1\r\nHost: {}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n\r\n",
            self.app_key, self.address
        )
    }
}

/// The example of RFC 6455, section 1.3. A client needs another for each connection only where
/// caches lie between.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Whether the head of an answer takes the upgrade.
pub(crate) fn is_upgraded(head: &[u8]) -> bool {
    const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    head.starts_with(b"HTTP/1.1 101 ") && crate::frame::contains(head, ACCEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str) -> Target {
        Target {
            address: address.parse().unwrap(),
            app_id: "1".into(),
            app_key: "key".into(),
            app_secret: "secret".into(),
        }
    }

    #[test]
    fn each_source_address_has_a_bounded_number_of_connections() {
        let sources = [0, 9_999, 10_000, 19_999, 20_000, 999_999].map(|index| {
            target("127.0.0.1:6001")
                .source(index)
                .map(|s| s.ip().to_string())
        });
        let expected = [
            None,
            None,
            Some("127.1.0.1"),
            Some("127.1.0.1"),
            Some("127.1.0.2"),
            Some("127.1.0.99"),
        ];
        assert_eq!(sources.each_ref().map(Option::as_deref), expected);
    }

    #[test]
    fn elsewhere_the_kernel_chooses() {
        assert_eq!(target("10.0.0.1:6001").source(50_000), None);
        assert_eq!(target("[::1]:6001").source(50_000), None);
    }

    #[test]
    fn an_upgrade_is_taken_with_101_and_the_right_key_only() {
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(is_upgraded(
            format!("HTTP/1.1 101 Switching\r\n{accept}").as_bytes()
        ));
        assert!(!is_upgraded(
            format!("HTTP/1.1 200 OK\r\n{accept}").as_bytes()
        ));
        assert!(!is_upgraded(b"HTTP/1.1 101 Switching\r\n\r\n"));
    }
}
