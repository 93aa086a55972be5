//! Every way of cutting a connection's input, and of holding parts of it, gives the same events:
//! by example at every byte, and at random against the slow twin of [`Reader`](super::message).

use crate::seed::Seed;

use super::{
    Error,
    client::encode_masked,
    close,
    conversation::{Conversation, LIMIT, Said, frame, is_data, ping, read_cut, text},
    frame::{FrameHeader, OpCode},
    mask,
    message::DataFrames,
};

/// Every kind of frame, a message in fragments with control frames and half characters
/// between them, lengths of two forms, and what it all means.
fn sample() -> (Vec<u8>, Vec<Said>) {
    let long = "long".repeat(32);
    let input = [
        text("one"),
        frame(OpCode::Text, false, b"a\xf0\x9f"),
        ping("p1"),
        frame(OpCode::Continuation, false, b""),
        frame(OpCode::Continuation, false, b"\x99"),
        frame(OpCode::Pong, true, b""),
        frame(OpCode::Continuation, true, b"\x82z"),
        text(""),
        frame(OpCode::Binary, true, b"\xff\x00"),
        text(&long),
        frame(OpCode::Binary, false, b""),
        ping(""),
        frame(OpCode::Continuation, true, b"\x80"),
    ];
    let said = vec![
        Said::Text(b"one".to_vec()),
        Said::Ping(b"p1".to_vec()),
        Said::Pong(vec![]),
        Said::Text("a🙂z".as_bytes().to_vec()),
        Said::Text(vec![]),
        Said::Binary(b"\xff\x00".to_vec()),
        Said::Text(long.into_bytes()),
        Said::Ping(vec![]),
        Said::Binary(b"\x80".to_vec()),
    ];
    (input.concat(), said)
}

#[test]
fn every_cut_gives_the_same_events() {
    let (input, said) = sample();
    for first in 0..=input.len() {
        // A step that is prime to the lengths: all pairs would take seconds.
        for second in (first..=input.len()).step_by(7) {
            let mut conversation = Conversation::default();
            conversation.next(&input[..first]);
            conversation.next(&input[first..second]);
            conversation.next(&input[second..]);
            assert_eq!(conversation.said, said, "{first} {second}");
            assert!(conversation.reader.is_idle());
        }
    }
    for piece_bytes in 1..=input.len() {
        assert_eq!(read_cut(&input, piece_bytes), said, "{piece_bytes}");
    }
    assert_eq!(read_slowly(&input), said);
}

#[test]
fn a_hold_between_any_two_cuts_changes_no_order() {
    let (input, said) = sample();
    for first in 0..=input.len() {
        // A step that is prime to the lengths: all pairs would take seconds.
        for second in (first..=input.len()).step_by(7) {
            let mut conversation = Conversation::default();
            conversation.next(&input[..first]);
            let before = conversation.said.len();
            conversation.hold(&input[first..second]);
            assert!(!conversation.said[before..].iter().any(is_data));
            conversation.next(&input[second..]);
            assert_eq!(
                sorted(&conversation.said),
                sorted(&said),
                "{first} {second}"
            );
            assert!(conversation.reader.is_idle());
        }
    }
}

#[test]
fn random_conversations_are_read_alike_however_they_are_cut() {
    let mut random = Seed::new(4);
    let mut ends = [0; 3];
    for _ in 0..1000 {
        let input = random_input(&mut random);
        fuzz_reader(&input);
        let end = match read_slowly(&input).last() {
            Some(Said::Failed(_)) => 0,
            Some(Said::Close(_)) => 1,
            _ => 2,
        };
        ends[end] += 1;
    }
    assert!(
        ends.iter().all(|&count| count > 100),
        "one-sided inputs: {ends:?}"
    );
}

#[test]
fn random_bytes_are_read_alike_however_they_are_cut() {
    let mut random = Seed::new(5);
    for _ in 0..1000 {
        let count = random.below(60);
        fuzz_reader(&random.bytes(count));
    }
}

/// Mostly what a client might send: texts of several scripts, cut inside characters, and
/// control frames between; sometimes an illegal frame, a Close, or a byte changed.
fn random_input(random: &mut Seed) -> Vec<u8> {
    let letters = ["a", "é", "日", "🙂"];
    let mut out = Vec::new();
    let mut begun = false;
    let mut rest_of_character = Vec::new();
    for _ in 0..random.below(20) {
        let key = (random.next() as u32).to_ne_bytes();
        let start = if begun {
            OpCode::Continuation
        } else {
            OpCode::Text
        };
        let (opcode, fin) = match random.below(100) {
            0..20 => (OpCode::Ping, true),
            20..25 => (OpCode::Pong, true),
            25..28 => (OpCode::Close, true),
            28..30 => (OpCode::Continuation, false),
            30..35 if !begun => (OpCode::Binary, random.below(2) == 0),
            _ => (start, random.below(2) == 0),
        };
        let length = [0, 1, 5, 31, 32, 60, 110][random.below(7)];
        let mut payload = std::mem::take(&mut rest_of_character);
        if opcode == OpCode::Close {
            payload = vec![0x03, 0xe8];
        } else if opcode.is_control() {
            rest_of_character = payload;
            payload = random.bytes(length);
        } else {
            payload.extend((0..length).flat_map(|_| letters[random.below(4)].bytes()));
            if !fin {
                let cut = payload.len().saturating_sub(random.below(5));
                rest_of_character = payload.split_off(cut);
            }
            begun = !fin;
        }
        encode_masked(opcode, fin, key, &payload, &mut out);
    }
    if random.below(4) == 0 && !out.is_empty() {
        let at = random.below(out.len());
        out[at] = random.next() as u8;
    }
    out
}
fn read(input: &[u8]) -> Vec<Said> {
    let mut conversation = Conversation::default();
    conversation.next(input);
    conversation.said
}

