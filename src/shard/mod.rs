//! The state that one core owns: connections, the subscribers here, the channels at home here.
//!
//! Synchronous and deterministic: time, text, descriptors and random numbers come in as arguments;
//! what is owed to others waits in lists that somebody carries. The shard never calls a queue and
//! never sees HTTP, masks or threads, so the simulation drives this very code.
//!
//! Two families of calls: `on_*` takes something in, `take_*` hands out what is owed.
//!
//! | Owed | Taken by | Filled by |
//! |---|---|---|
//! | messages to other shards, and to itself as a home | `outgoing`, after `report` | everything |
//! | bytes to clients | `fill_batch`, `batch`, `on_sent` | answers, `expand` |
//! | sessions whose held frames may go on | `take_resumed` | `Joined` |
//! | answers to HTTP requests | `take_answers` | `Answer` |
//! | what back ends are told | `take_webhooks` | homes |
//! | a sample of itself | `take_sampling`, `sample` | `Sample` |
//! | connections to look at | `outbox.outcomes`, `take_expired`, `take_released` | flush, `on_time`, `on_departed` |

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::{App, AppTable, ConnectionQuota};
use crate::clock::{Micros, Now};
use crate::metrics::{Audience, Counters};
use crate::pusher::delta::Encoder;
use crate::pusher::inbound;
use crate::pusher::socket_id::SocketIdKey;

mod authorise;
pub mod bounds;
pub mod channel;
pub mod claims;
pub mod client_event;
pub mod close;
pub mod conns;
pub mod counts;
pub mod deliver;
pub mod deltas;
pub mod flush;
pub mod groups;
pub mod home;
pub mod homes;
#[cfg(test)]
mod inspect;
pub mod leave;
pub mod message;
pub mod occupancy;
pub mod open;
pub mod outbox;
pub mod palette;
pub mod publish;
pub mod question;
pub mod reload;
pub mod roster;
pub mod sample;
pub mod session;
pub mod spread;
pub mod stream;
pub mod subscribe;
pub mod table;
pub mod text;
pub mod time;
pub mod timers;
pub mod user;
mod variants;
mod watch;
mod watchlist;
pub mod webhook;
pub mod wheel;

use bounds::OutboxLimits;
use channel::{ChannelHasher, LocalChannels};
use claims::{Claims, Settling};
use conns::{Connections, Flag, Phase};
use counts::{CountPace, CountWindows};
use deliver::{Delivery, OpenRun};
use flush::{Outcomes, Sent, Slices};
use homes::{Homes, Source};
use leave::Leaving;
use message::{ReplyTo, SessionKey, ShardId, ShardMessage};
use occupancy::Delays;
use outbox::Outbox;
use question::Answer;
use reload::Forgetting;
use sample::{High, Sample};
use spread::Spread;
use webhook::Webhook;
use wheel::Wheel;

/// While more messages than this are left over after a carry, a shard reads no input and accepts
/// nobody (decisions 27).
pub const LEFTOVERS_MAX: usize = 4096;

/// What a turn may do of each kind (decisions 33). The simulation also runs them at 1.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Messages taken from the inbox.
    pub messages: usize,
    /// Subscribers walked by expansions.
    pub expansions: usize,
    /// Subscriptions of leaving sessions, and of those that ask for deltas.
    pub leaving: usize,
    /// Places of a table that one page of a listing looks at (decisions 9).
    pub page: usize,
    /// Due entries of the wheel.
    pub due: usize,
    /// Slots that a spread looks at.
    pub slots: usize,
    /// Sends.
    pub sends: usize,
    /// Sends that the bulk list is sure of.
    pub sends_bulk: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            messages: 1024,
            page: 4096,
            expansions: 65_536,
            leaving: 4096,
            due: 1024,
            slots: 65_536,
            sends: 256,
            sends_bulk: 64,
        }
    }
}

/// The probe that a silent client gets (WebSocket spec 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A protocol Ping.
    Ping,
    /// A `pusher:ping` frame.
    Pusher,
}

