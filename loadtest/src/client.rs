//! One connection that asks and waits: what probes are made of.
//!
//! Blocking, with a timeout, so that it takes a thread of its own and measures the server and not
//! the crowd's loop.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::frame::{self, Kind};
use crate::http;
use crate::target::{self, Target};

/// A server that is silent for so long has failed the run.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection and what of its input is still unread.
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Client {
    /// A connection that speaks HTTP.
    pub(crate) fn http(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// A WebSocket connection that has been greeted.
    pub(crate) fn websocket(target: &Target) -> io::Result<Self> {
        let mut client = Self::http(target)?;
        client.send(target.upgrade().as_bytes())?;
        let end = loop {
            if let Some(end) = http::head_end(&client.input) {
                break end;
            }
            client.receive()?;
        };
        if !target::is_upgraded(&client.input[..end]) {
            return Err(io::Error::other(
                "the server does not upgrade the connection",
            ));
        }
        client.input.drain(..end);
        client.await_text(b"connection_established")?;
        Ok(client)
    }

    /// Subscribes to a public channel.
    pub(crate) fn subscribe(&mut self, channel: &str) -> io::Result<()> {
        self.output.clear();
        frame::subscribe(channel, &mut self.output);
        self.stream.write_all(&self.output)?;
        self.await_text(b"subscription_succeeded")
    }

    /// Sends a message.
    pub(crate) fn send_text(&mut self, text: &[u8]) -> io::Result<()> {
        self.output.clear();
        frame::encode(Kind::Text, text, &mut self.output);
        self.stream.write_all(&self.output)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for a message that contains `part`; an error of the server ends the wait.
    pub(crate) fn await_text(&mut self, part: &[u8]) -> io::Result<()> {
        loop {
            let parsed =
                frame::parse(&self.input).map_err(|_| io::Error::other("an unreadable frame"))?;
            let Some((frame, used)) = parsed else {
                self.receive()?;
                continue;
            };
            let found = match frame.kind {
                Kind::Text if frame::contains(frame.payload, part) => true,
                Kind::Text if frame::contains(frame.payload, b"pusher:error") => {
                    return Err(io::Error::other(String::from_utf8_lossy(frame.payload)));
                }
                Kind::Close => {
                    return Err(io::Error::other("the server closed a probe's connection"));
                }
                Kind::Ping => {
                    self.output.clear();
                    frame::encode(Kind::Pong, frame.payload, &mut self.output);
                    self.stream.write_all(&self.output)?;
                    false
                }
                Kind::Text | Kind::Pong => false,
            };
            self.input.drain(..used);
            if found {
                return Ok(());
            }
        }
    }

    /// Waits for an answer; its status.
    pub(crate) fn await_answer(&mut self) -> io::Result<u16> {
        loop {
            if let Some((status, used)) = http::parse(&self.input) {
                self.input.drain(..used);
                return Ok(status);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}
