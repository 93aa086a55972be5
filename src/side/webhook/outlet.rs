//! An endpoint at work: its queue, and the requests that are on their way to it.
//!
//! One task each, so that an endpoint that is slow or dead costs the others nothing. Events come in
//! by [`Outlet::push`], which never waits; the task closes batches, starts requests as far as there
//! is room for them, and ends when it is told to.
//!
//! Invariant: every event that was pushed is counted as sent or as dropped exactly once, at the
//! latest when the task ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::app::webhook::{Endpoint, WebhookKind};
use crate::pusher::webhook::{body, sign};

use super::client::{Failed, Post, Sealed};
use super::counters::{Dropped, WebhookCounters};
use super::deliver::{Attempts, Fate, Phase, deliver};
use super::queue::{Batch, Limits, Moment, Queue};

/// See the module.
#[derive(Debug)]
pub(super) struct Outlet {
    /// Replaced when the configuration is read again.
    target: RefCell<Target>,
    queue: RefCell<Queue>,
    /// Rung when the task has to look again.
    changed: Notify,
    /// The endpoint has left the configuration.
    gone: Cell<bool>,
    /// Events of requests on their way.
    on_their_way: Cell<usize>,
    /// What was last logged of it, so that nothing is logged twice in a row.
    failing: Cell<bool>,
    dropping: Cell<bool>,
    counters: Arc<WebhookCounters>,
}

/// Who is sent to, on whose behalf.
#[derive(Clone, Debug)]
struct Target {
    app: Arc<App>,
    endpoint: Arc<Endpoint>,
    limits: Limits,
}

impl Target {
    fn new(app: &Arc<App>, endpoint: &Arc<Endpoint>) -> Self {
        Self {
            app: Arc::clone(app),
            endpoint: Arc::clone(endpoint),
            limits: Limits::new(&app.settings, &endpoint.settings),
        }
    }
}

impl Outlet {
    pub(super) fn new(
        app: &Arc<App>,
        endpoint: &Arc<Endpoint>,
        counters: Arc<WebhookCounters>,
    ) -> Self {
        Self {
            target: RefCell::new(Target::new(app, endpoint)),
            queue: RefCell::default(),
            changed: Notify::new(),
            gone: Cell::new(false),
            on_their_way: Cell::new(0),
            failing: Cell::new(false),
            dropping: Cell::new(false),
            counters,
        }
    }

    /// From here on it is sent by these settings; what is on its way keeps its body and signature.
    pub(super) fn reload(&self, app: &Arc<App>, endpoint: &Arc<Endpoint>) {
        self.target.replace(Target::new(app, endpoint));
        self.changed.notify_one();
    }

    /// The endpoint is no more: what waits for it is dropped.
    pub(super) fn remove(&self) {
        self.gone.set(true);
        self.changed.notify_one();
    }

    /// Whether an event of this kind on this channel is sent here.
    pub(super) fn wants(&self, kind: WebhookKind, channel: &str) -> bool {
        self.target.borrow().endpoint.wants(kind, channel)
    }

    /// Queues an event that the endpoint wants, as JSON.
    pub(super) fn push(&self, event: Bytes) {
        let target = self.target.borrow();
        let dropped = self.queue.borrow_mut().push(event, now(), &target.limits);
        drop(target);
        self.counters.accepted.add(1);
        self.drop_events(dropped, Dropped::Queue);
        self.changed.notify_one();
    }