/// Cuts, holds and resumes as `random` has it, also between two events of one input.
fn read_with_holds(input: &[u8], random: &mut Seed) -> Vec<Said> {
    let mut conversation = Conversation::default();
    let mut data_frames = DataFrames::HandOut;
    let mut rest = input.to_vec();
    while !rest.is_empty() {
        let piece_bytes = 1 + random.below(rest.len().min(100));
        let mut piece: Vec<u8> = rest.drain(..piece_bytes).collect();
        let mut at = 0;
        loop {
            match random.below(6) {
                0 => data_frames = DataFrames::Hold,
                1 | 2 => data_frames = DataFrames::HandOut,
                _ => {}
            }
            let (consumed, goes_on) = conversation.step(&mut piece[at..], data_frames);
            at += consumed;
            if !goes_on {
                break;
            }
        }
    }
    conversation.next(&[]);
    conversation.said
}

/// The slow twin of [`Reader`]: all input at once, everything copied, texts validated from
/// their first byte with each fragment.
fn read_slowly(input: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    if let Err(error) = try_read_slowly(input, &mut said) {
        said.push(Said::Failed(error));
    }
    said
}

fn try_read_slowly(mut rest: &[u8], said: &mut Vec<Said>) -> Result<(), Error> {
    let mut begun: Option<(OpCode, Vec<u8>)> = None;
    while let Some((header, header_bytes)) = FrameHeader::parse(rest)? {
        let key = header.mask.ok_or(Error::Unmasked)?;
        let begun_bytes = begun.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        if !header.opcode.is_control() {
            match (header.opcode == OpCode::Continuation, begun.is_some()) {
                (true, false) => return Err(Error::ContinuationWithoutStart),
                (false, true) => return Err(Error::StartWithinMessage),
                _ if begun_bytes + header.payload_bytes > LIMIT as u64 => {
                    return Err(Error::MessageTooBig);
                }
                _ => {}
            }
        }
        let end = header_bytes + header.payload_bytes as usize;
        if rest.len() < end {
            break;
        }
        let mut payload = rest[header_bytes..end].to_vec();
        mask::unmask_bytewise(&mut payload, key);
        rest = &rest[end..];
        match header.opcode {
            OpCode::Ping => said.push(Said::Ping(payload)),
            OpCode::Pong => said.push(Said::Pong(payload)),
            OpCode::Close => {
                let code = close::parse_close(&payload)?.map(|(code, _)| code);
                said.push(Said::Close(code));
                break;
            }
            OpCode::Continuation | OpCode::Text | OpCode::Binary => {
                let (kind, mut bytes) = begun.take().unwrap_or((header.opcode, Vec::new()));
                bytes.extend(payload);
                match str::from_utf8(&bytes) {
                    Err(error)
                        if kind == OpCode::Text && (header.fin || error.error_len().is_some()) =>
                    {
                        return Err(Error::TextNotUtf8);
                    }
                    _ if !header.fin => begun = Some((kind, bytes)),
                    _ if kind == OpCode::Text => said.push(Said::Text(bytes)),
                    _ => said.push(Said::Binary(bytes)),
                }
            }
        }
    }
    Ok(())
}

/// Whatever the bytes, every way of cutting them gives the events of the slow twin, and with
/// holds the same data in the same order.
fn fuzz_reader(data: &[u8]) {
    let expected = read_slowly(data);
    assert_eq!(read(data), expected);
    assert_eq!(read_cut(data, 1), expected);
    let seed = data
        .iter()
        .fold(0, |seed: u64, &byte| seed.rotate_left(5) ^ u64::from(byte));
    let mut random = Seed::new(seed);
    assert_eq!(read_cut(data, 1 + random.below(50)), expected);

    let with_holds = read_with_holds(data, &mut random);
    let (expected_data, expected_rest) = sorted(&expected);
    let (data, rest) = sorted(&with_holds);
    match expected.last() {
        // A Close and the errors that headers show overtake what is held, and end it.
        Some(Said::Close(_)) => {
            assert!(expected_data.starts_with(&data));
            assert_eq!(rest, expected_rest);
        }
        // A text that is held is found bad late: another end may have come first.
        Some(Said::Failed(_)) => {
            assert!(expected_data.starts_with(&data));
            let last = rest.last();
            assert!(
                matches!(last, Some(Said::Failed(_) | Said::Close(_))),
                "{last:?}"
            );
        }
        _ => assert_eq!((data, rest), (expected_data, expected_rest)),
    }
}

/// Data, then all else, each in its order: what a hold must not change.
fn sorted(said: &[Said]) -> (Vec<Said>, Vec<Said>) {
    said.iter().cloned().partition(is_data)
}
