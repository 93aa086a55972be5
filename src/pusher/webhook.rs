//! Webhooks: what happened on a channel, as JSON; the body that carries several; its signature.
//!
//! Says neither when something has happened (`shard`) nor who is told and how often (`side`).
//!
//! Invariant: a body is the same bytes for the same events and time, and it is these bytes that are
//! signed (webhooks 2).

use super::escape::{write_contents, write_string};
use super::signature::{SIGNATURE_HEX_BYTES, SigningKey};
use super::socket_id::SocketId;

/// What an endpoint may ask to be told (webhooks 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WebhookKind {
    ChannelOccupied,
    ChannelVacated,
    MemberAdded,
    MemberRemoved,
    ClientEvent,
    CacheMiss,
    SubscriptionCount,
}

impl WebhookKind {
    pub const ALL: [Self; 7] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::ClientEvent,
        Self::CacheMiss,
        Self::SubscriptionCount,
    ];

    /// The `name` of its events.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::ClientEvent => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A set of kinds, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookKinds(u8);

impl WebhookKinds {
    pub const NONE: Self = Self(0);

    #[inline]
    pub fn contains(self, kind: WebhookKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = WebhookKind> {
        WebhookKind::ALL
            .into_iter()
            .filter(move |&kind| self.contains(kind))
    }
}

impl FromIterator<WebhookKind> for WebhookKinds {
    fn from_iter<I: IntoIterator<Item = WebhookKind>>(kinds: I) -> Self {
        Self(
            kinds
                .into_iter()
                .fold(0, |bits, kind| bits | 1 << kind as u8),
        )
    }
}

/// What happened on a channel. Texts are as they are after JSON unescaping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookEvent {
    ChannelOccupied,
    ChannelVacated,
    MemberAdded { user_id: Box<str> },
    MemberRemoved { user_id: Box<str> },
    ClientEvent(Box<ClientEventSent>),
    CacheMiss,
    SubscriptionCount(u32),
}

/// An accepted client event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEventSent {
    pub event: Box<str>,
    /// The string that subscribers got, never an object (webhooks 4).
    pub data: Box<str>,
    pub socket_id: SocketId,
    /// On presence channels alone.
    pub user_id: Option<Box<str>>,
}

impl WebhookEvent {
    pub fn kind(&self) -> WebhookKind {
        match self {
            Self::ChannelOccupied => WebhookKind::ChannelOccupied,
            Self::ChannelVacated => WebhookKind::ChannelVacated,
            Self::MemberAdded { .. } => WebhookKind::MemberAdded,
            Self::MemberRemoved { .. } => WebhookKind::MemberRemoved,
            Self::ClientEvent(_) => WebhookKind::ClientEvent,
            Self::CacheMiss => WebhookKind::CacheMiss,
            Self::SubscriptionCount(_) => WebhookKind::SubscriptionCount,
        }
    }

