//! What peers do: they come, subscribe, leave, return, publish, vanish; sockets and shards have
//! their moods. Weighted towards what goes wrong: few channels, last subscribers who leave and
//! return, deaths while a subscribe is pending, slots and descriptors that are reused at once.

use std::rc::Rc;

use crate::clock::Now;
use crate::pusher::delta::Algorithm;
use crate::pusher::signature::SigningKey;
use crate::pusher::socket_id::SocketId;

use super::client::{Action, Client, Rules};
use super::deltas::WISHES;
use super::kernel::Mood;
use super::peer::{Input, Kind, Peer, Publisher, Request};
use super::plan::APPS;
use super::publish::{API_EVENT, CLIENT_EVENT};
use super::query::{PREFIXES, Subject};
use super::sieve::{Sieve, Tags};
use super::text;
use super::world::World;

/// Users of presence channels.
const USERS: [&str; 4] = ["u1", "u2", "u3", "u4"];
const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;
/// The message of a client that makes no sense.
const NONSENSE: &str = "{\"event\":7}";

impl World {
    /// Perhaps somebody does something.
    pub(super) fn act(&mut self) {
        self.react();
        let roll = self.chance.below(1000);
        match roll {
            640..=759 if self.scene.crowd && roll.is_multiple_of(3) => self.vanish(),
            640..=759 if self.scene.crowd => self.connect(),
            0..=339 => self.some_client(),
            340..=639 => self.some_publisher(),
            640..=719 => self.connect(),
            720..=724 => self.vanish(),
            725..=759 if self.scene.slow => self.change_mood(),
            760..=766 => self.trouble_shard(),
            767..=769 => self.reload(),
            _ => {}
        }
    }

    /// Clients that have got a Close or the end of the stream close their own end, sooner or later.
    pub(super) fn react(&mut self) {
        for nth in (0..self.present.len()).rev() {
            let at = self.present[nth];
            let peer = &mut self.peers[at];
            let is_closed =
                peer.finished || peer.client().is_some_and(|client| client.closed.is_some());
            if is_closed && self.chance.below(4) == 0 {
                self.check_close(at);
                self.peers[at].gone = true;
                self.present.swap_remove(nth);
            }
        }
    }

    fn count(&mut self, is_client: bool) -> usize {
        let peers = &self.peers;
        let is_it = |&&at: &&usize| matches!(peers[at].kind, Kind::Client(_)) == is_client;
        self.present.iter().filter(is_it).count()
    }

    fn connect(&mut self) {
        let shard = self.chance.below(self.nodes.len());
        if self.chance.below(4) == 0 {
            if self.count(false) < self.scene.publishers_max {
                self.arrive(shard, Kind::Publisher(Publisher::default()));
            }
        } else if self.count(true) < self.scene.clients_max {
            self.connect_client(shard);
        }
    }

    fn connect_client(&mut self, shard: usize) -> usize {
        let channel = self.some_channel();
        let app = self.model.channels[channel].app;
        let settings = &self.scene.settings;
        let found = self.scene.apps.by_index(APPS[app].0);
        let of_app = &found.expect("the app is there").settings;
        let rules = Rules {
            subscription_errors: settings.subscription_errors,
            subscriptions_max: settings.subscriptions_per_connection_max,
            watchlist_users_max: of_app
                .watchlist
                .then_some(of_app.watchlist_users_max as usize),
            authorized_connections: of_app.authorized_connections,
            tag_filtering: of_app.tag_filtering,
            tags_in_messages: of_app.tags_in_messages,
            deltas: Rc::new(of_app.clone()),
        };
        let sockudo = self.chance.below(4) == 0;
        let client = Client::new(app, shard, sockudo, rules);
        let at = self.arrive(shard, Kind::Client(Box::new(client)));
        self.peers[at].to_server.push_back(Input::Upgrade);
        at
    }

