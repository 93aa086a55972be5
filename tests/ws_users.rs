//! Users: signing in, events to a user, presence as the signed-in user (WebSocket spec 14, 15).

mod support;

use serde_json::{Value, json};

use support::presence::user;
use support::{
    A, B, Client, Config, Publisher, Server, on_shards, on_shards_with, text_frame, unique,
};

fn channel_of(user_id: &str) -> String {
    format!("#server-to-user-{user_id}")
}

/// Connections to every shard, most likely: the kernel spreads them.
fn clients(server: &Server, user_id: &str) -> Vec<Client> {
    let signed_in = |_| {
        let mut client = Client::connect(server);
        client.sign_in(user_id);
        client
    };
    (0..2 * server.shards).map(signed_in).collect()
}

// Case 104; 14: the string that was sent, unchanged, in an object.
#[test]
fn a_sign_in_is_answered_with_the_very_string_that_was_sent() {
    on_shards(|server| {
        for user_data in [
            r#"{"id":"12345"}"#,
            r#"{ "user_info": {"name":"\u00c4nn \"x\" \\ \/"}, "id": "a@b", "x":1.0 }"#,
            r#"{"id":"u","watchlist":["u2"],"user_info":null}"#,
        ] {
            let mut client = Client::connect(server);
            client.send_sign_in(user_data);
            client.expect_signed_in(user_data);
            // The same user again.
            client.send_sign_in(user_data);
            client.expect_signed_in(user_data);
            client.sync();
        }
        let mut client = Client::connect(server);
        client.send_sign_in(r#"{"id":"u"}"#);
        let raw = r#"{"event":"pusher:signin_success","data":{"user_data":"{\"id\":\"u\"}"}}"#;
        assert_eq!(client.text(), raw);
    });
}

// Case 105; 14 and 7.2: the connection stays, and stays nobody's.
#[test]
fn a_sign_in_that_fails_signs_nobody_in() {
    on_shards(|server| {
        let id = unique("fails-");
        let user_data = json!({"id": id}).to_string();
        let mut client = Client::connect(server);
        let good = A.sign_in_auth(&client.socket_id, &user_data);
        for auth in [
            String::new(),
            "x".into(),
            good.to_uppercase(),
            good[..good.len() - 1].into(),
            format!("{good} "),
            good.replace(A.key, "unknown"),
            A.sign_in_auth("1.1", &user_data),
            A.sign_in_auth(&client.socket_id, &format!("{user_data} ")),
            A.auth(&client.socket_id, "private-x", Some(&user_data)),
            B.sign_in_auth(&client.socket_id, &user_data),
        ] {
            client.send_sign_in_auth(&auth, &user_data);
            client.expect_error(4009);
        }
        for user_data in [
            "".to_owned(),
            "null".into(),
            "[]".into(),
            "not JSON".into(),
            "{}".into(),
            json!({"id": ""}).to_string(),
            json!({"id": 5}).to_string(),
            json!({"id": null}).to_string(),
            json!({"id": ["u"]}).to_string(),
            json!({"id": "a#b"}).to_string(),
            json!({"id": "a b"}).to_string(),
            json!({"id": "a:b"}).to_string(),
            json!({"id": "\u{e9}"}).to_string(),
            json!({"id": "u".repeat(201)}).to_string(),
            json!({"user_id": "u"}).to_string(),
        ] {
            client.send_sign_in(&user_data);
            client.expect_error(4009);
        }
        Publisher::connect(server).publish(&channel_of(&id), "e", "x");
        client.send_subscribe(&channel_of(&id));
        client.expect_refused(&channel_of(&id), 4009, "AuthError", 401);
        client.sync();
        // All that was wrong can be put right.
        client.send_sign_in_auth(&good, &user_data);
        client.expect_signed_in(&user_data);
        let mut longest = Client::connect(server);
        longest.sign_in(&"u".repeat(200));
    });
}

// Case 106; 14.
#[test]
fn another_user_on_the_same_connection_is_refused_and_the_first_stays() {
    on_shards(|server| {
        let (first, second) = (unique("first-"), unique("second-"));
        let mut client = Client::connect(server);
        client.sign_in(&first);
        client.send_sign_in(&json!({"id": second}).to_string());
        client.expect_error(4009);
        let mut publisher = Publisher::connect(server);
        publisher.publish(&channel_of(&second), "e", "not mine");
        publisher.publish(&channel_of(&first), "e", "mine");
        client.expect_event(&channel_of(&first), "e", "mine");
        client.sync();
        client.sign_in(&first);
        client.expect_nothing();
    });
}

#[test]
fn where_user_authentication_is_off_every_sign_in_fails() {
    let config = Config::only(&A, "user_authentication = false");
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        client.send_sign_in(r#"{"id":"u1"}"#);
        let message = client.expect_error(4009);
        assert!(message.contains("not enabled"), "{message}");
        client.send_subscribe("#server-to-user-u1");
        client.expect_refused("#server-to-user-u1", 4009, "AuthError", 401);
        client.sync();
    });
}

