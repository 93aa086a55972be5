//! Publishes over HTTP at the server's side, as `api` and `net` would do them: all channels or none,
//! and an answer that waits for the counts where they are asked for.

use std::sync::Arc;

use crate::clock::Micros;
use crate::pusher::filter::TagSet;
use crate::pusher::json::StringSource;
use crate::pusher::outbound::{self, write_text_frame};
use crate::pusher::socket_id::SocketId;
use crate::shard::claims::Claim;
use crate::shard::message::{Frame, Origin, Publish, ReplyTo, SessionKey};
use crate::shard::question::{Answer, Found};

use super::keyed::{self, Question};
use super::peer::Request;
use super::plan::{APPS, Rule};
use super::sieve::Tags;
use super::text;
use super::world::{Node, World};

/// The name of events over HTTP, and of client events.
pub(super) const API_EVENT: &str = "e";
pub(super) const CLIENT_EVENT: &str = "client-e";

impl World {
    /// A request: accepted or refused at once, answered at once unless it asks for counts or has an
    /// idempotency key.
    pub(super) fn request(&mut self, at: usize, slot: usize, request: Request) {
        // As `api` finds it: neither removed nor switched off.
        let key = APPS[self.model.channels[request.channels[0]].app].1;
        let node = &mut self.nodes[at];
        let app = node.shard.apps().by_id(key);
        if app.is_none_or(|app| !app.settings.enabled) {
            if request.key.is_none() {
                self.model.refuse(request.number);
            }
            return answer(node, slot, "404", request.number);
        }
        match request.key {
            Some(key) => self.claim(at, slot, key, request),
            None => self.publish(at, slot, &request, None),
        }
    }

    /// Publishes, and settles a claim with the answer.
    pub(super) fn publish(
        &mut self,
        at: usize,
        slot: usize,
        request: &Request,
        claim: Option<Claim>,
    ) {
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_mut() else {
            return;
        };
        let to = reply_to(at, task.key);
        let publishes = request.channels.iter().zip(0..).map(|(&channel, nth)| {
            let channel = &self.model.channels[channel];
            let app = APPS[channel.app].0;
            let event = self.model.events[request.number as usize];
            let data = text::data(request.number, event.padding);
            Box::new(Publish {
                app,
                hash: node.shard.hash(app, channel.name),
                channel: channel.name.into(),
                frame: frame(channel.name, &data, event.tags),
                except: request.except,
                origin: Origin::Api,
                cached: channel.is_cache(),
                delta: event.delta,
                ask: request.info.then_some((to, nth)),
                webhook: None,
            })
        });
        let publishes = publishes.collect();
        node.shard.begin_serving(slot as u32);
        let accepted = node.shard.on_publish(publishes).is_ok();
        if accepted && request.info {
            task.question = Some(Question::Counts {
                number: request.number,
                missing: request.channels.len(),
                claim,
            });
        } else {
            if !accepted && request.key.is_none() {
                self.model.refuse(request.number);
            }
            let status = if accepted { "200" } else { "503" };
            keyed::settle(&mut node.shard, claim, accepted, request.number);
            answer(node, slot, status, request.number);
        }
        self.nodes[at].shard.end_serving();
        for (&channel, nth) in request.channels.iter().zip(0..).filter(|_| accepted) {
            let ask = request.info.then_some((to, nth));
            self.pass_by(at, request.number, channel, request.except, ask);
        }
    }

    /// Rule 1 off: an event for a channel at home here has been applied without passing an inbox.
    pub(super) fn pass_by(
        &mut self,
        at: usize,
        number: u64,
        channel: usize,
        except: Option<SocketId>,
        ask: Option<(ReplyTo, u32)>,
    ) {
        let home = self.model.channels[channel].home;
        if self.plan.off != Some(Rule::OwnInbox) || home != at {
            return;
        }
        self.model.accept(number);
        self.model.append(number, channel, except, ask);
        let event = self.model.events[number as usize];
        if self.model.channels[channel].is_cache() && event.name == API_EVENT {
            let now = self.nodes[at].shard.now();
            self.model.keep(channel, number, now);
        }
    }

    /// A home has answered a request that waits for it.
    pub(super) fn on_answer(&mut self, at: usize, to: ReplyTo, answered: Answer) {
        let counts = match answered.found {
            Found::Counts(counts) => counts,
            Found::Claim(claimed) => return self.on_claimed(at, to, claimed),
            _ => return self.on_found(to, answered),
        };
        let expected = self.model.answer(to, answered.index);
        assert_eq!(
            (counts.subscriptions, counts.users.unwrap_or(0)),
            (expected.subscriptions, expected.users.unwrap_or(0))
        );
        let node = &mut self.nodes[at];
        let task = node.tasks[to.slot as usize].as_mut();
        let Some(task) = task.filter(|task| task.key.generation == to.generation) else {
            return;
        };
        let Some(Question::Counts {
            number,
            missing,
            claim,
        }) = &mut task.question
        else {
            return;
        };
        *missing -= 1;
        if *missing == 0 {
            let (number, claim) = (*number, claim.take());
            task.question = None;
            node.shard.begin_serving(to.slot);
            keyed::settle(&mut node.shard, claim, true, number);
            answer(node, to.slot as usize, "200", number);
            node.shard.end_serving();
        }
    }
}

/// The event as `api` builds it.
fn frame(channel: &str, data: &str, tags: Tags) -> Arc<Frame> {
    let mut bytes = Vec::new();
    write_text_frame(&mut bytes, |out| {
        let token = format!("\"{data}\"");
        let (name, data) = (StringSource::Text(API_EVENT), StringSource::Token(&token));
        outbound::event(out, name, channel, data, None);
    });
    Frame::published(bytes, Micros::default(), TagSet::new(&tags.pairs()))
}

/// What the answers to a connection are addressed to.
pub(super) fn reply_to(at: usize, key: SessionKey) -> ReplyTo {
    ReplyTo {
        shard: at as u16,
        slot: key.slot,
        generation: key.generation,
    }
}

pub(super) fn answer(node: &mut Node, slot: usize, status: &str, number: u64) {
    let line = format!("{status} {number}\n");
    node.shard
        .answer_http(slot as u32, |out| out.extend_from_slice(line.as_bytes()));
}
