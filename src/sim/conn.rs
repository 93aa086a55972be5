//! The server's side of connections, as tasks of `net` would do it: accept, read, hold back, leave.
//!
//! While a subscribe waits for its home a connection's texts are held; pings and a Close are not
//! (decisions 12). When a stream ends its guard only puts the key aside (decisions 14).

use std::collections::VecDeque;

use crate::shard::message::SessionKey;
use crate::shard::open::Upgrade;
use crate::shard::text::Next;

use super::client::{Action, Expect};
use super::keyed::Question;
use super::peer::{Input, UPGRADED};
use super::plan::{APPS, Rule};
use super::text;
use super::world::World;

/// Messages of one connection that a turn reads.
const READS_MAX: usize = 8;

/// A connection of a shard.
pub(super) struct Task {
    pub(super) peer: usize,
    pub(super) key: SessionKey,
    pub(super) fd: i32,
    /// Texts that wait for `Joined`.
    pub(super) held: VecDeque<(Action, String)>,
    /// The kernel has refused bytes.
    pub(super) blocked: bool,
    /// Its outbox is half full: nothing is read.
    pub(super) paused: bool,
    /// The guard has been dropped.
    pub(super) left: bool,
    /// Its last request waits for answers: no further one is read.
    pub(super) question: Option<Question>,
}

impl World {
    /// Input of shard `at`: accepts, then every connection's turn to be written to and read from.
    pub(super) fn input(&mut self, at: usize) {
        self.nodes[at].shard.on_time(self.now);
        while self.nodes[at].shard.may_read()
            && let Some(peer) = self.nodes[at].backlog.pop_front()
        {
            self.accept(at, peer);
        }
        for slot in 0..self.nodes[at].tasks.len() {
            self.watch(at, slot);
            self.read(at, slot);
        }
    }

    fn accept(&mut self, at: usize, peer: usize) {
        let fd = self.kernel.open(peer);
        let node = &mut self.nodes[at];
        let key = node.shard.on_accept(fd);
        let slot = key.slot as usize;
        if node.tasks.len() <= slot {
            node.tasks.resize_with(slot + 1, || None);
        }
        assert!(node.tasks[slot].is_none(), "slot {slot} is given out twice");
        node.tasks[slot] = Some(Task {
            peer,
            key,
            fd,
            held: VecDeque::new(),
            blocked: false,
            paused: false,
            left: false,
            question: None,
        });
        if let Some(client) = self.peers[peer].client() {
            client.key = Some(key);
        }
    }