// Case 107; 15 and 8: the subscription is an answer and changes nothing.
#[test]
fn the_channel_of_a_user_is_for_its_own_connections_and_subscribing_is_a_formality() {
    on_shards(|server| {
        let id = unique("own-");
        let channel = channel_of(&id);
        let mut own = Client::connect(server);
        own.send_subscribe(&channel);
        own.expect_refused(&channel, 4009, "AuthError", 401);
        own.sign_in(&id);
        own.unsubscribe(&channel);
        own.expect_error(None);
        own.subscribe(&channel);
        own.send_subscribe(&channel);
        own.expect_error(None);
        let mut other = Client::connect(server);
        other.sign_in(&unique("other-"));
        for auth in [String::new(), A.auth(&other.socket_id, &channel, None)] {
            other.send_auth(&channel, &auth, None);
            other.expect_refused(&channel, 4009, "AuthError", 401);
        }
        for channel in ["#foo", "#", "#server-to-user-", "#server-to-user-a b"] {
            own.send_subscribe(channel);
            own.expect_refused(channel, None, "InvalidChannel", 400);
            own.unsubscribe(channel);
            own.expect_error(None);
        }
        let mut publisher = Publisher::connect(server);
        publisher.publish(&channel, "e", "subscribed");
        own.expect_event(&channel, "e", "subscribed");
        own.unsubscribe(&channel);
        own.sync();
        publisher.publish(&channel, "e", "not subscribed");
        own.expect_event(&channel, "e", "not subscribed");
        own.unsubscribe(&channel);
        own.expect_error(None);
        own.subscribe(&channel);
        publisher.publish(&channel, "e", "again");
        own.expect_event(&channel, "e", "again");
        other.sync();
        other.expect_nothing();
        own.sync();
    });
}

// Case 89; 12.1 and 15.
#[test]
fn clients_send_nothing_to_a_user() {
    on_shards(|server| {
        let id = unique("silent-");
        let channel = channel_of(&id);
        let mut pair = [Client::connect(server), Client::connect(server)];
        for client in &mut pair {
            client.sign_in(&id);
            client.subscribe(&channel);
        }
        pair[0].send(&json!({"event": "client-x", "channel": channel, "data": {}}));
        pair[0].expect_error(4301);
        for client in &mut pair {
            client.sync();
            client.expect_nothing();
        }
    });
}

