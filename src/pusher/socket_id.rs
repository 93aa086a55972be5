//! Socket ids: parse, print, issue, and find the slot of the connection that an id names.
//!
//! An id is a pair (A, B) printed `A.B`. A is 53 random bits; B hides shard and slot behind a keyed
//! hash of A, so that `socket_id` exclusion needs no map from id to connection and ids of other
//! tenants cannot be guessed (decisions 15). This file does not know which ids are in use: whoever
//! asks [`SocketIdKey::locate`] compares the whole id with that of the session it finds there.
//!
//! Invariant: both parts are below 2^53 and A is not 0, so an id prints in at most 33 bytes, is a
//! safe integer pair in JavaScript, and `Option<SocketId>` is as large as `SocketId`.

use std::fmt;
use std::num::NonZeroU64;

use siphasher::sip::SipHasher13;

const PART_BITS: u32 = 53;
const PART_MAX: u64 = (1 << PART_BITS) - 1;
const SHARD_BITS: u32 = 12;
const SLOT_BITS: u32 = 28;
const RANDOM_BITS: u32 = 13;

const _: () = assert!(SHARD_BITS + SLOT_BITS + RANDOM_BITS == PART_BITS);
// `Deliver.except` relies on the niche in A (decisions, table of section 3).
const _: () = assert!(size_of::<Option<SocketId>>() == 16);

/// Shards that an id can name.
pub const SHARDS_MAX: u32 = 1 << SHARD_BITS;
/// Slots of a shard that an id can name.
pub const SLOTS_MAX: u32 = 1 << SLOT_BITS;
/// Two numbers below 2^53 have 16 digits each.
const TEXT_BYTES_MAX: usize = 16 + 1 + 16;

/// The protocol's name for a session, as printed to its client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId {
    a: NonZeroU64,
    b: u64,
}

/// A well-formed socket id as somebody sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// An id that this server may have issued.
    Possible(SocketId),
    /// Satisfies the grammar, but we never print such an id: a part is too large, A is 0, or there
    /// are leading zeros. It is valid in a request and names no connection.
    Foreign,
}

/// The text does not match `^\d+\.\d+$`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl SocketId {
    /// Reads an id of any length. Ids that we can have issued round-trip byte for byte.
    pub fn parse(text: &str) -> Result<Parsed, Malformed> {
        let (a, b) = text.split_once('.').ok_or(Malformed)?;
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(a) || !is_number(b) {
            return Err(Malformed);
        }
        Ok(
            match (parse_part(a).and_then(NonZeroU64::new), parse_part(b)) {
                (Some(a), Some(b)) => Parsed::Possible(Self { a, b }),
                _ => Parsed::Foreign,
            },
        )
    }

    /// The printed form, without an allocation.
    pub fn text(self) -> SocketIdText {
        let mut text = SocketIdText {
            bytes: [0; TEXT_BYTES_MAX],
            start: TEXT_BYTES_MAX as u8,
        };
        text.push_digits(self.b);
        text.push(b'.');
        text.push_digits(self.a.get());
        text
    }
}

