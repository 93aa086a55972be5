//! The client's half of a frame, for tests and the load generator. The server never masks
//! (RFC 6455 section 5.1), so nothing that serves may call this.

use super::{
    frame::{self, OpCode},
    mask,
};

/// Appends a whole masked frame. `payload` is not checked: tests send what no client should.
pub fn encode_masked(opcode: OpCode, fin: bool, key: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    frame::encode(opcode, fin, frame::MASK, payload.len(), out);
    out.extend_from_slice(&key);
    let payload_at = out.len();
    out.extend_from_slice(payload);
    mask::unmask(&mut out[payload_at..], key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_example_of_the_rfc_is_encoded() {
        let mut out = b"before".to_vec();
        encode_masked(
            OpCode::Text,
            true,
            [0x37, 0xfa, 0x21, 0x3d],
            b"Hello",
            &mut out,
        );
        assert_eq!(out, b"before\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }
}
