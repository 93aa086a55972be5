//! Channels with many subscribers, and publishes to them.
//!
//! Every delivery is known by the number of its publish in its channel, so that lost, repeated and
//! reordered ones are counted, and carries the moment at which its publish was due: latency
//! includes what either side was late. One worker publishes; where the pace depends on deliveries,
//! the others tell it theirs.
//!
//! Invariant: `owed` of the publishing worker is what subscribers that are still there have yet to
//! get of publishes that were not refused, as far as answers have come and other workers have told.

use std::collections::HashSet;

use crate::args;
use crate::clock::{NEVER, Nanos, SECOND, Timetable};
use crate::control::{Harvest, Plan, Schedule, Settled, Share};
use crate::crowd::{Crowd, Who};
use crate::load::{BURST_MAX, Check, Load};
use crate::message::{self, Notice};
use crate::meter::{Count, Span};
use crate::publisher::{Answered, Publisher};
use crate::sequence::{Arrival, Sequence};
use crate::sign::Signer;
use crate::stamp::Stamp;

/// Requests under way on the publishing connection, at most.
const PIPELINE: usize = 256;
/// How long answers are waited for after the end, and half of what there is for all that is owed at
/// most.
const ANSWERS_MAX: Nanos = 5 * SECOND;

pub(super) struct Fanout {
    group: u8,
    share: Share,
    options: args::Fanout,
    subscribers: Vec<Subscriber>,
    /// Slots of those that do not read; they are numbered behind the subscribers.
    stalled: Vec<Option<u32>>,
    stalled_ended: u64,
    /// The stalled ones read again.
    is_over: bool,
    not_ready: usize,
    schedule: Schedule,
    /// What other workers and the first process are told.
    settled: Settled,
    /// What this worker's subscribers have yet to get; known when all answers have come.
    owed_here: Option<i64>,
    accepted: Vec<u64>,
    publishing: Option<Publishing>,
}

#[derive(Clone, Default)]
struct Subscriber {
    sequence: Sequence,
    got: u32,
    /// It was there when the publishes began, and is not gone.
    counts: bool,
}

/// What only the worker that publishes has.
struct Publishing {
    run: u8,
    signer: Signer,
    publishers: Vec<Publisher>,
    channels: Vec<Channel>,
    table: Option<Timetable>,
    issued: u64,
    owed: i64,
    /// Publishes that at least one listener has refused.
    refused: HashSet<u64>,
    /// Of each listener.
    answers: Vec<Vec<Answered>>,
    is_told: bool,
}

#[derive(Clone, Default)]
struct Channel {
    /// Subscribers of all workers.
    live: i64,
    published: u64,
    refused: u64,
}

/// Those who stay during a storm.
pub(super) fn observed(storm: &args::Churn) -> args::Fanout {
    args::Fanout {
        subscribers: storm.observers,
        channels: 1,
        window: 1,
        queued: None,
        rate: Some(storm.observed_rate),
        bytes: 300,
        publishes: None,
        stalled: 0,
        probes: false,
        probe_ms: 10,
    }
}

/// The published part of a soak.
pub(super) fn of_soak(soak: &args::Soak) -> args::Fanout {
    args::Fanout {
        subscribers: soak.subscribers,
        channels: soak.channels,
        window: 1,
        queued: None,
        rate: Some(soak.rate),
        bytes: soak.bytes,
        publishes: None,
        stalled: 0,
        probes: false,
        probe_ms: 10,
    }
}

impl Fanout {
    pub(super) fn new(group: u8, options: &args::Fanout, plan: &Plan) -> Self {
        let subscribers = plan.share.count(options.subscribers.into());
        let stalled = plan.share.count(options.stalled.into());
        Self {
            group,
            share: plan.share,
            options: options.clone(),
            subscribers: vec![Subscriber::default(); subscribers],
            stalled: vec![None; stalled],
            stalled_ended: 0,
            is_over: false,
            not_ready: subscribers + stalled,
            schedule: Schedule::default(),
            settled: Settled::default(),
            owed_here: None,
            accepted: Vec::new(),
            publishing: plan
                .share
                .leads()
                .then(|| Publishing::new(group, options, plan)),
        }
    }

    fn channel(&self, nth: usize) -> u32 {
        channel(self.share, nth, self.options.channels)
    }

    /// How a closed pace stands: what may still be owed when the next publish leaves, and how many
    /// leave then.
    fn window(&self) -> (i64, u32) {
        match self.options.queued {
            Some(queued) => (0, queued),
            None => (i64::from(self.options.window) - 1, 1),
        }
    }

