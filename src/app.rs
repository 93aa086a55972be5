//! An app (a tenant): its id, its keys, its settings, its quota and budgets; and the table of all
//! apps.
//!
//! Does not read configuration (`config` builds these values) and counts only what all shards must
//! agree on: connections, and requests of a window. An `AppTable` never changes: a reload builds
//! another, which *succeeds* it.
//!
//! Invariant: within a table every index belongs to exactly one app, and among its live apps so does
//! every id and every key. An index is never given to a second app.

pub mod delta;
mod origin;
mod quota;
mod rate;
pub mod webhook;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::pusher::signature::SigningKey;

pub use delta::{DeltaPolicies, DeltaPolicy};
pub use origin::{OriginList, OriginPattern};
pub use quota::ConnectionQuota;
pub use rate::{RATE_REQUESTS_MAX, Rate, RateBudget, RateBudgets, RateLimit};
pub use webhook::Webhooks;

/// One tenant. Shared by all shards behind an `Arc`; only quota and budgets ever change.
#[derive(Clone, Debug)]
pub struct App {
    /// Never reused in the life of a process, also not after a reload has removed the app.
    pub index: u32,
    /// The id in `/apps/{id}/...`.
    pub id: Box<str>,
    /// At least one.
    pub keys: Vec<AppKey>,
    pub settings: AppSettings,
    pub webhooks: Webhooks,
    /// Kept over reloads of the app.
    pub quota: Arc<ConnectionQuota>,
    /// Likewise.
    pub rates: Arc<RateBudgets>,
}

/// A key and its secret, also as the state of an HMAC that is computed once.
#[derive(Clone)]
pub struct AppKey {
    pub key: Box<str>,
    pub secret: Box<str>,
    pub signing: SigningKey,
}

/// What may differ from app to app (WebSocket spec 18.1).
///
/// Counts are of what the name says, `_chars` are Unicode scalar values, `_bytes` are of UTF-8.
/// `None` is "no limit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// Off: connections are refused with 4003, requests with 403.
    pub enabled: bool,
    /// Who may connect by the `Origin` header: 4009 for others (WebSocket spec 1.3).
    pub allowed_origins: OriginList,
    /// On: a plain connection is refused with 4000.
    pub tls_only: bool,
    /// Connections at once: 4004 over it.
    pub connections_max: Option<u64>,
    /// Whether clients may send `client-` events (WebSocket spec 12).
    pub client_events: bool,
    /// Client events of one connection in a second: 4301 over it.
    pub client_events_per_sec: u32,
    /// Messages of any kind of one connection in a second: closed with 1008 over it.
    pub messages_per_sec: Option<u32>,
    /// Whether connections may sign in as a user (WebSocket spec 14).
    pub user_authentication: bool,
    /// Whether a connection must sign in, or subscribe to a private or presence channel, within
    /// `authorization_timeout`: closed with 4009 after it (WebSocket spec 14.1).
    pub authorized_connections: bool,
    pub authorization_timeout: Duration,
    /// Whether signed-in users are told who of their watchlist is online (WebSocket spec 14.2).
    pub watchlist: bool,
    /// Users of a watchlist that are watched: 4302 for more.
    pub watchlist_users_max: u32,
    pub subscription_count: SubscriptionCount,
    pub channel_name_chars_max: u32,
    pub event_name_chars_max: u32,
    pub client_event_bytes_max: u32,
    /// Users, not connections, of one presence channel: 4100 over it.
    pub presence_members_max: u32,
    pub presence_user_info_bytes_max: u32,
    pub presence_user_id_chars_max: u32,
    /// The `data` of one published event: 413 over it.
    pub event_data_bytes_max: u32,
    pub channels_per_event_max: u32,
    pub batch_events_max: u32,
    /// Whether subscribers may filter by tags; off, a filter is refused (extensions spec 2.2).
    pub tag_filtering: bool,
    /// Whether those who filter are sent the tags too.
    pub tags_in_messages: bool,
    /// Publishing requests in a window: 429 over it (HTTP spec 11).
    pub publish_requests_max: u32,
    pub publish_window: Duration,
    /// The same for reading ones.
    pub read_requests_max: u32,
    pub read_window: Duration,
    /// How long an idempotency key is remembered, from the first answer on (extensions spec 4).
    pub idempotency_window: Duration,
    /// Keys that are remembered, and what they and their answers take: the oldest go first.
    pub idempotency_keys_max: usize,
    pub idempotency_bytes_max: usize,
    /// Whether subscribers may get events as deltas (extensions spec 3).
    pub delta_compression: bool,
    /// Shorter messages are sent in full.
    pub delta_message_bytes_min: u32,
    /// Deltas after which a message is sent in full.
    pub delta_full_interval: u32,
    pub delta_channels: DeltaPolicies,
    /// Off: one event per webhook (webhooks 3).
    pub webhook_batch: bool,
    /// A batch takes events for so long after its first one.
    pub webhook_batch_time: Duration,
    pub webhook_batch_events_max: usize,
    pub webhook_batch_bytes_max: usize,
    /// How long a channel is empty, or a user gone, before it is reported (webhooks 5).
    pub webhook_delay: Duration,
    /// One `cache_miss` per channel in this time (webhooks 4).
    pub webhook_cache_miss_window: Duration,
}

