//! Random bits for socket ids, from the system, a page at a time.

/// Bytes asked of the system at once.
const BATCH_BYTES: usize = 4096;
/// Bytes of one session.
const SESSION_BYTES: usize = 10;

/// A supply of random bits.
pub struct Random {
    bytes: Box<[u8; BATCH_BYTES]>,
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self {
            bytes: Box::new([0; BATCH_BYTES]),
            used: BATCH_BYTES,
        }
    }
}

impl Random {
    /// Bits for one socket id.
    pub fn session(&mut self) -> (u64, u16) {
        if self.used + SESSION_BYTES > BATCH_BYTES {
            // Without randomness socket ids could be guessed; the process must not go on.
            getrandom::fill(&mut *self.bytes).expect("the system has a source of random bits");
            self.used = 0;
        }
        let mut a = [0; 8];
        let mut b = [0; 2];
        a.copy_from_slice(&self.bytes[self.used..self.used + 8]);
        b.copy_from_slice(&self.bytes[self.used + 8..self.used + SESSION_BYTES]);
        self.used += SESSION_BYTES;
        (u64::from_ne_bytes(a), u16::from_ne_bytes(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sessions_get_the_same_bits_across_a_refill() {
        let mut random = Random::default();
        let all: std::collections::HashSet<_> = (0..2000).map(|_| random.session()).collect();
        assert_eq!(all.len(), 2000);
    }
}
