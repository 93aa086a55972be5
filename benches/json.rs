//! What does it cost to read the body of a publish, in ns, and would simd-json read it faster?
//!
//! The slow twin is simd-json with reused buffers into a tape, after the copy that it needs because
//! it unescapes in place; it checks less (no depth, no surrogates, no field) and has no raw tokens
//! to give.

mod measure;

use std::hint::black_box;

use shardcast::pusher::json;
use shardcast::pusher::rest::{Publish, PublishLimits};
use simd_json::{Buffers, Tape};

fn main() {
    for (label, body) in publishes() {
        publish(label, &body);
    }
}

fn publish(label: &str, body: &str) {
    let limits = PublishLimits::default();
    let mut copy = Vec::with_capacity(body.len());
    let mut buffers = Buffers::new(body.len());
    let mut kept = Tape::null();
    let mut simd = || {
        copy.clear();
        copy.extend_from_slice(black_box(body.as_bytes()));
        let mut tape = std::mem::replace(&mut kept, Tape(Vec::new())).reset();
        simd_json::fill_tape(&mut copy, &mut buffers, &mut tape).expect("valid");
        kept = tape.reset();
    };
    let scan = || {
        black_box(json::document(black_box(body)).expect("valid"));
    };
    measure::compare(&format!("{label}: scan"), body.len(), scan, &mut simd);
    let read = || {
        let publish = Publish::parse(black_box(body.as_bytes()), &limits);
        black_box(publish.expect("valid"));
    };
    measure::compare(&format!("{label}: publish"), body.len(), read, simd);
}

fn publishes() -> Vec<(&'static str, String)> {
    let body = |data: &str| {
        format!(r#"{{"name":"price-changed","channels":["ticker-btc-usd"],"data":{data}}}"#)
    };
    let string = |text: &str| serde_json::to_string(text).expect("a string");
    vec![
        ("300 B, JSON in a string", body(&string(&rows(200)))),
        ("300 B, plain string", body(&string(&"x".repeat(240)))),
        ("300 B, object", body(&rows(240))),
        ("10 KiB, JSON in a string", body(&string(&rows(8_600)))),
        ("10 KiB, plain string", body(&string(&"x".repeat(10_000)))),
        ("10 KiB, object", body(&rows(10_000))),
        ("100 KiB, object", body(&rows(100_000))),
    ]
}

/// An object of about `bytes`: short keys, numbers, short strings.
fn rows(bytes: usize) -> String {
    let mut rows = String::from(r#"{"rows":["#);
    for id in 0.. {
        let price = f64::from(id) * 7.25;
        rows +=
            &format!(r#"{{"id":{id},"price":{price},"name":"item {id}","ok":true,"tags":["a"]}}"#);
        if rows.len() >= bytes {
            break;
        }
        rows.push(',');
    }
    rows + "]}"
}
