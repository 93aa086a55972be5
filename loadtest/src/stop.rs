//! When a run is over before it is done: Ctrl-C, or its bound of time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Asked by every loop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    signalled: Arc<AtomicBool>,
    /// Without one there is no bound of time.
    deadline: Option<Instant>,
}

impl Stop {
    /// The run begins now. A second signal ends the process at once.
    pub(crate) fn after(time_max: Duration) -> io::Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&signalled))?;
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        Ok(Self {
            signalled,
            deadline: Instant::now().checked_add(time_max),
        })
    }

    /// Why to end with the figures so far, if it is so.
    pub(crate) fn why(&self) -> Option<String> {
        if self.is_signalled() {
            return Some("it was interrupted".to_owned());
        }
        let is_late = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        is_late.then(|| "its bound of time was reached (--secs-max)".to_owned())
    }

    /// Whether somebody wants it to end.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.why().is_some()
    }
}