    fn tell_gone(&mut self, channel: u32, got: u64) {
        match &mut self.publishing {
            Some(publishing) => publishing.on_gone(channel, got),
            None => self.settled.gone.push((channel, got)),
        }
    }

    fn take_answers(&mut self, crowd: &mut Crowd) {
        if let Some(publishing) = &mut self.publishing {
            publishing.take_answers(crowd, self.options.channels);
        }
    }
}

/// Which channel a connection is subscribed to.
fn channel(share: Share, nth: usize, channels: u32) -> u32 {
    (share.global(nth) % u64::from(channels)) as u32
}

fn name(channel: u32) -> String {
    format!("loadtest-fanout-{channel}")
}

impl Publishing {
    fn new(group: u8, options: &args::Fanout, plan: &Plan) -> Self {
        let mut channels = vec![Channel::default(); options.channels as usize];
        for n in 0..options.subscribers {
            channels[(n % options.channels) as usize].live += 1;
        }
        let targets = plan.targets.iter().enumerate();
        let publisher = |(n, target): (usize, &crate::target::Target)| {
            Publisher::new(target.address, group, n as u32, 1, PIPELINE, plan.closes)
        };
        Self {
            run: plan.run,
            signer: Signer::new(&plan.targets[0]),
            publishers: targets.map(publisher).collect(),
            channels,
            table: None,
            issued: 0,
            owed: 0,
            refused: HashSet::new(),
            answers: vec![Vec::new(); plan.targets.len()],
            is_told: false,
        }
    }

    /// Publishes the next event; false if there is no room for it.
    fn publish(&mut self, due: Nanos, options: &args::Fanout) -> bool {
        let number = (self.issued % u64::from(options.channels)) as u32;
        let channel = &mut self.channels[number as usize];
        let stamp = Stamp {
            run: self.run,
            stream: number,
            number: channel.published,
            due,
        };
        if !self.publishers.iter().all(Publisher::has_room) {
            return false;
        }
        let request = self
            .signer
            .publish(&name(number), &stamp.text(options.bytes as usize));
        for publisher in &mut self.publishers {
            publisher.publish(self.issued, due, &request);
        }
        channel.published += 1;
        self.owed += channel.live;
        self.issued += 1;
        true
    }

    fn on_gone(&mut self, channel: u32, got: u64) {
        let channel = &mut self.channels[channel as usize];
        channel.live -= 1;
        self.owed -= (channel.published - channel.refused) as i64 - got as i64;
    }

    fn take_answers(&mut self, crowd: &mut Crowd, channels: u32) {
        let answers = self.answers.iter_mut().enumerate();
        let answers = answers.flat_map(|(n, answers)| answers.drain(..).map(move |a| (n, a)));
        let answers: Vec<(usize, Answered)> = answers.collect();
        for (listener, answer) in answers {
            match answer.status {
                Some(200 | 202) => {
                    crowd.meter.time(Span::Answer, answer.due);
                    crowd
                        .meter
                        .count(Count::Published, u64::from(listener == 0));
                    continue;
                }
                Some(status) => {
                    crowd.meter.count(Count::Refused, 1);
                    crowd
                        .meter
                        .blame(&format!("a publish was answered {status}"));
                }
                // It may have been accepted, and what of it comes is not missed.
                None => crowd.meter.count(Count::Unanswered, 1),
            }
            self.forgive(answer.id, channels);
        }
    }

    /// A publish is owed to nobody.
    fn forgive(&mut self, id: u64, channels: u32) {
        if self.refused.insert(id) {
            let channel = &mut self.channels[(id % u64::from(channels)) as usize];
            channel.refused += 1;
            self.owed -= channel.live;
        }
    }

    /// What has no answer by now will have none: it may have been accepted, or not.
    fn forgive_unanswered(&mut self, channels: u32) {
        let unanswered = self.publishers.iter().flat_map(Publisher::unanswered);
        let ids: Vec<u64> = unanswered.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.forgive(id, channels));
    }

    fn flush(&mut self, crowd: &mut Crowd) {
        for (publisher, answers) in self.publishers.iter_mut().zip(&mut self.answers) {
            publisher.flush(crowd, answers);
        }
    }

    fn flying(&self) -> usize {
        self.publishers.iter().map(Publisher::flying).sum()
    }
}

impl Load for Fanout {
    fn grow(&mut self, crowd: &mut Crowd, _level: u64) {
        (0..self.not_ready).for_each(|nth| crowd.want(self.group, nth, NEVER));
    }

