//! Strings of an object decoded where they lie, by simd-json with buffers that are kept.
//!
//! For objects whose strings are read and not copied on: `channel_data` and `user_data` are JSON
//! inside a JSON string, so every subscribe to a presence channel and every sign-in has escapes.
//! simd-json unescapes in place and needs no allocation for them. It is given a copy, because the
//! raw tokens of the original are still wanted, and only text that the scanner has accepted, so its
//! own ideas of surrogates and depth do not matter.
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