    fn arrive(&mut self, shard: usize, kind: Kind) -> usize {
        let at = self.peers.len();
        self.peers.push(Peer::new(shard, kind));
        self.present.push(at);
        self.nodes[shard].backlog.push_back(at);
        at
    }

    fn some_channel(&mut self) -> usize {
        self.scene.channels[self.chance.below(self.scene.channels.len())]
    }

    fn some_peer(&mut self, is_client: bool) -> Option<usize> {
        let first = self.chance.below(self.present.len().max(1));
        let (before, after) = self.present.split_at(first.min(self.present.len()));
        let peers = &self.peers;
        let mut peers = after.iter().chain(before).filter(|&&at| {
            !peers[at].gone && matches!(peers[at].kind, Kind::Client(_)) == is_client
        });
        peers.next().copied()
    }

    /// A client sends something, or several things in one segment.
    fn some_client(&mut self) {
        let Some(at) = self.some_peer(true) else {
            return;
        };
        for _ in 0..1 + self.chance.below(3) {
            self.send_something(at);
        }
        // Death while a subscribe may be pending, and often somebody new in the same slot.
        if self.chance.below(50) == 0 {
            let shard = self.peers[at].shard;
            self.peers[at].gone = true;
            self.present.retain(|&present| present != at);
            if self.chance.below(2) == 0 {
                let at = self.connect_client(shard);
                self.send_something(at);
            }
        }
    }

    fn send_something(&mut self, at: usize) {
        let channel = self.some_channel();
        let roll = self.chance.below(1000);
        let often = if self.scene.crowd { 2 } else { 8 };
        let signs_in = self.scene.users > 0 && self.chance.below(often) == 0;
        let signed_in = self.scene.users > 0 && self.chance.below(4) == 0;
        let found = &self.model.channels[channel];
        let (is_user, is_presence) = (found.is_user(), found.is_presence());
        let Some(client) = self.peers[at].client() else {
            return;
        };
        if client.closing.is_some() || client.mute {
            return;
        }
        let wants = client.wants.iter().position(|&wanted| wanted == channel);
        let input = match roll {
            _ if signs_in => self.sign_in(at),
            0..=149 if is_user => self.subscribe_user(at, channel, true),
            0..=299 if is_user => self.subscribe_user(at, channel, false),
            0..=599 if is_presence && signed_in && wants.is_none() => {
                self.subscribe_signed_in(at, channel)
            }
            0..=599 if wants.is_none() && !is_user => self.subscribe(at, channel),
            0..=149 => self.unsubscribe(at, channel),
            150..=699 => self.client_event(at, channel),
            700..=799 => Input::Text(Action::Ping, PING.to_owned()),
            800..=919 => Input::Ping(self.chance.next().to_le_bytes().to_vec()),
            920..=929 => Input::Text(Action::Nonsense, NONSENSE.to_owned()),
            930..=934 => {
                client.mute = true;
                return;
            }
            935..=949 if !is_user => self.subscribe(at, channel),
            950..=964 if !is_user => self.unsubscribe(at, channel),
            965..=967 => {
                client.closing = Some(1000);
                Input::Close(None)
            }
            968..=976 => self.enable_deltas(),
            977..=997 => self.resync(at, channel),
            _ => Input::Pong,
        };
        self.peers[at].to_server.push_back(input);
    }

