//! Many WebSocket connections on one thread.
//!
//! A connection costs this process 16 bytes and what the kernel needs: all share one read buffer,
//! and only a frame that has come in part is kept. The number of handshakes under way is bounded,
//! so that neither backlog overflows. It knows nothing of what events mean: each is told to the
//! load that wanted the connection, which is known by its group.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

use crate::clock::{self, MILLISECOND, NEVER, Nanos, SECOND};
use crate::control::{Plan, Share};
use crate::frame::{self, Opcode};
use crate::http;
use crate::load::Load;
use crate::message::{self, Notice};
use crate::meter::{Count, Meter, Span};
use crate::stamp::Stamp;
use crate::target::{self, Target};

const READ_BYTES: usize = 256 * 1024;
/// Events of one wait.
const EVENTS_MAX: usize = 512;
/// The longest that a wait lasts, so that a run ends in time.
const WAIT_MAX: Nanos = 100 * MILLISECOND;
/// A handshake that takes longer has failed.
const OPENING_MAX: Nanos = 20 * SECOND;
/// Before a connection that has failed is opened again.
const RETRY_AFTER: Nanos = 200 * MILLISECOND;
/// What the kernel may leave to be sent on a connection; it is given up over it.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// What an epoll event is about is in its upper two bits.
const HTTP: u64 = 1 << 62;
const CONTROL: u64 = 1 << 63;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Connecting,
    Upgrading,
    Greeted,
    Ready,
}

struct Slot {
    fd: Option<OwnedFd>,
    /// Of the connections that had this slot: an event of an earlier one is not for this one.
    generation: u32,
    nth: u32,
    group: u8,
    state: State,
    has_partial: bool,
}

/// A connection: the `nth` of its group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) slot: u32,
    pub(crate) nth: usize,
    group: u8,
}

/// A connection that is to be opened.
#[derive(Clone, Copy)]
struct Wanted {
    group: u8,
    nth: u32,
    due: Nanos,
}

struct Opening {
    due: Nanos,
    since: Nanos,
}

/// The connections of a worker.
pub(crate) struct Crowd {
    pub(crate) meter: Meter,
    /// What events of this run are known by.
    pub(crate) run: u8,
    targets: Vec<Target>,
    upgrades: Vec<String>,
    share: Share,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<u32>,
    wanted: VecDeque<Wanted>,
    retries: VecDeque<(Nanos, Wanted)>,
    opening: HashMap<u32, Opening>,
    /// When the connection that is just lost was due, if it was being opened.
    lost_due: Option<Nanos>,
    opening_max: usize,
    partial: HashMap<u32, Vec<u8>>,
    unsent: HashMap<u32, Vec<u8>>,
    /// Connections that failed while a load was busy with them.
    doomed: Vec<(u32, String)>,
    buffer: Vec<u8>,
    ready: u64,
    /// Sockets of this worker so far.
    ordinal: u64,
    first_source: u32,
}

impl Crowd {
    pub(crate) fn new(plan: &Plan, meter: Meter) -> io::Result<Self> {
        Ok(Self {
            meter,
            run: plan.run,
            targets: plan.targets.clone(),
            upgrades: plan.targets.iter().map(Target::upgrade).collect(),
            share: plan.share,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            slots: Vec::new(),
            free: Vec::new(),
            wanted: VecDeque::new(),
            retries: VecDeque::new(),
            opening: HashMap::new(),
            lost_due: None,
            opening_max: plan.opening_max,
            partial: HashMap::new(),
            unsent: HashMap::new(),
            doomed: Vec::new(),
            buffer: vec![0; READ_BYTES],
            ready: 0,
            ordinal: 0,
            first_source: target::first_source(),
        })
    }

    /// Opens a connection for a group as soon as there is room among the handshakes. What it takes
    /// counts from `due`; with [`NEVER`] from when there is room.
    pub(crate) fn want(&mut self, group: u8, nth: usize, due: Nanos) {
        let nth = nth as u32;
        self.wanted.push_back(Wanted { group, nth, due });
    }

