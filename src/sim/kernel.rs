//! The kernel: descriptors, and sockets that take all, some or nothing of what they are offered.
//!
//! The lowest free descriptor is given out again at once, as a real kernel does, and every send is
//! checked: bytes meant for one connection must not reach the next one with the same number
//! (decisions 14).

use crate::clock::Now;
use crate::seed::Seed;
use crate::shard::flush::Sent;

/// How willing a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Takes whatever it is offered.
    Takes,
    /// Takes one byte to all, sometimes none.
    Trickles,
    /// Takes nothing.
    Stuck,
}

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    /// Whose it is.
    pub(super) peer: usize,
    pub(super) mood: Mood,
    /// Since when it has taken nothing, while it owes the server a refused rest.
    pub(super) refused: Option<Now>,
}

impl Socket {
    /// Whether the next send may take something.
    pub(super) fn takes(&self) -> bool {
        self.mood != Mood::Stuck
    }
}

/// All descriptors of the process.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    sockets: Vec<Option<Socket>>,
}

impl Kernel {
    /// Gives a connection the lowest free descriptor.
    pub(super) fn open(&mut self, peer: usize) -> i32 {
        let socket = Some(Socket {
            peer,
            mood: Mood::Takes,
            refused: None,
        });
        let fd = match self.sockets.iter().position(Option::is_none) {
            Some(fd) => {
                self.sockets[fd] = socket;
                fd
            }
            None => {
                self.sockets.push(socket);
                self.sockets.len() - 1
            }
        };
        fd as i32
    }

    /// Closes a descriptor, whose number is free from now on.
    pub(super) fn close(&mut self, fd: i32) {
        let socket = self.sockets[fd as usize].take();
        assert!(socket.is_some(), "descriptor {fd} is closed twice");
    }

    pub(super) fn socket(&mut self, fd: i32) -> Option<&mut Socket> {
        self.sockets.get_mut(fd as usize)?.as_mut()
    }

    /// Sockets that are open.
    pub(super) fn open_sockets(&mut self) -> impl Iterator<Item = &mut Socket> {
        self.sockets.iter_mut().flatten()
    }

    /// Offers bytes that the server means for `peer`. `gone` says whether the other end is closed.
    pub(super) fn send(
        &mut self,
        fd: i32,
        peer: usize,
        offered: usize,
        gone: bool,
        now: Now,
        chance: &mut Seed,
    ) -> Sent {
        let socket = self.sockets.get_mut(fd as usize).and_then(Option::as_mut);
        let socket = socket.unwrap_or_else(|| panic!("a send to descriptor {fd}, which is closed"));
        assert_eq!(
            socket.peer, peer,
            "bytes for connection {peer} went to {} through descriptor {fd}",
            socket.peer
        );
        if gone && chance.below(3) == 0 {
            return Sent::Failed;
        }
        let taken = match socket.mood {
            Mood::Takes => offered,
            Mood::Trickles => chance.below(offered + 1),
            Mood::Stuck => 0,
        };
        if taken < offered && (taken > 0 || socket.refused.is_none()) {
            socket.refused = Some(now);
        }
        match taken {
            0 if offered > 0 => Sent::Refused,
            taken => Sent::Bytes(taken),
        }
    }
}
