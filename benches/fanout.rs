//! What does the server itself add to each delivery? In ns per delivery, from a publish to the last
//! send, with sockets that take everything and cost nothing: what is left is ours.
//!
//! The twin is a queue for each connection that holds a counted reference to the frame, as a server
//! without runs has it. It does less: it knows no budget, no refusal and no order between channels.
//! Queued, it would make 16 sends of a connection where runs make one, which is what runs are for.

mod measure;
mod stand;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use shardcast::pusher::outbound::write_text_frame;
use shardcast::shard::message::Frame;
use stand::Stand;

fn main() {
    for subscribers in [100, 1_000, 10_000] {
        fan_out(&format!("{subscribers} subscribers"), subscribers, 1, 1);
        fan_out(
            &format!("{subscribers} subscribers, 16 queued"),
            subscribers,
            1,
            16,
        );
    }
    fan_out("100 channels of 100", 100, 100, 1);
}

fn fan_out(label: &str, subscribers: u32, channels: u32, queued: usize) {
    let names: Vec<String> = (0..channels).map(|n| format!("prices-{n}")).collect();
    let frame = frame();
    let mut stand = Stand::new();
    for name in &names {
        stand.subscribe(subscribers, name);
    }
    let mut queues = vec![VecDeque::<Arc<Frame>>::new(); (subscribers * channels) as usize];
    let sends = (subscribers * channels) as usize;
    measure::compare_each(
        label,
        sends * queued,
        "delivery",
        || {
            for name in &names {
                (0..queued).for_each(|_| stand.publish(name, &frame));
            }
            assert_eq!(stand.turn(), sends);
        },
        || {
            for queue in &mut queues {
                (0..queued).for_each(|_| queue.push_back(Arc::clone(&frame)));
            }
            for queue in &mut queues {
                for frame in queue.drain(..) {
                    black_box(frame.bytes().len());
                }
            }
        },
    );
}

/// Of 300 bytes.
fn frame() -> Arc<Frame> {
    let mut bytes = Vec::new();
    let text = format!(
        r#"{{"event":"price","channel":"prices-0","data":"{}"}}"#,
        "x".repeat(250)
    );
    write_text_frame(&mut bytes, |out| out.extend_from_slice(text.as_bytes()));
    Frame::new(bytes)
}
