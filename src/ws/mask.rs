//! Masking and unmasking (RFC 6455 section 5.3), which are the same XOR.
//!
//! Always a whole payload, from its first byte: a frame is unmasked once it is complete, so no
//! position within the key is ever carried over.

/// Unmasks `payload` where it lies. In chunks of 32 bytes, which the compiler turns into vector
/// instructions as good as hand-written ones, and then of 8, because most frames of clients are
/// short; [`unmask_bytewise`] defines the result.
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let (chunks, rest) = payload.as_chunks_mut::<32>();
    for chunk in chunks {
        unmask_chunk(chunk, key);
    }
    let (chunks, rest) = rest.as_chunks_mut::<8>();
    for chunk in chunks {
        unmask_chunk(chunk, key);
    }
    unmask_bytewise(rest, key);
}

/// The slow twin of [`unmask`]: the text of the RFC.
pub fn unmask_bytewise(payload: &mut [u8], key: [u8; 4]) {
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// `BYTES` is a multiple of 4, so that each chunk begins with the first byte of the key.
fn unmask_chunk<const BYTES: usize>(chunk: &mut [u8; BYTES], key: [u8; 4]) {
    for word in chunk.as_chunks_mut::<4>().0.iter_mut() {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn the_example_of_the_rfc_is_unmasked() {
        let mut payload = *b"\x7f\x9f\x4d\x51\x58";
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn the_fast_one_does_what_the_slow_one_does() {
        let mut random = Seed::new(2);
        for payload_bytes in (0..=128).chain([1000, 4099]) {
            // At every alignment within a chunk.
            for skipped in 0..32 {
                let key = (random.next() as u32).to_ne_bytes();
                let masked = random.bytes(skipped + payload_bytes);
                let mut fast = masked.clone();
                let mut slow = masked.clone();
                unmask(&mut fast[skipped..], key);
                unmask_bytewise(&mut slow[skipped..], key);
                assert!(fast == slow, "{payload_bytes} bytes at {skipped}");
                assert_eq!(fast[..skipped], masked[..skipped]);
            }
        }
    }

    #[test]
    fn unmasking_twice_changes_nothing() {
        let payload: Vec<u8> = (0..=255).collect();
        let mut twice = payload.clone();
        unmask(&mut twice, [9, 8, 7, 6]);
        assert_ne!(twice, payload);
        unmask(&mut twice, [9, 8, 7, 6]);
        assert_eq!(twice, payload);
    }
}
