//! Webhooks: from the shards to the endpoints of their apps.

mod counters;
mod inbox;

pub use counters::{Count, WebhookCounters};
pub use inbox::{WebhookReceiver, WebhookSender, inbox};
