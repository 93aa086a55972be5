//! What does it cost to unmask one payload? By its length: a ping, commands of a client, a client
//! event, the largest message.

mod measure;

use std::hint::black_box;

use shardcast::ws::mask::{unmask, unmask_bytewise};

fn main() {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    for payload_bytes in [0, 27, 60, 300, 4096, 65_536] {
        let mut fast = vec![b'x'; payload_bytes];
        let mut slow = fast.clone();
        measure::compare(
            &format!("unmask {payload_bytes} B"),
            payload_bytes,
            || unmask(black_box(&mut fast), black_box(key)),
            || unmask_bytewise(black_box(&mut slow), black_box(key)),
        );
    }
}
