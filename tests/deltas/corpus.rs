//! Deltas for the decoders that clients use: a JSON object a line, with base, target and both deltas
//! in base64. `tests/clients/extensions/decoders.test.js` applies them.
//!
//! The pairs are what streams are made of: ticks, an edited document, telemetry, and texts that have
//! little or nothing in common. One seed, so that a failure can be repeated.

#[allow(dead_code)] // It has more than is needed here.
#[path = "../../src/seed.rs"]
mod seed;

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seed::Seed;
use shardcast::pusher::delta::{Algorithm, Encoder};

fn main() -> io::Result<()> {
    let mut random = Seed::new(4);
    let mut encoder = Encoder::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for round in 0..2_000 {
        let (base, target) = pair(&mut random, round);
        let mut difference = encoder
            .compare(base.as_bytes(), target.as_bytes(), usize::MAX)
            .expect("without a bound there is a delta");
        write!(out, "{{")?;
        for algorithm in Algorithm::ALL {
            let mut delta = Vec::new();
            assert!(difference.write(algorithm, &mut delta));
            let delta = STANDARD.encode(delta);
            write!(out, "\"{}\":\"{delta}\",", algorithm.name())?;
        }
        let [base, target] = [base, target].map(|text| STANDARD.encode(text));
        writeln!(out, "\"base\":\"{base}\",\"target\":\"{target}\"}}")?;
    }
    out.flush()
}

fn pair(random: &mut Seed, round: usize) -> (String, String) {
    match round % 5 {
        0 => (tick(random), tick(random)),
        1 => {
            let base = document(random);
            let target = edited(random, &base);
            (base, target)
        }
        2 => (tick(random), document(random)),
        3 => (text(random, 60), text(random, 60)),
        _ => {
            let base = text(random, 3_000);
            let once = edited(random, &base);
            (base, edited(random, &once))
        }
    }
}

fn tick(random: &mut Seed) -> String {
    let (price, time) = (
        6_400_000 + random.below(9_000),
        17_000_000 + random.below(99_999),
    );
    format!(
        r#"{{"event":"tick","channel":"ticker","data":"{{\"asset\":\"BTC\",\"price\":{}.{:02},\"time\":{time},\"venue\":\"spot\"}}"}}"#,
        price / 100,
        price % 100
    )
}

fn document(random: &mut Seed) -> String {
    let rows = 1 + random.below(60);
    let rows = (0..rows).map(|id| {
        let name = ["lamp", "châssis", "日本", "sensor \\\\ two"][random.below(4)];
        format!(
            r#"{{\"id\":{id},\"name\":\"{name}\",\"value\":{}}}"#,
            random.below(100_000)
        )
    });
    let rows: Vec<_> = rows.collect();
    format!(
        r#"{{"event":"saved","channel":"doc","data":"[{}]"}}"#,
        rows.join(",")
    )
}

fn text(random: &mut Seed, chars_max: usize) -> String {
    let chars = ['a', 'b', '{', '"', 'é', '日', '\u{1F600}', ' '];
    let count = random.below(chars_max);
    (0..count)
        .map(|_| chars[random.below(chars.len())])
        .collect()
}

/// With some characters removed, inserted or moved.
fn edited(random: &mut Seed, base: &str) -> String {
    let mut chars: Vec<char> = base.chars().collect();
    for _ in 0..1 + random.below(5) {
        let [one, other] = [random.below(chars.len() + 1), random.below(chars.len() + 1)];
        let (start, end) = (one.min(other), one.max(other));
        match random.below(4) {
            0 => drop(chars.drain(start..end.min(start + 40))),
            1 => chars
                .splice(start..start, text(random, 30).chars())
                .for_each(drop),
            2 => chars
                .splice(start..end.min(start + 20), "1234".chars())
                .for_each(drop),
            _ => chars.rotate_left(start),
        }
    }
    chars.into_iter().collect()
}
