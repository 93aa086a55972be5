//! A server of one shard, for the tests of requests. Test-only.
//!
//! It does what the connection code does, without a socket: parses a head, asks, collects a body,
//! carries messages between the shard and itself until a waiting answer is complete.

use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};

use crate::app::{App, AppKey, AppSettings, AppTable, Rate};
use crate::http::{BodyLength, Head, HeadLimits};
use crate::pusher::query::{ArrayForm, Decoding, Query};
use crate::pusher::signature::SigningKey;
use crate::pusher::socket_id::SocketIdKey;
use crate::shard::bounds::OutboxLimits;
use crate::shard::channel::ChannelKey;
use crate::shard::counts::CountPace;
use crate::shard::groups::Needs;
use crate::shard::message::{Member, Publish, ReplyTo, SessionKey, ShardMessage, Ticket};
use crate::shard::{self, Birth, Budgets, Peer, Probe, Shard};
use crate::ws::frame::FrameHeader;

use super::request::{self, Accepted, Collecting, Context, OnBody, OnHead, Settings};
use super::{Framing, OnAnswer, Response, Waiting};

/// The credentials of Pusher's own example (HTTP spec 3); the app has the id `3`.
pub(super) const KEY: &str = "278d425bdf160c739803";
pub(super) const SECRET: &str = "7ad3773142a6692b25b8";
/// The key of app `off`, which is disabled; its secret is the same.
pub(super) const KEY_OFF: &str = "off-key";
pub(super) const NOW_SECS: u64 = 1_353_088_179;