    /// The same a little later, for one that is just lost. One that had not come so far is due when
    /// it was: what failed before it came to stand is part of what it takes.
    pub(crate) fn want_again(&mut self, who: Who) {
        let (group, nth) = (who.group, who.nth as u32);
        let at = self.meter.now + RETRY_AFTER;
        let due = self.lost_due.take().unwrap_or(at);
        self.retries.push_back((at, Wanted { group, nth, due }));
    }

    /// The connection has all that it wanted; false if that was so before. A server may confirm
    /// more than it was asked for.
    pub(crate) fn ready(&mut self, who: Who) -> bool {
        let slot = &mut self.slots[who.slot as usize];
        if slot.state != State::Greeted {
            return false;
        }
        slot.state = State::Ready;
        self.ready += 1;
        self.meter.count(Count::Opened, 1);
        if let Some(opening) = self.opening.remove(&who.slot) {
            self.meter.time(Span::Connect, opening.due);
        }
        true
    }

    /// When a connection that is being opened was due.
    pub(crate) fn due(&self, who: Who) -> Nanos {
        self.opening
            .get(&who.slot)
            .map_or(self.meter.now, |o| o.due)
    }

    /// Connections that are ready.
    pub(crate) fn connections(&self) -> u64 {
        self.ready
    }

