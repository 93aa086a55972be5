//! One visitor: what it has asked for, what it was told, and a WebSocket that never blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::APP;
use crate::support::frame::close_frame;
use crate::support::frame::{CLOSE, FIN, Frame, PING, PONG, TEXT, client_frame, text_frame};
use crate::support::websocket::upgrade_request;
use crate::support::{Event, Server};

/// The channels that visitors choose from: few, so that they often become empty or full of others.
pub(crate) const CHANNELS: [&str; 24] = [
    "news-0",
    "news-1",
    "news-2",
    "news-3",
    "news-4",
    "news-5",
    "cache-0",
    "cache-1",
    "cache-2",
    "private-0",
    "private-1",
    "private-2",
    "private-cache-0",
    "private-encrypted-0",
    "rare-0",
    "rare-1",
    "presence-0",
    "presence-1",
    "presence-2",
    "presence-3",
    "presence-4",
    "presence-cache-0",
    "presence-rare-0",
    "presence-rare-1",
];
/// Users are shared by visitors.
const USERS: usize = 300;
/// Only so many visitors come to a channel that is `rare`: it is vacated again and again.
const RARE_VISITORS: usize = 6;
/// Longest wait for an answer, on a busy machine too.
const ANSWER: Duration = Duration::from_secs(60);

/// Somebody who comes and goes.
pub(crate) struct Visitor {
    number: usize,
    chance: u64,
    address: SocketAddr,
    connection: Option<Connection>,
    /// The channels it is subscribed to, and as whom.
    pub(crate) subscribed: BTreeMap<&'static str, Option<String>>,
    /// What it was told of the members of its presence channels.
    pub(crate) rosters: BTreeMap<&'static str, BTreeSet<String>>,
    /// The quota had no room for it.
    pub(crate) turned_away: u64,
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    socket_id: String,
}

/// Why a connection brings no more.
struct Ended;

impl Visitor {
    pub(crate) fn new(server: &Server, number: usize) -> Self {
        Self {
            number,
            chance: number as u64,
            address: server.address,
            connection: None,
            subscribed: BTreeMap::new(),
            rosters: BTreeMap::new(),
            turned_away: 0,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// So many commands, then the answers to all of them.
    pub(crate) async fn churn(mut self, commands: usize) -> Self {
        for _ in 0..commands {
            if self.connection.is_none() {
                self.connect().await;
                continue;
            }
            match self.below(100) {
                0..=59 => self.subscribe().await,
                60..=84 => self.unsubscribe().await,
                85..=89 => self.vanish(),
                90..=93 => self.close().await,
                _ => self.sync().await,
            }
        }
        self.sync().await;
        self
    }

    /// Goes for good, one way or the other.
    pub(crate) async fn leave(mut self) -> Self {
        match self.number % 2 {
            0 => self.close().await,
            _ => self.vanish(),
        }
        self
    }

    /// Takes what has come without waiting.
    pub(crate) fn catch_up(&mut self) {
        while let Some(frame) = self.frame_at_hand() {
            self.on_frame(&frame);
        }
    }

    /// A number below `bound`, from the seed alone (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    async fn connect(&mut self) {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let mut connection = Connection {
            stream,
            unread: Vec::new(),
            socket_id: String::new(),
        };
        let request = upgrade_request(&APP.target(), "");
        connection.send(request.as_bytes()).await;
        connection.take_head().await;
        self.connection = Some(connection);
        let first = self.text().await;
        let first = Event::parse(first);
        if first.event == "pusher:error" {
            assert_eq!(first.data["code"], 4004, "{}", first.raw);
            self.turned_away += 1;
            return self.vanish();
        }
        let id = first.json()["socket_id"]
            .as_str()
            .expect("an id")
            .to_owned();
        self.connection.as_mut().expect("set above").socket_id = id;
    }

    async fn subscribe(&mut self) {
        let channel = CHANNELS[self.below(CHANNELS.len())];
        let is_rare = channel.contains("rare");
        if self.subscribed.contains_key(channel) || (is_rare && self.number >= RARE_VISITORS) {
            return;
        }
        let user = channel
            .starts_with("presence-")
            .then(|| format!("user-{}", self.below(USERS)));
        let Some(connection) = &self.connection else {
            return;
        };
        let channel_data = user
            .as_ref()
            .map(|user| json!({"user_id": user}).to_string());
        let auth = APP.auth(&connection.socket_id, channel, channel_data.as_deref());
        let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
        self.subscribed.insert(channel, user);
        self.send("pusher:subscribe", data).await;
    }

    async fn unsubscribe(&mut self) {
        let count = self.subscribed.len();
        if count == 0 {
            return;
        }
        let nth = self.below(count);
        let channel = *self.subscribed.keys().nth(nth).expect("below the count");
        self.subscribed.remove(channel);
        self.send("pusher:unsubscribe", json!({"channel": channel}))
            .await;
        // What is on its way for that channel is for a member no more.
        self.sync().await;
        self.rosters.remove(channel);
    }

