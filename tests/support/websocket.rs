//! A WebSocket made of bytes: the upgrade by hand, frames in any shape.

use std::time::{Duration, Instant};

use super::frame::{CLOSE, FIN, Frame, PING, PONG, TEXT, client_frame, text_frame};
use super::{Received, Server, Tcp, WAIT};

/// The key of RFC 6455 1.3, and the answer that it has there.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection after its upgrade.
pub struct WebSocket {
    pub tcp: Tcp,
    /// The answer to the upgrade: status line and headers.
    pub head: String,
    /// Whether pings are answered while something else is awaited, as every browser does.
    pub answers_pings: bool,
}

impl WebSocket {
    /// Upgrades; whatever the server has to say about the app comes in frames.
    pub fn open(server: &Server, target: &str) -> Self {
        Self::open_with(server, target, "")
    }

    /// With more header lines, each with its end.
    pub fn open_with(server: &Server, target: &str, headers: &str) -> Self {
        let mut tcp = Tcp::connect(server.address);
        tcp.send(upgrade_request(target, headers));
        Self::after_upgrade(tcp)
    }

    /// Takes the answer to an upgrade that was sent.
    pub fn after_upgrade(mut tcp: Tcp) -> Self {
        let head = tcp.take_through(b"\r\n\r\n");
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 101 "),
            "the upgrade is refused: {head}"
        );
        Self {
            tcp,
            head,
            answers_pings: true,
        }
    }

    pub fn send_text(&mut self, text: &str) {
        self.tcp.send(text_frame(text));
    }

    /// The next frame, or what came instead, before `until`.
    pub fn frame_until(&mut self, until: Instant) -> Result<Frame, Received> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.tcp.unread) {
                self.tcp.unread.drain(..length);
                return Ok(frame);
            }
            match self.tcp.receive_until(until) {
                Received::Bytes => {}
                other => return Err(other),
            }
        }
    }

    /// The next frame of any kind.
    pub fn frame(&mut self) -> Frame {
        self.frame_until(Instant::now() + WAIT)
            .unwrap_or_else(|instead| panic!("instead of a frame: {instead:?}"))
    }

    /// The next text message; pings in between are answered.
    pub fn text(&mut self) -> String {
        self.text_until(Instant::now() + WAIT)
            .unwrap_or_else(|instead| panic!("instead of a text: {instead:?}"))
    }

    pub fn text_until(&mut self, until: Instant) -> Result<String, Received> {
        loop {
            let frame = self.frame_until(until)?;
            match frame.opcode {
                TEXT => return Ok(String::from_utf8(frame.payload).unwrap()),
                PING if self.answers_pings => {
                    self.tcp.send(client_frame(FIN | PONG, &frame.payload));
                }
                _ => panic!("instead of a text: {frame:?}"),
            }
        }
    }

    /// No text comes for so long; pings are answered.
    pub fn expect_silence(&mut self, within: Duration) {
        let came = self.text_until(Instant::now() + within);
        assert_eq!(came, Err(Received::Nothing));
    }

    /// A protocol ping comes back with what it carried, before anything else.
    pub fn ping(&mut self, payload: &[u8]) {
        self.tcp.send(client_frame(FIN | PING, payload));
        let frame = self.frame();
        assert_eq!((frame.opcode, &*frame.payload), (PONG, payload));
    }

    /// The next frame is a Close with this code. The stream goes on: see [`Self::expect_closed`].
    pub fn expect_close_frame(&mut self, code: u16) -> String {
        let frame = self.frame();
        let (found, reason) = frame.close();
        assert_eq!(found, Some(code), "{reason}");
        assert!(reason.len() <= 123, "{reason}");
        reason.to_owned()
    }

    /// A Close with this code, and behind it the end of the stream, not a reset. Gives the reason.
    pub fn expect_closed(&mut self, code: u16) -> String {
        let reason = self.expect_close_frame(code);
        self.tcp.expect_end();
        reason
    }

    /// Closes as a client does, and reads the answer.
    pub fn close(mut self, code: u16) {
        self.tcp
            .send(client_frame(FIN | CLOSE, &code.to_be_bytes()));
        self.expect_closed(code);
    }
}

/// An upgrade with the key of RFC 6455.
pub fn upgrade_request(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         {headers}\r\n"
    )
}
