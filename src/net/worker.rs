//! A worker: a thread, pinned to its core, with its runtime, its shard and its connections.
//!
//! Everything here belongs to one thread. Tasks borrow the shard for one call at a time, never
//! across an `.await`; they read, and they ask for a turn. Only the turn sends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use monoio::RuntimeBuilder;
use monoio::net::UnixStream;

use crate::api;
use crate::clock::{Clock, Now};
use crate::config::Network;
use crate::http::HeadLimits;
use crate::shard::message::{SessionKey, ShardMessage};
use crate::shard::{Birth, Shard};
use crate::side::webhook::WebhookSender;

use super::addresses::AddressBudgets;
use super::input::Inputs;
use super::mesh::MeshEnd;
use super::random::Random;
use super::ring::Sender;
use super::{conn, listener, sys, turn};

/// Bytes received at once, for all connections of the worker.
pub const RECEIVE_BYTES: usize = 64 * 1024;
/// Receives of a turn, at most; then tasks wait at the gate for the next one.
const READS_PER_TURN: u32 = 256;
/// Where so few connections have input, and requests of the API among it, each has a turn of its own:
/// its answer leaves, and its client goes on, while the next one is served. Where there are more,
/// answers leave together.
const READERS_FEW: usize = 2;
/// Messages or requests of one connection per turn.
pub const UNITS_PER_TURN: usize = 64;
/// Time that a turn's input may take.
const INPUT_PER_TURN: Duration = Duration::from_millis(1);
/// Entries of the runtime's ring.
const RING_ENTRIES: u32 = 4096;

/// Which driver a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    IoUring,
    Epoll,
}

/// What the connections of a worker are held to, beside the shard's settings.
#[derive(Clone, Debug)]
pub struct Limits {
    pub head: HeadLimits,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub keep_alive_timeout: Duration,
    /// Request heads and bodies being collected, in bytes.
    pub request_bytes_max: usize,
    pub message_bytes_max: usize,
    /// Whose headers about the client are believed.
    pub trusted_proxies: Vec<Network>,
    /// Each connection of such a proxy begins with the PROXY protocol.
    pub proxy_protocol: bool,
    /// How many connections an address may begin; shared by all workers. `None`: no limit.
    pub addresses: Option<Arc<AddressBudgets>>,
    /// How long to look for messages before parking.
    pub spin: Duration,
}

impl Limits {
    /// Whether the peer of a connection is a proxy that has to say who its client is.
    pub fn speaks_proxy(&self, fd: RawFd) -> bool {
        self.proxy_protocol
            && sys::peer_address(fd)
                .is_some_and(|peer| self.trusted_proxies.iter().any(|p| p.contains(peer)))
    }
}

/// All that a worker begins with; made on the main thread.
pub struct Plan {
    pub birth: Birth,
    pub end: MeshEnd<ShardMessage>,
    pub listener: OwnedFd,
    /// The core to be pinned to; `None` where there are more shards than cores.
    pub core: Option<usize>,
    pub driver: Driver,
    pub api: api::Settings,
    pub limits: Limits,
    pub clock: Clock,
    pub webhooks: WebhookSender,
    /// Set by the watchdog when a shard stands still.
    pub stalled: Arc<AtomicBool>,
}

/// What the tasks of a worker share.
pub struct Worker {
    pub shard: RefCell<Shard>,
    pub inputs: RefCell<Inputs>,
    pub end: MeshEnd<ShardMessage>,
    pub sender: RefCell<Sender>,
    pub api: api::Settings,
    pub limits: Limits,
    pub clock: Clock,
    pub webhooks: WebhookSender,
    pub stalled: Arc<AtomicBool>,
    /// One buffer receives for everybody.
    pub buffer: RefCell<Box<[u8]>>,
    /// The streams, by slot; the read task holds another count.
    pub streams: RefCell<Vec<Option<Rc<UnixStream>>>>,
    /// Connections whose task has ended.
    pub departed: RefCell<Vec<SessionKey>>,
    /// Connections with input on hand that this turn had no time for.
    pub unfinished: RefCell<VecDeque<SessionKey>>,
    /// Tasks that wait for the next turn's input.
    gate: RefCell<VecDeque<Waker>>,
    /// Tasks that read no more until their connection has made progress.
    paused: RefCell<HashMap<u32, Waker>>,
    reads: Cell<u32>,
    /// Receives that the present turn may have.
    reads_max: Cell<u32>,
    /// A request has been acted upon since the last turn.
    pub has_served: Cell<bool>,
    input_began: Cell<Option<Instant>>,
    /// Seconds of the Unix epoch, and of ours when they were read.
    unix: Cell<(Option<u32>, u64)>,
    listener: RawFd,
    pub listening: Cell<bool>,
    turn: RefCell<Option<Waker>>,
    turn_wanted: Cell<bool>,
    pub relay: RefCell<Option<Waker>>,
    pub random: RefCell<Random>,
}

