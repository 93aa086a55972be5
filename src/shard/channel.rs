//! `ChannelKey`, and `LocalChannel`: the subscribers of a channel on this shard.
//!
//! A local channel lives while it has a subscription, pending ones included; each life has a
//! *round*, so that what was sent to an earlier life is recognised and ignored (decisions 17).
//! Subscribers that must be sent different bytes are in different [`Group`]s, each with a run of its
//! own (decisions 24): the plain ones inline, all others behind one pointer (`groups`).
//! Removal is O(1) on both sides: an [`Entry`] knows its place in the connection's list, and the
//! connection's `Sub` knows its place here.

use std::hash::{Hash, Hasher};
use std::iter;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::groups::{Bases, GroupId, Groups, Needs, Wanted};
use super::message::ShardId;
use super::palette::{RunId, Tenant};
use super::table::{ChannelTable, Keyed};

/// A channel of an app, with its hash. One `Arc` in the process: interest carries it, home and
/// local tables share it.
#[derive(Debug)]
pub struct ChannelKey {
    pub hash: u64,
    pub app: u32,
    pub name: Box<str>,
}

impl PartialEq for ChannelKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.app == other.app && self.name == other.name
    }
}

impl Eq for ChannelKey {}

/// The hash that it carries: the table's own only has to spread it.
impl Hash for ChannelKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Hashes (app, channel name) with a key of the process: names come from the network.
#[derive(Clone, Copy, Debug)]
pub struct ChannelHasher {
    key: [u64; 2],
}

impl ChannelHasher {
    /// All shards of a process share the key, or they would disagree on homes.
    pub fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// The hash of a channel.
    pub fn hash(&self, app: u32, name: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write_u32(app);
        hasher.write(name.as_bytes());
        hasher.finish()
    }
}

/// The home shard of a hash among `shards`. The upper half decides, since tables use the lower
/// bits.
pub fn home(hash: u64, shards: u16) -> ShardId {
    (((hash >> 32) * u64::from(shards)) >> 32) as ShardId
}

/// One subscriber: the connection's slot and the index in its list of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub slot: u32,
    pub nth: u32,
}

/// Subscribers of a channel that are sent the same bytes.
#[derive(Debug)]
pub struct Group {
    pub entries: SmallVec<[Entry; 2]>,
    /// The run that takes the frames of the current drain, not yet expanded.
    pub open: RunId,
    /// The last run that was expanded; it may have gone since.
    pub last: Tenant,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            entries: SmallVec::new(),
            open: RunId::NONE,
            last: Tenant::NONE,
        }
    }
}

/// A channel that has subscriptions on this shard.
#[derive(Debug)]
pub struct LocalChannel {
    pub key: Arc<ChannelKey>,
    pub home: ShardId,
    /// Committed subscribers of the plain form.
    pub plain: Group,
    /// Those of all other forms, while there are any.
    pub others: Option<Box<Groups>>,
    /// Subscriptions that wait for `Joined`; they receive nothing.
    pub pending: u32,
    /// The life of this channel on this shard.
    pub round: u32,
    /// The last number delivered in this round; 0 before the first.
    pub seq: u64,
    /// What the home was last told; `None` before the first word. Unused by presence channels.
    pub told: Option<u32>,
    /// What it was last told to do for the groups here.
    pub told_needs: Needs,
    /// Whether the channel waits in the list of counts to report.
    pub report: bool,
    /// Presence channels report by `Join` and `Leave`, all others by `Interest`.
    pub presence: bool,
}

impl Keyed for LocalChannel {
    fn key(&self) -> &Arc<ChannelKey> {
        &self.key
    }
}

impl LocalChannel {
    /// Committed subscribers of every form.
    pub fn subscribers(&self) -> usize {
        let others = self
            .others
            .as_ref()
            .map_or(0, |others| others.subscribers());
        self.plain.entries.len() + others
    }