    /// The task. Ends when the endpoint is gone, and when the process ends: with the last event, or
    /// when it is over.
    pub(super) async fn run(
        self: Rc<Self>,
        post: Rc<impl Post + 'static>,
        phase: watch::Receiver<Phase>,
    ) {
        let mut requests = JoinSet::new();
        let mut phase_seen = phase.clone();
        loop {
            let phase_now = *phase_seen.borrow_and_update();
            if self.gone.get() || phase_now == Phase::Over {
                break;
            }
            let due = self.turn(phase_now);
            let parallel_max = self.endpoint().settings.parallel_max;
            while requests.len() < parallel_max
                && let Some(batch) = self.take()
            {
                let (outlet, post, phase) = (Rc::clone(&self), Rc::clone(&post), phase.clone());
                requests.spawn_local(outlet.send(batch, post, phase));
            }
            if phase_now == Phase::Ending && requests.is_empty() {
                break;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                _ = requests.join_next(), if !requests.is_empty() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                Ok(()) = phase_seen.changed() => {}
            }
        }
        // Not only told to end: whatever counts is counted before what is left is.
        requests.shutdown().await;
        let reason = if self.gone.get() {
            Dropped::Gone
        } else {
            Dropped::Shutdown
        };
        let left = std::mem::take(&mut *self.queue.borrow_mut()).len() + self.on_their_way.take();
        self.drop_events(left, reason);
    }

    /// Closes and gives up what is due; says when something will be next.
    fn turn(&self, phase: Phase) -> Option<Instant> {
        let limits = self.target.borrow().limits;
        let mut queue = self.queue.borrow_mut();
        let now = now();
        if phase == Phase::Ending {
            queue.close(now);
        }
        let expired = queue.turn(now, &limits);
        let due = queue.due(&limits);
        drop(queue);
        self.drop_events(expired, Dropped::Expired);
        due
    }

    fn take(&self) -> Option<Batch> {
        let batch = self.queue.borrow_mut().take()?;
        self.on_their_way
            .set(self.on_their_way.get() + batch.events.len());
        Some(batch)
    }

    /// Sends one batch, as often as it takes.
    async fn send(
        self: Rc<Self>,
        batch: Batch,
        post: Rc<impl Post>,
        phase: watch::Receiver<Phase>,
    ) {
        let (created, events) = (batch.created, batch.events.len());
        let sealed = self.seal(batch);
        let fate = deliver(&*post, &*self, &sealed, created, phase).await;
        self.on_their_way.set(self.on_their_way.get() - events);
        match fate {
            Fate::Expired => self.drop_events(events, Dropped::Expired),
            Fate::Sent => {
                self.counters.sent.add(events as u64);
                self.counters.requests_sent.add(1);
                self.dropping.set(false);
                if self.failing.replace(false) {
                    let (app, url) = self.shown();
                    tracing::info!(app, url, "the endpoint takes webhooks again");
                }
            }
        }
    }

    /// Body and signature, made once for all attempts. The key is the oldest of the app's.
    fn seal(&self, batch: Batch) -> Sealed {
        let target = self.target.borrow();
        let key = target.app.keys.first().expect("every app has a key");
        let body = body(batch.time_ms, batch.events.iter().map(|event| &event[..]));
        let signature = sign(&key.signing, &body);
        let header = |bytes: &[u8]| HeaderValue::from_bytes(bytes).expect("keys and hex are ASCII");
        Sealed {
            key: header(key.key.as_bytes()),
            signature: header(&signature),
            body: body.into(),
        }
    }

    fn drop_events(&self, count: usize, reason: Dropped) {
        if count == 0 {
            return;
        }
        self.counters.dropped(reason).add(count as u64);
        if !self.dropping.replace(true) {
            let (app, url) = self.shown();
            let reason = reason.label();
            tracing::warn!(app, url, reason, "events for the endpoint are dropped");
        }
    }

    /// For the log. What follows the path may be secret.
    fn shown(&self) -> (String, String) {
        let target = self.target.borrow();
        let mut url = target.endpoint.url.clone();
        url.set_query(None);
        (target.app.id.to_string(), url.into())
    }
}

impl Attempts for Outlet {
    fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.target.borrow().endpoint)
    }

    fn on_failure(&self, failed: Failed) {
        let Failed { why, cause } = failed;
        self.counters.failed(why).add(1);
        if !self.failing.replace(true) {
            let (app, url) = self.shown();
            let reason = why.label();
            tracing::warn!(
                app,
                url,
                reason,
                cause,
                "the endpoint takes no webhooks; they are retried"
            );
        }
    }
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment {
        instant: Instant::now(),
        unix_ms: since.map_or(0, |since| since.as_millis() as u64),
    }
}
