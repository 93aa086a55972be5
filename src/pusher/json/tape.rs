//! Strings of an object decoded where they lie, by simd-json with buffers that are kept.
//!
//! For objects whose strings are read and not copied on: `channel_data` and `user_data` are JSON
//! inside a JSON string, so every subscribe to a presence channel and every sign-in has escapes.
//! simd-json unescapes in place: no allocation, for the same time (310 ns for the `data` of a
//! presence subscribe, against 305 with one). It is given a copy, because the raw tokens of the
//! original are still wanted, and only text that the scanner has accepted, so its own ideas of
//! surrogates and depth do not matter.
//!
//! Invariant: it gives what [`super::Token::decode`] gives, its slow twin, or `None`: it refuses
//! numbers that are JSON (`1e400`, integers beyond 64 bits), also in members nobody asked for.

use simd_json::prelude::*;
use simd_json::{Buffers, Tape};

/// Capacity of the first allocation, in bytes; it grows with the largest object seen.
const OBJECT_BYTES: usize = 1024;

/// What one reader keeps between objects. Its size is bounded by the messages that it is given.
pub struct Reader {
    object: Vec<u8>,
    buffers: Buffers,
    /// Empty between objects.
    tape: Tape<'static>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            object: Vec::with_capacity(OBJECT_BYTES),
            buffers: Buffers::new(OBJECT_BYTES),
            tape: Tape(Vec::new()),
        }
    }
}

impl Reader {
    /// The strings that are the values of `names` in the object `raw`; of a repeated key the last
    /// value, and nothing where that is no string. `None` where the slow twin has to read it.
    pub fn strings<'a, const N: usize>(
        &'a mut self,
        raw: &str,
        names: &[&str; N],
    ) -> Option<[Option<&'a str>; N]> {
        self.object.clear();
        self.object.extend_from_slice(raw.as_bytes());
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let read = simd_json::fill_tape(&mut self.object, &mut self.buffers, &mut tape);
        let found = read.ok().and_then(|()| strings_of(&tape, names));
        self.tape = tape.reset();
        found
    }
}

fn strings_of<'a, const N: usize>(
    tape: &Tape<'a>,
    names: &[&str; N],
) -> Option<[Option<&'a str>; N]> {
    let mut found = [None; N];
    for (key, value) in tape.as_value().as_object()?.iter() {
        if let Some(index) = names.iter().position(|name| *name == key) {
            found[index] = value.into_string();
        }
    }
    Some(found)
}

/// Against the slow twin, for any object that the scanner accepts.
#[cfg(test)]
pub fn fuzz_strings(reader: &mut Reader, data: &[u8]) {
    use simd_json::ErrorType;
    const NAMES: [&str; 4] = ["event", "channel", "a", ""];
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(slow) = super::fields(text, &NAMES) else {
        return;
    };
    match reader.strings(text, &NAMES) {
        Some(fast) => {
            let slow = slow.map(|token| token.and_then(|token| token.decode()));
            assert_eq!(
                fast.map(|text| text.map(str::to_owned)),
                slow.map(|text| text.map(Into::into))
            );
        }
        None => {
            let refused = simd_json::to_tape(&mut data.to_vec()).expect_err("it was refused");
            assert!(
                matches!(refused.error(), ErrorType::InvalidNumber),
                "{text:?}"
            );
        }
    }
    assert!(reader.tape.0.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json::sample;
    use crate::seed::Seed;

    #[test]
    fn strings_are_decoded_and_the_last_of_a_key_wins() {
        let mut reader = Reader::default();
        let raw = r#"{"a":"x","b":"\u00e9\n","n":5,"\u0061":"{\"id\":1}","o":{"c":"no"},"c":null}"#;
        assert_eq!(
            reader.strings(raw, &["a", "b", "n", "c", "missing"]),
            Some([Some(r#"{"id":1}"#), Some("é\n"), None, None, None])
        );
        assert_eq!(reader.strings("{}", &["a"]), Some([None]));
    }

    #[test]
    fn numbers_that_it_refuses_are_left_to_the_slow_twin() {
        let mut reader = Reader::default();
        assert_eq!(reader.strings(r#"{"a":"x","n":1e400}"#, &["a"]), None);
        assert_eq!(reader.strings(r#"{"a":"x"}"#, &["a"]), Some([Some("x")]));
    }

    #[test]
    fn agrees_with_the_slow_twin_on_seeded_objects() {
        let mut random = Seed::new(43);
        let mut reader = Reader::default();
        for _ in 0..10_000 {
            fuzz_strings(&mut reader, &sample::json(&mut random, 3));
        }
    }
}
