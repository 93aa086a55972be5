//! The Fossil delta format, as Fossil's documentation gives it: the length of the target and a line
//! break, then `LENGTH:bytes` for a literal and `LENGTH@OFFSET,` for a copy, and at last the
//! checksum of the target and `;`. Numbers are digits of base 64, the most significant first.

use super::matching::Piece;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

pub(super) fn write(pieces: &[Piece], target: &[u8], out: &mut Vec<u8>) {
    write_number(out, target.len() as u32);
    out.push(b'\n');
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.literal as usize;
        if piece.literal > 0 {
            write_number(out, piece.literal);
            out.push(b':');
            out.extend_from_slice(&target[at..end]);
        }
        // A copy of 0 bytes would mean the rest of the base.
        if piece.copy > 0 {
            write_number(out, piece.copy);
            out.push(b'@');
            write_number(out, piece.from);
            out.push(b',');
        }
        at = end + piece.copy as usize;
    }
    write_number(out, checksum(target));
    out.push(b';');
}

fn write_number(out: &mut Vec<u8>, number: u32) {
    // Six digits of 6 bits hold 32 bits.
    let bits = (u32::BITS - number.leading_zeros()).max(1);
    for digit in (0..bits.div_ceil(6)).rev() {
        out.push(DIGITS[(number >> (6 * digit) & 63) as usize]);
    }
}

/// The sum of the text's big-endian words, the last one filled up with zeros.
pub(super) fn checksum(text: &[u8]) -> u32 {
    let (words, rest) = text.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().fold(u32::from_be_bytes(last), |sum, word| {
        sum.wrapping_add(u32::from_be_bytes(*word))
    })
}
