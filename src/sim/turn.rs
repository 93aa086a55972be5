//! A turn of a shard, step by step in the order of `net/turn.rs`, so that other shards can do
//! something between any two steps.

use crate::clock::Micros;
use crate::shard::Peer;
use crate::shard::flush::Sent;
use crate::shard::message::ShardMessage;

use super::plan::Rule;
use super::world::World;

/// The step that a shard takes next (decisions 31, 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    /// Tasks read, parse and change the shard; guards are dropped.
    #[default]
    Input,
    /// The clock, the state of the others, sessions that leave.
    Begin,
    Carry,
    Inbox,
    /// Deadlines and slow consumers.
    Wheel,
    CarryAgain,
    Flush,
    /// What the flush and the inbox owe to tasks.
    HandOut,
}

impl World {
    /// The next step of shard `at`.
    pub(super) fn advance(&mut self, at: usize) {
        self.trace.add(&[1, at as u64, self.now.0]);
        let step = self.nodes[at].step;
        self.nodes[at].step = match step {
            Step::Input => {
                self.input(at);
                Step::Begin
            }
            Step::Begin => {
                self.begin(at);
                self.depart(at);
                self.leave(at);
                Step::Carry
            }
            Step::Carry => {
                self.carry(at);
                Step::Inbox
            }
            Step::Inbox => {
                self.take_inbox(at);
                Step::Wheel
            }
            Step::Wheel => {
                let shard = &mut self.nodes[at].shard;
                let budget = shard.budgets().due;
                self.model.on_deadlines(at, shard.now(), budget);
                shard.turn_wheel();
                self.receive_later(at);
                self.close_slow_consumers(at);
                Step::CarryAgain
            }
            Step::CarryAgain => {
                self.carry(at);
                self.nodes[at].shard.fence();
                Step::Flush
            }
            Step::Flush => {
                self.flush(at);
                Step::HandOut
            }
            Step::HandOut => {
                self.hand_out(at);
                self.publish_state(at);
                Step::Input
            }
        };
    }

    /// Streams that have ended. A guard may be late: its task has not run yet.
    fn depart(&mut self, at: usize) {
        for key in std::mem::take(&mut self.nodes[at].departed) {
            if self.chance.below(4) == 0 {
                self.nodes[at].departed.push(key);
            } else {
                self.nodes[at].shard.on_departed(key);
                self.give_up(at, key);
            }
        }
    }

    fn begin(&mut self, at: usize) {
        let inboxes = self.mesh.inboxes.iter();
        let peers: Vec<Peer> = inboxes
            .zip(&self.nodes)
            .map(|(inbox, node)| Peer {
                inbox_depth: inbox.len(),
                inbox_bytes: inbox
                    .iter()
                    .map(|message| message.frame_bytes() as u64)
                    .sum(),
                ..node.seen
            })
            .collect();
        let shard = &mut self.nodes[at].shard;
        shard.begin_turn(peers.into_iter());
        shard.on_time(self.now);
    }

    /// Sessions leave their channels; only then are their descriptors closed, and sometimes later:
    /// another task may still hold the stream.
    fn leave(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.shard.leave();
        node.shard.switch_to_deltas();
        node.shard.take_released(&mut node.released);
        for slot in std::mem::take(&mut node.released) {
            if self.chance.below(4) == 0 {
                node.released.push(slot);
                continue;
            }
            let task = node.tasks[slot as usize].take();
            let task = task.expect("a slot is released once");
            self.trace.add(&[3, task.peer as u64]);
            self.peers[task.peer].finished = true;
            if self.plan.off != Some(Rule::CloseLast) {
                self.kernel.close(task.fd);
            }
            node.shard.on_closed(slot);
        }
    }

    fn take_inbox(&mut self, at: usize) {
        for _ in 0..self.nodes[at].shard.budgets().messages.max(1) {
            let Some(message) = self.mesh.inboxes[at].pop_front() else {
                break;
            };
            self.on_message(at, message);
            if self.nodes[at].shard.has_expanded_enough() {
                break;
            }
        }
        self.nodes[at].shard.expand();
    }

