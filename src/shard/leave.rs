//! Leaving channels: unsubscribe, and a session that ends, a bounded number of subscriptions per
//! turn.

use std::sync::Arc;

use crate::pusher::channel::ChannelKind;
use crate::pusher::error::Rejection;

use super::Shard;
use super::channel::LocalChannel;
use super::conns::{Flag, Phase};
use super::message::ShardMessage;
use super::session::{Membership, Record};

/// A session that is being taken out of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    slot: u32,
}

impl Shard {
    /// `pusher:unsubscribe`: no acknowledgement (WebSocket spec 8).
    pub(super) fn unsubscribe(&mut self, slot: u32, name: &str) {
        if name.starts_with('#') {
            return self.unsubscribe_from_user(slot, name);
        }
        let app = self.conns.session(slot).app;
        let hash = self.hasher.hash(app, name);
        let nth = self
            .local
            .find(hash, app, name)
            .and_then(|c| self.conns.session(slot).find(c));
        match nth {
            Some(nth) => self.remove_subscription(slot, nth),
            None => self.reject(slot, &Rejection::NotSubscribed { channel: name }),
        }
    }

    /// Takes one committed subscription out of the connection's list and the channel's, and tells
    /// the home.
    fn remove_subscription(&mut self, slot: u32, nth: u32) {
        let session = self.conns.session(slot);
        let Some(&sub) = session.subs.get(nth as usize) else {
            return;
        };
        let group = session.group(sub);
        let index = sub.channel;
        self.expand_group(index, group);
        let session = self.conns.session(slot);
        let (_, record, moved) = session.remove(nth);
        if let Some(moved) = moved {
            let its_group = session.group(moved);
            if let Some(channel) = self.local.at(moved.channel)
                && let Some(group) = channel.group(its_group)
                && let Some(entry) = group.entries.get_mut(moved.position as usize)
            {
                entry.nth = nth;
            }
        }
        if let Some(channel) = self.local.at(index) {
            let before = (channel.filter_bytes(), channel.ring_bytes());
            let moved = channel.remove(group, sub.position);
            self.filter_bytes -= before.0 - channel.filter_bytes();
            self.ring_bytes -= before.1 - channel.ring_bytes();
            if let Some(entry) = moved {
                let subs = &mut self.conns.session(entry.slot).subs;
                subs[entry.nth as usize].position = sub.position;
            }
        }
        self.subscriptions -= 1;
        if let Some(channel) = self.local.peek(index) {
            let kind = ChannelKind::of(&channel.key.name);
            self.counters.app(channel.key.app).unsubscriptions[kind as usize] += 1;
        }
        let membership = record.and_then(|Record { membership, .. }| membership);
        self.tell_home(
            slot,
            index,
            membership.map(|Membership { subscription, .. }| subscription),
        );
    }

    /// Drops the subscribe that still waits; its `Joined` will find nobody (decisions 11).
    fn remove_pending(&mut self, slot: u32) {
        let extra = self.conns.session(slot).extra.as_mut();
        let Some(pending) = extra.and_then(|extra| extra.pending.take()) else {
            return;
        };
        if let Some(channel) = self.local.at(pending.channel) {
            channel.pending -= 1;
        }
        self.subscriptions -= 1;
        let subscription = pending.member.is_some().then_some(pending.subscription);
        self.tell_home(slot, pending.channel, subscription);
    }

    /// What the home is owed after a subscription has gone from `index`, and the end of the
    /// channel's life here.
    fn tell_home(&mut self, slot: u32, index: u32, joined: Option<u32>) {
        let session = self.conns.key(slot);
        let Some(channel) = self.local.at(index) else {
            return;
        };
        let home = channel.home;
        if let Some(subscription) = joined {
            let channel = Arc::clone(&channel.key);
            self.send(
                home,
                ShardMessage::Leave {
                    channel,
                    session,
                    subscription,
                },
                true,
            );
        }
        self.settle(index);
    }

