//! How often is memory asked for on the way from a publish to its last send? Once for each thing that
//! a publish has, and never for a delivery: the count is the same for 100 and for 10 000 subscribers.
//!
//! Not a matter of time, so nothing here is noisy: it fails where a delivery allocates.
#![allow(unsafe_code)] // An allocator is unsafe by its trait; this one only counts.

mod stand;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use shardcast::pusher::json::StringSource;
use shardcast::pusher::outbound;
use shardcast::shard::message::Frame;
use stand::Stand;

const PUBLISHES: u64 = 100;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: likewise, and `alloc` got it from there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: likewise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let counts = [100, 1_000, 10_000].map(|subscribers| {
        let count = publishes(subscribers);
        let each = count as f64 / PUBLISHES as f64;
        let delivery = each / f64::from(subscribers);
        println!("{subscribers:>6} subscribers: {each} a publish, {delivery:.4} a delivery");
        count
    });
    assert!(
        counts.iter().all(|count| *count == counts[0]),
        "a delivery allocates"
    );
}

/// Allocations of some publishes, once all buffers have the size that they need.
fn publishes(subscribers: u32) -> u64 {
    let mut stand = Stand::new();
    stand.subscribe(subscribers, "prices");
    let frame = Frame::text(|out| {
        let (name, data) = (StringSource::Text("price"), StringSource::Text("1"));
        outbound::event(out, name, "prices", data, None);
    });
    let mut publish = |frame: &Arc<Frame>| {
        stand.publish("prices", frame);
        assert_eq!(stand.turn(), subscribers as usize);
    };
    (0..3).for_each(|_| publish(&frame));
    let before = ALLOCATIONS.get();
    (0..PUBLISHES).for_each(|_| publish(&frame));
    ALLOCATIONS.get() - before
}
