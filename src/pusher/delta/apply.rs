//! The other side of both formats, for tests: a delta applied to a base. Slow, plain, and written
//! from the documents alone; what clients use is checked against the same deltas in `tests/clients`.

use super::Algorithm;

/// The target, or `None` where the delta is none.
pub(crate) fn apply(algorithm: Algorithm, base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        Algorithm::Fossil => fossil(base, delta),
        Algorithm::Xdelta3 => vcdiff(base, delta),
    }
}

fn take<'d>(rest: &mut &'d [u8], bytes: usize) -> Option<&'d [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

fn fossil(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta;
    let (bytes, b'\n') = number(&mut rest)? else {
        return None;
    };
    let mut target = Vec::new();
    loop {
        let (count, operator) = number(&mut rest)?;
        match operator {
            b':' => target.extend(take(&mut rest, count as usize)?),
            b'@' => {
                let (from, b',') = number(&mut rest)? else {
                    return None;
                };
                target.extend(base.get(from as usize..)?.get(..count as usize)?);
            }
            b';' => {
                let is_right = rest.is_empty()
                    && target.len() == bytes as usize
                    && super::fossil::checksum(&target) == count;
                return is_right.then_some(target);
            }
            _ => return None,
        }
    }
}

/// A number and the byte behind it.
fn number(rest: &mut &[u8]) -> Option<(u32, u8)> {
    let mut number = 0_u32;
    let mut digits = 0;
    loop {
        let [byte] = *take(rest, 1)? else {
            return None;
        };
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'_' => 36,
            b'a'..=b'z' => byte - b'a' + 37,
            b'~' => 63,
            _ if digits == 0 => return None,
            _ => return Some((number, byte)),
        };
        digits += 1;
        number = number.checked_mul(64)?.checked_add(digit.into())?;
    }
}

fn vcdiff(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta;
    if take(&mut rest, 6)? != [0xd6, 0xc3, 0xc4, 0, 0, 1] {
        return None;
    }
    let source_bytes = integer(&mut rest)?;
    let source = base.get(integer(&mut rest)?..)?.get(..source_bytes)?;
    let delta_bytes = integer(&mut rest)?;
    if rest.len() != delta_bytes {
        return None;
    }
    let target_bytes = integer(&mut rest)?;
    if take(&mut rest, 1)? != [0] {
        return None;
    }
    let lengths = [
        integer(&mut rest)?,
        integer(&mut rest)?,
        integer(&mut rest)?,
    ];
    let [mut data, mut instructions, mut addresses] = [
        take(&mut rest, lengths[0])?,
        take(&mut rest, lengths[1])?,
        take(&mut rest, lengths[2])?,
    ];
    let (mut near, mut next) = ([0; 4], 0);
    let mut target = Vec::new();
    while let Some(code) = take(&mut instructions, 1).map(|code| usize::from(code[0])) {
        match code {
            1 => {
                let size = integer(&mut instructions)?;
                target.extend(take(&mut data, size)?);
            }
            2..=18 => target.extend(take(&mut data, code - 1)?),
            // Modes 0 (the offset itself) and 2 to 5 (behind one of the last four).
            19..=34 | 51..=114 => {
                let (mode, size) = ((code - 19) / 16, (code - 19) % 16);
                let size = match size {
                    0 => integer(&mut instructions)?,
                    size => size + 3,
                };
                let address = integer(&mut addresses)?;
                let address = match mode {
                    0 => address,
                    mode => address + near[mode - 2],
                };
                near[next] = address;
                next = (next + 1) % 4;
                target.extend(source.get(address..)?.get(..size)?);
            }
            // We write no others.
            _ => return None,
        }
    }
    let all_used = rest.is_empty() && data.is_empty() && addresses.is_empty();
    (all_used && target.len() == target_bytes).then_some(target)
}

fn integer(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0_usize;
    loop {
        let [byte] = *take(rest, 1)? else {
            return None;
        };
        number = number.checked_mul(128)?.checked_add((byte & 0x7f).into())?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}
