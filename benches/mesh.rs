//! What does it cost to hand a message to another shard? In ns per message through an inbox, in
//! batches as turns carry them; and in ns there and back between two threads that sleep when they
//! have nothing to do.
//!
//! The slow twin of a batch is a queue behind a mutex; that of a hop is a channel of the standard
//! library, which sleeps on a futex where a shard sleeps in its ring.

mod measure;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Mutex, mpsc};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use shardcast::net::mesh::{MeshEnd, mesh};

/// As large as what shards say to each other.
type Message = [u64; 7];

const END: Message = [u64::MAX; 7];

fn main() {
    for batch in [1, 64] {
        carry(batch);
    }
    hop();
}

fn carry(batch: usize) {
    let ends = mesh::<Message>(1, 1024).expect("one eventfd");
    let sender = ends[0].sender();
    let mut outgoing = VecDeque::with_capacity(batch);
    let behind_mutex = Mutex::new(VecDeque::with_capacity(batch));
    measure::compare_each(
        &format!("batch of {batch}"),
        batch,
        "message",
        || {
            outgoing.extend((0..batch).map(|n| [n as u64; 7]));
            assert_eq!(sender.carry(0, &mut outgoing), 0);
            sender.wake(0);
            let taken = ends[0].drain_into(batch, |message| {
                black_box(message);
            });
            assert_eq!(taken, batch);
        },
        || {
            for n in 0..batch {
                behind_mutex
                    .lock()
                    .expect("nobody panics")
                    .push_back([n as u64; 7]);
            }
            for _ in 0..batch {
                black_box(behind_mutex.lock().expect("nobody panics").pop_front());
            }
        },
    );
}

/// There and back between this thread and another, which answers each message.
fn hop() {
    let mut ends = mesh::<Message>(2, 1024).expect("two eventfds").into_iter();
    let (here, there) = (ends.next().expect("one"), ends.next().expect("two"));
    let (to_plain, from_here) = mpsc::channel::<Message>();
    let (to_here, from_plain) = mpsc::channel();
    let answering = thread::spawn(move || answer(&there));
    let plain = thread::spawn(move || from_here.iter().all(|m| to_here.send(m).is_ok()));
    measure::compare_waiting(
        "hop between sleepers",
        2,
        "hop",
        || {
            send(&here, 1, [1; 7]);
            black_box(receive(&here));
        },
        || {
            to_plain.send([1; 7]).expect("it listens");
            black_box(from_plain.recv().expect("it answers"));
        },
    );
    send(&here, 1, END);
    drop(to_plain);
    answering.join().expect("nobody panics");
    plain.join().expect("nobody panics");
}

fn answer(end: &MeshEnd<Message>) {
    loop {
        match receive(end) {
            END => return,
            message => send(end, 0, message),
        }
    }
}

fn send(end: &MeshEnd<Message>, target: usize, message: Message) {
    let sender = end.sender();
    sender.push(target, message).expect("there is room");
    sender.wake(target);
}

/// The next message; sleeps as a worker does until there is one.
fn receive(end: &MeshEnd<Message>) -> Message {
    loop {
        if let Some(message) = end.pop() {
            return message;
        }
        if end.prepare_park() {
            let wake = end.wake_descriptor().expect("a copy of the eventfd");
            let mut polled = [PollFd::new(&wake, PollFlags::IN)];
            // Whatever it says, the inbox is looked at again.
            let _ = poll(&mut polled, None);
            end.clear_wake();
        }
        end.unpark();
    }
}
