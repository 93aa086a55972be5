//! Connections that are subscribed and then left alone.

use crate::args;
use crate::control::{Plan, Share};
use crate::crowd::{Crowd, Who};
use crate::load::Load;
use crate::load::subscription::Channels;
use crate::message::Notice;

pub(super) struct Connect {
    group: u8,
    share: Share,
    channels: Channels,
    wanted: usize,
    ready: usize,
}

impl Connect {
    pub(super) fn new(group: u8, options: &args::Connect, plan: &Plan) -> Self {
        Self {
            group,
            share: plan.share,
            channels: Channels::new("idle", options.kind, options.channels, plan),
            wanted: 0,
            ready: 0,
        }
    }
}

impl Load for Connect {
    fn grow(&mut self, crowd: &mut Crowd, level: u64) {
        let wanted = self.share.count(level);
        let now = crowd.meter.now;
        (self.wanted..wanted).for_each(|nth| crowd.want(self.group, nth, now));
        self.wanted = self.wanted.max(wanted);
    }

    fn is_ready(&self) -> bool {
        self.ready >= self.wanted
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str) {
        let mut message = Vec::new();
        self.channels.subscribe(socket_id, who.nth, 0, &mut message);
        crowd.send(who.slot, &message);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        if let Notice::Subscribed { .. } = notice {
            crowd.ready(who);
            self.ready += 1;
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        self.ready -= usize::from(was_ready);
        crowd.want_again(who);
    }
}
