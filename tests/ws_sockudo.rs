//! Clients of Sockudo's V2 protocol: every platform event under its own prefix, in both directions,
//! and everything else as for protocol 7 (extensions spec 1).

mod support;

use serde_json::{Value, json};

use support::on_shards_with;
use support::websocket::WebSocket;
use support::{A, App, Client, Config, Publisher, Server, expect_refused, on_shards, unique};

/// A greeted connection.
struct Sockudo {
    socket: WebSocket,
    socket_id: String,
}

impl Sockudo {
    fn connect(server: &Server) -> Self {
        let mut socket = WebSocket::open(server, &A.target_with("protocol=2&client=js"));
        let greeting: Value = serde_json::from_str(&socket.text()).unwrap();
        assert_eq!(greeting["event"], "sockudo:connection_established");
        let data: Value = serde_json::from_str(greeting["data"].as_str().unwrap()).unwrap();
        assert!(data["activity_timeout"].as_u64() > Some(0));
        Self {
            socket_id: data["socket_id"].as_str().unwrap().to_owned(),
            socket,
        }
    }

    fn say(&mut self, event: &str, data: &Value) {
        let message = json!({"event": event, "data": data});
        self.socket.send_text(&message.to_string());
    }

    /// Subscribes, signed where that is needed; request fields of features that are not offered
    /// beside the known ones.
    fn subscribe(&mut self, channel: &str, channel_data: Option<&str>) {
        let mut data = json!({"channel": channel, "rewind": 10, "annotations": true});
        data["auth"] = A.auth(&self.socket_id, channel, channel_data).into();
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        self.say("sockudo:subscribe", &data);
    }

    #[track_caller]
    fn expect(&mut self, text: &str) {
        assert_eq!(self.socket.text(), text);
    }

    fn expect_subscribed(&mut self, channel: &str) {
        self.expect(&format!(
            r#"{{"event":"sockudo_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
        ));
    }

