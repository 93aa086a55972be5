//! Numbers of subscribers, told to the subscribers (WebSocket spec 17), at the home.
//!
//! Only for apps whose setting is `on`. There every subscribe asks its home and every change is
//! reported at once, so that the home sees each count there ever was and gives it a place in the
//! channel's order: behind the newcomer's success, in front of what is published later. Counts are
//! absolute, so that what a reload does to the setting needs no word.
//!
//! Above [`CountPace::exact_max`] subscribers a frame opens a *window* in which changes are only
//! noted. When it ends after a change the count of that moment is told, also if it is the same
//! again: who came in between has not been told it. A channel has state here only while its window
//! is open.

use std::sync::Arc;
use std::time::Duration;

use crate::app::SubscriptionCount;
use crate::pusher::channel::ChannelKind;
use crate::pusher::outbound;
use crate::pusher::webhook::WebhookEvent;

use super::Shard;
use super::channel::ChannelKey;
use super::message::Frame;
use super::timers::Timers;

/// Windows of a home, at most; each belongs to a channel with many subscribers. Where one more has
/// no room every change is told, which costs frames and loses none.
const WINDOWS_MAX: usize = 65_536;

/// How often subscribers are told how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountPace {
    /// Up to so many subscribers each change is told.
    pub exact_max: u32,
    /// Above, the time between two frames at least.
    pub interval: Duration,
}

/// The numbers of WebSocket spec 17.
impl Default for CountPace {
    fn default() -> Self {
        Self {
            exact_max: 100,
            interval: Duration::from_secs(5),
        }
    }
}

/// Open windows, and whether the count has changed in each.
pub(super) type CountWindows = Timers<Arc<ChannelKey>, bool>;

/// No window yet.
pub(super) fn no_windows() -> CountWindows {
    Timers::new(WINDOWS_MAX)
}

impl Shard {
    /// Whether the subscribers of a channel are told how many they are. Presence channels have
    /// their roster instead, and user channels are nobody's business.
    pub(super) fn is_counted(&self, key: &ChannelKey) -> bool {
        let app = self.app(key.app);
        app.is_some_and(|app| app.settings.subscription_count == SubscriptionCount::On)
            && ChannelKind::of(&key.name).announces_subscription_count()
    }

    /// A channel has `count` subscriptions now, which is another number than before. Gives the
    /// frame if all are told at once: a newcomer is not among those yet.
    pub(super) fn on_count(&mut self, key: &Arc<ChannelKey>, count: u32) -> Option<Arc<Frame>> {
        if !self.is_counted(key) {
            return None;
        }
        if count > self.settings.counts.exact_max
            && let Some(changed) = self.count_windows.get_mut(key)
        {
            *changed = true;
            return None;
        }
        Some(self.tell_count(key, count))
    }

    /// Tells all subscribers and back ends, and opens the window that the next frame may have to
    /// wait for.
    fn tell_count(&mut self, key: &Arc<ChannelKey>, count: u32) -> Arc<Frame> {
        self.notify(key, WebhookEvent::SubscriptionCount(count));
        let frame = Frame::text(|out| outbound::subscription_count(out, &key.name, count));
        self.announce(key, Arc::clone(&frame), None);
        let pace = self.settings.counts;
        self.count_windows.clear(key);
        if count >= pace.exact_max && !self.count_windows.is_full() {
            let until = self.now.after(pace.interval);
            self.count_windows.set(Arc::clone(key), until, false);
        }
        frame
    }

    /// Ends windows whose time is over, within the turn's budget. What has changed meanwhile is
    /// told, which opens the next one.
    pub(super) fn end_count_windows(&mut self) {
        let mut budget = self.settings.budgets.due.max(1);
        while budget > 0
            && let Some(window) = self.count_windows.due(self.now)
        {
            budget -= 1;
            let (key, changed) = (window.key, window.value);
            if changed && self.is_counted(&key) {
                let found = self.homes.find(&key);
                let count = found.map_or(0, |(_, channel)| channel.subscriptions());
                self.tell_count(&key, count);
            }
        }
    }
}
