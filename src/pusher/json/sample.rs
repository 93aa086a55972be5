//! JSON texts for the loops that drive the `fuzz_*` functions. Test-only.
//!
//! Seed bytes are hardly ever JSON, and JSON is hardly ever near the edge of it. So: a text that
//! is valid but for a few rare words, and then, every other time, one damaged byte.

use crate::seed::Seed;

const SCALARS: [&str; 18] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1.0",
    "12345678901234567890123",
    "1e400",
    "-1.5E-3",
    "9007199254740993",
    "01",
    "1.",
    "-",
    "nul",
    "+1",
    ".5",
    "1e+",
    "NaN",
];

const WORDS: [&str; 24] = [
    "event",
    "name",
    "data",
    "channel",
    "a",
    "",
    "pusher:ping",
    "client-x",
    "my-channel",
    "1.2",
    r"\n",
    r#"\""#,
    r"\\",
    r"\/",
    r"\u0041",
    r"\u0000",
    r"\u00e9",
    r"\ud83d\ude00",
    "é",
    "日本",
    "\u{1F600}",
    r"\ud800",
    r"\udc00x",
    r"\x",
];

/// A text of at most `levels` levels; an object where `levels` is not 0.
pub(crate) fn json(random: &mut Seed, levels: u32) -> Vec<u8> {
    let mut out = Vec::new();
    match levels {
        0 => write_value(random, 0, &mut out),
        _ => write_object(random, levels, &mut out),
    }
    if random.below(2) == 0 {
        damage(random, &mut out);
    }
    out
}

fn write_value(random: &mut Seed, levels: u32, out: &mut Vec<u8>) {
    match random.below(if levels > 0 { 7 } else { 5 }) {
        0..=2 => write_string(random, out),
        3 | 4 => {
            // The last ones are not JSON.
            let bound = if random.below(12) == 0 { 18 } else { 10 };
            out.extend_from_slice(SCALARS[random.below(bound)].as_bytes());
        }
        5 => {
            out.push(b'[');
            for index in 0..random.below(4) {
                if index > 0 {
                    out.push(b',');
                }
                write_space(random, out);
                write_value(random, levels - 1, out);
            }
            write_space(random, out);
            out.push(b']');
        }
        _ => write_object(random, levels, out),
    }
}

fn write_object(random: &mut Seed, levels: u32, out: &mut Vec<u8>) {
    out.push(b'{');
    for index in 0..random.below(5) {
        if index > 0 {
            out.push(b',');
        }
        write_space(random, out);
        write_string(random, out);
        write_space(random, out);
        out.push(b':');
        write_space(random, out);
        write_value(random, levels - 1, out);
        write_space(random, out);
    }
    out.push(b'}');
}

fn write_string(random: &mut Seed, out: &mut Vec<u8>) {
    out.push(b'"');
    for _ in 0..random.below(4) {
        let bound = if random.below(20) == 0 { 24 } else { 21 };
        out.extend_from_slice(WORDS[random.below(bound)].as_bytes());
    }
    out.push(b'"');
}

fn write_space(random: &mut Seed, out: &mut Vec<u8>) {
    if random.below(4) == 0 {
        out.push(b" \n\r\t"[random.below(4)]);
    }
}

fn damage(random: &mut Seed, out: &mut Vec<u8>) {
    const BYTES: &[u8] = b"{}[]\",:\\u0129.-e \x00\x1f\x7f\xff\xc3tn";
    let byte = BYTES[random.below(BYTES.len())];
    let at = random.below(out.len().max(1));
    match random.below(3) {
        0 => out.insert(at.min(out.len()), byte),
        1 if at < out.len() => out[at] = byte,
        _ => out.truncate(at),
    }
}
