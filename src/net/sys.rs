//! The system calls that the runtime has no right shape for, behind safe functions.
//!
//! Every call here returns at once: receives and sends say MSG_DONTWAIT themselves, so that they do
//! not depend on a socket having been made non-blocking. Nothing here awaits, logs or retries, and
//! nothing owns a connection: descriptors of connections come in as numbers, because the stream
//! that owns one is a type of the runtime and the shard remembers four bytes. Whoever passes a
//! number promises that its stream is still open (decisions 14: a turn forgets a session before it
//! closes the descriptor). A stale number would be EBADF or the wrong peer, never unsound memory.
#![allow(unsafe_code)] // One place: `borrow`, which turns that number into what rustix takes.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::{error, fmt};

use rustix::event::EventfdFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType,
    sockopt,
};
use rustix::process::{Resource, Rlimit};
use smallvec::SmallVec;

/// What a failed call says; a number with a name.
pub use rustix::io::Errno;

/// Slices that one gathered send may carry: the kernel's UIO_MAXIOV. What a caller offers beyond
/// them is not sent, and so counts like bytes that found no room.
pub const SLICES_MAX: usize = 1024;

/// Connections that may wait to be accepted, per listener; the kernel cuts it to
/// `net.core.somaxconn`. At the bound it drops the SYN and the client tries again a second later.
pub const BACKLOG: i32 = 4096;

/// How often one receive or send is repeated when a signal cut it short.
const INTERRUPTS_MAX: u32 = 16;

/// What a receive found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one, at the start of the buffer.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The peer will send no more.
    End,
}

/// Receives what is there, at most the buffer. An empty buffer says `End`, so pass none.
///
/// # Errors
/// What the socket ended with, mostly ECONNRESET.
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let fd = borrow(fd)?;
    match uninterrupted(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT)) {
        Ok((0, _)) => Ok(Received::End),
        Ok((count, _)) => Ok(Received::Bytes(count)),
        Err(Errno::AGAIN) => Ok(Received::Nothing),
        Err(errno) => Err(errno),
    }
}

/// Sends one slice, as much of it as fits.
///
/// # Errors
/// EAGAIN when nothing fits; EPIPE or ECONNRESET when the peer has gone. Never raises SIGPIPE.
pub fn send(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let fd = borrow(fd)?;
    uninterrupted(|| rustix::net::send(fd, bytes, SEND_FLAGS))
}

/// Sends several slices as one run of bytes, as much of it as fits; see [`SLICES_MAX`].
///
/// # Errors
/// As [`send`].
pub fn send_slices(fd: RawFd, slices: &[&[u8]]) -> Result<usize, Errno> {
    if let [bytes] = slices {
        return send(fd, bytes);
    }
    let fd = borrow(fd)?;
    let offered = slices.iter().take(SLICES_MAX);
    let iovecs: SmallVec<[IoSlice<'_>; 64]> = offered.map(|bytes| IoSlice::new(bytes)).collect();
    let mut control = SendAncillaryBuffer::default();
    uninterrupted(|| rustix::net::sendmsg(fd, &iovecs, &mut control, SEND_FLAGS))
}

/// Tells the peer that we send no more. It may still send.
///
/// # Errors
/// ENOTCONN when the peer has reset the connection: nothing is left to do.
pub fn shutdown_write(fd: RawFd) -> Result<(), Errno> {
    rustix::net::shutdown(borrow(fd)?, Shutdown::Write)
}

/// Ends both directions: a waiting `readable()` or `writable()` returns.
///
/// # Errors
/// As [`shutdown_write`].
pub fn shutdown_both(fd: RawFd) -> Result<(), Errno> {
    rustix::net::shutdown(borrow(fd)?, Shutdown::Both)
}

/// Why a burst of accepts ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurstEnd {
    /// Nobody waits any more: await `readable()`.
    Empty,
    /// The limit was reached; more may wait.
    Limit,
    /// The process or the machine has no descriptor or memory left: pause before the next try, for
    /// the listener stays readable.
    Exhausted(Errno),
    /// The listener itself is broken or closed.
    Broken(Errno),
}

/// Accepts at most `limit` connections, non-blocking and close-on-exec, and hands each to `take`.
/// A connection that died in the backlog counts towards the limit and is skipped.
pub fn accept_burst(listener: impl AsFd, limit: usize, mut take: impl FnMut(OwnedFd)) -> BurstEnd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    for _ in 0..limit {
        match rustix::net::accept_with(&listener, flags) {
            Ok(connection) => take(connection),
            Err(Errno::AGAIN) => return BurstEnd::Empty,
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                return BurstEnd::Exhausted(errno);
            }
            Err(errno @ (Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)) => {
                return BurstEnd::Broken(errno);
            }
            // accept(2): Linux passes errors that already wait on the new socket (ECONNABORTED,
            // EPROTO, EHOSTUNREACH, ...); they say nothing of the listener.
            Err(_) => {}
        }
    }
    BurstEnd::Limit
}

