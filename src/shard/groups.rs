//! `Groups`: the subscribers of a channel that are not sent the plain form, by what they are sent.
//!
//! A channel has them only while somebody asked for more than the plain protocol, so that nobody
//! else pays for it (decisions 24). Equal filters are kept once, and each is evaluated once per
//! event, however many subscribe with it (extensions spec 2.4). Groups and filters are dense by
//! their ids; an id is reused once its group has lost its last subscriber, and open runs are
//! expanded before that.
//!
//! Invariant: every group has a subscriber, except between [`Groups::find_or_insert`] and the
//! [`Groups::add`] that follows it; every filter has a group.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::pusher::dialect::Dialect;
use crate::pusher::filter::{Filter, TagSet};

use super::channel::{Entry, Group};

/// What a subscription is to be sent, as it has asked.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub dialect: Dialect,
    pub filter: Option<Arc<Filter>>,
}

impl Wanted {
    /// Whether this is what a client gets that asked for nothing.
    pub fn is_plain(&self) -> bool {
        self.dialect == Dialect::Pusher && self.filter.is_none()
    }
}

/// What the subscribers of a group are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub dialect: Dialect,
    filter: Option<FilterId>,
}

impl Form {
    /// Whether the subscribers have given a filter.
    pub fn is_filtered(self) -> bool {
        self.filter.is_some()
    }
}

/// Names a group of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupId(u32);

impl GroupId {
    /// The group of the plain form.
    pub const PLAIN: Self = Self(u32::MAX);
}

/// Names a filter of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FilterId(u32);

/// A group with its form.
#[derive(Debug)]
struct Formed {
    form: Form,
    group: Group,
}

/// A filter of some groups.
#[derive(Debug)]
struct Interned {
    filter: Arc<Filter>,
    /// Groups that have it.
    groups: u32,
    /// Whether the event that is being delivered passes it.
    passes: bool,
}

/// Groups by id, with their forms.
pub type Chosen = SmallVec<[(GroupId, Form); 4]>;

/// The groups of a channel beside the plain one.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Slab<Formed>,
    by_form: HashMap<Form, GroupId>,
    filters: Slab<Interned>,
    by_filter: HashMap<Arc<Filter>, FilterId>,
    /// Bytes of the filters.
    filter_bytes: u64,
    /// The entries of all groups.
    subscribers: usize,
}

impl Groups {
    /// The entries of all groups.
    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// Distinct filters.
    pub fn filters(&self) -> usize {
        self.by_filter.len()
    }

    /// Whether a filter is one that somebody has already.
    pub fn has_filter(&self, filter: &Filter) -> bool {
        self.by_filter.contains_key(filter)
    }

    /// Bytes of the filters.
    pub fn filter_bytes(&self) -> u64 {
        self.filter_bytes
    }

    /// The group of what is wanted, made where there is none.
    pub fn find_or_insert(&mut self, wanted: &Wanted) -> GroupId {
        let filter = wanted.filter.as_ref().map(|filter| self.intern(filter));
        let form = Form {
            dialect: wanted.dialect,
            filter,
        };
        if let Some(&id) = self.by_form.get(&form) {
            return id;
        }
        if let Some(interned) = filter.and_then(|id| self.filters.at(id.0)) {
            interned.groups += 1;
        }
        let group = Group::default();
        let id = GroupId(self.groups.insert(Formed { form, group }));
        self.by_form.insert(form, id);
        id
    }

    fn intern(&mut self, filter: &Arc<Filter>) -> FilterId {
        if let Some(&id) = self.by_filter.get(filter) {
            return id;
        }
        let id = FilterId(self.filters.insert(Interned {
            filter: Arc::clone(filter),
            groups: 0,
            passes: false,
        }));
        self.by_filter.insert(Arc::clone(filter), id);
        self.filter_bytes += filter.bytes() as u64;
        id
    }

    /// A group.
    pub fn at(&mut self, id: GroupId) -> Option<&mut Group> {
        Some(&mut self.groups.at(id.0)?.group)
    }

    /// The same, to read.
    pub fn peek(&self, id: GroupId) -> Option<&Group> {
        Some(&self.groups.peek(id.0)?.group)
    }

    /// Every group.
    pub fn all(&self) -> Chosen {
        let groups = self.groups.iter();
        groups
            .map(|(id, formed)| (GroupId(id), formed.form))
            .collect()
    }

    /// The groups that an event is for: each filter is asked once.
    pub fn choose(&mut self, event: &str, tags: &TagSet) -> Chosen {
        for interned in self.filters.iter_mut() {
            interned.passes = interned.filter.matches(event, tags);
        }
        let passes = |id: FilterId| self.filters.peek(id.0).is_some_and(|found| found.passes);
        let groups = self.groups.iter();
        let chosen = groups.filter(|(_, formed)| formed.form.filter.is_none_or(passes));
        chosen
            .map(|(id, formed)| (GroupId(id), formed.form))
            .collect()
    }

