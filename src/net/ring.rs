//! The side ring: a batch of sends in one system call per 256, reaped before the call returns.
//!
//! It belongs to the worker thread and lies beside the runtime's own ring, because the runtime
//! would make a future, a buffer that it owns and a task of every send. It decides nothing: what to
//! send and what a short or refused send means is the shard's business. Where io_uring is not to be
//! had, [`Sender::Plain`] does the same with a system call per connection.
//!
//! Invariant: completions equal submissions before `send_batch` returns. So the kernel has the
//! borrowed bytes only for the call (decisions 19), also should it answer late: MSG_DONTWAIT makes
//! sends complete inside the enter, but nothing here relies on it. If the kernel can no longer be
//! made to answer for what it has taken, the process aborts: it must not return.
#![allow(unsafe_code)] // Filling the submission queue with pointers, argued at each place.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::{error, fmt, mem, process, thread};

use io_uring::{IoUring, Probe, opcode, types};
use smallvec::SmallVec;

use crate::net::sys::{self, Errno, SLICES_MAX};

/// Sends that one enter submits at most.
pub const ENTER_SENDS_MAX: usize = 256;

/// Submission entries; the completion queue has twice as many, and at most [`ENTER_SENDS_MAX`] are
/// ever out, so that neither can overflow.
const ENTRIES: u32 = 1024;
const _: () = assert!(ENTER_SENDS_MAX <= ENTRIES as usize);

/// Enters in a row that brought nothing forward before the ring is given up: some milliseconds.
const FRUITLESS_ENTERS_MAX: u32 = 10_000;

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// One send to one connection.
#[derive(Clone, Debug)]
pub struct SendItem<'a> {
    /// Comes back with the result; the ring does not look at it.
    pub slot: u32,
    /// An open socket, for the whole call: see `sys`.
    pub fd: RawFd,
    /// What to send, in order: one run of bytes. At most [`SLICES_MAX`] are offered to the kernel.
    pub slices: SmallVec<[&'a [u8]; 4]>,
}

/// What became of a [`SendItem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendResult {
    /// That of the item.
    pub slot: u32,
    /// What the kernel said.
    pub outcome: SendOutcome,
}

/// What the kernel said to a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It took so many bytes from the front: all, or fewer than were offered.
    Sent(usize),
    /// It took none because there is no room now: await `writable()`.
    Refused,
    /// The connection is finished, mostly EPIPE or ECONNRESET.
    Failed(Errno),
}

impl From<Result<usize, Errno>> for SendOutcome {
    fn from(result: Result<usize, Errno>) -> Self {
        match result {
            Ok(bytes) => Self::Sent(bytes),
            // Cut short by a signal: nothing was taken, and `writable()` says at once to try again.
            Err(Errno::AGAIN | Errno::INTR) => Self::Refused,
            Err(errno) => Self::Failed(errno),
        }
    }
}

/// How a worker sends. Chosen when it starts; built on the thread that uses it and never moved to
/// another (the scratch pointers of the ring make it not `Send`).
#[derive(Debug)]
pub enum Sender {
    /// Through the side ring.
    Ring(Box<SideRing>),
    /// One system call per connection.
    Plain,
}

impl Sender {
    /// Sets up a side ring for this thread.
    ///
    /// # Errors
    /// Why the kernel refuses one.
    pub fn ring() -> Result<Self, RingError> {
        Ok(Self::Ring(Box::new(SideRing::new()?)))
    }

    /// Whether sends go through a ring.
    pub fn is_ring(&self) -> bool {
        matches!(self, Self::Ring(_))
    }

    /// Sends every item once and writes one result per item, in order, over what `results` held.
    ///
    /// Two items may name one connection; their bytes leave in order, but if the first was short
    /// the second still goes, so do not. A ring that fails is given up between two enters: what it
    /// had not yet taken is `Refused`, and from then on sends are plain.
    pub fn send_batch<'a>(
        &mut self,
        items: impl IntoIterator<Item = SendItem<'a>>,
        results: &mut Vec<SendResult>,
    ) {
        results.clear();
        let mut items = items.into_iter();
        // A ring pays from the second send on: one answer costs 6 % less CPU by a call of its own.
        let is_one = items.size_hint().1 == Some(1);
        while let Self::Ring(ring) = self
            && !is_one
        {
            match ring.send_some(items.by_ref(), results) {
                Ok(0) => return,
                Ok(_) => {}
                Err(errno) => {
                    tracing::error!(%errno, "the side ring failed; sends go on one by one");
                    *self = Self::Plain;
                }
            }
        }
        results.extend(items.map(|item| SendResult {
            slot: item.slot,
            outcome: sys::send_slices(item.fd, &item.slices).into(),
        }));
    }
}

