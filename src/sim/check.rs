//! What has to hold when nothing moves, and at the end.

use std::collections::BTreeMap;

use crate::pusher::channel::ChannelKind;
use crate::shard::homes::Occupied;

use super::peer::Kind;
use super::plan::APPS;
use super::world::World;

impl World {
    /// Whether the Close that a client has got was one that it may get.
    pub(super) fn check_close(&mut self, at: usize) {
        let draining = self.nodes[self.peers[at].shard].shard.is_draining();
        let (cut_off, refused) = (self.peers[at].cut_off, self.peers[at].refused);
        let Some(client) = self.peers[at].client() else {
            return;
        };
        match client.closed {
            None => assert!(cut_off, "the stream has ended without a Close"),
            Some(4201) => assert!(
                client.mute,
                "closed for silence, though it answers: {client:?}"
            ),
            Some(4200) => assert!(draining, "told to reconnect without a drain"),
            Some(4100 | 4004) => {}
            Some(4009) => {
                let Kind::Client(client) = &self.peers[at].kind else {
                    return;
                };
                client.check_unauthorised(!refused, &self.model);
            }
            Some(code @ (4001 | 4003)) => {
                let app = client.app;
                assert!(
                    self.was(app, code == 4001),
                    "closed with {code} for nothing"
                );
            }
            code => assert_eq!(code, client.closing, "closed without a reason"),
        }
    }

    /// A question about a channel enters its home's inbox: every subscription that a client has
    /// been told of, and that it still has, is in the answer.
    pub(super) fn check_confirmed(&mut self, app: u32, name: &str) {
        let at = self.model.at(app, name);
        let mut confirmed = 0;
        for &present in &self.present {
            let shard = &self.nodes[self.peers[present].shard].shard;
            let Some(client) = self.peers[present].client() else {
                continue;
            };
            let Some(key) = client.key else { continue };
            let is_here = shard.is_current(key) && shard.is_open(key.slot);
            // Not somebody who has left and come back, and has not been told yet.
            let has = client.expected.is_empty()
                && client.subs.contains_key(&at)
                && client.session.contains_key(&at);
            confirmed += u32::from(is_here && has);
        }
        let counted = self.model.channels[at].counts().subscriptions;
        assert!(
            counted >= confirmed,
            "{name}: {counted}, though {confirmed} were confirmed"
        );
    }

    /// Nothing moves: everybody has everything, and the homes know exactly who is there.
    pub(super) fn check_calm(&mut self) {
        let mut truth: BTreeMap<usize, Vec<Option<&'static str>>> = BTreeMap::new();
        let mut lists: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &at in &self.present {
            let shard = self.peers[at].shard;
            let has_part = self.peers[at].has_part();
            match &mut self.peers[at].kind {
                Kind::Publisher(publisher) => assert!(publisher.requests.is_empty() && !has_part),
                Kind::Client(client) => {
                    let Some(key) = client.key else { continue };
                    if !self.nodes[shard].shard.is_open(key.slot) || client.closed.is_some() {
                        continue;
                    }
                    assert!(!has_part, "half a frame, and no more comes");
                    client.settle(&self.model);
                    client.check_watch(&self.model);
                    client.check_terminated(&self.model);
                    if let Some(user) = client.person.channel {
                        lists.entry(user).or_default().extend(&client.person.list);
                    }
                    let told: Vec<_> = client.subs.keys().collect();
                    let session: Vec<_> = client.session.keys().collect();
                    assert_eq!(told, session, "what a client was told is what it has");
                    for (&channel, &user) in &client.session {
                        let name = self.model.channels[channel].name;
                        assert!(
                            client.has_all(channel, &self.model),
                            "{name}: an event is missing"
                        );
                        truth.entry(channel).or_default().push(user);
                    }
                }
            }
        }
        for node in &self.nodes {
            assert_eq!(node.shard.claimed_keys(), 0, "a key is blocked");
        }
        for channel in 0..self.model.channels.len() {
            self.check_channel(channel, truth.get(&channel).map_or(&[], Vec::as_slice));
        }
        self.check_occupied();
        self.check_watchers(&lists);
    }

    /// What is counted of occupied channels is what a walk over them finds.
    fn check_occupied(&mut self) {
        for at in 0..self.nodes.len() {
            let occupied = self.nodes[at].shard.sample(0).occupied;
            for (app, (index, ..)) in APPS.into_iter().enumerate() {
                let here = self.model.channels.iter().filter(|channel| {
                    let is_occupied = channel.counts().subscriptions > 0;
                    channel.home == at && channel.app == app && is_occupied
                });
                let mut found = Occupied::default();
                for channel in here {
                    found[ChannelKind::of(channel.name) as usize] += 1;
                }
                let counted = occupied.get(index as usize).copied();
                assert_eq!(counted.unwrap_or_default(), found, "app {app} at {at}");
            }
        }
    }

