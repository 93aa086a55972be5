//! The mesh: one bounded inbox per shard, and how a parked shard is woken.
//!
//! It carries whatever message type it is given and decides nothing: order, admission and what to
//! do with a message that did not fit belong to the callers. A push never waits. Waking is apart
//! from pushing, so that a batch costs its target one system call, and none if it is awake.
//!
//! Invariants: messages of one producer leave an inbox in the order in which their pushes returned;
//! and a shard whose [`MeshEnd::prepare_park`] said true finds its wake descriptor readable after
//! any push that was followed by a wake (decisions 30).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::net::sys;

#[cfg(test)]
use tests::stop;

/// Makes one inbox per shard, each for `depth` messages, and hands out their ends in shard order.
/// The slots are allocated and touched here: an inbox that fills up later costs no page fault.
///
/// # Errors
/// What creating an eventfd per shard may say, mostly EMFILE.
pub fn mesh<M>(shards: usize, depth: usize) -> io::Result<Vec<MeshEnd<M>>> {
    let mut inboxes = Vec::with_capacity(shards);
    let mut receivers = Vec::with_capacity(shards);
    for _ in 0..shards {
        let (sender, receiver) = crossbeam_channel::bounded(depth);
        inboxes.push(Inbox {
            sender,
            status: ShardStatus::default(),
            wake: sys::eventfd()?,
        });
        receivers.push(receiver);
    }
    let sender = MeshSender {
        inboxes: inboxes.into(),
    };
    let ends = receivers
        .into_iter()
        .enumerate()
        .map(|(shard, receiver)| MeshEnd {
            shard,
            receiver,
            sender: sender.clone(),
        });
    Ok(ends.collect())
}

/// The sending side of every inbox: what a worker, the side thread or the main thread holds.
/// Targets are shard indexes; one that does not exist is a bug of ours and panics.
pub struct MeshSender<M> {
    inboxes: Arc<[Inbox<M>]>,
}

struct Inbox<M> {
    sender: Sender<M>,
    status: ShardStatus,
    /// Readable once somebody has cleared `parked`, until the shard clears it.
    wake: OwnedFd,
}

impl<M> MeshSender<M> {
    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Puts a message into an inbox. Does not wake its shard: see [`Self::wake`].
    ///
    /// # Errors
    /// The message, if the inbox is full or its shard has ended.
    pub fn push(&self, target: usize, message: M) -> Result<(), M> {
        self.inboxes[target]
            .sender
            .try_send(message)
            .map_err(TrySendError::into_inner)
    }

    /// Pushes from the front of a list until it is empty or the inbox is full, and says how many
    /// are left. What is left keeps its order.
    pub fn carry(&self, target: usize, outgoing: &mut VecDeque<M>) -> usize {
        while let Some(message) = outgoing.pop_front() {
            if let Err(message) = self.push(target, message) {
                outgoing.push_front(message);
                break;
            }
        }
        outgoing.len()
    }

    /// Sees to it that the shard looks into its inbox after everything this thread has pushed. Once
    /// per batch; costs a fence and a load if the shard is awake, else one write to its eventfd.
    pub fn wake(&self, target: usize) {
        let inbox = &self.inboxes[target];
        stop();
        // With the fence in `prepare_park`: our load sees `parked`, or the shard sees the message.
        fence(Ordering::SeqCst);
        stop();
        let parked = &inbox.status.parked;
        // The swap chooses one of several producers; the load keeps an awake shard's line shared.
        if parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::AcqRel) {
            stop();
            sys::eventfd_signal(&inbox.wake);
        }
    }

    /// Messages in an inbox now. A full one has [`Self::depth_max`].
    pub fn depth(&self, target: usize) -> usize {
        self.inboxes[target].sender.len()
    }

    /// Messages that an inbox can hold.
    pub fn depth_max(&self, target: usize) -> usize {
        self.inboxes[target].sender.capacity().unwrap_or(usize::MAX)
    }

    /// What a shard lets the others see.
    pub fn status(&self, target: usize) -> &ShardStatus {
        &self.inboxes[target].status
    }

    /// Whether every shard has reported itself quiet and nothing is on its way between them: the
    /// barrier at the end of a drain (decisions 42). For a process that takes no more input.
    ///
    /// One look would not do: a message may move from a shard not yet looked at to one that has
    /// been. So the look is taken twice, and a shard that began a turn in between spoils it.
    pub fn is_quiet(&self) -> bool {
        let look = |inbox: &Inbox<M>| {
            // The inbox first: who sees it emptied by a turn also sees that turn begun.
            let empty = inbox.sender.is_empty();
            let turns = inbox.status.turns();
            (empty && inbox.status.is_quiet()).then_some(turns)
        };
        let first: Option<Vec<u64>> = self.inboxes.iter().map(look).collect();
        first.is_some_and(|first| {
            self.inboxes
                .iter()
                .zip(first)
                .all(|(inbox, turns)| look(inbox) == Some(turns))
        })
    }
}

impl<M> Clone for MeshSender<M> {
    fn clone(&self) -> Self {
        Self {
            inboxes: Arc::clone(&self.inboxes),
        }
    }
}

impl<M> fmt::Debug for MeshSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshSender")
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

/// What one shard holds: its own inbox, and the sending side of all of them, its own included.
pub struct MeshEnd<M> {
    shard: usize,
    receiver: Receiver<M>,
    sender: MeshSender<M>,
}

impl<M> MeshEnd<M> {
    /// The index of this shard.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// A sending side, for another thread.
    pub fn sender(&self) -> MeshSender<M> {
        self.sender.clone()
    }

