//! Counts as the model tells them: all up to a number of subscribers, above it one in a while.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::clock::Now;
use crate::shard::counts::CountPace;

use super::channel::{Channel, Entry};
use super::text;

/// A time in which changes of a large channel are not told.
#[derive(Debug)]
struct Window {
    channel: usize,
    until: Now,
    changed: bool,
}

/// Which counts are told.
#[derive(Debug)]
pub(super) struct Counting {
    pace: CountPace,
    /// In the order in which they end: all are equally long.
    windows: VecDeque<Window>,
    /// Counts told since somebody took them, and the channels.
    pub(super) told: Vec<(usize, u32)>,
}

impl Counting {
    pub(super) fn new(pace: CountPace) -> Self {
        Self {
            pace,
            windows: VecDeque::new(),
            told: Vec::new(),
        }
    }

    /// Whether changes of a channel wait.
    pub(super) fn has_window(&self, at: usize) -> bool {
        self.windows.iter().any(|window| window.channel == at)
    }

    /// A channel has another count; gives the text if it is told now.
    pub(super) fn on_change(
        &mut self,
        at: usize,
        channel: &mut Channel,
        count: u32,
        now: Now,
    ) -> Option<Rc<str>> {
        let window = self.windows.iter_mut().find(|window| window.channel == at);
        if count > self.pace.exact_max
            && let Some(window) = window
        {
            window.changed = true;
            return None;
        }
        Some(self.tell(at, channel, count, now))
    }

    fn tell(&mut self, at: usize, channel: &mut Channel, count: u32, now: Now) -> Rc<str> {
        self.told.push((at, count));
        let text: Rc<str> = text::count(channel.name, count).into();
        channel.log.push(Entry::of_platform(Rc::clone(&text)));
        self.windows.retain(|window| window.channel != at);
        if count >= self.pace.exact_max {
            self.windows.push_back(Window {
                channel: at,
                until: now.after(self.pace.interval),
                changed: false,
            });
        }
        text
    }

    /// Ends the windows of a home that are over, at most so many.
    pub(super) fn end_windows(
        &mut self,
        channels: &mut [Channel],
        home: usize,
        now: Now,
        budget: usize,
    ) {
        for _ in 0..budget {
            let is_over =
                |window: &Window| channels[window.channel].home == home && window.until <= now;
            let found = self.windows.iter().position(is_over);
            let Some(window) = found.and_then(|nth| self.windows.remove(nth)) else {
                return;
            };
            if window.changed && channels[window.channel].counted {
                let channel = &mut channels[window.channel];
                let count = channel.counts().subscriptions;
                self.tell(window.channel, channel, count, now);
            }
        }
    }
}
