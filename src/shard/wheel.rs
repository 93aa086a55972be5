//! The timing wheel: deadlines and activity by second, turned by `on_time`.
//!
//! Lazy: traffic never moves an entry. When an entry is due its owner looks at what the connection
//! has done since and puts it back at its next deadline; a deadline that moves away needs no word.
//! Each slot has one valid entry, the one at `at[slot]`; an entry that a sooner one has replaced is
//! stale and falls out when its second comes.

/// Seconds ahead that have a bucket of their own; later deadlines are looked at in between.
const BUCKETS: usize = 256;

/// Entries for which an empty bucket keeps room; what a storm of connections needed is given back.
const ENTRIES_KEPT: usize = 16;

/// No deadline.
const NEVER: u32 = 0;

/// Deadlines of slots, in seconds of the shard's time.
pub struct Wheel {
    buckets: Vec<Vec<u32>>,
    at: Vec<u32>,
    /// All seconds up to this one have been taken.
    taken: u32,
    entries: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
            at: Vec::new(),
            taken: 0,
            entries: 0,
        }
    }
}

impl Wheel {
    /// Has the slot looked at no later than in second `secs`, or in the next one where that is
    /// past.
    pub fn set(&mut self, slot: u32, secs: u32) {
        let secs = secs.clamp(self.taken + 1, self.taken + BUCKETS as u32 - 1);
        if self.at.len() <= slot as usize {
            self.at.resize(slot as usize + 1, NEVER);
        }
        let at = self.at[slot as usize];
        if at != NEVER && at <= secs {
            return;
        }
        self.at[slot as usize] = secs;
        self.buckets[secs as usize % BUCKETS].push(slot);
        self.entries += 1;
    }

    /// Takes a slot off the wheel.
    pub fn clear(&mut self, slot: u32) {
        if let Some(at) = self.at.get_mut(slot as usize) {
            *at = NEVER;
        }
    }

    /// The next due slot; `None` once every second up to `secs` has been taken.
    pub fn due(&mut self, secs: u32) -> Option<u32> {
        while self.taken < secs {
            if self.entries == 0 {
                self.taken = secs;
                return None;
            }
            let second = self.taken + 1;
            let bucket = &mut self.buckets[second as usize % BUCKETS];
            let Some(slot) = bucket.pop() else {
                self.taken = second;
                continue;
            };
            if bucket.is_empty() {
                bucket.shrink_to(ENTRIES_KEPT);
            }
            self.entries -= 1;
            if self.at[slot as usize] == second {
                self.at[slot as usize] = NEVER;
                return Some(slot);
            }
        }
        None
    }

    /// Whether any entry waits, stale ones included.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_a_storm_needed_is_given_back() {
        let mut wheel = Wheel::default();
        (0..10_000).for_each(|slot| wheel.set(slot, 7));
        assert_eq!(due(&mut wheel, 7).len(), 10_000);
        assert!(
            wheel
                .buckets
                .iter()
                .all(|bucket| bucket.capacity() <= ENTRIES_KEPT)
        );
    }

    fn due(wheel: &mut Wheel, secs: u32) -> Vec<u32> {
        let mut slots: Vec<u32> = std::iter::from_fn(|| wheel.due(secs)).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn slots_are_due_in_their_second() {
        let mut wheel = Wheel::default();
        wheel.set(1, 5);
        wheel.set(2, 3);
        wheel.set(3, 5);
        assert!(due(&mut wheel, 2).is_empty());
        assert_eq!(due(&mut wheel, 3), [2]);
        assert_eq!(due(&mut wheel, 10), [1, 3]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_sooner_deadline_fires_once_and_a_later_one_is_left_to_its_owner() {
        let mut wheel = Wheel::default();
        wheel.set(1, 9);
        wheel.set(1, 4);
        wheel.set(1, 7);
        assert_eq!(due(&mut wheel, 20), [1]);
        wheel.set(1, 30);
        wheel.clear(1);
        assert!(due(&mut wheel, 40).is_empty());
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_beyond_the_buckets_is_looked_at_in_between() {
        let mut wheel = Wheel::default();
        wheel.set(1, 10_000);
        assert!(due(&mut wheel, 254).is_empty());
        assert_eq!(due(&mut wheel, 255), [1]);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_in_the_next_second() {
        let mut wheel = Wheel::default();
        assert!(due(&mut wheel, 100).is_empty());
        wheel.set(1, 3);
        assert_eq!(due(&mut wheel, 101), [1]);
    }
}
