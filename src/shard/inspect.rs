//! What a test may look at inside a shard, and the switches of its mutations. Reads only, except
//! for the switches; nothing of it is compiled into the server.

use super::Mutations;
use super::Shard;
use super::conns::Phase;
use super::homes::HomeChannel;
use super::message::ShardMessage;

impl Shard {
    /// Switches rules of the design off.
    pub fn set_mutations(&mut self, mutations: Mutations) {
        self.mutations = mutations;
        self.outbox.mutations = mutations;
    }

    /// Whether the slot has a session that is not being closed.
    pub fn is_open(&self, slot: u32) -> bool {
        slot < self.conns.slots() && self.conns.peek(slot).phase == Phase::Open
    }

    /// Bytes queued for a connection.
    pub fn queued_bytes(&self, slot: u32) -> u32 {
        self.conns.peek(slot).pending_bytes
    }

    /// Bytes and frames of channels that wait for a blocked connection, and the runs they are in.
    pub fn queued_of_channels(&self, slot: u32) -> (u32, u32, usize) {
        let pieces = self.outbox.spills.get(&slot).map(|spill| &spill.pieces);
        let of_channels = pieces
            .into_iter()
            .flatten()
            .filter(|piece| self.outbox.palette.frames(piece.run) > 0);
        let (mut bytes, mut frames, mut runs) = (0, 0, Vec::new());
        for piece in of_channels {
            bytes += piece.end - piece.start;
            frames += self
                .outbox
                .palette
                .frames_in(piece.run, piece.start, piece.end);
            if !runs.contains(&piece.run) {
                runs.push(piece.run);
            }
        }
        (bytes, frames, runs.len())
    }

    /// Bytes of all runs, runs that somebody holds, and bytes that nobody has tried to send.
    pub fn palette_held(&self) -> (u64, usize, u64) {
        let palette = &self.outbox.palette;
        (palette.bytes(), palette.held(), palette.fresh_bytes())
    }

    /// Idempotency keys at home here whose first request has not been answered.
    pub fn claimed_keys(&self) -> usize {
        self.claims.claimed()
    }

    /// A channel at its home here.
    pub fn home_channel(&self, app: u32, name: &str) -> Option<&HomeChannel> {
        self.homes.peek(self.hasher.hash(app, name), app, name)
    }

    /// Committed and pending subscriptions of a channel here, and what the home was last told.
    pub fn local_channel(&self, app: u32, name: &str) -> Option<(usize, u32, Option<u32>)> {
        let index = self.local.find(self.hasher.hash(app, name), app, name)?;
        let channel = self.local.peek(index)?;
        Some((channel.subscribers(), channel.pending, channel.told))
    }

    /// Channels of the users who watch a user at home here, in alphabetical order.
    pub fn watchers(&self, app: u32, name: &str) -> Vec<&str> {
        let user = self.home_channel(app, name).and_then(HomeChannel::user);
        let watchers = user.into_iter().flat_map(|user| user.watchers.iter());
        let mut watchers: Vec<&str> = watchers.map(|watcher| &*watcher.key.name).collect();
        watchers.sort_unstable();
        watchers
    }

    /// The round under which a user at home here watches another one, by their channels.
    pub fn watch_round(&self, app: u32, watcher: &str, watched: &str) -> Option<u32> {
        let user = self.home_channel(app, watcher)?.user()?;
        let hash = self.hasher.hash(app, watched);
        user.watching.round_of(hash, app, watched)
    }

    /// Messages that wait to be carried.
    pub fn queued_messages(&self) -> impl Iterator<Item = &ShardMessage> {
        self.outgoing.iter().flat_map(|outgoing| &outgoing.list)
    }

    /// Webhooks that wait for their time.
    pub fn delays(&self) -> usize {
        self.delays.len()
    }

    /// Channels at home here, for whatever reason.
    pub fn home_channels(&self) -> usize {
        self.homes.iter().count()
    }

    /// Bytes of the filters of all channels here.
    pub fn filter_bytes(&self) -> u64 {
        self.filter_bytes
    }

    /// Subscriptions here, pending ones included.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }
}
