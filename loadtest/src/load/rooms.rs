//! Connections that stay and change from one channel to the next.

use std::collections::VecDeque;

use crate::args;
use crate::clock::{NEVER, Nanos, Timetable};
use crate::control::{Plan, Schedule, Share};
use crate::crowd::{Crowd, Who};
use crate::load::subscription::Channels;
use crate::load::{BURST_MAX, Load};
use crate::message::{self, Notice};
use crate::meter::{Count, Span};

pub(super) struct Rooms {
    group: u8,
    share: Share,
    channels: Channels,
    places: Vec<Place>,
    ready: usize,
    /// Connections that are subscribed and change nothing now.
    idle: VecDeque<u32>,
    rate: Option<f64>,
    table: Option<Timetable>,
    until: Nanos,
}

#[derive(Clone, Default)]
struct Place {
    slot: u32,
    /// Changes so far.
    moved: u64,
    /// When the change under way was due.
    due: Nanos,
    socket_id: Box<str>,
}

impl Rooms {
    pub(super) fn new(group: u8, options: &args::Churn, plan: &Plan) -> Self {
        let count = plan.share.count(options.connections.into());
        Self {
            group,
            share: plan.share,
            channels: Channels::new("room", options.kind, options.channels.max(2), plan),
            places: vec![
                Place {
                    due: NEVER,
                    ..Place::default()
                };
                count
            ],
            ready: 0,
            idle: VecDeque::new(),
            rate: options.rate,
            table: None,
            until: 0,
        }
    }

    fn change(&mut self, crowd: &mut Crowd, nth: u32, due: Nanos) {
        let place = &mut self.places[nth as usize];
        let mut messages = Vec::new();
        message::unsubscribe(
            &self.channels.name(nth as usize, place.moved),
            &mut messages,
        );
        place.moved += 1;
        place.due = due;
        self.channels
            .subscribe(&place.socket_id, nth as usize, place.moved, &mut messages);
        crowd.send(place.slot, &messages);
    }
}

impl Load for Rooms {
    fn grow(&mut self, crowd: &mut Crowd, _level: u64) {
        (0..self.places.len()).for_each(|nth| crowd.want(self.group, nth, NEVER));
    }

    fn is_ready(&self) -> bool {
        self.ready == self.places.len()
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str) {
        let place = &mut self.places[who.nth];
        place.slot = who.slot;
        place.socket_id = socket_id.into();
        place.due = NEVER;
        let mut message = Vec::new();
        self.channels
            .subscribe(socket_id, who.nth, place.moved, &mut message);
        crowd.send(who.slot, &message);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if !matches!(notice, Notice::Subscribed { .. }) {
            return;
        }
        let due = std::mem::replace(&mut self.places[who.nth].due, NEVER);
        if due != NEVER {
            crowd.meter.time(Span::Switch, due);
            crowd.meter.count(Count::Switched, 1);
        } else if crowd.ready(who) {
            self.ready += 1;
        } else {
            return;
        }
        self.idle.push_back(who.nth as u32);
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        self.ready -= usize::from(was_ready);
        self.idle.retain(|&nth| nth as usize != who.nth);
        let due = std::mem::replace(&mut self.places[who.nth].due, NEVER);
        if due != NEVER {
            crowd.meter.overdue(Span::Switch, due);
        }
        crowd.want_again(who);
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
        for _ in 0..BURST_MAX {
            let due = self.table.as_ref().map_or(now, Timetable::due);
            if due > now {
                return due;
            }
            let Some(nth) = self.idle.pop_front() else {
                return NEVER;
            };
            if let Some(table) = &mut self.table {
                table.take();
            }
            self.change(crowd, nth, due);
        }
        now
    }

    /// Those that were under way at the end are waited for, or the slowest would go unseen.
    fn is_settled(&self, _crowd: &Crowd) -> bool {
        self.places.iter().all(|place| place.due == NEVER)
    }

    fn give_up(&mut self, crowd: &mut Crowd) {
        for place in self.places.iter().filter(|place| place.due != NEVER) {
            crowd.meter.overdue(Span::Switch, place.due);
        }
        if let Some(table) = &self.table {
            crowd.meter.overdue_all(Span::Switch, table, self.until, 1);
        }
    }
}
