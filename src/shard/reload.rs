//! A new table of apps: every shard switches when it comes out of its inbox (decisions 39).
//!
//! What was admitted before stays what it was; what is asked from here on is asked of the new
//! table, so limits, keys and switches hold for running sessions too. An app that is not in it any
//! more is *closing*: requests and connections no longer find it, what it has accepted is still
//! delivered, what it has cached is dropped, its sessions are closed over a while.

use std::sync::Arc;

use crate::app::{App, AppTable};
use crate::pusher::error::CloseReason;

use super::Shard;

/// An app whose cached events are being dropped.
#[derive(Clone, Copy, Debug)]
pub struct Forgetting {
    app: u32,
    /// Where in the app's table to go on.
    end: Option<u32>,
}

impl Shard {
    /// The apps are these from here on.
    pub(super) fn on_apps(&mut self, apps: Arc<AppTable>) {
        let before = std::mem::replace(&mut self.apps, apps);
        let closing = self.apps.closing().iter().map(|app| app.index);
        let begun = closing.filter(|&app| before.is_live(app));
        self.forgetting
            .extend(begun.map(|app| Forgetting { app, end: None }));
        // What an earlier table has begun goes on by itself.
        let was_open = |app: &App| {
            let earlier = before.by_index(app.index);
            before.is_live(app.index) && earlier.is_some_and(|app| app.settings.enabled)
        };
        let closes = |app: &Arc<App>| was_open(app) && self.reason_to_close(app.index).is_some();
        if self.apps.iter().chain(self.apps.closing()).any(closes) {
            self.close_apps();
        }
    }

    /// Why sessions of an app are closed, if they are.
    pub(super) fn reason_to_close(&self, app: u32) -> Option<CloseReason> {
        match self.app(app) {
            Some(_) if !self.apps.is_live(app) => Some(CloseReason::UnknownApp),
            Some(app) if !app.settings.enabled => Some(CloseReason::AppDisabled),
            _ => None,
        }
    }

    /// Drops what closing apps have cached, a bounded number of channels per turn.
    pub(super) fn forget_cached(&mut self) {
        let Some(Forgetting { app, end }) = self.forgetting.pop() else {
            return;
        };
        let walk_max = self.settings.budgets.leaving.max(1);
        let end = self.homes.forget_cached(app, end, walk_max);
        if end.is_some() {
            self.forgetting.push(Forgetting { app, end });
        }
    }
}