    /// What was sent before is done, and nothing is left to read.
    fn sync(&mut self) {
        self.say("sockudo:ping", &json!({}));
        self.expect(r#"{"event":"sockudo:pong","data":"{}"}"#);
    }
}

#[test]
fn channels_of_every_kind_are_subscribed_and_events_have_no_prefix() {
    on_shards(|server| {
        let mut client = Sockudo::connect(server);
        let mut publisher = Publisher::connect(server);
        for prefix in ["news-", "private-room-", "private-encrypted-room-"] {
            let channel = unique(prefix);
            client.subscribe(&channel, None);
            client.expect_subscribed(&channel);
            publisher.publish(&channel, "price", "1");
            client.expect(&format!(
                r#"{{"event":"price","channel":"{channel}","data":"1"}}"#
            ));
            client.say("sockudo:unsubscribe", &json!({"channel": channel}));
            client.sync();
            publisher.publish(&channel, "price", "2");
            client.sync();
        }
    });
}

#[test]
fn a_presence_channel_is_shared_with_clients_of_protocol_7() {
    on_shards(|server| {
        let channel = unique("presence-both-");
        let mut sockudo = Sockudo::connect(server);
        sockudo.subscribe(&channel, Some(r#"{"user_id":"u1"}"#));
        sockudo.expect(&format!(
            r#"{{"event":"sockudo_internal:subscription_succeeded","channel":"{channel}","data":"{{\"presence\":{{\"ids\":[\"u1\"],\"hash\":{{\"u1\":{{}}}},\"count\":1}}}}"}}"#
        ));
        let mut pusher = Client::connect(server);
        pusher.subscribe_presence(&channel, &json!({"user_id": "u2"}));
        sockudo.expect(&format!(
            r#"{{"event":"sockudo_internal:member_added","channel":"{channel}","data":"{{\"user_id\":\"u2\",\"user_info\":{{}}}}"}}"#
        ));
        let mut third = Sockudo::connect(server);
        third.subscribe(&channel, Some(r#"{"user_id":"u3"}"#));
        let added = format!(
            r#"{{"event":"pusher_internal:member_added","channel":"{channel}","data":"{{\"user_id\":\"u3\",\"user_info\":{{}}}}"}}"#
        );
        assert_eq!(pusher.text(), added);
        sockudo.expect(&added.replacen("pusher", "sockudo", 1));
        third.socket.text();

        // Client events cross as they are, in both directions.
        pusher.send(&json!({"event": "client-x", "channel": channel, "data": {"a": 1}}));
        let event = |user: &str| {
            format!(
                r#"{{"event":"client-x","channel":"{channel}","data":"{{\"a\":1}}","user_id":"{user}"}}"#
            )
        };
        sockudo.expect(&event("u2"));
        third.expect(&event("u2"));
        let message = json!({"event": "client-x", "channel": channel, "data": {"a": 1}});
        sockudo.socket.send_text(&message.to_string());
        assert_eq!(pusher.text(), event("u1"));
        third.expect(&event("u1"));

        drop(pusher);
        let removed = format!(
            r#"{{"event":"sockudo_internal:member_removed","channel":"{channel}","data":"{{\"user_id\":\"u2\"}}"}}"#
        );
        sockudo.expect(&removed);
        third.expect(&removed);
        sockudo.sync();
    });
}

#[test]
fn a_cache_channel_answers_with_its_event_or_a_miss() {
    on_shards(|server| {
        let channel = unique("cache-");
        let mut early = Sockudo::connect(server);
        early.subscribe(&channel, None);
        early.expect_subscribed(&channel);
        early.expect(&format!(
            r#"{{"event":"sockudo:cache_miss","channel":"{channel}","data":"{{}}"}}"#
        ));
        let event = format!(r#"{{"event":"price","channel":"{channel}","data":"1"}}"#);
        Publisher::connect(server).publish(&channel, "price", "1");
        early.expect(&event);
        let mut late = Sockudo::connect(server);
        late.subscribe(&channel, None);
        late.expect_subscribed(&channel);
        late.expect(&event);
    });
}

#[test]
fn errors_have_the_prefix_and_the_codes_of_protocol_7() {
    on_shards(|server| {
        let mut client = Sockudo::connect(server);
        let unsupported = |event: &str, prefix: &str| {
            format!(
                r#"{{"event":"{prefix}:error","data":{{"code":null,"message":"Unsupported event received on socket: {event}"}}}}"#
            )
        };
        // Of the other protocol, and of features that are not offered.
        for event in ["pusher:ping", "sockudo:history", "sockudo_internal:x"] {
            client.say(event, &json!({}));
            client.expect(&unsupported(event, "sockudo"));
        }
        client.say(
            "sockudo:subscribe",
            &json!({"channel": "private-x", "auth": "x:y"}),
        );
        let error: Value = serde_json::from_str(&client.socket.text()).unwrap();
        assert_eq!(error["event"], "sockudo:error");
        assert_eq!(error["data"]["code"], 4009);
        let error: Value = serde_json::from_str(&client.socket.text()).unwrap();
        assert_eq!(error["event"], "sockudo:subscription_error");
        client.sync();

        let mut pusher = Client::connect(server);
        pusher.send(&json!({"event": "sockudo:ping", "data": {}}));
        assert_eq!(pusher.text(), unsupported("sockudo:ping", "pusher"));
        pusher.sync();
    });
}

#[test]
fn a_refusal_is_told_under_the_prefix_and_closes_are_those_of_protocol_7() {
    on_shards(|server| {
        let mut socket = WebSocket::open(server, "/app/unknown?protocol=2");
        let error: Value = serde_json::from_str(&socket.text()).unwrap();
        assert_eq!(error["event"], "sockudo:error");
        assert_eq!(error["data"]["code"], 4001);
        socket.expect_closed(4001);
    });
    // No error precedes a Close of the server.
    let config = Config::only(&App { settings: "", ..A }, "messages_per_sec = 1\n");
    on_shards_with(&config, |server| {
        let mut client = Sockudo::connect(server);
        client.sync();
        client.say("sockudo:ping", &json!({}));
        client.socket.expect_closed(1008);
    });
}

#[test]
fn the_probe_of_a_silent_client_has_the_prefix() {
    let config = Config::standard()
        .set("activity_timeout_secs", 1)
        .set("liveness_probe", "\"pusher\"");
    on_shards_with(&config, |server| {
        let mut client = Sockudo::connect(server);
        client.expect(r#"{"event":"sockudo:ping","data":"{}"}"#);
        client.say("sockudo:pong", &json!({}));
        client.sync();
    });
}

#[test]
fn where_they_are_not_served_they_are_refused_as_other_protocols_are() {
    let config = Config::standard().set("sockudo_clients", false);
    on_shards_with(&config, |server| {
        expect_refused(WebSocket::open(server, &A.target_with("protocol=2")), 4007);
    });
}
