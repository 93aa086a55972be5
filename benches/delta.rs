//! What does a delta cost, once per publish, and what does it save on the wire?
//!
//! Three streams: price ticks with the top of an order book, a JSON document edited in place, and
//! the telemetry of a machine. One call encodes one message against the one before. The slow twin is
//! an encoder made anew for each message.
//!
//! What is saved goes to the standard error: bytes of WebSocket frames, headers included, with every
//! eleventh message in full (`delta_full_interval`), against the same messages without deltas.

mod measure;
mod streams;

use std::hint::black_box;

use shardcast::pusher::delta::{Algorithm, Encoder};
use shardcast::pusher::json::StringSource;
use shardcast::pusher::outbound::{self, DeltaEvent, write_text_frame};
use streams::{MESSAGES, Seed, document, telemetry, ticks};

/// Deltas between two full messages.
const FULL_INTERVAL: usize = 10;

fn main() {
    let random = || Seed::new(9);
    for (name, stream) in [
        ("ticks", ticks(&mut random())),
        ("document", document(&mut random())),
        ("telemetry", telemetry(&mut random())),
    ] {
        let frames: Vec<Vec<u8>> = stream.iter().map(|data| event(data)).collect();
        for algorithm in Algorithm::ALL {
            let label = format!("{name}, {}", algorithm.name());
            let mut encoder = Encoder::default();
            let (mut out, mut nth) = (Vec::new(), 0);
            let (mut slow_out, mut slow_nth) = (Vec::new(), 0);
            measure::compare_each(
                &label,
                1,
                "message",
                || {
                    nth = nth % (MESSAGES - 1) + 1;
                    encode(&mut encoder, algorithm, &frames, nth, &mut out);
                    black_box(&out);
                },
                || {
                    slow_nth = slow_nth % (MESSAGES - 1) + 1;
                    let mut encoder = Encoder::default();
                    encode(&mut encoder, algorithm, &frames, slow_nth, &mut slow_out);
                    black_box(&slow_out);
                },
            );
            show_saved(&label, algorithm, &frames);
        }
    }
}

fn encode(
    encoder: &mut Encoder,
    algorithm: Algorithm,
    frames: &[Vec<u8>],
    nth: usize,
    out: &mut Vec<u8>,
) {
    out.clear();
    let (base, target) = (&frames[nth - 1], &frames[nth]);
    if let Some(mut difference) = encoder.compare(base, target, target.len()) {
        difference.write(algorithm, out);
    }
}

fn show_saved(label: &str, algorithm: Algorithm, frames: &[Vec<u8>]) {
    let mut encoder = Encoder::default();
    let (mut plain, mut sent, mut delta) = (0, 0, Vec::new());
    for nth in 1..frames.len() {
        let full = wire(|out| outbound::event_in_stream(out, &frames[nth], nth as u64, None));
        encode(&mut encoder, algorithm, frames, nth, &mut delta);
        let event = DeltaEvent {
            name: StringSource::Text("update"),
            channel: "stream",
            delta: &delta,
            seq: nth as u64,
            base: nth as u64 - 1,
            algorithm,
            conflation_key: None,
        };
        let short = wire(|out| outbound::delta(out, &event));
        plain += wire(|out| out.extend_from_slice(&frames[nth]));
        sent += match nth % (FULL_INTERVAL + 1) == 0 || delta.is_empty() {
            true => full,
            false => short.min(full),
        };
    }
    eprintln!(
        "{label:<34} {:>6} B a message, {:>6} B sent, {:>5.1} % saved",
        plain / (frames.len() - 1),
        sent / (frames.len() - 1),
        100.0 - 100.0 * sent as f64 / plain as f64
    );
}

/// Bytes of the frame around a text.
fn wire(write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let mut out = Vec::new();
    write_text_frame(&mut out, write);
    out.len()
}

fn event(data: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let name = StringSource::Text("update");
    outbound::event(&mut out, name, "stream", StringSource::Text(data), None);
    out
}
