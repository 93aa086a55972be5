//! Presence rooms: members send client events, leave, and come back.
//!
//! All members of a room belong to one worker, so that it knows what each of them is owed: an event
//! is owed to those who were in the room when it was sent and have not left since. A room numbers
//! its events, so that a member sees what came twice; what one member sends comes to another in
//! order. Each member counts the others by what it is told, and at the end all must agree.

use std::collections::VecDeque;

use crate::args;
use crate::clock::{MILLISECOND, NEVER, Nanos, Timetable};
use crate::control::{Harvest, Plan, Schedule, Share};
use crate::crowd::{Crowd, Who};
use crate::load::{BURST_MAX, Check, Load};
use crate::message::{self, Notice};
use crate::meter::{Count, Span};
use crate::sequence::{Arrival, Sequence};
use crate::sign::Signer;
use crate::stamp::Stamp;

pub(super) struct Chat {
    group: u8,
    share: Share,
    options: args::Chat,
    signer: Signer,
    /// Members of a room.
    size: usize,
    rooms: Vec<Room>,
    members: Vec<Member>,
    /// For each member, one above the last number that it got from each of its room.
    heard: Vec<u32>,
    not_ready: usize,
    sends: Option<Timetable>,
    leaves: Option<Timetable>,
    /// Who comes back when; ascending.
    away: VecDeque<(Nanos, u32)>,
    next_sender: usize,
    next_leaver: usize,
    schedule: Schedule,
    /// Owed to members who left before it came.
    forgiven: u64,
    rejected: u64,
}

#[derive(Clone, Default)]
struct Room {
    /// The number of the next event.
    next: u64,
    /// Members who are in.
    present: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Out,
    Joining,
    In,
}

#[derive(Clone, Default)]
struct Member {
    state: State,
    slot: u32,
    socket_id: Box<str>,
    /// When the subscription under way was due.
    due: Nanos,
    /// The first event of the room that it is owed.
    base: u64,
    seen: Sequence,
    owed: u32,
    /// Members of the room, by what it was told.
    roster: i64,
}

/// The rooms of a soak.
pub(super) fn of_soak(soak: &args::Soak) -> args::Chat {
    args::Chat {
        rooms: soak.rooms,
        members: soak.members,
        rate: soak.chat_rate,
        leaves: soak.leaves,
        away_ms: 200,
        bytes: soak.bytes,
    }
}

impl Chat {
    pub(super) fn new(group: u8, options: &args::Chat, plan: &Plan) -> Self {
        let rooms = plan.share.count(options.rooms.into());
        let size = options.members as usize;
        let mut options = options.clone();
        if !plan.passes_client_events {
            options.rate = 0.0;
        }
        Self {
            group,
            share: plan.share,
            options,
            signer: Signer::new(&plan.targets[0]),
            size,
            rooms: vec![Room::default(); rooms],
            members: vec![Member::default(); rooms * size],
            heard: vec![0; rooms * size * size],
            not_ready: rooms * size,
            sends: None,
            leaves: None,
            away: VecDeque::new(),
            next_sender: 0,
            next_leaver: 0,
            schedule: Schedule::default(),
            forgiven: 0,
            rejected: 0,
        }
    }

    fn channel(&self, nth: usize) -> String {
        format!("presence-loadtest-{}", self.share.global(nth / self.size))
    }

