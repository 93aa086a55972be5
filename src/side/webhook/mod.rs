//! Webhooks: from the shards to the endpoints of their apps (webhooks 6).
//!
//! | File | What it is |
//! |---|---|
//! | `inbox` | the queue from the shards |
//! | `queue` | what waits for one endpoint, in batches |
//! | `outlet` | one endpoint at work: its queue and the requests on their way |
//! | `deliver` | the attempts of one request |
//! | `client`, `address` | one attempt, and where it may go |
//! | `counters` | what became of everything |
//!
//! This file hands each event to the outlets that want it, keeps an outlet for every endpoint of
//! the app table, and sees to it that all ends when the process does. It never waits for an
//! endpoint.
//!
//! Invariant: events of one shard come to an endpoint in the order in which they happened; requests
//! may overtake each other unless the endpoint has them one at a time.

mod address;
mod client;
mod counters;
mod deliver;
mod inbox;
mod outlet;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::app::webhook::Endpoint;
use crate::app::{App, AppTable};
use crate::shard::webhook::Webhook;

use client::{Client, Post};
use deliver::Phase;
use outlet::Outlet;

pub use counters::{Count, Dropped, Failure, WebhookCounters};
pub use inbox::{WebhookReceiver, WebhookSender, inbox};

/// Events taken from the shards before anything else has its turn.
const EVENTS_AT_ONCE: usize = 256;
/// What is left of the time to end in, so that the thread itself ends in time.
const END_EARLY: Duration = Duration::from_millis(200);

/// What webhooks are sent with.
#[derive(Debug)]
pub struct Plan {
    pub inbox: WebhookReceiver,
    /// A new table replaces the endpoints; those that it keeps keep what waits for them.
    pub apps: watch::Receiver<Arc<AppTable>>,
    pub refuse_private: bool,
    pub counters: Arc<WebhookCounters>,
}

/// Sends until `finished` says by when all has to be done. Belongs on a `LocalSet`.
pub async fn run(plan: Plan, finished: oneshot::Receiver<std::time::Instant>) {
    let Plan {
        mut inbox,
        mut apps,
        refuse_private,
        counters,
    } = plan;
    let mut webhooks = Webhooks::new(counters, || Client::new(refuse_private));
    webhooks.reload(&apps.borrow_and_update().clone());
    let mut finished = std::pin::pin!(finished);
    let mut events = Vec::new();
    let mut has_shards = true;
    let deadline = loop {
        tokio::select! {
            deadline = &mut finished => break deadline.map_or_else(|_| Instant::now(), Into::into),
            Ok(()) = apps.changed() => webhooks.reload(&apps.borrow_and_update().clone()),
            count = inbox.receive(&mut events, EVENTS_AT_ONCE), if has_shards => {
                has_shards = count > 0;
                events.drain(..).for_each(|event| webhooks.dispatch(&event));
            }
        }
    };
    while let Some(event) = inbox.take() {
        webhooks.dispatch(&event);
    }
    let early = deadline.checked_sub(END_EARLY);
    webhooks.finish(early.unwrap_or(deadline)).await;
}

/// The outlets of all apps.
struct Webhooks<P, N> {
    /// Made with the first endpoint: most servers have none.
    post: Option<Rc<P>>,
    new_post: N,
    /// By the index of the app; only apps that have some.
    apps: HashMap<u32, Vec<Rc<Outlet>>>,
    outlets: HashMap<OutletId, Rc<Outlet>>,
    tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
    counters: Arc<WebhookCounters>,
}

/// What stays the same when an endpoint's settings change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OutletId {
    app: u32,
    url: Url,
    /// Among those of the app with this URL.
    nth: usize,
}

impl<P: Post + 'static, N: Fn() -> P> Webhooks<P, N> {
    fn new(counters: Arc<WebhookCounters>, new_post: N) -> Self {
        Self {
            post: None,
            new_post,
            apps: HashMap::new(),
            outlets: HashMap::new(),
            tasks: JoinSet::new(),
            phase: watch::Sender::new(Phase::Running),
            counters,
        }
    }

    /// Takes over a table: outlets begin, go on with other settings, or end.
    fn reload(&mut self, table: &AppTable) {
        while self.tasks.try_join_next().is_some() {}
        let mut outlets = HashMap::new();
        self.apps.clear();
        for app in table.iter() {
            let endpoints = app.webhooks.endpoints();
            for (place, endpoint) in endpoints.iter().enumerate() {
                let before = endpoints[..place].iter();
                let id = OutletId {
                    app: app.index,
                    url: endpoint.url.clone(),
                    nth: before.filter(|other| other.url == endpoint.url).count(),
                };
                let outlet = match self.outlets.remove(&id) {
                    Some(outlet) => {
                        outlet.reload(app, endpoint);
                        outlet
                    }
                    None => self.begin(app, endpoint),
                };
                let of_app = self.apps.entry(app.index).or_default();
                of_app.push(Rc::clone(&outlet));
                outlets.insert(id, outlet);
            }
        }
        for outlet in std::mem::replace(&mut self.outlets, outlets).into_values() {
            outlet.remove();
        }
    }

    fn begin(&mut self, app: &Arc<App>, endpoint: &Arc<Endpoint>) -> Rc<Outlet> {
        let post = self.post.get_or_insert_with(|| Rc::new((self.new_post)()));
        let outlet = Rc::new(Outlet::new(app, endpoint, Arc::clone(&self.counters)));
        let task = Rc::clone(&outlet).run(Rc::clone(post), self.phase.subscribe());
        self.tasks.spawn_local(task);
        outlet
    }

    /// Hands an event to every endpoint that wants it.
    fn dispatch(&self, webhook: &Webhook) {
        let Webhook { channel, event } = webhook;
        let Some(outlets) = self.apps.get(&channel.app) else {
            // The shard has not seen the new table yet.
            self.counters.accepted.add(1);
            self.counters.dropped(Dropped::Gone).add(1);
            return;
        };
        let wants = |outlet: &&Rc<Outlet>| outlet.wants(event.kind(), &channel.name);
        let mut json: Option<Bytes> = None;
        for outlet in outlets.iter().filter(wants) {
            let write = || {
                let mut json = Vec::new();
                event.write(&mut json, &channel.name);
                json.into()
            };
            outlet.push(json.get_or_insert_with(write).clone());
        }
    }

    /// The process ends: sends what waits, at the latest until `deadline`.
    async fn finish(mut self, deadline: Instant) {
        self.phase.send_replace(Phase::Ending);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at(deadline, all).await.is_err() {
            self.phase.send_replace(Phase::Over);
            while self.tasks.join_next().await.is_some() {}
        }
        let dropped = self.counters.dropped(Dropped::Shutdown).get();
        if dropped > 0 {
            tracing::warn!(dropped, "webhook events were not taken before the end");
        }
    }
}