/// What is told about the number of subscribers of a channel (WebSocket spec 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionCount {
    /// The HTTP attribute is answered.
    Query,
    /// In addition subscribers are told by frames.
    On,
    /// Neither.
    Off,
}

/// All apps, found by index, id or key.
#[derive(Debug, Default)]
pub struct AppTable {
    /// In the order given.
    apps: Vec<Arc<App>>,
    /// Apps that are in the configuration no more, but may still have sessions. Found by index only.
    closing: Vec<Arc<App>>,
    /// How many tables came before it.
    version: u64,
    /// What a new app gets.
    next_index: u32,
    /// Into `apps`, and behind its end into `closing`.
    by_index: HashMap<u32, usize>,
    by_id: HashMap<Box<str>, usize>,
    /// The place of the app, and the place of the key among its keys.
    by_key: HashMap<Box<str>, (usize, usize)>,
}

/// Why apps do not form a table. Places are those in the list given to `AppTable::new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    IndexTwice {
        first: usize,
        second: usize,
    },
    IdTwice {
        first: usize,
        second: usize,
    },
    KeyTwice {
        first: usize,
        second: usize,
        second_key: usize,
    },
    NoKeys {
        app: usize,
    },
}

impl App {
    /// An app with a fresh quota and fresh budgets, and without webhooks.
    pub fn new(index: u32, id: &str, keys: Vec<AppKey>, settings: AppSettings) -> Self {
        Self {
            index,
            id: id.into(),
            keys,
            settings,
            webhooks: Webhooks::default(),
            quota: Arc::default(),
            rates: Arc::default(),
        }
    }

    /// Whether a connection with this `Origin` header may use the app (WebSocket spec 1.3).
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        self.settings.allowed_origins.allows(origin)
    }

    /// Which of the app's own keys this is.
    pub fn key(&self, key: &str) -> Option<&AppKey> {
        self.keys.iter().find(|k| *k.key == *key)
    }
}

impl AppKey {
    pub fn new(key: &str, secret: &str) -> Self {
        let signing = SigningKey::new(secret.as_bytes());
        Self {
            key: key.into(),
            secret: secret.into(),
            signing,
        }
    }
}

/// The secret must not reach a log.
impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl AppSettings {
    /// The limit of [`RateBudgets::publishing`].
    pub fn publish_rate(&self) -> RateLimit {
        RateLimit {
            requests: self.publish_requests_max,
            window: self.publish_window,
        }
    }

    /// The limit of [`RateBudgets::reading`].
    pub fn read_rate(&self) -> RateLimit {
        RateLimit {
            requests: self.read_requests_max,
            window: self.read_window,
        }
    }
}

