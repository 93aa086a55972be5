//! Many WebSocket connections, each subscribed to one channel, on one thread.
//!
//! A connection costs this process 12 bytes and what the kernel needs: all share one read buffer,
//! and only a frame that has come in part is kept. The number of handshakes under way is bounded,
//! so that neither backlog overflows. It knows nothing of what events mean; a scenario looks at
//! each as it comes.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::frame::{self, Kind};
use crate::http;
use crate::stop::Stop;
use crate::target::{self, Target};

const READ_BYTES: usize = 64 * 1024;
/// Events of one wait.
const EVENTS_MAX: usize = 512;
/// What is watched for a scenario, beside the connections, is told by this number.
const OTHER: u64 = u64::MAX;
/// The longest that a wait lasts, so that a run ends in time.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Greeted,
    Ready,
}

struct Member {
    fd: OwnedFd,
    state: State,
    channel: u32,
}

/// What a wait brings.
pub(crate) enum Happened<'a> {
    /// A message for a subscribed connection.
    Message { member: usize, payload: &'a [u8] },
    /// A connection has ended.
    Lost { member: usize },
    /// What the scenario watches can be read or written.
    Other,
}

/// The connections. Those that have ended keep their number.
pub(crate) struct Crowd {
    target: Target,
    upgrade: String,
    channels: Vec<String>,
    epoll: OwnedFd,
    members: Vec<Option<Member>>,
    partial: HashMap<usize, Vec<u8>>,
    buffer: Vec<u8>,
    opening: usize,
    opening_max: usize,
    ready: usize,
    lost: usize,
    /// Why the last one was lost.
    reason: Option<String>,
}