    fn join(&mut self, crowd: &mut Crowd, nth: usize, due: Nanos) {
        let channel = self.channel(nth);
        let data = format!(r#"{{"user_id":"{}-{nth}"}}"#, self.share.worker);
        let member = &mut self.members[nth];
        (member.state, member.due) = (State::Joining, due);
        let auth = self
            .signer
            .subscription(&member.socket_id, &channel, Some(&data));
        let mut message = Vec::new();
        message::subscribe(&channel, Some(&auth), Some(&data), &mut message);
        crowd.send(member.slot, &message);
    }

    fn leave(&mut self, crowd: &mut Crowd, nth: usize, now: Nanos) {
        self.forget(nth);
        let mut message = Vec::new();
        message::unsubscribe(&self.channel(nth), &mut message);
        crowd.send(self.members[nth].slot, &message);
        crowd.meter.count(Count::Left, 1);
        let back = now + u64::from(self.options.away_ms) * MILLISECOND;
        self.away.push_back((back, nth as u32));
    }

    /// A member is no longer in its room.
    fn forget(&mut self, nth: usize) {
        let member = &mut self.members[nth];
        if member.state == State::In {
            self.rooms[nth / self.size].present -= 1;
        }
        member.state = State::Out;
        self.forgiven += u64::from(std::mem::take(&mut member.owed));
    }

    fn send(&mut self, crowd: &mut Crowd, nth: usize, due: Nanos) {
        let room = &mut self.rooms[nth / self.size];
        let stamp = Stamp {
            run: crowd.run,
            stream: nth as u32,
            number: room.next,
            due,
        };
        room.next += 1;
        let first = nth / self.size * self.size;
        for other in first..first + self.size {
            let member = &mut self.members[other];
            if other != nth && member.state == State::In {
                member.owed += 1;
            }
        }
        let mut message = Vec::new();
        let data = stamp.text(self.options.bytes as usize);
        message::client_event(&self.channel(nth), &data, &mut message);
        crowd.send(self.members[nth].slot, &message);
        crowd.meter.count(Count::Sent, 1);
    }

    /// The next one in turn who is in its room.
    fn take_present(&self, next: usize) -> Option<usize> {
        let count = self.members.len();
        let mut from_next = (0..count).map(|n| (next + n) % count);
        from_next.find(|&nth| self.members[nth].state == State::In)
    }

    fn owed(&self) -> u64 {
        self.members
            .iter()
            .map(|member| u64::from(member.owed))
            .sum()
    }

    /// Members who count others than there are.
    fn wrong_rosters(&self) -> u64 {
        let is_wrong = |(nth, member): &(usize, &Member)| {
            let present = i64::from(self.rooms[nth / self.size].present);
            member.state == State::In && member.roster != present
        };
        self.members.iter().enumerate().filter(is_wrong).count() as u64
    }
}

/// When the next was due, if it is; it is taken in hand.
fn take_due(table: &mut Option<Timetable>, now: Nanos) -> Option<Nanos> {
    let table = table.as_mut()?;
    let due = table.due();
    (due <= now).then(|| {
        table.take();
        due
    })
}

impl Load for Chat {
    fn grow(&mut self, crowd: &mut Crowd, _level: u64) {
        (0..self.members.len()).for_each(|nth| crowd.want(self.group, nth, NEVER));
    }

