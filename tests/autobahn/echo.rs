//! An echo endpoint for the Autobahn cases: what the server's WebSocket half does with any bytes.
//!
//! The real server answers a text with the Pusher protocol and refuses a binary message, so that
//! most of RFC 6455 cannot be seen through it. This program is made of the same parts (`http`,
//! `ws`, the system calls and the side ring of `net`) without a shard: it sends every message back
//! as it came. It knows no apps and no limits but one, and it must not serve anybody.
//!
//! Prints its address and its driver, serves from one thread, and ends with its standard input.
//! `echo epoll` leaves io_uring alone; `echo` takes it where it is to be had.

use std::cell::RefCell;
use std::error::Error;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use monoio::net::UnixStream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use smallvec::smallvec;

use shardcast::http::response::{Content, Writer};
use shardcast::http::{HeadLimits, HeadScan, Status};
use shardcast::net::ring::{self, SendItem, SendOutcome, Sender};
use shardcast::net::sys::{self, BurstEnd, Received};
use shardcast::net::worker::{RECEIVE_BYTES, awaitable};
use shardcast::ws::close::{self, encode_close};
use shardcast::ws::frame::{OpCode, encode_header};
use shardcast::ws::handshake::{Handshake, encode_response};
use shardcast::ws::message::{Event, Reader, Step};

/// The longest message of the cases (9.1.6 and 9.2.6). A longer one is answered with 1009.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections taken at once; then everybody else has a turn.
const ACCEPTS_MAX: usize = 64;

/// How long the peer of a closed connection may take to close its side (WebSocket spec 5.3).
const CLOSING_MAX: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut listeners = sys::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)?;
    let listener = listeners.sockets.remove(0);
    std::thread::spawn(end_with_standard_input);
    let wants_epoll = std::env::args().nth(1).is_some_and(|word| word == "epoll");
    if wants_epoll || ring::uring_available().is_err() {
        println!("{} epoll", listeners.address);
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()?;
        runtime.block_on(accept(listener, Sender::Plain))
    } else {
        println!("{} io_uring", listeners.address);
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()?;
        runtime.block_on(accept(listener, Sender::ring()?))
    }
}

/// Whoever started this program holds the other end, so that it cannot be left behind.
fn end_with_standard_input() {
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

async fn accept(listener: OwnedFd, sender: Sender) -> Result<(), Box<dyn Error>> {
    let sender = Rc::new(RefCell::new(sender));
    let listener = awaitable(listener)?;
    loop {
        listener.readable(false).await?;
        let take = |fd| {
            if let Ok(stream) = awaitable(fd) {
                monoio::spawn(Connection::new(stream, Rc::clone(&sender)).serve());
            }
        };
        match sys::accept_burst(listener.as_raw_fd(), ACCEPTS_MAX, take) {
            BurstEnd::Empty | BurstEnd::Limit => {}
            BurstEnd::Exhausted(errno) | BurstEnd::Broken(errno) => return Err(errno.into()),
        }
    }
}

/// One connection. It reads nothing while it has something to send, so that what it keeps is
/// bounded by one receive and one message.
struct Connection {
    stream: UnixStream,
    sender: Rc<RefCell<Sender>>,
    input: Box<[u8]>,
    output: Vec<u8>,
}

impl Connection {
    fn new(stream: UnixStream, sender: Rc<RefCell<Sender>>) -> Self {
        Self {
            stream,
            sender,
            input: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            output: Vec::new(),
        }
    }

    /// Serves until both sides have closed. That the peer has gone, every step finds out itself.
    async fn serve(mut self) {
        if let Some(first) = self.shake_hands().await {
            self.converse(first).await;
        }
        self.flush().await;
        // Closing with input unread would send a reset, and the peer might lose the Close.
        let _ = sys::shutdown_write(self.stream.as_raw_fd());
        let discard = async { while self.receive().await.is_some() {} };
        let _ = monoio::time::timeout(CLOSING_MAX, discard).await;
    }

    /// Answers one request. What has come behind it are frames; `None` if it was refused.
    async fn shake_hands(&mut self) -> Option<Vec<u8>> {
        let mut request = Vec::new();
        let mut scan = HeadScan::default();
        loop {
            let count = self.receive().await?;
            request.extend_from_slice(&self.input[..count]);
            let (head, head_bytes) = match scan.parse(&request, &HeadLimits::default()) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => continue,
                Err(error) => {
                    refuse(error.status(), &mut self.output);
                    return None;
                }
            };
            let Handshake::Accept(accept) = Handshake::parse(head.headers()) else {
                refuse(Status::BadRequest, &mut self.output);
                return None;
            };
            encode_response(accept, &mut self.output);
            return Some(request.split_off(head_bytes));
        }
    }

    /// Echoes frames until a Close, which is left in `output`.
    async fn converse(&mut self, mut first: Vec<u8>) -> Option<()> {
        let mut reader = Reader::default();
        let mut goes_on = echo(&mut reader, &mut first, &mut self.output);
        while goes_on {
            self.flush().await?;
            let count = self.receive().await?;
            goes_on = echo(&mut reader, &mut self.input[..count], &mut self.output);
        }
        Some(())
    }

    /// At least one byte into `input`; `None` once the peer sends no more.
    async fn receive(&mut self) -> Option<usize> {
        loop {
            self.stream.readable(false).await.ok()?;
            match sys::recv(self.stream.as_raw_fd(), &mut self.input) {
                Ok(Received::Bytes(count)) => return Some(count),
                Ok(Received::Nothing) => {}
                Ok(Received::End) | Err(_) => return None,
            }
        }
    }

    /// Sends all of `output`; `None` if the peer takes no more.
    async fn flush(&mut self) -> Option<()> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.send(&self.output[sent..]) {
                SendOutcome::Sent(count) => sent += count,
                SendOutcome::Refused => self.stream.writable(false).await.ok()?,
                SendOutcome::Failed(_) => return None,
            }
        }
        self.output.clear();
        Some(())
    }

    fn send(&self, bytes: &[u8]) -> SendOutcome {
        let item = SendItem {
            slot: 0,
            fd: self.stream.as_raw_fd(),
            slices: smallvec![bytes],
        };
        let mut results = Vec::with_capacity(1);
        self.sender.borrow_mut().send_batch([item], &mut results);
        results[0].outcome
    }
}

fn refuse(status: Status, output: &mut Vec<u8>) {
    Writer::begin(output, status).close().finish(
        Content::Text("This endpoint speaks WebSocket only.\n"),
        false,
    );
}

/// Appends the answers to all that `input` completes. False once a Close is among them: nothing
/// may follow it.
fn echo(reader: &mut Reader, input: &mut [u8], output: &mut Vec<u8>) -> bool {
    let mut at = 0;
    loop {
        let Step { consumed, event } = match reader.next(&mut input[at..], MESSAGE_BYTES_MAX) {
            Ok(step) => step,
            Err(error) => {
                encode_close(error.close_code(), error.reason(), output);
                return false;
            }
        };
        at += consumed;
        let (opcode, payload) = match event {
            Some(Event::Text(payload)) => (OpCode::Text, &*payload),
            Some(Event::Binary(payload)) => (OpCode::Binary, &*payload),
            Some(Event::Ping(payload)) => (OpCode::Pong, payload),
            Some(Event::Pong(_)) => continue,
            Some(Event::Close(code)) => {
                encode_close(close::echo(code), "", output);
                return false;
            }
            None => return true,
        };
        encode_header(opcode, true, payload.len(), output);
        output.extend_from_slice(payload);
    }
}
