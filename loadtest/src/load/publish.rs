//! Publishes that nobody is subscribed to: what each costs the server, and how soon it answers.
//!
//! Requests are signed in advance and used in turn, so that this side does not spend its time on
//! signatures; signatures are valid for ten minutes, and are made anew long before.

use crate::args;
use crate::clock::{NEVER, Nanos, SECOND, Timetable};
use crate::control::{Harvest, Plan, Schedule, Share};
use crate::crowd::{Crowd, Who};
use crate::load::{BURST_MAX, Check, Load};
use crate::message::{self, Notice};
use crate::meter::{Count, Span};
use crate::publisher::{Answered, Publisher};
use crate::sign::Signer;
use crate::stamp::Stamp;

/// Channels of a connection that exists only for them.
pub(super) const EXISTING_EACH: u32 = 500;
/// Requests that are prepared, at least.
const PREPARED_MIN: u32 = 64;
const SIGNED_FOR: Nanos = 60 * SECOND;

pub(super) struct Publish {
    group: u8,
    run: u8,
    share: Share,
    options: args::Publish,
    signer: Signer,
    publisher: Publisher,
    prepared: Vec<Vec<u8>>,
    prepared_at: Nanos,
    /// Subscriptions that each of our connections waits for.
    waiting: Vec<u32>,
    not_ready: usize,
    issued: u64,
    table: Option<Timetable>,
    until: Nanos,
    answers: Vec<Answered>,
    /// The server ends a connection behind each answer.
    closes: bool,
}

impl Publish {
    pub(super) fn new(group: u8, options: &args::Publish, plan: &Plan) -> Self {
        let target = &plan.targets[plan.share.worker as usize % plan.targets.len()];
        let connections = plan.share.count(options.connections.into());
        let holders = plan
            .share
            .count(options.existing.div_ceil(EXISTING_EACH).into());
        Self {
            group,
            run: plan.run,
            share: plan.share,
            options: options.clone(),
            signer: Signer::new(target),
            publisher: Publisher::new(
                target.address,
                group,
                0,
                connections,
                options.pipeline as usize,
                plan.closes,
            ),
            prepared: Vec::new(),
            prepared_at: 0,
            waiting: vec![0; holders],
            not_ready: holders,
            issued: 0,
            table: None,
            until: 0,
            answers: Vec::new(),
            closes: plan.closes,
        }
    }

    /// Signs the requests that are used in turn.
    fn prepare(&mut self, now: Nanos) {
        if !self.prepared.is_empty() && now < self.prepared_at + SIGNED_FOR {
            return;
        }
        self.prepared_at = now;
        let count = self.options.channels.max(PREPARED_MIN);
        let prepared = (0..count).map(|number| {
            let stamp = Stamp {
                run: self.run,
                stream: self.share.worker,
                number: number.into(),
                due: 0,
            };
            let channel = format!("loadtest-publish-{}", number % self.options.channels);
            self.signer
                .publish(&channel, &stamp.text(self.options.bytes as usize))
        });
        self.prepared = prepared.collect();
    }

    /// Channels of this worker's `nth` connection that holds some.
    fn held(&self, nth: usize) -> std::ops::Range<u64> {
        let first = self.share.global(nth) * u64::from(EXISTING_EACH);
        first..(first + u64::from(EXISTING_EACH)).min(self.options.existing.into())
    }

    fn take_answers(&mut self, crowd: &mut Crowd) {
        for answer in self.answers.drain(..) {
            match answer.status {
                Some(200 | 202) => {
                    crowd.meter.count(Count::Published, 1);
                    crowd.meter.time(Span::Answer, answer.due);
                }
                Some(status) => {
                    crowd.meter.count(Count::Refused, 1);
                    crowd
                        .meter
                        .blame(&format!("a publish was answered {status}"));
                }
                None => crowd.meter.count(Count::Unanswered, 1),
            }
        }
    }
}

impl Load for Publish {
    fn grow(&mut self, crowd: &mut Crowd, _level: u64) {
        (0..self.waiting.len()).for_each(|nth| crowd.want(self.group, nth, NEVER));
    }

    fn is_ready(&self) -> bool {
        self.not_ready == 0
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, _socket_id: &str) {
        let mut messages = Vec::new();
        let held = self.held(who.nth);
        self.waiting[who.nth] = (held.end - held.start) as u32;
        for number in held {
            let channel = format!("loadtest-existing-{number}");
            message::subscribe(&channel, None, None, &mut messages);
        }
        crowd.send(who.slot, &messages);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if let Notice::Subscribed { .. } = notice {
            self.waiting[who.nth] = self.waiting[who.nth].saturating_sub(1);
            if self.waiting[who.nth] == 0 {
                self.not_ready -= usize::from(crowd.ready(who));
            }
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        self.not_ready += usize::from(was_ready);
        crowd.want_again(who);
    }

    fn on_http(&mut self, crowd: &mut Crowd, index: u32) {
        self.publisher.on_http(crowd, index, &mut self.answers);
        self.take_answers(crowd);
    }

    fn begin(&mut self, crowd: &mut Crowd, schedule: Schedule) {
        self.until = schedule.until;
        if self.table.is_none() {
            let rate = self.options.rate.map(|rate| self.share.rate(rate));
            self.table = rate.map(|rate| Timetable::new(schedule.start.max(crowd.meter.now), rate));
        }
    }

    fn act(&mut self, crowd: &mut Crowd) -> Nanos {
        let now = crowd.meter.now;
        let mut next = NEVER;
        if now < self.until && self.publisher.is_open(now) {
            self.prepare(now);
            loop {
                let due = self.table.as_ref().map_or(now, Timetable::due);
                if due > now {
                    next = due;
                    break;
                }
                let request = &self.prepared[(self.issued % self.prepared.len() as u64) as usize];
                if !self.publisher.publish(self.issued, due, request) {
                    break;
                }
                if let Some(table) = &mut self.table {
                    table.take();
                }
                self.issued += 1;
                if self.issued.is_multiple_of(u64::from(BURST_MAX) * 4) {
                    // A run far behind still reads.
                    next = now;
                    break;
                }
            }
        } else if now < self.until {
            next = now + SECOND / 20;
        }
        self.publisher.flush(crowd, &mut self.answers);
        self.take_answers(crowd);
        next
    }

    fn is_settled(&self, _crowd: &Crowd) -> bool {
        self.publisher.flying() == 0
    }

    fn give_up(&mut self, crowd: &mut Crowd) {
        for (_, due) in self.publisher.unanswered() {
            crowd.meter.count(Count::Unanswered, 1);
            crowd.meter.overdue(Span::Answer, due);
        }
        if let Some(table) = &self.table {
            crowd.meter.overdue_all(Span::Answer, table, self.until, 1);
        }
    }

    fn harvest(&self, harvest: &mut Harvest) {
        if self.closes {
            harvest
                .checks
                .push(Check::fact("connections opened for publishes", self.issued));
        }
    }
}
