//! Work that is not the hot path, on one ordinary thread with a tokio runtime, so that well-kept
//! libraries do it. It talks to shards through the mesh and through bounded queues alone; if it is
//! slow or dead, traffic does not notice, beyond what it was asked to carry.
//!
//! The watchdog has a thread of its own: it must see also when this one stands still.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use webhook::WebhookReceiver;

pub mod watchdog;
pub mod webhook;

/// How often the end of the thread is looked for.
const END_LOOK: Duration = Duration::from_millis(2);

/// The running side thread.
pub struct Side {
    thread: JoinHandle<()>,
    /// Told the moment by which it has to have ended.
    finish: oneshot::Sender<Instant>,
}

/// Starts the side thread.
///
/// # Errors
/// The thread or its runtime cannot be made.
pub fn start(inbox: WebhookReceiver) -> io::Result<Side> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (finish, finished) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("side".into())
        .spawn(move || runtime.block_on(run(inbox, finished)))?;
    Ok(Side { thread, finish })
}

/// Everything that the thread does, until it is told to finish.
async fn run(mut inbox: WebhookReceiver, mut finished: oneshot::Receiver<Instant>) {
    // Until something is sent.
    let mut webhooks = Vec::new();
    loop {
        tokio::select! {
            _deadline = &mut finished => return,
            _ = inbox.receive(&mut webhooks, 1024) => webhooks.clear(),
        }
    }
}

impl Side {
    /// The shards are drained: what is still owed to others is sent, and the thread ends, at the
    /// latest at `deadline`.
    pub fn finish(self, deadline: Instant) {
        let Self { thread, finish } = self;
        let _ = finish.send(deadline);
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(END_LOOK);
        }
        if !thread.is_finished() {
            tracing::warn!("the side thread did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_it_is_told() {
        let (_sender, inbox) = webhook::inbox(16, 1024, Default::default());
        let side = start(inbox).expect("a thread");
        let began = Instant::now();
        side.finish(began + Duration::from_secs(30));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
