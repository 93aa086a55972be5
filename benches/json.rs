//! What does it cost to read a publish and a message of a client, in ns, and would simd-json read
//! it faster?
//!
//! The slow twin of a publish is simd-json with reused buffers into a tape, after the copy that it
//! needs because it unescapes in place; it checks less (no depth, no surrogates, no field) and has
//! no raw tokens to give. The slow twin of a client message is serde_json into a tree.

mod measure;

use std::hint::black_box;

use shardcast::pusher::dialect::Dialect;
use shardcast::pusher::inbound::{ClientMessage, Scratch};
use shardcast::pusher::json;
use shardcast::pusher::rest::{Publish, PublishLimits};
use simd_json::{Buffers, Tape};

fn main() {
    for (label, body) in publishes() {
        publish(label, &body);
    }
    for (label, text) in messages() {
        client_message(label, &text);
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

fn client_message(label: &str, text: &str) {
    let mut scratch = Scratch::default();
    measure::compare(
        label,
        text.len(),
        || {
            black_box(
                ClientMessage::parse(black_box(text), Dialect::Pusher, &mut scratch)
                    .expect("valid"),
            );
        },
        || {
            let value = serde_json::from_str::<serde_json::Value>(black_box(text));
            black_box(value.expect("valid"));
        },
    );
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

fn messages() -> Vec<(&'static str, String)> {
    let auth =
        "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
    let member = r#"{\"user_id\":\"10\",\"user_info\":{\"name\":\"Mr. Pusher\"}}"#;
    let subscribe = |data: String| format!(r#"{{"event":"pusher:subscribe","data":{{{data}}}}}"#);
    let presence = format!(r#""auth":"{auth}","channel_data":"{member}","channel":"presence-a""#);
    vec![
        ("ping", r#"{"event":"pusher:ping","data":{}}"#.to_owned()),
        (
            "subscribe, public",
            subscribe(r#""auth":"","channel":"news""#.to_owned()),
        ),
        (
            "subscribe, private",
            subscribe(format!(r#""auth":"{auth}","channel":"private-a""#)),
        ),
        ("subscribe, presence", subscribe(presence.clone())),
        // The number sends the strings to the slow twin of simd-json.
        (
            "the same, without simd-json",
            subscribe(format!(r#"{presence},"n":18446744073709551616"#)),
        ),
        (
            "client event, 300 B",
            format!(
                r#"{{"event":"client-moved","channel":"presence-room-1","data":{}}}"#,
                rows(220)
            ),
        ),
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
