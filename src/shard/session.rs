//! `Session`: one client's app, subscriptions and allowances; 72 bytes a connection, the rarely
//! used behind `extra`.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::pusher::delta::{Algorithm, Wish};
use crate::pusher::dialect::Dialect;
use crate::pusher::filter::Filter;
use crate::pusher::socket_id::SocketId;

use super::groups::GroupId;
use super::message::Member;

/// From this many subscriptions on, a connection finds them through a map; a scan would make a
/// burst quadratic.
pub const SUBSCRIPTIONS_SCANNED_MAX: usize = 32;

/// The protocol version that the V2 clients of Sockudo ask for; Pusher's own is long dead.
pub const SOCKUDO_PROTOCOL: u8 = 2;

/// One committed subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sub {
    /// Index of the local channel.
    pub channel: u32,
    /// Index in the entries of its group at the channel.
    pub position: u32,
    /// What is kept beside it: see [`Beside`].
    beside: u32,
}

/// What a subscription keeps beside its place, in one word.
enum Beside {
    /// Its group of the channel and nothing else.
    Group(GroupId),
    /// What is at this index of `Extra::records`.
    Record(u32),
}

impl Sub {
    /// This bit says that the others are a group.
    const GROUP: u32 = 1 << 31;

    fn beside(self) -> Beside {
        match self.beside & Self::GROUP {
            0 => Beside::Record(self.beside),
            _ => Beside::Group(GroupId::from_bits(self.beside & !Self::GROUP)),
        }
    }

    fn in_group(group: GroupId) -> u32 {
        group.bits() | Self::GROUP
    }
}

/// What a presence subscription keeps.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The number of the ticket that joined.
    pub subscription: u32,
    pub user_id: Box<str>,
}

/// What a subscription keeps that is not like most.
#[derive(Clone, Debug)]
pub struct Record {
    /// Presence channels only.
    pub membership: Option<Membership>,
    /// The group of the channel that it is in.
    pub group: GroupId,
    /// It is to have no deltas, whatever its connection asks for later.
    pub refuses_deltas: bool,
}

/// What a subscribe asks for beyond the plain protocol.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub filter: Option<Arc<Filter>>,
    pub delta: Wish,
}

/// The one subscribe that waits for its home (decisions 12).
#[derive(Clone, Debug)]
pub struct Pending {
    /// Index of the local channel.
    pub channel: u32,
    pub subscription: u32,
    /// Presence channels only.
    pub member: Option<Box<Member>>,
    pub terms: Terms,
}

/// Who is signed in on a connection (WebSocket spec 14).
#[derive(Debug)]
pub struct User {
    /// Index of the local channel whose entries are the connections signed in as this user.
    pub channel: u32,
    /// JSON text, for presence channels; `None` where it is larger than they take.
    pub user_info: Option<Box<str>>,
    /// Whether the client has subscribed to the user's channel. It is told so, and that is all.
    pub is_subscribed: bool,
    /// Whether the user was terminated, and the connection waits for its Close.
    pub is_terminated: bool,
    /// The number under which the user's home has the connection's watchlist; 0: it has none.
    pub watchlist: u32,
    /// Whether the watchlist's first frame has come: transitions follow it (decisions 44).
    pub is_watching: bool,
}

impl User {
    /// A user who has only just signed in.
    pub fn new(channel: u32) -> Self {
        Self {
            channel,
            user_info: None,
            is_subscribed: false,
            is_terminated: false,
            watchlist: 0,
            is_watching: false,
        }
    }
}

/// What few sessions need.
#[derive(Debug, Default)]
pub struct Extra {
    pub pending: Option<Pending>,
    /// [`Beside::Record`] points here.
    pub records: Vec<Option<Record>>,
    /// Indexes of `records` that are free.
    holes: Vec<u32>,
    /// Local channel to index in `subs`, from [`SUBSCRIPTIONS_SCANNED_MAX`] on.
    pub index: Option<HashMap<u32, u32>>,
    /// Numbers of subscribe attempts that asked a home, and of watchlists; never given twice.
    pub tickets: u32,
    pub user: Option<User>,
}

