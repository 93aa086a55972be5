//! What an event says of its publish: which it was and when it was due.
//!
//! It is found in a message without reading JSON: no name of ours has a `#`, and the server copies
//! the data as it is.

use std::time::Duration;

/// What an event says of its publish: `#`, its number and when it was due, in 16 digits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) due: Duration,
}

impl Stamp {
    const DIGITS: usize = 16;

    /// Data of `bytes` bytes, 33 at least.
    pub(crate) fn text(self, bytes: usize) -> String {
        let mut text = format!("#{:016x}{:016x}", self.number, self.due.as_nanos() as u64);
        let padding = bytes.saturating_sub(text.len());
        text.extend(std::iter::repeat_n('x', padding));
        text
    }

    /// Finds it in a message: no name of ours has a `#`.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let at = payload.iter().position(|&byte| byte == b'#')? + 1;
        let number = |at: usize| {
            let digits = std::str::from_utf8(payload.get(at..at + Self::DIGITS)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        Some(Self {
            number: number(at)?,
            due: Duration::from_nanos(number(at + Self::DIGITS)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_out_of_its_event() {
        let stamp = Stamp {
            number: 42,
            due: Duration::from_nanos(1_234_567),
        };
        let text = stamp.text(300);
        assert_eq!(text.len(), 300);
        let event = format!(r#"{{"event":"load","channel":"c","data":"{text}"}}"#);
        assert_eq!(Stamp::read(event.as_bytes()), Some(stamp));
        assert_eq!(Stamp::read(&event.as_bytes()[..70]), None);
        assert_eq!(Stamp::read(b"{}"), None);
    }
}
