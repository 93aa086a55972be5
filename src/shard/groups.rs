//! `Groups`: the subscribers of a channel that are not sent the plain form, by what they are sent.
//!
//! A channel has them only while somebody asked for more than the plain protocol, so that nobody
//! else pays for it (decisions 24). Groups are dense by [`GroupId`]; an id is reused once its group
//! has lost its last subscriber, and open runs are expanded before that.

use std::collections::HashMap;

use crate::pusher::dialect::Dialect;

use super::channel::{Entry, Group};

/// What a subscription is sent: everybody with the same form gets the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub dialect: Dialect,
}

impl Form {
    /// What a client gets that asked for nothing.
    pub const PLAIN: Self = Self {
        dialect: Dialect::Pusher,
    };
}

/// Names a group of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupId(u32);

impl GroupId {
    /// The group of the plain form.
    pub const PLAIN: Self = Self(u32::MAX);
}

/// A group with its form.
#[derive(Debug)]
struct Formed {
    form: Form,
    group: Group,
}

/// The groups of a channel beside the plain one.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Vec<Option<Formed>>,
    free: Vec<u32>,
    by_form: HashMap<Form, GroupId>,
    /// The entries of all of them.
    subscribers: usize,
}

impl Groups {
    /// The entries of all groups.
    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// The group of a form.
    pub fn find_or_insert(&mut self, form: Form) -> GroupId {
        if let Some(&id) = self.by_form.get(&form) {
            return id;
        }
        let formed = Some(Formed {
            form,
            group: Group::default(),
        });
        let id = match self.free.pop() {
            Some(free) => {
                self.groups[free as usize] = formed;
                GroupId(free)
            }
            None => {
                self.groups.push(formed);
                GroupId((self.groups.len() - 1) as u32)
            }
        };
        self.by_form.insert(form, id);
        id
    }

    /// A group.
    pub fn at(&mut self, id: GroupId) -> Option<&mut Group> {
        let formed = self.groups.get_mut(id.0 as usize)?.as_mut()?;
        Some(&mut formed.group)
    }

    /// The same, to read.
    pub fn peek(&self, id: GroupId) -> Option<&Group> {
        Some(&self.groups.get(id.0 as usize)?.as_ref()?.group)
    }

    /// Every group and its form, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, Form)> {
        let groups = self.groups.iter().zip(0..);
        groups.filter_map(|(formed, id)| Some((GroupId(id), formed.as_ref()?.form)))
    }

    /// Every entry, in the order of ids.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let groups = self.groups.iter().flatten();
        groups.flat_map(|formed| formed.group.entries.iter().copied())
    }

    /// Adds a subscriber to a group that there is; returns its place there.
    pub fn add(&mut self, id: GroupId, entry: Entry) -> u32 {
        let Some(group) = self.at(id) else { return 0 };
        group.entries.push(entry);
        let position = (group.entries.len() - 1) as u32;
        self.subscribers += 1;
        position
    }

    /// Removes the subscriber at a place, and the group with its last one. Returns who moved there.
    pub fn remove(&mut self, id: GroupId, position: u32) -> Option<Entry> {
        let formed = self.groups.get_mut(id.0 as usize)?;
        let Formed { form, group } = formed.as_mut()?;
        group.entries.swap_remove(position as usize);
        self.subscribers -= 1;
        let moved = group.entries.get(position as usize).copied();
        if group.entries.is_empty() {
            self.by_form.remove(form);
            *formed = None;
            self.free.push(id.0);
        }
        moved
    }
}
