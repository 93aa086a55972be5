//! What does it cost to keep the deadlines of many connections? In ns per connection and activity
//! timeout: each is due once, and goes back to its next deadline.
//!
//! The slow twin is an ordered set of (second, slot).

mod measure;

use std::collections::BTreeSet;
use std::hint::black_box;

use shardcast::shard::wheel::Wheel;

/// The default activity timeout.
const TIMEOUT_SECS: u32 = 120;

fn main() {
    for slots in [1_000, 20_000] {
        round(slots);
    }
}

fn round(slots: u32) {
    let mut wheel = Wheel::default();
    let mut set = BTreeSet::new();
    for slot in 0..slots {
        let secs = 1 + slot % TIMEOUT_SECS;
        wheel.set(slot, secs);
        set.insert((secs, slot));
    }
    let (mut now_fast, mut now_slow) = (0, 0);
    measure::compare_each(
        &format!("{slots} connections"),
        slots as usize,
        "deadline",
        || {
            let mut due = 0;
            for _ in 0..TIMEOUT_SECS {
                now_fast += 1;
                while let Some(slot) = wheel.due(now_fast) {
                    wheel.set(black_box(slot), now_fast + TIMEOUT_SECS);
                    due += 1;
                }
            }
            assert_eq!(due, slots);
        },
        || {
            let mut due = 0;
            for _ in 0..TIMEOUT_SECS {
                now_slow += 1;
                while let Some(&(secs, slot)) = set.first()
                    && secs <= now_slow
                {
                    set.pop_first();
                    set.insert((now_slow + TIMEOUT_SECS, black_box(slot)));
                    due += 1;
                }
            }
            assert_eq!(due, slots);
        },
    );
}
