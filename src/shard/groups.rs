//! `Groups`: the subscribers of a channel that are not sent the plain form, by what they are sent.
//!
//! A channel has them only while somebody asked for more than the plain protocol, so that nobody
//! else pays for it (decisions 24). Equal filters are kept once, and each is evaluated once per
//! event, however many subscribe with it (extensions spec 2.4). Groups and filters are dense by
//! their ids; an id is reused once its group has lost its last subscriber, and open runs are
//! expanded before that.
//!
//! Who gets deltas has one number kept, and that is all: the last `Deliver` of the channel that it
//! may not have got. It has got every later one that its group got, so it has a base exactly where
//! the base came after that number, whatever the conflation key (extensions spec 3.4).
//!
//! Invariant: every group has a subscriber, except between [`Groups::find_or_insert`] and the
//! [`Groups::add`] that follows it; every filter has a group; `since` goes with the entries.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::pusher::delta::Algorithm;
use crate::pusher::dialect::Dialect;
use crate::pusher::filter::{Filter, TagSet};

use super::channel::{Entry, Group};
use super::palette::RunId;
use super::session::Sub;
use super::stream::{Held, Ring};

/// What a subscription is to be sent, as it has asked.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub dialect: Dialect,
    pub filter: Option<Arc<Filter>>,
    pub delta: Option<Algorithm>,
}

impl Wanted {
    /// Whether this is what a client gets that asked for nothing.
    pub fn is_plain(&self) -> bool {
        self.dialect == Dialect::Pusher && self.filter.is_none() && self.delta.is_none()
    }
}

/// What the home of a channel has to do for the groups of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    /// Number the messages: somebody gets deltas.
    const STREAM: u8 = 1 << 7;
    /// Somebody gets deltas that the home does not make.
    const FILTERED: u8 = 1 << 6;

    /// Whether somebody gets deltas.
    pub fn stream(self) -> bool {
        self.0 & Self::STREAM != 0
    }

    /// Whether somebody gets deltas against another message than the one before.
    pub fn filtered(self) -> bool {
        self.0 & Self::FILTERED != 0
    }

    /// The algorithms by which each message is to be encoded against the one before it.
    pub fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        let has = move |algorithm: &Algorithm| self.0 & 1 << algorithm.index() != 0;
        Algorithm::ALL.into_iter().filter(has)
    }

    /// The needs of both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the subscribers of a group are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub dialect: Dialect,
    filter: Option<FilterId>,
    pub delta: Option<Algorithm>,
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
    pub const PLAIN: Self = Self((1 << 31) - 1);

    /// In 31 bits: a group is an index, and no channel has so many.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// What [`GroupId::bits`] gave.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// Names a filter of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FilterId(u32);

/// A group with its form.
#[derive(Debug)]
struct Formed {
    form: Form,
    group: Group,
    bases: Bases,
}

/// Which base each subscriber of a group has; empty where no deltas are sent.
#[derive(Debug)]
pub struct Bases {
    /// Beside the entries: the last `Deliver` that the subscriber may not have got.
    pub since: Vec<u64>,
    /// None of them is above.
    pub youngest: u64,
    /// The same messages as in the open run in their full form, for those who have not got every
    /// base of it; while there are such.
    pub full: RunId,
    /// Whoever has this `Deliver` has them all.
    pub needed: u64,
}

// What a subscription with deltas takes: its entry, its number, its place in its session.
const _: () = assert!(size_of::<Entry>() + size_of::<u64>() + size_of::<Sub>() < 32);

impl Default for Bases {
    fn default() -> Self {
        Self {
            since: Vec::new(),
            youngest: 0,
            full: RunId::NONE,
            needed: u64::MAX,
        }
    }
}

