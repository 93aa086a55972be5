//! A TCP connection whose every wait has an end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::WAIT;

/// What waiting for bytes has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// At least one byte, behind those that were there.
    Bytes,
    /// The peer has closed its side.
    End,
    /// It has reset the connection.
    Reset,
    Nothing,
}

/// Bytes out, and bytes in until somebody takes them.
pub struct Tcp {
    pub stream: TcpStream,
    /// Received and not taken yet.
    pub unread: Vec<u8>,
}

impl Tcp {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, WAIT).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Like `send`, where the server may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// In two segments, far enough apart for the server to receive the first alone.
    pub fn send_cut(&mut self, bytes: &[u8], at: usize) {
        self.send(&bytes[..at]);
        thread::sleep(Duration::from_millis(1));
        self.send(&bytes[at..]);
    }

    /// In segments of so many bytes.
    pub fn send_in_pieces(&mut self, bytes: &[u8], piece_bytes: usize) {
        for piece in bytes.chunks(piece_bytes) {
            self.send(piece);
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn receive_until(&mut self, until: Instant) -> Received {
        let left = until.saturating_duration_since(Instant::now());
        // Zero would mean to wait for ever.
        let left = left.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Received::End,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Received::Bytes
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Received::Nothing,
                ErrorKind::Interrupted => Received::Bytes,
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Received::Reset,
                _ => panic!("receiving: {error}"),
            },
        }
    }

    /// Whether there is something to read at this moment, be it the end.
    pub fn has_more(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// At least so many bytes are there afterwards.
    pub fn receive_at_least(&mut self, count: usize) {
        let until = Instant::now() + WAIT;
        while self.unread.len() < count {
            let received = self.receive_until(until);
            assert_eq!(
                received,
                Received::Bytes,
                "waiting for {count} bytes with {:?} on hand",
                String::from_utf8_lossy(&self.unread)
            );
        }
    }

    pub fn take(&mut self, count: usize) -> Vec<u8> {
        self.receive_at_least(count);
        self.unread.drain(..count).collect()
    }

    /// Up to and with the first `end`.
    pub fn take_through(&mut self, end: &[u8]) -> Vec<u8> {
        let mut seen = 0;
        loop {
            if let Some(at) = find(&self.unread[seen..], end) {
                return self.take(seen + at + end.len());
            }
            seen = (self.unread.len() + 1).saturating_sub(end.len());
            self.receive_at_least(self.unread.len() + 1);
        }
    }

    /// Nothing more comes, and the peer has closed without a reset.
    pub fn expect_end(&mut self) {
        let received = self.receive_until(Instant::now() + WAIT);
        assert_eq!(
            (received, &*self.unread),
            (Received::End, &b""[..]),
            "{:?}",
            String::from_utf8_lossy(&self.unread)
        );
    }

    /// Everything up to the end of the stream.
    pub fn take_to_end(&mut self) -> Vec<u8> {
        let until = Instant::now() + WAIT;
        loop {
            match self.receive_until(until) {
                Received::Bytes => {}
                Received::End => return std::mem::take(&mut self.unread),
                other => panic!("waiting for the end: {other:?}"),
            }
        }
    }

    /// Nothing comes for so long.
    pub fn expect_nothing(&mut self, within: Duration) {
        let received = match self.unread.is_empty() {
            true => self.receive_until(Instant::now() + within),
            false => Received::Bytes,
        };
        assert_eq!(
            received,
            Received::Nothing,
            "{:?}",
            String::from_utf8_lossy(&self.unread)
        );
    }

    /// A FIN: nothing more is sent, but received.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// A reset, as of a machine that has lost its memory of the connection.
    pub fn reset(self) {
        let no_linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, no_linger).unwrap();
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|w| w == pattern)
}