/// The defaults of WebSocket spec 18 and 18.1. The option table states them again for the reader
/// of the configuration; a test there compares the two.
impl Default for AppSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_origins: OriginList::default(),
            tls_only: false,
            connections_max: None,
            client_events: false,
            client_events_per_sec: 10,
            messages_per_sec: None,
            user_authentication: true,
            authorized_connections: false,
            authorization_timeout: Duration::from_secs(30),
            watchlist: false,
            watchlist_users_max: 100,
            subscription_count: SubscriptionCount::Query,
            channel_name_chars_max: 200,
            event_name_chars_max: 200,
            client_event_bytes_max: 10 << 10,
            presence_members_max: 100,
            presence_user_info_bytes_max: 2 << 10,
            presence_user_id_chars_max: 128,
            event_data_bytes_max: 100 << 10,
            channels_per_event_max: 100,
            batch_events_max: 10,
            tag_filtering: true,
            tags_in_messages: false,
            publish_requests_max: 1_000_000_000,
            publish_window: Duration::from_secs(60),
            read_requests_max: 1_000_000_000,
            read_window: Duration::from_secs(60),
            idempotency_window: Duration::from_secs(120),
            idempotency_keys_max: 100_000,
            idempotency_bytes_max: 64 << 20,
            delta_compression: true,
            delta_message_bytes_min: 100,
            delta_full_interval: 10,
            delta_channels: DeltaPolicies::default(),
            webhook_batch: true,
            webhook_batch_time: Duration::from_millis(50),
            webhook_batch_events_max: 100,
            webhook_batch_bytes_max: 256 << 10,
            webhook_delay: Duration::from_secs(3),
            webhook_cache_miss_window: Duration::from_secs(3),
        }
    }
}