    /// Bytes of its texts: what it takes in memory beside its own size.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::MemberAdded { user_id } | Self::MemberRemoved { user_id } => user_id.len(),
            Self::ClientEvent(sent) => {
                let user_id = sent.user_id.as_ref().map_or(0, |id| id.len());
                sent.event.len() + sent.data.len() + user_id
            }
            _ => 0,
        }
    }

    /// Appends the element of `events`.
    pub fn write(&self, out: &mut Vec<u8>, channel: &str) {
        out.extend_from_slice(br#"{"name":""#);
        out.extend_from_slice(self.kind().name().as_bytes());
        out.push(b'"');
        write_member(out, "channel", channel);
        match self {
            Self::ChannelOccupied | Self::ChannelVacated | Self::CacheMiss => {}
            Self::MemberAdded { user_id } | Self::MemberRemoved { user_id } => {
                write_member(out, "user_id", user_id);
            }
            Self::ClientEvent(sent) => {
                write_member(out, "event", &sent.event);
                write_member(out, "data", &sent.data);
                write_member(out, "socket_id", &sent.socket_id.to_string());
                if let Some(user_id) = &sent.user_id {
                    write_member(out, "user_id", user_id);
                }
            }
            Self::SubscriptionCount(count) => {
                out.extend_from_slice(format!(r#","subscription_count":{count}"#).as_bytes());
            }
        }
        out.push(b'}');
    }
}

fn write_member(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(br#",""#);
    write_contents(out, name);
    out.extend_from_slice(br#"":"#);
    write_string(out, text);
}

/// Bytes of a body beside its events and the commas between them, at most.
pub const BODY_BYTES_AROUND: usize = r#"{"time_ms":18446744073709551615,"events":[]}"#.len();

/// The body around events that are written already, of which there must be one at least.
/// `time_ms` is the time at which the webhook was created, in milliseconds of the Unix epoch.
pub fn body<'a>(time_ms: u64, events: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = format!(r#"{{"time_ms":{time_ms},"events":["#).into_bytes();
    for (place, event) in events.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The `X-Pusher-Signature` of a body.
pub fn sign(key: &SigningKey, body: &[u8]) -> [u8; SIGNATURE_HEX_BYTES] {
    key.sign_hex(&[body])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(event: &WebhookEvent, channel: &str) -> String {
        let mut out = Vec::new();
        event.write(&mut out, channel);
        String::from_utf8(out).unwrap()
    }

    fn client_event(user_id: Option<&str>) -> WebhookEvent {
        WebhookEvent::ClientEvent(Box::new(ClientEventSent {
            event: "client-typing".into(),
            data: r#"{"on":true}"#.into(),
            socket_id: SocketId::parse("1234.1234").unwrap().possible().unwrap(),
            user_id: user_id.map(Into::into),
        }))
    }

    #[test]
    fn each_event_has_the_members_of_its_kind_and_no_others() {
        let user_id = || "u1".into();
        let rows = [
            (
                WebhookEvent::ChannelOccupied,
                r#"{"name":"channel_occupied","channel":"c"}"#,
            ),
            (
                WebhookEvent::ChannelVacated,
                r#"{"name":"channel_vacated","channel":"c"}"#,
            ),
            (
                WebhookEvent::MemberAdded { user_id: user_id() },
                r#"{"name":"member_added","channel":"c","user_id":"u1"}"#,
            ),
            (
                WebhookEvent::MemberRemoved { user_id: user_id() },
                r#"{"name":"member_removed","channel":"c","user_id":"u1"}"#,
            ),
            (
                client_event(None),
                r#"{"name":"client_event","channel":"c","event":"client-typing","data":"{\"on\":true}","socket_id":"1234.1234"}"#,
            ),
            (
                client_event(Some("u1")),
                r#"{"name":"client_event","channel":"c","event":"client-typing","data":"{\"on\":true}","socket_id":"1234.1234","user_id":"u1"}"#,
            ),
            (
                WebhookEvent::CacheMiss,
                r#"{"name":"cache_miss","channel":"c"}"#,
            ),
            (
                WebhookEvent::SubscriptionCount(3),
                r#"{"name":"subscription_count","channel":"c","subscription_count":3}"#,
            ),
        ];
        for (event, expected) in rows {
            assert_eq!(written(&event, "c"), expected);
        }
    }

    #[test]
    fn texts_are_escaped() {
        let user_id = "a\"b\\\n\u{1f600}";
        let event = WebhookEvent::MemberAdded {
            user_id: user_id.into(),
        };
        let read: serde_json::Value = serde_json::from_str(&written(&event, "presence-x")).unwrap();
        assert_eq!(read["user_id"], user_id);
    }

    #[test]
    fn bodies_and_signatures_are_those_of_the_specification() {
        let key = SigningKey::new(b"7ad3773142a6692b25b8");
        let added = WebhookEvent::MemberAdded {
            user_id: "u1".into(),
        };
        let rows = [
            (
                vec![written(&WebhookEvent::ChannelOccupied, "my-channel")],
                r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}"#,
                "c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf",
            ),
            (
                vec![
                    written(&added, "presence-room"),
                    written(&client_event(Some("u1")), "presence-room"),
                ],
                r#"{"time_ms":1327078148132,"events":[{"name":"member_added","channel":"presence-room","user_id":"u1"},{"name":"client_event","channel":"presence-room","event":"client-typing","data":"{\"on\":true}","socket_id":"1234.1234","user_id":"u1"}]}"#,
                "d5e14e5d9f47a055325a9ea91fcc78a95096420eea17dfb594af9cb00c65ed4c",
            ),
        ];
        for (events, expected, signature) in rows {
            let body = body(1_327_078_148_132, events.iter().map(String::as_bytes));
            assert_eq!(String::from_utf8_lossy(&body), expected);
            assert_eq!(sign(&key, &body), signature.as_bytes());
            let events_bytes: usize = events.iter().map(|event| event.len() + 1).sum();
            assert!(body.len() < events_bytes + BODY_BYTES_AROUND);
        }
    }

    #[test]
    fn a_set_has_the_kinds_that_it_was_made_of() {
        for kind in WebhookKind::ALL {
            let alone = WebhookKinds::from_iter([kind]);
            assert_eq!(alone.iter().collect::<Vec<_>>(), [kind]);
            assert_eq!(WebhookKind::from_name(kind.name()), Some(kind));
            assert!(!WebhookKinds::NONE.contains(kind));
        }
        let all = WebhookKinds::from_iter(WebhookKind::ALL);
        assert_eq!(all.iter().collect::<Vec<_>>(), WebhookKind::ALL);
        assert_eq!(all.union(WebhookKinds::NONE), all);
        assert_eq!(WebhookKind::from_name("member_updated"), None);
    }
}
