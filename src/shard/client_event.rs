//! Client events: the acceptance rules in their order, then an ordinary publish that excludes its
//! sender.

use smallvec::smallvec;

use crate::metrics::Limiter;
use crate::pusher::channel::ChannelName;
use crate::pusher::error::{ClientEventError, Rejection};
use crate::pusher::inbound::ClientEvent;
use crate::pusher::outbound;
use crate::pusher::webhook::{ClientEventSent, WebhookKind};

use super::Shard;
use super::message::{Frame, Origin, Publish};

impl Shard {
    /// A `client-*` event (WebSocket spec 12).
    pub(super) fn client_event(&mut self, slot: u32, event: &ClientEvent<'_>) {
        if let Err(error) = self.try_client_event(slot, event) {
            self.counters.client_events_refused += 1;
            self.reject(slot, &Rejection::ClientEvent(error));
        }
    }

    fn try_client_event<'a>(
        &mut self,
        slot: u32,
        event: &'a ClientEvent<'_>,
    ) -> Result<(), ClientEventError<'a>> {
        let app = self.conns.session(slot).app;
        let app = self.app(app).cloned().ok_or(ClientEventError::Disabled)?;
        let settings = &app.settings;
        if !settings.client_events {
            return Err(ClientEventError::Disabled);
        }
        let chars_max = settings.event_name_chars_max;
        if event.name.chars().count() > chars_max as usize {
            return Err(ClientEventError::NameTooLong { chars_max });
        }
        let name = event
            .channel
            .as_deref()
            .ok_or(ClientEventError::NoChannel)?;
        let channel = ChannelName::parse(name, settings.channel_name_chars_max as usize)
            .map_err(|_| ClientEventError::ChannelKind)?;
        if !channel.kind().accepts_client_events() {
            return Err(ClientEventError::ChannelKind);
        }
        let hash = self.hasher.hash(app.index, name);
        let nth = self
            .local
            .find(hash, app.index, name)
            .and_then(|c| self.conns.session(slot).find(c));
        let nth = nth.ok_or(ClientEventError::NotSubscribed { channel: name })?;
        let bytes_max = settings.client_event_bytes_max;
        if event.data_bytes > bytes_max as usize {
            return Err(ClientEventError::TooLarge { bytes_max });
        }
        let per_sec_max = settings.client_events_per_sec;
        let time_ms = self.time.0;
        let allowance = &mut self.conns.session(slot).client_events;
        let within = allowance.take(time_ms, per_sec_max);
        let counters = self.counters.app(app.index);
        counters.rate(Limiter::ClientEvents, within);
        if !within {
            return Err(ClientEventError::TooMany { per_sec_max });
        }
        let session = self.conns.session(slot);
        let sub = session.subs[nth as usize];
        let user_id = session.user_id(sub);
        let frame = Frame::text_of(self.moment, |out| {
            outbound::event(out, event.name_source, name, event.data, user_id);
        });
        let mut webhook = None;
        if app.webhooks.wants(WebhookKind::ClientEvent)
            && let Some(socket_id) = session.socket_id
        {
            webhook = Some(Box::new(ClientEventSent {
                event: (*event.name).into(),
                data: (*event.data.text()).into(),
                socket_id,
                user_id: user_id.map(Into::into),
            }));
        }
        let except = session.socket_id;
        if webhook.is_some() {
            // Back ends learn of the subscriber before they learn what it said.
            self.report_channel(sub.channel, false);
        }
        let publish = Publish {
            app: app.index,
            hash,
            channel: name.into(),
            frame,
            except,
            origin: Origin::Client(self.conns.key(slot)),
            cached: false,
            delta: None,
            ask: None,
            webhook,
        };
        self.on_publish(smallvec![Box::new(publish)])
            .map_err(|_| ClientEventError::Congested)
    }
}