/// What all shards of a process agree on.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shards: u16,
    pub activity_timeout: Duration,
    pub pong_timeout: Duration,
    pub probe: Probe,
    /// Refuse clients that name no protocol (4008).
    pub strict_protocol: bool,
    /// Serve `protocol=2` (extensions spec 1); off, it is refused (4007).
    pub sockudo_clients: bool,
    /// Send `pusher:subscription_error` after the `pusher:error` of a refused subscription
    /// (WebSocket spec 7.4).
    pub subscription_errors: bool,
    pub cache_ttl: Duration,
    pub cache_bytes_max: u64,
    pub counts: CountPace,
    /// What a home may hold back of its webhooks at once; see [`occupancy::DELAYS_MAX`].
    pub delays_max: usize,
    pub outbox: OutboxLimits,
    /// A blocked connection that takes nothing for so long is closed with 4100.
    pub stall_max: Duration,
    /// Sessions of an app that was removed or disabled are closed spread over this time.
    pub close_spread: Duration,
    /// Messages an inbox holds; publishes are admitted below three quarters (decisions 28).
    pub inbox_depth_max: usize,
    /// Bytes not yet tried, and their age, beyond which a shard is behind.
    pub lag_bytes_max: u64,
    pub lag_max: Duration,
    pub subscriptions_max: usize,
    /// Distinct filters of the subscribers of one channel here.
    pub filters_channel_max: usize,
    /// Bytes of the distinct filters of all channels here.
    pub filters_bytes_max: u64,
    /// Last events of a conflation key that bases are found among.
    pub delta_texts_max: usize,
    /// Bytes of the texts that deltas are made from.
    pub delta_bytes_max: u64,
    /// Per connection; `None` is no limit.
    pub subscriptions_per_connection_max: Option<u32>,
    pub budgets: Budgets,
}

/// What one shard sees of another when a turn begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Messages in its inbox.
    pub inbox_depth: usize,
    /// Bytes of the frames among them.
    pub inbox_bytes: u64,
    /// It refuses publishes to its channels.
    pub congested: bool,
    /// It does not keep up with its sends.
    pub behind: bool,
}

/// Messages to one target, in order, and whose flush waits for them.
#[derive(Debug, Default)]
pub struct Outgoing {
    pub list: VecDeque<ShardMessage>,
    /// Whether the target is to be woken for what was added.
    pub urgent: bool,
    /// Connections that caused them since the list was last empty.
    causes: Vec<(u32, u32)>,
}

/// The state of one core.
pub struct Shard {
    pub id: ShardId,
    pub counters: Counters,
    settings: Settings,
    apps: Arc<AppTable>,
    hasher: ChannelHasher,
    socket_ids: SocketIdKey,
    /// Connections of the process, bounded by its descriptors.
    capacity: Arc<ConnectionQuota>,
    capacity_max: Option<u64>,
    now: Now,
    /// The same clock, read for each piece of input and each batch of sends.
    moment: Micros,
    /// Time without the shard's own stalls: whatever is asked of clients runs on it (decisions 41).
    time: Now,
    /// The second of that time in which stalled connections were last looked for.
    stalls_watched: u32,
    conns: Connections,
    subscriptions: usize,
    /// Bytes of the filters of all channels here.
    filter_bytes: u64,
    /// Bytes of the texts that are kept as bases of local subscribers.
    ring_bytes: u64,
    encoder: Encoder,
    local: LocalChannels,
    homes: Homes,
    claims: Claims,
    /// Claims of requests here that are about to be settled.
    settling: Vec<Settling>,
    count_windows: CountWindows,
    delays: Delays,
    outbox: Outbox,
    open_runs: Vec<OpenRun>,
    /// Subscribers walked in this turn.
    expanded: usize,
    /// Local channels whose count is to be reported.
    reports: Vec<u32>,
    outgoing: Vec<Outgoing>,
    /// The connection whose input is being handled: the cause of what is sent.
    serving: Option<u32>,
    peers: Vec<Peer>,
    /// Shards that a home here had interest from since the turn began.
    interested: Vec<bool>,
    congested: bool,
    /// Messages that the last turn's carry found no room for. What was queued since then has not
    /// been carried once.
    left_over: usize,
    reading: bool,
    leaving: VecDeque<Leaving>,
    /// Connections that have asked for deltas, and how many of their subscriptions are to be moved.
    switching: VecDeque<(SessionKey, u32)>,
    /// Connections of terminated users that are to be closed.
    terminated: VecDeque<SessionKey>,
    wheel: Wheel,
    spread: Option<Spread>,
    forgetting: Vec<Forgetting>,
    inbox_high: High,
    sampling: Vec<oneshot::Sender<Box<Sample>>>,
    scratch: inbound::Scratch,
    resumed: Vec<SessionKey>,
    answers: Vec<(ReplyTo, Answer)>,
    webhooks: Vec<Webhook>,
    expired: Vec<SessionKey>,
    released: Vec<u32>,
    #[cfg(test)]
    mutations: Mutations,
}

