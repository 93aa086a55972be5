//! Close frames (RFC 6455 sections 5.5.1 and 7.4): their body, and which codes may be in it.
//!
//! What a Pusher client does about a code is not known here (`pusher::error`). Codes 1005, 1006
//! and 1015 stand for the absence of a code and are never on the wire, in either direction.

use super::{
    Error,
    frame::{self, CONTROL_PAYLOAD_BYTES_MAX, OpCode},
};

/// The longest reason: a control payload less the code.
pub const REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// The code that answers a Close without one.
pub const NORMAL: u16 = 1000;

/// Appends a whole Close frame of the server. A reason above [`REASON_BYTES_MAX`] is cut at the
/// last character that fits; with a code that must not be sent the body is empty.
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    if !may_be_sent(code) {
        frame::encode_header(OpCode::Close, true, 0, out);
        return;
    }
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    frame::encode_header(OpCode::Close, true, 2 + reason.len(), out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The code and reason in the unmasked payload of a Close frame; `None` if it is empty.
pub fn parse_close(payload: &[u8]) -> Result<Option<(u16, &str)>, Error> {
    let Some((&code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Error::CloseBodyOfOneByte),
        };
    };
    let code = u16::from_be_bytes(code);
    if !may_be_sent(code) {
        return Err(Error::CloseCodeNotAllowed);
    }
    let reason = str::from_utf8(reason).map_err(|_| Error::CloseReasonNotUtf8)?;
    Ok(Some((code, reason)))
}

/// The code to answer a peer's Close with: its own, or [`NORMAL`] if it gave none
/// (WebSocket spec 5.3).
pub fn echo(code: Option<u16>) -> u16 {
    code.unwrap_or(NORMAL)
}

/// Whether either side may put `code` into a Close frame (WebSocket spec 3.1).
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// What is accepted comes back from the encoder, and the verdict is that of the tables.
    fn fuzz_close(data: &[u8]) {
        match parse_close(data) {
            Ok(Some((code, reason))) => {
                assert!(is_allowed(code));
                if reason.len() <= REASON_BYTES_MAX {
                    assert_eq!(encoded(code, reason)[2..], *data);
                }
            }
            Ok(None) => assert!(data.is_empty()),
            Err(Error::CloseBodyOfOneByte) => assert_eq!(data.len(), 1),
            Err(Error::CloseCodeNotAllowed) => {
                assert!(!is_allowed(u16::from_be_bytes([data[0], data[1]])));
            }
            Err(error) => {
                assert_eq!(error, Error::CloseReasonNotUtf8);
                assert!(str::from_utf8(&data[2..]).is_err());
            }
        }
    }

    #[test]
    fn random_bodies_are_judged_by_the_tables() {
        let mut random = Seed::new(6);
        for _ in 0..20_000 {
            let count = random.below(8);
            let mut body = random.bytes(count);
            if let Some(high) = body.first_mut() {
                *high %= 32;
            }
            fuzz_close(&body);
        }
    }

    fn encoded(code: u16, reason: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode_close(code, reason, &mut out);
        out
    }

    /// The ranges of RFC 6455 section 7.4 and the registry, one by one.
    fn is_allowed(code: u16) -> bool {
        match code {
            0..=999 => false,
            1000..=1003 => true,
            1004..=1006 => false,
            1007..=1014 => true,
            1015..=2999 => false,
            3000..=4999 => true,
            5000.. => false,
        }
    }

    #[test]
    fn every_code_is_accepted_from_a_peer_exactly_if_it_may_be_sent() {
        for code in 0..=u16::MAX {
            let payload = [&code.to_be_bytes()[..], b"why"].concat();
            let expected = match is_allowed(code) {
                true => Ok(Some((code, "why"))),
                false => Err(Error::CloseCodeNotAllowed),
            };
            assert_eq!(parse_close(&payload), expected, "{code}");
        }
    }

    #[test]
    fn close_code_1005_is_never_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
            assert_eq!(encoded(code, "why"), [0x88, 0], "{code}");
        }
    }

    #[test]
    fn a_body_is_empty_or_begins_with_a_whole_code() {
        assert_eq!(parse_close(b""), Ok(None));
        assert_eq!(parse_close(b"\x03"), Err(Error::CloseBodyOfOneByte));
        assert_eq!(parse_close(b"\x03\xe8"), Ok(Some((1000, ""))));
    }

    #[test]
    fn a_reason_must_be_utf8() {
        assert_eq!(parse_close(b"\x03\xe8\xc3\xa9"), Ok(Some((1000, "é"))));
        assert_eq!(parse_close(b"\x03\xe8\xc3"), Err(Error::CloseReasonNotUtf8));
        assert_eq!(
            parse_close(b"\x03\xe8\xc3\x28"),
            Err(Error::CloseReasonNotUtf8)
        );
        // A wrong code is the graver mistake.
        assert_eq!(
            parse_close(b"\x03\xed\xc3"),
            Err(Error::CloseCodeNotAllowed)
        );
    }

    #[test]
    fn a_close_frame_is_header_code_and_reason() {
        assert_eq!(encoded(4200, "bye"), b"\x88\x05\x10\x68bye");
        assert_eq!(encoded(1000, ""), b"\x88\x02\x03\xe8");
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let table = [
            ("a".repeat(123), 123),
            ("a".repeat(124), 123),
            ("a".repeat(5000), 123),
            ("é".repeat(62), 122),
            (format!("a{}", "é".repeat(62)), 123),
            ("🙂".repeat(31), 120),
            (format!("abc{}", "🙂".repeat(31)), 123),
        ];
        for (reason, kept) in table {
            let frame = encoded(1001, &reason);
            assert_eq!(frame[..2], [0x88, 2 + kept as u8]);
            assert_eq!(parse_close(&frame[2..]), Ok(Some((1001, &reason[..kept]))));
        }
    }

    #[test]
    fn the_answer_repeats_the_code_or_is_1000() {
        assert_eq!(echo(Some(4001)), 4001);
        assert_eq!(echo(None), 1000);
    }

    #[test]
    fn every_error_has_a_code_and_reason_that_fit_a_close_frame() {
        let all = [
            (Error::ReservedBits, 1002),
            (Error::ReservedOpcode, 1002),
            (Error::FragmentedControl, 1002),
            (Error::ControlTooLong, 1002),
            (Error::LengthNotShortest, 1002),
            (Error::LengthTooLarge, 1002),
            (Error::Unmasked, 1002),
            (Error::ContinuationWithoutStart, 1002),
            (Error::StartWithinMessage, 1002),
            (Error::TextNotUtf8, 1007),
            (Error::MessageTooBig, 1009),
            (Error::CloseBodyOfOneByte, 1002),
            (Error::CloseCodeNotAllowed, 1002),
            (Error::CloseReasonNotUtf8, 1007),
        ];
        for (error, code) in all {
            assert_eq!(error.close_code(), code, "{error:?}");
            let frame = encoded(error.close_code(), error.reason());
            assert_eq!(parse_close(&frame[2..]), Ok(Some((code, error.reason()))));
        }
    }
}
