//! Work that is not the hot path, on one ordinary thread with a tokio runtime, so that well-kept
//! libraries do it. It talks to shards through the mesh and through bounded queues alone; if it is
//! slow or dead, traffic does not notice, beyond what it was asked to carry.
//!
//! The watchdog has a thread of its own: it must see also when this one stands still.

use std::io;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{self, LocalSet};

pub mod admin;
mod exposition;
mod process;
pub mod reload;
mod sampling;
pub mod watchdog;
pub mod webhook;

/// What the thread begins with.
pub struct Plan {
    pub webhooks: webhook::Plan,
    /// None in tests that reload nothing.
    pub reload: Option<reload::Plan>,
    /// None where metrics are switched off.
    pub admin: Option<admin::Plan>,
}

/// The running side thread.
pub struct Side {
    thread: JoinHandle<()>,
    /// Told the moment by which it has to have ended.
    finish: oneshot::Sender<Instant>,
}

/// Starts the side thread.
///
/// # Errors
/// The thread or its runtime cannot be made, or the process may not have a signal handler.
pub fn start(plan: Plan) -> io::Result<Side> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // From here on a SIGHUP is no longer the end of the process.
    let hangups = {
        let _runtime = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let (finish, finished) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("side".into())
        .spawn(move || runtime.block_on(run(plan, hangups, finished)))?;
    Ok(Side { thread, finish })
}

/// Everything that the thread does, until it is told to finish.
async fn run(plan: Plan, hangups: Signal, finished: oneshot::Receiver<Instant>) {
    let Plan {
        webhooks,
        reload,
        admin,
    } = plan;
    let reloads = Rc::default();
    let everything = async {
        if let Some(plan) = reload {
            task::spawn_local(reload::run(plan, hangups, Rc::clone(&reloads)));
        }
        if let Some(plan) = admin {
            task::spawn_local(admin::run(plan, reloads));
        }
        webhook::run(webhooks, finished).await;
    };
    // Its tasks share what they have without locks.
    LocalSet::new().run_until(everything).await;
}

impl Side {
    /// The shards are drained: what is still owed to others is sent, and the thread ends, at the
    /// latest at `deadline`.
    pub fn finish(self, deadline: Instant) -> Ending {
        let Self { thread, finish } = self;
        let _ = finish.send(deadline);
        Ending { thread }
    }
}

/// The side thread on its last way.
pub struct Ending {
    thread: JoinHandle<()>,
}

impl Ending {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;

    #[test]
    fn it_ends_when_it_is_told() {
        let counters = Arc::default();
        let (_sender, inbox) = webhook::inbox(16, 1024, Arc::clone(&counters));
        let (_apps, apps) = watch::channel(Arc::default());
        let plan = webhook::Plan {
            inbox,
            apps,
            refuse_private: false,
            counters,
        };
        let side = start(Plan {
            webhooks: plan,
            reload: None,
            admin: None,
        });
        let side = side.expect("a thread");
        let began = Instant::now();
        let ending = side.finish(began + Duration::from_secs(30));
        while !ending.is_over() {
            assert!(began.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(2));
        }
    }
}
