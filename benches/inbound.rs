//! What does it cost to read a message of a client, in ns, from its text to the enum that borrows
//! from it?
//!
//! The slow twin is serde_json into a tree.

mod measure;

use std::hint::black_box;

use shardcast::pusher::dialect::Dialect;
use shardcast::pusher::inbound::{ClientMessage, Scratch};

fn main() {
    for (label, text) in messages() {
        client_message(label, &text);
    }
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
