//! The queue from the shards to the side thread.
//!
//! It never blocks a shard (decisions 37): what does not fit, by number or by bytes, is dropped and
//! counted. Events of one shard keep their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::shard::webhook::Webhook;

use super::counters::{Dropped, WebhookCounters};

/// Makes the queue, for so many events whose texts have so many bytes.
pub fn inbox(
    events_max: usize,
    bytes_max: usize,
    counters: Arc<WebhookCounters>,
) -> (WebhookSender, WebhookReceiver) {
    let (sender, receiver) = mpsc::channel(events_max);
    let bytes = Arc::<AtomicUsize>::default();
    let sender = WebhookSender {
        sender,
        bytes: Arc::clone(&bytes),
        bytes_max,
        counters,
    };
    (sender, WebhookReceiver { receiver, bytes })
}

/// A shard's end.
#[derive(Clone, Debug)]
pub struct WebhookSender {
    sender: Sender<Webhook>,
    /// Texts of the events in the queue.
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    counters: Arc<WebhookCounters>,
}

/// The side thread's end.
#[derive(Debug)]
pub struct WebhookReceiver {
    receiver: Receiver<Webhook>,
    bytes: Arc<AtomicUsize>,
}

impl WebhookSender {
    /// Hands an event over, or drops and counts it.
    pub fn push(&self, webhook: Webhook) {
        let bytes = webhook.event.text_bytes();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Several shards may each be a little over it at once.
        let fits = before + bytes <= self.bytes_max || before == 0;
        if !fits || self.sender.try_send(webhook).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.dropped(Dropped::Inbox).add(1);
        }
    }
}

impl WebhookReceiver {
    /// Waits for events and takes as many as there are, up to `max`; 0 when every sender is gone.
    pub async fn receive(&mut self, into: &mut Vec<Webhook>, max: usize) -> usize {
        let count = self.receiver.recv_many(into, max).await;
        self.release(&into[into.len() - count..]);
        count
    }

    /// Takes one that is there already.
    pub fn take(&mut self) -> Option<Webhook> {
        let webhook = self.receiver.try_recv().ok()?;
        self.release(std::slice::from_ref(&webhook));
        Some(webhook)
    }

    fn release(&self, taken: &[Webhook]) {
        let bytes = taken.iter().map(|webhook| webhook.event.text_bytes()).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::webhook::WebhookEvent;
    use crate::shard::channel::ChannelKey;

    fn webhook(event: WebhookEvent) -> Webhook {
        let channel = ChannelKey {
            hash: 0,
            app: 0,
            name: "c".into(),
        };
        Webhook {
            channel: Arc::new(channel),
            event,
        }
    }

    fn member(id: &str) -> Webhook {
        webhook(WebhookEvent::MemberAdded { user_id: id.into() })
    }

    fn dropped(counters: &WebhookCounters) -> u64 {
        counters.dropped(Dropped::Inbox).get()
    }

    #[test]
    fn what_does_not_fit_by_number_is_dropped_and_counted() {
        let counters = Arc::<WebhookCounters>::default();
        let (sender, mut receiver) = inbox(2, 1_000, Arc::clone(&counters));
        for count in 0..5 {
            sender.push(webhook(WebhookEvent::SubscriptionCount(count)));
        }
        assert_eq!(dropped(&counters), 3);
        let first = receiver.take().unwrap().event;
        assert_eq!(first, WebhookEvent::SubscriptionCount(0));
        sender.push(webhook(WebhookEvent::CacheMiss));
        assert_eq!(
            receiver.take().unwrap().event,
            WebhookEvent::SubscriptionCount(1)
        );
        assert_eq!(receiver.take().unwrap().event, WebhookEvent::CacheMiss);
        assert!(receiver.take().is_none());
        assert_eq!(dropped(&counters), 3);
    }

    #[test]
    fn what_does_not_fit_by_bytes_is_dropped_and_counted() {
        let counters = Arc::<WebhookCounters>::default();
        let (sender, mut receiver) = inbox(100, 10, Arc::clone(&counters));
        for id in ["12345", "67890", "x"] {
            sender.push(member(id));
        }
        assert_eq!(dropped(&counters), 1);
        sender.push(webhook(WebhookEvent::ChannelOccupied));
        assert_eq!(dropped(&counters), 1, "it has no text");
        receiver.take().unwrap();
        sender.push(member("12345"));
        assert_eq!(dropped(&counters), 1);
        while receiver.take().is_some() {}
        // Alone it passes, or it would never.
        sender.push(member("12345678901"));
        assert_eq!(dropped(&counters), 1);
    }
}