impl Bases {
    /// The subscriber at a place has no base up to this `Deliver`.
    pub fn forget(&mut self, position: u32, delivered: u64) {
        if let Some(since) = self.since.get_mut(position as usize) {
            *since = delivered;
            self.youngest = self.youngest.max(delivered);
        }
    }
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

/// Subscribers by their slots.
pub type Slots = SmallVec<[u32; 8]>;

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
    /// Groups that get the message before as a base, by algorithm; and those that filter.
    deltas: [u32; Algorithm::ALL.len()],
    filtered_deltas: u32,
    /// The last messages, while there are such groups.
    ring: Ring,
    /// The first `Deliver` that the groups got; 0 before it.
    began: u64,
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
            delta: wanted.delta,
        };
        if let Some(&id) = self.by_form.get(&form) {
            return id;
        }
        if let Some(interned) = filter.and_then(|id| self.filters.at(id.0)) {
            interned.groups += 1;
        }
        let id = GroupId(self.groups.insert(Formed {
            form,
            group: Group::default(),
            bases: Bases::default(),
        }));
        self.by_form.insert(form, id);
        if let Some(groups) = self.delta_groups(form) {
            *groups += 1;
        }
        id
    }

    /// The count that a group of this form is part of.
    fn delta_groups(&mut self, form: Form) -> Option<&mut u32> {
        let algorithm = form.delta?;
        Some(match form.is_filtered() {
            true => &mut self.filtered_deltas,
            false => &mut self.deltas[algorithm.index()],
        })
    }

    /// What the home has to do for them.
    pub fn needs(&self) -> Needs {
        let mut needs = 0;
        for (index, &groups) in self.deltas.iter().enumerate() {
            needs |= u8::from(groups > 0) << index;
        }
        if self.filtered_deltas > 0 {
            needs |= Needs::FILTERED;
        }
        if needs > 0 {
            needs |= Needs::STREAM;
        }
        Needs(needs)
    }

    /// What a subscription of a group has asked for.
    pub fn wanted(&self, id: GroupId) -> Option<Wanted> {
        let form = self.groups.peek(id.0)?.form;
        let filter = form.filter.and_then(|id| self.filters.peek(id.0));
        Some(Wanted {
            dialect: form.dialect,
            filter: filter.map(|interned| Arc::clone(&interned.filter)),
            delta: form.delta,
        })
    }

    /// A `Deliver` of this number has come.
    pub fn begin(&mut self, delivered: u64) {
        if self.began == 0 {
            self.began = delivered;
        }
    }

    /// The number of the first `Deliver` that the groups got.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// The last message of a key that passed the filter of a form, if it is still held.
    pub fn last_passed(&self, form: Form, key: &str) -> Option<Held> {
        let filter = &self.filters.peek(form.filter?.0)?.filter;
        let passed = |held: &Held| filter.matches(&held.name, held.frame.tags());
        self.ring.newest(key, passed).cloned()
    }

    /// The texts that are kept for those who filter and get deltas.
    pub fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Bytes of those texts.
    pub fn ring_bytes(&self) -> u64 {
        self.ring.bytes()
    }

    /// The bases of a group.
    pub fn bases(&self, id: GroupId) -> Option<&Bases> {
        Some(&self.groups.peek(id.0)?.bases)
    }

    /// Ends the run in full of a group, if there is one. Gives it, and whom the open run and whom
    /// this one is for.
    pub fn take_full(&mut self, id: GroupId) -> Option<(RunId, Slots, Slots)> {
        let Formed { group, bases, .. } = self.groups.at(id.0)?;
        let full = std::mem::replace(&mut bases.full, RunId::NONE);
        let needed = std::mem::replace(&mut bases.needed, u64::MAX);
        if full == RunId::NONE {
            return None;
        }
        let (mut based, mut others) = (Slots::new(), Slots::new());
        for (entry, since) in group.entries.iter().zip(&bases.since) {
            match *since < needed {
                true => based.push(entry.slot),
                false => others.push(entry.slot),
            }
        }
        Some((full, based, others))
    }

    /// The bases of a group, and the group.
    pub fn with_bases(&mut self, id: GroupId) -> Option<(&mut Group, &mut Bases)> {
        let formed = self.groups.at(id.0)?;
        Some((&mut formed.group, &mut formed.bases))
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

    /// Adds a subscriber, who has got nothing up to the `Deliver` of number `since`, to a group that
    /// there is; returns its place there.
    pub fn add(&mut self, id: GroupId, entry: Entry, since: u64) -> u32 {
        let Some(Formed { form, group, bases }) = self.groups.at(id.0) else {
            return 0;
        };
        group.entries.push(entry);
        let position = (group.entries.len() - 1) as u32;
        if form.delta.is_some() {
            bases.since.push(since);
            bases.youngest = bases.youngest.max(since);
        }
        self.subscribers += 1;
        position
    }

    /// Removes the subscriber at a place, and with the last one its group, and its filter with the
    /// last group. Returns who moved there.
    pub fn remove(&mut self, id: GroupId, position: u32) -> Option<Entry> {
        let Formed { form, group, bases } = self.groups.at(id.0)?;
        group.entries.swap_remove(position as usize);
        if form.delta.is_some() {
            bases.since.swap_remove(position as usize);
        }
        let moved = group.entries.get(position as usize).copied();
        let (form, is_empty) = (*form, group.entries.is_empty());
        self.subscribers -= 1;
        if is_empty {
            self.groups.remove(id.0);
            self.by_form.remove(&form);
            if let Some(groups) = self.delta_groups(form) {
                *groups -= 1;
            }
            if self.filtered_deltas == 0 {
                self.ring = Ring::default();
            }
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
            delta: None,
        }
    }

    const SPOT: &str = r#"{"key":"market","cmp":"eq","val":"spot"}"#;
    const NOT_SPOT: &str = r#"{"key":"market","cmp":"neq","val":"spot"}"#;
    const ENTRY: Entry = Entry { slot: 7, nth: 0 };

    #[test]
    fn equal_filters_are_kept_once_and_share_a_group_of_each_dialect() {
        let mut groups = Groups::default();
        let one = groups.find_or_insert(&wanted(Dialect::Pusher, SPOT));
        groups.add(one, ENTRY, 0);
        assert_eq!(groups.find_or_insert(&wanted(Dialect::Pusher, SPOT)), one);
        let other = groups.find_or_insert(&wanted(Dialect::Sockudo, SPOT));
        groups.add(other, ENTRY, 0);
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
        groups.add(spot, ENTRY, 0);
        let not_spot = groups.find_or_insert(&wanted(dialect, NOT_SPOT));
        groups.add(not_spot, ENTRY, 0);
        let sockudo = groups.find_or_insert(&Wanted {
            dialect: Dialect::Sockudo,
            ..Wanted::default()
        });
        groups.add(sockudo, ENTRY, 0);
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
            (0..3).map(|slot| groups.add(id, entry(slot), 0)).max(),
            Some(2)
        );
        assert_eq!(groups.remove(id, 0), Some(entry(2)));
        assert_eq!(groups.remove(id, 1), None);
        assert_eq!(groups.remove(id, 0), None);
        assert_eq!(groups.subscribers(), 0);
    }
}
