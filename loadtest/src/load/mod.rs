//! What scenarios do: each is one load or several, and a load knows its own connections.
//!
//! A load decides what a connection subscribes to, what is sent and when, and what should come of
//! it. It never waits: it is told what happened, and asked when something of it is next due.

use serde::{Deserialize, Serialize};

use crate::args;
use crate::clock::{NEVER, Nanos};
use crate::control::{Harvest, Plan, Schedule, Settled};
use crate::crowd::{Crowd, Who};
use crate::message::Notice;
use crate::meter::{Count, Span};
use crate::stamp::Stamp;

mod chat;
mod connect;
mod cycle;
mod fanout;
mod publish;
mod rooms;
mod storm;
mod subscription;

/// Things that are done late in one go, at most: a run far behind still reads.
const BURST_MAX: u32 = 256;

/// One kind of work of a worker.
pub(crate) trait Load {
    /// Wants connections: until the whole run has so many, or all of them where it has no levels.
    fn grow(&mut self, crowd: &mut Crowd, level: u64);

    /// Whether all that were wanted are ready.
    fn is_ready(&self) -> bool;

    /// A connection has been greeted.
    fn on_open(&mut self, crowd: &mut Crowd, who: Who, socket_id: &str);

    /// A message without a stamp.
    fn on_notice(&mut self, crowd: &mut Crowd, who: Who, notice: &Notice<'_>);

    /// An event of ours.
    fn on_event(&mut self, _crowd: &mut Crowd, _who: Who, _stamp: Stamp) {}

    /// A connection ended, before it was ready or after.
    fn on_lost(&mut self, crowd: &mut Crowd, who: Who, was_ready: bool);

    /// Something happened to a publisher's connection.
    fn on_http(&mut self, _crowd: &mut Crowd, _index: u32) {}

    /// The load begins. It may be begun again with an earlier end: the run is to end.
    fn begin(&mut self, _crowd: &mut Crowd, _schedule: Schedule) {}

    /// Does what is due, and says when something is next.
    fn act(&mut self, _crowd: &mut Crowd) -> Nanos {
        NEVER
    }

    /// Deliveries to another worker's subscribers.
    fn on_settled(&mut self, _settled: &Settled) {}

    /// Deliveries here that the publishing worker waits for.
    fn take_settled(&mut self) -> Option<Settled> {
        None
    }

    /// What each channel has accepted, once and when all is answered. Only where
    /// [`Self::expect`] is waited for.
    fn take_published(&mut self) -> Option<Vec<u64>> {
        None
    }

    /// What each channel has accepted from all.
    fn expect(&mut self, _accepted: &[u64]) {}

    /// After the end: whether all that is owed has come.
    fn is_settled(&self, _crowd: &Crowd) -> bool {
        true
    }

    /// The worker ends: what is not done by now will not be, and has taken this long at least.
    fn give_up(&mut self, _crowd: &mut Crowd) {}

    /// Adds what only the load knows.
    fn harvest(&self, _harvest: &mut Harvest) {}
}

/// A count that tells whether all was right, or what became of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) count: u64,
    /// Anything but 0 is a fault of the server.
    pub(crate) is_fault: bool,
}

impl Check {
    fn fault(name: &str, count: u64) -> Self {
        Self {
            name: name.to_owned(),
            count,
            is_fault: true,
        }
    }

    fn fact(name: &str, count: u64) -> Self {
        Self {
            name: name.to_owned(),
            count,
            is_fault: false,
        }
    }
}

/// A scenario with its options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Scenario {
    Connect(args::Connect),
    Fanout(args::Fanout),
    Publish(args::Publish),
    Chat(args::Chat),
    Churn(args::Churn),
    Soak(args::Soak),
}