// Case 108; 15.
#[test]
fn an_event_reaches_every_connection_of_a_user_once_subscribed_or_not() {
    on_shards(|server| {
        let id = unique("everywhere-");
        let channel = channel_of(&id);
        let mut own = clients(server, &id);
        for client in own.iter_mut().step_by(2) {
            client.subscribe(&channel);
        }
        let mut other = Client::connect(server);
        other.sign_in(&unique("other-"));
        let mut publisher = Publisher::connect(server);
        for n in 0..20 {
            publisher.publish(&channel, "greet", &n.to_string());
        }
        for client in &mut own {
            for n in 0..20 {
                client.expect_event(&channel, "greet", &n.to_string());
            }
            client.sync();
        }
        // One of them is excluded.
        let excluded = own[1].socket_id.clone();
        publisher.publish_except(&excluded, &channel, "greet", "not you");
        publisher.publish(&channel, "greet", "all");
        for (nth, client) in own.iter_mut().enumerate() {
            if nth != 1 {
                client.expect_event(&channel, "greet", "not you");
            }
            client.expect_event(&channel, "greet", "all");
            client.sync();
        }
        other.sync();
    });
}

// 15: pusher-js subscribes when it has read the success; what comes before must not be lost.
#[test]
fn nothing_is_lost_or_doubled_between_the_success_and_the_subscribe() {
    on_shards(|server| {
        let mut publisher = Publisher::connect(server);
        for _ in 0..20 {
            let id = unique("gap-");
            let channel = channel_of(&id);
            let mut client = Client::connect(server);
            client.sign_in(&id);
            publisher.publish(&channel, "e", "1");
            client.send_subscribe(&channel);
            publisher.publish(&channel, "e", "2");
            let mut events: Vec<String> = (0..3).map(|_| client.event().raw).collect();
            let succeeded = |raw: &String| raw.contains("subscription_succeeded");
            events.retain(|raw| !succeeded(raw));
            assert_eq!(events.len(), 2, "{events:?}");
            assert!(events[0].contains(r#""data":"1""#), "{events:?}");
            client.sync();
        }
    });
}

#[test]
fn the_same_id_in_another_app_is_another_user() {
    on_shards(|server| {
        let id = unique("both-");
        let mut in_a = Client::connect_to(server, A);
        let mut in_b = Client::connect_to(server, B);
        in_a.sign_in(&id);
        in_b.sign_in(&id);
        Publisher::connect_to(server, B).publish(&channel_of(&id), "e", "b");
        in_b.expect_event(&channel_of(&id), "e", "b");
        in_a.sync();
    });
}

/// Signs in as a user with this info, and joins a channel without `channel_data`.
fn join_signed_in(client: &mut Client, channel: &str, user_data: &Value) {
    let user_data = user_data.to_string();
    client.send_sign_in(&user_data);
    client.expect_signed_in(&user_data);
    client.send_signed(channel, None);
}

// Case 109; 7.2 and 10.1.
#[test]
fn a_signed_in_user_joins_presence_channels_without_channel_data() {
    on_shards(|server| {
        let channel = unique("presence-signed-");
        let mut client = Client::connect(server);
        client.send_signed(&channel, None);
        client.expect_refused(&channel, 4009, "AuthError", 401);
        let ann = json!({"id": "ann", "user_info": {"name": "Ann"}});
        join_signed_in(&mut client, &channel, &ann);
        let roster = client.expect_roster(&channel);
        assert_eq!(roster["hash"], json!({"ann": {"name": "Ann"}}));
        // `channel_data` wins, and its signature has three parts.
        let mut bob = Client::connect(server);
        bob.sign_in("ann");
        let two_parts = bob.app.auth(&bob.socket_id, &channel, None);
        bob.send_auth(&channel, &two_parts, Some(&user("bob").to_string()));
        bob.expect_refused(&channel, 4009, "AuthError", 401);
        let roster = bob.subscribe_presence(&channel, &user("bob"));
        assert_eq!(roster["ids"], json!(["ann", "bob"]));
        client.expect("pusher_internal:member_added");
        // Without info.
        let mut cy = Client::connect(server);
        join_signed_in(&mut cy, &channel, &json!({"id": "cy"}));
        let roster = cy.expect_roster(&channel);
        assert_eq!(roster["hash"]["cy"], json!({}));
        let added = client.expect("pusher_internal:member_added");
        assert_eq!(added.json(), json!({"user_id": "cy", "user_info": {}}));
    });
}

// 14: the info of the last sign-in replaces the one before.
#[test]
fn a_second_sign_in_changes_what_later_presence_channels_show() {
    on_shards(|server| {
        let channels = [unique("presence-1-"), unique("presence-2-")];
        let mut client = Client::connect(server);
        for (n, channel) in channels.iter().enumerate() {
            join_signed_in(&mut client, channel, &json!({"id": "u", "user_info": n}));
            let roster = client.expect_roster(channel);
            assert_eq!(roster["hash"], json!({"u": n}));
        }
    });
}

// 10.1: the limits of members hold for signed-in users too.
#[test]
fn a_sign_in_may_be_larger_than_a_member() {
    on_shards(|server| {
        let channel = unique("presence-large-");
        for (id, info_bytes, status) in [(129, 0, 413), (128, 2049, 413), (128, 2048, 0)] {
            let info = "i".repeat(usize::max(info_bytes, 2) - 2);
            let user_data = json!({"id": "u".repeat(id), "user_info": info});
            let mut client = Client::connect(server);
            join_signed_in(&mut client, &channel, &user_data);
            match status {
                0 => drop(client.expect_roster(&channel)),
                _ => drop(client.expect_refused(&channel, None, "LimitReached", status)),
            }
        }
    });
}

// 3.2: one segment, one order.
#[test]
fn what_is_sent_behind_a_sign_in_finds_it_done() {
    on_shards(|server| {
        let id = unique("segment-");
        let channel = channel_of(&id);
        let user_data = json!({"id": id}).to_string();
        for piece_bytes in [1, 7, usize::MAX] {
            let mut client = Client::connect(server);
            let auth = A.sign_in_auth(&client.socket_id, &user_data);
            let data = json!({"auth": auth, "user_data": user_data});
            let subscribe = json!({"event": "pusher:subscribe", "data": {"channel": channel}});
            let sign_in = json!({"event": "pusher:signin", "data": data});
            let bytes = [&subscribe, &sign_in, &subscribe].map(|m| text_frame(&m.to_string()));
            for piece in bytes.concat().chunks(piece_bytes) {
                client.tcp.send(piece);
            }
            client.expect_refused(&channel, 4009, "AuthError", 401);
            client.expect_signed_in(&user_data);
            client.expect_subscribed(&channel);
        }
    });
}

// 15: no counts, and no place in those of others.
#[test]
fn a_sign_in_is_no_subscription_of_the_connection() {
    let config = Config::only(&A, "").set("subscriptions_connection_max", 1);
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        client.sign_in("u1");
        client.subscribe("#server-to-user-u1");
        client.subscribe("news");
        client.send_subscribe("more");
        client.expect_refused("more", 4100, "LimitReached", 4100);
        let mut publisher = Publisher::connect(server);
        let answer = publisher.publish_json(&json!({
            "name": "e", "channel": "#server-to-user-u1", "data": "", "info": "subscription_count",
        }));
        assert_eq!(answer, json!({"channels": {"#server-to-user-u1": {}}}));
        client.expect_event("#server-to-user-u1", "e", "");
    });
}

// The bound of the shard counts sign-ins.
#[test]
fn where_there_is_no_room_for_subscriptions_there_is_none_for_sign_ins() {
    let config = Config::only(&A, "").set("subscriptions_shard_max", 1);
    let server = Server::start(&config, 1);
    let mut first = Client::connect(&server);
    let mut second = Client::connect(&server);
    first.sign_in("u1");
    first.sign_in("u1");
    second.send_sign_in(r#"{"id":"u1"}"#);
    second.expect_error(4009);
    first.send_subscribe("news");
    first.expect_refused("news", 4100, "LimitReached", 4100);
    drop(first);
    let mut publisher = Publisher::connect(&server);
    while {
        publisher.publish("#server-to-user-u1", "e", "x");
        second.send_sign_in(r#"{"id":"u1"}"#);
        second.event().event == "pusher:error"
    } {}
    publisher.publish("#server-to-user-u1", "e", "last");
    while second.event().text() != "last" {}
}
