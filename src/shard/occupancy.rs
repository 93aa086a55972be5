//! Who is there, as back ends are told it: channels that become occupied and empty, users that
//! come and go, subscribers that find nothing cached (webhooks 4, 5).
//!
//! What has ended is reported only when its *delay* is over. If it is undone before, neither its
//! end nor its new beginning is reported, so that a receiver sees occupied, vacated, occupied, and
//! added, removed, added, strictly in turn. Frames to clients know no delay.
//!
//! A home counts a subscription from when it takes its `Interest` or admits its `Join`: one that was
//! refused was never there. A pending one of an asked channel without presence is, since nobody
//! refuses it any more.
//!
//! Where nobody wants an event nothing is kept for it. User channels have none.

use std::sync::Arc;
use std::time::Duration;

use crate::app::AppSettings;
use crate::clock::Now;
use crate::pusher::webhook::{WebhookEvent, WebhookKind};

use super::Shard;
use super::channel::ChannelKey;
use super::timers::Timers;

/// Delays and windows of a home, at most. Beyond it the next ones end before their time: what they
/// hold back is reported early, and counted.
pub const DELAYS_MAX: usize = 1 << 18;

/// What a home waits for. In the queue exactly while it is neither over nor undone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Later {
    /// The channel is empty, and nobody has been told.
    Vacated(Arc<ChannelKey>),
    /// The user has left, likewise.
    Removed(Arc<ChannelKey>, Box<str>),
    /// A miss was reported: others of the channel are not.
    Missed(Arc<ChannelKey>),
}

/// Delays and windows by what they are for.
pub(super) type Delays = Timers<Later, ()>;

impl Later {
    fn channel(&self) -> &Arc<ChannelKey> {
        match self {
            Self::Vacated(key) | Self::Removed(key, _) | Self::Missed(key) => key,
        }
    }
}

impl Shard {
    /// A channel that had `before` subscriptions has `count`.
    pub(super) fn on_occupancy(&mut self, key: &Arc<ChannelKey>, before: u32, count: u32) {
        const KINDS: [WebhookKind; 2] = [WebhookKind::ChannelOccupied, WebhookKind::ChannelVacated];
        let vacated = || Later::Vacated(Arc::clone(key));
        if before == 0 && count > 0 && !self.undo(vacated) {
            self.notify(key, WebhookEvent::ChannelOccupied);
        } else if before > 0 && count == 0 && self.wants(key, &KINDS) {
            self.report_later(vacated());
        }
    }

    /// The first connection of a user has joined a presence channel.
    pub(super) fn on_member_added(&mut self, key: &Arc<ChannelKey>, user_id: &str) {
        let removed = || Later::Removed(Arc::clone(key), user_id.into());
        if !self.undo(removed) {
            let user_id = user_id.into();
            self.notify(key, WebhookEvent::MemberAdded { user_id });
        }
    }

    /// The last connection of a user has left.
    pub(super) fn on_member_removed(&mut self, key: &Arc<ChannelKey>, user_id: Box<str>) {
        const KINDS: [WebhookKind; 2] = [WebhookKind::MemberAdded, WebhookKind::MemberRemoved];
        if self.wants(key, &KINDS) {
            self.report_later(Later::Removed(Arc::clone(key), user_id));
        }
    }

    /// Somebody has subscribed to a cache channel that has nothing to show.
    pub(super) fn on_cache_miss(&mut self, key: &Arc<ChannelKey>) {
        if !self.wants(key, &[WebhookKind::CacheMiss]) {
            return;
        }
        let missed = Later::Missed(Arc::clone(key));
        // Exact also where the turn has not come round to the end of the last window.
        if self
            .delays
            .deadline(&missed)
            .is_none_or(|at| at <= self.now)
        {
            self.notify(key, WebhookEvent::CacheMiss);
            self.delay(missed, |settings| settings.webhook_cache_miss_window);
        }
    }

    /// A cache channel has something to show: its next miss is another one.
    pub(super) fn on_cached(&mut self, key: &Arc<ChannelKey>) {
        self.undo(|| Later::Missed(Arc::clone(key)));
    }

    /// Whether something still waited, which it does no longer.
    fn undo(&mut self, what: impl FnOnce() -> Later) -> bool {
        !self.delays.is_empty() && self.delays.clear(&what()).is_some()
    }

    fn report_later(&mut self, what: Later) {
        if self.is_draining() {
            return self.on_delayed(what);
        }
        self.delay(what, |settings| settings.webhook_delay);
    }

    /// Waits as long as the app has it; not at all is over at once.
    fn delay(&mut self, what: Later, setting: impl Fn(&AppSettings) -> Duration) {
        let app = self.app(what.channel().app);
        let delay = app.map_or(Duration::ZERO, |app| setting(&app.settings));
        if delay.is_zero() {
            return self.on_delayed(what);
        }
        self.delays.set(what, self.now.after(delay), ());
    }

    /// It is over, and was not undone.
    fn on_delayed(&mut self, what: Later) {
        match what {
            Later::Vacated(key) => self.notify(&key, WebhookEvent::ChannelVacated),
            Later::Removed(key, user_id) => {
                self.notify(&key, WebhookEvent::MemberRemoved { user_id });
            }
            Later::Missed(_) => {}
        }
    }

    /// Reports what has waited long enough, within the turn's budget. In a drain everything has.
    pub(super) fn end_delays(&mut self) {
        let now = self.delays_end();
        let mut budget = self.settings.budgets.due.max(1);
        while (budget > 0 || self.delays.is_over())
            && let Some(due) = self.delays.due(now)
        {
            budget = budget.saturating_sub(1);
            self.counters.webhooks_early += u64::from(due.early);
            self.on_delayed(due.key);
        }
    }

    /// Whether [`Shard::end_delays`] has something left to do.
    pub(super) fn has_due_delays(&self) -> bool {
        self.delays.has_due(self.delays_end())
    }

    /// Delays up to this moment are over.
    fn delays_end(&self) -> Now {
        match self.is_draining() {
            true => Now(u64::MAX),
            false => self.now,
        }
    }
}
