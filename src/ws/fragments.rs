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
