//! Idempotency keys at their home: who was first, and what it was answered (extensions spec 4).
//!
//! A key belongs to one app and one endpoint, and has one home like a channel; so claims of it come
//! one after the other, wherever the requests arrived. The first is told to go on and must settle
//! its claim, with the body of its answer or with nothing; meanwhile the others wait. After nothing
//! the next of them is first.
//!
//! A success is not told to the home before what was published has entered the inboxes that it is
//! for: whoever repeats the request gets its answer from there, and an answer stands for events that
//! have been accepted (decisions 4).
//!
//! Invariant: an entry is claimed, then somebody owes a [`Claim`] and others may wait; or it is
//! settled, then it stands in `order` and nobody waits. Each app has its own bounds, so that none
//! drives out its neighbour's keys.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::clock::Now;

use super::Shard;
use super::message::{ReplyTo, ShardId, ShardMessage};
use super::question::{About, Found, Question};

/// Keys whose time is over that a claim forgets on its way, so that forgetting keeps pace with
/// claims and no claim waits for many.
const EXPIRED_PER_CLAIM: usize = 8;

/// MD5 of a request's body, which the signature needs anyhow. Who makes two bodies with one digest
/// gets the answer to its own first.
pub type Digest = [u8; 16];

/// A key, and what it is used for.
#[derive(Debug)]
pub struct ClaimedKey {
    pub hash: u64,
    /// Which endpoint: keys of two have nothing to do with each other.
    pub endpoint: u8,
    pub key: Box<str>,
    pub digest: Digest,
}

/// The right, and the duty, to act first for a key. Whoever holds it settles it, also if the client
/// has gone: until then the others wait.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a claim that is not settled blocks its key"]
pub struct Claim {
    app: u32,
    home: ShardId,
    place: Place,
}

/// Where an entry is, and the number of this claim of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: u32,
    number: u64,
}

/// A claim that is settled as soon as certain lists have been carried.
#[derive(Debug)]
pub(super) struct Settling {
    /// Targets whose lists have not been empty since.
    awaited: SmallVec<[ShardId; 4]>,
    claim: Claim,
    body: Arc<[u8]>,
}

/// What a claim leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody was before: act.
    First(Claim),
    /// The body of the first answer, which was 200.
    Before(Arc<[u8]>),
    /// The key stands for another body.
    Conflict,
}

/// How much of an app a home keeps, and how long.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    keys_max: usize,
    bytes_max: usize,
    window: Duration,
}

/// The keys at home on a shard, by app.
#[derive(Debug, Default)]
pub(super) struct Claims {
    apps: Vec<AppClaims>,
    /// The second in which all apps were last looked through.
    looked_secs: u32,
}

#[derive(Debug, Default)]
struct AppClaims {
    table: HashTable<u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Settled ones by the number of their claim, the oldest first. One that has expired and is
    /// claimed again leaves its former place here behind.
    order: VecDeque<Place>,
    /// How many are settled, and what they take.
    settled: usize,
    bytes: usize,
    /// Claims ever made.
    claims: u64,
}

#[derive(Debug)]
struct Entry {
    key: ClaimedKey,
    /// Of the claim.
    number: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Claimed {
        /// In the order in which they asked.
        waiting: VecDeque<(ReplyTo, u32)>,
    },
    Settled {
        body: Arc<[u8]>,
        expires: Now,
    },
}

impl State {
    const CLAIMED: Self = Self::Claimed {
        waiting: VecDeque::new(),
    };
}

/// What comes out of a claim at once.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    First(Place),
    Before(Arc<[u8]>),
    Conflict,
    Waits,
}

/// Whom a settled claim concerns.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    /// They get this body.
    Answered(Arc<[u8]>, VecDeque<(ReplyTo, u32)>),
    /// This one is first now.
    Next(Place, (ReplyTo, u32)),
    Nobody,
}

impl Entry {
    /// What a settled entry takes.
    fn bytes(&self) -> usize {
        let body = match &self.state {
            State::Settled { body, .. } => body.len(),
            State::Claimed { .. } => 0,
        };
        size_of::<Self>() + self.key.key.len() + body
    }