    /// Without a word.
    fn vanish(&mut self) {
        self.connection = None;
        self.subscribed.clear();
        self.rosters.clear();
    }

    /// With a Close, and its answer awaited.
    async fn close(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.send(&close_frame(1000)).await;
            loop {
                match self.frame().await {
                    Ok(frame) if frame.opcode == CLOSE => break,
                    Ok(frame) => self.on_frame(&frame),
                    Err(Ended) => panic!("a Close is answered"),
                }
            }
        }
        self.vanish();
    }

    /// All that was said so far has been done.
    async fn sync(&mut self) {
        if self.connection.is_none() {
            return;
        }
        self.send("pusher:ping", json!({})).await;
        loop {
            let text = self.text().await;
            let event = Event::parse(text);
            if event.event == "pusher:pong" {
                return;
            }
            self.on_event(&event);
        }
    }

    async fn send(&mut self, event: &str, data: Value) {
        let text = json!({"event": event, "data": data}).to_string();
        if let Some(connection) = &mut self.connection {
            connection.send(&text_frame(&text)).await;
        }
    }

    /// The next text message.
    async fn text(&mut self) -> String {
        loop {
            let Ok(frame) = self.frame().await else {
                panic!("visitor {} was cut off", self.number);
            };
            if frame.opcode == TEXT {
                return String::from_utf8(frame.payload).expect("text is UTF-8");
            }
            self.on_frame(&frame);
        }
    }

    async fn frame(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.frame_at_hand() {
                return Ok(frame);
            }
            let Some(connection) = &mut self.connection else {
                return Err(Ended);
            };
            connection.receive().await?;
        }
    }

    fn frame_at_hand(&mut self) -> Option<Frame> {
        let connection = self.connection.as_mut()?;
        connection.receive_at_hand();
        let (frame, length) = Frame::parse(&connection.unread)?;
        connection.unread.drain(..length);
        Some(frame)
    }

    fn on_frame(&mut self, frame: &Frame) {
        match frame.opcode {
            TEXT => {
                let text = String::from_utf8(frame.payload.clone()).expect("text is UTF-8");
                self.on_event(&Event::parse(text));
            }
            PING => {
                let pong = client_frame(FIN | PONG, &frame.payload);
                if let Some(connection) = &mut self.connection {
                    // A few bytes fit while the server reads.
                    let _ = connection.stream.try_write(&pong);
                }
            }
            CLOSE => panic!("visitor {} was closed: {frame:?}", self.number),
            _ => {}
        }
    }

    fn on_event(&mut self, event: &Event) {
        let channel = event.channel.as_deref();
        let channel = channel.and_then(|name| CHANNELS.iter().copied().find(|&c| c == name));
        match event.event.as_str() {
            "pusher_internal:subscription_succeeded" => {
                let channel = channel.expect("a channel of ours");
                let Some(ids) = event.json()["presence"]["ids"].as_array().cloned() else {
                    return;
                };
                let ids = ids
                    .iter()
                    .map(|id| id.as_str().expect("a string").to_owned());
                self.rosters.insert(channel, ids.collect());
            }
            "pusher_internal:member_added" | "pusher_internal:member_removed" => {
                let channel = channel.expect("a channel of ours");
                let user = event.json()["user_id"]
                    .as_str()
                    .expect("a string")
                    .to_owned();
                let roster = self
                    .rosters
                    .get_mut(channel)
                    .expect("it was told the roster");
                let changed = match event.event.ends_with("added") {
                    true => roster.insert(user),
                    false => roster.remove(&user),
                };
                assert!(changed, "told twice: {}", event.raw);
            }
            "pusher:cache_miss" => {}
            other => panic!(
                "visitor {} did not expect {other}: {}",
                self.number, event.raw
            ),
        }
    }
}

impl Connection {
    async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let _ = timeout(ANSWER, self.stream.writable()).await.expect("room");
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("sending: {error}"),
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Ended> {
        let before = self.unread.len();
        let readable = timeout(ANSWER, self.stream.readable()).await;
        let _ = readable.expect("an answer in time");
        match self.receive_at_hand() {
            true => Ok(()),
            false if self.unread.len() > before => Ok(()),
            false => Err(Ended),
        }
    }

    /// Receives what is there; false if the peer has ended the connection.
    fn receive_at_hand(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// The answer to the upgrade.
    async fn take_head(&mut self) {
        loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                assert!(self.unread.starts_with(b"HTTP/1.1 101 "));
                self.unread.drain(..at + 4);
                return;
            }
            assert!(self.receive().await.is_ok(), "the upgrade is answered");
        }
    }
}
