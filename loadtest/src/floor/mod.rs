//! The floor: a bare server that does what any server of this protocol must do, and checks nothing.
//!
//! It upgrades, greets, subscribes, publishes and passes client events on; it has no apps, no
//! signatures, no limits, no timeouts and no slow-consumer rule. What the same scenario costs here
//! is what this host and kernel charge, so that a figure of a server can be given as a ratio. One
//! thread: epoll to read, and one send for each subscriber and event, many in one system call.
//! `joined`: the events of a channel that came in one turn leave as one send for each subscriber.
//!
//! Never put it on a network: it believes everything.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

mod message;
mod ring;

use message::{Asked, Request};
use ring::{Send, Sender};

use crate::args::Floor as Options;
use crate::frame::{self, Opcode};
use crate::stop::Stop;

/// Events of one turn.
const EVENTS_MAX: usize = 512;
const READ_BYTES: usize = 256 * 1024;
/// Connections taken in one go.
const ACCEPTS_MAX: usize = 256;
const BACKLOG: i32 = 4096;
/// What a connection may leave unread, and what may come of it unfinished; it is closed over it.
const HELD_BYTES_MAX: usize = 64 << 20;
const LISTENER: u64 = u64::MAX;

/// Serves until the process is told to end.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let stop = Stop::after(Duration::MAX)?;
    let address: SocketAddr = (options.host, options.port).into();
    let mut floor = Floor::new(address, options)?;
    let sends = if floor.sender.has_ring() {
        "io_uring"
    } else {
        "plain sends"
    };
    let joined = if options.joined {
        ", events of a turn joined"
    } else {
        ""
    };
    println!("floor listens on {} with {sends}{joined}", floor.address);
    while !stop.is_over() {
        floor.turn()?;
    }
    Ok(())
}

/// A connection. All begin as HTTP.
struct Conn {
    fd: OwnedFd,
    is_websocket: bool,
    /// What has come of a request or frame that is not whole.
    held: Vec<u8>,
    /// What the kernel has not taken.
    unsent: Vec<u8>,
    subscriptions: Vec<Subscription>,
}

/// Both know where the other is, so that leaving costs the same in any channel.
#[derive(Clone, Copy)]
struct Subscription {
    channel: u32,
    position: u32,
}

#[derive(Default)]
struct Channel {
    name: Vec<u8>,
    subscribers: Vec<u32>,
    /// What this turn has to send.
    pending: Vec<Pending>,
}

struct Pending {
    frame: Vec<u8>,
    except: Option<u32>,
}

struct Floor {
    address: SocketAddr,
    listener: OwnedFd,
    epoll: OwnedFd,
    is_joining: bool,
    sender: Sender,
    conns: Vec<Option<Conn>>,
    free: Vec<u32>,
    names: HashMap<Vec<u8>, u32>,
    channels: Vec<Channel>,
    /// Channels with something pending.
    dirty: Vec<u32>,
    buffer: Vec<u8>,
    /// Answers to what one read brought.
    replies: Vec<u8>,
    /// Connections to close when the turn has sent.
    finished: Vec<u32>,
    opened: u64,
}