impl Scenario {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Fanout(_) => "fanout",
            Self::Publish(_) => "publish",
            Self::Chat(_) => "chat",
            Self::Churn(_) => "churn",
            Self::Soak(_) => "soak",
        }
    }

    /// Connections of all workers at once, at most.
    pub(crate) fn connections(&self) -> u64 {
        let count = |numbers: &[u32]| numbers.iter().map(|&n| u64::from(n)).sum();
        match self {
            Self::Connect(o) => o.levels.iter().max().map_or(0, |&level| level.into()),
            Self::Fanout(o) => count(&[o.subscribers, o.stalled]),
            Self::Publish(o) => {
                count(&[o.connections, o.existing.div_ceil(publish::EXISTING_EACH)])
            }
            Self::Chat(o) => count(&[o.rooms * o.members]),
            Self::Churn(o) if o.of == args::Churning::Storm => count(&[o.connections, o.observers]),
            Self::Churn(o) => count(&[o.connections]),
            Self::Soak(o) => count(&[o.subscribers, o.rooms * o.members, cycle::AT_ONCE_MAX]),
        }
    }

    /// What the progress line and the timeline show.
    pub(crate) fn shown(&self) -> (Count, Span) {
        match self {
            Self::Connect(_) => (Count::Opened, Span::Connect),
            Self::Fanout(_) => (Count::Delivered, Span::Delivery),
            Self::Publish(_) => (Count::Published, Span::Answer),
            Self::Chat(o) if o.rate > 0.0 => (Count::Passed, Span::Pass),
            Self::Chat(_) => (Count::Joined, Span::Join),
            Self::Churn(o) => match o.of {
                args::Churning::Connections => (Count::Cycles, Span::Cycle),
                args::Churning::Rooms => (Count::Switched, Span::Switch),
                args::Churning::Storm => (Count::Returned, Span::Connect),
            },
            Self::Soak(_) => (Count::Delivered, Span::Delivery),
        }
    }

    /// The loads of one worker. The group of each is its place.
    pub(crate) fn loads(plan: &Plan) -> Vec<Box<dyn Load>> {
        match &plan.scenario {
            Self::Connect(o) => vec![Box::new(connect::Connect::new(0, o, plan))],
            Self::Fanout(o) => vec![Box::new(fanout::Fanout::new(0, o, plan))],
            Self::Publish(o) => vec![Box::new(publish::Publish::new(0, o, plan))],
            Self::Chat(o) => vec![Box::new(chat::Chat::new(0, o, plan))],
            Self::Churn(o) => match o.of {
                args::Churning::Connections => {
                    let channels = subscription::Channels::new("cycle", o.kind, o.channels, plan);
                    vec![Box::new(cycle::Cycle::new(
                        0,
                        o.connections,
                        o.rate,
                        channels,
                        plan,
                    ))]
                }
                args::Churning::Rooms => vec![Box::new(rooms::Rooms::new(0, o, plan))],
                args::Churning::Storm => {
                    let observed = fanout::observed(o);
                    vec![
                        Box::new(fanout::Fanout::new(0, &observed, plan)),
                        Box::new(storm::Storm::new(1, o, plan)),
                    ]
                }
            },
            Self::Soak(o) => {
                let channels = subscription::Channels::new("cycle", args::Kind::Public, 100, plan);
                vec![
                    Box::new(fanout::Fanout::new(0, &fanout::of_soak(o), plan)),
                    Box::new(chat::Chat::new(1, &chat::of_soak(o), plan)),
                    Box::new(cycle::Cycle::new(
                        2,
                        cycle::AT_ONCE_MAX,
                        Some(o.cycles),
                        channels,
                        plan,
                    )),
                ]
            }
        }
    }

    /// Whether it publishes to subscribers: then what they are owed is known only when all answers
    /// have come.
    pub(crate) fn publishes_to_subscribers(&self) -> bool {
        match self {
            Self::Fanout(_) | Self::Soak(_) => true,
            Self::Churn(o) => o.of == args::Churning::Storm,
            Self::Connect(_) | Self::Publish(_) | Self::Chat(_) => false,
        }
    }
}
