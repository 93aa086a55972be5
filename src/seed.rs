//! The seeded source of chance for tests: the same seed, the same run. It is no generator for
//! anything that must not be guessed.

/// SplitMix64.
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Up to four bytes of `data` overwritten, inserted or removed; new ones come from `alphabet`.
    pub(crate) fn mutate(&mut self, data: &mut Vec<u8>, alphabet: &[u8]) {
        for _ in 0..self.below(5) {
            let byte = alphabet[self.below(alphabet.len())];
            let at = self.below(data.len() + 1);
            match self.below(3) {
                0 => data.insert(at, byte),
                1 if at < data.len() => data[at] = byte,
                _ if at < data.len() => drop(data.remove(at)),
                _ => {}
            }
        }
    }

    /// So many bytes, each any.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Up to `bytes_max` bytes, mostly runs of `vocabulary` and sometimes any byte.
    pub(crate) fn mixture(&mut self, vocabulary: &[u8], bytes_max: usize) -> Vec<u8> {
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
        String::from_utf8_lossy(&self.mixture(vocabulary, bytes_max)).into_owned()
    }
}
