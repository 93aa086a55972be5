//! What a home has to tell back ends, for the side thread to send (webhooks 4).
//!
//! Neither formats nor sends; whether anybody wants a kind, `App::webhooks` says in one branch.

use std::sync::Arc;

use crate::pusher::webhook::WebhookEvent;

use super::Shard;
use super::channel::ChannelKey;

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
}
