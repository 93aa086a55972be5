//! The opening of a session: the checks of an upgrade in their order, the greeting or the refusal.
//!
//! A refusal is delivered after the upgrade, as a `pusher:error` and a Close with the same code: an
//! HTTP error would be "1006, retry for ever" to a browser (WebSocket spec 1.3).

use std::sync::Arc;

use crate::app::App;
use crate::pusher::error::CloseReason;
use crate::pusher::outbound;

use super::Shard;
use super::authorise::authorise_by;
use super::close::CLOSING_SECS_MAX;
use super::conns::Phase;
use super::session::{SOCKUDO_PROTOCOL, Session};

/// What an upgrade request says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    /// The app key from the path, decoded; `None` where the path under `/app` has another shape.
    pub key: Option<&'a str>,
    /// The value of the query parameter, if it is there.
    pub protocol: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// The client's connection is encrypted, here or in front of a trusted proxy.
    pub tls: bool,
    /// The client's address begins more connections than it may.
    pub too_often: bool,
    /// Random bits for the socket id.
    pub random: (u64, u16),
}

impl Shard {
    /// Appends bytes that are not WebSocket frames: an HTTP answer.
    pub fn answer_http(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.answer(&mut self.conns, slot, self.time, write);
    }

    /// Marks the connection as the cause of what is sent until [`Shard::end_serving`]: its answers
    /// wait for that.
    pub fn begin_serving(&mut self, slot: u32) {
        self.serving = Some(slot);
    }

    /// See [`Shard::begin_serving`].
    pub fn end_serving(&mut self) {
        self.serving = None;
    }

    /// The `101` has been appended: greets or refuses. True if a session began.
    pub fn on_open(&mut self, slot: u32, upgrade: Upgrade<'_>) -> bool {
        self.outbox.end_opaque(&self.conns, slot);
        match self.admit(&upgrade) {
            Ok((app, protocol)) => {
                self.greet(slot, &app, protocol, upgrade.random);
                true
            }
            Err(reason) => {
                if self.is_sockudo(upgrade.protocol) {
                    self.conns.session(slot).protocol = SOCKUDO_PROTOCOL;
                }
                self.refuse(slot, &upgrade, reason);
                false
            }
        }
    }

    /// The checks of WebSocket spec 1.3; the first that fails decides. What is counted is taken
    /// last. Which of the late refusals comes first (4009, 4004, 4100, 4200) has no test of its own:
    /// no client acts on the difference, and it is the order of these lines.
    fn admit(&self, upgrade: &Upgrade<'_>) -> Result<(Arc<App>, u8), CloseReason> {
        let key = upgrade.key.ok_or(CloseReason::BadPath)?;
        let protocol = self.protocol(upgrade.protocol)?;
        let (app, _) = self.apps.by_key(key).ok_or(CloseReason::UnknownApp)?;
        if !app.settings.enabled {
            return Err(CloseReason::AppDisabled);
        }
        if app.settings.tls_only && !upgrade.tls {
            return Err(CloseReason::TlsOnly);
        }
        if !app.origin_allowed(upgrade.origin) {
            return Err(CloseReason::OriginRefused);
        }
        if upgrade.too_often {
            return Err(CloseReason::TooOften);
        }
        if !app.quota.try_take(app.settings.connections_max) {
            return Err(CloseReason::OverQuota);
        }
        let refusal = if self
            .capacity_max
            .is_some_and(|max| self.capacity.taken() > max)
        {
            CloseReason::OverCapacity
        } else if self.is_draining() {
            CloseReason::Restart
        } else {
            return Ok((Arc::clone(app), protocol));
        };
        app.quota.release();
        Err(refusal)
    }

    fn protocol(&self, value: Option<&str>) -> Result<u8, CloseReason> {
        match value {
            None if self.settings.strict_protocol => Err(CloseReason::MissingProtocol),
            None => Ok(7),
            value if self.is_sockudo(value) => Ok(SOCKUDO_PROTOCOL),
            Some("4") => Ok(4),
            Some("5") => Ok(5),
            Some("6") => Ok(6),
            Some("7") => Ok(7),
            Some(_) => Err(CloseReason::UnsupportedProtocol),
        }
    }

    /// Whether a client of Sockudo's V2 protocol asks, and they are served (extensions spec 1).
    fn is_sockudo(&self, value: Option<&str>) -> bool {
        self.settings.sockudo_clients && value == Some("2")
    }

    fn greet(&mut self, slot: u32, app: &App, protocol: u8, random: (u64, u16)) {
        let id = self.socket_ids.issue(random.0, random.1, self.id, slot);
        let secs = self.time_secs();
        *self.conns.session(slot) = Session {
            socket_id: Some(id),
            app: app.index,
            protocol,
            authorise_by: authorise_by(app, secs),
            ..Session::default()
        };
        let hot = self.conns.hot(slot);
        hot.phase = Phase::Open;
        hot.last_seen_secs = secs;
        self.counters.opened += 1;
        self.counters.app(app.index).opened += 1;
        let timeout_secs = self.settings.activity_timeout.as_secs() as u32;
        self.answer(slot, |out| {
            outbound::connection_established(out, id, timeout_secs)
        });
        self.wheel.set(slot, secs + timeout_secs);
        self.watch_authorisation(slot, secs);
    }

    fn refuse(&mut self, slot: u32, upgrade: &Upgrade<'_>, reason: CloseReason) {
        let code = reason.code().value();
        self.counters.refused += 1;
        let errors = match upgrade.key.and_then(|key| self.apps.by_key(key)) {
            Some((app, _)) => &mut self.counters.app(app.index).errors,
            None => &mut self.counters.errors,
        };
        *errors.entry(code).or_default() += 1;
        self.answer(slot, |out| outbound::error(out, Some(code), reason.text()));
        self.conns.hot(slot).phase = Phase::Open;
        self.close(slot, code, reason.text());
        let secs = self.time_secs() + CLOSING_SECS_MAX + 1;
        self.wheel.set(slot, secs);
    }
}