    /// Reports a changed count, or ends the life of a channel without subscriptions.
    pub(super) fn settle(&mut self, index: u32) {
        let Some(channel) = self.local.peek(index) else {
            return;
        };
        let is_counted = self.is_counted(&channel.key);
        let Some(channel) = self.local.at(index) else {
            return;
        };
        let home = channel.home;
        if channel.subscribers() == 0 && channel.pending == 0 {
            let Some(channel) = self.local.remove(index) else {
                return;
            };
            if channel.told.is_some_and(|told| told != 0) {
                let message = self.interest(&channel, 0);
                self.send(home, message, true);
            }
        } else if !channel.presence || channel.needs() != channel.told_needs {
            if is_counted {
                return self.report_channel(index, true);
            }
            if !std::mem::replace(&mut channel.report, true) {
                self.reports.push(index);
            }
            // Also for one whose change goes out in a report that another has caused.
            self.cause(home);
        }
    }

    fn interest(&self, channel: &LocalChannel, subscribers: u32) -> ShardMessage {
        ShardMessage::Interest {
            channel: Arc::clone(&channel.key),
            source: self.id,
            subscribers,
            needs: channel.needs(),
            round: channel.round,
            ask: None,
        }
    }

    /// Queues the counts that changed, once per channel. Before every carry.
    pub fn report(&mut self) {
        for index in std::mem::take(&mut self.reports) {
            if self.local.peek(index).is_some_and(|channel| channel.report) {
                self.report_channel(index, false);
            }
        }
    }

    /// Queues the count and the needs of a channel, if the home knows others. The count of a presence
    /// channel is the home's own.
    pub(super) fn report_channel(&mut self, index: u32, urgent: bool) {
        let Some(channel) = self.local.at(index) else {
            return;
        };
        channel.report = false;
        let subscribers = channel.subscribers() as u32 + channel.pending;
        let needs = channel.needs();
        let before = std::mem::replace(&mut channel.told_needs, needs);
        let is_known = channel.told == Some(subscribers) || channel.presence;
        if is_known && before == needs {
            return;
        }
        // A count that stays above zero wakes nobody (decisions 8).
        let crosses = channel.told.is_none_or(|told| told == 0) || before != needs;
        if !channel.presence {
            channel.told = Some(subscribers);
        }
        let home = channel.home;
        let Some(channel) = self.local.peek(index) else {
            return;
        };
        let message = self.interest(channel, subscribers);
        let deep = self.peers[usize::from(home)].inbox_depth >= self.settings.inbox_depth_max / 4;
        self.send(home, message, urgent || crosses || deep);
    }

    /// Starts taking a session out of its channels; the connection may still have a Close to send.
    pub(super) fn begin_leaving(&mut self, slot: u32) {
        if self.conns.session(slot).socket_id.is_none()
            || self.conns.peek(slot).flags.has(Flag::Leaving)
        {
            return;
        }
        self.conns.hot(slot).flags.set(Flag::Leaving);
        self.remove_pending(slot);
        self.stop_watching(slot);
        self.leaving.push_back(Leaving { slot });
        self.counters.ended += 1;
    }

    /// Removes subscriptions of leaving sessions within the turn's budget.
    pub fn leave(&mut self) {
        let mut budget = self.settings.budgets.leaving.max(1);
        while budget > 0
            && let Some(&Leaving { slot }) = self.leaving.front()
        {
            budget -= 1;
            match self.conns.session(slot).subs.len().checked_sub(1) {
                Some(last) => self.remove_subscription(slot, last as u32),
                None => {
                    self.leaving.pop_front();
                    self.end_session(slot);
                }
            }
        }
    }

    /// The session is out of every table.
    fn end_session(&mut self, slot: u32) {
        let session = self.conns.session(slot);
        let app = session.app;
        session.socket_id = None;
        session.extra = None;
        if let Some(app) = self.app(app) {
            app.quota.release();
        }
        self.counters.left += 1;
        self.counters.app(app).left += 1;
        self.conns.hot(slot).flags.clear(Flag::Leaving);
        self.leave_or_release(slot);
    }

    /// Hands the slot out for closing once the stream has ended and the session has left.
    pub(super) fn leave_or_release(&mut self, slot: u32) {
        let hot = self.conns.peek(slot);
        if hot.phase == Phase::Departed && !hot.flags.has(Flag::Leaving) {
            self.released.push(slot);
        }
    }
}
