//! What does it cost to read one frame, from the bytes of a receive to a text that is unmasked and
//! known to be UTF-8? One call reads a receive of 16 frames, and the figures are for all 16.
//!
//! The slow twin reads the same headers, copies each payload, unmasks it byte by byte and
//! validates it with the standard library. Frames cut by the end of a receive and frames that are
//! held are measured against whole ones, which do without their copies.

mod measure;

use std::hint::black_box;

use shardcast::ws::{
    client::encode_masked,
    frame::{FrameHeader, OpCode},
    mask::unmask_bytewise,
    message::{Event, Reader},
};

const FRAMES: usize = 16;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fn main() {
    for payload_bytes in [33, 300, 4096] {
        let run = run(payload_bytes);
        let frame_bytes = run.len() / FRAMES;
        let (mut whole, mut cut, mut held) = (run.clone(), run.clone(), run.clone());
        measure::compare(
            &format!("{FRAMES} of {frame_bytes} B, whole"),
            run.len(),
            || assert_eq!(read(&mut Reader::default(), &mut whole), FRAMES),
            || assert_eq!(read_slowly(&run), FRAMES),
        );
        measure::compare(
            &format!("{FRAMES} of {frame_bytes} B, cut in every frame"),
            run.len(),
            || assert_eq!(read_cut(&mut cut, frame_bytes), FRAMES),
            || assert_eq!(read_slowly(&run), FRAMES),
        );
        measure::compare(
            &format!("{FRAMES} of {frame_bytes} B, held, then taken up"),
            run.len(),
            || assert_eq!(read_held(&mut held), FRAMES),
            || assert_eq!(read_slowly(&run), FRAMES),
        );
    }
}

/// The key is zero, so that unmasking costs what it costs and the bytes stay as they are.
fn run(payload_bytes: usize) -> Vec<u8> {
    let payload = vec![b'x'; payload_bytes];
    let mut run = Vec::new();
    for _ in 0..FRAMES {
        encode_masked(OpCode::Text, true, [0; 4], &payload, &mut run);
    }
    run
}

fn read(reader: &mut Reader, input: &mut [u8]) -> usize {
    let mut texts = 0;
    let mut at = 0;
    loop {
        let step = reader
            .next(black_box(&mut input[at..]), MESSAGE_BYTES_MAX)
            .expect("legal");
        at += step.consumed;
        match step.event {
            Some(Event::Text(text)) => {
                black_box(text);
                texts += 1;
            }
            Some(_) => unreachable!("only texts were sent"),
            None => return texts,
        }
    }
}

/// Each receive ends in the middle of a frame.
fn read_cut(input: &mut [u8], frame_bytes: usize) -> usize {
    let mut reader = Reader::default();
    let (first, rest) = input.split_at_mut(frame_bytes / 2);
    read(&mut reader, first)
        + rest
            .chunks_mut(frame_bytes)
            .map(|piece| read(&mut reader, piece))
            .sum::<usize>()
}

fn read_held(input: &mut [u8]) -> usize {
    let mut reader = Reader::default();
    let step = reader
        .hold(black_box(input), MESSAGE_BYTES_MAX)
        .expect("legal");
    assert_eq!(step.event, None);
    read(&mut reader, &mut [])
}

fn read_slowly(mut input: &[u8]) -> usize {
    let mut texts = 0;
    while let Ok(Some((header, header_bytes))) = FrameHeader::parse(black_box(input)) {
        let end = header_bytes + header.payload_bytes as usize;
        let mut payload = input[header_bytes..end].to_vec();
        unmask_bytewise(&mut payload, header.mask.expect("masked"));
        black_box(String::from_utf8(payload).expect("legal"));
        texts += 1;
        input = &input[end..];
    }
    texts
}
