//! The process: bind, start one worker per shard, wait for a signal, drain, end.
//!
//! The main thread owns no connection. It ends the process when every shard has reported itself
//! empty, or when the grace period and a second are over; a second signal ends it at once
//! (WebSocket spec 5.4).

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;
use tracing_appender::non_blocking::ErrorCounter;

use crate::api;
use crate::app::ConnectionQuota;
use crate::cli::{Listening, Serving, banner};
use crate::clock::Clock;
use crate::config::{self, Config, EventsResponse, LivenessProbe, Loaded};
use crate::http::HeadLimits;
use crate::pusher::socket_id::SocketIdKey;
use crate::shard::bounds::OutboxLimits;
use crate::shard::counts::CountPace;
use crate::shard::message::ShardMessage;
use crate::shard::occupancy::DELAYS_MAX;
use crate::shard::{Birth, Budgets, Probe, Settings};
use crate::side::webhook::{self, WebhookCounters, WebhookSender};
use crate::side::{self, Side, admin, reload, watchdog};

use super::addresses::AddressBudgets;
use super::mesh::{MeshSender, mesh};
use super::ring;
use super::sys::{self, ListenError, Listeners, listen};
use super::worker::{self, Driver, Limits, Plan};

/// What the end of a drain may take beyond the grace period.
const GRACE_EXTRA: Duration = Duration::from_secs(1);
/// How often the end of a drain is looked for, and what is left of it goes on.
const QUIET_LOOK: Duration = Duration::from_millis(5);
/// How often a full inbox is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// How long an address in use is tried again, and how often.
const TAKEN_WAIT: Duration = Duration::from_secs(1);
const TAKEN_PAUSE: Duration = Duration::from_millis(20);

/// Why the server did not start.
#[derive(Debug)]
pub struct StartError(String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Serves until a signal ends the process. `log_lines_dropped` is for the metrics alone.
///
/// # Errors
/// The address is taken or refused, or a worker could not be started.
pub fn serve(serving: Serving, log_lines_dropped: ErrorCounter) -> Result<ExitCode, StartError> {
    let Serving { loaded, sources } = serving;
    let config = &loaded.config;
    sys::raise_descriptors_max();
    let address = SocketAddr::new(config.host, config.port);
    let failed = |what: &str, error: &dyn std::fmt::Display| StartError(format!("{what}: {error}"));
    let listeners = listen_patiently(address, config.shards)
        .map_err(|e| failed(&format!("listen on {address}"), &e))?;
    let metrics = listen_for_metrics(config)?;
    let (driver, driver_text) = choose_driver(config)?;
    let ends = mesh::<ShardMessage>(config.shards, config.inbox_depth_max)
        .map_err(|e| failed("inboxes", &e))?;
    let sender = ends[0].sender();
    let signals = watch_signals().map_err(|e| failed("signals", &e))?;
    let clock = Clock::start();
    let stalled = Arc::new(AtomicBool::new(false));
    let counters = Arc::<WebhookCounters>::default();
    let (webhooks, inbox) = webhook::inbox(
        config.webhook_inbox_max,
        config.webhook_inbox_bytes_max,
        Arc::clone(&counters),
    );
    let plans = Planner::new(&loaded, driver, clock, webhooks, Arc::clone(&stalled));
    let listening = Listening {
        port: listeners.address.port(),
        driver: &driver_text,
        now_secs: unix_secs(),
        metrics: metrics.as_ref().map(|(_, address)| *address),
    };
    let greeting = banner(&loaded, listening);
    let grace = config.shutdown_grace;
    let (apps, watched) = watch::channel(Arc::clone(&loaded.apps));
    let side = side::start(side::Plan {
        webhooks: webhook::Plan {
            inbox,
            apps: watched.clone(),
            refuse_private: config.webhook_refuse_private,
            counters: Arc::clone(&counters),
        },
        admin: metrics.map(|(listener, _)| admin::Plan {
            listener,
            mesh: sender.clone(),
            apps: watched,
            webhooks: counters,
            log_lines_dropped,
            prefix: config.metrics_prefix.clone(),
            apps_max: config.metrics_apps_max,
            port: listening.port,
        }),
        reload: Some(reload::Plan {
            running: loaded,
            sources,
            mesh: sender.clone(),
            apps,
        }),
    })
    .map_err(|e| failed("side thread", &e))?;
    let started = ends
        .into_iter()
        .zip(listeners.sockets)
        .map(|(end, listener)| {
            let plan = plans.plan(end, listener);
            let name = format!("shard-{}", plan.birth.id);
            thread::Builder::new().name(name).spawn(move || {
                // A shard less would be channels without a home: the process ends instead.
                if let Err(error) = worker::run(plan) {
                    tracing::error!(%error, "a worker could not run");
                    std::process::abort();
                }
            })
        });
    for thread in started {
        thread.map_err(|e| failed("worker thread", &e))?;
    }
    watchdog::start(sender.clone(), stalled);
    let _ = std::io::stdout().write_all(greeting.as_bytes());
    let _ = std::io::stdout().flush();
    Ok(wait(&signals, &sender, side, clock, grace))
}

/// The listener for metrics, unless they are switched off.
fn listen_for_metrics(config: &Config) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    if !config.metrics {
        return Ok(None);
    }
    let address = SocketAddr::new(config.metrics_host, config.metrics_port);
    let deadline = Instant::now() + TAKEN_WAIT;
    loop {
        match admin::listen(address) {
            Ok(listening) => return Ok(Some(listening)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(TAKEN_PAUSE);
            }
            Err(error) => {
                return Err(StartError(format!(
                    "metrics on {address}: {error}; choose another `metrics_port`, or none with \
                     `metrics = false`"
                )));
            }
        }
    }
}