impl Floor {
    fn new(address: SocketAddr, options: &Options) -> io::Result<Self> {
        crate::limits::raise()?;
        let family = match address.is_ipv4() {
            true => AddressFamily::INET,
            false => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        sockopt::set_tcp_nodelay(&listener, true)?;
        rustix::net::bind(&listener, &address)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Self {
            address: rustix::net::getsockname(&listener)?.try_into()?,
            listener,
            epoll,
            is_joining: options.joined,
            sender: Sender::new(!options.plain_sends),
            conns: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            channels: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES],
            replies: Vec::new(),
            finished: Vec::new(),
            opened: 0,
        })
    }

    /// Reads what there is, then sends what it brought.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            let (number, flags) = (event.data.u64(), event.flags);
            if number == LISTENER {
                self.accept()?;
                continue;
            }
            let slot = number as u32;
            if flags.contains(EventFlags::OUT) {
                self.send_rest(slot);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(slot);
            }
        }
        for slot in std::mem::take(&mut self.finished) {
            self.close(slot);
        }
        self.flush();
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        for _ in 0..ACCEPTS_MAX {
            let fd = match rustix::net::accept_with(&self.listener, flags) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => break,
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(Errno::MFILE | Errno::NFILE) => {
                    std::thread::sleep(Duration::from_millis(100));
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() as u32 - 1
            });
            epoll::add(
                &self.epoll,
                &fd,
                EventData::new_u64(slot.into()),
                EventFlags::IN,
            )?;
            self.conns[slot as usize] = Some(Conn {
                fd,
                is_websocket: false,
                held: Vec::new(),
                unsent: Vec::new(),
                subscriptions: Vec::new(),
            });
        }
        Ok(())
    }

    fn read(&mut self, slot: u32) {
        let Some(conn) = &mut self.conns[slot as usize] else {
            return;
        };
        let count = match rustix::io::read(&conn.fd, &mut self.buffer[..]) {
            Ok(0) => return self.close(slot),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.close(slot),
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let is_fine = if conn.held.is_empty() {
            let used = self.on_input(slot, &mut buffer[..count]);
            self.hold(slot, used.map(|used| buffer[used..count].to_vec()))
        } else {
            let mut held = std::mem::take(&mut conn.held);
            held.extend_from_slice(&buffer[..count]);
            let used = self.on_input(slot, &mut held);
            let rest = used.map(|used| {
                held.drain(..used);
                held
            });
            self.hold(slot, rest)
        };
        self.buffer = buffer;
        let replies = std::mem::take(&mut self.replies);
        if is_fine && !replies.is_empty() {
            self.reply(slot, &replies);
        } else if !is_fine {
            self.close(slot);
        }
        self.replies = replies;
        self.replies.clear();
    }

    fn hold(&mut self, slot: u32, rest: Option<Vec<u8>>) -> bool {
        match (&mut self.conns[slot as usize], rest) {
            (Some(conn), Some(rest)) => {
                conn.held = rest;
                conn.held.len() <= HELD_BYTES_MAX
            }
            _ => false,
        }
    }

    /// Takes whole requests and frames; how many bytes they were, or `None` at an end.
    fn on_input(&mut self, slot: u32, bytes: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(conn) = &mut self.conns[slot as usize] {
            if !conn.is_websocket {
                let Some((request, used)) = message::request(&bytes[at..]) else {
                    break;
                };
                at += used;
                match crate::http::field(request.head, b"sec-websocket-key") {
                    Some(key) => {
                        conn.is_websocket = true;
                        self.greet(slot, key);
                    }
                    None => self.on_request(request),
                }
                continue;
            }
            let Some((opcode, payload, used)) = frame::parse_masked(&mut bytes[at..]).ok()? else {
                break;
            };
            match opcode {
                Opcode::Text => self.on_text(slot, payload),
                Opcode::Ping => frame::encode_plain(Opcode::Pong, payload, &mut self.replies),
                Opcode::Pong => {}
                Opcode::Close => return None,
            }
            at += used;
        }
        Some(at)
    }

    fn greet(&mut self, slot: u32, key: &[u8]) {
        self.opened += 1;
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            message::accept(key)
        );
        let greeting = format!(
            r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"{}.{slot}\",\"activity_timeout\":120}}"}}"#,
            self.opened
        );
        self.replies.extend_from_slice(head.as_bytes());
        frame::encode_plain(Opcode::Text, greeting.as_bytes(), &mut self.replies);
    }

    fn on_request(&mut self, request: Request<'_>) {
        const TAKEN: &[u8] =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        const REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        if !request.head.starts_with(b"POST") {
            return self.replies.extend_from_slice(TAKEN);
        }
        let Some(publish) = message::publish(request.body) else {
            return self.replies.extend_from_slice(REFUSED);
        };
        if let Some(&channel) = self.names.get(publish.channel) {
            let text = [
                &b"{\"event\":\""[..],
                publish.name,
                b"\",\"channel\":\"",
                publish.channel,
                b"\",\"data\":\"",
                publish.data,
                b"\"}",
            ];
            self.publish(channel, &text, None);
        }
        self.replies.extend_from_slice(TAKEN);
    }

    fn on_text(&mut self, slot: u32, text: &[u8]) {
        match message::asked(text) {
            Asked::Subscribe { channel } => self.subscribe(slot, channel),
            Asked::Unsubscribe { channel } => {
                if let Some(&channel) = self.names.get(channel) {
                    self.unsubscribe(slot, channel);
                }
            }
            Asked::Ping => {
                let pong = br#"{"event":"pusher:pong","data":"{}"}"#;
                frame::encode_plain(Opcode::Text, pong, &mut self.replies);
            }
            Asked::ClientEvent { channel } => {
                if let Some(&channel) = self.names.get(channel) {
                    self.publish(channel, &[text], Some(slot));
                }
            }
            Asked::Nothing => {}
        }
    }

    fn subscribe(&mut self, slot: u32, name: &[u8]) {
        let number = match self.names.get(name) {
            Some(&number) => number,
            None => {
                let number = self.channels.len() as u32;
                self.channels.push(Channel {
                    name: name.to_vec(),
                    ..Channel::default()
                });
                self.names.insert(name.to_vec(), number);
                number
            }
        };
        self.send_pending(number);
        let channel = &mut self.channels[number as usize];
        let position = channel.subscribers.len() as u32;
        channel.subscribers.push(slot);
        if let Some(conn) = &mut self.conns[slot as usize] {
            conn.subscriptions.push(Subscription {
                channel: number,
                position,
            });
        }
        let is_presence = name.starts_with(b"presence-");
        let text = String::from_utf8_lossy(name);
        let data = match is_presence {
            true => format!(r#"{{\"presence\":{{\"count\":{}}}}}"#, position + 1),
            false => "{}".to_owned(),
        };
        let answer = format!(
            r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{text}","data":"{data}"}}"#
        );
        frame::encode_plain(Opcode::Text, answer.as_bytes(), &mut self.replies);
        if is_presence {
            self.tell_members("member_added", number, slot);
        }
    }

    fn unsubscribe(&mut self, slot: u32, number: u32) {
        let Some(conn) = &mut self.conns[slot as usize] else {
            return;
        };
        let Some(nth) = conn.subscriptions.iter().position(|s| s.channel == number) else {
            return;
        };
        let left = conn.subscriptions.swap_remove(nth);
        self.leave(left);
        if self.channels[number as usize]
            .name
            .starts_with(b"presence-")
        {
            self.tell_members("member_removed", number, slot);
        }
    }

    /// Takes a subscriber out of its channel; the last one takes its place.
    fn leave(&mut self, left: Subscription) {
        self.send_pending(left.channel);
        let subscribers = &mut self.channels[left.channel as usize].subscribers;
        subscribers.swap_remove(left.position as usize);
        let Some(&moved) = subscribers.get(left.position as usize) else {
            return;
        };
        let Some(conn) = &mut self.conns[moved as usize] else {
            return;
        };
        if let Some(entry) = conn
            .subscriptions
            .iter_mut()
            .find(|s| s.channel == left.channel)
        {
            entry.position = left.position;
        }
    }

    fn tell_members(&mut self, what: &str, channel: u32, slot: u32) {
        let name = String::from_utf8_lossy(&self.channels[channel as usize].name);
        let text = format!(
            r#"{{"event":"pusher_internal:{what}","channel":"{name}","data":"{{\"user_id\":\"{slot}\"}}"}}"#
        );
        self.publish(channel, &[text.as_bytes()], Some(slot));
    }

    fn publish(&mut self, number: u32, text: &[&[u8]], except: Option<u32>) {
        let channel = &mut self.channels[number as usize];
        if channel.subscribers.is_empty() {
            return;
        }
        if channel.pending.is_empty() {
            self.dirty.push(number);
        }
        let bytes = text.iter().map(|part| part.len()).sum();
        let mut frame = Vec::with_capacity(bytes + 10);
        frame::header(Opcode::Text, bytes, false, &mut frame);
        text.iter().for_each(|part| frame.extend_from_slice(part));
        match channel.pending.last_mut() {
            Some(last) if self.is_joining && last.except.is_none() && except.is_none() => {
                last.frame.append(&mut frame);
            }
            _ => channel.pending.push(Pending { frame, except }),
        }
    }

    /// Sends what the turn has brought, and what closing connections brings.
    fn flush(&mut self) {
        while let Some(number) = self.dirty.pop() {
            self.send_pending(number);
            for slot in std::mem::take(&mut self.finished) {
                self.close(slot);
            }
        }
    }

    /// Sends what a channel has for its subscribers: at the end of a turn, and before they change,
    /// so that nobody gets what was before or misses what was owed.
    fn send_pending(&mut self, number: u32) {
        let channel = &mut self.channels[number as usize];
        if channel.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut channel.pending);
        let subscribers = std::mem::take(&mut channel.subscribers);
        for Pending { frame, except } in &pending {
            self.fan_out(&subscribers, frame, *except);
        }
        self.channels[number as usize].subscribers = subscribers;
    }

    fn fan_out(&mut self, subscribers: &[u32], frame: &[u8], except: Option<u32>) {
        let mut rests = Vec::new();
        let mut sends = Vec::with_capacity(subscribers.len());
        for &slot in subscribers.iter().filter(|&&slot| Some(slot) != except) {
            match &self.conns[slot as usize] {
                Some(conn) if conn.unsent.is_empty() => sends.push(Send {
                    slot,
                    fd: conn.fd.as_fd(),
                    bytes: frame,
                }),
                _ => rests.push((slot, 0)),
            }
        }
        let finished = &mut self.finished;
        self.sender.send(&sends, |send, taken| match taken {
            Some(taken) if taken == frame.len() => {}
            Some(taken) => rests.push((send.slot, taken)),
            None => finished.push(send.slot),
        });
        for (slot, taken) in rests {
            self.keep(slot, &frame[taken..]);
        }
    }

    fn reply(&mut self, slot: u32, bytes: &[u8]) {
        let Some(conn) = &self.conns[slot as usize] else {
            return;
        };
        let taken = match conn.unsent.is_empty() {
            true => rustix::net::send(&conn.fd, bytes, rustix::net::SendFlags::NOSIGNAL),
            false => Err(Errno::AGAIN),
        };
        match taken {
            Ok(taken) if taken == bytes.len() => {}
            Ok(taken) => self.keep(slot, &bytes[taken..]),
            Err(Errno::AGAIN | Errno::INTR) => self.keep(slot, bytes),
            Err(_) => self.finished.push(slot),
        }
    }

    /// Keeps what the kernel has not taken, and asks to be told when it does.
    fn keep(&mut self, slot: u32, bytes: &[u8]) {
        let Some(conn) = &mut self.conns[slot as usize] else {
            return;
        };
        let is_first = conn.unsent.is_empty();
        conn.unsent.extend_from_slice(bytes);
        let is_over = conn.unsent.len() > HELD_BYTES_MAX;
        if is_over || (is_first && !self.watch(slot, EventFlags::IN | EventFlags::OUT)) {
            self.finished.push(slot);
        }
    }

    fn send_rest(&mut self, slot: u32) {
        let Some(conn) = &mut self.conns[slot as usize] else {
            return;
        };
        match rustix::net::send(&conn.fd, &conn.unsent, rustix::net::SendFlags::NOSIGNAL) {
            Ok(taken) => {
                conn.unsent.drain(..taken);
                if conn.unsent.is_empty() {
                    conn.unsent = Vec::new();
                    self.watch(slot, EventFlags::IN);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.close(slot),
        }
    }

    fn watch(&self, slot: u32, flags: EventFlags) -> bool {
        let data = EventData::new_u64(slot.into());
        match &self.conns[slot as usize] {
            Some(conn) => epoll::modify(&self.epoll, &conn.fd, data, flags).is_ok(),
            None => false,
        }
    }

    fn close(&mut self, slot: u32) {
        let Some(conn) = self.conns[slot as usize].take() else {
            return;
        };
        for left in conn.subscriptions {
            self.leave(left);
            if self.channels[left.channel as usize]
                .name
                .starts_with(b"presence-")
            {
                self.tell_members("member_removed", left.channel, slot);
            }
        }
        self.free.push(slot);
    }
}
