//! A Pusher client: a greeted WebSocket, events in, commands out.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{A, App, Received, SILENCE, Server, WAIT, WebSocket};

/// A message of the server. What it holds beside these members is a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub event: String,
    pub channel: Option<String>,
    /// As it stands: an object for `pusher:error`, a string else.
    pub data: Value,
    pub user_id: Option<String>,
    /// The bytes of the message.
    pub raw: String,
}

impl Event {
    pub fn parse(raw: String) -> Self {
        let Ok(Value::Object(mut members)) = serde_json::from_str(&raw) else {
            panic!("not an object: {raw}");
        };
        let mut text = |name: &str| {
            members.remove(name).map(|value| match value {
                Value::String(text) => text,
                other => panic!("{name} is {other}: {raw}"),
            })
        };
        let event = text("event").unwrap_or_else(|| panic!("no event: {raw}"));
        let (channel, user_id) = (text("channel"), text("user_id"));
        let data = members.remove("data").unwrap_or(Value::Null);
        assert!(members.is_empty(), "other members: {raw}");
        Self {
            event,
            channel,
            data,
            user_id,
            raw,
        }
    }

    /// The data, which must be a string.
    pub fn text(&self) -> &str {
        self.data
            .as_str()
            .unwrap_or_else(|| panic!("data is no string: {}", self.raw))
    }

    /// The JSON in the string that the data is.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|e| panic!("{e}: {}", self.raw))
    }
}

/// A connected client.
pub struct Client {
    socket: WebSocket,
    pub socket_id: String,
    pub app: App,
}

impl Client {
    /// To app A, as pusher-js does.
    pub fn connect(server: &Server) -> Self {
        Self::connect_to(server, A)
    }

    pub fn connect_to(server: &Server, app: App) -> Self {
        Self::greeted(WebSocket::open(server, &app.target()), app)
    }

    /// With another version of the protocol.
    pub fn connect_with_protocol(server: &Server, protocol: u8) -> Self {
        let target = A.target_with(&format!("protocol={protocol}"));
        Self::greeted(WebSocket::open(server, &target), A)
    }

    /// Takes the greeting, which must be the first frame.
    pub fn greeted(mut socket: WebSocket, app: App) -> Self {
        let greeting = Event::parse(socket.text());
        assert_eq!(greeting.event, "pusher:connection_established");
        let data = greeting.json();
        let socket_id = data["socket_id"].as_str().expect("a string").to_owned();
        Self {
            socket,
            socket_id,
            app,
        }
    }

    pub fn into_socket(self) -> WebSocket {
        self.socket
    }

    pub fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    /// The next event.
    pub fn event(&mut self) -> Event {
        Event::parse(self.socket.text())
    }

    /// The next event, which has this name.
    pub fn expect(&mut self, event: &str) -> Event {
        let next = self.event();
        assert_eq!(next.event, event, "{}", next.raw);
        next
    }

    /// The next event, which has this name and this data, on this channel, sent by the API.
    pub fn expect_event(&mut self, channel: &str, event: &str, data: &str) {
        let next = self.expect(event);
        assert_eq!(next.channel.as_deref(), Some(channel), "{}", next.raw);
        assert_eq!(next.text(), data);
        assert_eq!(next.user_id, None, "{}", next.raw);
    }

    /// A `pusher:error` with this code, `None` for null. Gives the message.
    pub fn expect_error(&mut self, code: impl Into<Option<u16>>) -> String {
        let error = self.expect("pusher:error");
        assert_eq!(error.channel, None, "{}", error.raw);
        let members = error.data.as_object().expect("an object");
        assert_eq!(members.len(), 2, "{}", error.raw);
        assert_eq!(members["code"], json!(code.into()), "{}", error.raw);
        let message = members["message"].as_str().expect("a message");
        assert!(!message.is_empty());
        message.to_owned()
    }

    /// The two frames of a refused subscription (WebSocket spec 7.4). Gives the message.
    pub fn expect_refused(
        &mut self,
        channel: &str,
        code: impl Into<Option<u16>>,
        kind: &str,
        status: u16,
    ) -> String {
        let message = self.expect_error(code);
        let error = self.expect("pusher:subscription_error");
        assert_eq!(error.channel.as_deref(), Some(channel), "{}", error.raw);
        let expected = json!({"type": kind, "error": message, "status": status});
        assert_eq!(error.json(), expected);
        message
    }

    /// Sends the subscribe of a channel that needs no signature, as pusher-js does.
    pub fn send_subscribe(&mut self, channel: &str) {
        let data = json!({"auth": "", "channel": channel});
        self.send(&json!({"event": "pusher:subscribe", "data": data}));
    }

    /// Sends the subscribe of a channel with the right signature.
    pub fn send_signed(&mut self, channel: &str, channel_data: Option<&str>) {
        let auth = self.app.auth(&self.socket_id, channel, channel_data);
        self.send_auth(channel, &auth, channel_data);
    }

    /// Sends the subscribe of a channel with any signature.
    pub fn send_auth(&mut self, channel: &str, auth: &str, channel_data: Option<&str>) {
        let mut data = json!({"auth": auth, "channel": channel});
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        self.send(&json!({"event": "pusher:subscribe", "data": data}));
    }

