//! Reloads: limits change, apps are switched off and on, and one may be removed with its sessions.
//!
//! Each shard gets the new table when its inbox has room for it, and until then lives by the old
//! one (decisions 39). The model is told where in the order of each inbox that was.

use std::sync::Arc;

use crate::app::{App, AppSettings, AppTable, SubscriptionCount};
use crate::seed::Seed;
use crate::shard::message::ShardMessage;

use super::plan::{APPS, subscription_count};
use super::world::World;

impl World {
    /// The configuration changes.
    pub(super) fn reload(&mut self) {
        let last = self.tables.last().expect("there is one from the start");
        let may_remove = last.closing().is_empty() && self.chance.below(8) == 0;
        let kept: Vec<App> = last
            .iter()
            .filter(|app| !(may_remove && app.index == APPS[1].0))
            .map(|app| App {
                settings: changed(&app.settings, &mut self.chance),
                ..App::clone(app)
            })
            .collect();
        let next = AppTable::new(kept.into_iter().map(Arc::new).collect());
        let next = next.expect("ids and keys are as before").succeeding(last);
        self.tables.push(Arc::new(next));
    }

    /// While nothing is under way, and so for all at once: who is told numbers of subscribers. What
    /// a subscribe asks and when the model writes a count depend on it.
    pub(super) fn recount(&mut self) {
        if self.chance.below(2) == 0 {
            return;
        }
        let last = self.tables.last().expect("there is one from the start");
        if !last.closing().is_empty() || last.iter().any(|app| !app.settings.enabled) {
            // Their connections are being closed, one now and then, and each is a count that a home
            // with the old table tells and one with the new does not.
            return;
        }
        let apps = last.iter().map(|app| {
            let mut app = App::clone(app);
            app.settings.subscription_count = subscription_count(&mut self.chance);
            Arc::new(app)
        });
        let next = AppTable::new(apps.collect()).expect("ids and keys are as before");
        let next = next.succeeding(last);
        self.model.recount(&next);
        self.tables.push(Arc::new(next));
        self.calm();
    }

    /// Gives shard `at` the oldest table that it has not got, if there is room.
    pub(super) fn hand_table(&mut self, at: usize) {
        let given = self.nodes[at].tables;
        if given == self.tables.len() || self.mesh.room(at) == 0 {
            return;
        }
        let table = Arc::clone(&self.tables[given]);
        self.nodes[at].tables += 1;
        self.model.on_apps_accepted(at, &table);
        self.mesh.inboxes[at].push_back(ShardMessage::Apps(table));
    }

    /// Whether every shard has got every table.
    pub(super) fn all_have_tables(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.tables == self.tables.len())
    }

    /// Whether the app at this place was ever removed, or else switched off.
    pub(super) fn was(&self, app: usize, removed: bool) -> bool {
        let index = APPS[app].0;
        self.tables.iter().any(|table| match removed {
            true => !table.is_live(index),
            false => table
                .by_index(index)
                .is_some_and(|app| !app.settings.enabled),
        })
    }
}

/// Other settings; what clients see of them is told by the model or by the shard's own table.
fn changed(settings: &AppSettings, chance: &mut Seed) -> AppSettings {
    let mut settings = settings.clone();
    match chance.below(4) {
        0 => settings.presence_members_max = 1 + chance.below(3) as u32,
        1 => settings.connections_max = (chance.below(3) > 0).then(|| 3 + chance.below(6) as u64),
        2 => {
            settings.subscription_count = match settings.subscription_count {
                SubscriptionCount::On => SubscriptionCount::On,
                SubscriptionCount::Off => SubscriptionCount::Query,
                SubscriptionCount::Query => SubscriptionCount::Off,
            }
        }
        // Off for a while: half of the time until the next reload of this kind.
        _ => settings.enabled = !settings.enabled || chance.below(2) == 0,
    }
    settings
}
