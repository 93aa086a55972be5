//! What the first process of a run and its workers say to each other: lines of JSON on a socket.
//!
//! A worker is a thread of the first process or a process of its own; it is told the same and says
//! the same. Nothing is said for a single delivery. A worker whose socket ends, ends.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Nanos;
use crate::load::{Check, Scenario};
use crate::meter::{Metered, Tick};
use crate::process::Used;
use crate::target::Target;

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) targets: Vec<Target>,
    pub(crate) share: Share,
    /// Mostly not that of another run.
    pub(crate) run: u8,
    /// Processes of the server; only one worker is given them.
    pub(crate) pids: Vec<u32>,
    pub(crate) opening_max: usize,
    pub(crate) tick: Nanos,
    /// The server ends a connection behind each answer.
    pub(crate) closes: bool,
    /// What the target has.
    pub(crate) passes_client_events: bool,
}

/// A worker's part of the whole: one in `of`, beginning with its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) worker: u32,
    pub(crate) of: u32,
}

impl Share {
    /// How many of `total` things are this worker's.
    pub(crate) fn count(self, total: u64) -> usize {
        let (worker, of) = (u64::from(self.worker), u64::from(self.of));
        (total / of + u64::from(worker < total % of)) as usize
    }

    /// Which of all things its `nth` is.
    pub(crate) fn global(self, nth: usize) -> u64 {
        nth as u64 * u64::from(self.of) + u64::from(self.worker)
    }

    /// Its part of what happens each second.
    pub(crate) fn rate(self, total: f64) -> f64 {
        total / f64::from(self.of)
    }

    /// The worker that does what one alone must do.
    pub(crate) fn leads(self) -> bool {
        self.worker == 0
    }
}

/// When the load begins, and what of it is measured.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) start: Nanos,
    pub(crate) from: Nanos,
    pub(crate) until: Nanos,
    /// What is owed is waited for so long.
    pub(crate) tail: Nanos,
}

/// Deliveries of one worker that another waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) delivered: u64,
    /// Subscribers that are gone: their channel, and how many events they got.
    pub(crate) gone: Vec<(u32, u64)>,
}

impl Settled {
    pub(crate) fn is_empty(&self) -> bool {
        self.delivered == 0 && self.gone.is_empty()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    Plan(Box<Plan>),
    /// Open connections until the whole run has so many, where the scenario has levels; else all.
    Grow(u64),
    Go(Schedule),
    Settled(Settled),
    /// How many publishes each channel has accepted in all.
    Expect(Vec<u64>),
    /// End with what there is.
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// All that was asked for is there: so many connections.
    Ready(u64),
    /// Second number so-and-so of the clock.
    Tick(u64, Box<Tick>),
    Settled(Settled),
    Published(Vec<u64>),
    Done(Box<Harvest>),
    /// It cannot go on.
    Failed(String),
}

/// What a worker has at its end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Harvest {
    pub(crate) metered: Metered,
    /// Counts that tell whether all was right, or what became of something.
    pub(crate) checks: Vec<Check>,
    /// This worker's CPU in the measured span.
    pub(crate) client: Option<Used>,
    pub(crate) servers: Vec<Used>,
}

/// One end of the socket. Reading never blocks, writing does: the other end always reads.
#[derive(Debug)]
pub(crate) struct Line {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Line {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        text.push(b'\n');
        self.stream.write_all(&text)
    }

    /// What has come. An end of the socket is an error.
    pub(crate) fn take<M: DeserializeOwned>(&mut self) -> io::Result<Vec<M>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::net::recv(&self.stream, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((count, _)) => self.input.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => return self.whole(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for one message at least.
    pub(crate) fn wait<M: DeserializeOwned>(&mut self) -> io::Result<Vec<M>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let messages = self.whole()?;
            if !messages.is_empty() {
                return Ok(messages);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Ends the socket for both ends, also where another part of this process has it too.
    pub(crate) fn hang_up(self) {
        // It may have ended by itself.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn whole<M: DeserializeOwned>(&mut self) -> io::Result<Vec<M>> {
        let Some(last) = memchr::memrchr(b'\n', &self.input) else {
            return Ok(Vec::new());
        };
        let lines = self.input[..last].split(|&byte| byte == b'\n');
        let messages: Result<Vec<M>, _> = lines.map(serde_json::from_slice).collect();
        self.input.drain(..=last);
        Ok(messages?)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole() {
        for (total, of) in [(10, 3), (2, 5), (0, 1), (1_000_000, 54)] {
            let shares = (0..of).map(|worker| Share { worker, of });
            let counts: Vec<usize> = shares.clone().map(|share| share.count(total)).collect();
            assert_eq!(
                counts.iter().sum::<usize>() as u64,
                total,
                "{total} in {of}"
            );
            let mut all: Vec<u64> = shares
                .zip(counts)
                .flat_map(|(share, count)| (0..count).map(move |nth| share.global(nth)))
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>(), "{total} in {of}");
        }
    }

    #[test]
    fn messages_come_whole_and_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, mut there) = (Line::new(here), Line::new(there));
        assert!(there.take::<ToWorker>().unwrap().is_empty());
        here.tell(&ToWorker::Grow(5)).unwrap();
        here.tell(&ToWorker::Expect(vec![1, 2])).unwrap();
        here.stream.write_all(br#""St"#).unwrap();
        let taken = there.take::<ToWorker>().unwrap();
        assert!(
            matches!(taken[..], [ToWorker::Grow(5), ToWorker::Expect(_)]),
            "{taken:?}"
        );
        here.stream.write_all(b"op\"\n").unwrap();
        assert!(matches!(
            there.wait::<ToWorker>().unwrap()[..],
            [ToWorker::Stop]
        ));
        drop(here);
        assert!(there.take::<ToWorker>().is_err());
    }
}