impl AppTable {
    /// # Errors
    ///
    /// The first app that shares an index, an id or a key with another (or has one key twice), or
    /// that has no key.
    pub fn new(apps: Vec<Arc<App>>) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (second, app) in apps.iter().enumerate() {
            if let Some(first) = table.by_index.insert(app.index, second) {
                return Err(TableError::IndexTwice { first, second });
            }
            if let Some(first) = table.by_id.insert(app.id.clone(), second) {
                return Err(TableError::IdTwice { first, second });
            }
            if app.keys.is_empty() {
                return Err(TableError::NoKeys { app: second });
            }
            for (second_key, key) in app.keys.iter().enumerate() {
                if let Some((first, _)) = table.by_key.insert(key.key.clone(), (second, second_key))
                {
                    return Err(TableError::KeyTwice {
                        first,
                        second,
                        second_key,
                    });
                }
            }
        }
        let above = |app: &Arc<App>| app.index + 1;
        table.next_index = apps.iter().map(above).max().unwrap_or_default();
        table.apps = apps;
        Ok(table)
    }

    /// The table after `before`: these apps, those of a known id with its index and what is counted
    /// of it, and the apps that are none of these any more as closing ones.
    pub fn succeeding(&self, before: &Self) -> Self {
        let is_removed = |app: &&Arc<App>| self.by_id(&app.id).is_none();
        let removed = before.apps.iter().filter(is_removed).cloned();
        let closing: Vec<_> = before.closing.iter().cloned().chain(removed).collect();
        let mut next_index = before.next_index;
        let apps = self.apps.iter().map(|app| {
            let mut app = App::clone(app);
            let earlier = before.by_id(&app.id);
            app.index = earlier.map_or(next_index, |earlier| earlier.index);
            next_index += u32::from(earlier.is_none());
            // Of one that comes back while it is closing the connections still count.
            let same_id = |closing: &&Arc<App>| closing.id == app.id;
            if let Some(earlier) = earlier.or_else(|| closing.iter().rev().find(same_id)) {
                app.quota = Arc::clone(&earlier.quota);
                app.rates = Arc::clone(&earlier.rates);
            }
            Arc::new(app)
        });
        let apps = apps.collect();
        self.after(before, apps, closing, next_index)
    }

    /// The same apps without closing ones whose last session is gone.
    pub fn without(&self, gone: impl Fn(&App) -> bool) -> Self {
        let closing = self.closing.iter().filter(|app| !gone(app));
        let closing = closing.cloned().collect();
        self.after(self, self.apps.clone(), closing, self.next_index)
    }

    /// A table with the ids and keys of this one, for `apps` in the same order.
    fn after(
        &self,
        before: &Self,
        apps: Vec<Arc<App>>,
        closing: Vec<Arc<App>>,
        next_index: u32,
    ) -> Self {
        let all = apps.iter().chain(&closing).map(|app| app.index);
        Self {
            version: before.version + 1,
            next_index,
            by_index: all.zip(0..).collect(),
            by_id: self.by_id.clone(),
            by_key: self.by_key.clone(),
            apps,
            closing,
        }
    }

    /// By the id in an API path.
    pub fn by_id(&self, id: &str) -> Option<&Arc<App>> {
        self.by_id.get(id).map(|&at| &self.apps[at])
    }

    /// By the key in a WebSocket path or in `auth_key`, and which key of that app it is.
    pub fn by_key(&self, key: &str) -> Option<(&Arc<App>, &AppKey)> {
        let &(app, place) = self.by_key.get(key)?;
        Some((&self.apps[app], &self.apps[app].keys[place]))
    }

    /// Closing apps too.
    pub fn by_index(&self, index: u32) -> Option<&Arc<App>> {
        let at = *self.by_index.get(&index)?;
        let closing = || self.closing.get(at - self.apps.len());
        self.apps.get(at).or_else(closing)
    }

    /// Whether an index is of an app of the configuration.
    pub fn is_live(&self, index: u32) -> bool {
        let at = self.by_index.get(&index);
        at.is_some_and(|&at| at < self.apps.len())
    }

    /// Apps that are in the configuration no more, but may still have sessions.
    pub fn closing(&self) -> &[Arc<App>] {
        &self.closing
    }

    /// How many tables of the process came before it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// In the order of the configuration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<App>> {
        self.apps.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(index: u32, id: &str, keys: &[&str]) -> Arc<App> {
        let keys = keys.iter().map(|k| AppKey::new(k, "s3cret")).collect();
        Arc::new(App::new(index, id, keys, AppSettings::default()))
    }

    #[test]
    fn an_app_is_found_by_index_id_and_each_of_its_keys() {
        let table = AppTable::new(vec![app(7, "a", &["k1", "k2"]), app(9, "b", &["k3"])]).unwrap();
        assert_eq!(table.by_index(9).unwrap().id, "b".into());
        assert_eq!(table.by_id("a").unwrap().index, 7);
        for (key, id) in [("k1", "a"), ("k2", "a"), ("k3", "b")] {
            let (app, found) = table.by_key(key).unwrap();
            assert_eq!((&*app.id, &*found.key), (id, key));
        }
        assert!(table.by_index(0).is_none() && table.by_id("k1").is_none());
        assert!(table.by_key("a").is_none());
        assert_eq!(table.iter().map(|a| a.index).collect::<Vec<_>>(), [7, 9]);
    }

    #[test]
    fn what_two_apps_share_is_an_error_that_says_where() {
        let rows = [
            (
                vec![app(0, "a", &["k"]), app(0, "b", &["l"])],
                TableError::IndexTwice {
                    first: 0,
                    second: 1,
                },
            ),
            (
                vec![app(0, "a", &["k"]), app(1, "a", &["l"])],
                TableError::IdTwice {
                    first: 0,
                    second: 1,
                },
            ),
            (
                vec![app(0, "a", &["k"]), app(1, "b", &["l", "k"])],
                TableError::KeyTwice {
                    first: 0,
                    second: 1,
                    second_key: 1,
                },
            ),
            (
                vec![app(0, "a", &["k", "k"])],
                TableError::KeyTwice {
                    first: 0,
                    second: 0,
                    second_key: 1,
                },
            ),
            (vec![app(0, "a", &[])], TableError::NoKeys { app: 0 }),
        ];
        for (apps, expected) in rows {
            assert_eq!(AppTable::new(apps).unwrap_err(), expected);
        }
    }

    /// Apps as a file has them: their indices are their places.
    fn table(apps: &[(&str, &str)]) -> AppTable {
        let apps = (0..).zip(apps).map(|(at, (id, key))| app(at, id, &[*key]));
        AppTable::new(apps.collect()).unwrap()
    }

    #[test]
    fn an_app_keeps_its_index_and_what_is_counted_of_it_over_reloads_whatever_its_place() {
        let first = table(&[("a", "k1"), ("b", "k2")]);
        let used = |table: &AppTable| {
            let app = table.by_id("b").unwrap();
            let rate = app
                .rates
                .publishing
                .try_take(app.settings.publish_rate(), 0);
            rate.unwrap().limit - rate.unwrap().remaining
        };
        assert!(first.by_id("b").unwrap().quota.try_take(None));
        assert_eq!(used(&first), 1);
        let second = table(&[("new", "k9"), ("b", "k3"), ("a", "k1")]).succeeding(&first);
        let index = |id: &str| second.by_id(id).unwrap().index;
        assert_eq!((index("a"), index("b"), index("new")), (0, 1, 2));
        assert_eq!(second.by_index(1).unwrap().quota.taken(), 1);
        assert_eq!(used(&second), 2);
        assert_eq!((first.version(), second.version()), (0, 1));
        // A key that was revoked, and one that was added.
        assert!(second.by_key("k2").is_none());
        assert_eq!(second.by_key("k3").unwrap().0.index, 1);
        assert_eq!(
            second.iter().map(|app| app.index).collect::<Vec<_>>(),
            [2, 1, 0]
        );
    }

    #[test]
    fn a_removed_app_is_found_by_index_alone_until_it_is_gone() {
        let first = table(&[("a", "k1"), ("b", "k2")]);
        let second = table(&[("a", "k1")]).succeeding(&first);
        assert!(second.by_id("b").is_none() && second.by_key("k2").is_none());
        assert_eq!(second.by_index(1).unwrap().id, "b".into());
        assert!(second.is_live(0) && !second.is_live(1) && !second.is_live(7));
        assert_eq!(second.closing().len(), 1);
        let third = second.without(|app| app.index == 1);
        assert!(third.by_index(1).is_none() && third.closing().is_empty());
        assert!(third.by_key("k1").is_some() && third.version() == 2);
    }

    #[test]
    fn an_app_that_comes_back_has_a_new_index_and_the_connections_that_it_still_had() {
        let first = table(&[("a", "k1"), ("b", "k2")]);
        assert!(first.by_id("b").unwrap().quota.try_take(Some(1)));
        let second = table(&[("a", "k1")]).succeeding(&first);
        let third = table(&[("b", "k2"), ("a", "k1")]).succeeding(&second);
        let back = third.by_id("b").unwrap();
        assert_eq!((back.index, third.closing()[0].index), (2, 1));
        assert!(!back.quota.try_take(Some(1)));
        // Nor is the index of one that is gone ever given again.
        let fourth = third.without(|app| app.index == 1);
        let fifth = table(&[("c", "k3")]).succeeding(&fourth);
        assert_eq!(fifth.by_id("c").unwrap().index, 3);
    }

    #[test]
    fn debug_output_never_shows_a_secret() {
        assert!(!format!("{:?}", app(0, "a", &["k"])).contains("s3cret"));
    }
}
