//! One connection that asks and waits: what probes and the look at a target's features are made of.
//!
//! Blocking, with a timeout, so that it takes a thread of its own and measures the server and not
//! the crowd's loop.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::frame::{self, Opcode};
use crate::http;
use crate::message::{self, Notice};
use crate::target::{self, Target};

/// A connection and what of its input is still unread.
pub(crate) struct Client {
    stream: TcpStream,
    timeout: Duration,
    input: Vec<u8>,
    output: Vec<u8>,
    /// As the greeting said; empty for HTTP.
    pub(crate) socket_id: String,
}

impl Client {
    /// A connection that speaks HTTP. A server that is silent for `timeout` has failed.
    pub(crate) fn http(target: &Target, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            timeout,
            input: Vec::new(),
            output: Vec::new(),
            socket_id: String::new(),
        })
    }

    /// A WebSocket connection that has been greeted.
    pub(crate) fn websocket(target: &Target, timeout: Duration) -> io::Result<Self> {
        let mut client = Self::http(target, timeout)?;
        client.send(target.upgrade().as_bytes())?;
        let until = Instant::now() + timeout;
        let end = loop {
            if let Some(end) = http::head_end(&client.input) {
                break end;
            }
            if client.input.len() > http::HEAD_BYTES_MAX {
                return Err(io::Error::other("not upgraded: an endless head"));
            }
            client.receive(until)?;
        };
        if !target::is_upgraded(&client.input[..end]) {
            return Err(target::not_upgraded(&client.input[..end]));
        }
        client.input.drain(..end);
        let greeting = client.await_text(b"connection_established")?;
        if let Notice::Greeting { socket_id } = message::notice(&greeting) {
            client.socket_id = socket_id.to_owned();
        }
        Ok(client)
    }

    /// Subscribes, and waits for the confirmation.
    pub(crate) fn subscribe(
        &mut self,
        channel: &str,
        auth: Option<&str>,
        data: Option<&str>,
    ) -> io::Result<()> {
        self.output.clear();
        message::subscribe(channel, auth, data, &mut self.output);
        self.stream.write_all(&self.output)?;
        self.await_text(b"subscription_succeeded").map(drop)
    }

    /// Sends a message.
    pub(crate) fn send_text(&mut self, text: &[u8]) -> io::Result<()> {
        self.output.clear();
        frame::encode(Opcode::Text, text, &mut self.output);
        self.stream.write_all(&self.output)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for a message that contains `part`; an error of the server ends the wait.
    pub(crate) fn await_text(&mut self, part: &[u8]) -> io::Result<Vec<u8>> {
        self.await_text_until(part, Instant::now() + self.timeout)
    }

    /// The same, for a time.
    pub(crate) fn await_text_within(&mut self, part: &[u8], span: Duration) -> io::Result<()> {
        self.await_text_until(part, Instant::now() + span).map(drop)
    }

    fn await_text_until(&mut self, part: &[u8], until: Instant) -> io::Result<Vec<u8>> {
        loop {
            let parsed =
                frame::parse(&self.input).map_err(|_| io::Error::other("an unreadable frame"))?;
            let Some((frame, used)) = parsed else {
                self.receive(until)?;
                continue;
            };
            let payload = frame.payload.to_vec();
            let opcode = frame.opcode;
            self.input.drain(..used);
            match opcode {
                Opcode::Text if memchr::memmem::find(&payload, part).is_some() => {
                    return Ok(payload);
                }
                Opcode::Text => {
                    if let Notice::Error(text) = message::notice(&payload) {
                        return Err(io::Error::other(text));
                    }
                }
                Opcode::Close => {
                    return Err(message::closed(&payload));
                }
                Opcode::Ping => {
                    self.output.clear();
                    frame::encode(Opcode::Pong, &payload, &mut self.output);
                    self.stream.write_all(&self.output)?;
                }
                Opcode::Pong => {}
            }
        }
    }

    /// Waits for an answer: its status, its body, and whether the server ends the connection.
    pub(crate) fn await_answer(&mut self) -> io::Result<(u16, Vec<u8>, bool)> {
        let until = Instant::now() + self.timeout;
        loop {
            let parsed = http::parse(&self.input);
            if let Some((answer, used)) =
                parsed.map_err(|_| io::Error::other("an unreadable answer"))?
            {
                let (status, body, closes) = (answer.status, answer.body.to_vec(), answer.closes);
                self.input.drain(..used);
                return Ok((status, body, closes));
            }
            self.receive(until)?;
        }
    }

    fn receive(&mut self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        }
    }
}
