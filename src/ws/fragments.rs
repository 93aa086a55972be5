//! The fragments of one message, joined.
//!
//! Which frame may follow which, and how large a message may get, has been decided before
//! (`message.rs`).
//!
//! Invariant: of a text, `bytes[..valid_bytes]` is UTF-8, and what follows is the beginning of one
//! character at most, so each fragment is validated once.

use super::{Error, frame::OpCode};

#[derive(Debug, Default)]
pub(super) struct Fragments {
    bytes: Vec<u8>,
    valid_bytes: usize,
    is_text: bool,
    is_complete: bool,
}

/// A message that has become complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    Text,
    Binary,
}

impl Fragments {
    /// Bytes of a message that is not complete; none once it is, for it has been handed out then.
    pub(super) fn len(&self) -> usize {
        if self.is_complete {
            0
        } else {
            self.bytes.len()
        }
    }

    /// Appends a fragment, and says so if it was the last. A text fails at the first fragment with
    /// which it can no longer become UTF-8.
    pub(super) fn push(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
    ) -> Result<Option<Joined>, Error> {
        if opcode != OpCode::Continuation {
            *self = Self {
                is_text: opcode == OpCode::Text,
                ..Self::default()
            };
        }
        self.bytes.extend_from_slice(payload);
        if self.is_text {
            match simdutf8::compat::from_utf8(&self.bytes[self.valid_bytes..]) {
                Ok(text) => self.valid_bytes += text.len(),
                Err(error) if error.error_len().is_none() && !fin => {
                    self.valid_bytes += error.valid_up_to();
                }
                Err(_) => return Err(Error::TextNotUtf8),
            }
        }
        self.is_complete = fin;
        Ok(fin.then_some(if self.is_text {
            Joined::Text
        } else {
            Joined::Binary
        }))
    }

    /// Forgets a message that has been handed out.
    pub(super) fn release(&mut self) {
        if self.is_complete {
            *self = Self::default();
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins a text of two fragments, cut at `at`.
    fn join_text(text: &[u8], at: usize) -> Result<Vec<u8>, Error> {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.push(OpCode::Text, false, &text[..at])?, None);
        let joined = fragments.push(OpCode::Continuation, true, &text[at..])?;
        assert_eq!(joined, Some(Joined::Text));
        Ok(fragments.bytes_mut().to_vec())
    }

    #[test]
    fn characters_may_straddle_fragments() {
        let text = "aé日🙂\u{10ffff}z".as_bytes();
        for at in 0..=text.len() {
            assert_eq!(join_text(text, at), Ok(text.to_vec()));
        }
        let mut fragments = Fragments::default();
        fragments.push(OpCode::Text, false, b"").unwrap();
        for byte in text {
            let joined = fragments.push(OpCode::Continuation, false, &[*byte]);
            assert_eq!(joined, Ok(None));
        }
        let joined = fragments.push(OpCode::Continuation, true, b"");
        assert_eq!(joined, Ok(Some(Joined::Text)));
        assert_eq!(fragments.bytes_mut(), text);
    }

    #[test]
    fn what_is_not_utf8_is_refused_wherever_it_is_cut() {
        let table: &[&[u8]] = &[
            b"\xc3\x28",
            b"ok\xc3",
            b"\x80",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf0\x9f\x99",
            b"\xf0\x9f\x99z",
            b"\xff",
        ];
        for &text in table {
            for at in 0..=text.len() {
                assert_eq!(
                    join_text(text, at),
                    Err(Error::TextNotUtf8),
                    "{text:?} {at}"
                );
            }
        }
    }

    #[test]
    fn a_text_fails_at_the_first_fragment_that_cannot_become_utf8() {
        let mut fragments = Fragments::default();
        for begin in [&b"\xf4"[..], b"\xed", b"\xe0", b"\xc3"] {
            assert_eq!(fragments.push(OpCode::Text, false, begin), Ok(None));
            // None of the four goes on with this byte, although three want two bytes or more.
            let wrong = if begin == b"\xe0" { b"\x80" } else { b"\xc0" };
            let joined = fragments.push(OpCode::Continuation, false, wrong);
            assert_eq!(joined, Err(Error::TextNotUtf8), "{begin:?}");
        }
    }

    #[test]
    fn binary_may_be_anything() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.push(OpCode::Binary, false, b"\xc3"), Ok(None));
        assert_eq!(fragments.len(), 1);
        let joined = fragments.push(OpCode::Continuation, true, b"\x28");
        assert_eq!(joined, Ok(Some(Joined::Binary)));
        assert_eq!(fragments.bytes_mut(), b"\xc3\x28");
    }

    #[test]
    fn a_message_handed_out_counts_for_nothing_and_is_forgotten() {
        let mut fragments = Fragments::default();
        fragments.push(OpCode::Text, false, b"abc").unwrap();
        fragments.release();
        assert_eq!(fragments.len(), 3);
        fragments.push(OpCode::Continuation, true, b"d").unwrap();
        assert_eq!(fragments.len(), 0);
        assert_eq!(fragments.bytes_mut(), b"abcd");
        fragments.release();
        assert_eq!(fragments.bytes.capacity(), 0);
    }
}
