//! The trace: a running hash of all that happens, by which two runs of a seed are compared.

/// FNV-1a over numbers, and what a test wants to know of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    hash: u64,
    /// Events that clients have put together from deltas.
    pub(super) deltas: u64,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            deltas: 0,
        }
    }

    /// Something has happened.
    pub(super) fn add(&mut self, what: &[u64]) {
        for &number in what {
            self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