impl Worker {
    /// Has the turn run when the present round of tasks is over.
    pub fn want_turn(&self) {
        if self.turn_wanted.replace(true) {
            return;
        }
        if let Some(turn) = &*self.turn.borrow() {
            turn.wake_by_ref();
        }
    }

    /// The turn has begun; what is wanted from here on is wanted of the next.
    pub fn turn_begins(&self, waker: &Waker) {
        self.turn_wanted.set(false);
        let mut turn = self.turn.borrow_mut();
        if turn.is_none() {
            *turn = Some(waker.clone());
        }
    }

    /// Whether another receive fits into this turn; counts it if so, and tells the shard the moment
    /// of what it brings. The first one tells it the time as well: the last turn may lie a second
    /// back, too long for what is allowed per second.
    pub fn may_receive(&self) -> bool {
        let now = Instant::now();
        let mut shard = self.shard.borrow_mut();
        let began = self.input_began.get().unwrap_or_else(|| {
            self.input_began.set(Some(now));
            shard.on_time(self.clock.now_at(now));
            now
        });
        let may = self.reads.get() < self.reads_max.get()
            && now.duration_since(began) < INPUT_PER_TURN
            && shard.may_read();
        if may {
            self.reads.set(self.reads.get() + 1);
            shard.on_moment(self.clock.micros_at(now));
        }
        may
    }

    /// Seconds since the Unix epoch as of `now`. That clock is read once in a second: what is held
    /// against it has a window of ten minutes (HTTP spec 2.3).
    pub fn unix_secs(&self, now: Now) -> u64 {
        let (read_at, unix_secs) = self.unix.get();
        if read_at == Some(now.secs()) {
            return unix_secs;
        }
        let unix_secs = self.clock.unix_secs();
        self.unix.set((Some(now.secs()), unix_secs));
        unix_secs
    }

    /// Waits until this turn, or a later one, has room for one more receive: first come, first
    /// served, as far as the budget for input goes.
    pub async fn pass_gate(&self) {
        poll_fn(|cx| {
            if self.may_receive() {
                return Poll::Ready(());
            }
            self.gate.borrow_mut().push_back(cx.waker().clone());
            self.want_turn();
            Poll::Pending
        })
        .await;
    }

    /// Opens the gate for as many as the next turn can take; first come, first served. `is_busy`:
    /// the shard has work left, so that turns are long and nobody should have to wait for two.
    pub fn open_gate(&self, is_busy: bool) -> bool {
        let readers = self.reads.replace(0) as usize + self.gate.borrow().len();
        let is_one_by_one = self.has_served.replace(false) && readers <= READERS_FEW && !is_busy;
        self.reads_max.set(match is_one_by_one {
            true => 1,
            false => READS_PER_TURN,
        });
        self.input_began.set(None);
        if !self.shard.borrow().may_read() {
            return !self.gate.borrow().is_empty();
        }
        let mut gate = self.gate.borrow_mut();
        let count = gate.len().min(self.reads_max.get() as usize);
        for waker in gate.drain(..count) {
            waker.wake();
        }
        !gate.is_empty()
    }

    /// A task reads no more until [`Worker::resume_reading`].
    pub fn pause(&self, slot: u32, waker: &Waker) {
        self.paused.borrow_mut().insert(slot, waker.clone());
    }

    /// Lets a paused task look again.
    pub fn resume_reading(&self, slot: u32) {
        if let Some(waker) = self.paused.borrow_mut().remove(&slot) {
            waker.wake();
        }
    }

    /// Lets all paused tasks look again.
    pub fn resume_all(&self) {
        for (_, waker) in self.paused.borrow_mut().drain() {
            waker.wake();
        }
    }

    /// Takes nobody in any more: what the backlog holds is accepted, then the listener ends.
    pub fn stop_listening(&self) {
        if self.listening.replace(false) {
            // Its readable() returns, and the accepting task sees that it is over.
            let _ = sys::shutdown_both(self.listener);
        }
    }
}

