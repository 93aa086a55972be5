//! Connections that all end at once, and all come back.
//!
//! Each worker makes its own storms; one begins a while after everybody has come back from the
//! one before.

use crate::args;
use crate::clock::{NEVER, Nanos, SECOND};
use crate::control::{Harvest, Plan, Schedule};
use crate::crowd::{Crowd, Who};
use crate::load::subscription::Channels;
use crate::load::{Check, Load};
use crate::message::Notice;
use crate::meter::{Count, Span};

pub(super) struct Storm {
    group: u8,
    channels: Channels,
    /// The slots of those who are there.
    slots: Vec<Option<u32>>,
    ready: usize,
    calm: Nanos,
    /// When the storm under way began.
    began: Option<Nanos>,
    next: Nanos,
    until: Nanos,
    storms: u64,
}

impl Storm {
    pub(super) fn new(group: u8, options: &args::Churn, plan: &Plan) -> Self {
        Self {
            group,
            channels: Channels::new("storm", options.kind, options.channels, plan),
            slots: vec![None; plan.share.count(options.connections.into())],
            ready: 0,
            calm: u64::from(options.calm_secs) * SECOND,
            began: None,
            next: NEVER,
            until: 0,
            storms: 0,
        }
    }
}

impl Load for Storm {
    fn grow(&mut self, crowd: &mut Crowd, _level: u64) {
        (0..self.slots.len()).for_each(|nth| crowd.want(self.group, nth, NEVER));
    }

    fn is_ready(&self) -> bool {
        self.ready == self.slots.len()
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str) {
        let mut message = Vec::new();
        self.channels.subscribe(socket_id, who.nth, 0, &mut message);
        crowd.send(who.slot, &message);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if !matches!(notice, Notice::Subscribed { .. }) {
            return;
        }
        if !crowd.ready(who) {
            return;
        }
        self.slots[who.nth] = Some(who.slot);
        self.ready += 1;
        if self.began.is_some() {
            crowd.meter.count(Count::Returned, 1);
        }
        if self.is_ready()
            && let Some(began) = self.began.take()
        {
            crowd.meter.time(Span::Storm, began);
            self.storms += 1;
            self.next = crowd.meter.now + self.calm;
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        self.ready -= usize::from(was_ready);
        self.slots[who.nth] = None;
        crowd.want_again(who);
    }

    fn begin(&mut self, _crowd: &mut Crowd, schedule: Schedule) {
        self.until = schedule.until;
        if self.next == NEVER {
            // In the measured span, or the first storm would not count.
            self.next = schedule.from;
        }
    }

    fn act(&mut self, crowd: &mut Crowd) -> Nanos {
        let now = crowd.meter.now;
        if self.began.is_some() || now >= self.until || self.slots.is_empty() {
            return NEVER;
        }
        if now < self.next {
            return self.next;
        }
        self.began = Some(now);
        self.ready = 0;
        for nth in 0..self.slots.len() {
            if let Some(slot) = self.slots[nth].take() {
                crowd.close(slot);
                crowd.want(self.group, nth, now);
            }
        }
        NEVER
    }

    fn is_settled(&self, _crowd: &Crowd) -> bool {
        self.began.is_none()
    }

    fn harvest(&self, harvest: &mut Harvest) {
        harvest.checks.push(Check::fact("storms", self.storms));
        let missing = (self.slots.len() - self.ready) as u64;
        harvest
            .checks
            .push(Check::fault("not back from a storm", missing));
    }
}