/// Rules of the design that a test switches off, to show that the simulation sees it.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutations {
    /// Decisions 1: a publish to a channel at home here is applied at once, past the inbox.
    pub skip_own_inbox: bool,
    /// Decisions 2: `Joined` to the own shard is enqueued, while deliveries are applied in place.
    pub enqueue_joined: bool,
    /// Decisions 4: nobody is fenced.
    pub no_fence: bool,
    /// Decisions 5: the list changes under an open run.
    pub change_under_open_run: bool,
    /// Decisions 6: the newcomer is answered first.
    pub answer_first: bool,
    /// Decisions 11: `Joined` commits whoever has the slot.
    pub any_ticket: bool,
    /// Decisions 17: a `Deliver` of an earlier life is taken.
    pub any_round: bool,
    /// Extensions spec 3.3: a delta goes to whoever is in the group.
    pub any_base: bool,
    /// Extensions spec 3.2: whoever is left out of an event is taken to have it.
    pub excluded_have_base: bool,
    /// Extensions spec 3.3: nobody is heard who cannot apply what it got.
    pub no_resync: bool,
    /// Extensions spec 3.3: whoever subscribes is taken to have got what was sent before.
    pub newcomers_have_base: bool,
    /// Decisions 21: a pong does not wait for the frame already begun.
    pub overtake_begun: bool,
    /// Decisions 43: the end of a user overtakes what was to be delivered before.
    pub close_before_events: bool,
    /// Decisions 44: word of an earlier round is taken for an answer.
    pub any_watch_round: bool,
    /// Decisions 44: changes go also to those who have had no first frame.
    pub tell_all_changes: bool,
    /// Decisions 44: a watchlist does not wait for the count that says where its session is.
    pub list_before_count: bool,
}

/// What a shard needs to begin.
pub struct Birth {
    pub id: ShardId,
    pub settings: Settings,
    pub apps: Arc<AppTable>,
    pub hash_key: [u64; 2],
    pub socket_ids: SocketIdKey,
    pub capacity: Arc<ConnectionQuota>,
    pub capacity_max: Option<u64>,
}

impl Shard {
    /// An empty shard.
    pub fn new(birth: Birth) -> Self {
        let Birth {
            id,
            settings,
            apps,
            hash_key,
            socket_ids,
            capacity,
            capacity_max,
        } = birth;
        let shards = usize::from(settings.shards);
        Self {
            id,
            counters: Counters::default(),
            apps,
            hasher: ChannelHasher::new(hash_key),
            socket_ids,
            capacity,
            capacity_max,
            now: Now::default(),
            moment: Micros::default(),
            time: Now::default(),
            stalls_watched: 0,
            conns: Connections::new(id),
            subscriptions: 0,
            filter_bytes: 0,
            ring_bytes: 0,
            encoder: Encoder::default(),
            local: LocalChannels::default(),
            homes: Homes::default(),
            claims: Claims::default(),
            settling: Vec::new(),
            count_windows: counts::no_windows(),
            delays: Delays::new(settings.delays_max),
            outbox: Outbox::new(settings.outbox),
            open_runs: Vec::new(),
            expanded: 0,
            reports: Vec::new(),
            outgoing: (0..shards).map(|_| Outgoing::default()).collect(),
            serving: None,
            peers: vec![Peer::default(); shards],
            interested: vec![false; shards],
            congested: false,
            left_over: 0,
            reading: true,
            leaving: VecDeque::new(),
            switching: VecDeque::new(),
            terminated: VecDeque::new(),
            wheel: Wheel::default(),
            spread: None,
            forgetting: Vec::new(),
            inbox_high: High::default(),
            sampling: Vec::new(),
            scratch: inbound::Scratch::default(),
            resumed: Vec::new(),
            answers: Vec::new(),
            webhooks: Vec::new(),
            expired: Vec::new(),
            released: Vec::new(),
            settings,
            #[cfg(test)]
            mutations: Mutations::default(),
        }
    }

