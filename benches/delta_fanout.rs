//! What does a subscriber with deltas cost beside one without, and is an event encoded once however
//! many there are? In ns per delivery of a price tick, from a publish to the last send, with sockets
//! that take everything and cost nothing.
//!
//! The twin is the same shard with subscribers who get events as they are. What the kernel charges
//! for bytes is in neither; a delta has fewer of them.
//!
//! How often an event was encoded goes to the standard error.

mod measure;
mod stand;
mod streams;

use std::sync::Arc;

use shardcast::pusher::json::StringSource;
use shardcast::pusher::outbound;
use shardcast::shard::message::Frame;
use stand::Stand;
use streams::Seed;

const CHANNEL: &str = "ticker";

fn main() {
    for subscribers in [10, 1_000, 10_000] {
        fan_out(subscribers);
    }
}

fn fan_out(subscribers: u32) {
    let frames: Vec<Arc<Frame>> = streams::ticks(&mut Seed::new(9))
        .iter()
        .map(|data| frame(data))
        .collect();
    let mut deltas = stand(subscribers, r#""delta":"fossil","#);
    let mut plain = stand(subscribers, "");
    let (mut nth, mut plain_nth) = (0, 0);
    measure::compare_each(
        &format!("{subscribers} subscribers"),
        subscribers as usize,
        "delivery",
        || publish(&mut deltas, &frames, &mut nth, subscribers),
        || publish(&mut plain, &frames, &mut plain_nth, subscribers),
    );
    let encoded = deltas.shard.counters.deltas_encoded;
    eprintln!("{subscribers} subscribers: {nth} events, {encoded} deltas encoded");
    assert_eq!(plain.shard.counters.deltas_encoded, 0);
}

fn publish(stand: &mut Stand, frames: &[Arc<Frame>], nth: &mut usize, subscribers: u32) {
    stand.publish(CHANNEL, &frames[*nth % frames.len()]);
    *nth += 1;
    assert_eq!(stand.turn(), subscribers as usize);
}

/// A shard with subscribers who have been greeted and confirmed.
fn stand(subscribers: u32, wish: &str) -> Stand {
    let mut stand = Stand::new();
    for slot in stand.connect(subscribers) {
        let text =
            format!(r#"{{"event":"pusher:subscribe","data":{{{wish}"channel":"{CHANNEL}"}}}}"#);
        stand.text(slot, &text);
    }
    stand.turn();
    stand
}

fn frame(data: &str) -> Arc<Frame> {
    Frame::text(|out| {
        let (name, data) = (StringSource::Text("tick"), StringSource::Text(data));
        outbound::event(out, name, CHANNEL, data, None);
    })
}
