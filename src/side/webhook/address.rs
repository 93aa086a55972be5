//! Where names of endpoints lead, and whether webhooks may go there (webhooks 6, optional).
//!
//! The addresses that are checked are those that are connected to: a name that says another thing
//! the next time gains nothing by it.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

/// Look-ups of one name at once. Each holds a thread for as long as the system's resolver likes,
/// whatever the timeout of the attempt that wanted it: a name that is not answered takes no more
/// threads than these from the others.
const LOOKUPS_PER_NAME: usize = 2;

/// The address is one that webhooks must not go to.
#[derive(Debug)]
pub(super) struct PrivateAddress;

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name leads to private addresses only")
    }
}

impl Error for PrivateAddress {}

/// Asks the system for the addresses of a name.
#[derive(Debug)]
pub(super) struct Resolver {
    refuse_private: bool,
    /// By name; those that nobody looks up are forgotten.
    lookups: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Resolver {
    pub(super) fn new(refuse_private: bool) -> Self {
        let lookups = Mutex::default();
        Self {
            refuse_private,
            lookups,
        }
    }

    fn lookups_of(&self, name: &str) -> Arc<Semaphore> {
        // Nothing is done under the lock that could panic half-way.
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        lookups.retain(|_, lookups| Arc::strong_count(lookups) > 1);
        let new = || Arc::new(Semaphore::new(LOOKUPS_PER_NAME));
        Arc::clone(lookups.entry(name.into()).or_insert_with(new))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.lookups_of(name.as_str());
        let refuse_private = self.refuse_private;
        Box::pin(async move {
            let permit = lookups.acquire_owned().await?;
            // A task of its own: its permit is held until the look-up really ends.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await;
                drop(permit);
                found.map(Iterator::collect::<Vec<_>>)
            });
            let mut addresses = lookup.await??;
            if refuse_private {
                addresses.retain(|address| !is_private(address.ip()));
                if addresses.is_empty() {
                    return Err(PrivateAddress.into());
                }
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether a URL names a private address itself, which nobody looks up.
pub(super) fn names_private_address(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_private(address.into()),
        Some(Host::Ipv6(address)) => is_private(address.into()),
        _ => false,
    }
}

/// Whether an address is not of the public internet (the special registries of RFC 6890, as far
/// as they are not routed), or carries an IPv4 address that is not.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // This network; shared by carriers; protocol assignments; benchmarks; multicast and the
        // reserved rest.
        || a == 0
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18)
        || a >= 224
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        is_private_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match address.segments() {
        // NAT64 and 6to4 lead to the IPv4 address within.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0xdb8, ..] => true,
        // Global unicast is 2000::/3; local, link-local, multicast and the rest are not in it.
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn private_addresses_are_known_in_every_form() {
        let private = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "fc00::1",
            "fdab::1",
            "fe80::1",
            "ff02::1",
        ];
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
            "2002:101:101::",
            "::ffff:1.1.1.1",
        ];
        for (addresses, expected) in [(&private[..], true), (&public, false)] {
            for text in addresses {
                assert_eq!(is_private(text.parse().unwrap()), expected, "{text}");
            }
        }
    }

    #[test]
    fn addresses_in_urls_are_seen_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:a00:1]",
        ] {
            let url = Url::parse(&format!("http://{host}:80/x")).unwrap();
            assert!(names_private_address(&url), "{host}");
        }
        for host in ["1.1.1.1", "[2606:4700::1111]", "a.example"] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert!(!names_private_address(&url), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_private_addresses_alone_is_refused() {
        let resolve = |refuse_private| {
            let name = "localhost".parse().unwrap();
            Resolver::new(refuse_private).resolve(name)
        };
        let found: Vec<SocketAddr> = resolve(false).await.unwrap().collect();
        assert!(!found.is_empty());
        let Err(error) = resolve(true).await else {
            panic!("it is resolved");
        };
        assert!(error.is::<PrivateAddress>());
    }
}