    /// An accepted descriptor: it gets a slot and speaks HTTP.
    pub fn on_accept(&mut self, fd: i32) -> SessionKey {
        self.counters.accepted += 1;
        // Counted whatever it turns out to be; whether a session still fits is asked when it begins.
        let _ = self.capacity.try_take(None);
        let secs = self.time_secs();
        self.conns.take(fd, secs)
    }

    /// Something from another shard, or from this one as a home.
    pub fn on_message(&mut self, message: ShardMessage) {
        match message {
            ShardMessage::Publish(publish) => self.on_publish_at_home(*publish),
            ShardMessage::Interest {
                channel,
                source,
                subscribers,
                needs,
                round,
                ask,
            } => {
                let report = Source {
                    shard: source,
                    count: subscribers,
                    needs,
                    round,
                };
                self.on_interest(&channel, report, ask);
            }
            ShardMessage::Join {
                channel,
                ticket,
                round,
                member,
            } => {
                self.on_join(&channel, ticket, round, *member);
            }
            ShardMessage::Leave {
                channel,
                session,
                subscription,
            } => {
                self.on_leave(&channel, session, subscription);
            }
            ShardMessage::Deliver {
                channel,
                frame,
                except,
                step,
                seq,
                round,
            } => {
                let delivery = Delivery {
                    frame,
                    except,
                    step,
                    seq,
                    round,
                };
                self.on_deliver(&channel, delivery);
            }
            ShardMessage::Joined {
                ticket,
                channel,
                joined,
            } => {
                self.on_joined(ticket, &channel, *joined);
            }
            ShardMessage::Terminate { user } => self.on_terminate_at_home(&user),
            ShardMessage::WatchList { user, ticket, list } => {
                self.on_watch_list(&user, ticket, list.as_deref());
            }
            ShardMessage::Watch {
                targets,
                watcher,
                on,
                round,
            } => self.on_watch(&targets, &watcher, on, round),
            ShardMessage::Online {
                watcher,
                states,
                round,
            } => self.on_online(&watcher, &states, round),
            ShardMessage::Watched { user, frame, round } => self.on_watched(&user, &frame, round),
            ShardMessage::ToSession { ticket, frame } => {
                self.on_to_session(ticket, frame.as_deref());
            }
            ShardMessage::CloseUser { user, round } => self.on_close_user(&user, round),
            ShardMessage::Ask { question, from } => self.on_ask_at_home(*question, from),
            ShardMessage::Settle { app, place, body } => self.on_settle(app, place, body),
            ShardMessage::Answer { to, answer } => self.on_answer(to, *answer),
            ShardMessage::Apps(apps) => self.on_apps(apps),
            ShardMessage::Sample(to) => self.sampling.push(to),
            ShardMessage::Drain { until } => self.on_drain(until),
        }
    }

    /// Whether this turn has expanded as much as it may.
    pub fn has_expanded_enough(&self) -> bool {
        self.expanded >= self.settings.budgets.expansions
    }

    /// Queues a message, behind everything queued for that target before.
    fn send(&mut self, target: ShardId, message: ShardMessage, urgent: bool) {
        self.cause(target);
        let outgoing = &mut self.outgoing[usize::from(target)];
        outgoing.list.push_back(message);
        outgoing.urgent |= urgent;
    }

    /// What a home says: to its own shard in place, to others by message.
    fn tell(&mut self, target: ShardId, message: ShardMessage) {
        if target == self.id {
            self.on_message(message);
        } else {
            self.send(target, message, true);
        }
    }

    /// Notes that the connection being served has something on its way to `target`.
    fn cause(&mut self, target: ShardId) {
        let Some(slot) = self.serving else { return };
        let generation = self.conns.peek(slot).generation;
        let causes = &mut self.outgoing[usize::from(target)].causes;
        if causes.last() != Some(&(slot, generation)) {
            causes.push((slot, generation));
        }
    }

