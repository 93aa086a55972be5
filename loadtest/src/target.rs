//! The server that the load goes to, and the addresses that connections come from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Serialize};

use crate::message::readable;

/// Connections from one source address, at most. The kernel has some 28 000 ports for each, and
/// finds a free one quickly only among the half that it prefers: beyond 14 000 a connect takes it a
/// millisecond.
const CONNECTIONS_PER_SOURCE: u64 = 10_000;

/// One listener of a server, and the app that is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What `Host` says.
    pub(crate) host: String,
    pub(crate) path_prefix: String,
    pub(crate) app_id: String,
    pub(crate) app_key: String,
    pub(crate) app_secret: String,
}

/// The address behind `HOST:PORT`.
pub(crate) fn resolve(host: &str) -> io::Result<SocketAddr> {
    let mut addresses = host.to_socket_addrs()?;
    addresses
        .next()
        .ok_or_else(|| io::Error::other(format!("{host} has no address")))
}

/// Where connection number `ordinal` of worker number `worker` comes from: on loopback every
/// address of 127/8 is ours, so that ports do not run out. `first` is where a run begins: addresses
/// of the run before have ports that nobody gets for a minute, and the kernel looks for one that is
/// free among them for milliseconds. `None` leaves it to the kernel.
pub(crate) fn source(
    target: SocketAddr,
    worker: u32,
    first: u32,
    ordinal: u64,
) -> Option<SocketAddr> {
    if !matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        return None;
    }
    // 65 536 connections of a worker need seven addresses at a time; those of long ago are free
    // again. Worker 0 has 127.0/16 without the address that the kernel prefers.
    let number = (u64::from(first) + ordinal / CONNECTIONS_PER_SOURCE) % 65_000;
    let [worker, number] = [worker % 250, number as u32 + 2].map(u32::to_be_bytes);
    let ip = Ipv4Addr::new(127, worker[3], number[2], number[3]);
    Some(SocketAddr::new(ip.into(), 0))
}

/// Where this process begins: other processes, and those before, mostly begin elsewhere.
pub(crate) fn first_source() -> u32 {
    std::process::id().wrapping_mul(7_919) % 65_000
}

impl Target {
    /// The standard app on a port of this machine.
    #[cfg(test)]
    pub(crate) fn local(port: u16) -> Self {
        Self {
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            host: format!("127.0.0.1:{port}"),
            path_prefix: String::new(),
            app_id: "app-id".into(),
            app_key: "app-key".into(),
            app_secret: "app-secret".into(),
        }
    }

    /// The request that makes a WebSocket of a connection.
    pub(crate) fn upgrade(&self) -> String {
        format!(
            "GET {}/app/{}?protocol=7&client=loadtest&version=0.1.0 HTTP/1.1\r\nHost: {}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n\r\n",
            self.path_prefix, self.app_key, self.host
        )
    }
}

/// The example of RFC 6455, section 1.3. A client needs another for each connection only where
/// caches lie between.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Whether the head of an answer takes the upgrade.
pub(crate) fn is_upgraded(head: &[u8]) -> bool {
    const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    head.starts_with(b"HTTP/1.1 101 ")
        && crate::http::field(head, b"sec-websocket-accept") == Some(ACCEPT)
}

/// What is wrong if it does not: the first line of the head.
pub(crate) fn not_upgraded(head: &[u8]) -> io::Error {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or(head);
    io::Error::other(format!("not upgraded: {}", readable(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(target: &str, worker: u32, first: u32, ordinals: &[u64]) -> Vec<Option<String>> {
        let target = target.parse().unwrap();
        let source = |&ordinal| source(target, worker, first, ordinal).map(|s| s.ip().to_string());
        ordinals.iter().map(source).collect()
    }

    #[test]
    fn each_source_address_has_a_bounded_number_of_connections() {
        let ordinals = [0, 9_999, 10_000, 2_560_000];
        let of = |worker, first| {
            let found = sources("127.0.0.1:6001", worker, first, &ordinals);
            found.into_iter().flatten().collect::<Vec<_>>()
        };
        let expected = ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.1.2"];
        assert_eq!(of(0, 0), expected);
        assert_eq!(of(1, 0)[0], "127.1.0.2");
        assert_eq!(of(0, 300)[0], "127.0.1.46");
        // Round at the end.
        assert_eq!(of(0, 64_999)[1..3], ["127.0.253.233", "127.0.0.2"]);
    }

    #[test]
    fn elsewhere_the_kernel_chooses() {
        assert_eq!(sources("10.0.0.1:6001", 3, 7, &[50_000]), [None]);
        assert_eq!(sources("[::1]:6001", 3, 7, &[50_000]), [None]);
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
