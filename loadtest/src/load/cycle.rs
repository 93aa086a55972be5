//! Connections that come, subscribe, and go as soon as that is confirmed.

use crate::clock::{NEVER, Nanos, Timetable};
use crate::control::{Plan, Schedule, Share};
use crate::crowd::{Crowd, Who};
use crate::load::subscription::Channels;
use crate::load::{BURST_MAX, Load};
use crate::message::Notice;
use crate::meter::{Count, Span};

/// Connections at once in a soak, at most.
pub(super) const AT_ONCE_MAX: u32 = 64;

pub(super) struct Cycle {
    group: u8,
    share: Share,
    channels: Channels,
    /// Numbers of connections that are not there now, and how many there are in all.
    idle: Vec<usize>,
    places: usize,
    rate: Option<f64>,
    table: Option<Timetable>,
    until: Nanos,
}

impl Cycle {
    /// As fast as the server answers, or at a rate of all workers together.
    pub(super) fn new(
        group: u8,
        at_once: u32,
        rate: Option<f64>,
        channels: Channels,
        plan: &Plan,
    ) -> Self {
        Self {
            group,
            share: plan.share,
            channels,
            idle: (0..plan.share.count(at_once.into())).rev().collect(),
            places: plan.share.count(at_once.into()),
            rate,
            table: None,
            until: 0,
        }
    }
}

impl Load for Cycle {
    /// Nobody waits for it before it begins.
    fn grow(&mut self, _crowd: &mut Crowd, _level: u64) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str) {
        let mut message = Vec::new();
        self.channels.subscribe(socket_id, who.nth, 0, &mut message);
        crowd.send(who.slot, &message);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if let Notice::Subscribed { .. } = notice {
            let due = crowd.due(who);
            crowd.ready(who);
            crowd.meter.time(Span::Cycle, due);
            crowd.meter.count(Count::Cycles, 1);
            crowd.close(who.slot);
            self.idle.push(who.nth);
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, _was_ready: bool) {
        // As many as there are places come back, each after a pause.
        if crowd.meter.now < self.until {
            crowd.want_again(who);
        } else {
            self.idle.push(who.nth);
        }
    }

    fn begin(&mut self, crowd: &mut Crowd, schedule: Schedule) {
        self.until = schedule.until;
        if self.table.is_none() {
            let rate = self.rate.map(|rate| self.share.rate(rate));
            self.table = rate.map(|rate| Timetable::new(schedule.start.max(crowd.meter.now), rate));
        }
    }

    fn act(&mut self, crowd: &mut Crowd) -> Nanos {
        let now = crowd.meter.now;
        if now >= self.until {
            return NEVER;
        }
        match &mut self.table {
            None => {
                while let Some(nth) = self.idle.pop() {
                    crowd.want(self.group, nth, now);
                }
                NEVER
            }
            Some(table) => {
                for _ in 0..BURST_MAX {
                    let due = table.due();
                    if due > now {
                        return due;
                    }
                    let Some(nth) = self.idle.pop() else {
                        return NEVER;
                    };
                    table.take();
                    crowd.want(self.group, nth, due);
                }
                now
            }
        }
    }

    /// Those that were under way at the end are waited for, or the slowest would go unseen.
    fn is_settled(&self, _crowd: &Crowd) -> bool {
        self.idle.len() == self.places
    }

    fn give_up(&mut self, crowd: &mut Crowd) {
        for due in crowd.dues(self.group) {
            crowd.meter.overdue(Span::Cycle, due);
        }
        if let Some(table) = &self.table {
            crowd.meter.overdue_all(Span::Cycle, table, self.until, 1);
        }
    }
}