impl Crowd {
    /// Nobody yet; connection `n` subscribes to channel `n` modulo their number.
    pub(crate) fn new(
        target: &Target,
        channels: Vec<String>,
        opening_max: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            upgrade: target.upgrade(),
            target: target.clone(),
            channels,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            members: Vec::new(),
            partial: HashMap::new(),
            buffer: vec![0; READ_BYTES],
            opening: 0,
            opening_max,
            ready: 0,
            lost: 0,
            reason: None,
        })
    }

    /// Opens connections until there are `count`, all subscribed.
    ///
    /// # Errors
    /// One was refused or lost: a scenario with fewer would measure something else.
    pub(crate) fn grow(&mut self, count: usize, stop: &Stop) -> io::Result<()> {
        while self.ready < count {
            while self.members.len() < count && self.opening < self.opening_max {
                self.open()?;
            }
            self.wait(WAIT_MAX, &mut |_| {})?;
            if stop.is_over() {
                return Err(io::Error::other(format!(
                    "ended with {} of {count} connections",
                    self.ready
                )));
            }
            if self.lost > 0 {
                let reason = self.reason.as_deref().unwrap_or("no reason is known");
                return Err(io::Error::other(format!(
                    "connection {} failed: {reason}",
                    self.ready
                )));
            }
        }
        Ok(())
    }

    /// Watches a descriptor of the scenario.
    pub(crate) fn watch(&self, fd: impl AsFd) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(OTHER),
            flags,
        )?)
    }

    /// Leaves what a connection is sent in the kernel.
    pub(crate) fn stop_reading(&self, index: usize) -> io::Result<()> {
        match &self.members[index] {
            Some(member) => Ok(epoll::delete(&self.epoll, &member.fd)?),
            None => Ok(()),
        }
    }

    /// The opposite.
    pub(crate) fn read_again(&self, index: usize) -> io::Result<()> {
        let Some(member) = &self.members[index] else {
            return Ok(());
        };
        let number = EventData::new_u64(index as u64);
        Ok(epoll::add(&self.epoll, &member.fd, number, EventFlags::IN)?)
    }

    /// Connections that are subscribed.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// Connections that have ended, and why the last one did.
    pub(crate) fn lost(&self) -> (usize, Option<&str>) {
        (self.lost, self.reason.as_deref())
    }

    /// Waits for something to happen, at most so long, and tells all that did.
    pub(crate) fn wait(
        &mut self,
        span: Duration,
        tell: &mut impl FnMut(Happened<'_>),
    ) -> io::Result<()> {
        let span = Timespec::try_from(span.min(WAIT_MAX)).expect("a tenth of a second is a time");
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&span),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            let number = event.data.u64();
            if number == OTHER {
                tell(Happened::Other);
            } else {
                self.on_event(number as usize, tell);
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let index = self.members.len();
        let family = match self.target.address.is_ipv4() {
            true => AddressFamily::INET,
            false => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        if let Some(source) = self.target.source(index) {
            rustix::net::bind(&fd, &source)?;
        }
        match rustix::net::connect(&fd, &self.target.address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(
            &self.epoll,
            &fd,
            EventData::new_u64(index as u64),
            EventFlags::OUT,
        )?;
        let channel = (index % self.channels.len()) as u32;
        self.members.push(Some(Member {
            fd,
            state: State::Connecting,
            channel,
        }));
        self.opening += 1;
        Ok(())
    }

    fn on_event(&mut self, index: usize, tell: &mut impl FnMut(Happened<'_>)) {
        let result = match self.members.get(index) {
            Some(Some(Member {
                state: State::Connecting,
                ..
            })) => self.on_connected(index),
            Some(Some(_)) => self.on_readable(index, tell),
            // Another event of the same wait ended it.
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.lose(index, &error);
            tell(Happened::Lost { member: index });
        }
    }

    fn lose(&mut self, index: usize, why: &io::Error) {
        if let Some(member) = self.members[index].take() {
            match member.state {
                State::Ready => self.ready -= 1,
                _ => self.opening -= 1,
            }
            self.lost += 1;
            self.reason = Some(why.to_string());
            self.partial.remove(&index);
        }
    }

    fn on_connected(&mut self, index: usize) -> io::Result<()> {
        let Some(member) = &mut self.members[index] else {
            return Ok(());
        };
        sockopt::socket_error(&member.fd)??;
        member.state = State::Upgrading;
        epoll::modify(
            &self.epoll,
            &member.fd,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        send(&member.fd, self.upgrade.as_bytes())
    }

    fn on_readable(&mut self, index: usize, tell: &mut impl FnMut(Happened<'_>)) -> io::Result<()> {
        let Some(member) = &self.members[index] else {
            return Ok(());
        };
        let count = match rustix::io::read(&member.fd, &mut self.buffer[..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.on_bytes(index, &buffer[..count], tell);
        self.buffer = buffer;
        result
    }

    fn on_bytes(
        &mut self,
        index: usize,
        bytes: &[u8],
        tell: &mut impl FnMut(Happened<'_>),
    ) -> io::Result<()> {
        let held = self.partial.remove(&index);
        let rest = match held {
            None => {
                let used = self.on_input(index, bytes, tell)?;
                bytes[used..].to_vec()
            }
            Some(mut held) => {
                held.extend_from_slice(bytes);
                let used = self.on_input(index, &held, tell)?;
                held.drain(..used);
                held
            }
        };
        if !rest.is_empty() {
            self.partial.insert(index, rest);
        }
        Ok(())
    }

    /// Takes whole heads and frames; how many bytes they were.
    fn on_input(
        &mut self,
        index: usize,
        bytes: &[u8],
        tell: &mut impl FnMut(Happened<'_>),
    ) -> io::Result<usize> {
        let mut at = 0;
        while let Some(member) = &mut self.members[index] {
            let rest = &bytes[at..];
            if member.state == State::Upgrading {
                let Some(end) = http::head_end(rest) else {
                    break;
                };
                if !target::is_upgraded(&rest[..end]) {
                    let line = String::from_utf8_lossy(&rest[..end])
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    return Err(io::Error::other(format!("not upgraded: {line}")));
                }
                member.state = State::Greeted;
                at += end;
                continue;
            }
            let parsed = frame::parse(rest).map_err(|_| io::Error::other("an unreadable frame"))?;
            let Some((frame, used)) = parsed else { break };
            at += used;
            match frame.kind {
                Kind::Text if member.state == State::Ready => {
                    tell(Happened::Message {
                        member: index,
                        payload: frame.payload,
                    });
                }
                Kind::Text => self.on_answer(index, frame.payload)?,
                Kind::Ping => {
                    let mut pong = Vec::new();
                    frame::encode(Kind::Pong, frame.payload, &mut pong);
                    send(&member.fd, &pong)?;
                }
                Kind::Pong => {}
                Kind::Close => {
                    let reason =
                        String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    return Err(io::Error::other(format!("closed: {reason}")));
                }
            }
        }
        Ok(at)
    }

    /// A message to a connection that is not subscribed yet.
    fn on_answer(&mut self, index: usize, payload: &[u8]) -> io::Result<()> {
        let Some(member) = &mut self.members[index] else {
            return Ok(());
        };
        if frame::contains(payload, b"pusher:connection_established") {
            let mut subscribe = Vec::new();
            frame::subscribe(&self.channels[member.channel as usize], &mut subscribe);
            return send(&member.fd, &subscribe);
        }
        if frame::contains(payload, b"subscription_succeeded") {
            member.state = State::Ready;
            self.opening -= 1;
            self.ready += 1;
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(payload)))
    }
}

/// A few bytes on a connection that has hardly sent any: they always fit.
fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match rustix::io::write(fd, bytes)? {
        count if count == bytes.len() => Ok(()),
        _ => Err(io::Error::other("the socket takes no more")),
    }
}