/// Wraps any descriptor so that the runtime can await it.
pub fn awaitable(fd: OwnedFd) -> std::io::Result<UnixStream> {
    UnixStream::from_std(StdUnixStream::from(fd))
}

/// Runs a worker on this thread until the process ends.
///
/// # Errors
/// The runtime or its ring cannot be built.
pub fn run(plan: Plan) -> std::io::Result<()> {
    let pinned = plan
        .core
        .is_none_or(|id| core_affinity::set_for_current(core_affinity::CoreId { id }));
    if !pinned {
        tracing::warn!(
            shard = plan.birth.id,
            core = plan.core,
            "the worker could not be pinned"
        );
    }
    let driver = plan.driver;
    match driver {
        Driver::IoUring => {
            let mut ring = io_uring::IoUring::builder();
            ring.setup_single_issuer()
                .setup_coop_taskrun()
                .setup_cqsize(RING_ENTRIES * 4);
            let mut runtime = RuntimeBuilder::<monoio::IoUringDriver>::new()
                .uring_builder(ring)
                .with_entries(RING_ENTRIES)
                .enable_timer()
                .build()?;
            runtime.block_on(work(plan))
        }
        Driver::Epoll => {
            let mut runtime = RuntimeBuilder::<monoio::LegacyDriver>::new()
                .enable_timer()
                .build()?;
            runtime.block_on(work(plan))
        }
    }
}

/// The main future: starts the tasks, then is the turn.
async fn work(plan: Plan) -> std::io::Result<()> {
    let Plan {
        birth,
        end,
        listener,
        driver,
        api,
        limits,
        clock,
        webhooks,
        stalled,
        ..
    } = plan;
    let sender = match driver {
        Driver::IoUring => Sender::ring().unwrap_or_else(|error| {
            tracing::warn!(%error, "no side ring; sends go one by one");
            Sender::Plain
        }),
        Driver::Epoll => Sender::Plain,
    };
    let wake = awaitable(end.wake_descriptor()?)?;
    let mut shard = Shard::new(birth);
    shard.on_time(clock.now());
    let worker = Rc::new(Worker {
        shard: RefCell::new(shard),
        inputs: RefCell::new(Inputs::default()),
        end,
        sender: RefCell::new(sender),
        api,
        limits,
        clock,
        webhooks,
        stalled,
        buffer: RefCell::new(vec![0; RECEIVE_BYTES].into_boxed_slice()),
        streams: RefCell::new(Vec::new()),
        departed: RefCell::new(Vec::new()),
        unfinished: RefCell::new(VecDeque::new()),
        gate: RefCell::new(VecDeque::new()),
        paused: RefCell::new(HashMap::new()),
        reads: Cell::new(0),
        reads_max: Cell::new(READS_PER_TURN),
        has_served: Cell::new(false),
        input_began: Cell::new(None),
        unix: Cell::default(),
        listener: listener.as_raw_fd(),
        listening: Cell::new(true),
        turn: RefCell::new(None),
        turn_wanted: Cell::new(false),
        relay: RefCell::new(None),
        random: RefCell::new(Random::default()),
    });
    monoio::spawn(listener::accept(Rc::clone(&worker), awaitable(listener)?));
    monoio::spawn(turn::wake_on_messages(Rc::clone(&worker), wake));
    monoio::spawn(turn::wake_each_second(Rc::clone(&worker)));
    monoio::spawn(turn::relay(Rc::clone(&worker)));
    turn::Turns::new(worker).await;
    Ok(())
}

/// Starts the task of an accepted connection.
pub fn begin_connection(worker: &Rc<Worker>, fd: OwnedFd) {
    let raw = fd.as_raw_fd();
    let Ok(stream) = awaitable(fd) else { return };
    let stream = Rc::new(stream);
    let key = worker.shard.borrow_mut().on_accept(raw);
    let mut streams = worker.streams.borrow_mut();
    if streams.len() <= key.slot as usize {
        streams.resize_with(key.slot as usize + 1, || None);
    }
    streams[key.slot as usize] = Some(Rc::clone(&stream));
    worker
        .inputs
        .borrow_mut()
        .begin(&mut worker.shard.borrow_mut(), key.slot, &worker.limits);
    monoio::spawn(conn::read(Rc::clone(worker), key, stream));
}