    fn has_expired(&self, now: Now) -> bool {
        matches!(self.state, State::Settled { expires, .. } if expires <= now)
    }
}

impl AppClaims {
    fn claim(&mut self, now: Now, key: ClaimedKey, from: (ReplyTo, u32)) -> Outcome {
        self.expire(now, EXPIRED_PER_CLAIM);
        self.claims += 1;
        let number = self.claims;
        let Some(index) = self.find(&key) else {
            let index = self.insert(Entry {
                key,
                number,
                state: State::CLAIMED,
            });
            return Outcome::First(Place { index, number });
        };
        let Some(entry) = &mut self.entries[index as usize] else {
            return Outcome::Waits;
        };
        if entry.has_expired(now) {
            self.settled -= 1;
            self.bytes -= entry.bytes();
            *entry = Entry {
                key,
                number,
                state: State::CLAIMED,
            };
            return Outcome::First(Place { index, number });
        }
        if entry.key.digest != key.digest {
            return Outcome::Conflict;
        }
        match &mut entry.state {
            State::Settled { body, .. } => Outcome::Before(Arc::clone(body)),
            State::Claimed { waiting } => {
                waiting.push_back(from);
                Outcome::Waits
            }
        }
    }

    /// `body` is that of the first answer, or nothing if there was none that counts.
    fn settle(&mut self, place: Place, body: Option<Arc<[u8]>>, expires: Now) -> Settled {
        let Some(entry) = self.at(place) else {
            return Settled::Nobody;
        };
        let State::Claimed { waiting } = &mut entry.state else {
            return Settled::Nobody;
        };
        let Some(body) = body else {
            let Some(next) = waiting.pop_front() else {
                self.remove(place.index);
                return Settled::Nobody;
            };
            // A claim of its own: whoever held the last one has nothing to say any more.
            self.claims += 1;
            let number = self.claims;
            if let Some(entry) = self.at(place) {
                entry.number = number;
            }
            return Settled::Next(Place { number, ..place }, next);
        };
        let waiting = std::mem::take(waiting);
        entry.state = State::Settled {
            body: Arc::clone(&body),
            expires,
        };
        self.bytes += entry.bytes();
        self.settled += 1;
        self.order.push_back(place);
        Settled::Answered(body, waiting)
    }

    /// Forgets settled ones whose time is over, at most so many; gives their number.
    fn expire(&mut self, now: Now, max: usize) -> usize {
        let mut expired = 0;
        while expired < max
            && let Some(&place) = self.order.front()
        {
            match self.at(place) {
                Some(entry) if !entry.has_expired(now) => break,
                Some(_) => self.remove(place.index),
                None => {}
            }
            self.order.pop_front();
            expired += 1;
        }
        expired
    }

    /// Forgets the oldest settled ones for which there is no room, but for the last; gives their
    /// number.
    fn evict(&mut self, bounds: Bounds) -> u64 {
        let mut evicted = 0;
        while self.settled > 1
            && (self.settled > bounds.keys_max || self.bytes > bounds.bytes_max)
            && let Some(place) = self.order.pop_front()
        {
            if self.at(place).is_some() {
                self.remove(place.index);
                evicted += 1;
            }
        }
        evicted
    }

    /// The entry of a claim, unless the claim has ended.
    fn at(&mut self, place: Place) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(place.index as usize)?.as_mut()?;
        (entry.number == place.number).then_some(entry)
    }

    fn find(&self, key: &ClaimedKey) -> Option<u32> {
        let is_it = |index: &u32| {
            self.peek(*index).is_some_and(|entry| {
                let other = &entry.key;
                other.hash == key.hash && other.endpoint == key.endpoint && other.key == key.key
            })
        };
        self.table.find(key.hash, is_it).copied()
    }

    fn peek(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)?.as_ref()
    }

    fn insert(&mut self, entry: Entry) -> u32 {
        let hash = entry.key.hash;
        let index = self.free.pop().unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(index as usize) {
            Some(place) => *place = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        let entries = &self.entries;
        let rehash = |&at: &u32| {
            entries[at as usize]
                .as_ref()
                .map_or(0, |entry| entry.key.hash)
        };
        self.table.insert_unique(hash, index, rehash);
        index
    }

    fn remove(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        if matches!(entry.state, State::Settled { .. }) {
            self.settled -= 1;
            self.bytes -= entry.bytes();
        }
        if let Ok(found) = self.table.find_entry(entry.key.hash, |&at| at == index) {
            found.remove();
        }
        self.free.push(index);
    }
}