    fn is_ready(&self) -> bool {
        self.not_ready == 0
    }

    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str) {
        let member = &mut self.members[who.nth];
        (member.slot, member.socket_id) = (who.slot, socket_id.into());
        let due = crowd.due(who);
        self.join(crowd, who.nth, due);
    }

    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>) {
        let room = &mut self.rooms[who.nth / self.size];
        let member = &mut self.members[who.nth];
        match notice {
            Notice::Subscribed { members } if member.state == State::Joining => {
                let is_first = self.schedule.until == 0;
                member.state = State::In;
                member.roster = members.unwrap_or(0).into();
                member.base = room.next;
                member.seen = Sequence::default();
                room.present += 1;
                let heard = who.nth * self.size;
                self.heard[heard..heard + self.size].fill(0);
                crowd.meter.time(Span::Join, member.due);
                crowd.meter.count(Count::Joined, 1);
                let is_new = crowd.ready(who);
                self.not_ready -= usize::from(is_first && is_new);
            }
            Notice::MemberAdded | Notice::MemberRemoved if member.state == State::In => {
                let is_added = *notice == Notice::MemberAdded;
                member.roster += if is_added { 1 } else { -1 };
                crowd.meter.count(Count::Members, 1);
            }
            Notice::Error(_) => self.rejected += 1,
            _ => {}
        }
    }

    fn on_event(&mut self, crowd: &mut Crowd, who: Who, stamp: Stamp) {
        let member = &mut self.members[who.nth];
        let from = (stamp.stream as usize).wrapping_sub(who.nth / self.size * self.size);
        if from >= self.size {
            return crowd.meter.count(Count::Misrouted, 1);
        }
        if member.state != State::In {
            return;
        }
        let is_own = stamp.stream as usize == who.nth;
        if is_own || member.seen.take(stamp.number) == Arrival::Again {
            return crowd.meter.count(Count::Repeated, 1);
        }
        let heard = &mut self.heard[who.nth * self.size + from];
        let number = stamp.number as u32;
        if number < *heard {
            crowd.meter.count(Count::Reordered, 1);
        }
        *heard = (*heard).max(number + 1);
        crowd.meter.count(Count::Passed, 1);
        crowd.meter.time(Span::Pass, stamp.due);
        if stamp.number >= member.base {
            member.owed = member.owed.saturating_sub(1);
        }
    }

    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool) {
        self.forget(who.nth);
        self.not_ready += usize::from(was_ready && self.schedule.until == 0);
        self.away.retain(|&(_, nth)| nth as usize != who.nth);
        crowd.want_again(who);
    }

    fn begin(&mut self, crowd: &mut Crowd, schedule: Schedule) {
        let is_first = self.schedule.until == 0;
        self.schedule = schedule;
        if is_first {
            let start = schedule.start.max(crowd.meter.now);
            let table = |total: f64| {
                let rate = self.share.rate(total);
                (rate > 0.0 && !self.members.is_empty()).then(|| Timetable::new(start, rate))
            };
            (self.sends, self.leaves) = (table(self.options.rate), table(self.options.leaves));
        }
    }

    fn act(&mut self, crowd: &mut Crowd) -> Nanos {
        let now = crowd.meter.now;
        let mut next = NEVER;
        while let Some(&(back, nth)) = self.away.front() {
            if back > now {
                next = back;
                break;
            }
            self.away.pop_front();
            self.join(crowd, nth as usize, back);
        }
        if now >= self.schedule.until {
            return next;
        }
        for _ in 0..BURST_MAX {
            let Some(due) = take_due(&mut self.sends, now) else {
                break;
            };
            match self.take_present(self.next_sender) {
                Some(nth) => {
                    self.next_sender = nth + 1;
                    self.send(crowd, nth, due);
                }
                None => crowd.meter.count(Count::Overdue, 1),
            }
        }
        for _ in 0..BURST_MAX {
            let Some(_) = take_due(&mut self.leaves, now) else {
                break;
            };
            if let Some(nth) = self.take_present(self.next_leaver) {
                self.next_leaver = nth + self.size + 1;
                self.leave(crowd, nth, now);
            }
        }
        let tables = [&self.sends, &self.leaves].into_iter().flatten();
        tables.map(Timetable::due).fold(next, Nanos::min)
    }

    fn is_settled(&self, _crowd: &Crowd) -> bool {
        let are_in = self.members.iter().all(|member| member.state == State::In);
        are_in && self.owed() == 0 && self.wrong_rosters() == 0
    }

    fn harvest(&self, harvest: &mut Harvest) {
        // A rejected event is owed to nobody, but which one it was is not said.
        let rejected = self.rejected * (self.size as u64 - 1);
        let checks = [
            Check::fault("client events lost", self.owed().saturating_sub(rejected)),
            Check::fault("rosters wrong at the end", self.wrong_rosters()),
            Check::fact(
                "client events under way to a member who left",
                self.forgiven,
            ),
        ];
        harvest.checks.extend(checks);
    }
}