    /// A blocked socket that takes bytes again.
    fn watch(&mut self, at: usize, slot: usize) {
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot]
            .as_mut()
            .filter(|task| task.blocked && !task.left)
        else {
            return;
        };
        let socket = self.kernel.socket(task.fd);
        let gone = self.peers[task.peer].gone;
        if gone || socket.is_some_and(|socket| socket.takes()) {
            task.blocked = false;
            node.shard.on_writable(task.key);
        }
    }

    fn read(&mut self, at: usize, slot: usize) {
        for _ in 0..READS_MAX {
            let node = &mut self.nodes[at];
            let Some(task) = node.tasks[slot].as_mut() else {
                return;
            };
            if task.left || task.paused || task.question.is_some() || !node.shard.may_read() {
                return;
            }
            let peer = &mut self.peers[task.peer];
            let Some(input) = peer.to_server.pop_front() else {
                if peer.gone {
                    self.drop_guard(at, slot);
                }
                return;
            };
            self.on_input(at, slot, input);
            let node = &mut self.nodes[at];
            if let Some(task) = node.tasks[slot].as_mut() {
                task.paused = node.shard.pause_if_half_full(slot as u32);
            }
        }
    }

    /// The stream of a connection has ended.
    pub(super) fn drop_guard(&mut self, at: usize, slot: usize) {
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_mut().filter(|task| !task.left) else {
            return;
        };
        task.left = true;
        node.departed.push(task.key);
        // Rule 14 off: the guard closes the descriptor itself.
        if self.plan.off == Some(Rule::CloseLast) {
            self.kernel.close(task.fd);
        }
    }

    fn on_input(&mut self, at: usize, slot: usize, input: Input) {
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_mut() else {
            return;
        };
        match input {
            Input::Upgrade => self.open(at, slot),
            Input::Text(action, text) => {
                if node.shard.is_waiting(slot as u32) || !task.held.is_empty() {
                    task.held.push_back((action, text));
                } else {
                    self.text(at, slot, &action, &text);
                }
            }
            Input::Ping(payload) => {
                if node.shard.is_open(slot as u32)
                    && let Some(client) = self.peers[task.peer].client()
                {
                    client.pongs.push(payload.clone());
                }
                node.shard.on_ping(slot as u32, &payload);
            }
            Input::Pong => node.shard.on_pong(slot as u32),
            Input::Close(code) => node.shard.on_close(slot as u32, code),
            Input::Request(request) => self.request(at, slot, request),
            Input::Terminate { number, channel } => self.terminate(at, slot, number, channel),
            Input::Query { number, subject } => self.query(at, slot, number, subject),
        }
    }

    fn open(&mut self, at: usize, slot: usize) {
        let random = (self.chance.next(), self.chance.next() as u16);
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_ref() else {
            return;
        };
        let Some(client) = self.peers[task.peer].client() else {
            return;
        };
        let (_, key, _) = APPS[client.app];
        node.shard
            .answer_http(slot as u32, |out| out.extend_from_slice(UPGRADED));
        let refusal = match node.shard.apps().by_id(key) {
            None => Some(4001),
            Some(app) if !app.settings.enabled => Some(4003),
            Some(app) => {
                let max = app.settings.connections_max;
                let full = max.is_some_and(|max| app.quota.taken() >= max);
                full.then_some(4004)
            }
        };
        let draining = node.shard.is_draining();
        let refusal = refusal.or_else(|| draining.then_some(4200));
        let upgrade = Upgrade {
            key: Some(key),
            protocol: Some(if client.sockudo { "2" } else { "7" }),
            origin: None,
            tls: false,
            too_often: false,
            random,
        };
        let opened = node.shard.on_open(slot as u32, upgrade);
        assert_eq!(opened, refusal.is_none());
        client
            .expected
            .push_back(refusal.map_or(Expect::Greeting, |code| Expect::Error(Some(code))));
    }

    fn text(&mut self, at: usize, slot: usize, action: &Action, text: &str) {
        let sight = match action {
            Action::SignIn(sign_in) => Some(self.sight(sign_in)),
            _ => None,
        };
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_ref() else {
            return;
        };
        let is_open = node.shard.is_open(slot as u32);
        let refused = node.shard.counters.client_events_refused;
        let sockudo = self.peers[task.peer].client().is_some_and(|c| c.sockudo);
        let text = text::spoken(text, sockudo);
        let next = node.shard.on_text(slot as u32, &text);
        let Some(client) = self.peers[task.peer].client().filter(|_| is_open) else {
            return;
        };
        let refused = node.shard.counters.client_events_refused > refused;
        let waits = client.on_handled(action, refused, &mut self.model);
        if let (Action::SignIn(sign_in), Some(sight)) = (action, sight) {
            client.on_sign_in(sign_in, &sight, &mut self.model);
        }
        assert_eq!(next, if waits { Next::Wait } else { Next::Go }, "{text}");
        if let Action::Event { channel, number } = *action
            && !refused
        {
            let except = client.socket_id;
            self.pass_by(at, number, channel, except, None);
        }
    }

    /// The subscribe that a session waited for is answered: what it has sent since goes on.
    pub(super) fn resume(&mut self, at: usize, key: SessionKey) {
        let slot = key.slot as usize;
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_ref().filter(|task| task.key == key) else {
            return;
        };
        if node.shard.is_open(key.slot)
            && let Some(client) = self.peers[task.peer].client()
        {
            client.on_resumed(&self.model);
        }
        while !self.nodes[at].shard.is_waiting(key.slot)
            && let Some(task) = self.nodes[at].tasks[slot].as_mut()
            && let Some((action, text)) = task.held.pop_front()
        {
            self.text(at, slot, &action, &text);
        }
    }
}
