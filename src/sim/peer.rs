//! The other end of a connection: what it has sent, and the stream that it gets.
//!
//! A stream is parsed with the product's own frame header, byte by byte as the kernel took it: half
//! a frame is kept until the rest comes, and whatever does not parse is a failure.

use std::collections::VecDeque;

use crate::pusher::socket_id::SocketId;
use crate::ws::close::parse_close;
use crate::ws::frame::{FrameHeader, OpCode};

use super::client::{Action, Client};
use super::model::Model;
use super::query::{FOUND, NOT_FOUND, Subject};
use super::text;

/// The answer to an upgrade, as far as the simulation goes.
pub(super) const UPGRADED: &[u8] = b"HTTP/1.1 101\r\n\r\n";

/// What a peer sends.
#[derive(Debug)]
pub(super) enum Input {
    Upgrade,
    Text(Action, String),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Request(Request),
    /// The end of all connections of a user.
    Terminate {
        number: u64,
        channel: usize,
    },
    Query {
        number: u64,
        subject: Subject,
    },
}

/// A publish over HTTP: one event for some channels of an app.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) channels: Vec<usize>,
    pub(super) except: Option<SocketId>,
    pub(super) info: bool,
    /// Its idempotency key.
    pub(super) key: Option<u32>,
}

/// Publishes over one HTTP connection, several requests in flight.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub(super) requests: VecDeque<u64>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Client(Box<Client>),
    Publisher(Publisher),
}

/// One connection that somebody has made.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) shard: usize,
    pub(super) kind: Kind,
    pub(super) to_server: VecDeque<Input>,
    /// The peer has closed its end or vanished.
    pub(super) gone: bool,
    /// The server has finished its direction.
    pub(super) finished: bool,
    /// The kernel has refused bytes for it at some time.
    pub(super) refused: bool,
    /// The server has waited long enough for it to take a Close.
    pub(super) cut_off: bool,
    upgraded: bool,
    stream: Vec<u8>,
}

impl Peer {
    pub(super) fn new(shard: usize, kind: Kind) -> Self {
        Self {
            shard,
            kind,
            to_server: VecDeque::new(),
            gone: false,
            finished: false,
            refused: false,
            cut_off: false,
            upgraded: false,
            stream: Vec::new(),
        }
    }

    pub(super) fn client(&mut self) -> Option<&mut Client> {
        match &mut self.kind {
            Kind::Client(client) => Some(client),
            Kind::Publisher(_) => None,
        }
    }

    /// Bytes from the server. Who is gone reads nothing.
    pub(super) fn on_bytes(&mut self, bytes: &[u8], model: &mut Model) {
        if self.gone {
            return;
        }
        assert!(
            !self.finished || bytes.is_empty(),
            "bytes behind the end of the stream"
        );
        self.stream.extend_from_slice(bytes);
        let mut stream = std::mem::take(&mut self.stream);
        let taken = match &mut self.kind {
            Kind::Publisher(publisher) => publisher.read(&stream, model),
            Kind::Client(client) => {
                let mut taken = 0;
                if !self.upgraded && stream.len() >= UPGRADED.len() {
                    assert!(stream.starts_with(UPGRADED));
                    self.upgraded = true;
                    taken = UPGRADED.len();
                }
                while self.upgraded
                    && let Some((opcode, payload, length)) = frame(&stream[taken..])
                {
                    taken += length;
                    read_frame(client, opcode, payload, &mut self.to_server, model);
                }
                taken
            }
        };
        stream.drain(..taken);
        self.stream = stream;
    }

    /// Whether the stream ends with half a frame.
    pub(super) fn has_part(&self) -> bool {
        !self.stream.is_empty()
    }
}

/// The frame at the start of the stream, if it is whole, and its length.
fn frame(stream: &[u8]) -> Option<(OpCode, &[u8], usize)> {
    let header = FrameHeader::parse(stream).unwrap_or_else(|error| panic!("{error:?}: {stream:?}"));
    let (header, header_bytes) = header?;
    assert!(header.fin && header.mask.is_none(), "{header:?}");
    let end = header_bytes + usize::try_from(header.payload_bytes).expect("frames are small");
    Some((header.opcode, stream.get(header_bytes..end)?, end))
}

fn read_frame(
    client: &mut Client,
    opcode: OpCode,
    payload: &[u8],
    to_server: &mut VecDeque<Input>,
    model: &mut Model,
) {
    assert!(client.closed.is_none(), "a frame behind the Close");
    match opcode {
        OpCode::Text => {
            let text = std::str::from_utf8(payload).expect("texts are UTF-8");
            let text = text::heard(text, client.sockudo);
            if let Some(answer) = client.on_text(&text, model) {
                let text = r#"{"event":"pusher:pong","data":{}}"#.to_owned();
                to_server.push_back(Input::Text(answer, text));
            }
        }
        OpCode::Ping if !client.mute => to_server.push_back(Input::Pong),
        OpCode::Ping => {}
        OpCode::Pong => {
            // One that overtakes a backlog may overtake an earlier one in it.
            let asked = client.pongs.iter().position(|ping| ping == payload);
            client
                .pongs
                .swap_remove(asked.expect("a pong answers a ping"));
        }
        OpCode::Close => {
            let (code, reason) = parse_close(payload)
                .expect("well-formed")
                .expect("has a code");
            client.closed = Some(code);
            client.reason = reason.to_owned();
        }
        opcode => panic!("the server sent {opcode:?}"),
    }
}

impl Publisher {
    /// Takes whole lines: status and number of the event.
    fn read(&mut self, stream: &[u8], model: &Model) -> usize {
        let mut taken = 0;
        while let Some(end) = stream[taken..].iter().position(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(&stream[taken..taken + end]).expect("lines are ASCII");
            taken += end + 1;
            let (status, number) = line.split_once(' ').expect("two words");
            let number = number.parse().expect("a number");
            assert_eq!(
                Some(number),
                self.requests.pop_front(),
                "answers out of order"
            );
            match status {
                "409" => assert!(model.keys.is_contested(number), "409 without a rival"),
                // Another request with its key may still succeed.
                "404" | "503" if model.keys.of(number).is_some() => {}
                "200" => assert!(
                    model.is_accepted(number),
                    "200 before event {number} was accepted"
                ),
                FOUND | NOT_FOUND => {}
                _ => assert!(model.events[number as usize].refused),
            }
        }
        taken
    }
}
