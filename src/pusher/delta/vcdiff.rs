//! VCDIFF (RFC 3284): one window over the whole base, the default code table, no secondary
//! compression, no application data, no checksum.
//!
//! Of the instructions it uses ADD and COPY one by one, and of the modes of an address the base's
//! own offset and the four nearest: enough, because copies are long and few.

use super::matching::Piece;

/// `VCD` with the high bits set, version 0, and an indicator that promises nothing more.
const HEADER: [u8; 5] = [0xd6, 0xc3, 0xc4, 0, 0];
/// Win_Indicator: the window copies from the source.
const VCD_SOURCE: u8 = 1;
/// Delta_Indicator: no section is compressed.
const PLAIN_SECTIONS: u8 = 0;
const ADD_ANY_SIZE: u8 = 1;
const COPY_ANY_SIZE: u8 = 19;
/// Codes between one mode of a COPY and the next.
const CODES_PER_MODE: u8 = 16;
/// Slots of the near cache (RFC 3284, 5.1).
const NEAR_SLOTS: usize = 4;
const FIRST_NEAR_MODE: u8 = 2;

/// Two sections, whose lengths stand before them.
#[derive(Default)]
pub(super) struct Sections {
    instructions: Vec<u8>,
    addresses: Vec<u8>,
}

pub(super) fn write(
    pieces: &[Piece],
    base: &[u8],
    target: &[u8],
    sections: &mut Sections,
    out: &mut Vec<u8>,
) {
    let literals = sections.fill(pieces);
    let Sections {
        instructions,
        addresses,
    } = sections;
    let section_bytes = [literals, instructions.len(), addresses.len()];
    let delta_bytes = integer_bytes(target.len())
        + size_of_val(&PLAIN_SECTIONS)
        + section_bytes
            .map(|bytes| integer_bytes(bytes) + bytes)
            .iter()
            .sum::<usize>();

    out.extend_from_slice(&HEADER);
    out.push(VCD_SOURCE);
    write_integer(out, base.len());
    write_integer(out, 0);
    write_integer(out, delta_bytes);
    write_integer(out, target.len());
    out.push(PLAIN_SECTIONS);
    for bytes in section_bytes {
        write_integer(out, bytes);
    }
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.literal as usize;
        out.extend_from_slice(&target[at..end]);
        at = end + piece.copy as usize;
    }
    out.extend_from_slice(instructions);
    out.extend_from_slice(addresses);
}

impl Sections {
    /// Writes instructions and addresses; gives the bytes of the literals.
    fn fill(&mut self, pieces: &[Piece]) -> usize {
        self.instructions.clear();
        self.addresses.clear();
        let mut near = Near::default();
        let mut literals = 0;
        for piece in pieces {
            if piece.literal > 0 {
                literals += piece.literal as usize;
                self.add(piece.literal);
            }
            if piece.copy > 0 {
                let (mode, address) = near.address(piece.from);
                write_integer(&mut self.addresses, address as usize);
                self.copy(piece.copy, mode);
            }
        }
        literals
    }

    fn add(&mut self, bytes: u32) {
        match bytes {
            1..=17 => self.instructions.push(ADD_ANY_SIZE + bytes as u8),
            _ => {
                self.instructions.push(ADD_ANY_SIZE);
                write_integer(&mut self.instructions, bytes as usize);
            }
        }
    }

    fn copy(&mut self, bytes: u32, mode: u8) {
        let code = COPY_ANY_SIZE + CODES_PER_MODE * mode;
        match bytes {
            4..=18 => self.instructions.push(code - 3 + bytes as u8),
            _ => {
                self.instructions.push(code);
                write_integer(&mut self.instructions, bytes as usize);
            }
        }
    }
}

/// The addresses of the last copies, as the decoder keeps them.
#[derive(Default)]
struct Near {
    slots: [u32; NEAR_SLOTS],
    next: usize,
}

impl Near {
    /// Mode and number for an address: the shorter of itself and its distance from a recent one.
    fn address(&mut self, address: u32) -> (u8, u32) {
        let mut shortest = (0, address);
        for (mode, near) in (FIRST_NEAR_MODE..).zip(self.slots) {
            if let Some(distance) = address.checked_sub(near)
                && integer_bytes(distance as usize) < integer_bytes(shortest.1 as usize)
            {
                shortest = (mode, distance);
            }
        }
        self.slots[self.next] = address;
        self.next = (self.next + 1) % NEAR_SLOTS;
        shortest
    }
}

/// Seven bits a byte, the most significant first; all but the last have the high bit set.
fn write_integer(out: &mut Vec<u8>, number: usize) {
    for digit in (0..integer_bytes(number)).rev() {
        let more = if digit > 0 { 0x80 } else { 0 };
        out.push((number >> (7 * digit) & 0x7f) as u8 | more);
    }
}

fn integer_bytes(number: usize) -> usize {
    let bits = (usize::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}
