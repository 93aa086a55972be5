//! `ChannelTable`: channels dense by index, found by name through a table of indexes.
//!
//! Used for the subscribers here (`channel`) and for what a home knows (`home`). Indexes are
//! reused; whoever keeps one must drop it when the channel goes.

use std::sync::Arc;

use hashbrown::HashTable;

use super::channel::ChannelKey;

/// What a table finds by.
pub trait Keyed {
    /// The channel's key.
    fn key(&self) -> &Arc<ChannelKey>;
}

/// Channels by index and by name.
#[derive(Debug)]
pub struct ChannelTable<T> {
    table: HashTable<u32>,
    channels: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for ChannelTable<T> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            channels: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Keyed> ChannelTable<T> {
    /// The index of the channel with this name.
    pub fn find(&self, hash: u64, app: u32, name: &str) -> Option<u32> {
        let is_it = |index: &u32| {
            self.peek(*index).is_some_and(|channel| {
                let key = channel.key();
                key.hash == hash && key.app == app && *key.name == *name
            })
        };
        self.table.find(hash, is_it).copied()
    }

    /// The index of the channel with this key.
    pub fn find_key(&self, key: &Arc<ChannelKey>) -> Option<u32> {
        let is_it = |index: &u32| {
            self.peek(*index).is_some_and(|channel| {
                let other = channel.key();
                Arc::ptr_eq(other, key) || other == key
            })
        };
        self.table.find(key.hash, is_it).copied()
    }

    /// Adds a channel that is not in the table.
    pub fn insert(&mut self, channel: T) -> u32 {
        let hash = channel.key().hash;
        let index = match self.free.pop() {
            Some(index) => {
                self.channels[index as usize] = Some(channel);
                index
            }
            None => {
                self.channels.push(Some(channel));
                (self.channels.len() - 1) as u32
            }
        };
        let channels = &self.channels;
        let rehash = |&i: &u32| channels[i as usize].as_ref().map_or(0, |c| c.key().hash);
        self.table.insert_unique(hash, index, rehash);
        index
    }

    /// Removes the channel at an index.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let channel = self.channels.get_mut(index as usize)?.take()?;
        if let Ok(entry) = self.table.find_entry(channel.key().hash, |&i| i == index) {
            entry.remove();
        }
        self.free.push(index);
        Some(channel)
    }

    /// The channel at an index.
    pub fn at(&mut self, index: u32) -> Option<&mut T> {
        self.channels.get_mut(index as usize)?.as_mut()
    }

    /// The same, to read.
    pub fn peek(&self, index: u32) -> Option<&T> {
        self.channels.get(index as usize)?.as_ref()
    }

    /// Indexes ever used at once; some of them may be free.
    pub fn places(&self) -> u32 {
        self.channels.len() as u32
    }

    /// All channels by index.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.channels.iter().flatten()
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