    /// The messages for a target, to be carried in order from the front. Call [`Shard::report`]
    /// first.
    pub fn outgoing(&mut self, target: ShardId) -> &mut Outgoing {
        &mut self.outgoing[usize::from(target)]
    }

    /// Messages that did not fit into their inboxes.
    pub fn leftovers(&self) -> usize {
        self.outgoing
            .iter()
            .map(|outgoing| outgoing.list.len())
            .sum()
    }

    /// After the turn's last carry: connections that caused what did not fit are not flushed before
    /// it has gone.
    pub fn fence(&mut self) {
        self.left_over = self.leftovers();
        self.note_carried();
        for outgoing in &mut self.outgoing {
            for &(slot, _) in &outgoing.causes {
                self.conns.hot(slot).flags.clear(Flag::Fenced);
            }
            if outgoing.list.is_empty() {
                outgoing.causes.clear();
            }
        }
        #[cfg(test)]
        if self.mutations.no_fence {
            return;
        }
        for outgoing in &self.outgoing {
            for &(slot, generation) in &outgoing.causes {
                let hot = self.conns.hot(slot);
                if hot.generation == generation {
                    hot.flags.set(Flag::Fenced);
                }
            }
        }
    }

    /// What the turn sees of the other shards; forgets the interest of the last turn.
    pub fn begin_turn(&mut self, peers: impl Iterator<Item = Peer>) {
        for (peer, seen) in self.peers.iter_mut().zip(peers) {
            *peer = seen;
        }
        let inbox_depth = self.peers[usize::from(self.id)].inbox_depth;
        self.inbox_high.note(self.now, inbox_depth);
        let behind = |(peer, interested): (&Peer, &bool)| *interested && peer.behind;
        self.congested = self.left_over > 0 || self.peers.iter().zip(&self.interested).any(behind);
        self.interested.fill(false);
        self.expanded = 0;
        self.reading = self.left_over <= LEFTOVERS_MAX;
        self.settle_carried();
    }

    /// Whether publishes to the channels at home here are refused, for the others to see.
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    /// Whether the sends of this shard lag: bytes not yet tried, or their age, over the bound.
    pub fn is_behind(&mut self) -> bool {
        let lag_ms = self.settings.lag_max.as_millis() as u64;
        let inbox_bytes = self.peers[usize::from(self.id)].inbox_bytes;
        self.outbox.palette.fresh_bytes() + inbox_bytes > self.settings.lag_bytes_max
            || self
                .outbox
                .palette
                .oldest_fresh()
                .is_some_and(|born| born.0 + lag_ms < self.time.0)
    }

    /// Whether input may be read and connections accepted (decisions 27).
    pub fn may_read(&self) -> bool {
        self.reading
    }

    /// Chooses the connections of the next batch; 0 when nothing is dirty.
    pub fn fill_batch(&mut self, max: usize, bulk_min: usize) -> usize {
        self.outbox.fill_batch(&mut self.conns, max, bulk_min)
    }

    /// Once per turn, before the first batch.
    pub fn begin_flush(&mut self) {
        self.outbox.begin_flush(&mut self.conns);
    }