impl Claims {
    fn app(&mut self, app: u32) -> &mut AppClaims {
        let at = app as usize;
        if self.apps.len() <= at {
            self.apps.resize_with(at + 1, AppClaims::default);
        }
        &mut self.apps[at]
    }

    /// Keys whose first request has not been answered.
    #[cfg(test)]
    pub(super) fn claimed(&self) -> usize {
        self.apps
            .iter()
            .map(|app| app.table.len() - app.settled)
            .sum()
    }
}

impl Shard {
    /// Claims a key for a request. The answer is [`Found::Claim`]; while another request holds the
    /// claim there is none.
    pub fn claim(&mut self, app: u32, key: ClaimedKey, from: ReplyTo) {
        let target = self.home_of(key.hash);
        let about = About::Claim(key);
        let question = Question {
            index: 0,
            app,
            about,
        };
        self.on_ask(target, question, from);
    }

    /// Ends a claim: with the body of a first answer of 200, or with nothing if nothing was done.
    pub fn settle_claim(&mut self, claim: Claim, body: Option<Arc<[u8]>>) {
        let Some(body) = body else {
            return self.send_settle(claim, None);
        };
        let lists = (0..).zip(&self.outgoing);
        let parked = lists.filter(|(_, outgoing)| !outgoing.list.is_empty());
        let settling = Settling {
            awaited: parked.map(|(target, _)| target).collect(),
            claim,
            body,
        };
        self.settling.push(settling);
    }

    fn send_settle(&mut self, claim: Claim, body: Option<Arc<[u8]>>) {
        let Claim { app, home, place } = claim;
        let settle = ShardMessage::Settle { app, place, body };
        self.send(home, settle, true);
    }

    /// After the turn's last carry: which lists have gone.
    pub(super) fn note_carried(&mut self) {
        let outgoing = &self.outgoing;
        for settling in &mut self.settling {
            let awaited = &mut settling.awaited;
            awaited.retain(|target| !outgoing[usize::from(*target)].list.is_empty());
        }
    }

    /// Sends what waits for nothing any more.
    pub(super) fn settle_carried(&mut self) {
        for settling in std::mem::take(&mut self.settling) {
            match settling.awaited.is_empty() {
                true => self.send_settle(settling.claim, Some(settling.body)),
                false => self.settling.push(settling),
            }
        }
    }

    pub(super) fn on_claim_at_home(&mut self, app: u32, key: ClaimedKey, from: (ReplyTo, u32)) {
        let outcome = self.claims.app(app).claim(self.now, key, from);
        let counters = self.counters.app(app);
        let claimed = match outcome {
            Outcome::First(place) => Claimed::First(self.claim_of(app, place)),
            Outcome::Before(body) => {
                counters.idempotent_replays += 1;
                Claimed::Before(body)
            }
            Outcome::Conflict => {
                counters.idempotency_conflicts += 1;
                Claimed::Conflict
            }
            Outcome::Waits => return,
        };
        self.answer_question(from.0, from.1, Found::Claim(claimed));
    }

    pub(super) fn on_settle(&mut self, app: u32, place: Place, body: Option<Arc<[u8]>>) {
        let bounds = self.claim_bounds(app);
        let expires = self.now.after(bounds.window);
        let claims = self.claims.app(app);
        let settled = claims.settle(place, body, expires);
        let evicted = claims.evict(bounds);
        self.counters.app(app).idempotency_evicted += evicted;
        match settled {
            Settled::Answered(body, waiting) => {
                self.counters.app(app).idempotent_replays += waiting.len() as u64;
                for (to, index) in waiting {
                    let before = Claimed::Before(Arc::clone(&body));
                    self.answer_question(to, index, Found::Claim(before));
                }
            }
            Settled::Next(place, (to, index)) => {
                let first = Claimed::First(self.claim_of(app, place));
                self.answer_question(to, index, Found::Claim(first));
            }
            Settled::Nobody => {}
        }
    }