/// How many of something a session may do in a second that begins with the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    started_ms: u32,
    used: u32,
}

impl Allowance {
    /// Counts one at `now_ms`; false when the second's `max` is used up, and then nothing is
    /// counted.
    pub fn take(&mut self, now_ms: u64, max: u32) -> bool {
        let now_ms = now_ms as u32;
        if self.used == 0 || now_ms.wrapping_sub(self.started_ms) >= 1000 {
            *self = Self {
                started_ms: now_ms,
                used: 0,
            };
        }
        if self.used >= max {
            return false;
        }
        self.used += 1;
        true
    }
}

/// One client's Pusher state.
#[derive(Debug, Default)]
pub struct Session {
    /// Present exactly while the session exists.
    pub socket_id: Option<SocketId>,
    /// Index of the app.
    pub app: u32,
    /// The protocol version it asked for, 2 or 4 to 7 (WebSocket spec 1.2).
    pub protocol: u8,
    /// It has asked for deltas by this algorithm on all its subscriptions.
    pub delta: Option<Algorithm>,
    /// When the ping that is out entered the kernel, in seconds of the shard's time.
    pub pinged_secs: u32,
    /// The second of the shard's time before which it must authorise itself; 0: it has, or need
    /// not (WebSocket spec 14.1).
    pub authorise_by: u32,
    pub client_events: Allowance,
    pub messages: Allowance,
    pub subs: SmallVec<[Sub; 2]>,
    pub extra: Option<Box<Extra>>,
}

impl Session {
    /// The prefix of its platform events.
    pub fn dialect(&self) -> Dialect {
        match self.protocol {
            SOCKUDO_PROTOCOL => Dialect::Sockudo,
            _ => Dialect::Pusher,
        }
    }

    /// The rarely used part, made when first needed.
    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The subscribe that waits for its home.
    pub fn pending(&self) -> Option<&Pending> {
        self.extra.as_ref()?.pending.as_ref()
    }

    /// Who is signed in.
    pub fn user(&self) -> Option<&User> {
        self.extra.as_ref()?.user.as_ref()
    }

    /// The same, to change.
    pub fn user_mut(&mut self) -> Option<&mut User> {
        self.extra.as_mut()?.user.as_mut()
    }

    /// Where in `subs` the subscription to a local channel is.
    pub fn find(&self, channel: u32) -> Option<u32> {
        if let Some(index) = self.extra.as_ref().and_then(|extra| extra.index.as_ref()) {
            return index.get(&channel).copied();
        }
        self.subs
            .iter()
            .position(|sub| sub.channel == channel)
            .map(|nth| nth as u32)
    }

    /// Adds a subscription and returns its index.
    pub fn add(&mut self, channel: u32, position: u32, record: Record) -> u32 {
        let beside = match record {
            Record {
                membership: None,
                group,
                refuses_deltas: false,
            } => Sub::in_group(group),
            record => self.keep(record),
        };
        let nth = self.subs.len() as u32;
        self.subs.push(Sub {
            channel,
            position,
            beside,
        });
        if let Some(index) = self.extra.as_mut().and_then(|extra| extra.index.as_mut()) {
            index.insert(channel, nth);
        } else if self.subs.len() > SUBSCRIPTIONS_SCANNED_MAX {
            let map = self
                .subs
                .iter()
                .zip(0..)
                .map(|(sub, nth)| (sub.channel, nth))
                .collect();
            self.extra().index = Some(map);
        }
        nth
    }

    fn keep(&mut self, record: Record) -> u32 {
        let extra = self.extra();
        match extra.holes.pop() {
            Some(hole) => {
                extra.records[hole as usize] = Some(record);
                hole
            }
            None => {
                extra.records.push(Some(record));
                (extra.records.len() - 1) as u32
            }
        }
    }

    /// The subscription at `nth` is in another group now, at this place.
    pub fn regroup(&mut self, nth: u32, group: GroupId, position: u32) {
        let Some(sub) = self.subs.get_mut(nth as usize) else {
            return;
        };
        sub.position = position;
        match sub.beside() {
            Beside::Group(_) => sub.beside = Sub::in_group(group),
            Beside::Record(at) => {
                let record = self
                    .extra
                    .as_mut()
                    .and_then(|extra| extra.records.get_mut(at as usize));
                if let Some(Some(record)) = record {
                    record.group = group;
                }
            }
        }
    }