    /// What to send, in the order in which results are reported.
    pub fn batch(&self) -> impl Iterator<Item = Slices<'_>> {
        self.outbox.batch(&self.conns)
    }

    /// What the kernel said of the send at `index` of the batch.
    pub fn on_sent(&mut self, index: usize, sent: Sent) {
        self.outbox.on_sent(&mut self.conns, index, sent, self.time);
    }

    /// The results of a batch are in: counts how long it took to try everybody a run was for.
    pub fn on_flushed(&mut self, moment: Micros) {
        self.moment = moment;
        for (accepted, run) in self.outbox.palette.delivered.drain(..) {
            let micros = moment.0.saturating_sub(accepted.0);
            self.counters
                .deliveries
                .record(Duration::from_micros(micros));
            let audience = (run.kind, Audience::of(run.subscribers));
            let latencies = &mut self.counters.app(run.app).latencies;
            latencies.entry(audience).or_default().record(micros);
        }
    }

    /// The socket takes bytes again.
    pub fn on_writable(&mut self, key: SessionKey) {
        if self.conns.is_current(key) {
            self.outbox.writable(&mut self.conns, key.slot);
        }
    }

    /// What the flush has found, for `net` to act on. Slow consumers and sent pings have been seen
    /// to before.
    pub fn take_outcomes(&mut self) -> Outcomes {
        let slow = std::mem::take(&mut self.outbox.outcomes.slow);
        let outcomes = std::mem::take(&mut self.outbox.outcomes);
        self.outbox.outcomes.slow = slow;
        outcomes
    }

    /// Whether nothing more is to be read from a connection until its queue has drained.
    pub fn pause_if_half_full(&mut self, slot: u32) -> bool {
        self.outbox.pause_if_half_full(&mut self.conns, slot)
    }

    /// What a connection is.
    pub fn phase(&self, slot: u32) -> Phase {
        self.conns.peek(slot).phase
    }

    /// The descriptor of a connection.
    pub fn fd(&self, slot: u32) -> i32 {
        self.conns.peek(slot).fd
    }

    /// Whether a connection has something to send.
    pub fn has_queued(&self, slot: u32) -> bool {
        self.conns.peek(slot).pending_bytes > 0
    }

    /// The name of whoever has a slot now.
    pub fn key(&self, slot: u32) -> SessionKey {
        self.conns.key(slot)
    }

    /// Whether the connection that `key` names is still there.
    pub fn is_current(&self, key: SessionKey) -> bool {
        self.conns.is_current(key)
    }

    /// Slots ever used.
    pub fn slots(&self) -> u32 {
        self.conns.slots()
    }

    /// Sessions that have begun and are still in a table.
    pub fn sessions(&self) -> u32 {
        (self.counters.opened - self.counters.left) as u32
    }

    /// Whether no client is here or on its way out, and nothing is owed to another shard: the
    /// barrier of a drain.
    pub fn is_quiet(&self) -> bool {
        let is_busy = |slot| matches!(self.phase(slot), Phase::Open | Phase::Closing);
        self.is_draining()
            && self.leaving.is_empty()
            && self.terminated.is_empty()
            && self.leftovers() == 0
            && self.outbox.queued() == 0
            && self.delays.is_empty()
            && self.webhooks.is_empty()
            && !(0..self.slots()).any(is_busy)
    }

    /// Budgets of a turn.
    pub fn budgets(&self) -> Budgets {
        self.settings.budgets
    }

    /// Sessions whose pending subscribe has been answered: what they sent since may be taken up.
    pub fn take_resumed(&mut self, into: &mut Vec<SessionKey>) {
        into.append(&mut self.resumed);
    }

    /// Answers to questions of HTTP connections.
    pub fn take_answers(&mut self, into: &mut Vec<(ReplyTo, Answer)>) {
        into.append(&mut self.answers);
    }

    /// Who wants to know how the shard is.
    pub fn take_sampling(&mut self, into: &mut Vec<oneshot::Sender<Box<Sample>>>) {
        into.append(&mut self.sampling);
    }

    /// The app table of the shard.
    pub fn apps(&self) -> &Arc<AppTable> {
        &self.apps
    }

    /// The app of an index that a session or a message holds.
    fn app(&self, index: u32) -> Option<&Arc<App>> {
        self.apps.by_index(index)
    }

    /// Distinct users that a presence channel of the app may have.
    fn member_limit(&self, app: u32) -> usize {
        self.app(app)
            .map_or(0, |app| app.settings.presence_members_max as usize)
    }

    /// Whether nothing is left: no connection, no subscription, nothing queued, nothing owed.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
            && self.local.is_empty()
            && self.leaving.is_empty()
            && self.terminated.is_empty()
            && self.settling.is_empty()
            && self.outbox.queued() == 0
            && self.leftovers() == 0
    }

    /// Whether the turn has something left to do without new input.
    pub fn has_work(&self) -> bool {
        self.outbox.has_dirty()
            || !self.leaving.is_empty()
            || !self.switching.is_empty()
            || !self.terminated.is_empty()
            || !self.settling.is_empty()
            || !self.open_runs.is_empty()
            || !self.forgetting.is_empty()
            || self.has_due_delays()
            || self.count_windows.has_due(self.now)
    }
}
