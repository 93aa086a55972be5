//! `ShardMessage`: all that shards say to each other, and what losing each would mean.
//!
//! Messages leave a shard through one first-in first-out list per target and enter the target's
//! inbox in that order; nothing overtakes within a list (decisions 3). A message is classified and
//! validated where it arose and crosses as a typed value. Its size is part of the design: with the
//! queue's stamp a slot is one cache line.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::app::AppTable;
use crate::clock::{Micros, Now};
use crate::pusher::dialect::Dialect;
use crate::pusher::filter::TagSet;
use crate::pusher::outbound::{self, write_text_frame};
use crate::pusher::socket_id::SocketId;
use crate::pusher::webhook::ClientEventSent;
use crate::ws::frame::FrameHeader;

use super::channel::ChannelKey;
use super::claims;
use super::groups::Needs;
use super::question::{Answer, Question};
use super::sample::Sample;
use super::stream::Step;

/// Room for a frame of usual size, so that building one allocates once.
const FRAME_BYTES_USUAL: usize = 512;

/// The number of a shard: `0 <= ShardId < shards`.
pub type ShardId = u16;

/// Names a connection in the whole process, and one day in a cluster. A slot is reused only after
/// its descriptor is closed, with the next generation (decisions 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub node: u16,
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

/// Names one attempt to subscribe: the session and a number that the session never gives twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub session: SessionKey,
    pub subscription: u32,
}

/// The HTTP connection that waits for an [`Answer`]. It has at most one unanswered question
/// (decisions 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

/// One event, finished: WebSocket header and JSON text, built once and shared by every subscriber;
/// and the tags that it was published with, for those who filter.
pub struct Frame {
    bytes: Bytes,
    accepted: Micros,
    tags: TagSet,
}

impl Frame {
    /// Takes a complete server frame, header included.
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Self::published(bytes, Micros::default(), TagSet::default())
    }

    /// The same, of an event that was accepted at that moment, from which its delivery is timed,
    /// and published with these tags.
    pub fn published(bytes: Vec<u8>, accepted: Micros, tags: TagSet) -> Arc<Self> {
        Arc::new(Self {
            // Without spare room, which would make it keep a record of that.
            bytes: Bytes::from(bytes.into_boxed_slice()),
            accepted,
            tags,
        })
    }

    /// A text frame around the JSON that `write` writes.
    pub fn text(write: impl FnOnce(&mut Vec<u8>)) -> Arc<Self> {
        Self::text_of(Micros::default(), write)
    }

    /// The same, of an event that was accepted at that moment.
    pub fn text_of(accepted: Micros, write: impl FnOnce(&mut Vec<u8>)) -> Arc<Self> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES_USUAL);
        write_text_frame(&mut bytes, write);
        Self::published(bytes, accepted, TagSet::default())
    }

    /// When the event was accepted; "never" for what the server itself says.
    pub fn accepted(&self) -> Micros {
        self.accepted
    }

    /// The same event with the prefix of a dialect, where it is one of the platform.
    pub fn translated(&self, dialect: Dialect) -> Arc<Self> {
        Self::text_of(self.accepted, |out| {
            let start = out.len();
            out.extend_from_slice(self.payload());
            dialect.translate(out, start);
        })
    }

    /// The same event with its tags as a last member (extensions spec 2.3).
    pub fn with_tags(&self) -> Arc<Self> {
        Self::text_of(self.accepted, |out| {
            outbound::event_with_tags(out, self.payload(), &self.tags);
        })
    }

    /// The name of an event.
    pub fn event_name(&self) -> Cow<'_, str> {
        let name = outbound::event_name(self.payload());
        name.and_then(|name| name.decode()).unwrap_or_default()
    }

    /// The tags of an event.
    pub fn tags(&self) -> &TagSet {
        &self.tags
    }

    /// Bytes that it takes in a queue or a cache.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + self.tags.heap_bytes()
    }

    /// The JSON text in it.
    pub fn payload(&self) -> &[u8] {
        match FrameHeader::parse(&self.bytes) {
            Ok(Some((_, header_bytes))) => &self.bytes[header_bytes..],
            _ => &[],
        }
    }

    /// The frame as it goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.bytes.len())
    }
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The HTTP API; the only origin that is cached (WebSocket spec 13).
    Api,
    /// A client event of this session.
    Client(SessionKey),
}

