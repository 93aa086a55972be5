//! The floor's sends: many in one system call where io_uring is to be had, else one by one.
//!
//! Invariant: every send of a batch has completed before [`Sender::send`] returns, so that the
//! kernel has the borrowed bytes only for the call.
#![allow(unsafe_code)] // Filling the submission queue with pointers; argued at the place.

use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

const ENTRIES: u32 = 1024;
/// Sends of one system call, at most.
const BATCH_MAX: usize = 256;
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// One send of some bytes to one socket.
pub(super) struct Send<'a> {
    pub(super) slot: u32,
    pub(super) fd: BorrowedFd<'a>,
    pub(super) bytes: &'a [u8],
}

/// What sends.
pub(super) struct Sender {
    ring: Option<IoUring>,
    results: Vec<i32>,
}

impl Sender {
    /// With a ring if the kernel gives one and it is wanted.
    pub(super) fn new(wants_ring: bool) -> Self {
        let ring = || {
            IoUring::builder()
                .setup_submit_all()
                .setup_coop_taskrun()
                .setup_single_issuer()
                .build(ENTRIES)
                .ok()
        };
        Self {
            ring: wants_ring.then(ring).flatten(),
            results: Vec::new(),
        }
    }

    pub(super) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Sends each once and tells how many bytes the kernel took of it; `None`: the connection is
    /// finished.
    pub(super) fn send(
        &mut self,
        sends: &[Send<'_>],
        mut tell: impl FnMut(&Send<'_>, Option<usize>),
    ) {
        for batch in sends.chunks(BATCH_MAX) {
            match &mut self.ring {
                Some(ring) => submit(ring, batch, &mut self.results),
                None => {
                    self.results.clear();
                    self.results.extend(batch.iter().map(plain));
                }
            }
            for (send, &result) in batch.iter().zip(&self.results) {
                let taken = match result {
                    0.. => Some(result as usize),
                    _ if result == -libc::EAGAIN || result == -libc::EINTR => Some(0),
                    _ => None,
                };
                tell(send, taken);
            }
        }
    }
}

fn plain(send: &Send<'_>) -> i32 {
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    match rustix::net::send(send.fd, send.bytes, flags) {
        Ok(count) => count as i32,
        Err(errno) => -errno.raw_os_error(),
    }
}

fn submit(ring: &mut IoUring, batch: &[Send<'_>], results: &mut Vec<i32>) {
    results.clear();
    results.resize(batch.len(), -libc::EAGAIN);
    for (index, send) in batch.iter().enumerate() {
        let entry = opcode::Send::new(
            types::Fd(send.fd.as_raw_fd()),
            send.bytes.as_ptr(),
            send.bytes.len() as u32,
        )
        .flags(FLAGS)
        .build()
        .user_data(index as u64);
        // SAFETY: the bytes and the descriptor are borrowed for the whole call, and the call does
        // not return before the completion of this entry has been reaped (below).
        let pushed = unsafe { ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "a batch is smaller than the queue");
    }
    let mut reaped = 0;
    while reaped < batch.len() {
        if let Err(error) = ring.submit_and_wait(batch.len() - reaped) {
            let is_passing = matches!(
                error.raw_os_error(),
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
            );
            if !is_passing {
                // The kernel may still have the bytes: this call must not return.
                eprintln!("error: the ring failed: {error}");
                std::process::abort();
            }
        }
        for completion in ring.completion() {
            results[completion.user_data() as usize] = completion.result();
            reaped += 1;
        }
    }
}
