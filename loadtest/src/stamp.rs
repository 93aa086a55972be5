//! What an event says of itself: whose it is, which one, and when it was due.
//!
//! It is found in a message without reading JSON: no name of ours has a `#`, and the server copies
//! the data as it is. All processes of a run share the clock, so that any of them can say how old
//! an event is.

use crate::clock::Nanos;

/// `#` and four numbers of fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Of which run it is: two at once against one server get each other's events.
    pub(crate) run: u8,
    /// What the numbers belong to: a channel, or the sender of a client event. Below 2^24.
    pub(crate) stream: u32,
    /// Counts from 0.
    pub(crate) number: u64,
    /// When it should have been sent.
    pub(crate) due: Nanos,
}

/// The shortest data that has room for a stamp.
pub(crate) const BYTES: usize = 1 + RUN + STREAM + NUMBER + DUE;
const RUN: usize = 2;
const STREAM: usize = 6;
const NUMBER: usize = 12;
const DUE: usize = 16;

impl Stamp {
    /// Data of `bytes` bytes, [`BYTES`] at least.
    pub(crate) fn text(self, bytes: usize) -> String {
        let Self {
            run,
            stream,
            number,
            due,
        } = self;
        let mut text = format!("#{run:02x}{stream:06x}{number:012x}{due:016x}");
        let padding = bytes.saturating_sub(text.len());
        text.extend(std::iter::repeat_n('x', padding));
        text
    }

    /// Finds it in a message.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let at = memchr::memchr(b'#', payload)? + 1;
        let digits = payload.get(at..at + BYTES - 1)?;
        let (run, rest) = digits.split_at(RUN);
        let (stream, rest) = rest.split_at(STREAM);
        let (number, due) = rest.split_at(NUMBER);
        Some(Self {
            run: hex(run)? as u8,
            stream: hex(stream)? as u32,
            number: hex(number)?,
            due: hex(due)?,
        })
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_out_of_its_event() {
        let stamp = Stamp {
            run: 0xa5,
            stream: 7,
            number: 42,
            due: 1_234_567,
        };
        let text = stamp.text(300);
        assert_eq!(text.len(), 300);
        assert_eq!(stamp.text(0).len(), BYTES);
        let event = format!(r#"{{"event":"load","channel":"c","data":"{text}"}}"#);
        assert_eq!(Stamp::read(event.as_bytes()), Some(stamp));
        for cut in [70, event.len() - 300, 40, 0] {
            assert_eq!(Stamp::read(&event.as_bytes()[..cut]), None, "{cut}");
        }
        assert_eq!(Stamp::read(b"{}"), None);
        assert_eq!(Stamp::read(event.replace('#', "#g").as_bytes()), None);
    }
}