    /// Sends a few bytes.
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8]) {
        let Some(fd) = &self.slots[slot as usize].fd else {
            return;
        };
        if let Some(unsent) = self.unsent.get_mut(&slot) {
            unsent.extend_from_slice(bytes);
            if unsent.len() > UNSENT_BYTES_MAX {
                self.doom(slot, "it reads too slowly");
            }
            return;
        }
        let taken = match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return self.doom(slot, &error.to_string()),
        };
        if taken < bytes.len() {
            self.unsent.insert(slot, bytes[taken..].to_vec());
            self.watch(slot, EventFlags::IN | EventFlags::OUT);
        }
    }

    /// Leaves what a connection is sent in the kernel.
    pub(crate) fn stop_reading(&mut self, slot: u32) {
        self.watch(slot, EventFlags::empty());
    }

    /// The opposite.
    pub(crate) fn read_again(&mut self, slot: u32) {
        self.watch(slot, EventFlags::IN);
    }

    /// Ends a connection; its load is not told.
    pub(crate) fn close(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.fd.take().is_none() {
            return;
        }
        if slot.state == State::Ready {
            self.ready -= 1;
        }
        slot.state = State::Free;
        slot.generation = (slot.generation + 1) & 0x3fff_ffff;
        if std::mem::take(&mut slot.has_partial) {
            self.partial.remove(&index);
        }
        self.opening.remove(&index);
        self.unsent.remove(&index);
        self.free.push(index);
    }

    /// A connection to a target, from an address of its own where ports could run out.
    pub(crate) fn socket(&mut self, target: SocketAddr) -> io::Result<OwnedFd> {
        let family = match target.is_ipv4() {
            true => AddressFamily::INET,
            false => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        if let Some(source) =
            target::source(target, self.share.worker, self.first_source, self.ordinal)
        {
            rustix::net::bind(&fd, &source)?;
        }
        self.ordinal += 1;
        match rustix::net::connect(&fd, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches a connection of a publisher.
    pub(crate) fn watch_http(&self, fd: &OwnedFd, group: u8, index: u32) -> io::Result<()> {
        let number = HTTP | u64::from(group) << 32 | u64::from(index);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(number),
            flags,
        )?)
    }

    /// Watches what the worker is told through.
    pub(crate) fn watch_control(&self, fd: impl AsFd) -> io::Result<()> {
        let number = EventData::new_u64(CONTROL);
        Ok(epoll::add(&self.epoll, fd, number, EventFlags::IN)?)
    }

    /// Waits for something to happen, until a moment at most, and tells the loads; whether the
    /// worker is told something.
    pub(crate) fn wait(&mut self, until: Nanos, loads: &mut [Box<dyn Load>]) -> io::Result<bool> {
        // Before their places are given to others.
        self.lose_doomed(loads);
        self.fill();
        self.lose_doomed(loads);
        let span = until.saturating_sub(clock::now()).min(WAIT_MAX);
        let span = match self.wanted.is_empty() || self.opening.len() >= self.opening_max {
            true => span,
            false => 0,
        };
        let span = Timespec {
            tv_sec: (span / SECOND) as i64,
            tv_nsec: (span % SECOND) as i64,
        };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, Some(&span)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut is_told = false;
        for event in events {
            let number = event.data.u64();
            self.meter.now = clock::now();
            if number & CONTROL != 0 {
                is_told = true;
            } else if number & HTTP != 0 {
                let (group, index) = ((number & !HTTP) >> 32, number as u32);
                loads[group as usize].on_http(self, index);
            } else {
                self.on_event(number, event.flags, loads);
            }
        }
        self.meter.now = clock::now();
        self.lose_doomed(loads);
        Ok(is_told)
    }

    /// When each connection of a group was due that is not ready, or waits to be opened.
    pub(crate) fn dues(&self, group: u8) -> Vec<Nanos> {
        let opening = self.opening.iter();
        let opening = opening
            .filter(|(slot, _)| self.slots[**slot as usize].group == group)
            .map(|(_, opening)| opening.due);
        let retries = self.retries.iter().map(|(_, wanted)| wanted);
        let wanted = self.wanted.iter().chain(retries);
        let wanted = wanted
            .filter(|wanted| wanted.group == group)
            .map(|wanted| wanted.due);
        opening.chain(wanted).collect()
    }

    /// Gives up handshakes that take too long.
    pub(crate) fn expire(&mut self) {
        let now = self.meter.now;
        let late = |(_, opening): &(&u32, &Opening)| opening.since + OPENING_MAX < now;
        let late: Vec<u32> = self
            .opening
            .iter()
            .filter(late)
            .map(|(&slot, _)| slot)
            .collect();
        for slot in late {
            self.doom(slot, "the handshake took too long");
        }
    }

    /// Opens what is wanted as far as there is room.
    fn fill(&mut self) {
        while self
            .retries
            .front()
            .is_some_and(|&(at, _)| at <= self.meter.now)
            && let Some((_, wanted)) = self.retries.pop_front()
        {
            self.wanted.push_back(wanted);
        }
        while self.opening.len() < self.opening_max
            && let Some(wanted) = self.wanted.pop_front()
        {
            self.open(wanted);
        }
    }

    fn open(&mut self, wanted: Wanted) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                fd: None,
                generation: 0,
                nth: 0,
                group: 0,
                state: State::Free,
                has_partial: false,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        (slot.group, slot.nth, slot.state) = (wanted.group, wanted.nth, State::Connecting);
        let now = self.meter.now;
        let opening = Opening {
            due: if wanted.due == NEVER { now } else { wanted.due },
            since: now,
        };
        self.opening.insert(index, opening);
        let target = self.target(index).address;
        match self.socket(target) {
            Ok(fd) => {
                let slot = &mut self.slots[index as usize];
                let number =
                    EventData::new_u64(u64::from(slot.generation) << 32 | u64::from(index));
                let added = epoll::add(&self.epoll, &fd, number, EventFlags::OUT);
                slot.fd = Some(fd);
                if let Err(error) = added {
                    self.doom(index, &error.to_string());
                }
            }
            Err(error) => self.doom(index, &format!("connecting: {error}")),
        }
    }

    /// Which listener a connection goes to.
    fn target(&self, index: u32) -> &Target {
        let nth = self.slots[index as usize].nth as usize + self.share.worker as usize;
        &self.targets[nth % self.targets.len()]
    }

    fn who(&self, index: u32) -> Who {
        let slot = &self.slots[index as usize];
        Who {
            slot: index,
            nth: slot.nth as usize,
            group: slot.group,
        }
    }

    fn watch(&mut self, index: u32, flags: EventFlags) {
        let slot = &self.slots[index as usize];
        let number = EventData::new_u64(u64::from(slot.generation) << 32 | u64::from(index));
        let Some(fd) = &slot.fd else { return };
        if let Err(error) = epoll::modify(&self.epoll, fd, number, flags) {
            self.doom(index, &error.to_string());
        }
    }

    fn doom(&mut self, index: u32, reason: &str) {
        self.doomed.push((index, reason.to_owned()));
    }

    fn lose_doomed(&mut self, loads: &mut [Box<dyn Load>]) {
        while let Some((index, reason)) = self.doomed.pop() {
            self.lose(index, &reason, loads);
        }
    }

    fn lose(&mut self, index: u32, reason: &str, loads: &mut [Box<dyn Load>]) {
        let state = self.slots[index as usize].state;
        if state == State::Free {
            return;
        }
        let who = self.who(index);
        let was_ready = state == State::Ready;
        let what = if was_ready {
            Count::Ended
        } else {
            Count::Failed
        };
        self.meter.count(what, 1);
        self.meter.blame(reason);
        self.lost_due = self.opening.get(&index).map(|opening| opening.due);
        if self.slots[index as usize].fd.is_none() {
            // It never had a socket.
            self.slots[index as usize].state = State::Free;
            self.opening.remove(&index);
            self.free.push(index);
        }
        self.close(index);
        loads[who.group as usize].on_lost(self, who, was_ready);
    }

    fn on_event(&mut self, number: u64, flags: EventFlags, loads: &mut [Box<dyn Load>]) {
        let index = number as u32;
        let slot = &self.slots[index as usize];
        if u64::from(slot.generation) != number >> 32 {
            // Another event of the same wait ended it.
            return;
        }
        if slot.state == State::Connecting {
            if let Err(error) = self.on_connected(index) {
                self.lose(index, &format!("connecting: {error}"), loads);
            }
            return;
        }
        if flags.contains(EventFlags::OUT) {
            self.send_rest(index);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
            && let Err(error) = self.on_readable(index, loads)
        {
            self.lose(index, &error.to_string(), loads);
        }
    }

    fn on_connected(&mut self, index: u32) -> io::Result<()> {
        let slot = &mut self.slots[index as usize];
        let Some(fd) = &slot.fd else { return Ok(()) };
        sockopt::socket_error(fd)??;
        slot.state = State::Upgrading;
        self.watch(index, EventFlags::IN);
        let nth = self.slots[index as usize].nth as usize + self.share.worker as usize;
        let upgrade = nth % self.upgrades.len();
        let upgrade = std::mem::take(&mut self.upgrades[upgrade]);
        self.send(index, upgrade.as_bytes());
        let at = nth % self.upgrades.len();
        self.upgrades[at] = upgrade;
        Ok(())
    }

    fn send_rest(&mut self, index: u32) {
        let Some(fd) = &self.slots[index as usize].fd else {
            return;
        };
        let Some(unsent) = self.unsent.get_mut(&index) else {
            return;
        };
        match rustix::net::send(fd, unsent, SendFlags::NOSIGNAL) {
            Ok(taken) => {
                unsent.drain(..taken);
                if unsent.is_empty() {
                    self.unsent.remove(&index);
                    self.watch(index, EventFlags::IN);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.doom(index, &error.to_string()),
        }
    }

    fn on_readable(&mut self, index: u32, loads: &mut [Box<dyn Load>]) -> io::Result<()> {
        let slot = &mut self.slots[index as usize];
        let Some(fd) = &slot.fd else { return Ok(()) };
        let count = match rustix::io::read(fd, &mut self.buffer[..]) {
            Ok(0) => return Err(io::Error::other("the server ended the connection")),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let had_partial = std::mem::take(&mut slot.has_partial);
        let generation = slot.generation;
        let buffer = std::mem::take(&mut self.buffer);
        let rest = match had_partial.then(|| self.partial.remove(&index)).flatten() {
            None => {
                let used = self.on_input(index, &buffer[..count], loads);
                used.map(|used| buffer[used..count].to_vec())
            }
            Some(mut held) => {
                held.extend_from_slice(&buffer[..count]);
                let used = self.on_input(index, &held, loads);
                used.map(|used| {
                    held.drain(..used);
                    held
                })
            }
        };
        self.buffer = buffer;
        let rest = rest?;
        let slot = &mut self.slots[index as usize];
        if !rest.is_empty() && slot.generation == generation && slot.fd.is_some() {
            slot.has_partial = true;
            self.partial.insert(index, rest);
        }
        Ok(())
    }

    /// Takes whole heads and frames; how many bytes they were.
    fn on_input(
        &mut self,
        index: u32,
        bytes: &[u8],
        loads: &mut [Box<dyn Load>],
    ) -> io::Result<usize> {
        let generation = self.slots[index as usize].generation;
        let mut at = 0;
        loop {
            let slot = &mut self.slots[index as usize];
            if slot.fd.is_none() || slot.generation != generation {
                // A load closed it.
                return Ok(bytes.len());
            }
            let rest = &bytes[at..];
            if slot.state == State::Upgrading {
                let Some(end) = http::head_end(rest) else {
                    return match rest.len() > http::HEAD_BYTES_MAX {
                        true => Err(io::Error::other("not upgraded: an endless head")),
                        false => Ok(at),
                    };
                };
                if !target::is_upgraded(&rest[..end]) {
                    return Err(target::not_upgraded(&rest[..end]));
                }
                slot.state = State::Greeted;
                at += end;
                continue;
            }
            let parsed = frame::parse(rest).map_err(|_| io::Error::other("an unreadable frame"))?;
            let Some((frame, used)) = parsed else {
                return Ok(at);
            };
            at += used;
            match frame.opcode {
                Opcode::Text => self.on_text(index, frame.payload, loads),
                Opcode::Ping => {
                    let mut pong = Vec::new();
                    frame::encode(Opcode::Pong, frame.payload, &mut pong);
                    self.send(index, &pong);
                }
                Opcode::Pong => {}
                Opcode::Close => return Err(message::closed(frame.payload)),
            }
        }
    }

    fn on_text(&mut self, index: u32, payload: &[u8], loads: &mut [Box<dyn Load>]) {
        let who = self.who(index);
        let load = &mut loads[who.group as usize];
        if let Some(stamp) = Stamp::read(payload) {
            if stamp.run != self.run {
                return self.meter.count(Count::Foreign, 1);
            }
            return load.on_event(self, who, stamp);
        }
        match message::notice(payload) {
            Notice::Greeting { socket_id } => {
                if self.slots[index as usize].state == State::Greeted {
                    load.on_open(self, who, socket_id);
                }
            }
            Notice::Ping => {
                let mut pong = Vec::new();
                frame::encode(
                    Opcode::Text,
                    br#"{"event":"pusher:pong","data":{}}"#,
                    &mut pong,
                );
                self.send(index, &pong);
            }
            // An answer to a handshake that cannot succeed any more.
            Notice::Error(text) if self.slots[index as usize].state == State::Greeted => {
                self.doom(index, &text);
            }
            Notice::Error(text) => {
                self.meter.count(Count::Rejected, 1);
                self.meter.blame(&text);
                load.on_notice(self, who, &Notice::Error(text));
            }
            notice => load.on_notice(self, who, &notice),
        }
    }
}
