//! A shard that neither parks nor turns: seen and said, not cured (decisions 36).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::net::mesh::MeshSender;
use crate::shard::message::ShardMessage;

/// How often shards are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A shard that stands so long is reported.
const REPORTED: Duration = Duration::from_secs(5);
/// A shard that stands so long fails `/live`.
const FAILED: Duration = Duration::from_secs(30);

/// What was last seen of one shard.
struct Seen {
    turns: u64,
    since: Instant,
    reported: bool,
}

/// Watches all shards from a thread of its own; `stalled` is true while one has failed.
pub fn start(mesh: MeshSender<ShardMessage>, stalled: Arc<AtomicBool>) {
    let watch = move || {
        let now = Instant::now();
        let mut seen: Vec<Seen> = (0..mesh.shards())
            .map(|_| Seen {
                turns: 0,
                since: now,
                reported: false,
            })
            .collect();
        loop {
            thread::sleep(LOOK);
            let now = Instant::now();
            let failed = seen.iter_mut().enumerate().map(|(target, seen)| {
                let status = mesh.status(target);
                look(target, seen, status.turns(), status.is_parked(), now)
            });
            // All are looked at, whatever the first says.
            let failed = failed.fold(false, |any, failed| any | failed);
            stalled.store(failed, Ordering::Relaxed);
        }
    };
    if let Err(error) = thread::Builder::new().name("watchdog".into()).spawn(watch) {
        tracing::warn!(%error, "no watchdog");
    }
}

/// Looks at one shard; true if it has stood for too long.
fn look(target: usize, seen: &mut Seen, turns: u64, parked: bool, now: Instant) -> bool {
    if parked || turns != seen.turns {
        if seen.reported {
            tracing::warn!(shard = target, "the shard turns again");
        }
        *seen = Seen {
            turns,
            since: now,
            reported: false,
        };
        return false;
    }
    let stood = now.duration_since(seen.since);
    if stood >= REPORTED && !seen.reported {
        seen.reported = true;
        tracing::error!(shard = target, ?stood, "the shard stands still");
    }
    stood >= FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stood(secs: u64, parked: bool) -> bool {
        let since = Instant::now();
        let mut seen = Seen {
            turns: 7,
            since,
            reported: false,
        };
        look(0, &mut seen, 7, parked, since + Duration::from_secs(secs))
    }

    #[test]
    fn a_shard_that_stands_half_a_minute_has_failed() {
        assert!(!stood(29, false));
        assert!(stood(30, false));
    }

    #[test]
    fn a_parked_shard_has_not_failed() {
        assert!(!stood(300, true));
    }
}
