//! Masking and unmasking (RFC 6455 section 5.3), which are the same XOR.
//!
//! Always a whole payload, from its first byte: a frame is unmasked once it is complete, so no
//! position within the key is ever carried over.

/// Unmasks `payload` where it lies. In chunks of 32 bytes, which the compiler turns into vector
/// instructions as good as hand-written ones; [`unmask_bytewise`] defines the result.
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let mut wide = [0; CHUNK_BYTES];
    for (at, byte) in wide.iter_mut().enumerate() {
        *byte = key[at % 4];
    }
    let mut chunks = payload.chunks_exact_mut(CHUNK_BYTES);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(wide) {
        *byte ^= key;
    }
}

/// The slow twin of [`unmask`]: the text of the RFC.
pub fn unmask_bytewise(payload: &mut [u8], key: [u8; 4]) {
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// A multiple of 4, so that every chunk begins at the start of the key.
const CHUNK_BYTES: usize = 32;
