//! Private and encrypted channels: whose signature opens which channel, and what a wrong one leaks.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;

use support::{A, B, Client, Config, Publisher, on_shards, on_shards_with, unique};

/// Vectors of WebSocket spec 7.2: what the tests sign with is what the specification means.
#[test]
fn the_signatures_of_the_harness_are_those_of_the_specification() {
    for (signed, signature) in [
        (
            "1234.1234:private-foobar",
            "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
        ),
        (
            r#"1234.1234:presence-foobar:{"user_id":10,"user_info":{"name":"Mr. Pusher"}}"#,
            "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
        ),
        (
            "1234.1234:private-encrypted-room",
            "98e84cf417fd22d611fa93b4ec322087ab4298977c873bc416735f8743194648",
        ),
    ] {
        assert_eq!(A.sign(signed), signature);
    }
}

// Case 57; 7.2.
#[test]
fn the_right_signature_opens_every_kind_of_private_channel() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        for prefix in ["private-", "private-encrypted-"] {
            let channel = unique(prefix);
            client.subscribe_private(&channel);
            publisher.publish(&channel, "e", "x");
            client.expect_event(&channel, "e", "x");
        }
        for prefix in ["private-cache-", "private-encrypted-cache-"] {
            let channel = unique(prefix);
            client.subscribe_private(&channel);
            client.expect("pusher:cache_miss");
        }
    });
}

// 6.2: a prefix alone is a name of its type.
#[test]
fn a_prefix_alone_is_a_private_channel() {
    on_shards_with(&Config::only(&A, ""), |server| {
        let mut client = Client::connect(server);
        for channel in ["private-", "private-encrypted-"] {
            client.send_subscribe(channel);
            client.expect_refused(channel, 4009, "AuthError", 401);
            client.subscribe_private(channel);
        }
        client.send_subscribe("presence-");
        client.expect_refused("presence-", 4009, "AuthError", 401);
    });
}

/// Everything that is no `auth` of this connection for this channel.
fn wrong_auths(client: &Client, channel: &str) -> Vec<String> {
    let id = &client.socket_id;
    let right = A.auth(id, channel, None);
    let (key, signature) = right.split_once(':').unwrap();
    vec![
        "x".into(),
        ":".into(),
        key.into(),
        format!("{key}:"),
        format!("wrong:{signature}"),
        format!("{}:{signature}", B.key),
        A.auth(id, &format!("{channel}x"), None),
        A.auth("1.1", channel, None),
        A.auth(id, channel, Some("")),
        format!("{key}:{}", signature.to_uppercase()),
        format!("{key}:{}", &signature[..63]),
        format!("{right}0"),
        format!("{right} "),
        format!(" {right}"),
        format!("{key}::{signature}"),
        // Case 60: signed by another app, which is no key of this one.
        B.auth(id, channel, None),
        // Another app's secret under this app's key.
        format!("{key}:{}", B.sign(&format!("{id}:{channel}"))),
    ]
}

// Cases 58, 59, 60 and 65; 7.1, 7.2 and 7.4.
#[test]
fn every_other_auth_is_refused_and_the_right_one_still_works_after_it() {
    on_shards(|server| {
        let channel = unique("private-refused-");
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        for auth in [json!({}), json!({"auth": null}), json!({"auth": ""})] {
            let mut data = auth;
            data["channel"] = json!(channel);
            client.send(&json!({"event": "pusher:subscribe", "data": data}));
            let message = client.expect_refused(&channel, 4009, "AuthError", 401);
            let expected = format!("Auth info required to subscribe to {channel}");
            assert_eq!(message, expected);
        }
        for auth in wrong_auths(&client, &channel) {
            client.send_auth(&channel, &auth, None);
            let message = client.expect_refused(&channel, 4009, "AuthError", 401);
            let wrong_key = auth.split(':').next().unwrap() != A.key;
            let start = match wrong_key {
                true => "Invalid key in subscription auth data: '",
                false => "Invalid signature: Expected HMAC SHA256 hex digest of ",
            };
            assert!(message.starts_with(start), "{auth}: {message}");
            assert!(!message.contains(A.secret));
        }
        assert_eq!(publisher.subscription_count(&channel), 0);
        client.expect_nothing();
        client.subscribe_private(&channel);
        assert_eq!(publisher.subscription_count(&channel), 1);
        client.expect("counted");
    });
}

// 7.1: name, already subscribed, authorisation, presence rules; 8: a new subscription is a fresh one.
#[test]
fn the_checks_of_a_subscribe_come_in_their_order_each_time() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        client.send_auth("private-a b", "x:y", None);
        client.expect_refused("private-a b", None, "InvalidChannel", 400);
        let presence = unique("presence-order-");
        client.send_auth(&presence, "x:y", Some("no json"));
        client.expect_refused(&presence, 4009, "AuthError", 401);
        client.subscribe_presence(&presence, &json!({"user_id": "u1"}));
        client.send_auth(&presence, "x:y", Some("no json"));
        let message = client.expect_error(None);
        assert!(message.starts_with("Existing subscription"), "{message}");
        let private = unique("private-order-");
        client.subscribe_private(&private);
        client.unsubscribe(&private);
        client.send_subscribe(&private);
        client.expect_refused(&private, 4009, "AuthError", 401);
        client.sync();
    });
}

