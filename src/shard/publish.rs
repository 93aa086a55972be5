//! Publishing: admission for all homes at once, then one message to each home's inbox.
//!
//! Admission is decided before anything is queued; after it nothing can fail, so an event for
//! several channels is delivered on all of them or on none (decisions 28).

use super::Shard;
use super::channel::home;
use super::message::{Publish, ShardMessage};

/// A home has no room: nothing was queued, try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

impl Shard {
    /// The hash of a channel, for [`Publish`].
    pub fn hash(&self, app: u32, channel: &str) -> u64 {
        self.hasher.hash(app, channel)
    }

    /// Accepts events of one request, all or none. The answer to the request must not leave before
    /// they are in their inboxes: call between [`Shard::begin_serving`] and [`Shard::end_serving`].
    pub fn on_publish(&mut self, publishes: Vec<Publish>) -> Result<(), Overloaded> {
        let shards = self.settings.shards;
        if publishes
            .iter()
            .any(|publish| !self.has_room_at(home(publish.hash, shards)))
        {
            self.counters.publishes_refused += publishes.len() as u64;
            return Err(Overloaded);
        }
        for publish in publishes {
            let target = home(publish.hash, shards);
            #[cfg(test)]
            if self.mutations.skip_own_inbox && target == self.id {
                self.on_publish_at_home(publish);
                continue;
            }
            self.send(target, ShardMessage::Publish(Box::new(publish)), true);
        }
        Ok(())
    }

    /// Whether a home takes publishes: its inbox and what waits for it below three quarters, and
    /// not congested.
    fn has_room_at(&self, target: u16) -> bool {
        let peer = self.peers[usize::from(target)];
        let waiting = self.outgoing[usize::from(target)].list.len();
        !peer.congested
            && peer.inbox_bytes <= self.settings.lag_bytes_max
            && peer.inbox_depth + waiting < self.settings.inbox_depth_max.div_ceil(4) * 3
    }
}
