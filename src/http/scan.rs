//! Whether a head that comes in pieces is whole, found out cheaply.
//!
//! A peer that sends its head byte by byte must cost one look at each byte, not a parse for each
//! byte. The scan decides only when to parse; what a head is, the parser alone decides.
//!
//! Invariant: where `Head::parse` finds the end of a head, the scan has asked it to look. The scan
//! may ask in vain (at most `EMPTY_LINES_BYTES_MAX` times, before the request line), never too late.

use super::{Error, Head, HeadLimits};

/// The memory of one head that is still coming. Empty between heads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes already looked at, in which the parser found no end. `0 <= scanned <= buf.len()`.
    scanned: usize,
}

impl HeadScan {
    /// `Head::parse`, with a memory. `buf` begins with the head's first byte; between calls that
    /// give `None` it may only grow. When a head is given the memory is empty again.
    pub fn parse<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &HeadLimits,
    ) -> Result<Option<(Head<'b>, usize)>, Error> {
        // The first piece is parsed whatever it is: mostly it is the whole head, and what is no
        // HTTP at all is refused at once instead of after the time-out.
        let worth = self.scanned == 0
            || buf.len() >= limits.head_bytes_max
            || ends_between(buf, self.scanned);
        self.scanned = buf.len();
        if !worth {
            return Ok(None);
        }
        let parsed = Head::parse(buf, limits)?;
        if parsed.is_some() {
            self.scanned = 0;
        }
        Ok(parsed)
    }
}

/// Whether a byte of `buf` from `from` on ends an empty line. Lines end with CR LF or LF alone, in
/// any mixture, because the parser takes them so: a scan for CR LF CR LF would let `\n\r\n` hang.
fn ends_between(buf: &[u8], from: usize) -> bool {
    (from..buf.len()).any(|at| {
        let before = &buf[..at];
        buf[at] == b'\n' && (before.ends_with(b"\n") || before.ends_with(b"\n\r"))
    })
}

/// Byte by byte must end as the whole does: with the same head, or a refusal, or neither.
#[cfg(test)]
pub fn fuzz_scan(data: &[u8]) {
    let limits = HeadLimits::default();
    let mut scan = HeadScan::default();
    let pieces = (1..=data.len()).find_map(|end| match scan.parse(&data[..end], &limits) {
        Ok(None) => None,
        Ok(Some((_, length))) => Some(Ok((end, length))),
        Err(error) => Some(Err(error)),
    });
    match Head::parse(data, &limits) {
        Ok(Some((_, length))) => assert_eq!(pieces, Some(Ok((length, length)))),
        Ok(None) => assert_eq!(pieces, None),
        // A fault behind the first piece is seen when the head has ended, or by the time-out.
        Err(_) => assert!(!matches!(pieces, Some(Ok(_)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// Heads with every kind of line end, and what surrounds heads.
    const HEADS: [&str; 9] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
        "\n\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    ];

    /// Feeds the pieces and gives the length of the buffer at which a head or an error came.
    fn feed(input: &[u8], cuts: impl Iterator<Item = usize>) -> (usize, Result<bool, Error>) {
        let mut scan = HeadScan::default();
        for cut in cuts.chain([input.len()]) {
            match scan.parse(&input[..cut], &HeadLimits::default()) {
                Ok(None) => {}
                Ok(Some(_)) => return (cut, Ok(true)),
                Err(error) => return (cut, Err(error)),
            }
        }
        (input.len(), Ok(false))
    }

    #[test]
    fn the_scan_finds_the_end_at_the_very_byte_at_which_the_parser_does() {
        for head in HEADS {
            let head = head.as_bytes();
            let limits = HeadLimits::default();
            let end = (0..=head.len())
                .find(|&end| Head::parse(&head[..end], &limits).is_ok_and(|found| found.is_some()));
            assert_eq!(
                feed(head, 1..head.len()),
                (end.expect("a whole head"), Ok(true))
            );
        }
    }

    #[test]
    fn a_cut_anywhere_changes_nothing() {
        for head in HEADS {
            let head = head.as_bytes();
            for cut in 1..head.len() {
                assert_eq!(feed(head, [cut].into_iter()).1, Ok(true), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_http_is_refused_at_its_first_piece() {
        let tls_client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        let mut scan = HeadScan::default();
        let parsed = scan.parse(tls_client_hello, &HeadLimits::default());
        assert_eq!(parsed.err(), Some(Error::RequestLine));
    }

    #[test]
    fn a_head_that_never_ends_is_refused_at_the_limit() {
        let limits = HeadLimits {
            head_bytes_max: 100,
            ..HeadLimits::default()
        };
        let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
        head.resize(100, b'x');
        let mut scan = HeadScan::default();
        for end in 1..100 {
            assert!(
                scan.parse(&head[..end], &limits)
                    .is_ok_and(|found| found.is_none())
            );
        }
        let too_large = Error::HeadTooLarge { bytes_max: 100 };
        assert_eq!(scan.parse(&head, &limits).err(), Some(too_large));
    }

    #[test]
    fn the_memory_is_empty_after_a_head() {
        let mut scan = HeadScan::default();
        let head = HEADS[0].as_bytes();
        assert!(
            scan.parse(&head[..5], &HeadLimits::default())
                .is_ok_and(|found| found.is_none())
        );
        assert_ne!(scan, HeadScan::default());
        assert!(
            scan.parse(head, &HeadLimits::default())
                .is_ok_and(|found| found.is_some())
        );
        assert_eq!(scan, HeadScan::default());
    }

    #[test]
    fn mutated_heads_end_alike_whole_and_in_pieces() {
        let mut seed = Seed::new(1);
        for _ in 0..20_000 {
            let mut head = HEADS[seed.below(HEADS.len())].as_bytes().to_vec();
            seed.mutate(&mut head, b"\r\n\r\n :/GXa0\t\0\xff");
            fuzz_scan(&head);
        }
    }
}