    fn subscribe(&mut self, at: usize, channel: usize) -> Input {
        let user = self.chance.below(USERS.len());
        let info = self.chance.below(3);
        let is_lying = self.chance.below(20) == 0;
        let sieve = (self.chance.below(3) == 0)
            .then(|| Sieve::some(&mut self.chance, [API_EVENT, CLIENT_EVENT]));
        let wish = (self.chance.below(2) == 0).then(|| WISHES[self.chance.below(WISHES.len())]);
        let found = &self.model.channels[channel];
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        let (_, key, secret) = APPS[client.app];
        let valid = !is_lying && (client.socket_id.is_some() || !found.needs_auth());
        let user = found.is_presence().then_some(USERS[user]);
        let data = user.map(|user| format!(r#"{{"user_id":"{user}","user_info":{{"n":{info}}}}}"#));
        let mut signed = client.socket_id.map_or(String::new(), |id| id.to_string());
        signed.push(':');
        signed.push_str(found.name);
        if let Some(data) = &data {
            signed.push(':');
            signed.push_str(data);
        }
        let secret = if is_lying { "guessed" } else { secret };
        let signature = SigningKey::new(secret.as_bytes()).sign_hex(&[signed.as_bytes()]);
        let signature = String::from_utf8_lossy(&signature).into_owned();
        let data = data.map_or(String::new(), |data| {
            format!(r#","channel_data":"{}""#, data.replace('"', r#"\""#))
        });
        let filter = sieve
            .as_ref()
            .map_or(String::new(), |sieve| format!(",{}", sieve.member()));
        let delta = wish.map_or(String::new(), |wish| format!(r#","delta":{}"#, wish.0));
        let text = format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"{}","auth":"{key}:{signature}"{data}{filter}{delta}}}}}"#,
            found.name
        );
        // The model knows channels by app: the same name in the client's own app.
        let channel = self.model.channel(client.app, found.name);
        client.wants.push(channel);
        Input::Text(
            Action::Subscribe {
                channel,
                valid,
                user,
                sieve: sieve.map(Rc::new),
                wish,
            },
            text,
        )
    }

    fn unsubscribe(&mut self, at: usize, channel: usize) -> Input {
        let name = self.model.channels[channel].name;
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        let channel = self.model.channel(client.app, name);
        client.wants.retain(|&wanted| wanted != channel);
        let text = format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{name}"}}}}"#);
        Input::Text(Action::Unsubscribe { channel }, text)
    }

