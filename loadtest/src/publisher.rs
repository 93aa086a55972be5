//! HTTP connections that publish without waiting for the answers before.
//!
//! Answers come in the order of the requests, so that each tells which publish it was. Nothing is
//! sent twice: a publish whose connection ends before its answer has no answer. A server that ends
//! the connection behind each answer gets a new one for each request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, sockopt};

use crate::clock::{MILLISECOND, Nanos};
use crate::crowd::Crowd;
use crate::http;

/// After a connection could not be opened.
const RETRY_AFTER: Nanos = 100 * MILLISECOND;
const READ_BYTES: usize = 64 * 1024;

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) id: u64,
    pub(crate) due: Nanos,
    /// `None`: the connection ended before an answer.
    pub(crate) status: Option<u16>,
}

/// Connections to one listener.
pub(crate) struct Publisher {
    address: SocketAddr,
    group: u8,
    /// The number of the first connection among all of the group.
    first: u32,
    /// Requests under way on each connection.
    depth: usize,
    conns: Vec<Conn>,
    /// Where to look first for one with room.
    next: usize,
    retry_at: Nanos,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Conn {
    fd: Option<OwnedFd>,
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    /// Of the input.
    taken: usize,
    flying: VecDeque<(u64, Nanos)>,
    is_refused: bool,
}

impl Publisher {
    /// `closes`: the server ends a connection behind each answer.
    pub(crate) fn new(
        address: SocketAddr,
        group: u8,
        first: u32,
        connections: usize,
        depth: usize,
        closes: bool,
    ) -> Self {
        Self {
            address,
            group,
            first,
            depth: if closes { 1 } else { depth },
            conns: (0..connections).map(|_| Conn::default()).collect(),
            next: 0,
            retry_at: 0,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Takes a request if a connection has room for it; it leaves with [`Self::flush`].
    pub(crate) fn publish(&mut self, id: u64, due: Nanos, request: &[u8]) -> bool {
        let count = self.conns.len();
        let has_room = |at: &usize| self.conns[*at].flying.len() < self.depth;
        let Some(at) = (0..count).map(|n| (self.next + n) % count).find(has_room) else {
            return false;
        };
        self.next = (at + 1) % count;
        let conn = &mut self.conns[at];
        conn.output.extend_from_slice(request);
        conn.flying.push_back((id, due));
        true
    }

    /// Whether a request would be taken now.
    pub(crate) fn has_room(&self) -> bool {
        self.conns.iter().any(|conn| conn.flying.len() < self.depth)
    }

    /// The requests that wait for their answer, and when each was due.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (u64, Nanos)> {
        self.conns
            .iter()
            .flat_map(|conn| conn.flying.iter().copied())
    }

    /// How many requests wait for their answer.
    pub(crate) fn flying(&self) -> usize {
        self.conns.iter().map(|conn| conn.flying.len()).sum()
    }

    /// Whether the listener took the last connection; a little later it is asked again.
    pub(crate) fn is_open(&self, now: Nanos) -> bool {
        now >= self.retry_at
    }

    /// Sends what was taken; opens connections for it where there are none.
    pub(crate) fn flush(&mut self, crowd: &mut Crowd, answers: &mut Vec<Answered>) {
        for (index, conn) in self.conns.iter_mut().enumerate() {
            if conn.sent == conn.output.len() {
                continue;
            }
            if conn.fd.is_none() {
                let opened = crowd.socket(self.address).and_then(|fd| {
                    crowd.watch_http(&fd, self.group, self.first + index as u32)?;
                    Ok(fd)
                });
                match opened {
                    // It is sent when the connection stands.
                    Ok(fd) => conn.fd = Some(fd),
                    Err(error) => {
                        crowd.meter.blame(&format!("publishing: {error}"));
                        self.retry_at = crowd.meter.now + RETRY_AFTER;
                        conn.end(answers);
                    }
                }
                continue;
            }
            if let Err(error) = conn.send() {
                crowd.meter.blame(&format!("publishing: {error}"));
                conn.end(answers);
            }
        }
    }

    /// Something happened to a connection of the group; whether it is one of these.
    pub(crate) fn on_http(
        &mut self,
        crowd: &mut Crowd,
        index: u32,
        answers: &mut Vec<Answered>,
    ) -> bool {
        let at = index.checked_sub(self.first).map(|at| at as usize);
        let Some(conn) = at.and_then(|at| self.conns.get_mut(at)) else {
            return false;
        };
        if let Err(error) = conn
            .receive(&mut self.buffer, answers)
            .and_then(|()| conn.send())
        {
            // An idle connection may end; nobody waits for it.
            if !conn.flying.is_empty() {
                crowd.meter.blame(&format!("publishing: {error}"));
            }
            if conn.is_refused {
                self.retry_at = crowd.meter.now + RETRY_AFTER;
            }
            conn.end(answers);
        }
        true
    }
}

impl Conn {
    fn send(&mut self) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        while self.sent < self.output.len() {
            match rustix::net::send(fd, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                // Also while it is connecting.
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], answers: &mut Vec<Answered>) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        if let Err(error) = sockopt::socket_error(fd)? {
            self.is_refused = error == Errno::CONNREFUSED;
            return Err(error.into());
        }
        // To the last byte, or its end would go unseen: nothing tells of it twice.
        let mut has_ended = false;
        while !has_ended {
            match rustix::io::read(fd, &mut *buffer) {
                Ok(0) => has_ended = true,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let unreadable = |_| io::Error::other("an unreadable answer");
        while let Some((answer, used)) =
            http::parse(&self.input[self.taken..]).map_err(unreadable)?
        {
            let (status, closes) = (answer.status, answer.closes);
            self.taken += used;
            if let Some((id, due)) = self.flying.pop_front() {
                let status = Some(status);
                answers.push(Answered { id, due, status });
            }
            has_ended |= closes;
        }
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        } else if self.taken > READ_BYTES {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        match has_ended {
            true => Err(io::Error::other(
                "the server ended a publisher's connection",
            )),
            false => Ok(()),
        }
    }

    /// What was not answered will not be.
    fn end(&mut self, answers: &mut Vec<Answered>) {
        let unanswered = self.flying.drain(..).map(|(id, due)| Answered {
            id,
            due,
            status: None,
        });
        answers.extend(unanswered);
        *self = Self::default();
    }
}
