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
use std::net::{IpAddr, SocketAddr};
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

/// Ends both directions: a waiting `readable()` or `writable()` returns. Wanted before a stream is
/// dropped while one waits: the runtime closes the descriptor only once that poll has completed.
///
/// # Errors
/// As [`shutdown_write`].
pub fn shutdown_both(fd: RawFd) -> Result<(), Errno> {
    rustix::net::shutdown(borrow(fd)?, Shutdown::Both)
}

/// The address of the other end of a connection; `None` where it has gone or is no IP address.
pub fn peer_address(fd: RawFd) -> Option<IpAddr> {
    let peer = rustix::net::getpeername(borrow(fd).ok()?).ok()??;
    SocketAddr::try_from(peer)
        .ok()
        .map(|peer| peer.ip().to_canonical())
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
pub fn accept_burst(listener: RawFd, limit: usize, mut take: impl FnMut(OwnedFd)) -> BurstEnd {
    let listener = match borrow(listener) {
        Ok(listener) => listener,
        Err(errno) => return BurstEnd::Broken(errno),
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    for _ in 0..limit {
        match rustix::net::accept_with(listener, flags) {
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
    /// Somebody has the address already, perhaps another instance of this server.
    InUse,
    /// A step was refused: its name and what the kernel said.
    Refused(&'static str, Errno),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("the address is in use, perhaps by another instance"),
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
    // call it is made for, which only receives, sends, accepts or shuts down: a number whose stream
    // has been closed meanwhile costs an EBADF or bytes on a wrong socket, not memory.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::io::FdFlags;

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// For tests that give a port back and want it again: where no other test takes ports from.
    const OWN_HOST: [u8; 4] = [127, 77, 0, 1];

    /// Accepts from a listener until nobody waits; a connection of a loopback client is in the
    /// backlog when its connect has returned.
    fn accept_all(listener: &OwnedFd) -> Vec<OwnedFd> {
        let mut accepted = Vec::new();
        assert_eq!(
            accept_burst(listener.as_raw_fd(), 1000, |fd| accepted.push(fd)),
            BurstEnd::Empty
        );
        accepted
    }

    fn tcp_pair() -> (TcpStream, OwnedFd) {
        let listeners = listen(ANY_PORT, 1).unwrap();
        let client = TcpStream::connect(listeners.address).unwrap();
        let accepted = accept_all(&listeners.sockets[0]).pop().unwrap();
        (client, accepted)
    }

    /// Repeats a receive until something has arrived: loopback is fast, not instant.
    fn recv_soon(fd: RawFd, buffer: &mut [u8]) -> Result<Received, Errno> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match recv(fd, buffer) {
                Ok(Received::Nothing) if Instant::now() < deadline => thread::yield_now(),
                result => return result,
            }
        }
    }

    #[test]
    fn a_receive_tells_nothing_from_bytes_from_the_end() {
        let (mut client, server) = tcp_pair();
        let mut buffer = [0; 4];
        assert_eq!(recv(server.as_raw_fd(), &mut buffer), Ok(Received::Nothing));
        client.write_all(b"hello").unwrap();
        assert_eq!(
            recv_soon(server.as_raw_fd(), &mut buffer),
            Ok(Received::Bytes(4))
        );
        assert_eq!(&buffer, b"hell");
        assert_eq!(
            recv_soon(server.as_raw_fd(), &mut buffer),
            Ok(Received::Bytes(1))
        );
        assert_eq!(buffer[0], b'o');
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            recv_soon(server.as_raw_fd(), &mut buffer),
            Ok(Received::End)
        );
    }

    #[test]
    fn a_blocking_socket_does_not_make_a_receive_or_a_send_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(recv(ours.as_raw_fd(), &mut [0; 4]), Ok(Received::Nothing));
        let block = [0; 65536];
        let mut sent = 0;
        let refused = loop {
            match send(ours.as_raw_fd(), &block) {
                Ok(count) => sent += count,
                Err(errno) => break errno,
            }
        };
        assert_eq!(refused, Errno::AGAIN);
        assert!(sent > 0);
        assert_eq!(
            send_slices(ours.as_raw_fd(), &[b"a", b"b"]),
            Err(Errno::AGAIN)
        );
        drop(theirs);
        assert_eq!(send(ours.as_raw_fd(), b"a"), Err(Errno::PIPE));
        assert_eq!(
            send_slices(ours.as_raw_fd(), &[b"a", b"b"]),
            Err(Errno::PIPE)
        );
    }

    #[test]
    fn several_slices_leave_as_one_run() {
        let (mut client, server) = tcp_pair();
        let many = vec![b"xy".as_slice(); SLICES_MAX + 1];
        assert_eq!(send_slices(server.as_raw_fd(), &[]), Ok(0));
        assert_eq!(
            send_slices(server.as_raw_fd(), &[b"ab", b"", b"cd", b"e"]),
            Ok(5)
        );
        assert_eq!(send_slices(server.as_raw_fd(), &many), Ok(2 * SLICES_MAX));
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("abcde{}", "xy".repeat(SLICES_MAX)));
    }

    #[test]
    fn after_shutdown_write_the_peer_sees_the_end_and_may_still_send() {
        let (mut client, server) = tcp_pair();
        shutdown_write(server.as_raw_fd()).unwrap();
        assert_eq!(client.read(&mut [0; 4]).unwrap(), 0);
        client.write_all(b"x").unwrap();
        assert_eq!(
            recv_soon(server.as_raw_fd(), &mut [0; 4]),
            Ok(Received::Bytes(1))
        );
        shutdown_both(server.as_raw_fd()).unwrap();
        assert_eq!(recv(server.as_raw_fd(), &mut [0; 4]), Ok(Received::End));
        assert_eq!(send(server.as_raw_fd(), b"x"), Err(Errno::PIPE));
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_an_error() {
        for fd in [-1, RawFd::MIN, RawFd::MAX] {
            assert_eq!(recv(fd, &mut [0; 4]), Err(Errno::BADF));
            assert_eq!(send(fd, b"x"), Err(Errno::BADF));
            assert_eq!(send_slices(fd, &[b"x", b"y"]), Err(Errno::BADF));
            assert_eq!(shutdown_write(fd), Err(Errno::BADF));
            assert_eq!(shutdown_both(fd), Err(Errno::BADF));
            let end = accept_burst(fd, 1, |_| panic!("accepted from nothing"));
            assert_eq!(end, BurstEnd::Broken(Errno::BADF));
        }
    }

    #[test]
    fn accepted_sockets_are_non_blocking_close_on_exec_and_have_no_delay() {
        for localhost in [ANY_PORT.ip(), Ipv6Addr::LOCALHOST.into()] {
            let listeners = match listen(SocketAddr::new(localhost, 0), 2) {
                Err(ListenError::Refused(_, Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
                    if localhost.is_ipv6() =>
                {
                    continue;
                }
                listeners => listeners.unwrap(),
            };
            let clients: Vec<_> = (0..16)
                .map(|_| TcpStream::connect(listeners.address).unwrap())
                .collect();
            let accepted: Vec<_> = listeners.sockets.iter().flat_map(accept_all).collect();
            assert_eq!(accepted.len(), clients.len());
            for fd in accepted {
                assert!(sockopt::tcp_nodelay(&fd).unwrap());
                assert!(
                    rustix::io::fcntl_getfd(&fd)
                        .unwrap()
                        .contains(FdFlags::CLOEXEC)
                );
                let error = TcpStream::from(fd).read(&mut [0; 4]).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            }
        }
    }

    #[test]
    fn a_burst_ends_at_its_limit_or_with_the_backlog() {
        let listeners = listen(ANY_PORT, 1).unwrap();
        let _clients = [(); 5].map(|()| TcpStream::connect(listeners.address).unwrap());
        let mut accepted = Vec::new();
        let mut burst = |limit| {
            let end = accept_burst(listeners.sockets[0].as_raw_fd(), limit, |fd| {
                accepted.push(fd)
            });
            (end, accepted.len())
        };
        assert_eq!(burst(0), (BurstEnd::Limit, 0));
        assert_eq!(burst(3), (BurstEnd::Limit, 3));
        assert_eq!(burst(3), (BurstEnd::Empty, 5));
        assert_eq!(burst(3), (BurstEnd::Empty, 5));
        let end = accept_burst(accepted[0].as_raw_fd(), 1, |_| {
            panic!("accepted from no listener")
        });
        assert_eq!(end, BurstEnd::Broken(Errno::INVAL));
    }

    #[test]
    fn every_listener_of_an_address_gets_connections_and_none_gets_lost() {
        let listeners = listen(ANY_PORT, 3).unwrap();
        assert_ne!(listeners.address.port(), 0);
        assert_eq!(listeners.sockets.len(), 3);
        // Three listeners and a hash: one of them gets nothing once in 10^16 runs.
        let _clients = [(); 96].map(|()| TcpStream::connect(listeners.address).unwrap());
        let counts: Vec<usize> = listeners
            .sockets
            .iter()
            .map(|socket| accept_all(socket).len())
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), 96);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn a_second_instance_is_refused_while_the_first_listens() {
        let first = listen((OWN_HOST, 0).into(), 2).unwrap();
        for count in [1, 2] {
            assert_eq!(
                listen(first.address, count).unwrap_err(),
                ListenError::InUse
            );
        }
        // A connection of the first instance that we have closed is in TIME_WAIT: no obstacle.
        let client = TcpStream::connect(first.address).unwrap();
        let accepted: Vec<_> = first.sockets.iter().flat_map(accept_all).collect();
        let address = first.address;
        drop((accepted, first));
        drop(client);
        assert_eq!(listen(address, 2).unwrap().address, address);
    }

    #[test]
    fn of_instances_that_start_at_once_exactly_one_listens() {
        let address = listen((OWN_HOST, 0).into(), 1).unwrap().address;
        for _ in 0..100 {
            let start = Barrier::new(4);
            let instances: Vec<_> = thread::scope(|scope| {
                let instance = || {
                    start.wait();
                    listen(address, 3)
                };
                let threads = [(); 4].map(|()| scope.spawn(instance));
                threads.map(|thread| thread.join().unwrap()).into()
            });
            let refused = instances
                .iter()
                .filter(|result| matches!(result, Err(ListenError::InUse)));
            assert_eq!(refused.count(), 3);
            assert_eq!(instances.iter().filter(|result| result.is_ok()).count(), 1);
        }
    }

    #[test]
    fn an_address_that_is_not_ours_names_the_step() {
        // 192.0.2.0/24 is for documentation (RFC 5737).
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = listen(foreign, 1).unwrap_err();
        assert_eq!(error, ListenError::Refused("bind", Errno::ADDRNOTAVAIL));
        assert!(error.to_string().starts_with("bind: "));
    }

    #[test]
    fn an_eventfd_is_clear_after_one_clear_however_often_it_was_signalled() {
        let fd = eventfd().unwrap();
        assert!(!eventfd_clear(&fd));
        eventfd_signal(&fd);
        eventfd_signal(&fd);
        assert!(eventfd_clear(&fd));
        assert!(!eventfd_clear(&fd));
        // A counter that is full takes no signal, and needs none.
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        eventfd_signal(&fd);
        assert!(eventfd_clear(&fd));
    }

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let raised = raise_descriptors_max();
        let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(raised, maximum.unwrap_or(u64::MAX));
    }
}