    fn on_message(&mut self, at: usize, message: ShardMessage) {
        let node = &mut self.nodes[at];
        self.model.on_taken(at, &message, node.shard.now());
        let noted = self.receiver.note(&message, &self.model);
        node.shard.on_message(message);
        match noted {
            Some(noted) => self.receive(at, noted),
            None => self.receive_nothing(at),
        }
    }

    /// Sends one batch, unless the seed has this shard send nothing for a while.
    fn flush(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if self.now < node.silent_until {
            return;
        }
        let budgets = node.shard.budgets();
        node.shard.begin_flush();
        node.shard.fill_batch(budgets.sends, budgets.sends_bulk);
        let batch: Vec<(u32, i32, Vec<u8>)> = node
            .shard
            .batch()
            .map(|slices| (slices.slot, slices.fd, slices.slices.concat()))
            .collect();
        for (index, (slot, fd, bytes)) in batch.into_iter().enumerate() {
            self.send(at, index, slot, fd, &bytes);
        }
        let shard = &mut self.nodes[at].shard;
        shard.on_pings_sent();
        shard.on_flushed(Micros(self.now.0 * 1000));
    }

    fn send(&mut self, at: usize, index: usize, slot: u32, fd: i32, bytes: &[u8]) {
        let node = &mut self.nodes[at];
        let task = node.tasks[slot as usize]
            .as_ref()
            .expect("only connections are sent to");
        let peer = &mut self.peers[task.peer];
        let (chance, now) = (&mut self.chance, node.shard.now());
        let sent = self
            .kernel
            .send(fd, task.peer, bytes.len(), peer.gone, now, chance);
        peer.refused |= !matches!(sent, Sent::Bytes(taken) if taken == bytes.len());
        if let Sent::Bytes(taken) = sent {
            self.trace.add(&[4, task.peer as u64, taken as u64]);
            peer.on_bytes(&bytes[..taken], &mut self.model);
        }
        node.shard.on_sent(index, sent);
        if node.shard.queued_bytes(slot) == 0
            && let Some(socket) = self.kernel.socket(fd)
        {
            socket.refused = None;
        }
    }

    /// What tasks are told at the end of a turn.
    fn hand_out(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let outcomes = node.shard.take_outcomes();
        for slot in outcomes.blocked {
            if let Some(task) = &mut node.tasks[slot as usize] {
                task.blocked = true;
            }
        }
        for slot in outcomes.drained {
            if let Some(task) = &mut node.tasks[slot as usize] {
                task.paused = false;
            }
        }
        for slot in outcomes.finished {
            if let Some(task) = &mut node.tasks[slot as usize] {
                self.peers[task.peer].finished = true;
            }
        }
        for slot in outcomes.broken {
            self.drop_guard(at, slot as usize);
        }
        self.hand_out_keys(at);
    }

    fn hand_out_keys(&mut self, at: usize) {
        let (mut resumed, mut answers, mut expired) = (Vec::new(), Vec::new(), Vec::new());
        let shard = &mut self.nodes[at].shard;
        shard.take_resumed(&mut resumed);
        shard.take_answers(&mut answers);
        shard.take_expired(&mut expired);
        for key in resumed {
            self.resume(at, key);
        }
        for (to, answer) in answers {
            self.on_answer(at, to, answer);
        }
        for key in expired {
            let task = self.nodes[at].tasks[key.slot as usize].as_ref();
            if let Some(task) = task.filter(|task| task.key == key) {
                self.peers[task.peer].cut_off = true;
                self.drop_guard(at, key.slot as usize);
            }
        }
    }

    /// What the others see of this shard from now on.
    fn publish_state(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.seen = Peer {
            congested: node.shard.is_congested(),
            behind: node.shard.is_behind(),
            ..Peer::default()
        };
    }
}
