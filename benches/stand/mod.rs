//! A shard that stands alone: the real one with the default configuration, an inbox that is a list,
//! and sockets that take everything and are not there.
#![allow(dead_code)] // Each bench uses a part of it.

use std::collections::VecDeque;
use std::sync::Arc;

use shardcast::clock::{Clock, Micros, Now};
use shardcast::config::{self, Host, Loaded, Sources};
use shardcast::pusher::socket_id::SocketIdKey;
use shardcast::shard::flush::Sent;
use shardcast::shard::message::{Frame, Origin, Publish, ShardMessage};
use shardcast::shard::open::Upgrade;
use shardcast::shard::text::Next;
use shardcast::shard::{Birth, Peer, Shard};

/// The shard and what carries for it.
pub(crate) struct Stand {
    pub(crate) shard: Shard,
    inbox: VecDeque<ShardMessage>,
    clock: Clock,
    results: Vec<usize>,
}

/// The configuration of a server that was told nothing.
pub(crate) fn defaults() -> Loaded {
    let sources = Sources {
        file: None,
        env: Vec::new(),
        flags: Vec::new(),
        host: Host {
            cores: vec![0],
            descriptors_max: 1 << 20,
        },
    };
    config::load(&sources).expect("the defaults are a whole configuration")
}

impl Stand {
    pub(crate) fn new() -> Self {
        let loaded = defaults();
        let mut stand = Self {
            shard: Shard::new(Birth {
                id: 0,
                settings: shardcast::net::serve::shard_settings(&loaded.config),
                apps: Arc::clone(&loaded.apps),
                hash_key: [1, 2],
                socket_ids: SocketIdKey::new(&[7; 16]),
                capacity: Arc::default(),
                capacity_max: None,
            }),
            inbox: VecDeque::new(),
            clock: Clock::start(),
            results: Vec::new(),
        };
        stand.turn();
        stand
    }

    /// Connections that have been greeted: their slots.
    pub(crate) fn connect(&mut self, count: u32) -> Vec<u32> {
        let slots = (0..count).map(|n| {
            let slot = self.shard.on_accept(3 + n as i32).slot;
            let upgrade = Upgrade {
                key: Some("app-key"),
                protocol: Some("7"),
                origin: None,
                tls: false,
                too_often: false,
                random: (1 + u64::from(n), 1),
            };
            assert!(
                self.shard.on_open(slot, upgrade),
                "the standard app is there"
            );
            slot
        });
        let slots = slots.collect();
        self.turn();
        slots
    }

    /// Connections that are subscribed to a public channel.
    pub(crate) fn subscribe(&mut self, count: u32, channel: &str) -> Vec<u32> {
        let slots = self.connect(count);
        for &slot in &slots {
            self.text(slot, &subscribe(channel));
        }
        self.turn();
        slots
    }

    /// A message of a client to whom nothing is pending.
    pub(crate) fn text(&mut self, slot: u32, text: &str) {
        assert_eq!(self.shard.on_text(slot, text), Next::Go);
    }

    /// An event for one channel, its frame built beforehand.
    pub(crate) fn publish(&mut self, channel: &str, frame: &Arc<Frame>) {
        let publish = Publish {
            app: 0,
            channel: channel.into(),
            hash: self.shard.hash(0, channel),
            frame: Arc::clone(frame),
            except: None,
            cached: false,
            delta: None,
            origin: Origin::Api,
            ask: None,
            webhook: None,
        };
        self.shard
            .on_publish([Box::new(publish)].into_iter().collect())
            .expect("nothing waits in the inbox");
    }

    /// One turn, in the order of `net/turn.rs`; how many sends it made. The clock is read once: it
    /// is not what is measured.
    pub(crate) fn turn(&mut self) -> usize {
        let shard = &mut self.shard;
        shard.begin_turn([Peer::default()].into_iter());
        shard.on_time(Now(self.clock.now().0));
        shard.leave();
        Self::carry(shard, &mut self.inbox);
        while let Some(message) = self.inbox.pop_front() {
            shard.on_message(message);
        }
        shard.expand();
        shard.turn_wheel();
        Self::carry(shard, &mut self.inbox);
        shard.fence();
        let mut sends = 0;
        loop {
            shard.begin_flush();
            let count = shard.fill_batch(256, 64);
            if count == 0 {
                return sends;
            }
            let bytes = |slices: &[&[u8]]| slices.iter().map(|slice| slice.len()).sum();
            self.results.clear();
            self.results
                .extend(shard.batch().map(|batch| -> usize { bytes(&batch.slices) }));
            for (index, &taken) in self.results.iter().enumerate() {
                shard.on_sent(index, Sent::Bytes(taken));
            }
            shard.on_flushed(Micros(1));
            shard.take_outcomes();
            sends += count;
        }
    }

    fn carry(shard: &mut Shard, inbox: &mut VecDeque<ShardMessage>) {
        shard.report();
        inbox.append(&mut shard.outgoing(0).list);
    }
}

/// What a client sends to subscribe.
pub(crate) fn subscribe(channel: &str) -> String {
    format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"","channel":"{channel}"}}}}"#)
}

/// What it sends to leave.
pub(crate) fn unsubscribe(channel: &str) -> String {
    format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#)
}
