//! Accepting: one SO_REUSEPORT listener per worker, bursts of accept4 when it is readable.
//!
//! The runtime's own accept is not used: a dropped one leaks the descriptor that it accepts, and
//! its sockets block.

use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::UnixStream;

use super::sys::{BurstEnd, accept_burst};
use super::worker::{Worker, begin_connection};

/// Connections accepted per burst; then everybody else has a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long to wait where the process has no descriptor left: the listener stays readable.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the worker stops listening.
pub async fn accept(worker: Rc<Worker>, listener: UnixStream) {
    loop {
        if listener.readable(false).await.is_err() {
            return;
        }
        loop {
            if worker.listening.get() {
                // Nor is anybody accepted while the shard reads no input (decisions 27).
                worker.pass_gate().await;
            }
            let take = |fd| begin_connection(&worker, fd);
            let end = accept_burst(listener.as_raw_fd(), ACCEPTS_PER_TURN, take);
            worker.want_turn();
            match end {
                BurstEnd::Limit => {}
                BurstEnd::Empty => break,
                BurstEnd::Exhausted(errno) => {
                    tracing::warn!(%errno, "no descriptor left; accepting pauses");
                    monoio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                BurstEnd::Broken(errno) => {
                    if worker.listening.get() {
                        tracing::error!(%errno, "the listener is broken");
                    }
                    return;
                }
            }
        }
    }
}
