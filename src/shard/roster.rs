//! The roster: presence members at the home shard; one user may have many connections.
//!
//! Members are kept in the order of joining, each with its escaped pieces of the roster frame, so
//! that writing a roster is copying (decisions 34). Exact under any interleaving: a connection
//! joins once and leaves once, and a leave of what is not here is nothing (decisions 13).

use std::collections::{BTreeMap, HashMap};

use crate::pusher::presence::RosterPiece;

use super::message::{Member, SessionKey};

/// What a join changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinedAs {
    /// The user's first connection: to be announced.
    First,
    /// One more connection of a member.
    Another,
}

/// What a leave changed.
#[derive(Debug)]
pub enum LeftAs {
    /// The user's last connection: to be announced.
    Last {
        user_id: Box<str>,
        piece: RosterPiece,
    },
    /// The user still has a connection.
    StillHere,
}

#[derive(Debug)]
struct Connection {
    session: SessionKey,
    subscription: u32,
    /// What this connection said of the user, where it differs from what the oldest said.
    user_info: Option<Box<str>>,
}

#[derive(Debug)]
struct User {
    user_id: Box<str>,
    /// What the oldest live connection said.
    user_info: Box<str>,
    /// The two above as they stand in frames.
    piece: RosterPiece,
    /// In the order of joining.
    connections: Vec<Connection>,
}

/// The members of a presence channel.
#[derive(Debug, Default)]
pub struct Roster {
    /// By the number of the join.
    users: BTreeMap<u64, User>,
    by_id: HashMap<Box<str>, u64>,
    by_session: HashMap<SessionKey, u64>,
    joins: u64,
}

impl Roster {
    /// Whether the user has a connection here.
    pub fn has(&self, user_id: &str) -> bool {
        self.by_id.contains_key(user_id)
    }

    /// Adds a connection of a user.
    pub fn join(&mut self, session: SessionKey, subscription: u32, member: Member) -> JoinedAs {
        let Member { user_id, user_info } = member;
        if let Some(&number) = self.by_id.get(&user_id)
            && let Some(user) = self.users.get_mut(&number)
        {
            let user_info = (user_info != user.user_info).then_some(user_info);
            user.connections.push(Connection {
                session,
                subscription,
                user_info,
            });
            self.by_session.insert(session, number);
            return JoinedAs::Another;
        }
        self.joins += 1;
        self.by_id.insert(user_id.clone(), self.joins);
        self.by_session.insert(session, self.joins);
        let connections = vec![Connection {
            session,
            subscription,
            user_info: None,
        }];
        let piece = RosterPiece::new(&user_id, &user_info);
        self.users.insert(
            self.joins,
            User {
                user_id,
                user_info,
                piece,
                connections,
            },
        );
        JoinedAs::First
    }

    /// Removes a connection; `None` where that subscription is not here.
    pub fn leave(&mut self, session: SessionKey, subscription: u32) -> Option<LeftAs> {
        let number = *self.by_session.get(&session)?;
        let user = self.users.get_mut(&number)?;
        let is_it = |c: &Connection| c.session == session && c.subscription == subscription;
        let nth = user.connections.iter().position(is_it)?;
        user.connections.remove(nth);
        self.by_session.remove(&session);
        let Some(oldest) = user.connections.first_mut() else {
            let user = self.users.remove(&number)?;
            self.by_id.remove(&user.user_id);
            let User { user_id, piece, .. } = user;
            return Some(LeftAs::Last { user_id, piece });
        };
        if nth == 0
            && let Some(said) = oldest.user_info.take()
        {
            let before = std::mem::replace(&mut user.user_info, said);
            user.piece = RosterPiece::new(&user.user_id, &user.user_info);
            for other in &mut user.connections[1..] {
                other.user_info = match other.user_info.take() {
                    None => Some(before.clone()),
                    Some(said) if said == user.user_info => None,
                    said => said,
                };
            }
        }
        Some(LeftAs::StillHere)
    }

    /// Distinct users.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Connections.
    pub fn connections(&self) -> usize {
        self.by_session.len()
    }

    /// Ids of the users and what is shown of them, as JSON text, in the order of joining.
    pub fn users_with_info(&self) -> impl Iterator<Item = (&str, &str)> {
        self.users
            .values()
            .map(|user| (&*user.user_id, &*user.user_info))
    }

    /// The members as they stand in frames, in the order of joining.
    pub fn iter(&self) -> impl Iterator<Item = &RosterPiece> + Clone {
        self.users.values().map(|user| &user.piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> SessionKey {
        SessionKey {
            node: 0,
            shard: 0,
            slot,
            generation: 1,
        }
    }

    fn member(user_id: &str, user_info: &str) -> Member {
        Member {
            user_id: user_id.into(),
            user_info: user_info.into(),
        }
    }

    #[test]
    fn first_and_last_connection_of_a_user_are_told_apart() {
        let mut roster = Roster::default();
        assert_eq!(roster.join(key(1), 1, member("u1", "{}")), JoinedAs::First);
        assert_eq!(
            roster.join(key(2), 1, member("u1", "{}")),
            JoinedAs::Another
        );
        assert_eq!((roster.users(), roster.connections()), (1, 2));
        assert!(matches!(roster.leave(key(1), 1), Some(LeftAs::StillHere)));
        let Some(LeftAs::Last { user_id, piece }) = roster.leave(key(2), 1) else {
            panic!("still here")
        };
        assert_eq!(&*user_id, "u1");
        assert_eq!(piece.id(), br#"\"u1\""#);
        assert_eq!((roster.users(), roster.connections()), (0, 0));
    }

    #[test]
    fn leaving_what_is_not_here_is_nothing() {
        let mut roster = Roster::default();
        roster.join(key(1), 7, member("u1", "{}"));
        assert!(roster.leave(key(2), 7).is_none());
        assert!(roster.leave(key(1), 6).is_none());
        assert_eq!(roster.users(), 1);
    }

    #[test]
    fn info_of_the_oldest_live_connection_is_shown() {
        let mut roster = Roster::default();
        roster.join(key(1), 1, member("u1", "1"));
        roster.join(key(2), 1, member("u1", "2"));
        roster.join(key(3), 1, member("u1", "1"));
        let shown = |roster: &Roster| roster.iter().map(|piece| piece.info().to_vec()).next();
        assert_eq!(shown(&roster).as_deref(), Some(&b"1"[..]));
        roster.leave(key(1), 1);
        assert_eq!(shown(&roster).as_deref(), Some(&b"2"[..]));
        roster.leave(key(2), 1);
        assert_eq!(shown(&roster).as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn members_are_listed_in_the_order_of_joining() {
        let mut roster = Roster::default();
        for (slot, user) in ["c", "a", "b"].iter().enumerate() {
            roster.join(key(slot as u32), 1, member(user, "{}"));
        }
        roster.leave(key(1), 1);
        roster.join(key(9), 1, member("a", "{}"));
        let ids: Vec<&[u8]> = roster.iter().map(RosterPiece::id).collect();
        assert_eq!(ids, [br#"\"c\""#, br#"\"b\""#, br#"\"a\""#]);
    }
}