/// A ring for sends alone, and the memory that its entries point to.
pub struct SideRing {
    ring: IoUring,
    /// The sends of the present enter; at most [`ENTER_SENDS_MAX`].
    queued: Vec<Queued>,
    /// The slices of all of them, one after the other.
    iovecs: Vec<libc::iovec>,
    /// One for each send of several slices.
    headers: Vec<libc::msghdr>,
}

struct Queued {
    slot: u32,
    fd: RawFd,
    iovecs: Range<usize>,
    /// As the kernel puts it: bytes, or an errno negated.
    result: i32,
}

impl SideRing {
    fn new() -> Result<Self, RingError> {
        let ring = IoUring::builder()
            // Since 5.18, 5.19 and 6.0: an entry that fails does not stop those behind it; no
            // interrupt for a completion that we are about to look for; one thread, fewer locks.
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_single_issuer()
            .build(ENTRIES)
            .or_else(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => IoUring::new(ENTRIES),
                _ => Err(error),
            });
        Ok(Self {
            ring: ring.map_err(|error| RingError::Refused(errno(&error)))?,
            queued: Vec::with_capacity(ENTER_SENDS_MAX),
            iovecs: Vec::with_capacity(ENTER_SENDS_MAX),
            headers: Vec::with_capacity(ENTER_SENDS_MAX),
        })
    }

    /// Takes as many items as one enter may have, sends them, and says how many they were.
    fn send_some<'a>(
        &mut self,
        items: impl Iterator<Item = SendItem<'a>>,
        results: &mut Vec<SendResult>,
    ) -> Result<usize, Errno> {
        self.queued.clear();
        self.iovecs.clear();
        for item in items.take(ENTER_SENDS_MAX) {
            let start = self.iovecs.len();
            self.iovecs.extend(
                item.slices
                    .iter()
                    .take(SLICES_MAX)
                    .map(|bytes| iovec(bytes)),
            );
            let iovecs = start..self.iovecs.len();
            // What is never submitted has been refused.
            let result = -libc::EAGAIN;
            self.queued.push(Queued {
                slot: item.slot,
                fd: item.fd,
                iovecs,
                result,
            });
        }
        if self.queued.is_empty() {
            return Ok(0);
        }
        self.fill();
        let entered = self.enter();
        results.extend(self.queued.iter().map(|queued| SendResult {
            slot: queued.slot,
            outcome: outcome(queued.result).into(),
        }));
        entered.map(|()| self.queued.len())
    }

    /// Turns `queued` into submission entries. From here until everything has been reaped, `iovecs`
    /// and `headers` are not touched, and no code of a caller runs.
    fn fill(&mut self) {
        self.headers.clear();
        for queued in self.queued.iter().filter(|queued| queued.iovecs.len() != 1) {
            self.headers
                .push(message_header(&self.iovecs[queued.iovecs.clone()]));
        }
        let mut headers = self.headers.as_ptr();
        let mut submission = self.ring.submission();
        for (index, queued) in self.queued.iter().enumerate() {
            let fd = types::Fd(queued.fd);
            let entry = match &self.iovecs[queued.iovecs.clone()] {
                [bytes] => {
                    let length = u32::try_from(bytes.iov_len).unwrap_or(u32::MAX);
                    let start = bytes.iov_base.cast_const().cast();
                    opcode::Send::new(fd, start, length)
                        .flags(SEND_FLAGS)
                        .build()
                }
                _ => {
                    let header = headers;
                    headers = headers.wrapping_add(1);
                    opcode::SendMsg::new(fd, header)
                        .flags(SEND_FLAGS as u32)
                        .build()
                }
            };
            // SAFETY: the entry points to bytes that the caller of `send_batch` has borrowed for
            // longer than that call (`'a`), or to a header of this ring which points to `iovecs`
            // of this ring, which point to such bytes. All of it stays where it is until `enter`
            // has returned, and `enter` returns only when the kernel has answered for every entry
            // that it took, or does not return. Entries that it did not take die with the ring.
            let pushed = unsafe { submission.push(&entry.user_data(index as u64)) };
            pushed.expect("the queue was empty and has room for ENTER_SENDS_MAX");
        }
    }

    /// Submits what is in the queue and waits until the kernel has answered for all it took.
    ///
    /// # Errors
    /// The kernel does not take the rest; all it did take has been reaped. The ring must then be
    /// dropped, for its queue still holds entries.
    fn enter(&mut self) -> Result<(), Errno> {
        let mut unanswered = self.queued.len();
        let mut fruitless = 0;
        loop {
            // Submits what is left to submit, and waits only if it could submit all of it.
            let waiting = self.ring.submission().len();
            let entered = self.ring.submit_and_wait(unanswered);
            let reaped = self.reap();
            unanswered = unanswered
                .checked_sub(reaped)
                .unwrap_or_else(|| lost("too many answers"));
            if unanswered == 0 {
                return Ok(());
            }
            let waiting_now = self.ring.submission().len();
            fruitless = if reaped > 0 || waiting_now < waiting {
                0
            } else {
                fruitless + 1
            };
            if fruitless > FRUITLESS_ENTERS_MAX {
                if unanswered > waiting_now {
                    lost("no answer for entries that were taken");
                }
                return Err(entered.err().map_or(Errno::IO, |error| errno(&error)));
            }
            if entered.is_err() {
                thread::yield_now();
            }
        }
    }

    /// Takes every answer that is there, and says how many.
    fn reap(&mut self) -> usize {
        let mut count = 0;
        for answer in self.ring.completion() {
            let queued = usize::try_from(answer.user_data())
                .ok()
                .and_then(|index| self.queued.get_mut(index))
                .unwrap_or_else(|| lost("an answer to no entry"));
            queued.result = answer.result();
            count += 1;
        }
        count
    }
}