// 7.4: the second frame is an option.
#[test]
fn the_subscription_error_can_be_switched_off() {
    let config = Config::only(&A, "").set("subscription_error", false);
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        client.send_subscribe("private-x");
        client.expect_error(4009);
        client.send_subscribe("a b");
        client.expect_error(None);
        client.sync();
    });
}

// 7.2: each active key of an app has its own secret.
#[test]
fn a_second_key_of_the_app_signs_with_its_own_secret() {
    let config = Config::only(&A, r#"keys = [{ key = "new-key", secret = "new-secret" }]"#);
    on_shards_with(&config, |server| {
        let second = support::App {
            key: "new-key",
            secret: "new-secret",
            ..A
        };
        let mut client = Client::connect(server);
        let id = client.socket_id.clone();
        client.send_auth("private-a", &second.auth(&id, "private-a", None), None);
        client.expect_subscribed("private-a");
        client.subscribe_private("private-b");
        let mixed = format!("new-key:{}", A.sign(&format!("{id}:private-c")));
        client.send_auth("private-c", &mixed, None);
        client.expect_refused("private-c", 4009, "AuthError", 401);
        // It connects as well.
        Client::connect_to(server, second).subscribe_private("private-a");
    });
}

// Cases 61 and 62; 7.2: both forms of the signed string, since nothing uses the data.
#[test]
fn channel_data_on_a_private_channel_may_be_signed_or_not() {
    on_shards(|server| {
        let channel = unique("private-data-");
        let mut client = Client::connect(server);
        let id = client.socket_id.clone();
        let tampered = r#"{"user_id":"admin"}"#;
        for (signed, sent) in [
            (None, Some(r#"{"x":1}"#)),
            (Some(r#"{"x":1}"#), Some(r#"{"x":1}"#)),
            (None, Some(tampered)),
            (Some(""), Some("")),
            (None, Some("")),
            (None, None),
        ] {
            client.send_auth(&channel, &A.auth(&id, &channel, signed), sent);
            client.expect_subscribed(&channel);
            client.unsubscribe(&channel);
        }
        // Nobody has become anybody by it.
        client.send_auth(&channel, &A.auth(&id, &channel, None), Some(tampered));
        client.expect_subscribed(&channel);
        let mut other = Client::connect(server);
        other.subscribe_private(&channel);
        let event = json!({"event": "client-x", "channel": channel, "data": {}});
        client.send(&event);
        assert_eq!(other.expect("client-x").user_id, None);
        // Signed data that was changed is covered by neither form.
        client.unsubscribe(&channel);
        client.send_auth(&channel, &A.auth(&id, &channel, Some("{}")), Some("{ }"));
        client.expect_refused(&channel, 4009, "AuthError", 401);
    });
}

// Case 63; 11.
#[test]
fn encrypted_data_passes_through_unread() {
    on_shards(|server| {
        let channel = unique("private-encrypted-");
        let mut client = Client::connect(server);
        client.subscribe_private(&channel);
        let data = r#"{"nonce":"4sVYwy4j/8dCcjyxtPCWyk19GaaViaW9","ciphertext":"/GMESnFGlbNn01BuBjp31XYa3i9vZsGKR8fgR9EDhXKx3lzGiUD501A="}"#;
        Publisher::connect(server).publish(&channel, "e", data);
        client.expect_event(&channel, "e", data);
    });
}

// Case 64, peers.md 9; 6.1: what is cached is as private as the channel.
#[test]
fn a_wrong_signature_opens_no_private_cache_channel() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        for prefix in [
            "private-cache-",
            "presence-cache-",
            "private-encrypted-cache-",
            "private-mycache-",
        ] {
            let channel = unique(prefix);
            publisher.publish(&channel, "e", "secret");
            for auth in ["", "x:y", &A.auth("1.1", &channel, None)] {
                client.send_auth(&channel, auth, None);
                client.expect_refused(&channel, 4009, "AuthError", 401);
            }
            publisher.publish(&channel, "e", "secret");
            client.sync();
        }
        client.expect_nothing();
    });
}

// 14 and 15: a user channel belongs to who has signed in as the user.
#[test]
fn a_user_channel_of_somebody_else_is_refused() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channel = "#server-to-user-u1";
        for auth in ["".to_owned(), A.auth(&client.socket_id, channel, None)] {
            client.send_auth(channel, &auth, None);
            client.expect_refused(channel, 4009, "AuthError", 401);
        }
        Publisher::connect(server).publish(channel, "e", "x");
        client.expect_nothing();
    });
}

// Case 66: hashing is bounded per message, and turns are shared.
#[test]
fn who_sends_wrong_signatures_without_end_delays_nobody() {
    on_shards(|server| {
        let mut other = Client::connect(server);
        let mut flooder = Client::connect(server);
        let channel = unique("private-flood-");
        let auth = A.auth("1.1", &channel, None);
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            for _ in 0..100 {
                flooder.send_auth(&channel, &auth, None);
            }
            let began = Instant::now();
            other.sync();
            slowest = slowest.max(began.elapsed());
            for _ in 0..100 {
                flooder.expect_refused(&channel, 4009, "AuthError", 401);
            }
        }
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
}