/// An accepted event on its way to the home of its channel. It names the channel; only answers
/// carry keys.
#[derive(Debug)]
pub struct Publish {
    pub app: u32,
    pub hash: u64,
    pub channel: Box<str>,
    pub frame: Arc<Frame>,
    pub except: Option<SocketId>,
    pub origin: Origin,
    /// Whether the home keeps this event for later subscribers.
    pub cached: bool,
    /// The publisher's wish for or against deltas (extensions spec 3.3).
    pub delta: Option<bool>,
    /// Who wants the counts of the channel, and the index of this event in the request.
    pub ask: Option<(ReplyTo, u32)>,
    /// A client event that back ends are told of.
    pub webhook: Option<Box<ClientEventSent>>,
}

/// A would-be member of a presence channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user_id: Box<str>,
    /// JSON text; `{}` where the client gave none.
    pub user_info: Box<str>,
}

/// What the home found for a subscriber of a cache channel.
#[derive(Clone, Debug)]
pub enum Cache {
    /// Not a cache channel.
    None,
    Hit(Arc<Frame>),
    Miss,
}

/// The answer to a `Join` or to an `Interest` that carried a ticket.
#[derive(Debug)]
pub struct Joined {
    pub outcome: Result<Admitted, Refusal>,
}

/// What a newcomer is told, in this order (WebSocket spec 7.3).
#[derive(Debug)]
pub struct Welcome {
    /// The success frame where the home had to write it (presence roster); `None` for the plain
    /// one.
    pub succeeded: Option<Arc<Frame>>,
    pub cache: Cache,
    /// The number of subscribers, where all were told it because of this newcomer.
    pub count: Option<Arc<Frame>>,
}

/// A subscription that the home has admitted.
#[derive(Debug)]
pub struct Admitted {
    pub welcome: Welcome,
    /// The last number that the home gave on this channel: the next `Deliver` of this round is one
    /// more.
    pub seq: u64,
}

/// Why a home refuses a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The presence channel has as many users as the app allows (WebSocket spec 10.1).
    Full,
}

/// Counts of one channel at its home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscribed connections.
    pub subscriptions: u32,
    /// Distinct users; presence channels only.
    pub users: Option<u32>,
}

