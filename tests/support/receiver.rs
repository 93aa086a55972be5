//! The back end that webhooks are posted to: a small HTTP server on threads of its own.
//!
//! It keeps what comes, byte for byte, and answers each request as the test says. What every webhook
//! must have is checked when a test asks for it ([`Posted::events`]), so that a wrong one fails
//! whatever the test is about.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::Value;

use super::server::{for_shards_at_once, with_shown_log};
use super::{App, Config, Server, WAIT};

/// Every kind that there is, as `event_types` has them.
pub const ALL: [&str; 7] = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
];

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status and no body.
    Status(u16),
    /// The same after a while.
    After(Duration, u16),
    /// These bytes, and then the connection is closed.
    Bytes(Vec<u8>),
    /// Never.
    Nothing,
}

/// The file with the authority that has signed the certificate of [`Receiver::start_tls`].
pub const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tls/ca.pem");

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One request.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Request line and headers, as they came.
    pub head: String,
    pub body: Vec<u8>,
    pub at: Instant,
    pub unix_ms: u64,
    /// The number of the connection that it came on.
    pub connection: usize,
}

/// See the module.
pub struct Receiver {
    pub address: SocketAddr,
    origin: String,
    shared: Arc<Shared>,
}

/// Says how the request of a number is answered.
type Answering = dyn Fn(usize, &Posted) -> Reply + Send + Sync;

struct Shared {
    posted: Mutex<Vec<Posted>>,
    more: Condvar,
    reply: Box<Answering>,
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicUsize,
    /// Requests that are being answered, and how many there were at most.
    busy: AtomicUsize,
    busy_max: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

impl Receiver {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::start_with(|_, _| Reply::Status(200))
    }

    /// One that answers the request of this number, counted from 0, so.
    pub fn start_with(reply: impl Fn(usize, &Posted) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(LOOPBACK, reply)
    }

    /// The same at an address that is free.
    pub fn start_at(
        address: SocketAddr,
        reply: impl Fn(usize, &Posted) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_over(None, address, reply)
    }

    /// One that takes everything over TLS, as `localhost`, with a certificate of [`AUTHORITY`].
    pub fn start_tls() -> Self {
        let config = Some(Arc::new(tls()));
        Self::start_over(config, LOOPBACK, |_, _| Reply::Status(200))
    }

    fn start_over(
        tls: Option<Arc<ServerConfig>>,
        address: SocketAddr,
        reply: impl Fn(usize, &Posted) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let origin = match &tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let shared = Arc::new(Shared {
            tls,
            posted: Mutex::default(),
            more: Condvar::new(),
            reply: Box::new(reply),
            connections: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            busy_max: AtomicUsize::new(0),
            open: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || of_thread.accept(&listener));
        Self {
            address,
            origin,
            shared,
        }
    }

    pub fn url(&self) -> String {
        format!("{}/hook", self.origin)
    }

    /// The lines of an endpoint that wants these kinds; others behind them.
    pub fn endpoint(&self, kinds: &[&str], lines: &str) -> String {
        endpoint(&self.url(), kinds, lines)
    }

    /// How many have been opened.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Requests that it was answering at the same time, at most.
    pub fn busy_max(&self) -> usize {
        self.shared.busy_max.load(Ordering::Relaxed)
    }

    /// What has come up to now.
    pub fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().unwrap().clone()
    }

    /// What has come, once there is enough of it.
    pub fn wait(&self, enough: impl Fn(&[Posted]) -> bool) -> Vec<Posted> {
        let posted = self.shared.posted.lock().unwrap();
        let (posted, waited) = self
            .shared
            .more
            .wait_timeout_while(posted, WAIT, |posted| !enough(posted))
            .unwrap();
        assert!(!waited.timed_out(), "not enough: {posted:#?}");
        posted.clone()
    }

    /// All events, once there are so many; each request is checked.
    pub fn events(&self, app: &App, count: usize) -> Vec<Value> {
        let posted = self.wait(|posted| event_count(posted) >= count);
        posted.iter().flat_map(|p| p.events(app)).collect()
    }

    /// All events up to now, when this one is among them: others that were caused before would
    /// have come.
    pub fn events_through(&self, app: &App, last: &Value) -> Vec<Value> {
        let all =
            |posted: &[Posted]| -> Vec<_> { posted.iter().flat_map(|p| p.events(app)).collect() };
        all(&self.wait(|posted| all(posted).contains(last)))
    }

    /// No further request comes for a while.
    pub fn expect_silence(&self, silence: Duration) {
        let before = self.posted().len();
        thread::sleep(silence);
        let after = self.posted();
        assert_eq!(after.len(), before, "{:#?}", &after[before..]);
    }
}

/// The lines of an endpoint.
pub fn endpoint(url: &str, kinds: &[&str], lines: &str) -> String {
    format!("[[apps.webhooks]]\nurl = \"{url}\"\nevent_types = {kinds:?}\n{lines}\n")
}

/// Runs a test on 1, 2 and 5 shards at once, each with a receiver of its own.
pub fn on_shards_with_receiver(
    config: impl Fn(&Receiver) -> Config + Sync,
    test: impl Fn(&Server, &Receiver) + Sync,
) {
    for_shards_at_once(|shards| {
        let receiver = Receiver::start();
        let server = Server::start(&config(&receiver), shards);
        with_shown_log(&server, |server| test(server, &receiver));
    });
}

/// Certificate and key are for these tests alone and valid for a hundred years.
fn tls() -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_no_client_auth();
    builder.with_single_cert(vec![certificate], key).unwrap()
}