    fn enable_deltas(&mut self) -> Input {
        let (data, algorithm) = [
            ("{}", Some(Algorithm::Fossil)),
            (
                r#"{"algorithms":["xdelta3","fossil"]}"#,
                Some(Algorithm::Xdelta3),
            ),
            (r#"{"algorithms":["zip"]}"#, None),
        ][self.chance.below(3)];
        let text = format!(r#"{{"event":"pusher:enable_delta_compression","data":{data}}}"#);
        Input::Text(Action::EnableDeltas { algorithm }, text)
    }

    /// A client cannot apply what it has got, or says so without a reason.
    fn resync(&mut self, at: usize, channel: usize) -> Input {
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        // Mostly of a channel that it is subscribed to.
        let wanted = client.wants.len();
        let channel = match wanted > 0 && self.chance.below(8) > 0 {
            true => client.wants[self.chance.below(wanted)],
            false => self
                .model
                .channel(client.app, self.model.channels[channel].name),
        };
        let name = self.model.channels[channel].name;
        let text =
            format!(r#"{{"event":"pusher:delta_sync_error","data":{{"channel":"{name}"}}}}"#);
        Input::Text(Action::Resync { channel }, text)
    }

    fn client_event(&mut self, at: usize, channel: usize) -> Input {
        let padding = self.padding();
        let name = self.model.channels[channel].name;
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        let channel = self.model.channel(client.app, name);
        let tags = Tags::default();
        let number = self.model.new_event(CLIENT_EVENT, tags, 1, padding);
        let data = text::data(number, padding);
        let text = text::event(CLIENT_EVENT, name, &data, None);
        Input::Text(Action::Event { channel, number }, text)
    }

    /// Mostly short; sometimes long enough to be cut, rarely so long that a run ends early.
    fn padding(&mut self) -> usize {
        match self.chance.below(40) {
            0 => self.chance.below(9000),
            1..=8 => self.chance.below(900),
            _ => self.chance.below(20),
        }
    }

    fn some_publisher(&mut self) {
        let Some(at) = self.some_peer(false) else {
            return;
        };
        let often = if self.scene.crowd { 6 } else { 16 };
        if self.chance.below(often) == 0 {
            return self.some_termination(at);
        }
        if self.chance.below(4) == 0 {
            return self.some_query(at);
        }
        let app = self.chance.below(APPS.len());
        let name = self.some_channel();
        let mut channels = Vec::new();
        for _ in 0..1 + self.chance.below(3) {
            let channel = self.some_channel();
            if !channels.contains(&channel) && self.model.channels[channel].app == app {
                channels.push(channel);
            }
        }
        if channels.is_empty() {
            channels.push(name);
        }
        let padding = self.padding();
        let padding = if self.chance.below(100) == 0 {
            30_000
        } else {
            padding
        };
        let tags = Tags::some(&mut self.chance);
        let number = self
            .model
            .new_event(API_EVENT, tags, channels.len(), padding);
        let request = Request {
            number,
            channels,
            except: self.some_socket_id(),
            info: self.chance.below(3) == 0,
            key: None,
        };
        // Wished for more often than not: most events here are too short for deltas else.
        let delta = [None, Some(true), Some(true), Some(true), Some(false)][self.chance.below(5)];
        self.model.events[number as usize].delta = delta;
        let request = self.perhaps_keyed(request);
        let number = request.number;
        if let Kind::Publisher(publisher) = &mut self.peers[at].kind {
            publisher.requests.push_back(number);
        }
        self.peers[at].to_server.push_back(Input::Request(request));
    }

    /// A publisher asks something.
    fn some_query(&mut self, at: usize) {
        let channel = self.some_channel();
        let (app, prefix) = (
            self.chance.below(APPS.len()),
            self.chance.below(PREFIXES.len()),
        );
        let also = self.chance.below(2) == 0;
        let subject = match self.chance.below(3) {
            0 => Subject::Listing(app, PREFIXES[prefix]),
            1 if self.model.channels[channel].is_presence() => Subject::Users(channel, also),
            _ => Subject::Channel(channel, also),
        };
        self.queries += 1;
        let number = self.queries;
        if let Kind::Publisher(publisher) = &mut self.peers[at].kind {
            publisher.requests.push_back(number);
        }
        self.peers[at]
            .to_server
            .push_back(Input::Query { number, subject });
    }

    /// The id of somebody here or gone, or of nobody.
    fn some_socket_id(&mut self) -> Option<SocketId> {
        match self.chance.below(6) {
            0 => SocketId::parse("7.7").ok()?.possible(),
            1 => {
                let at = self.chance.below(self.peers.len());
                self.peers[at].client()?.socket_id
            }
            2 | 3 => {
                let at = self.some_peer(true)?;
                self.peers[at].client()?.socket_id
            }
            _ => None,
        }
    }

    fn vanish(&mut self) {
        let is_client = self.chance.below(5) > 0;
        if let Some(at) = self.some_peer(is_client) {
            self.peers[at].gone = true;
            self.present.retain(|&present| present != at);
        }
    }

    fn change_mood(&mut self) {
        let mood = [Mood::Takes, Mood::Trickles, Mood::Stuck][self.chance.below(3)];
        let open = self.kernel.open_sockets().count();
        let nth = self.chance.below(open.max(1));
        if let Some(socket) = self.kernel.open_sockets().nth(nth) {
            socket.mood = mood;
        }
    }

    /// A shard stands still for a minute, or for a while sends nothing.
    fn trouble_shard(&mut self) {
        let at = self.chance.below(self.nodes.len());
        let node = &mut self.nodes[at];
        if self.scene.freezes && self.chance.below(3) == 0 {
            node.frozen_until = Now(self.now.0 + 60_000);
        } else if self.chance.below(3) == 0 {
            node.silent_until = Now(self.now.0 + 50 * self.scene.step_ms as u64);
        }
    }
}
