//! What does a publish cost before its home orders it? In ns from the bytes of a request to the
//! message for the home and the answer: head parsed, signature verified, body digested and parsed,
//! frame built.
//!
//! The slow twin reads the body with serde_json, makes the key of the HMAC anew for each request,
//! and formats the frame.

mod measure;
mod stand;

use std::fmt::Write;
use std::hint::black_box;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use shardcast::api::{self, Context, OnBody, OnHead};
use shardcast::http::{Head, HeadLimits};
use shardcast::net::serve::api_settings;
use shardcast::pusher::signature::SigningKey;
use shardcast::shard::message::ReplyTo;
use stand::Stand;

const NOW_SECS: u64 = 1_700_000_000;

fn main() {
    for bytes in [300, 10_000] {
        publish(&format!("{bytes} B"), &request(bytes));
    }
}

fn publish(label: &str, request: &[u8]) {
    let mut stand = Stand::new();
    let settings = api_settings(&stand::defaults().config);
    let limits = HeadLimits::default();
    measure::compare_each(
        label,
        1,
        "publish",
        || {
            let (head, head_bytes) = Head::parse(black_box(request), &limits)
                .expect("a lawful head")
                .expect("a whole one");
            let mut context = Context {
                settings: &settings,
                shard: &mut stand.shard,
                now_secs: NOW_SECS,
                draining: false,
                stalled: false,
            };
            let OnHead::Accept(accepted) = api::on_head(&mut context, &head) else {
                unreachable!("the request is signed");
            };
            let reply_to = ReplyTo {
                shard: 0,
                slot: 0,
                generation: 0,
            };
            let body = &request[head_bytes..];
            let answer = api::on_body(&mut context, &accepted, reply_to, body);
            assert!(matches!(answer, OnBody::Respond(_)));
            // The home is another bench.
            let messages = stand.shard.outgoing(0).list.drain(..).count();
            assert_eq!(messages, 1);
        },
        || {
            let text = std::str::from_utf8(black_box(request)).expect("it is text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            let target = head.split(' ').nth(1).expect("a request line");
            let (path, query) = target.split_once('?').expect("a query");
            let (signed, signature) = query.split_once("&auth_signature=").expect("signed");
            let mut mac = Hmac::<Sha256>::new_from_slice(b"app-secret").expect("any key will do");
            mac.update(format!("POST\n{path}\n{signed}").as_bytes());
            assert_eq!(hex(&mac.finalize().into_bytes()), signature);
            assert!(signed.ends_with(&hex(&Md5::digest(body))));
            let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let frame = serde_json::json!({
                "event": value["name"],
                "channel": value["channels"][0],
                "data": value["data"],
            });
            black_box(frame.to_string());
        },
    );
}

/// A signed request whose data are so long.
fn request(bytes: usize) -> Vec<u8> {
    let data = "x".repeat(bytes);
    let body = format!(r#"{{"name":"price","channels":["prices"],"data":"{data}"}}"#);
    let path = "/apps/app-id/events";
    let query = format!(
        "auth_key=app-key&auth_timestamp={NOW_SECS}&auth_version=1.0&body_md5={}",
        hex(&Md5::digest(&body))
    );
    let key = SigningKey::new(b"app-secret");
    let signed = format!("POST\n{path}\n{query}");
    let signature = key.sign_hex(&[signed.as_bytes()]);
    let signature = std::str::from_utf8(&signature).expect("hex digits");
    format!(
        "POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