impl Parsed {
    /// The id, if a connection of this process can have it.
    pub fn possible(self) -> Option<SocketId> {
        match self {
            Self::Possible(id) => Some(id),
            Self::Foreign => None,
        }
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A part as we print it: below 2^53, no leading zero. The caller has seen that it is all digits.
fn parse_part(digits: &str) -> Option<u64> {
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    digits.parse().ok().filter(|&part| part <= PART_MAX)
}

/// A printed socket id, filled from the end.
#[derive(Clone, Copy)]
pub struct SocketIdText {
    bytes: [u8; TEXT_BYTES_MAX],
    /// 0 <= start < TEXT_BYTES_MAX; what lies before it is unused.
    start: u8,
}

impl SocketIdText {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only digits and one dot were pushed")
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[usize::from(self.start)] = byte;
    }

    fn push_digits(&mut self, mut number: u64) {
        loop {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }
}

/// The key of the pseudo-random function that hides shard and slot. One per process, random.
#[derive(Clone, Copy)]
pub struct SocketIdKey {
    prf: SipHasher13,
}

impl SocketIdKey {
    pub fn new(key: &[u8; 16]) -> Self {
        Self {
            prf: SipHasher13::new_with_key(key),
        }
    }

    /// Makes the id of a new session. Of `random_a` 53 bits are used, of `random` 13; both must
    /// come from a cryptographic source.
    ///
    /// # Panics
    /// If `shard` or `slot` is not below [`SHARDS_MAX`] or [`SLOTS_MAX`].
    pub fn issue(&self, random_a: u64, random: u16, shard: u16, slot: u32) -> SocketId {
        assert!(
            u32::from(shard) < SHARDS_MAX,
            "shard {shard} does not fit a socket id"
        );
        assert!(slot < SLOTS_MAX, "slot {slot} does not fit a socket id");
        let a = NonZeroU64::new(random_a & PART_MAX).unwrap_or(NonZeroU64::MIN);
        let random = u64::from(random) & ((1 << RANDOM_BITS) - 1);
        let place =
            u64::from(shard) << (SLOT_BITS + RANDOM_BITS) | u64::from(slot) << RANDOM_BITS | random;
        SocketId {
            a,
            b: place ^ self.pad(a),
        }
    }

    /// The shard and slot that an id of this process names. For any other id the answer is
    /// arbitrary: a shard or slot that does not exist, or one whose session has another id.
    pub fn locate(&self, id: SocketId) -> (u16, u32) {
        let place = id.b ^ self.pad(id.a);
        let slot = (place >> RANDOM_BITS) & u64::from(SLOTS_MAX - 1);
        // 53 bits less 41 are 12; 41 bits less 13 are 28.
        ((place >> (SLOT_BITS + RANDOM_BITS)) as u16, slot as u32)
    }

    fn pad(&self, a: NonZeroU64) -> u64 {
        self.prf.hash(&a.get().to_le_bytes()) & PART_MAX
    }
}

impl fmt::Debug for SocketIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketIdKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn possible(text: &str) -> SocketId {
        SocketId::parse(text).unwrap().possible().unwrap()
    }

    #[test]
    fn ids_that_we_print_round_trip() {
        for text in [
            "1.0",
            "1234.1234",
            "9007199254740991.9007199254740991",
            "10.100",
        ] {
            assert_eq!(possible(text).to_string(), text);
        }
    }

    #[test]
    fn what_the_grammar_allows_and_we_never_print_is_foreign() {
        let many_nines = format!("1.{}", "9".repeat(1000));
        for text in [
            "0.0",
            "0.1",
            "01.1",
            "1.01",
            "1.00",
            "9007199254740992.1",
            "1.9007199254740992",
            "18446744073709551616.1",
            &many_nines,
        ] {
            assert_eq!(SocketId::parse(text), Ok(Parsed::Foreign), "{text}");
        }
    }

    #[test]
    fn what_the_grammar_forbids_is_malformed() {
        for text in [
            "",
            ".",
            "1",
            "1.",
            ".1",
            "abc",
            "1.2.3",
            "-1.2",
            "+1.2",
            "1.+2",
            " 1.2",
            "1.2 ",
            "1.2\n",
            "1,2",
            "1.a",
            "0x1.2",
            "1e3.2",
            "\u{0661}.1",
            "1..2",
        ] {
            assert_eq!(SocketId::parse(text), Err(Malformed), "{text:?}");
        }
    }

    #[test]
    fn every_shard_and_slot_bit_comes_back() {
        let key = SocketIdKey::new(b"0123456789abcdef");
        let mut random = Seed::new(15);
        for bit in 0..SLOT_BITS {
            for shard_bit in 0..SHARD_BITS {
                let (shard, slot) = (1 << shard_bit, 1 << bit);
                let id = key.issue(random.next(), random.next() as u16, shard, slot);
                assert_eq!(key.locate(id), (shard, slot));
                assert_eq!(possible(id.text().as_str()), id);
            }
        }
        let last = key.issue(u64::MAX, u16::MAX, 4095, SLOTS_MAX - 1);
        assert_eq!(key.locate(last), (4095, SLOTS_MAX - 1));
    }

    #[test]
    fn a_is_never_zero() {
        let key = SocketIdKey::new(&[7; 16]);
        for random_a in [0, 1 << 53, 1 << 63] {
            let id = key.issue(random_a, 0, 3, 4);
            assert!(id.to_string().starts_with("1."));
            assert_eq!(key.locate(id), (3, 4));
        }
    }

    #[test]
    fn neighbouring_slots_do_not_show_in_their_ids() {
        let key = SocketIdKey::new(&[9; 16]);
        let mut random = Seed::new(1);
        let ids: Vec<_> = (0..64)
            .map(|slot| key.issue(random.next(), 0, 0, slot))
            .collect();
        let differing: u32 = ids.windows(2).map(|w| (w[0].b ^ w[1].b).count_ones()).sum();
        // Of 53 bits about half differ; with an unmasked slot it would be one or two.
        assert!(differing > 63 * 20, "{differing}");
    }

    #[test]
    fn another_key_locates_elsewhere() {
        let (ours, theirs) = (SocketIdKey::new(&[1; 16]), SocketIdKey::new(&[2; 16]));
        let mut random = Seed::new(2);
        let hits = (0..200)
            .map(|slot| ours.issue(random.next(), 0, 1, slot))
            .filter(|&id| theirs.locate(id) == ours.locate(id))
            .count();
        assert_eq!(hits, 0);
    }

    #[test]
    fn arbitrary_text_never_panics_and_parses_only_what_it_prints() {
        let mut random = Seed::new(3);
        for _ in 0..4_000 {
            fuzz_socket_id(random.text(b"0123456789.. -a", 40).as_bytes());
        }
    }

    pub(crate) fn fuzz_socket_id(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        if let Ok(Parsed::Possible(id)) = SocketId::parse(text) {
            assert_eq!(id.text().as_str(), text);
            SocketIdKey::new(&[0; 16]).locate(id);
        }
    }
}