    /// The success frame of a channel without presence.
    pub fn expect_subscribed(&mut self, channel: &str) {
        let success = self.expect("pusher_internal:subscription_succeeded");
        assert_eq!(success.channel.as_deref(), Some(channel), "{}", success.raw);
        assert_eq!(success.text(), "{}");
    }

    /// Subscribes to a channel that needs no signature.
    pub fn subscribe(&mut self, channel: &str) {
        self.send_subscribe(channel);
        self.expect_subscribed(channel);
    }

    pub fn subscribe_private(&mut self, channel: &str) {
        self.send_signed(channel, None);
        self.expect_subscribed(channel);
    }

    /// Subscribes to a presence channel; gives the roster.
    pub fn subscribe_presence(&mut self, channel: &str, channel_data: &Value) -> Value {
        self.send_signed(channel, Some(&channel_data.to_string()));
        self.expect_roster(channel)
    }

    /// The same where events of the channel may still be on their way from before.
    pub fn subscribe_presence_amid_events(&mut self, channel: &str, channel_data: &Value) -> Value {
        self.send_signed(channel, Some(&channel_data.to_string()));
        loop {
            let event = self.event();
            if event.event == "pusher_internal:subscription_succeeded" {
                return roster(&event, channel);
            }
            assert_eq!(event.channel.as_deref(), Some(channel), "{}", event.raw);
        }
    }

    /// The success frame of a presence channel: its roster agrees with itself (spec 10.2).
    pub fn expect_roster(&mut self, channel: &str) -> Value {
        let success = self.expect("pusher_internal:subscription_succeeded");
        roster(&success, channel)
    }

    /// Sends a sign-in with the right signature.
    pub fn send_sign_in(&mut self, user_data: &str) {
        let auth = self.app.sign_in_auth(&self.socket_id, user_data);
        self.send_sign_in_auth(&auth, user_data);
    }

    /// Sends a sign-in with any signature.
    pub fn send_sign_in_auth(&mut self, auth: &str, user_data: &str) {
        let data = json!({"auth": auth, "user_data": user_data});
        self.send(&json!({"event": "pusher:signin", "data": data}));
    }

    /// The success of a sign-in, which gives back what was sent.
    pub fn expect_signed_in(&mut self, user_data: &str) {
        let success = self.expect("pusher:signin_success");
        assert_eq!(success.channel, None, "{}", success.raw);
        assert_eq!(success.data, json!({"user_data": user_data}));
    }

    /// Signs in as a user without anything else.
    pub fn sign_in(&mut self, user_id: &str) {
        let user_data = json!({"id": user_id}).to_string();
        self.send_sign_in(&user_data);
        self.expect_signed_in(&user_data);
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        self.send(&json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}));
    }

    /// A `pusher:pong` comes next: what was sent before is done, and nothing is left to read.
    pub fn sync(&mut self) {
        self.send_text(r#"{"event":"pusher:ping","data":{}}"#);
        let pong = self.event();
        assert_eq!(pong.raw, r#"{"event":"pusher:pong","data":"{}"}"#);
    }

    /// The same where events may come first, which are skipped.
    pub fn sync_amid_events(&mut self) {
        self.send_text(r#"{"event":"pusher:ping","data":{}}"#);
        while self.event().event != "pusher:pong" {}
    }

    /// Nothing comes for a while.
    pub fn expect_nothing(&mut self) {
        self.expect_silence(SILENCE);
    }

    /// Everything up to and with the next event of this name.
    pub fn events_through(&mut self, last: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.event());
            if events[events.len() - 1].event == last {
                return events;
            }
        }
    }

    /// Everything that comes until it is quiet for so long.
    pub fn events_until_quiet(&mut self, quiet: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.socket.text_until(Instant::now() + quiet) {
                Ok(text) => events.push(Event::parse(text)),
                Err(Received::Nothing) => return events,
                Err(other) => panic!("{other:?} after {events:?}"),
            }
        }
    }
}

/// Refused with this code, in a frame and in the Close, which has the same text as its reason.
pub fn expect_refused(mut socket: WebSocket, code: u16) {
    let error = Event::parse(socket.text());
    assert_eq!(error.event, "pusher:error");
    assert_eq!(error.channel, None);
    let message = error.data["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    assert_eq!(error.data, json!({"code": code, "message": message}));
    let reason = socket.expect_close_frame(code);
    assert_eq!(reason, message);
    assert!(!reason.is_empty());
    // The peer gives no answer: the stream ends nevertheless.
    let began = Instant::now();
    socket.tcp.expect_end();
    assert!(began.elapsed() < WAIT / 2);
}

fn roster(success: &Event, channel: &str) -> Value {
    assert_eq!(success.channel.as_deref(), Some(channel), "{}", success.raw);
    let roster = success.json()["presence"].take();
    let ids = roster["ids"].as_array().expect("ids");
    let hash = roster["hash"].as_object().expect("an object");
    assert_eq!(roster["count"], ids.len());
    assert_eq!(hash.len(), ids.len(), "{roster}");
    let all = ids.iter().all(|id| hash.contains_key(id.as_str().unwrap()));
    assert!(all, "{roster}");
    roster
}

impl Deref for Client {
    type Target = WebSocket;

    fn deref(&self) -> &WebSocket {
        &self.socket
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut WebSocket {
        &mut self.socket
    }
}