    /// The same, one by one.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let others = self.others.iter().flat_map(|others| others.entries());
        self.plain.entries.iter().copied().chain(others)
    }

    /// The groups that there are.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        let others = self.others.iter().flat_map(|others| others.all());
        iter::once(GroupId::PLAIN).chain(others.map(|(id, _)| id))
    }

    /// The group of subscriptions that want this, made where there is none.
    pub fn group_of(&mut self, wanted: &Wanted) -> GroupId {
        match wanted.is_plain() {
            true => GroupId::PLAIN,
            false => self.others.get_or_insert_default().find_or_insert(wanted),
        }
    }

    /// What the subscriptions of a group have asked for.
    pub fn wanted(&self, id: GroupId) -> Wanted {
        let others = self.others.as_ref();
        others
            .and_then(|others| others.wanted(id))
            .unwrap_or_default()
    }

    /// What the home has to do for its subscribers.
    pub fn needs(&self) -> Needs {
        self.others
            .as_ref()
            .map_or_else(Needs::default, |others| others.needs())
    }

    /// Bytes of the texts that are kept as bases here.
    pub fn ring_bytes(&self) -> u64 {
        self.others.as_ref().map_or(0, |others| others.ring_bytes())
    }

    /// Bytes of the filters of its subscribers.
    pub fn filter_bytes(&self) -> u64 {
        self.others
            .as_ref()
            .map_or(0, |others| others.filter_bytes())
    }

    /// A group.
    pub fn group(&mut self, id: GroupId) -> Option<&mut Group> {
        match id {
            GroupId::PLAIN => Some(&mut self.plain),
            id => self.others.as_mut()?.at(id),
        }
    }

    /// The same, to read.
    pub fn peek_group(&self, id: GroupId) -> Option<&Group> {
        match id {
            GroupId::PLAIN => Some(&self.plain),
            id => self.others.as_ref()?.peek(id),
        }
    }

    /// The bases of a group that is not the plain one.
    pub fn bases(&self, id: GroupId) -> Option<&Bases> {
        self.others.as_ref()?.bases(id)
    }

    /// Adds a subscriber to a group; returns its place there.
    pub fn add(&mut self, id: GroupId, entry: Entry) -> u32 {
        if id != GroupId::PLAIN
            && let Some(others) = &mut self.others
        {
            return others.add(id, entry, self.seq);
        }
        self.plain.entries.push(entry);
        (self.plain.entries.len() - 1) as u32
    }

    /// Removes the subscriber at a place of a group, and the group with its last one. Returns who
    /// moved to that place.
    pub fn remove(&mut self, id: GroupId, position: u32) -> Option<Entry> {
        if id != GroupId::PLAIN {
            let others = self.others.as_mut()?;
            let moved = others.remove(id, position);
            if others.subscribers() == 0 {
                self.others = None;
            }
            return moved;
        }
        self.plain.entries.swap_remove(position as usize);
        self.plain.entries.get(position as usize).copied()
    }
}

/// All channels of a shard that have subscriptions here.
#[derive(Default)]
pub struct LocalChannels {
    table: ChannelTable<LocalChannel>,
    rounds: u32,
}

impl LocalChannels {
    /// Begins a life of a channel that has none here.
    pub fn insert(&mut self, key: Arc<ChannelKey>, home: ShardId, presence: bool) -> u32 {
        self.rounds = self.rounds.wrapping_add(1);
        self.table.insert(LocalChannel {
            key,
            home,
            plain: Group::default(),
            others: None,
            pending: 0,
            round: self.rounds,
            seq: 0,
            told: None,
            told_needs: Needs::default(),
            report: false,
            presence,
        })
    }
}

impl Deref for LocalChannels {
    type Target = ChannelTable<LocalChannel>;

    fn deref(&self) -> &Self::Target {
        &self.table
    }
}

impl DerefMut for LocalChannels {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_below_the_number_of_shards_and_uses_all() {
        let hasher = ChannelHasher::new([1, 2]);
        for shards in [1u16, 2, 5, 64] {
            let mut seen = vec![false; usize::from(shards)];
            for n in 0..2000 {
                seen[usize::from(home(hasher.hash(0, &format!("channel-{n}")), shards))] = true;
            }
            assert!(seen.iter().all(|&s| s), "{shards} shards");
        }
    }

    #[test]
    fn same_name_in_another_app_is_another_channel() {
        let hasher = ChannelHasher::new([1, 2]);
        let mut channels = LocalChannels::default();
        let hash = hasher.hash(1, "news");
        let key = Arc::new(ChannelKey {
            hash,
            app: 1,
            name: "news".into(),
        });
        let index = channels.insert(key, 0, false);
        assert_eq!(channels.find(hash, 1, "news"), Some(index));
        assert_eq!(channels.find(hash, 2, "news"), None);
        assert!(channels.remove(index).is_some());
        assert!(channels.is_empty() && channels.find(hash, 1, "news").is_none());
    }

    #[test]
    fn each_life_has_its_own_round() {
        let mut channels = LocalChannels::default();
        let key = Arc::new(ChannelKey {
            hash: 7,
            app: 1,
            name: "news".into(),
        });
        let first = channels.insert(Arc::clone(&key), 0, false);
        let round = channels.peek(first).map(|c| c.round);
        channels.remove(first);
        let second = channels.insert(key, 0, false);
        assert_ne!(channels.peek(second).map(|c| c.round), round);
    }
}