    /// The status that this shard shows.
    pub fn own_status(&self) -> &ShardStatus {
        self.sender.status(self.shard)
    }

    /// The oldest message of the inbox.
    pub fn pop(&self) -> Option<M> {
        self.receiver.try_recv().ok()
    }

    /// Hands at most `max` messages to `take`, oldest first, and says how many there were.
    pub fn drain_into(&self, max: usize, take: impl FnMut(M)) -> usize {
        let mut count = 0;
        let counted = self.receiver.try_iter().take(max).inspect(|_| count += 1);
        counted.for_each(take);
        count
    }

    /// The last thing before the worker waits for events. False: something has arrived, go on
    /// without waiting. True: whoever pushes and wakes from here on makes the wake descriptor
    /// readable. Call [`Self::unpark`] when the worker runs again, whatever it was that woke it.
    #[must_use]
    pub fn prepare_park(&self) -> bool {
        let parked = &self.own_status().parked;
        stop();
        parked.store(true, Ordering::Relaxed);
        stop();
        // With the fence in `wake`: we see the message, or its producer sees `parked`.
        fence(Ordering::SeqCst);
        stop();
        let park = self.receiver.is_empty();
        if !park {
            self.unpark();
        }
        park
    }

    /// The worker runs: from here on nobody needs to wake it.
    pub fn unpark(&self) {
        stop();
        self.own_status().parked.store(false, Ordering::Relaxed);
    }

    /// A descriptor of its own for the runtime to await: readable when this shard has been woken.
    /// Level-triggered, so clear it with [`Self::clear_wake`] after each time.
    ///
    /// # Errors
    /// What duplicating a descriptor may say, mostly EMFILE.
    pub fn wake_descriptor(&self) -> io::Result<OwnedFd> {
        self.sender.inboxes[self.shard]
            .wake
            .as_fd()
            .try_clone_to_owned()
    }

    /// Makes the wake descriptor unreadable, and says whether it was readable. What a wake-up that
    /// is cleared stood for is in the inbox: look there afterwards, not before.
    pub fn clear_wake(&self) -> bool {
        sys::eventfd_clear(&self.sender.inboxes[self.shard].wake)
    }
}

/// A shard pushes to the others, and to itself, as anybody does.
impl<M> Deref for MeshEnd<M> {
    type Target = MeshSender<M>;

    fn deref(&self) -> &MeshSender<M> {
        &self.sender
    }
}

impl<M> fmt::Debug for MeshEnd<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshEnd")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

/// What a shard lets every thread see, in three pairs of cache lines: what publishers read for each
/// publish and hardly ever changes, what changes at each park, and what changes in each turn.
///
/// All but the turns are hints whose readers need no order with anything else.
#[derive(Debug, Default)]
pub struct ShardStatus {
    admission: Padded<Admission>,
    parked: Padded<AtomicBool>,
    life: Padded<Life>,
}

#[derive(Debug, Default)]
struct Admission {
    congested: AtomicBool,
    behind: AtomicBool,
}

#[derive(Debug, Default)]
struct Life {
    turns: AtomicU64,
    sessions: AtomicU32,
    lists_empty: AtomicBool,
}

/// 128 bytes: the adjacent-line prefetcher of x86-64 pairs lines, and some aarch64 have such lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl ShardStatus {
    /// Whether homes on this shard refuse publishes for now (decisions 28).
    pub fn is_congested(&self) -> bool {
        self.admission.congested.load(Ordering::Relaxed)
    }

    /// Said by the shard itself, when it changes.
    pub fn set_congested(&self, congested: bool) {
        self.admission.congested.store(congested, Ordering::Relaxed);
    }

    /// Whether this shard sends later than it should, so that homes should not feed it.
    pub fn is_behind(&self) -> bool {
        self.admission.behind.load(Ordering::Relaxed)
    }

    /// Said by the shard itself, when it changes.
    pub fn set_behind(&self, behind: bool) {
        self.admission.behind.store(behind, Ordering::Relaxed);
    }

    /// Whether the shard waits for events and nobody has woken it. A hint: see `prepare_park`.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Turns begun. One that neither grows nor is parked for seconds is stuck (decisions 36).
    pub fn turns(&self) -> u64 {
        self.life.turns.load(Ordering::Acquire)
    }

    /// Said by the shard at the start of each turn, before it takes anything from its inbox: so
    /// that who finds the inbox emptied finds this turn too.
    pub fn begin_turn(&self) {
        let turns = &self.life.turns;
        // Only the shard writes it: no read-modify-write is needed.
        turns.store(
            turns.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Release,
        );
    }

    /// Sessions that the shard had at the end of its last turn.
    pub fn sessions(&self) -> u32 {
        self.life.sessions.load(Ordering::Relaxed)
    }

    /// Whether the shard reported no session and nothing in any of its lists.
    pub fn is_quiet(&self) -> bool {
        self.life.lists_empty.load(Ordering::Acquire) && self.sessions() == 0
    }

    /// Said by the shard at the end of each turn: its sessions, and whether all that it owes others
    /// (outgoing messages, queued frames, departed sessions) has gone.
    pub fn report(&self, sessions: u32, lists_empty: bool) {
        self.life.sessions.store(sessions, Ordering::Relaxed);
        self.life.lists_empty.store(lists_empty, Ordering::Release);
    }
}

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Where the stress tests stop a thread for a random while. Nothing anywhere else.
#[cfg(not(test))]
#[inline(always)]
fn stop() {}

#[cfg(test)]
mod tests {
    /// Filled in by the tests below.
    pub(super) fn stop() {}
}
