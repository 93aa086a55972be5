//! Deadlines of a home, by what they are for: windows that throttle, delays of what may be undone.
//!
//! Only what has a deadline is here, and only the front is looked at, so that a home with a million
//! quiet channels walks none of them. Told the time, like everything here. Deadlines come in their
//! order, equal ones in the order in which they were set; nothing depends on the order of the map.
//!
//! Invariant: every key in the queue is in the map with the same place, and the other way round.
//! Beyond the bound the next deadlines come early: nothing is lost by it, some of it is sooner.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::clock::Now;

/// Where a deadline stands in the queue: its moment, then the number of its setting.
type Place = (Now, u64);

/// One deadline for each key, and a value that the owner keeps with it.
#[derive(Debug)]
pub struct Timers<K, V> {
    by_key: HashMap<K, (Place, V)>,
    queue: BTreeMap<Place, K>,
    /// Deadlines ever set.
    set: u64,
    max: usize,
}

/// A deadline that has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Due<K, V> {
    pub key: K,
    pub value: V,
    /// It came before its time, for want of room.
    pub early: bool,
}

impl<K: Clone + Eq + Hash, V> Timers<K, V> {
    /// None yet; more than `max` come early.
    pub fn new(max: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            queue: BTreeMap::new(),
            set: 0,
            max,
        }
    }

    /// Sets the deadline of a key; an earlier one of it is forgotten.
    pub fn set(&mut self, key: K, at: Now, value: V) {
        self.set += 1;
        let place = (at, self.set);
        if let Some((before, _)) = self.by_key.insert(key.clone(), (place, value)) {
            self.queue.remove(&before);
        }
        self.queue.insert(place, key);
    }

    /// Takes a deadline back; `None` where there was none.
    pub fn clear(&mut self, key: &K) -> Option<V> {
        if self.queue.is_empty() {
            return None;
        }
        let (place, value) = self.by_key.remove(key)?;
        self.queue.remove(&place);
        Some(value)
    }

    /// What is kept with the deadline of a key, if it has one.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if self.queue.is_empty() {
            return None;
        }
        self.by_key.get_mut(key).map(|(_, value)| value)
    }

    /// Whether there are as many as there may be.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.max
    }

    /// Whether there are more than there may be.
    pub fn is_over(&self) -> bool {
        self.queue.len() > self.max
    }

    /// The deadline of a key, if it has one.
    pub fn deadline(&self, key: &K) -> Option<Now> {
        self.by_key.get(key).map(|&((at, _), _)| at)
    }

    /// Whether a deadline has come at `now`, or there are too many.
    pub fn has_due(&self, now: Now) -> bool {
        let next = self.queue.first_key_value();
        self.is_over() || next.is_some_and(|(&(at, _), _)| at <= now)
    }

    /// The next deadline that has come at `now`; while there are too many, the next one anyhow.
    pub fn due(&mut self, now: Now) -> Option<Due<K, V>> {
        if !self.has_due(now) {
            return None;
        }
        let ((at, _), key) = self.queue.pop_first()?;
        let (_, value) = self.by_key.remove(&key)?;
        let early = at > now;
        Some(Due { key, value, early })
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn keys(timers: &mut Timers<u32, ()>, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| timers.due(Now(now)))
            .map(|due| due.key)
            .collect()
    }

    #[test]
    fn deadlines_come_in_their_order_and_equal_ones_in_the_order_of_setting() {
        let mut timers = Timers::new(100);
        for (key, at) in [(1, 30), (2, 10), (3, 30), (4, 20), (5, 10)] {
            timers.set(key, Now(at), ());
        }
        assert!(keys(&mut timers, 9).is_empty());
        assert_eq!(keys(&mut timers, 10), [2, 5]);
        assert_eq!(keys(&mut timers, 100), [4, 1, 3]);
        assert!(timers.is_empty());
    }

    #[test]
    fn setting_again_replaces_and_clearing_takes_back() {
        let mut timers = Timers::new(100);
        timers.set("a", Now(10), 1);
        timers.set("a", Now(20), 2);
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.deadline(&"a"), Some(Now(20)));
        assert!(timers.get_mut(&"a").is_some() && timers.due(Now(10)).is_none());
        assert_eq!(timers.clear(&"a"), Some(2));
        assert_eq!(timers.clear(&"a"), None);
        assert!(timers.deadline(&"a").is_none() && timers.get_mut(&"a").is_none());
        assert!(timers.is_empty() && timers.due(Now(99)).is_none());
    }

    #[test]
    fn over_the_bound_the_next_ones_come_early_and_are_said_to() {
        let mut timers = Timers::new(2);
        for key in 0..5 {
            timers.set(key, Now(100 - u64::from(key)), ());
        }
        let early: Vec<(u32, bool)> = std::iter::from_fn(|| timers.due(Now(50)))
            .map(|due| (due.key, due.early))
            .collect();
        assert_eq!(early, [(4, true), (3, true), (2, true)]);
        assert_eq!(timers.len(), 2);
        let due = timers.due(Now(99)).map(|due| (due.key, due.early));
        assert_eq!(due, Some((1, false)));
    }

    /// A list that is searched from end to end says the same.
    #[test]
    fn random_use_agrees_with_a_plain_list() {
        let mut seed = Seed::new(7);
        let mut timers = Timers::new(usize::MAX);
        let mut list: Vec<(u64, u32)> = Vec::new();
        let mut now = 0;
        for _ in 0..20_000 {
            let key = seed.below(40) as u32;
            match seed.below(4) {
                0 | 1 => {
                    let at = now + seed.below(50) as u64;
                    timers.set(key, Now(at), at);
                    list.retain(|&(_, other)| other != key);
                    list.push((at, key));
                }
                2 => {
                    let at = list
                        .iter()
                        .find(|&&(_, other)| other == key)
                        .map(|&(at, _)| at);
                    list.retain(|&(_, other)| other != key);
                    assert_eq!(timers.clear(&key), at);
                }
                _ => {
                    now += seed.below(20) as u64;
                    // Stable: equal moments stay in the order of setting.
                    list.sort_by_key(|&(at, _)| at);
                    let count = list.iter().take_while(|&&(at, _)| at <= now).count();
                    for (at, key) in list.drain(..count) {
                        let due = timers.due(Now(now)).expect("one is due");
                        assert_eq!((due.value, due.key, due.early), (at, key, false));
                    }
                    assert!(timers.due(Now(now)).is_none());
                }
            }
            assert_eq!(timers.len(), list.len());
        }
    }
}
