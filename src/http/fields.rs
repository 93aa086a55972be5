//! What the fields of a head say that a server must know before it reads on (RFC 9112 6 and 9).
//!
//! Framing first: a head about whose end of body two readers could differ is refused, never
//! guessed at. Fields that only one endpoint cares about are left to `Head::header`.
//!
//! Invariant: of `Content-Length` and `Transfer-Encoding` one is believed, and only without the
//! other.

use super::{Error, Version};

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    None,
    /// `Content-Length`, in bytes. A number beyond 64 bits counts as the largest of them.
    Length(u64),
    Chunked,
}

impl BodyLength {
    /// Refuses what the head alone announces to be over `bytes_max`. Exactly the limit passes.
    pub fn check(self, bytes_max: u64) -> Result<(), Error> {
        match self {
            Self::Length(length) if length > bytes_max => Err(Error::BodyTooLarge { bytes_max }),
            _ => Ok(()),
        }
    }
}

/// What every head must be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) body: BodyLength,
    /// `Connection: close`.
    pub(super) close: bool,
    pub(super) expect_continue: bool,
    /// There is an `Authorization`, and it is worth looking for.
    pub(super) authorization: bool,
    /// There is an `X-Idempotency-Key`, likewise.
    pub(super) idempotency_key: bool,
    /// `Upgrade: websocket` and `Connection: upgrade`.
    pub(super) websocket: bool,
}

impl Known {
    /// Reads the fields of a head of `version`.
    pub(super) fn collect(
        headers: &[httparse::Header<'_>],
        version: Version,
    ) -> Result<Self, Error> {
        let mut hosts = 0;
        let mut content_length = None;
        let mut chunked = false;
        let mut close = false;
        let mut expect_continue = false;
        let (mut authorization, mut idempotency_key) = (false, false);
        let (mut upgrade, mut websocket) = (false, false);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // The length first: most fields of a request are none of these.
            match header.name.len() {
                4 if is("Host") => hosts += 1,
                6 if is("Expect") => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Error::Expect);
                    }
                    expect_continue = true;
                }
                7 if is("Upgrade") => websocket |= list_has(header.value, "websocket"),
                10 if is("Connection") => {
                    close |= list_has(header.value, "close");
                    upgrade |= list_has(header.value, "upgrade");
                }
                13 if is("Authorization") => authorization = true,
                14 if is("Content-Length") => {
                    let length = parse_length(header.value).ok_or(Error::ContentLength)?;
                    if content_length.is_some_and(|other| other != length) {
                        return Err(Error::ContentLength);
                    }
                    content_length = Some(length);
                }
                17 if is("Transfer-Encoding") => {
                    // `chunked` twice is as unknown an encoding as any other (RFC 9112 7.1).
                    if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Error::TransferEncoding);
                    }
                    chunked = true;
                }
                17 if is("X-Idempotency-Key") => idempotency_key = true,
                _ => {}
            }
        }
        let http11 = version == Version::Http11;
        if hosts > 1 || (http11 && hosts == 0) {
            return Err(Error::Host);
        }
        let body = match (content_length, chunked) {
            (None, false) => BodyLength::None,
            (Some(length), false) => BodyLength::Length(length),
            (None, true) if http11 => BodyLength::Chunked,
            (_, true) => return Err(Error::TransferEncodingConflict),
        };
        Ok(Self {
            body,
            close,
            expect_continue,
            authorization,
            idempotency_key,
            websocket: upgrade && websocket,
        })
    }
}

/// All digits or nothing. Beyond 64 bits is the largest number there is: too large, not malformed.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        value
            .iter()
            .map(|digit| u64::from(digit - b'0'))
            .fold(0u64, |sum, digit| {
                sum.saturating_mul(10).saturating_add(digit)
            }),
    )
}