    /// Forgets the keys whose time is over, also of apps that publish no more: once a second, within
    /// the turn's budget.
    pub(super) fn expire_claims(&mut self) {
        let secs = self.now.secs();
        if self.claims.looked_secs == secs {
            return;
        }
        let mut budget = self.settings.budgets.due.max(1);
        for app in &mut self.claims.apps {
            budget -= app.expire(self.now, budget);
        }
        if budget > 0 {
            self.claims.looked_secs = secs;
        }
    }

    fn claim_of(&self, app: u32, place: Place) -> Claim {
        Claim {
            app,
            home: self.id,
            place,
        }
    }

    /// This home's part of what the app may keep in the process; keys are spread evenly.
    fn claim_bounds(&self, app: u32) -> Bounds {
        let shards = usize::from(self.settings.shards);
        let settings = self.app(app).map(|app| &app.settings);
        settings.map_or(
            // An app that has been removed asks for nothing more.
            Bounds {
                keys_max: 0,
                bytes_max: 0,
                window: Duration::ZERO,
            },
            |settings| Bounds {
                keys_max: settings.idempotency_keys_max / shards,
                bytes_max: settings.idempotency_bytes_max / shards,
                window: settings.idempotency_window,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        keys_max: 100,
        bytes_max: 1 << 20,
        window: Duration::from_secs(1),
    };

    fn from(slot: u32) -> (ReplyTo, u32) {
        let to = ReplyTo {
            shard: 0,
            slot,
            generation: 1,
        };
        (to, slot)
    }

    fn key(endpoint: u8, key: &str, digest: u8) -> ClaimedKey {
        ClaimedKey {
            // Few hashes, so that they collide.
            hash: key.len() as u64,
            endpoint,
            key: key.into(),
            digest: [digest; 16],
        }
    }

    fn claim(claims: &mut AppClaims, now: u64, name: &str, digest: u8, slot: u32) -> Outcome {
        claims.claim(Now(now), key(0, name, digest), from(slot))
    }

    #[track_caller]
    fn first(claims: &mut AppClaims, now: u64, name: &str) -> Place {
        match claim(claims, now, name, 1, 0) {
            Outcome::First(place) => place,
            other => panic!("not the first: {other:?}"),
        }
    }

    fn body(text: &str) -> Option<Arc<[u8]>> {
        Some(text.as_bytes().into())
    }

    /// As they must be between two calls.
    fn check(claims: &mut AppClaims) {
        let order = claims.order.clone();
        let settled: Vec<_> = order
            .into_iter()
            .filter_map(|place| Some(claims.at(place)?.bytes()))
            .collect();
        assert_eq!(
            (claims.settled, claims.bytes),
            (settled.len(), settled.iter().sum())
        );
        assert_eq!(claims.table.len() + claims.free.len(), claims.entries.len());
    }

    #[test]
    fn the_first_acts_the_others_wait_and_get_its_answer() {
        let mut claims = AppClaims::default();
        let place = first(&mut claims, 0, "k");
        assert_eq!(claim(&mut claims, 0, "k", 1, 7), Outcome::Waits);
        assert_eq!(claim(&mut claims, 0, "k", 1, 8), Outcome::Waits);
        assert_eq!(claim(&mut claims, 0, "k", 2, 9), Outcome::Conflict);
        let settled = claims.settle(place, body("{}"), Now(1000));
        let waiting = VecDeque::from([from(7), from(8)]);
        assert_eq!(settled, Settled::Answered(body("{}").unwrap(), waiting));
        assert_eq!(
            claim(&mut claims, 999, "k", 1, 9),
            Outcome::Before(body("{}").unwrap())
        );
        assert_eq!(claim(&mut claims, 999, "k", 2, 9), Outcome::Conflict);
        // Settled once; whoever says so again says nothing.
        assert_eq!(claims.settle(place, body("x"), Now(1000)), Settled::Nobody);
        check(&mut claims);
    }

    #[test]
    fn keys_of_endpoints_and_of_names_are_apart() {
        let mut claims = AppClaims::default();
        for (endpoint, name) in [(0, "k"), (1, "k"), (0, "l"), (0, "kk")] {
            let claimed = claims.claim(Now(0), key(endpoint, name, 1), from(0));
            assert!(matches!(claimed, Outcome::First(_)), "{endpoint} {name}");
        }
    }

    #[test]
    fn an_attempt_that_failed_leaves_the_key_to_the_next_and_then_no_trace() {
        let mut claims = AppClaims::default();
        let place = first(&mut claims, 0, "k");
        assert_eq!(claim(&mut claims, 0, "k", 1, 7), Outcome::Waits);
        assert_eq!(claim(&mut claims, 0, "k", 1, 8), Outcome::Waits);
        let Settled::Next(second, to) = claims.settle(place, None, Now(1000)) else {
            panic!("nobody is next");
        };
        assert_eq!(to, from(7));
        // The first has had its turn.
        assert_eq!(claims.settle(place, body("x"), Now(1000)), Settled::Nobody);
        let Settled::Next(third, to) = claims.settle(second, None, Now(1000)) else {
            panic!("nobody is next");
        };
        assert_eq!(to, from(8));
        assert_eq!(claims.settle(third, None, Now(1000)), Settled::Nobody);
        check(&mut claims);
        assert_eq!(claims.table.len(), 0);
        assert!(matches!(
            claim(&mut claims, 0, "k", 2, 9),
            Outcome::First(_)
        ));
    }

    #[test]
    fn a_key_is_free_again_when_its_window_is_over() {
        let mut claims = AppClaims::default();
        for (name, expires) in [("a", 3000), ("b", 1000), ("c", 2000)] {
            let place = first(&mut claims, 0, name);
            claims.settle(place, body("{}"), Now(expires));
        }
        assert!(matches!(
            claim(&mut claims, 999, "b", 1, 0),
            Outcome::Before(_)
        ));
        // Although one that was settled before it has time left, as after a shorter window.
        let place = first(&mut claims, 1000, "b");
        check(&mut claims);
        assert_eq!(claims.settled, 2);
        claims.settle(place, body("{}"), Now(5000));
        assert_eq!(claims.expire(Now(3000), 2), 2);
        check(&mut claims);
        assert_eq!(claims.expire(Now(3000), 9), 1);
        assert_eq!(
            (claims.settled, claims.order.len(), claims.table.len()),
            (1, 1, 1)
        );
        check(&mut claims);
    }

    #[test]
    fn over_a_bound_the_oldest_settled_go_and_are_counted() {
        let mut claims = AppClaims::default();
        let held = first(&mut claims, 0, "held");
        for nth in 0..10 {
            let place = first(&mut claims, 0, &format!("k{nth}"));
            claims.settle(place, body("{}"), Now(1000));
        }
        let few = Bounds {
            keys_max: 4,
            ..BOUNDS
        };
        assert_eq!((claims.evict(BOUNDS), claims.evict(few)), (0, 6));
        assert!(matches!(
            claim(&mut claims, 0, "k6", 1, 0),
            Outcome::Before(_)
        ));
        let place = first(&mut claims, 0, "k5");
        let little = Bounds {
            bytes_max: 3 * claims.bytes / 4,
            ..BOUNDS
        };
        assert_eq!(claims.evict(little), 1);
        check(&mut claims);
        // A single answer over the bound is still kept, and what is claimed is not touched.
        claims.settle(place, Some(vec![b'x'; 1 << 21].into()), Now(1000));
        assert_eq!((claims.evict(BOUNDS), claims.settled), (3, 1));
        let settled = claims.settle(held, body("{}"), Now(1000));
        assert!(matches!(settled, Settled::Answered(..)));
        check(&mut claims);
    }
}