/// Listens; an address in use is tried again for [`TAKEN_WAIT`]. What a process had on a ring the
/// kernel closes a moment after the process has gone, and its successor may be here by then.
fn listen_patiently(address: SocketAddr, count: usize) -> Result<Listeners, ListenError> {
    let deadline = Instant::now() + TAKEN_WAIT;
    loop {
        match listen(address, count) {
            Err(ListenError::InUse) if Instant::now() < deadline => thread::sleep(TAKEN_PAUSE),
            outcome => return outcome,
        }
    }
}

/// Waits for a signal, then for the end of the drain.
fn wait(
    signals: &Receiver<i32>,
    mesh: &MeshSender<ShardMessage>,
    side: Side,
    clock: Clock,
    grace: Duration,
) -> ExitCode {
    let Ok(signal) = signals.recv() else {
        return ExitCode::FAILURE;
    };
    tracing::info!(signal, grace_secs = grace.as_secs(), "draining");
    let deadline = Instant::now() + grace + GRACE_EXTRA;
    let until = clock.now().after(grace);
    for target in 0..mesh.shards() {
        while mesh.push(target, ShardMessage::Drain { until }).is_err() {
            if Instant::now() >= deadline {
                return ExitCode::SUCCESS;
            }
            thread::sleep(FULL_PAUSE);
        }
        mesh.wake(target);
    }
    let is_drained = || {
        spread_on(mesh);
        mesh.is_quiet()
    };
    let mut second = look(signals, deadline, is_drained);
    if second.is_none() {
        let ending = side.finish(deadline);
        second = look(signals, deadline, || ending.is_over());
    }
    if let Some(signal) = second {
        tracing::warn!(signal, "ended at once by a second signal");
        return ExitCode::FAILURE;
    }
    tracing::info!("drained");
    ExitCode::SUCCESS
}