    fn is_ready(&self) -> bool {
        self.not_ready == 0
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, _socket_id: &str) {
        let channel = match who.nth < self.subscribers.len() {
            true => self.channel(who.nth),
            false => 0,
        };
        let mut message = Vec::new();
        message::subscribe(&name(channel), None, None, &mut message);
        crowd.send(who.slot, &message);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if !matches!(notice, Notice::Subscribed { .. }) {
            return;
        }
        if !crowd.ready(who) {
            return;
        }
        let began = self.schedule.until > 0;
        match self.subscribers.get_mut(who.nth) {
            Some(subscriber) => {
                subscriber.counts = !began;
                self.not_ready -= usize::from(!began);
            }
            None => {
                self.stalled[who.nth - self.subscribers.len()] = Some(who.slot);
                self.not_ready -= usize::from(!began);
            }
        }
    }

    fn on_event(&mut self, crowd: &mut Crowd, who: Who, stamp: Stamp) {
        let channel = self.channel(who.nth);
        let Some(subscriber) = self.subscribers.get_mut(who.nth) else {
            return;
        };
        if stamp.stream != channel {
            return crowd.meter.count(Count::Misrouted, 1);
        }
        match subscriber.sequence.take(stamp.number) {
            Arrival::Again => return crowd.meter.count(Count::Repeated, 1),
            Arrival::Late => crowd.meter.count(Count::Reordered, 1),
            Arrival::InOrder => {}
        }
        crowd.meter.count(Count::Delivered, 1);
        crowd.meter.time(Span::Delivery, stamp.due);
        if !subscriber.counts {
            return;
        }
        subscriber.got += 1;
        if let Some(owed) = &mut self.owed_here {
            *owed -= 1;
        }
        match &mut self.publishing {
            Some(publishing) => publishing.owed -= 1,
            None => self.settled.delivered += 1,
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        let began = self.schedule.until > 0;
        if let Some(subscriber) = self.subscribers.get_mut(who.nth) {
            let got = u64::from(subscriber.got);
            if std::mem::take(&mut subscriber.counts) && began {
                let channel = self.channel(who.nth);
                if let (Some(owed), Some(accepted)) =
                    (&mut self.owed_here, self.accepted.get(channel as usize))
                {
                    *owed -= *accepted as i64 - got as i64;
                }
                self.tell_gone(channel, got);
            }
        } else if was_ready {
            self.stalled[who.nth - self.subscribers.len()] = None;
            self.stalled_ended += u64::from(began);
            crowd.meter.count(Count::Shed, u64::from(began));
        }
        if !began {
            self.not_ready += usize::from(was_ready);
            crowd.want_again(who);
        }
    }

    fn on_http(&mut self, crowd: &mut Crowd, index: u32) {
        if let Some(publishing) = &mut self.publishing {
            let publishers = publishing.publishers.iter_mut();
            for (publisher, answers) in publishers.zip(&mut publishing.answers) {
                if publisher.on_http(crowd, index, answers) {
                    break;
                }
            }
        }
        self.take_answers(crowd);
    }

    fn begin(&mut self, crowd: &mut Crowd, schedule: Schedule) {
        let is_first = self.schedule.until == 0;
        self.schedule = schedule;
        if !is_first {
            return;
        }
        self.stalled
            .iter()
            .flatten()
            .for_each(|&slot| crowd.stop_reading(slot));
        if let Some(publishing) = &mut self.publishing {
            let start = schedule.start.max(crowd.meter.now);
            publishing.table = self.options.rate.map(|rate| Timetable::new(start, rate));
        }
    }

    fn act(&mut self, crowd: &mut Crowd) -> Nanos {
        let now = crowd.meter.now;
        if now >= self.schedule.until && self.schedule.until > 0 && !self.is_over {
            // The stalled ones see now whether they were closed.
            self.is_over = true;
            let stalled = self.stalled.iter().flatten();
            stalled.for_each(|&slot| crowd.read_again(slot));
        }
        let (owed_max, at_once) = self.window();
        let options = &self.options;
        let Some(publishing) = &mut self.publishing else {
            return NEVER;
        };
        let mut next = NEVER;
        let is_running = self.schedule.start <= now && now < self.schedule.until;
        if now < self.schedule.start {
            next = self.schedule.start;
        }
        let has_more = |publishing: &Publishing| {
            let most = options.publishes.map_or(u64::MAX, u64::from);
            publishing.issued < most
        };
        let is_open = publishing.publishers.iter().all(|p| p.is_open(now));
        if is_running && is_open {
            for burst in 0..BURST_MAX {
                if !has_more(publishing) {
                    break;
                }
                if let Some(table) = &publishing.table {
                    let due = table.due();
                    if due > now {
                        next = due;
                        break;
                    }
                    if !publishing.publish(due, options) {
                        break;
                    }
                    if let Some(table) = &mut publishing.table {
                        table.take();
                    }
                } else {
                    // What one publish owes differs between channels by one at most.
                    let live = publishing
                        .channels
                        .first()
                        .map_or(0, |channel| channel.live);
                    if publishing.owed > owed_max * live.max(1) {
                        break;
                    }
                    (0..at_once)
                        .take_while(|_| has_more(publishing) && publishing.publish(now, options))
                        .count();
                    if live == 0 || publishing.flying() >= PIPELINE {
                        break;
                    }
                }
                if burst == BURST_MAX - 1 {
                    next = now;
                }
            }
        } else if is_running {
            next = now + SECOND / 20;
        }
        publishing.flush(crowd);
        self.take_answers(crowd);
        next
    }

    fn on_settled(&mut self, settled: &Settled) {
        if let Some(publishing) = &mut self.publishing {
            publishing.owed -= settled.delivered as i64;
            for &(channel, got) in &settled.gone {
                publishing.on_gone(channel, got);
            }
        }
    }

    fn take_settled(&mut self) -> Option<Settled> {
        let is_awaited = self.options.rate.is_none() && self.publishing.is_none();
        if !is_awaited || self.settled.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.settled))
    }

    fn take_published(&mut self) -> Option<Vec<u64>> {
        let publishing = self.publishing.as_mut()?;
        let now = crate::clock::now();
        let until = self.schedule.until;
        let has_ended = until > 0 && now >= until;
        let answers_max = ANSWERS_MAX.min(self.schedule.tail / 2);
        let is_answered = publishing.flying() == 0 || now >= until + answers_max;
        if !has_ended || !is_answered || std::mem::replace(&mut publishing.is_told, true) {
            return None;
        }
        publishing.forgive_unanswered(self.options.channels);
        let accepted = publishing.channels.iter().map(|c| c.published - c.refused);
        Some(accepted.collect())
    }

    fn expect(&mut self, accepted: &[u64]) {
        self.accepted = accepted.to_vec();
        let owed = |(nth, subscriber): (usize, &Subscriber)| {
            let channel = channel(self.share, nth, self.options.channels);
            let accepted = accepted.get(channel as usize).copied().unwrap_or(0);
            accepted as i64 - i64::from(subscriber.got)
        };
        let counting = self
            .subscribers
            .iter()
            .enumerate()
            .filter(|(_, s)| s.counts);
        self.owed_here = Some(counting.map(owed).sum());
    }

    fn is_settled(&self, _crowd: &Crowd) -> bool {
        let stalled_ended = self.stalled_ended == self.stalled.len() as u64;
        self.owed_here.is_some_and(|owed| owed <= 0) && stalled_ended
    }

    fn give_up(&mut self, crowd: &mut Crowd) {
        let Some(publishing) = &self.publishing else {
            return;
        };
        for (_, due) in publishing.publishers.iter().flat_map(Publisher::unanswered) {
            crowd.meter.count(Count::Unanswered, 1);
            crowd.meter.overdue(Span::Answer, due);
        }
        let is_endless = self.options.publishes.is_none();
        if let Some(table) = publishing.table.as_ref().filter(|_| is_endless) {
            // Whoever was to get them has not.
            let until = self.schedule.until;
            let live: i64 = publishing.channels.iter().map(|c| c.live).sum();
            let each = live / publishing.channels.len() as i64;
            let each = u64::try_from(each).unwrap_or(0);
            crowd.meter.overdue_all(Span::Delivery, table, until, each);
        }
    }

    fn harvest(&self, harvest: &mut Harvest) {
        let lost = self
            .subscribers
            .iter()
            .enumerate()
            .filter(|(_, s)| s.counts);
        let lost = lost.map(|(nth, subscriber)| {
            let accepted = self.accepted.get(self.channel(nth) as usize);
            accepted.map_or(0, |&accepted| {
                accepted.saturating_sub(subscriber.got.into())
            })
        });
        let mut checks = vec![Check::fault("deliveries lost", lost.sum())];
        if self.accepted.is_empty() {
            checks = vec![Check::fact("answers never came: losses are not known", 1)];
        }
        if !self.stalled.is_empty() {
            checks.push(Check::fact(
                "stalled subscribers",
                self.stalled.len() as u64,
            ));
            checks.push(Check::fact(
                "of them closed by the server",
                self.stalled_ended,
            ));
        }
        harvest.checks.append(&mut checks);
    }
}