/// All that shards say to each other. "If lost" says what would break, and why it is not lost.
#[derive(Debug)]
pub enum ShardMessage {
    /// To a channel's home. If lost, an accepted event vanishes: it was admitted first, after which
    /// nothing can fail.
    Publish(Box<Publish>),
    /// To a channel's home: how many subscriptions (pending included) the sending shard has,
    /// absolute (decisions 8). If lost, subscribers are deaf or frames are sent for nobody: it
    /// waits in the elastic list.
    Interest {
        channel: Arc<ChannelKey>,
        source: ShardId,
        /// Of a presence channel, whose home counts by its roster, it is not looked at.
        subscribers: u32,
        needs: Needs,
        round: u32,
        ask: Option<Ticket>,
    },
    /// To a presence channel's home. If lost, a subscription is pending for ever: elastic.
    Join {
        channel: Arc<ChannelKey>,
        ticket: Ticket,
        round: u32,
        member: Box<Member>,
    },
    /// To a presence channel's home. If lost, a ghost member stays: elastic. Of what is not in the
    /// roster it is nothing.
    Leave {
        channel: Arc<ChannelKey>,
        session: SessionKey,
        subscription: u32,
    },
    /// To a user's home: close all connections of the user. If lost, a user stays: admitted like a
    /// publish.
    Terminate { user: Arc<ChannelKey> },
    /// To a user's home: the watchlist of a connection signed in as the user, `None` when it is
    /// gone. If lost, a list never changes, or a ghost watches: elastic.
    WatchList {
        user: Arc<ChannelKey>,
        ticket: Ticket,
        list: Option<Box<[Arc<ChannelKey>]>>,
    },
    /// From the home of a watcher to the home of users: tell of them from now on, or no more. If
    /// lost, a list never changes: elastic.
    Watch {
        targets: Box<[Arc<ChannelKey>]>,
        watcher: Arc<ChannelKey>,
        on: bool,
        round: u32,
    },
    /// From the home of users to the home of a watcher: which of them are online. If lost, the
    /// watcher is told wrongly for ever: elastic.
    Online {
        watcher: Arc<ChannelKey>,
        states: Box<[(Arc<ChannelKey>, bool)]>,
        round: u32,
    },
    /// From a home to a shard with subscribers, never one per subscriber. If lost, silent loss:
    /// elastic, and bounded because publishes were admitted.
    Deliver {
        channel: Arc<ChannelKey>,
        frame: Arc<Frame>,
        except: Option<SocketId>,
        /// For those who get deltas, where there are any.
        step: Option<Arc<Step>>,
        seq: u64,
        round: u32,
    },
    /// From a home to the shard of a newcomer. If lost, a subscription is pending for ever:
    /// elastic.
    Joined {
        ticket: Ticket,
        channel: Arc<ChannelKey>,
        joined: Box<Joined>,
    },
    /// From a user's home to the shard of a connection: its first watchlist frame, none for an
    /// empty list. If lost, it is told of no change: elastic.
    ToSession {
        ticket: Ticket,
        frame: Option<Arc<Frame>>,
    },
    /// From a user's home to a shard with connections of the user: a watched user has come or gone.
    /// If lost, those are told wrongly: elastic.
    Watched {
        user: Arc<ChannelKey>,
        frame: Arc<Frame>,
        round: u32,
    },
    /// From a user's home to a shard with connections of the user, behind earlier deliveries. If
    /// lost, a terminated user stays: elastic.
    CloseUser { user: Arc<ChannelKey>, round: u32 },
    /// To a home, from an HTTP request. If lost, the request answers 503 after its deadline:
    /// elastic, and bounded because a connection has one request unanswered.
    Ask {
        question: Box<Question>,
        from: ReplyTo,
    },
    /// To the home of an idempotency key: how the request ended that holds the claim. If lost, the
    /// key is blocked for ever: elastic, and bounded like the questions.
    Settle {
        app: u32,
        place: claims::Place,
        body: Option<Arc<[u8]>>,
    },
    /// From a home to the shard of an HTTP connection. If lost, the request answers 503 after its
    /// deadline: elastic.
    Answer { to: ReplyTo, answer: Box<Answer> },
    /// From the side thread: the apps are these from here on. If lost, this shard disagrees with
    /// the others about limits and keys: the sender waits for room.
    Apps(Arc<AppTable>),
    /// From the side thread: how is it? If lost, a scrape says that this shard did not answer.
    Sample(oneshot::Sender<Box<Sample>>),
    /// From the main thread: close every session, the last one before `until`. If lost, the process
    /// is ended at its deadline; the sender waits for room.
    Drain { until: Now },
}

// At most 56 bytes, which with the queue's stamp are one cache line; larger things are behind one
// pointer.
const _: () = assert!(size_of::<ShardMessage>() <= 56);
const _: () = assert!(size_of::<SessionKey>() == 12);
const _: () = assert!(size_of::<Ticket>() == 16);

impl ShardMessage {
    /// Bytes of the frame that the message carries: what a full inbox of large frames is bounded by
    /// (decisions 28).
    pub fn frame_bytes(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.frame.held_bytes(),
            Self::Deliver { frame, step, .. } => {
                frame.held_bytes() + step.as_ref().map_or(0, |step| step.bytes())
            }
            Self::Watched { frame, .. } => frame.held_bytes(),
            Self::ToSession { frame, .. } => frame.as_ref().map_or(0, |frame| frame.held_bytes()),
            _ => 0,
        }
    }
}
