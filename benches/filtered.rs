//! What does a publish cost where subscribers filter? In ns per publish that nobody wants, so that
//! all of it is filters: distinct filters decide, subscribers do not (extensions spec 2.4).
//!
//! The twin asks the filter of each subscriber.

mod measure;
mod stand;

use std::hint::black_box;
use std::sync::Arc;

use shardcast::clock::Micros;
use shardcast::pusher::filter::{Filter, TagSet};
use shardcast::pusher::json::document;
use shardcast::pusher::outbound::write_text_frame;
use shardcast::shard::message::Frame;
use stand::Stand;

const CHANNEL: &str = "ticker";

fn main() {
    for (subscribers, filters) in [
        (10, 1),
        (10, 10),
        (100, 10),
        (1_000, 1),
        (1_000, 10),
        (1_000, 1_000),
        (10_000, 1),
        (10_000, 10),
        (10_000, 1_000),
    ] {
        unwanted(subscribers, filters);
    }
}

fn unwanted(subscribers: u32, filters: u32) {
    let mut stand = Stand::new();
    let slots = stand.connect(subscribers);
    let mut kept = Vec::new();
    for (nth, slot) in (0..).zip(slots) {
        let filter = filter(nth % filters);
        let text = format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"{CHANNEL}","filter":{filter}}}}}"#
        );
        stand.text(slot, &text);
        let compiled = Filter::parse(Some(document(&filter).expect("JSON")), None);
        kept.push(compiled.expect("a lawful filter").expect("a filter"));
    }
    stand.turn();
    let frame = frame(&[("market", "spot"), ("asset", "none")]);
    measure::compare_each(
        &format!("{subscribers} subscribers, {filters} filters"),
        1,
        "publish",
        || {
            stand.publish(CHANNEL, &frame);
            assert_eq!(stand.turn(), 0);
        },
        || {
            let tags = frame.tags();
            for filter in &kept {
                black_box(black_box(filter).matches("tick", tags));
            }
        },
    );
}

fn filter(nth: u32) -> String {
    format!(
        r#"{{"op":"and","nodes":[{{"key":"market","cmp":"eq","val":"spot"}},
            {{"key":"asset","cmp":"in","vals":["BTC-{nth}","ETH-{nth}"]}}]}}"#
    )
}

/// Of 300 bytes.
fn frame(tags: &[(&str, &str)]) -> Arc<Frame> {
    let mut bytes = Vec::new();
    let text = format!(
        r#"{{"event":"tick","channel":"{CHANNEL}","data":"{}"}}"#,
        "x".repeat(250)
    );
    write_text_frame(&mut bytes, |out| out.extend_from_slice(text.as_bytes()));
    Frame::published(bytes, Micros::default(), TagSet::new(tags))
}