pub(super) struct Server {
    pub(super) shard: Shard,
    pub(super) settings: Settings,
    pub(super) draining: bool,
    pub(super) stalled: bool,
    /// What the shard sees of itself.
    peer: Peer,
    /// The connection that all requests come from.
    conn: SessionKey,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::with(AppSettings::default())
    }

    /// A server whose app `3` has these settings.
    pub(super) fn with(settings: AppSettings) -> Self {
        let off = AppSettings {
            enabled: false,
            ..AppSettings::default()
        };
        let apps = vec![
            Arc::new(App::new(0, "3", vec![AppKey::new(KEY, SECRET)], settings)),
            Arc::new(App::new(1, "off", vec![AppKey::new(KEY_OFF, SECRET)], off)),
        ];
        let mut shard = Shard::new(Birth {
            id: 0,
            settings: shard_settings(),
            apps: Arc::new(AppTable::new(apps).expect("ids and keys differ")),
            hash_key: [1, 2],
            socket_ids: SocketIdKey::new(&[7; 16]),
            capacity: Arc::default(),
            capacity_max: None,
        });
        let conn = shard.on_accept(-1);
        Self {
            shard,
            settings: Settings {
                path_prefix: String::new(),
                cors_origins: Vec::new(),
                body_bytes_max: 10 << 20,
                query_response_bytes_max: 32 << 20,
                events_response_empty: false,
                shutdown_grace_secs: 10,
            },
            draining: false,
            stalled: false,
            peer: Peer::default(),
            conn,
        }
    }

    pub(super) fn context(&mut self) -> Context<'_> {
        Context {
            settings: &self.settings,
            shard: &mut self.shard,
            now_secs: NOW_SECS,
            draining: self.draining,
            stalled: self.stalled,
        }
    }

    pub(super) fn reply_to(&self) -> ReplyTo {
        ReplyTo {
            shard: 0,
            slot: self.conn.slot,
            generation: self.conn.generation,
        }
    }

    /// What the head at the start of `wire` decides.
    pub(super) fn on_head(&mut self, wire: &[u8]) -> OnHead {
        request::on_head(&mut self.context(), &head(wire).0)
    }

    /// The request up to its body, which must be wanted.
    pub(super) fn accept(&mut self, wire: &[u8]) -> Accepted {
        match self.on_head(wire) {
            OnHead::Accept(accepted) => accepted,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// The answer to a whole request.
    pub(super) fn answer(&mut self, wire: &[u8]) -> Response {
        match self.begin(wire) {
            OnBody::Respond(response) => response,
            OnBody::Wait(waiting) => self.settle(*waiting),
        }
    }

    /// What becomes of a whole request at once.
    pub(super) fn begin(&mut self, wire: &[u8]) -> OnBody {
        let (head, body_at) = head(wire);
        let body = &wire[body_at..];
        let reply_to = self.reply_to();
        let accepted = match request::on_head(&mut self.context(), &head) {
            OnHead::Respond(response) => return OnBody::Respond(response),
            OnHead::Upgrade(upgrade) => panic!("an upgrade: {upgrade:?}"),
            OnHead::Accept(accepted) => accepted,
        };
        match accepted.length() {
            BodyLength::None => request::on_body(&mut self.context(), &accepted, reply_to, b""),
            BodyLength::Length(bytes) => {
                let body = &body[..bytes as usize];
                request::on_body(&mut self.context(), &accepted, reply_to, body)
            }
            BodyLength::Chunked => {
                let mut collecting = Collecting::new(accepted);
                match collecting.feed(body) {
                    Ok((_, done)) => assert!(done, "the body of a test request is whole"),
                    Err(error) => return OnBody::Respond(error.into()),
                }
                collecting.finish(&mut self.context(), reply_to)
            }
        }
    }

    /// The answer to a signed POST.
    pub(super) fn post(&mut self, path: &str, body: &str) -> Response {
        self.answer(&signed("POST", path, "", "", body))
    }

    /// The answer to a signed GET. `query` is `""` or ends in `&`.
    pub(super) fn get(&mut self, path: &str, query: &str) -> Response {
        self.answer(&signed("GET", path, query, "", ""))
    }

    /// Carries messages until the last home has answered.
    pub(super) fn settle(&mut self, mut waiting: Waiting) -> Response {
        let reply_to = self.reply_to();
        loop {
            let messages: Vec<_> = self.shard.outgoing(0).list.drain(..).collect();
            assert!(!messages.is_empty(), "a home owes an answer");
            for message in messages {
                self.shard.on_message(message);
            }
            let mut answers = Vec::new();
            self.shard.take_answers(&mut answers);
            for (_, answer) in answers.into_iter().filter(|(to, _)| *to == reply_to) {
                let outcome = waiting.on_answer(&mut self.context(), reply_to, answer);
                if let OnAnswer::Respond(response) = outcome {
                    return response;
                }
            }
        }
    }

    /// Carries messages until there are none, but leaves answers where they are; how many events
    /// were among them.
    pub(super) fn carry(&mut self) -> usize {
        let mut published = 0;
        loop {
            while let Some(message) = self.shard.outgoing(0).list.pop_front() {
                published += usize::from(matches!(message, ShardMessage::Publish(_)));
                self.shard.on_message(message);
            }
            self.shard.fence();
            self.shard.begin_turn([self.peer].into_iter());
            if self.shard.leftovers() == 0 && !self.shard.has_work() {
                return published;
            }
        }
    }

    /// What has been published since the last call.
    pub(super) fn published(&mut self) -> Vec<Publish> {
        let messages = self.shard.outgoing(0).list.drain(..);
        messages
            .map(|message| match message {
                ShardMessage::Publish(publish) => *publish,
                other => panic!("not a publish: {other:?}"),
            })
            .collect()
    }

    /// Channels and payloads of what has been published since the last call.
    pub(super) fn events(&mut self) -> Vec<(String, String)> {
        let text = |publish: Publish| (publish.channel.into(), payload(publish.frame.bytes()));
        self.published().into_iter().map(text).collect()
    }

    /// Homes refuse publishes from now on, or take them again.
    pub(super) fn congest(&mut self, congested: bool) {
        self.peer.congested = congested;
        self.shard.begin_turn([self.peer].into_iter());
    }

    /// A channel has subscribers.
    pub(super) fn subscribed(&mut self, channel: &str, subscribers: u32) {
        let channel = self.channel_key(channel);
        self.shard.on_message(ShardMessage::Interest {
            channel,
            source: 0,
            needs: Needs::default(),
            subscribers,
            round: 1,
            ask: None,
        });
    }

    /// A connection of a user has joined a presence channel.
    pub(super) fn joined(&mut self, channel: &str, subscription: u32, user_id: &str) {
        let channel = self.channel_key(channel);
        let member = Member {
            user_id: user_id.into(),
            user_info: "{}".into(),
        };
        self.shard.on_message(ShardMessage::Join {
            channel,
            ticket: Ticket {
                session: self.conn,
                subscription,
            },
            round: 1,
            member: Box::new(member),
        });
    }

    fn channel_key(&self, channel: &str) -> Arc<ChannelKey> {
        Arc::new(ChannelKey {
            hash: self.shard.hash(0, channel),
            app: 0,
            name: channel.into(),
        })
    }
}

fn shard_settings() -> shard::Settings {
    shard::Settings {
        shards: 1,
        activity_timeout: Duration::from_secs(120),
        pong_timeout: Duration::from_secs(30),
        probe: Probe::Ping,
        strict_protocol: false,
        sockudo_clients: true,
        subscription_errors: true,
        cache_ttl: Duration::from_secs(1800),
        cache_bytes_max: 1 << 20,
        counts: CountPace::default(),
        delays_max: 100,
        outbox: OutboxLimits {
            bytes_max: 1 << 20,
            frames_max: 2048,
            shard_bytes_max: 1 << 28,
        },
        close_spread: Duration::from_secs(10),
        stall_max: Duration::from_secs(30),
        inbox_depth_max: 1024,
        lag_bytes_max: 64 << 20,
        lag_max: Duration::from_secs(1),
        filters_channel_max: 10_000,
        delta_texts_max: 10,
        delta_bytes_max: 256 << 20,
        filters_bytes_max: 64 << 20,
        subscriptions_max: 1000,
        subscriptions_per_connection_max: None,
        budgets: Budgets::default(),
    }
}

/// The answer to the `nth` request to publish of a server whose time stands still.
pub(super) fn ok_true(nth: u64) -> Response {
    Response::OK_TRUE.with_rate(rate(nth))
}

/// The budget of an app with default settings after its `nth` request.
pub(super) fn rate(nth: u64) -> Rate {
    let limit = 1_000_000_000;
    Rate {
        limit,
        remaining: limit - nth,
        reset_secs: 60,
    }
}

/// The head at the start of `wire`, and where its body begins.
pub(super) fn head(wire: &[u8]) -> (Head<'_>, usize) {
    Head::parse(wire, &HeadLimits::default())
        .expect("a lawful head")
        .expect("a whole head")
}

/// A request as bytes. `headers` are whole lines; the length of the body is among them.
pub(super) fn wire(method: &str, target: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = match body.len() {
        0 => String::new(),
        bytes => format!("Content-Length: {bytes}\r\n"),
    };
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{length}{headers}\r\n{body}").into_bytes()
}

/// The target of a request signed by the key of app `3`. `query` is `""` or ends in `&`.
pub(super) fn target(method: &str, path: &str, query: &str, body: &str) -> String {
    target_by(KEY, method, path, query, body)
}

pub(super) fn target_by(key: &str, method: &str, path: &str, query: &str, body: &str) -> String {
    let md5 = match body {
        "" => String::new(),
        body => format!("&body_md5={}", md5_hex(body)),
    };
    let query = format!("{query}auth_key={key}&auth_timestamp={NOW_SECS}&auth_version=1.0{md5}");
    let mut to_sign = format!("{method}\n{path}\n").into_bytes();
    Query::parse(&query, Decoding::Form)
        .expect("a lawful query")
        .write_to_sign(&mut to_sign, ArrayForm::Brackets);
    let signature = SigningKey::new(SECRET.as_bytes()).sign_hex(&[&to_sign]);
    let signature = str::from_utf8(&signature).expect("hex digits");
    format!("{path}?{query}&auth_signature={signature}")
}

/// A signed request of app `3` as bytes.
pub(super) fn signed(method: &str, path: &str, query: &str, headers: &str, body: &str) -> Vec<u8> {
    wire(method, &target(method, path, query, body), headers, body)
}

pub(super) fn md5_hex(body: &str) -> String {
    let digits = Md5::digest(body);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The whole response to a GET over a connection that lives on.
pub(super) fn written(response: &Response) -> String {
    let mut out = Vec::new();
    response.write(&Framing::default(), &mut out);
    String::from_utf8(out).expect("our responses are text")
}

/// The body of a response.
pub(super) fn body(response: &Response) -> String {
    let text = written(response);
    let (_, body) = text.split_once("\r\n\r\n").expect("an end of the head");
    body.to_owned()
}

/// Status, `code` and `error` of an error object, which every refusal must be (peers 21: no plain
/// text of some framework).
pub(super) fn refusal(response: &Response) -> (u16, String, String) {
    let object: serde_json::Value = serde_json::from_str(&body(response)).expect("an error object");
    assert_eq!(object["status"], response.status.code());
    let text = |member: &str| object[member].as_str().expect("a string").to_owned();
    (response.status.code(), text("code"), text("error"))
}

/// The JSON text in a server frame.
fn payload(frame: &[u8]) -> String {
    let (header, at) = FrameHeader::parse(frame)
        .expect("a lawful frame")
        .expect("a whole header");
    assert_eq!(header.payload_bytes, (frame.len() - at) as u64);
    String::from_utf8(frame[at..].to_vec()).expect("frames are text")
}