/// Looks again and again until something is done or it is too late; a signal ends it at once.
fn look(signals: &Receiver<i32>, deadline: Instant, done: impl Fn() -> bool) -> Option<i32> {
    while !done() && Instant::now() < deadline {
        match signals.recv_timeout(QUIET_LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(signal) => return Some(signal),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    None
}

/// Lets every shard that still has sessions turn. By itself a parked one turns once a second, and
/// would close at once what it was to spread over that second.
fn spread_on(mesh: &MeshSender<ShardMessage>) {
    let has_sessions = |&target: &usize| mesh.status(target).sessions() > 0;
    for target in (0..mesh.shards()).filter(has_sessions) {
        mesh.wake(target);
    }
}

/// Signals as a queue, so that waiting for one can have a deadline.
fn watch_signals() -> std::io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

/// The driver, and how to say which it is.
fn choose_driver(config: &Config) -> Result<(Driver, String), StartError> {
    let available = ring::uring_available();
    match (config.driver, available) {
        (config::Driver::Epoll, _) => Ok((Driver::Epoll, "epoll (as configured)".to_owned())),
        (_, Ok(())) => Ok((Driver::IoUring, "io_uring".to_owned())),
        (config::Driver::Auto, Err(why)) => Ok((
            Driver::Epoll,
            format!("epoll (io_uring is not available: {why})"),
        )),
        (config::Driver::IoUring, Err(why)) => Err(StartError(format!(
            "driver: io_uring is not available: {why}; use auto or epoll"
        ))),
    }
}

fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Makes each worker's plan from the configuration.
struct Planner {
    settings: Settings,
    limits: Limits,
    api: api::Settings,
    apps: Arc<crate::app::AppTable>,
    cores: Vec<usize>,
    hash_key: [u64; 2],
    socket_ids: SocketIdKey,
    capacity: Arc<ConnectionQuota>,
    capacity_max: u64,
    driver: Driver,
    clock: Clock,
    webhooks: WebhookSender,
    stalled: Arc<AtomicBool>,
}

impl Planner {
    fn new(
        loaded: &Loaded,
        driver: Driver,
        clock: Clock,
        webhooks: WebhookSender,
        stalled: Arc<AtomicBool>,
    ) -> Self {
        let config = &loaded.config;
        let mut random = [0; 32];
        // Without randomness channel hashes and socket ids could be guessed.
        getrandom::fill(&mut random).expect("the system has a source of random bits");
        let word = |at: usize| {
            u64::from_ne_bytes(
                random[at..at + 8]
                    .try_into()
                    .expect("eight bytes were taken"),
            )
        };
        let socket_key: &[u8; 16] = random[16..].try_into().expect("sixteen bytes are left");
        Self {
            settings: shard_settings(config),
            limits: Limits {
                addresses: config.address_connects_max.map(|max| {
                    let window = config.address_connects_window;
                    Arc::new(AddressBudgets::new(max, window, [word(0), word(8)]))
                }),
                ..limits(config)
            },
            api: api_settings(config),
            apps: Arc::clone(&loaded.apps),
            cores: config.cores.clone(),
            hash_key: [word(0), word(8)],
            socket_ids: SocketIdKey::new(socket_key),
            capacity: Arc::default(),
            capacity_max: config.connections_max as u64,
            driver,
            clock,
            webhooks,
            stalled,
        }
    }

    fn plan(
        &self,
        end: super::mesh::MeshEnd<ShardMessage>,
        listener: std::os::fd::OwnedFd,
    ) -> Plan {
        let id = end.shard();
        let fits = usize::from(self.settings.shards) <= self.cores.len();
        Plan {
            birth: Birth {
                id: id as u16,
                settings: self.settings.clone(),
                apps: Arc::clone(&self.apps),
                hash_key: self.hash_key,
                socket_ids: self.socket_ids,
                capacity: Arc::clone(&self.capacity),
                capacity_max: Some(self.capacity_max),
            },
            end,
            listener,
            core: if fits {
                self.cores.get(id).copied()
            } else {
                None
            },
            driver: self.driver,
            api: self.api.clone(),
            limits: self.limits.clone(),
            clock: self.clock,
            webhooks: self.webhooks.clone(),
            stalled: Arc::clone(&self.stalled),
        }
    }
}

/// What a configuration means to a shard.
pub fn shard_settings(config: &Config) -> Settings {
    Settings {
        shards: config.shards as u16,
        activity_timeout: config.activity_timeout,
        pong_timeout: config.pong_timeout,
        probe: match config.liveness_probe {
            LivenessProbe::Ping => Probe::Ping,
            LivenessProbe::Pusher => Probe::Pusher,
        },
        strict_protocol: config.strict_protocol,
        sockudo_clients: config.sockudo_clients,
        subscription_errors: config.subscription_error,
        cache_ttl: config.cache_ttl,
        cache_bytes_max: config.cache_shard_bytes_max as u64,
        counts: CountPace::default(),
        delays_max: DELAYS_MAX,
        outbox: OutboxLimits {
            bytes_max: config.outbox_bytes_max.try_into().unwrap_or(u32::MAX),
            frames_max: config.outbox_frames_max.try_into().unwrap_or(u32::MAX),
            shard_bytes_max: config.outbox_shard_bytes_max as u64,
        },
        stall_max: config.outbox_stall,
        close_spread: config.shutdown_grace,
        inbox_depth_max: config.inbox_depth_max,
        lag_bytes_max: config.lag_bytes_max as u64,
        lag_max: config.lag_max,
        filters_channel_max: config.filters_channel_max,
        delta_texts_max: config.delta_texts_max,
        delta_bytes_max: config.delta_shard_bytes_max,
        filters_bytes_max: config.filters_shard_bytes_max,
        subscriptions_max: config.subscriptions_shard_max,
        subscriptions_per_connection_max: config
            .subscriptions_max
            .map(|max| max.try_into().unwrap_or(u32::MAX)),
        budgets: Budgets::default(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        head: HeadLimits {
            head_bytes_max: config.head_bytes_max,
            headers_max: config.headers_max,
        },
        head_timeout: config.head_timeout,
        body_timeout: config.body_timeout,
        keep_alive_timeout: config.keep_alive_timeout,
        request_bytes_max: config.request_shard_bytes_max,
        message_bytes_max: config.message_bytes_max,
        trusted_proxies: config.trusted_proxies.clone(),
        proxy_protocol: config.proxy_protocol,
        addresses: None,
        spin: config.spin,
    }
}

/// What it means to requests.
pub fn api_settings(config: &Config) -> api::Settings {
    api::Settings {
        path_prefix: config.path_prefix.clone(),
        cors_origins: config.cors_origins.clone(),
        body_bytes_max: config.body_bytes_max as u64,
        query_response_bytes_max: config.query_response_bytes_max,
        events_response_empty: config.events_response == EventsResponse::Empty,
        shutdown_grace_secs: config.shutdown_grace.as_secs(),
    }
}
