//! Digests in their printed form: two lower-case hex digits for each byte.
//!
//! Not for keeping secrets: who may learn a digest by the time that this takes must not call it.
//! Without branches all the same, because that is faster.

/// `bytes` as digits, which `out` has room for.
///
/// # Panics
/// If `out` is not twice as long as `bytes`: both are arrays.
pub(super) fn encode<const BYTES: usize, const DIGITS: usize>(bytes: [u8; BYTES]) -> [u8; DIGITS] {
    const { assert!(DIGITS == 2 * BYTES) };
    let mut out = [0; DIGITS];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS_LOWER[usize::from(byte >> 4)];
        pair[1] = DIGITS_LOWER[usize::from(byte & 15)];
    }
    out
}

const DIGITS_LOWER: &[u8; 16] = b"0123456789abcdef";

/// The bytes that `digits` spell; `None` where one is no lower-case hex digit, or their number is
/// another.
pub(super) fn decode<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    let mut all = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [value(pair[0]), value(pair[1])];
        *byte = high << 4 | low;
        all |= high | low;
    }
    (all != NO_DIGIT).then_some(bytes)
}

/// More than any digit says, and all of its bits stay set.
const NO_DIGIT: u8 = 0xff;

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => NO_DIGIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=u8::MAX {
            let digits: [u8; 4] = encode([byte, !byte]);
            assert_eq!(digits, *format!("{byte:02x}{:02x}", !byte).as_bytes());
            assert_eq!(decode(&digits), Some([byte, !byte]));
        }
    }

    #[test]
    fn only_lower_case_digits_in_their_number_are_digits() {
        for wrong in 0..=u8::MAX {
            for at in 0..4 {
                let mut digits = *b"0f9a";
                digits[at] = wrong;
                let is_digit = matches!(wrong, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(decode::<2>(&digits).is_some(), is_digit, "{wrong} at {at}");
            }
        }
        assert_eq!(decode::<2>(b"0f9"), None);
        assert_eq!(decode::<2>(b"0f9a0"), None);
        assert_eq!(decode::<0>(b""), Some([]));
    }
}
