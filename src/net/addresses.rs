//! How many WebSocket connections an address may begin in a window of time, over all shards.
//!
//! A table of a fixed size, each entry one atomic: who is counted, since when, how many. No lock and
//! no growth: an address has one of [`WAYS`] places, and where all are taken the one whose window
//! began first is forgotten. So an attacker with many addresses may have others counted anew, and
//! gets nobody refused.
//!
//! Invariant: of one address at most `max` are granted between the first and the end of its window.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use siphasher::sip::SipHasher13;

/// Places that an address may have.
const WAYS: usize = 4;
/// Groups of places: 65,536 addresses at once, half a mebibyte, made only where there is a limit.
const SETS: usize = 16_384;
/// Most that can be counted, and the largest limit.
pub const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
/// Longest window in seconds: twice as long and it could not be told from the next.
pub const WINDOW_SECS_MAX: u32 = 1 << (START_BITS - 1);
/// How often a place that changes meanwhile is tried again; then the connection is let in.
const TRIES_MAX: usize = 1000;

const COUNT_BITS: u32 = 20;
const START_BITS: u32 = 20;
const START_MASK: u32 = (1 << START_BITS) - 1;

/// The budgets of all addresses.
#[derive(Debug)]
pub struct AddressBudgets {
    max: u32,
    window_secs: u32,
    key: [u64; 2],
    places: Box<[AtomicU64]>,
}

/// An entry: 24 bits of the address's hash, never 0, the second its window began, how many.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    start: u32,
    count: u32,
}

impl Entry {
    fn unpack(packed: u64) -> Self {
        Self {
            tag: (packed >> (START_BITS + COUNT_BITS)) as u32,
            start: (packed >> COUNT_BITS) as u32 & START_MASK,
            count: packed as u32 & COUNT_MAX,
        }
    }

    fn pack(self) -> u64 {
        let above = u64::from(self.tag) << START_BITS | u64::from(self.start);
        above << COUNT_BITS | u64::from(self.count)
    }

    fn age_secs(self, now: u32) -> u32 {
        now.wrapping_sub(self.start) & START_MASK
    }
}

impl AddressBudgets {
    /// At most `max` connections (up to [`COUNT_MAX`]) of an address in `window` (up to
    /// [`WINDOW_SECS_MAX`]), which begins with the first of them. `key` is of the process:
    /// addresses come from the network.
    pub fn new(max: u32, window: Duration, key: [u64; 2]) -> Self {
        let places = (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect();
        Self {
            max,
            window_secs: window.as_secs() as u32,
            key,
            places,
        }
    }

    /// Counts a connection that begins; false if the address has no more in this window.
    pub fn try_take(&self, address: IpAddr, now_secs: u32) -> bool {
        let (places, tag) = self.places_of(address);
        let now = now_secs & START_MASK;
        for _ in 0..TRIES_MAX {
            let (place, seen) = find(places, tag, now);
            let entry = Entry::unpack(seen);
            let goes_on = entry.tag == tag && entry.age_secs(now) < self.window_secs;
            if goes_on && entry.count >= self.max {
                return false;
            }
            let (start, count) = match goes_on {
                true => (entry.start, entry.count + 1),
                false => (now, 1),
            };
            let next = Entry { tag, start, count }.pack();
            // Relaxed: the entry itself is all that is shared.
            let set = place.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
            if set.is_ok() {
                return true;
            }
        }
        true
    }

    /// The places that the address may have, and what it is known by in them.
    fn places_of(&self, address: IpAddr) -> (&[AtomicU64], u32) {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        match address.to_canonical() {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
            IpAddr::V6(address) => hasher.write_u64(network_of(address)),
        }
        let hash = hasher.finish();
        let first = (hash as usize % SETS) * WAYS;
        let tag = (hash >> (START_BITS + COUNT_BITS)) as u32;
        (&self.places[first..first + WAYS], tag.max(1))
    }
}

/// One client has a whole /64.
fn network_of(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// The address's own place and what is there, or the place that it takes: an empty one, or the one
/// whose window began first.
fn find(places: &[AtomicU64], tag: u32, now: u32) -> (&AtomicU64, u64) {
    let mut taken = (&places[0], places[0].load(Ordering::Relaxed));
    let age = |packed: u64| match Entry::unpack(packed) {
        Entry { tag: 0, .. } => u32::MAX,
        entry => entry.age_secs(now),
    };
    for place in places {
        let packed = place.load(Ordering::Relaxed);
        if Entry::unpack(packed).tag == tag {
            return (place, packed);
        }
        if age(packed) > age(taken.1) {
            taken = (place, packed);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    fn budgets(max: u32, secs: u64) -> AddressBudgets {
        AddressBudgets::new(max, Duration::from_secs(secs), [1, 2])
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_window_begins_with_the_first_and_the_limit_is_exact() {
        let budgets = budgets(3, 60);
        let a = address("203.0.113.7");
        assert!((0..3).all(|_| budgets.try_take(a, 100)));
        assert!(!budgets.try_take(a, 100) && !budgets.try_take(a, 159));
        assert!(budgets.try_take(a, 160));
        assert!(
            budgets.try_take(address("203.0.113.8"), 100),
            "another address"
        );
    }

    #[test]
    fn seconds_may_pass_what_an_entry_can_hold() {
        let budgets = budgets(1, 10);
        let a = address("203.0.113.7");
        let late = START_MASK - 2;
        assert!(budgets.try_take(a, late));
        assert!(!budgets.try_take(a, late + 9));
        assert!(budgets.try_take(a, late + 10));
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_wrapped_ipv4_address_is_that_address() {
        let budgets = budgets(1, 60);
        assert!(budgets.try_take(address("2001:db8::1"), 5));
        assert!(!budgets.try_take(address("2001:db8::ffff:1"), 5));
        assert!(budgets.try_take(address("2001:db8:0:1::1"), 5));
        assert!(budgets.try_take(address("203.0.113.7"), 5));
        assert!(!budgets.try_take(address("::ffff:203.0.113.7"), 5));
    }

    #[test]
    fn more_addresses_than_places_refuse_nobody() {
        let budgets = budgets(1, 60);
        for bits in 0..4 * (SETS * WAYS) as u32 {
            assert!(budgets.try_take(IpAddr::V4(bits.into()), 5), "{bits}");
        }
    }

    #[test]
    fn threads_that_count_one_address_get_exactly_the_limit() {
        const EACH: u32 = 1000;
        let budgets = budgets(1500, 60);
        let granted = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let taken = budgets.try_take(address("203.0.113.7"), 5);
                        granted.fetch_add(taken.into(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(granted.into_inner(), 1500);
    }
}
