//! Connections that are subscribed and then left alone: as fast as handshakes go, or at a rate.

use crate::args;
use crate::clock::{NEVER, Nanos, Timetable};
use crate::control::{Plan, Share};
use crate::crowd::{Crowd, Who};
use crate::load::subscription::Channels;
use crate::load::{BURST_MAX, Load};
use crate::message::Notice;

pub(super) struct Connect {
    group: u8,
    share: Share,
    channels: Channels,
    /// Connections of the present level, and those that have been opened.
    level: usize,
    wanted: usize,
    ready: usize,
    rate: Option<f64>,
    table: Option<Timetable>,
}

impl Connect {
    pub(super) fn new(group: u8, options: &args::Connect, plan: &Plan) -> Self {
        Self {
            group,
            share: plan.share,
            channels: Channels::new("idle", options.kind, options.channels, plan),
            level: 0,
            wanted: 0,
            ready: 0,
            rate: options.rate,
            table: None,
        }
    }
}

impl Load for Connect {
    fn grow(&mut self, crowd: &mut Crowd, level: u64) {
        self.level = self.level.max(self.share.count(level));
        let rate = self.rate.map(|rate| self.share.rate(rate));
        self.table = rate.map(|rate| Timetable::new(crowd.meter.now, rate));
    }

    fn is_ready(&self) -> bool {
        self.ready >= self.level
    }

    fn act(&mut self, crowd: &mut Crowd) -> Nanos {
        let now = crowd.meter.now;
        for _ in 0..BURST_MAX {
            if self.wanted == self.level {
                return NEVER;
            }
            let due = self.table.as_ref().map_or(NEVER, Timetable::due);
            if self.table.is_some() && due > now {
                return due;
            }
            if let Some(table) = &mut self.table {
                table.take();
            }
            crowd.want(self.group, self.wanted, due);
            self.wanted += 1;
        }
        now
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str) {
        let mut message = Vec::new();
        self.channels.subscribe(socket_id, who.nth, 0, &mut message);
        crowd.send(who.slot, &message);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if let Notice::Subscribed { .. } = notice {
            self.ready += usize::from(crowd.ready(who));
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        self.ready -= usize::from(was_ready);
        crowd.want_again(who);
    }
}
