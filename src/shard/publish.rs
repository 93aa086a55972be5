//! Publishing: admission for all homes at once, then one message to each home's inbox.
//!
//! Admission is decided before anything is queued; after it nothing can fail, so an event for
//! several channels is delivered on all of them or on none (decisions 28).

use smallvec::SmallVec;

use crate::metrics::PublishRefusal;

use super::Shard;
use super::channel::home;
use super::message::{Publish, ShardMessage};

/// The events of one request, one for each channel.
pub type Publishes = SmallVec<[Box<Publish>; 1]>;

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
    pub fn on_publish(&mut self, publishes: Publishes) -> Result<(), Overloaded> {
        let shards = self.settings.shards;
        let mut homes = publishes.iter().map(|publish| home(publish.hash, shards));
        if let Some(refusal) = homes.find_map(|home| self.refusal_of(home)) {
            self.counters.publishes_refused[refusal as usize] += publishes.len() as u64;
            return Err(Overloaded);
        }
        for publish in publishes {
            let target = home(publish.hash, shards);
            #[cfg(test)]
            if self.mutations.skip_own_inbox && target == self.id {
                self.on_publish_at_home(*publish);
                continue;
            }
            self.send(target, ShardMessage::Publish(publish), true);
        }
        Ok(())
    }

    /// Why a home takes no publishes. It does while its inbox and what waits for it are below three
    /// quarters, and it is not congested.
    pub(super) fn refusal_of(&self, target: u16) -> Option<PublishRefusal> {
        let peer = self.peers[usize::from(target)];
        let waiting = self.outgoing[usize::from(target)].list.len();
        if peer.congested {
            Some(PublishRefusal::Congested)
        } else if peer.inbox_bytes > self.settings.lag_bytes_max {
            Some(PublishRefusal::InboxBytes)
        } else if peer.inbox_depth + waiting >= self.settings.inbox_depth_max.div_ceil(4) * 3 {
            Some(PublishRefusal::Inbox)
        } else {
            None
        }
    }
}
