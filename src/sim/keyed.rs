//! Publishes with idempotency keys: repeats of one request on any connection of any shard, beside
//! each other and after each other, and rivals that use its key for another event.
//!
//! Whatever happens on the way, of all requests with one key one event is published, and once. The
//! chance that decides who has a key is a source of its own, and runs with a rule switched off have
//! none, so that their seeds keep showing what they were chosen for.

use std::collections::{HashMap, VecDeque};

use crate::seed::Seed;
use crate::shard::Shard;
use crate::shard::claims::{Claim, Claimed, ClaimedKey};
use crate::shard::message::{ReplyTo, SessionKey};

use super::peer::Request;
use super::plan::APPS;
use super::publish::{answer, reply_to};
use super::query::Query;
use super::world::World;

/// Requests with a key that may be repeated.
const RECENT_MAX: usize = 3;

/// What a request waits for.
pub(super) enum Question {
    /// The home of its key.
    Claim(Request),
    /// The homes of its channels.
    Counts {
        number: u64,
        missing: usize,
        claim: Option<Claim>,
    },
    /// Answers to what it asks.
    Query(Query),
}

/// Who has which key, and which event it has been good for.
pub(super) struct Keys {
    chance: Seed,
    recent: VecDeque<Request>,
    next: u32,
    by_event: HashMap<u64, u32>,
    events: HashMap<u32, Vec<u64>>,
    published: HashMap<u32, u64>,
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Seed::new(seed),
            recent: VecDeque::new(),
            next: 0,
            by_event: HashMap::new(),
            events: HashMap::new(),
            published: HashMap::new(),
        }
    }

    /// The key of an event.
    pub(super) fn of(&self, number: u64) -> Option<u32> {
        self.by_event.get(&number).copied()
    }

    /// Whether another event has the same key.
    pub(super) fn is_contested(&self, number: u64) -> bool {
        self.of(number)
            .is_some_and(|key| self.events[&key].len() > 1)
    }

    /// An event enters an inbox.
    pub(super) fn on_accepted(&mut self, number: u64) {
        if let Some(key) = self.of(number) {
            let published = *self.published.entry(key).or_insert(number);
            assert_eq!(published, number, "a second event with key {key}");
        }
    }

    /// The request as it is, with a key, with the key of another, or another once more.
    fn change(&mut self, mut request: Request) -> Request {
        let recent = self.chance.below(self.recent.len().max(1));
        let recent = self.recent.get(recent);
        match (self.chance.below(8), recent) {
            (0..=1, _) => {
                self.next += 1;
                self.give(&mut request, self.next);
                self.recent.push_back(request.clone());
                if self.recent.len() > RECENT_MAX {
                    self.recent.pop_front();
                }
                request
            }
            (2..=4, Some(recent)) => recent.clone(),
            (5, Some(recent)) => {
                if let Some(key) = recent.key {
                    self.give(&mut request, key);
                }
                request
            }
            _ => request,
        }
    }

    fn give(&mut self, request: &mut Request, key: u32) {
        request.key = Some(key);
        self.by_event.insert(request.number, key);
        self.events.entry(key).or_default().push(request.number);
    }
}

impl World {
    pub(super) fn perhaps_keyed(&mut self, request: Request) -> Request {
        match self.plan.off {
            None => self.model.keys.change(request),
            Some(_) => request,
        }
    }

    pub(super) fn claim(&mut self, at: usize, slot: usize, key: u32, request: Request) {
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_mut() else {
            return;
        };
        // Keys of both apps are keys of the first.
        let app = APPS[0].0;
        let name = format!("key-{key}");
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&request.number.to_le_bytes());
        let claimed = ClaimedKey {
            hash: node.shard.hash(app, &name),
            endpoint: 0,
            key: name.into(),
            digest,
        };
        node.shard.begin_serving(slot as u32);
        node.shard.claim(app, claimed, reply_to(at, task.key));
        node.shard.end_serving();
        task.question = Some(Question::Claim(request));
    }

    pub(super) fn on_claimed(&mut self, at: usize, to: ReplyTo, claimed: Claimed) {
        let node = &mut self.nodes[at];
        let slot = to.slot as usize;
        let task = node.tasks[slot].as_mut();
        let task = task.filter(|task| task.key.generation == to.generation);
        let question = task.and_then(|task| task.question.take());
        match (question, claimed) {
            (Some(Question::Claim(request)), Claimed::First(claim)) => {
                self.publish(at, slot, &request, Some(claim));
            }
            (Some(Question::Claim(request)), Claimed::Before(body)) => {
                assert_eq!(
                    *body,
                    request.number.to_le_bytes(),
                    "another request's answer"
                );
                answer(node, slot, "200", request.number);
            }
            (Some(Question::Claim(request)), Claimed::Conflict) => {
                answer(node, slot, "409", request.number);
            }
            (Some(Question::Counts { .. } | Question::Query(_)), _) => {
                panic!("an answer that was not asked for")
            }
            (None, Claimed::First(claim)) => node.shard.settle_claim(claim, None),
            (None, _) => {}
        }
    }

    /// A connection has left all tables: what it has published stays so.
    pub(super) fn give_up(&mut self, at: usize, key: SessionKey) {
        let node = &mut self.nodes[at];
        let task = node.tasks[key.slot as usize].as_mut();
        let question = task.and_then(|task| task.question.take());
        if let Some(Question::Counts { number, claim, .. }) = question {
            settle(&mut node.shard, claim, true, number);
        }
    }
}

/// Ends a claim: with the number of the event, if it was published.
pub(super) fn settle(shard: &mut Shard, claim: Option<Claim>, published: bool, number: u64) {
    if let Some(claim) = claim {
        let body = published.then(|| number.to_le_bytes().as_slice().into());
        shard.settle_claim(claim, body);
    }
}