/// The listeners of one address.
#[derive(Debug)]
pub struct Listeners {
    /// One per worker, non-blocking and close-on-exec.
    pub sockets: Vec<OwnedFd>,
    /// The address with the port the kernel chose, if port 0 was asked for.
    pub address: SocketAddr,
}

/// Why there are no listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// Somebody listens there already, perhaps another instance of this server.
    InUse,
    /// A step was refused: its name and what the kernel said.
    Refused(&'static str, Errno),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("another process, or another instance, listens there"),
            Self::Refused(step, errno) => write!(f, "{step}: {errno}"),
        }
    }
}

impl error::Error for ListenError {}

/// Listens `count` times (at least once) on one address, with SO_REUSEPORT among these sockets.
///
/// SO_REUSEPORT from the start would let a second instance of the same user share the port in
/// silence and take half of the clients. So the first socket binds and listens without it, which
/// fails while anybody listens, and which of two instances starting at once only one can do. Only
/// then the option is set, on the socket that already listens, and the others join it. Closing the
/// first and binding again would leave a gap in which another instance could pass the same check.
///
/// TCP_NODELAY is set here because accepted sockets inherit it: no system call per connection.
///
/// # Errors
/// [`ListenError::InUse`], or the step that was refused.
pub fn listen(address: SocketAddr, count: usize) -> Result<Listeners, ListenError> {
    let first = listening_socket(address, false)?;
    sockopt::set_socket_reuseport(&first, true).map_err(refused("SO_REUSEPORT"))?;
    let bound = rustix::net::getsockname(&first).map_err(refused("getsockname"))?;
    let address = SocketAddr::try_from(bound).map_err(refused("getsockname"))?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(listening_socket(address, true)?);
    }
    Ok(Listeners { sockets, address })
}

fn listening_socket(address: SocketAddr, reuse_port: bool) -> Result<OwnedFd, ListenError> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(refused("socket"))?;
    // Connections of a previous run in TIME_WAIT do not keep the port; a listener still does.
    sockopt::set_socket_reuseaddr(&socket, true).map_err(refused("SO_REUSEADDR"))?;
    sockopt::set_socket_reuseport(&socket, reuse_port).map_err(refused("SO_REUSEPORT"))?;
    sockopt::set_tcp_nodelay(&socket, true).map_err(refused("TCP_NODELAY"))?;
    rustix::net::bind(&socket, &address).map_err(refused("bind"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(refused("listen"))?;
    Ok(socket)
}

fn refused(step: &'static str) -> impl Fn(Errno) -> ListenError {
    move |errno| match errno {
        Errno::ADDRINUSE => ListenError::InUse,
        errno => ListenError::Refused(step, errno),
    }
}

/// An eventfd, non-blocking and close-on-exec, at zero.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn eventfd() -> Result<OwnedFd, Errno> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Makes an eventfd readable. One that is readable already stays so.
pub fn eventfd_signal(fd: impl AsFd) {
    // It can only fail with EAGAIN, when 2^64 - 2 signals wait: then it is readable.
    let _ = uninterrupted(|| rustix::io::write(&fd, &1u64.to_ne_bytes()));
}

/// Takes all signals of an eventfd, so that it is not readable; says whether there were any.
pub fn eventfd_clear(fd: impl AsFd) -> bool {
    uninterrupted(|| rustix::io::read(&fd, &mut [0u8; 8])).is_ok()
}

/// Raises the soft limit of open descriptors to the hard one, and returns what then holds:
/// `u64::MAX` if there is no limit. Refused, the old limit stays and is returned.
pub fn raise_descriptors_max() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let holds = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    holds.unwrap_or(u64::MAX)
}

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// A call that does not wait is hardly ever interrupted; a bound all the same, and at it EINTR.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..INTERRUPTS_MAX {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}

/// The number as rustix takes it. Negative numbers are no descriptors: EBADF.
fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: it is not -1, the one value that a BorrowedFd must not have. The borrow ends with the
    // call it is made for, and that call only receives, sends or shuts down: a number whose stream
    // has been closed meanwhile costs an EBADF or bytes on a wrong socket, not memory.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