    /// Counts and members at the home against the sessions themselves.
    fn check_channel(&self, at: usize, sessions: &[Option<&'static str>]) {
        let channel = &self.model.channels[at];
        let home = &self.nodes[channel.home].shard;
        let found = home.home_channel(APPS[channel.app].0, channel.name);
        let counts = found.map(|found| found.counts()).unwrap_or_default();
        let name = channel.name;
        assert_eq!(
            counts.subscriptions as usize,
            sessions.len(),
            "subscriptions of {name}: {:?}; {:?}",
            self.nodes
                .iter()
                .map(|n| n.shard.local_channel(APPS[channel.app].0, name))
                .collect::<Vec<_>>(),
            channel
        );
        assert_eq!(
            counts.subscriptions,
            channel.counts().subscriptions,
            "{name} in the model"
        );
        let mut users: Vec<&str> = sessions.iter().copied().flatten().collect();
        users.sort_unstable();
        users.dedup();
        let members = found.into_iter().flat_map(|found| found.members());
        let mut members: Vec<String> = members
            .map(|member| String::from_utf8_lossy(member.id()).replace(r#"\""#, ""))
            .collect();
        members.sort_unstable();
        assert_eq!(members, users, "members of {name}");
    }

    /// There was nothing to hear but pongs: who has answered is there, and nobody else.
    pub(super) fn check_silent(&mut self) {
        for &at in &self.present {
            let shard = &self.nodes[self.peers[at].shard].shard;
            let Kind::Client(client) = &self.peers[at].kind else {
                continue;
            };
            let is_open = |key| shard.is_current(key) && shard.is_open(key.slot);
            let is_open = client.key.is_some_and(is_open);
            assert_eq!(is_open, !client.mute && client.closed.is_none());
            let must_authorise = is_open && client.rules.authorized_connections;
            assert!(!must_authorise || client.person.is_authorised);
            for &at in client.subs.keys().filter(|_| is_open) {
                let channel = &self.model.channels[at];
                // Not if the last one is still on its way: a turn may send to one client only.
                let has_all = client.has_all(at, &self.model);
                let is_counted = channel.counted && !channel.recounted;
                if is_counted && has_all && !self.model.counts.has_window(at) {
                    let told = client.counts.get(&at).copied();
                    assert_eq!(
                        told,
                        Some(channel.counts().subscriptions),
                        "{}",
                        channel.name
                    );
                }
            }
        }
    }

    /// The drain is over: nobody is connected any more, unless it is to be waited for.
    pub(super) fn check_drained(&mut self) {
        for node in &self.nodes {
            let open = (0..node.tasks.len()).filter(|&slot| node.shard.is_open(slot as u32));
            assert_eq!(open.count(), 0, "a session has outlived the drain");
        }
    }

    /// All have left in a drain, which holds no webhook back.
    pub(super) fn check_reported(&self) {
        for node in &self.nodes {
            assert_eq!(node.shard.delays(), 0);
        }
        self.check_told_gone();
    }

    /// Whatever was reported as here was reported as gone. Not with a rule switched off: what is
    /// reported then is not looked at (`receive`), or every run would fail for that alone.
    fn check_told_gone(&self) {
        if self.plan.off.is_none() {
            self.receiver.check_gone();
        }
    }

    /// All have left: nothing is kept but cached events.
    pub(super) fn check_empty(&mut self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let shard = &node.shard;
            assert!(shard.is_empty(), "shard {at} is not empty");
            assert_eq!(
                shard.palette_held(),
                (0, 0, 0),
                "bytes are left at shard {at}"
            );
            assert_eq!(
                shard.subscriptions(),
                0,
                "subscriptions are left at shard {at}"
            );
            assert_eq!(shard.filter_bytes(), 0, "filters are left at shard {at}");
            assert_eq!(shard.base_bytes(), 0, "bases are left at shard {at}");
            assert_eq!(shard.counters.sequence_gaps, 0);
            assert_eq!((shard.delays(), shard.counters.webhooks_dropped), (0, 0));
            let cached = self.model.channels.iter().filter(|channel| {
                let found = shard.home_channel(APPS[channel.app].0, channel.name);
                let found = found.filter(|_| channel.home == at);
                if let Some(found) = found {
                    assert_eq!(found.counts().subscriptions, 0, "{}", channel.name);
                    assert_eq!(found.members().count(), 0, "{}", channel.name);
                    let is_kept = channel.is_cache() && !channel.dropped;
                    assert!(is_kept, "{} is kept for nothing", channel.name);
                }
                found.is_some()
            });
            assert_eq!(
                cached.count(),
                shard.home_channels(),
                "unknown channels at shard {at}"
            );
        }
        self.check_told_gone();
        assert_eq!(self.capacity.taken(), 0);
        let last = self.tables.last().expect("there is one from the start");
        for app in last.iter().chain(last.closing()) {
            assert_eq!(app.quota.taken(), 0, "quota of {}", app.id);
        }
        self.check_occupied();
        assert!(
            self.model
                .channels
                .iter()
                .all(|channel| channel.roster.is_empty())
        );
    }
}
