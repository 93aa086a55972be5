//! What does a delta cost, once per publish, and what does it save on the wire?
//!
//! Three streams that are made here: price ticks with the top of an order book, a JSON document
//! edited in place, and the telemetry of a machine. One call encodes one message against the one
//! before. The slow twin is an encoder made anew for each message.
//!
//! What is saved goes to the standard error: bytes of WebSocket frames, headers included, with every
//! eleventh message in full (`delta_full_interval`), against the same messages without deltas.

mod measure;

use std::collections::HashMap;
use std::hint::black_box;

use shardcast::pusher::delta::{Algorithm, Encoder};
use shardcast::pusher::json::StringSource;
use shardcast::pusher::outbound::{self, DeltaEvent, write_text_frame};

const MESSAGES: usize = 500;
/// Deltas between two full messages.
const FULL_INTERVAL: usize = 10;

fn main() {
    let random = || Random(9);
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

/// A price, ten levels of the order book on both sides, and the figures of the day. A level keeps its
/// size until somebody trades there; the price moves a step now and then.
fn ticks(random: &mut Random) -> Vec<String> {
    // Prices in steps of 10 cents.
    let mut last = 640_125;
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    let mut volume = 1_234_567_890;
    (0..MESSAGES)
        .map(|nth| {
            match random.below(8) {
                0 => last += 1,
                1 => last -= 1,
                _ => {}
            }
            for _ in 0..1 + random.below(3) {
                let level = last - 10 + random.below(20);
                sizes.insert(level, random.below(90_000));
            }
            volume += random.below(5_000);
            let fixed = |number: usize| format!("{}.{:02}", number / 100, number % 100);
            let mut side = |levels: Vec<usize>| {
                let shown = levels.into_iter().map(|level| {
                    let size = sizes.entry(level).or_insert_with(|| random.below(90_000));
                    format!("[\"{}\",\"{}\"]", fixed(10 * level), fixed(*size))
                });
                shown.collect::<Vec<_>>().join(",")
            };
            let bids = side((last - 9..=last).rev().collect());
            let asks = side((last + 1..=last + 10).collect());
            format!(
                "{{\"symbol\":\"BTC-EUR\",\"venue\":\"spot\",\"time\":{},\"last\":\"{}\",\
                 \"bids\":[{bids}],\"asks\":[{asks}],\"open\":\"63100.00\",\
                 \"high\":\"65000.00\",\"low\":\"62900.00\",\"volume\":\"{}\"}}",
                1_764_100_000_000 + 250 * nth,
                fixed(10 * last),
                fixed(volume),
            )
        })
        .collect()
}

/// Sixty rows; each save changes some values, and now and then a row comes or goes.
fn document(random: &mut Random) -> Vec<String> {
    let words = ["draft", "in review", "accepted", "rejected", "archived"];
    let row = |random: &mut Random| (random.below(100_000), random.below(5), random.below(10_000));
    let mut rows: Vec<_> = (0..60).map(|_| row(random)).collect();
    (0..MESSAGES)
        .map(|revision| {
            for _ in 0..1 + random.below(4) {
                let at = random.below(rows.len());
                rows[at].1 = random.below(5);
                rows[at].2 = random.below(10_000);
            }
            match random.below(8) {
                0 => {
                    let (at, row) = (random.below(rows.len()), row(random));
                    rows.insert(at, row);
                }
                1 => drop(rows.remove(random.below(rows.len()))),
                _ => {}
            }
            let rows = rows.iter().map(|(id, state, cents)| {
                format!(
                    "{{\"id\":{id},\"title\":\"Invoice {id}\",\"state\":\"{}\",\
                     \"amount\":{}.{:02},\"assignee\":null}}",
                    words[*state],
                    cents / 100,
                    cents % 100
                )
            });
            let rows: Vec<_> = rows.collect();
            format!("{{\"revision\":{revision},\"rows\":[{}]}}", rows.join(","))
        })
        .collect()
}

/// Forty gauges of a machine, a third of which have moved.
fn telemetry(random: &mut Random) -> Vec<String> {
    let mut gauges: Vec<usize> = (0..40).map(|_| random.below(100_000)).collect();
    (0..MESSAGES)
        .map(|nth| {
            for gauge in &mut gauges {
                if random.below(3) == 0 {
                    *gauge = (*gauge + random.below(200)).saturating_sub(100);
                }
            }
            let shown = gauges.iter().enumerate().map(|(id, gauge)| {
                format!(
                    "\"axis-{id}.temperature\":{}.{:03}",
                    gauge / 1000,
                    gauge % 1000
                )
            });
            let shown: Vec<_> = shown.collect();
            let time = 1_764_100_000 + nth;
            format!(
                "{{\"machine\":\"press-7\",\"time\":{time},\"gauges\":{{{}}}}}",
                shown.join(",")
            )
        })
        .collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
