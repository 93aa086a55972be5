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
use std::sync::atomic::{Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::net::status::ShardStatus;
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
    /// Says whether it was parked.
    pub fn wake(&self, target: usize) -> bool {
        let inbox = &self.inboxes[target];
        stop();
        // With the fence in `prepare_park`: our load sees `parked`, or the shard sees the message.
        fence(Ordering::SeqCst);
        stop();
        let parked = inbox.status.parked();
        // The swap chooses one of several producers; the load keeps an awake shard's line shared.
        let woken = parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::AcqRel);
        if woken {
            stop();
            sys::eventfd_signal(&inbox.wake);
        }
        woken
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
        let parked = self.own_status().parked();
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
        self.own_status().parked().store(false, Ordering::Relaxed);
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

/// Where the stress tests stop a thread for a random while. Nothing anywhere else.
#[cfg(not(test))]
#[inline(always)]
fn stop() {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// How long a stress test goes on sending.
    const STRESS: Duration = Duration::from_millis(700);

    /// After so long without a wake-up, one has been lost: hundreds of time slices on a busy host.
    const LOST: Timespec = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };

    /// After so long a producer no longer waits for a consumer that has failed.
    const GIVE_UP: Duration = Duration::from_secs(20);

    thread_local! {
        /// State of this thread's generator. Never 0.
        static STATE: Cell<u64> = const { Cell::new(1) };
        /// Whether this thread stops at all. Stopping hides what only a store buffer does, so the
        /// stress tests do without it half of the time. (On x86-64 a missing fence does not show
        /// even so: the locked instructions of the queue order enough.)
        static STOPPING: Cell<bool> = const { Cell::new(false) };
    }

    fn random() -> u64 {
        let mut state = STATE.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        state >> 16
    }

    /// Most often nothing, else anything from a few cycles to a change of threads.
    pub(super) fn stop() {
        if !STOPPING.get() {
            return;
        }
        match random() % 64 {
            0..=39 => {}
            40..=61 => (0..random() % 300).for_each(|_| std::hint::spin_loop()),
            62 => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(random() % 30)),
        }
    }

    /// What a worker does between turns, with `poll` in the place of the runtime.
    fn park<M>(end: &MeshEnd<M>, wake: &OwnedFd) {
        if !end.prepare_park() {
            return;
        }
        stop();
        let mut descriptors = [PollFd::new(wake, PollFlags::IN)];
        let ready = poll(&mut descriptors, Some(&LOST)).unwrap();
        assert!(
            ready == 1,
            "a lost wake-up: {} messages wait",
            end.depth(end.shard())
        );
        stop();
        end.clear_wake();
        end.unpark();
    }

    #[derive(Clone, Copy)]
    enum Note {
        Numbered { producer: usize, number: u64 },
        Last,
    }

    /// Sends small batches until the time is up, mostly waiting for each to be taken, so that the
    /// next push finds the consumer anywhere between awake and parked.
    fn produce(sender: &MeshSender<Note>, producer: usize, taken: &AtomicU64) -> u64 {
        STATE.set(0x9E37_79B9_7F4A_7C15 ^ (producer as u64 + 1));
        let begun = Instant::now();
        let mut outgoing = VecDeque::new();
        let mut number = 0;
        while begun.elapsed() < STRESS {
            STOPPING.set(random().is_multiple_of(2));
            for _ in 0..=random() % 3 {
                outgoing.push_back(Note::Numbered { producer, number });
                number += 1;
            }
            while sender.carry(0, &mut outgoing) > 0 {
                sender.wake(0);
                thread::yield_now();
            }
            sender.wake(0);
            let wait = !random().is_multiple_of(8);
            while wait && taken.load(Ordering::Acquire) < number {
                assert!(begun.elapsed() < GIVE_UP, "number {number} was never taken");
                thread::yield_now();
            }
        }
        while sender.push(0, Note::Last).is_err() {
            thread::yield_now();
        }
        sender.wake(0);
        number
    }

    /// Takes until every producer has said that it is done; checks that nothing is lost, repeated
    /// or out of its producer's order.
    fn consume(end: &MeshEnd<Note>, taken: &[AtomicU64]) -> Vec<u64> {
        STATE.set(0x2545_F491_4F6C_DD1D);
        let wake = end.wake_descriptor().unwrap();
        let mut expected = vec![0; taken.len()];
        let mut producing = taken.len();
        while producing > 0 {
            let count = end.drain_into(4, |note| match note {
                Note::Numbered { producer, number } => {
                    assert_eq!(number, expected[producer], "producer {producer}");
                    expected[producer] += 1;
                    taken[producer].store(number + 1, Ordering::Release);
                }
                Note::Last => producing -= 1,
            });
            if count == 0 && producing > 0 {
                STOPPING.set(random().is_multiple_of(2));
                park(end, &wake);
            }
        }
        expected
    }

    fn stress(producers: usize) {
        let end = mesh(1, 8).unwrap().remove(0);
        let taken: Vec<AtomicU64> = (0..producers).map(|_| AtomicU64::new(0)).collect();
        let sender = end.sender();
        thread::scope(|scope| {
            let threads: Vec<_> = taken
                .iter()
                .enumerate()
                .map(|(producer, taken)| (producer, taken, sender.clone()))
                .map(|(producer, taken, sender)| {
                    scope.spawn(move || produce(&sender, producer, taken))
                })
                .collect();
            let received = consume(&end, &taken);
            let sent: Vec<u64> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect();
            assert_eq!(received, sent);
            assert!(sent.iter().all(|count| *count > 0));
        });
    }

    #[test]
    fn two_threads_lose_no_wake_up_and_no_order() {
        stress(1);
    }

    #[test]
    fn four_threads_lose_no_wake_up_and_no_order() {
        stress(3);
    }

    #[test]
    fn a_token_that_goes_round_four_parked_shards_never_stops() {
        let ends = mesh::<u64>(4, 1).unwrap();
        ends[0].push(0, 0).unwrap();
        let begun = Instant::now();
        let hops: Vec<u64> = thread::scope(|scope| {
            let pass_on = |end: &MeshEnd<u64>| {
                STATE.set(0xD1B5_4A32_D192_ED03 ^ (end.shard() as u64 + 1));
                let wake = end.wake_descriptor().unwrap();
                let next = (end.shard() + 1) % end.shards();
                loop {
                    STOPPING.set(random().is_multiple_of(2));
                    let Some(hop) = end.pop() else {
                        park(end, &wake);
                        continue;
                    };
                    // Past the end each shard passes the end on once more, and goes.
                    let last = hop == u64::MAX || (end.shard() == 0 && begun.elapsed() > STRESS);
                    end.push(next, if last { u64::MAX } else { hop + 1 })
                        .unwrap();
                    end.wake(next);
                    if last {
                        return hop;
                    }
                }
            };
            let threads: Vec<_> = ends
                .iter()
                .map(|end| scope.spawn(move || pass_on(end)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(hops[0] >= 4 && hops[0].is_multiple_of(4), "{hops:?}");
        assert_eq!(hops[1..], [u64::MAX; 3]);
    }

    #[test]
    fn a_full_inbox_gives_messages_back_in_order() {
        let ends = mesh(2, 3).unwrap();
        let mut outgoing: VecDeque<u32> = (0..8).collect();
        assert_eq!(ends[0].carry(1, &mut outgoing), 5);
        assert_eq!(outgoing, [3, 4, 5, 6, 7]);
        assert_eq!((ends[0].depth(1), ends[0].depth_max(1)), (3, 3));
        assert_eq!(ends[0].push(1, 99), Err(99));
        assert_eq!(ends[1].pop(), Some(0));
        assert_eq!(ends[0].carry(1, &mut outgoing), 4);
        let mut taken = Vec::new();
        assert_eq!(ends[1].drain_into(2, |number| taken.push(number)), 2);
        assert_eq!(ends[1].drain_into(9, |number| taken.push(number)), 1);
        assert_eq!(ends[0].carry(1, &mut outgoing), 1);
        assert_eq!(ends[1].drain_into(9, |number| taken.push(number)), 3);
        assert_eq!(ends[0].carry(1, &mut outgoing), 0);
        assert_eq!(ends[1].drain_into(9, |number| taken.push(number)), 1);
        assert_eq!(taken, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(
            (ends[1].pop(), ends[0].depth(1), ends[0].depth(0)),
            (None, 0, 0)
        );
    }

    #[test]
    fn what_a_drain_may_not_take_stays() {
        let end = mesh(1, 4).unwrap().remove(0);
        (0..4).for_each(|number| end.push(0, number).unwrap());
        assert_eq!(end.drain_into(0, |_: i32| panic!("took one")), 0);
        assert_eq!(end.drain_into(3, |_| {}), 3);
        assert_eq!(end.pop(), Some(3));
    }

    #[test]
    fn the_inbox_of_a_shard_that_has_ended_is_full() {
        let mut ends = mesh(2, 3).unwrap();
        drop(ends.remove(1));
        assert_eq!(ends[0].push(1, 7), Err(7));
    }

    #[test]
    fn only_a_parked_shard_is_written_to_and_only_once() {
        let ends = mesh(2, 3).unwrap();
        ends[0].push(1, 1).unwrap();
        ends[0].wake(1);
        assert!(!ends[1].clear_wake(), "it was awake");
        assert!(!ends[1].prepare_park(), "there is a message");
        assert!(!ends[1].own_status().is_parked());
        assert_eq!(ends[1].pop(), Some(1));
        assert!(ends[1].prepare_park());
        assert!(ends[0].status(1).is_parked() && !ends[0].status(0).is_parked());
        ends[0].push(1, 2).unwrap();
        assert!(!ends[1].clear_wake(), "a push alone wakes nobody");
        ends[0].wake(1);
        ends[0].wake(1);
        let mut signals = [0; 8];
        rustix::io::read(ends[1].wake_descriptor().unwrap(), &mut signals).unwrap();
        assert_eq!(u64::from_ne_bytes(signals), 1);
        assert!(!ends[1].own_status().is_parked());
    }

    #[test]
    fn the_mesh_is_quiet_when_every_shard_is_and_nothing_is_on_its_way() {
        let ends = mesh::<u32>(2, 3).unwrap();
        assert!(!ends[0].is_quiet(), "nobody has reported");
        ends[0].own_status().report(0, true);
        assert!(!ends[0].is_quiet());
        ends[1].own_status().report(1, true);
        assert!(!ends[0].is_quiet());
        ends[1].own_status().report(0, false);
        assert!(!ends[0].is_quiet());
        ends[1].own_status().report(0, true);
        assert!(ends[0].is_quiet());
        ends[0].push(1, 7).unwrap();
        assert!(!ends[0].is_quiet());
        ends[1].own_status().begin_turn();
        assert_eq!((ends[1].pop(), ends[0].status(1).turns()), (Some(7), 1));
        assert!(!ends[0].is_quiet(), "the message may have an answer");
        ends[1].own_status().report(0, true);
        assert!(ends[0].is_quiet());
    }
}