    /// Removes the subscription at `nth`; the last one takes its place. Returns what was removed,
    /// what it kept, and the subscription that moved to `nth`, whose entry at its channel must be
    /// told.
    pub fn remove(&mut self, nth: u32) -> (Sub, Option<Record>, Option<Sub>) {
        let removed = self.subs.swap_remove(nth as usize);
        let moved = self.subs.get(nth as usize).copied();
        let record = self.extra.as_mut().and_then(|extra| {
            let Beside::Record(at) = removed.beside() else {
                return None;
            };
            let record = extra.records.get_mut(at as usize)?.take()?;
            extra.holes.push(at);
            Some(record)
        });
        if let Some(index) = self.extra.as_mut().and_then(|extra| extra.index.as_mut()) {
            index.remove(&removed.channel);
            if let Some(moved) = moved {
                index.insert(moved.channel, nth);
            }
        }
        (removed, record, moved)
    }

    /// What a subscription keeps, if it is not like most.
    pub fn record(&self, sub: Sub) -> Option<&Record> {
        let Beside::Record(at) = sub.beside() else {
            return None;
        };
        self.extra.as_ref()?.records.get(at as usize)?.as_ref()
    }

    /// The group of the channel that a subscription is in.
    pub fn group(&self, sub: Sub) -> GroupId {
        match sub.beside() {
            Beside::Group(group) => group,
            Beside::Record(_) => self
                .record(sub)
                .map_or(GroupId::PLAIN, |record| record.group),
        }
    }

    /// The user id of a presence subscription.
    pub fn user_id(&self, sub: Sub) -> Option<&str> {
        Some(&self.record(sub)?.membership.as_ref()?.user_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Record = Record {
        membership: None,
        group: GroupId::PLAIN,
        refuses_deltas: false,
    };

    #[test]
    fn subscriptions_are_found_before_and_after_the_map_takes_over() {
        let mut session = Session::default();
        for channel in 0..100 {
            assert_eq!(session.add(channel, channel, PLAIN), channel);
            assert!((0..=channel).all(|c| session.find(c) == Some(c)));
        }
        let (removed, _, moved) = session.remove(10);
        assert_eq!(removed.channel, 10);
        assert_eq!(moved.map(|sub| sub.channel), Some(99));
        assert_eq!(session.find(99), Some(10));
        assert_eq!(session.find(10), None);
    }

    #[test]
    fn removing_the_last_subscription_moves_none() {
        let mut session = Session::default();
        session.add(5, 0, PLAIN);
        let (removed, record, moved) = session.remove(0);
        assert_eq!(removed.channel, 5);
        assert!(record.is_none() && moved.is_none() && session.subs.is_empty());
    }

    #[test]
    fn membership_leaves_with_its_subscription() {
        let mut session = Session::default();
        let membership = Membership {
            subscription: 3,
            user_id: "u1".into(),
        };
        let record = Record {
            membership: Some(membership),
            ..PLAIN
        };
        session.add(1, 0, PLAIN);
        session.add(2, 0, record);
        let sub = session.subs[1];
        assert_eq!(session.user_id(sub), Some("u1"));
        assert_eq!(session.user_id(session.subs[0]), None);
        let (_, record, _) = session.remove(1);
        let membership = record.and_then(|record| record.membership);
        assert_eq!(membership.map(|m| m.subscription), Some(3));
        assert_eq!(session.user_id(sub), None);
    }

    #[test]
    fn allowance_is_exact_at_its_bound_and_starts_anew_after_a_second() {
        let mut allowance = Allowance::default();
        assert!((0..10).all(|_| allowance.take(1500, 10)));
        assert!(!allowance.take(2499, 10));
        assert!(allowance.take(2500, 10));
        assert!(!Allowance::default().take(2500, 0));
    }

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 88, "{}", size_of::<Session>());
    }
}
