//! The trace: a running hash of all that happens, by which two runs of a seed are compared.

/// FNV-1a over numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace(u64);

impl Trace {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Something has happened.
    pub(super) fn add(&mut self, what: &[u64]) {
        for &number in what {
            self.0 = (self.0 ^ number).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
