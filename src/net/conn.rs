//! One connection: await readable, receive into the worker's buffer, hand the bytes to `input`.
//!
//! Across an await the task holds the slot and the stream only; what is partial or on hand lies in
//! tables (decisions 35). It never sends. When it ends, for whatever reason, it notes the
//! connection as departed; the turn does the rest.

use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::Poll;

use monoio::net::UnixStream;

use crate::shard::message::SessionKey;

use super::input::Reading;
use super::sys::{self, Received};
use super::worker::Worker;

/// Notes the end of a connection's task.
struct Departure {
    worker: Rc<Worker>,
    key: SessionKey,
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.worker.departed.borrow_mut().push(self.key);
        self.worker.want_turn();
    }
}

/// Reads a connection until it ends.
pub async fn read(worker: Rc<Worker>, key: SessionKey, stream: Rc<UnixStream>) {
    let departure = Departure { worker, key };
    let worker = &departure.worker;
    loop {
        if stream.readable(false).await.is_err() {
            return;
        }
        worker.pass_gate().await;
        match receive(worker, key.slot, &stream) {
            Reading::On => {}
            Reading::Paused => wait_for_progress(worker, key.slot).await,
            Reading::End => {
                if worker.on_end(key.slot) {
                    wait_for_answers(worker, key.slot).await;
                }
                return;
            }
        }
    }
}

/// One receive and what it leads to.
fn receive(worker: &Worker, slot: u32, stream: &UnixStream) -> Reading {
    let mut buffer = worker.buffer.borrow_mut();
    let count = match sys::recv(stream.as_raw_fd(), &mut buffer) {
        Ok(Received::Bytes(count)) => count,
        Ok(Received::Nothing) => return Reading::On,
        Ok(Received::End) | Err(_) => return Reading::End,
    };
    worker.want_turn();
    worker.on_bytes(slot, &mut buffer[..count])
}

/// Nothing is read while too much is on hand or queued.
async fn wait_for_progress(worker: &Worker, slot: u32) {
    poll_fn(|cx| {
        if worker.may_go_on(slot) {
            return Poll::Ready(());
        }
        worker.pause(slot, cx.waker());
        Poll::Pending
    })
    .await;
}

/// The client has ended its side; what it asked for before is still sent.
async fn wait_for_answers(worker: &Worker, slot: u32) {
    poll_fn(|cx| {
        if !worker.owes_answers(slot) {
            return Poll::Ready(());
        }
        worker.pause(slot, cx.waker());
        Poll::Pending
    })
    .await;
}

/// Awaits room in the socket's buffer, once, for a connection that the kernel has refused.
pub async fn await_writable(worker: Rc<Worker>, key: SessionKey, stream: Rc<UnixStream>) {
    // An error means that the connection is over: the next send says so.
    let _ = stream.writable(false).await;
    worker.shard.borrow_mut().on_writable(key);
    worker.want_turn();
}
