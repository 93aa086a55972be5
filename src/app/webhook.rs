//! Where an app's webhooks go, and what each of these endpoints wants to be told.
//!
//! Sends nothing (`side` does). Invariant: `Webhooks::wants` is the union over the endpoints, so
//! that a shard finds out in one branch that nobody asks.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use url::Url;

pub use crate::pusher::webhook::{WebhookKind, WebhookKinds};

/// The endpoints of an app, in the order of the configuration. Never changes, as the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhooks {
    endpoints: Vec<Arc<Endpoint>>,
    wanted: WebhookKinds,
}

/// One receiver of webhooks (webhooks 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`, with a host, without credentials.
    pub url: Url,
    pub kinds: WebhookKinds,
    /// How the channel's name must begin and end; both empty: every channel.
    pub channel_prefix: Box<str>,
    pub channel_suffix: Box<str>,
    /// None of those that we set ourselves.
    pub headers: HeaderMap,
    pub settings: EndpointSettings,
}

/// What may differ from endpoint to endpoint (webhooks 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    /// From the beginning of an attempt to the end of the response's head.
    pub timeout: Duration,
    /// The pause after the first failure; each further one is twice as long, up to `retry_max`.
    pub retry_first: Duration,
    pub retry_max: Duration,
    /// How much a pause may be longer or shorter.
    pub retry_jitter_percent: u32,
    /// After this time from its creation a webhook is given up.
    pub retry_for: Duration,
    /// Webhooks that are being sent, or wait for their next attempt, at once. 1: strict order.
    pub parallel_max: usize,
    /// Events that wait for their first attempt; over it the oldest goes.
    pub queue_max: usize,
    /// The same in bytes of JSON.
    pub queue_bytes_max: usize,
}

impl Webhooks {
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let wanted = endpoints
            .iter()
            .fold(WebhookKinds::NONE, |all, one| all.union(one.kinds));
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        Self { endpoints, wanted }
    }

    /// Whether any endpoint wants events of this kind, on some channel.
    #[inline]
    pub fn wants(&self, kind: WebhookKind) -> bool {
        self.wanted.contains(kind)
    }

    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }
}

impl Endpoint {
    /// Whether an event of this kind on this channel is sent here.
    pub fn wants(&self, kind: WebhookKind, channel: &str) -> bool {
        self.kinds.contains(kind)
            && channel.starts_with(&*self.channel_prefix)
            && channel.ends_with(&*self.channel_suffix)
    }
}

/// The defaults of webhooks 6. The option table states them again for the reader of the
/// configuration; a test there compares the two.
impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(4),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            retry_jitter_percent: 20,
            retry_for: Duration::from_secs(300),
            parallel_max: 20,
            queue_max: 10_000,
            queue_bytes_max: 32 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(kinds: &[WebhookKind], prefix: &str, suffix: &str) -> Endpoint {
        Endpoint {
            url: Url::parse("http://a.example/").unwrap(),
            kinds: kinds.iter().copied().collect(),
            channel_prefix: prefix.into(),
            channel_suffix: suffix.into(),
            headers: HeaderMap::new(),
            settings: EndpointSettings::default(),
        }
    }

    #[test]
    fn an_endpoint_wants_its_kinds_on_the_channels_of_its_filter() {
        let kinds = [WebhookKind::CacheMiss, WebhookKind::ChannelOccupied];
        let rows = [
            ("", "", "anything", true),
            ("private-", "", "private-a", true),
            ("private-", "", "presence-a", false),
            ("", "-eu", "chat-eu", true),
            ("", "-eu", "chat-us", false),
            ("chat-", "-eu", "chat-eu", true),
            ("chat-", "-eu", "chat-us", false),
        ];
        for (prefix, suffix, channel, expected) in rows {
            let endpoint = endpoint(&kinds, prefix, suffix);
            for kind in WebhookKind::ALL {
                let wanted = expected && kinds.contains(&kind);
                assert_eq!(endpoint.wants(kind, channel), wanted, "{kind:?} {channel}");
            }
        }
    }

    #[test]
    fn an_app_wants_what_one_of_its_endpoints_wants() {
        let (added, removed) = (WebhookKind::MemberAdded, WebhookKind::MemberRemoved);
        let webhooks = Webhooks::new(vec![
            endpoint(&[added], "a", ""),
            endpoint(&[removed], "b", ""),
        ]);
        for kind in WebhookKind::ALL {
            assert_eq!(webhooks.wants(kind), [added, removed].contains(&kind));
            assert!(!Webhooks::default().wants(kind));
        }
    }
}