impl fmt::Debug for SideRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideRing").finish_non_exhaustive()
    }
}

/// Why there is no ring; said once at start, beside the driver that is used instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Setting one up failed.
    Refused(Errno),
    /// The kernel is too old for an operation that we or the runtime need.
    Lacks(&'static str),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Refused(Errno::NOSYS) => f.write_str("the kernel has no io_uring"),
            Self::Refused(errno @ (Errno::PERM | Errno::ACCESS)) => write!(
                f,
                "io_uring is forbidden ({errno}): by the container's seccomp profile or by \
                 kernel.io_uring_disabled"
            ),
            Self::Refused(errno @ Errno::NOMEM) => {
                write!(
                    f,
                    "no memory for an io_uring ({errno}): see the limit on locked memory"
                )
            }
            Self::Refused(errno) => write!(f, "io_uring: {errno}"),
            Self::Lacks(operation) => write!(f, "this kernel's io_uring lacks {operation}"),
        }
    }
}

impl error::Error for RingError {}

/// Whether this process may use io_uring for all that the runtime and the side ring do. It is
/// asked once at start; the answer chooses the driver of every worker.
///
/// # Errors
/// Why not, for the operator.
pub fn uring_available() -> Result<(), RingError> {
    const NEEDED: [(u8, &str); 9] = [
        (opcode::Send::CODE, "SEND"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
        (opcode::Timeout::CODE, "TIMEOUT"),
        (opcode::Close::CODE, "CLOSE"),
        (opcode::Read::CODE, "READ"),
        (opcode::Recv::CODE, "RECV"),
        (opcode::Write::CODE, "WRITE"),
    ];
    let side = SideRing::new()?;
    let mut probe = Probe::new();
    side.ring
        .submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingError::Refused(errno(&error)))?;
    match NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(RingError::Lacks(name)),
        None => Ok(()),
    }
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn message_header(iovecs: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, for which zero is a value: no name, no control
    // data. Some libcs have private padding in it, so it cannot be written out field by field.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    // The kernel reads through it and never writes: it is `*mut` because recvmsg shares the type.
    header.msg_iov = iovecs.as_ptr().cast_mut();
    header.msg_iovlen = iovecs.len() as _;
    header
}