fn event_count(posted: &[Posted]) -> usize {
    let count = |p: &Posted| p.json()["events"].as_array().unwrap().len();
    posted.iter().map(count).sum()
}

impl Posted {
    /// By its name exactly as it is written.
    pub fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(&*start))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Its events, after all that must hold of every webhook (webhooks 2 and 4): headers written
    /// so, a signature over these bytes, only the members that there are.
    #[track_caller]
    pub fn events(&self, app: &App) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).unwrap();
        assert!(self.head.starts_with("POST /"), "{}", self.head);
        assert!(self.head.lines().next().unwrap().ends_with(" HTTP/1.1"));
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        let length = self.body.len().to_string();
        assert_eq!(self.header("Content-Length"), Some(&*length));
        assert_eq!(self.header("X-Pusher-Key"), Some(app.key));
        assert_eq!(self.header("X-Pusher-Signature"), Some(&*app.sign(text)));
        assert!(
            self.header("User-Agent")
                .is_some_and(|agent| !agent.is_empty())
        );
        for name in [
            "content-type",
            "x-pusher-key",
            "x-pusher-signature",
            "user-agent",
        ] {
            let lower = self.head.to_ascii_lowercase();
            assert_eq!(
                lower.matches(&format!("\n{name}:")).count(),
                1,
                "{}",
                self.head
            );
        }
        let json = self.json();
        let members = json.as_object().unwrap();
        assert_eq!(members.len(), 2, "{text}");
        let time_ms = members["time_ms"].as_u64().expect("a number");
        assert!(self.unix_ms.abs_diff(time_ms) < 300_000, "{text}");
        let events = members["events"].as_array().expect("a list").clone();
        assert!(!events.is_empty());
        events.iter().for_each(check_members);
        events
    }
}

/// The members of an event are those of its kind, in the types that they must have.
fn check_members(event: &Value) {
    let members = event.as_object().expect("an object");
    let name = event["name"].as_str().expect("a name");
    let strings = match name {
        "channel_occupied" | "channel_vacated" | "cache_miss" => &["name", "channel"][..],
        "member_added" | "member_removed" => &["name", "channel", "user_id"],
        "client_event" if event.get("user_id").is_some() => {
            &["name", "channel", "event", "data", "socket_id", "user_id"]
        }
        "client_event" => &["name", "channel", "event", "data", "socket_id"],
        "subscription_count" => {
            assert!(event["subscription_count"].is_u64(), "{event}");
            assert_eq!(members.len(), 3, "{event}");
            return;
        }
        other => panic!("{other} is no kind"),
    };
    assert_eq!(members.len(), strings.len(), "{event}");
    assert!(
        strings.iter().all(|name| event[name].is_string()),
        "{event}"
    );
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            let connection = self.connections.fetch_add(1, Ordering::Relaxed);
            self.open.lock().unwrap().push(stream.try_clone().unwrap());
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.begin(stream, connection));
        }
    }

    fn begin(&self, mut tcp: TcpStream, connection: usize) {
        match &self.tls {
            None => self.serve(&mut tcp, connection),
            Some(config) => {
                let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
                self.serve(&mut Stream::new(&mut session, &mut tcp), connection);
            }
        }
        let _ = tcp.shutdown(Shutdown::Both);
    }

    /// Requests of one connection, until one of the two closes it.
    fn serve(&self, stream: &mut (impl Read + Write), connection: usize) {
        let mut held = VecDeque::new();
        while let Some((head, body)) = read_request(stream, &mut held) {
            let posted = Posted {
                head,
                body,
                at: Instant::now(),
                unix_ms: unix_ms(),
                connection,
            };
            let mut all = self.posted.lock().unwrap();
            let reply = (self.reply)(all.len(), &posted);
            all.push(posted);
            drop(all);
            self.more.notify_all();
            let busy = self.busy.fetch_add(1, Ordering::AcqRel) + 1;
            self.busy_max.fetch_max(busy, Ordering::AcqRel);
            if !self.answer(stream, reply) {
                return;
            }
        }
    }

    /// Whether another request may come on the connection.
    fn answer(&self, stream: &mut (impl Read + Write), reply: Reply) -> bool {
        // Before the answer is seen, so that a request which follows it is not one beside it.
        let done = || self.busy.fetch_sub(1, Ordering::AcqRel);
        let answer = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        match reply {
            Reply::Status(status) => {
                done();
                stream.write_all(answer(status).as_bytes()).is_ok()
            }
            Reply::After(pause, status) => {
                thread::sleep(pause);
                done();
                stream.write_all(answer(status).as_bytes()).is_ok()
            }
            Reply::Bytes(bytes) => {
                done();
                let _ = stream.write_all(&bytes);
                false
            }
            // Until the server goes, or the test ends.
            Reply::Nothing => {
                let _ = stream.read(&mut [0]);
                done();
                false
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Its accept returns.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Head and body of the next request; none at the end.
fn read_request(stream: &mut impl Read, held: &mut VecDeque<u8>) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(next_byte(stream, held)?);
    }
    let head = String::from_utf8(head).unwrap();
    // No chunks: some small receivers cannot read them (webhooks 2).
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.expect("a length").parse().unwrap();
    let body = (0..length)
        .map(|_| next_byte(stream, held))
        .collect::<Option<_>>()?;
    Some((head, body))
}

fn next_byte(stream: &mut impl Read, held: &mut VecDeque<u8>) -> Option<u8> {
    if held.is_empty() {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).ok().filter(|&count| count > 0)?;
        held.extend(&bytes[..count]);
    }
    held.pop_front()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}
