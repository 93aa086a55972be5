//! What a home has to tell back ends, for the side thread to send (webhooks 4).
//!
//! Neither formats nor sends; whether anybody wants a kind, `App::webhooks` says in one branch.
//!
//! Invariant: events of a channel stand in the list in the order in which they happened at its
//! home.

use std::sync::Arc;

use crate::pusher::webhook::{WebhookEvent, WebhookKind};

use super::Shard;
use super::channel::ChannelKey;

/// Events of a turn, at most: several for each message that a turn takes, so that only a defect
/// reaches it. Over it the newest goes, as at the queue behind, and is counted.
const WEBHOOKS_MAX: usize = 16_384;

/// An event of a channel, which also names the app.
#[derive(Debug)]
pub struct Webhook {
    pub channel: Arc<ChannelKey>,
    pub event: WebhookEvent,
}

impl Shard {
    /// What back ends are to be told, in the order in which it happened. Taken once per turn,
    /// before the shard reports itself quiet.
    pub fn take_webhooks(&mut self, into: &mut Vec<Webhook>) {
        into.append(&mut self.webhooks);
    }

    /// Whether an endpoint of a channel's app wants one of these kinds. Nobody is told of user
    /// channels.
    pub(super) fn wants(&self, key: &ChannelKey, kinds: &[WebhookKind]) -> bool {
        let app = self.app(key.app);
        app.is_some_and(|app| kinds.iter().any(|&kind| app.webhooks.wants(kind)))
            && !key.name.starts_with('#')
    }

    /// Something has happened on a channel: back ends are told, if one of them wants it.
    pub(super) fn notify(&mut self, key: &Arc<ChannelKey>, event: WebhookEvent) {
        if !self.wants(key, &[event.kind()]) {
            return;
        }
        if self.webhooks.len() >= WEBHOOKS_MAX {
            self.counters.webhooks_dropped += 1;
            return;
        }
        self.webhooks.push(Webhook {
            channel: Arc::clone(key),
            event,
        });
    }
}
