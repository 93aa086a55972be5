//! Connections that have to authorise themselves, where the app asks for it: by a sign-in, or by a
//! subscription that needed a signature (WebSocket spec 14.1).
//!
//! No timer of its own: the session keeps the second by which it must, and the wheel looks at the
//! session in that second at the latest. What authorises a connection sets that second to 0.

use crate::app::App;
use crate::pusher::channel::ChannelName;
use crate::pusher::error::CloseReason;

use super::Shard;

/// The second of the shard's time by which a session that begins now must be authorised; 0 where
/// the app does not ask.
pub(super) fn authorise_by(app: &App, now_secs: u32) -> u32 {
    match app.settings.authorized_connections {
        // A second more, since the session may begin at the end of its second.
        true => now_secs + app.settings.authorization_timeout.as_secs() as u32 + 1,
        false => 0,
    }
}

impl Shard {
    /// A subscription is committed: one that needed a signature authorises its connection.
    pub(super) fn note_subscribed(&mut self, slot: u32, channel: &str) {
        if self.conns.session(slot).authorise_by == 0 {
            return;
        }
        let channel = ChannelName::parse(channel, usize::MAX);
        if channel.is_ok_and(|channel| channel.kind().requires_auth()) {
            self.conns.session(slot).authorise_by = 0;
        }
    }

    /// Closes a session whose time is over, or has it looked at when it will be. True if it stays.
    pub(super) fn watch_authorisation(&mut self, slot: u32, secs: u32) -> bool {
        let session = self.conns.session(slot);
        let (by, app) = (session.authorise_by, session.app);
        if by == 0 {
            return true;
        }
        if !self
            .app(app)
            .is_some_and(|app| app.settings.authorized_connections)
        {
            self.conns.session(slot).authorise_by = 0;
            return true;
        }
        // A subscribe that waits for its home was in time.
        if secs < by || self.is_waiting(slot) {
            self.wheel.set(slot, by.max(secs + 1));
            return true;
        }
        self.counters.unauthorised_closes += 1;
        self.close_for(slot, CloseReason::NotAuthorized);
        false
    }
}
