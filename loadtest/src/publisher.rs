//! One keep-alive connection that publishes without waiting for the answers.
//!
//! Answers come in the order of the requests, so that each tells which publish it was. Nothing is
//! sent twice.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::http;
use crate::sign::Signer;
use crate::target::Target;

/// Publishes of one channel.
pub(crate) struct Publisher {
    stream: TcpStream,
    signer: Signer,
    channel: &'static str,
    output: VecDeque<u8>,
    input: Vec<u8>,
    unanswered: u64,
    /// Answered with 200.
    pub(crate) accepted: u64,
    /// Answered with anything else, and the last status of those.
    pub(crate) refused: u64,
    pub(crate) refused_status: Option<u16>,
}

impl Publisher {
    pub(crate) fn connect(target: &Target, channel: &'static str) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            signer: Signer::new(target),
            channel,
            output: VecDeque::new(),
            input: Vec::new(),
            unanswered: 0,
            accepted: 0,
            refused: 0,
            refused_status: None,
        })
    }

    /// Publishes as soon as the socket takes it. `data` needs no escaping.
    pub(crate) fn publish(&mut self, data: &str) -> io::Result<()> {
        let now_secs = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.output
            .extend(self.signer.publish(self.channel, data, now_secs));
        self.unanswered += 1;
        self.flush()
    }

    /// Sends what is queued, as far as it goes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads answers; how many publishes were refused by them.
    pub(crate) fn take_answers(&mut self) -> io::Result<u64> {
        let refused_before = self.refused;
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(io::Error::other(
                        "the server closed the publisher's connection",
                    ));
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while let Some((status, used)) = http::parse(&self.input) {
            self.input.drain(..used);
            self.unanswered = self.unanswered.saturating_sub(1);
            if status == 200 {
                self.accepted += 1;
            } else {
                self.refused += 1;
                self.refused_status = Some(status);
            }
        }
        Ok(self.refused - refused_before)
    }

    /// Publishes whose answer has not come.
    pub(crate) fn unanswered(&self) -> u64 {
        self.unanswered
    }
}

impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
