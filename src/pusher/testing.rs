//! Seeded bytes for the loops that drive the `fuzz_*` functions. Test-only.

/// splitmix64: every seed gives a good sequence, and a failure is repeated by its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Up to `bytes_max` bytes, mostly runs of `vocabulary` and sometimes any byte.
    pub(crate) fn bytes(&mut self, vocabulary: &[u8], bytes_max: usize) -> Vec<u8> {
        let target = self.below(bytes_max + 1);
        let mut bytes = Vec::with_capacity(target);
        while bytes.len() < target {
            if self.below(20) == 0 {
                bytes.push(self.next() as u8);
                continue;
            }
            let start = self.below(vocabulary.len());
            let run = 1 + self.below(12.min(vocabulary.len() - start));
            bytes.extend_from_slice(&vocabulary[start..start + run]);
        }
        bytes.truncate(bytes_max);
        bytes
    }

    /// The same as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self, vocabulary: &[u8], bytes_max: usize) -> String {
        String::from_utf8_lossy(&self.bytes(vocabulary, bytes_max)).into_owned()
    }
}
