//! The mesh: one bounded inbox per shard, and the carrier that fills it from the outgoing lists.
//!
//! Entering an inbox is the point that orders a channel, so the model is told here, message by
//! message. Now and then a carry stops early, as if another shard had taken the room.

use std::collections::VecDeque;

use crate::shard::message::ShardMessage;

use super::plan::Rule;
use super::world::World;

/// All inboxes.
pub(super) struct Mesh {
    pub(super) inboxes: Vec<VecDeque<ShardMessage>>,
    /// Messages that an inbox holds.
    slots: usize,
}

impl Mesh {
    pub(super) fn new(shards: u16, slots: usize) -> Self {
        Self {
            inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            slots,
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.inboxes.iter().all(VecDeque::is_empty)
    }

    pub(super) fn room(&self, target: usize) -> usize {
        self.slots.saturating_sub(self.inboxes[target].len())
    }
}

impl World {
    /// Carries what shard `at` owes to others, each list from its front, as far as there is room.
    pub(super) fn carry(&mut self, at: usize) {
        self.nodes[at].shard.report();
        let shards = self.nodes.len();
        let first = self.chance.below(shards);
        for nth in 0..shards {
            self.carry_to(at, (first + nth) % shards);
        }
    }

    fn carry_to(&mut self, at: usize, target: usize) {
        let mut room = self.mesh.room(target);
        if self.chance.below(4) == 0 {
            room = self.chance.below(room.min(4) + 1);
        }
        for _ in 0..room {
            let list = &mut self.nodes[at].shard.outgoing(target as u16).list;
            // Rule 3 off: what is parked is overtaken by what came later.
            let front = match self.plan.off {
                Some(Rule::Fifo) if list.len() > 1 => self.chance.below(list.len()),
                _ => 0,
            };
            let Some(message) = list.remove(front) else {
                break;
            };
            self.trace.add(&[2, at as u64, target as u64]);
            self.model.on_accepted(&message);
            match &message {
                ShardMessage::Terminate { user } => self.model.on_terminate(at, user),
                ShardMessage::WatchList {
                    user,
                    list: Some(_),
                    ..
                } => self.model.on_watch_list(at, user),
                _ => {}
            }
            if let ShardMessage::Ask { question, from } = &message {
                self.model.on_ask_accepted(target, question, *from);
            }
            if let ShardMessage::Publish(publish) = &message
                && publish.ask.is_some()
            {
                self.check_confirmed(publish.app, &publish.channel);
            }
            self.mesh.inboxes[target].push_back(message);
        }
        let outgoing = self.nodes[at].shard.outgoing(target as u16);
        outgoing.urgent &= !outgoing.list.is_empty();
    }
}