fn outcome(result: i32) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::from_raw_os_error(result.wrapping_neg()))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The kernel may still read what callers have lent us, and returning would end the loan.
fn lost(what: &'static str) -> ! {
    tracing::error!("the side ring: {what}; aborting");
    process::abort()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use smallvec::smallvec;

    use super::*;

    /// Runs a body with each kind of sender there is. Where there is no io_uring it says so past
    /// the capture of the test harness: a run without the ring must not look like one with it.
    fn with_each_sender(body: impl Fn(&mut Sender)) {
        match Sender::ring() {
            Ok(mut ring) => {
                body(&mut ring);
                assert!(ring.is_ring(), "the ring was given up");
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "NOT TESTED: sends through a ring: {error}");
            }
        }
        body(&mut Sender::Plain);
    }

    fn item<'a>(slot: u32, socket: &impl AsRawFd, slices: &[&'a [u8]]) -> SendItem<'a> {
        SendItem {
            slot,
            fd: socket.as_raw_fd(),
            slices: slices.into(),
        }
    }

    /// The outcomes of a batch; checks that each slot comes back, in order.
    fn send<'a>(sender: &mut Sender, items: Vec<SendItem<'a>>) -> Vec<SendOutcome> {
        let slots: Vec<u32> = items.iter().map(|item| item.slot).collect();
        let stale = SendResult {
            slot: 77,
            outcome: SendOutcome::Refused,
        };
        let mut results = vec![stale];
        sender.send_batch(items, &mut results);
        assert_eq!(
            results.iter().map(|result| result.slot).collect::<Vec<_>>(),
            slots
        );
        results.iter().map(|result| result.outcome).collect()
    }

    /// What has arrived so far, without waiting for more.
    fn arrived(socket: &mut UnixStream) -> Vec<u8> {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes);
        bytes
    }

    fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn an_empty_batch_has_no_results() {
        with_each_sender(|sender| assert_eq!(send(sender, vec![]), []));
    }

    #[test]
    fn slices_of_one_item_leave_as_one_run_and_items_as_their_own() {
        with_each_sender(|sender| {
            let [mut a, mut b, mut c] = [(); 3].map(|()| UnixStream::pair().unwrap());
            let many = vec![b"xy".as_slice(); SLICES_MAX + 1];
            let outcomes = send(
                sender,
                vec![
                    item(3, &a.0, &[b"one"]),
                    item(1, &b.0, &[b"t", b"", b"w", b"o", b"!"]),
                    item(2, &a.0, &[]),
                    item(0, &a.0, &[b" more"]),
                    item(9, &c.0, &many),
                ],
            );
            let expected = [3, 4, 0, 5, 2 * SLICES_MAX].map(SendOutcome::Sent);
            assert_eq!(outcomes, expected);
            assert_eq!(arrived(&mut a.1), b"one more");
            assert_eq!(arrived(&mut b.1), b"two!");
            assert_eq!(arrived(&mut c.1), b"xy".repeat(SLICES_MAX));
        });
    }

    #[test]
    fn a_socket_without_room_takes_a_part_and_then_refuses() {
        with_each_sender(|sender| {
            let (ours, mut theirs) = tcp_pair();
            rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
            let block: Vec<u8> = (0..8 << 20).map(|index: u32| (index % 251) as u8).collect();
            let (front, back) = block.split_at(100);
            // The socket blocks: that the send does not is the flag's doing. The kernel may make
            // more room while the peer's side takes its share, so try until it refuses.
            let mut sent = 0;
            let mut shorts = 0;
            loop {
                let rest = [&front[sent.min(100)..], &back[sent.saturating_sub(100)..]];
                match send(sender, vec![item(1, &ours, &rest)])[..] {
                    [SendOutcome::Sent(count)] => {
                        assert!(count > 0 && count < block.len() - sent);
                        sent += count;
                        shorts += 1;
                    }
                    [SendOutcome::Refused] => break,
                    ref other => panic!("{other:?}"),
                }
            }
            assert!(shorts > 0);
            let one = send(sender, vec![item(1, &ours, &[&block[sent..]])]);
            assert_eq!(one, [SendOutcome::Refused]);
            let mut received = vec![0; sent];
            theirs.read_exact(&mut received).unwrap();
            assert_eq!(received, block[..sent]);
        });
    }

    #[test]
    fn a_peer_that_has_gone_fails_alone() {
        with_each_sender(|sender| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (mut alive, fine) = UnixStream::pair().unwrap();
            let closed = UnixStream::pair().unwrap().0.as_raw_fd();
            drop(theirs);
            let outcomes = send(
                sender,
                vec![
                    item(1, &ours, &[b"lost"]),
                    item(2, &ours, &[b"lo", b"st"]),
                    item(3, &fine, &[b"kept"]),
                    SendItem {
                        slot: 4,
                        fd: closed,
                        slices: smallvec![b"x".as_slice()],
                    },
                    SendItem {
                        slot: 5,
                        fd: -1,
                        slices: smallvec![b"x".as_slice()],
                    },
                ],
            );
            let [pipe, bad] = [Errno::PIPE, Errno::BADF].map(SendOutcome::Failed);
            assert_eq!(outcomes, [pipe, pipe, SendOutcome::Sent(4), bad, bad]);
            assert_eq!(arrived(&mut alive), b"kept");
        });
    }

    #[test]
    fn a_batch_may_be_larger_than_any_queue() {
        with_each_sender(|sender| {
            let mut pairs: Vec<_> = (0..32).map(|_| UnixStream::pair().unwrap()).collect();
            for count in [
                1,
                ENTER_SENDS_MAX - 1,
                ENTER_SENDS_MAX,
                ENTER_SENDS_MAX + 1,
                3000,
            ] {
                let lines: Vec<String> = (0..count).map(|number| format!("{number}\n")).collect();
                let items = lines.iter().enumerate().map(|(number, line)| {
                    let (front, back) = line.as_bytes().split_at(1);
                    let socket = &pairs[number % pairs.len()].0;
                    match number % 3 {
                        0 => item(number as u32, socket, &[front, back]),
                        _ => item(number as u32, socket, &[line.as_bytes()]),
                    }
                });
                let outcomes = send(sender, items.collect());
                let expected = lines.iter().map(|line| SendOutcome::Sent(line.len()));
                assert_eq!(outcomes, expected.collect::<Vec<_>>());
                let streams = pairs.len();
                for (first, pair) in pairs.iter_mut().enumerate() {
                    let expected: String = lines
                        .iter()
                        .skip(first)
                        .step_by(streams)
                        .map(String::as_str)
                        .collect();
                    assert_eq!(arrived(&mut pair.1), expected.as_bytes());
                }
            }
        });
    }

    #[test]
    fn a_batch_in_steady_state_allocates_nothing() {
        let Ok(Sender::Ring(mut ring)) = Sender::ring() else {
            return;
        };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut results = Vec::new();
        let mut capacities = Vec::new();
        for _ in 0..4 {
            results.clear();
            let items = (0..ENTER_SENDS_MAX as u32).map(|slot| match slot % 2 {
                0 => item(slot, &ours, &[b"a"]),
                _ => item(slot, &ours, &[b"b", b"c"]),
            });
            assert_eq!(ring.send_some(items, &mut results), Ok(ENTER_SENDS_MAX));
            assert_eq!(arrived(&mut theirs), b"abc".repeat(ENTER_SENDS_MAX / 2));
            let scratch = [
                ring.queued.capacity(),
                ring.iovecs.capacity(),
                ring.headers.capacity(),
            ];
            capacities.push((scratch, results.capacity()));
        }
        assert!(
            capacities[1..].iter().all(|each| *each == capacities[1]),
            "{capacities:?}"
        );
    }

    #[test]
    fn what_a_failed_ring_did_not_take_is_refused_and_the_rest_goes_plainly() {
        let Ok(Sender::Ring(ring)) = Sender::ring() else {
            return;
        };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        // Another file under the ring's number: every enter fails with EOPNOTSUPP.
        let other = sys::eventfd().unwrap();
        // SAFETY: an open descriptor; never dropped here, so the ring stays its owner.
        let ring_fd = unsafe { OwnedFd::from_raw_fd(ring.ring.as_raw_fd()) };
        let mut ring_fd = mem::ManuallyDrop::new(ring_fd);
        rustix::io::dup2(&other, &mut ring_fd).unwrap();
        let mut sender = Sender::Ring(ring);
        let items = (0..ENTER_SENDS_MAX as u32 + 2).map(|slot| item(slot, &ours, &[b"x"]));
        let outcomes = send(&mut sender, items.collect());
        assert!(!sender.is_ring());
        let (refused, sent) = outcomes.split_at(ENTER_SENDS_MAX);
        assert!(
            refused
                .iter()
                .all(|outcome| *outcome == SendOutcome::Refused)
        );
        assert_eq!(sent, [SendOutcome::Sent(1); 2]);
        assert_eq!(arrived(&mut theirs), b"xx");
    }

    #[test]
    fn the_probe_agrees_with_the_ring_and_the_reasons_read_well() {
        assert_eq!(uring_available().is_ok(), Sender::ring().is_ok());
        let forbidden = RingError::Refused(Errno::PERM).to_string();
        assert!(forbidden.contains("seccomp"), "{forbidden}");
        let lacks = RingError::Lacks("SENDMSG").to_string();
        assert_eq!(lacks, "this kernel's io_uring lacks SENDMSG");
    }
}