/// Whether `token` is a member of the comma-separated list `value`, in any case (RFC 9110 5.6.1).
pub fn list_has(value: &[u8], token: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(fields: &[(&str, &str)]) -> Result<Known, Error> {
        let host = [("Host", "a")];
        let headers: Vec<_> = host
            .iter()
            .chain(fields)
            .map(|(name, value)| httparse::Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        Known::collect(&headers, Version::Http11)
    }

    type Row = (
        &'static [(&'static str, &'static str)],
        Result<BodyLength, Error>,
    );

    #[test]
    fn the_body_ends_where_one_field_says() {
        let table: [Row; 16] = [
            (&[], Ok(BodyLength::None)),
            (&[("Content-Length", "0")], Ok(BodyLength::Length(0))),
            (&[("CONTENT-LENGTH", "68")], Ok(BodyLength::Length(68))),
            (&[("content-length", "007")], Ok(BodyLength::Length(7))),
            (
                &[("Content-Length", "18446744073709551616")],
                Ok(BodyLength::Length(u64::MAX)),
            ),
            (
                &[("Content-Length", "7"), ("Content-Length", "7")],
                Ok(BodyLength::Length(7)),
            ),
            (
                &[("Content-Length", "7"), ("Content-Length", "8")],
                Err(Error::ContentLength),
            ),
            (&[("Content-Length", "7, 7")], Err(Error::ContentLength)),
            (&[("Content-Length", "+7")], Err(Error::ContentLength)),
            (&[("Content-Length", "-0")], Err(Error::ContentLength)),
            (&[("Content-Length", "0x7")], Err(Error::ContentLength)),
            (&[("Content-Length", "")], Err(Error::ContentLength)),
            (&[("Transfer-Encoding", "Chunked")], Ok(BodyLength::Chunked)),
            (
                &[("Transfer-Encoding", "gzip, chunked")],
                Err(Error::TransferEncoding),
            ),
            (
                &[
                    ("Transfer-Encoding", "chunked"),
                    ("Transfer-Encoding", "chunked"),
                ],
                Err(Error::TransferEncoding),
            ),
            (
                &[("Content-Length", "7"), ("Transfer-Encoding", "chunked")],
                Err(Error::TransferEncodingConflict),
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(
                known(fields).map(|known| known.body),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn upgrade_and_connection_are_token_lists_in_any_case() {
        let table = [
            (
                vec![("Upgrade", "websocket"), ("Connection", "Upgrade")],
                true,
            ),
            (
                vec![
                    ("upgrade", "WebSocket"),
                    ("connection", "keep-alive, upgrade"),
                ],
                true,
            ),
            (
                vec![
                    ("Upgrade", "h2c , websocket"),
                    ("Connection", "a"),
                    ("Connection", "UPGRADE"),
                ],
                true,
            ),
            (
                vec![("Upgrade", "websocket"), ("Connection", "keep-alive")],
                false,
            ),
            (
                vec![("Upgrade", "websockets"), ("Connection", "upgrade")],
                false,
            ),
            (vec![("Connection", "upgrade")], false),
        ];
        for (fields, expected) in table {
            let known = known(&fields).expect("a lawful head");
            assert_eq!(known.websocket, expected, "{fields:?}");
        }
    }

    #[test]
    fn connection_close_counts_wherever_it_stands() {
        for value in ["close", "Close", "keep-alive, CLOSE", "close,,"] {
            assert!(
                known(&[("Connection", value)]).is_ok_and(|known| known.close),
                "{value}"
            );
        }
        for value in ["keep-alive", "closed", ""] {
            assert!(
                known(&[("Connection", value)]).is_ok_and(|known| !known.close),
                "{value}"
            );
        }
    }

    #[test]
    fn only_100_continue_may_be_expected() {
        let expects = |value| known(&[("Expect", value)]).map(|known| known.expect_continue);
        assert_eq!(expects("100-Continue"), Ok(true));
        assert_eq!(expects("200-ok"), Err(Error::Expect));
        assert_eq!(expects("100-continue, x"), Err(Error::Expect));
        assert_eq!(expects(""), Err(Error::Expect));
    }

    #[test]
    fn http_1_1_names_one_host_and_http_1_0_at_most_one() {
        let host = httparse::Header {
            name: "host",
            value: b"",
        };
        let hosts = [host; 2];
        let collect = |count: usize, version| Known::collect(&hosts[..count], version).err();
        assert_eq!(collect(0, Version::Http11), Some(Error::Host));
        assert_eq!(collect(1, Version::Http11), None);
        assert_eq!(collect(2, Version::Http11), Some(Error::Host));
        assert_eq!(collect(0, Version::Http10), None);
        assert_eq!(collect(2, Version::Http10), Some(Error::Host));
    }

    #[test]
    fn a_chunked_body_of_http_1_0_is_refused() {
        let chunked = httparse::Header {
            name: "Transfer-Encoding",
            value: b"chunked",
        };
        let refused = Known::collect(&[chunked], Version::Http10).err();
        assert_eq!(refused, Some(Error::TransferEncodingConflict));
    }

    #[test]
    fn exactly_the_limit_passes() {
        assert_eq!(BodyLength::Length(10).check(10), Ok(()));
        let too_large = Err(Error::BodyTooLarge { bytes_max: 10 });
        assert_eq!(BodyLength::Length(11).check(10), too_large);
        assert_eq!(BodyLength::Length(u64::MAX).check(10), too_large);
        assert_eq!(BodyLength::Chunked.check(0), Ok(()));
    }
}