    /// Every entry, in the order of ids.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let groups = self.groups.iter();
        groups.flat_map(|(_, formed)| formed.group.entries.iter().copied())
    }

    /// Adds a subscriber to a group that there is; returns its place there.
    pub fn add(&mut self, id: GroupId, entry: Entry) -> u32 {
        let Some(group) = self.at(id) else { return 0 };
        group.entries.push(entry);
        let position = (group.entries.len() - 1) as u32;
        self.subscribers += 1;
        position
    }

    /// Removes the subscriber at a place, and with the last one its group, and its filter with the
    /// last group. Returns who moved there.
    pub fn remove(&mut self, id: GroupId, position: u32) -> Option<Entry> {
        let Formed { form, group } = self.groups.at(id.0)?;
        group.entries.swap_remove(position as usize);
        let moved = group.entries.get(position as usize).copied();
        let (form, is_empty) = (*form, group.entries.is_empty());
        self.subscribers -= 1;
        if is_empty {
            self.groups.remove(id.0);
            self.by_form.remove(&form);
            if let Some(filter) = form.filter {
                self.release(filter);
            }
        }
        moved
    }

    fn release(&mut self, id: FilterId) {
        let Some(interned) = self.filters.at(id.0) else {
            return;
        };
        interned.groups -= 1;
        if interned.groups == 0
            && let Some(interned) = self.filters.remove(id.0)
        {
            self.by_filter.remove(&interned.filter);
            self.filter_bytes -= interned.filter.bytes() as u64;
        }
    }
}

/// Values at indexes that are reused.
#[derive(Debug)]
struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(free) => {
                self.places[free as usize] = Some(value);
                free
            }
            None => {
                self.places.push(Some(value));
                (self.places.len() - 1) as u32
            }
        }
    }

    fn remove(&mut self, at: u32) -> Option<T> {
        let value = self.places.get_mut(at as usize)?.take();
        self.free.extend(value.is_some().then_some(at));
        value
    }

    fn at(&mut self, at: u32) -> Option<&mut T> {
        self.places.get_mut(at as usize)?.as_mut()
    }

    fn peek(&self, at: u32) -> Option<&T> {
        self.places.get(at as usize)?.as_ref()
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(&self.places)
            .filter_map(|(at, value)| Some((at, value.as_ref()?)))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json;

    fn filter(text: &str) -> Arc<Filter> {
        let token = json::document(text).expect("JSON");
        let filter = Filter::parse(Some(token), None).expect("a filter");
        Arc::new(filter.expect("a filter"))
    }

    fn wanted(dialect: Dialect, text: &str) -> Wanted {
        Wanted {
            dialect,
            filter: Some(filter(text)),
        }
    }

    const SPOT: &str = r#"{"key":"market","cmp":"eq","val":"spot"}"#;
    const NOT_SPOT: &str = r#"{"key":"market","cmp":"neq","val":"spot"}"#;
    const ENTRY: Entry = Entry { slot: 7, nth: 0 };

    #[test]
    fn equal_filters_are_kept_once_and_share_a_group_of_each_dialect() {
        let mut groups = Groups::default();
        let one = groups.find_or_insert(&wanted(Dialect::Pusher, SPOT));
        groups.add(one, ENTRY);
        assert_eq!(groups.find_or_insert(&wanted(Dialect::Pusher, SPOT)), one);
        let other = groups.find_or_insert(&wanted(Dialect::Sockudo, SPOT));
        groups.add(other, ENTRY);
        assert!(one != other && groups.filters() == 1 && groups.subscribers() == 2);
        assert!(groups.has_filter(&filter(SPOT)) && !groups.has_filter(&filter(NOT_SPOT)));
        let bytes = groups.filter_bytes();
        assert!(bytes > 0);
        groups.remove(one, 0);
        assert_eq!((groups.filters(), groups.filter_bytes()), (1, bytes));
        groups.remove(other, 0);
        assert_eq!((groups.filters(), groups.filter_bytes()), (0, 0));
        assert!(groups.all().is_empty() && groups.peek(one).is_none());
    }

    #[test]
    fn an_event_is_for_the_groups_whose_filter_it_passes() {
        let mut groups = Groups::default();
        let dialect = Dialect::Pusher;
        let spot = groups.find_or_insert(&wanted(dialect, SPOT));
        groups.add(spot, ENTRY);
        let not_spot = groups.find_or_insert(&wanted(dialect, NOT_SPOT));
        groups.add(not_spot, ENTRY);
        let sockudo = groups.find_or_insert(&Wanted {
            dialect: Dialect::Sockudo,
            filter: None,
        });
        groups.add(sockudo, ENTRY);
        let chosen = |groups: &mut Groups, tags: &[(&str, &str)]| {
            let chosen = groups.choose("e", &TagSet::new(tags));
            chosen.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&mut groups, &[("market", "spot")]), [spot, sockudo]);
        assert_eq!(chosen(&mut groups, &[("market", "x")]), [not_spot, sockudo]);
        assert_eq!(chosen(&mut groups, &[]), [not_spot, sockudo]);
        assert_eq!(groups.all().len(), 3);
        // The id of a group that has gone is given to the next one.
        groups.remove(spot, 0);
        assert_eq!(groups.find_or_insert(&wanted(dialect, SPOT)), spot);
    }

    #[test]
    fn whoever_moves_to_the_place_of_one_who_leaves_is_told() {
        let mut groups = Groups::default();
        let id = groups.find_or_insert(&wanted(Dialect::Pusher, SPOT));
        let entry = |slot| Entry { slot, nth: slot };
        assert_eq!(
            (0..3).map(|slot| groups.add(id, entry(slot))).max(),
            Some(2)
        );
        assert_eq!(groups.remove(id, 0), Some(entry(2)));
        assert_eq!(groups.remove(id, 1), None);
        assert_eq!(groups.remove(id, 0), None);
        assert_eq!(groups.subscribers(), 0);
    }
}
