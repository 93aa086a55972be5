//! Members of presence channels: what `channel_data` makes a user, how large, how many.

mod support;

use serde_json::json;

use support::presence::{ADDED, expect_added, expect_removed, joined, user};
use support::{A, Client, Config, Publisher};
use support::{on_shards, on_shards_with, unique};

// Case 72, peers.md 18; 10.1.
#[test]
fn a_number_as_user_id_is_the_user_of_its_text() {
    on_shards(|server| {
        let channel = unique("presence-number-");
        let mut watcher = joined(server, &channel, "watcher");
        let mut client = Client::connect(server);
        let roster = client.subscribe_presence(&channel, &json!({"user_id": 10}));
        assert_eq!(roster["ids"], json!(["watcher", "10"]));
        assert_eq!(roster["hash"]["10"], json!({}));
        let added = watcher.expect(ADDED).json();
        assert_eq!(added, json!({"user_id": "10", "user_info": {}}));
        let mut same = Client::connect(server);
        let roster = same.subscribe_presence(&channel, &json!({"user_id": "10"}));
        assert_eq!(roster["count"], 2);
        drop((client, same));
        expect_removed(&mut watcher, &channel, "10");
    });
}

// Case 73; 10.1 and 10.2.
#[test]
fn user_info_is_any_json_and_passes_through() {
    let rows = [
        (r#"{"user_id":"u"}"#, "{}"),
        (r#"{"user_id":"u","user_info":null}"#, "{}"),
        (
            r#"{"user_id":"u","user_info":[1.0,"é\u00e9"]}"#,
            r#"[1.0,"é\u00e9"]"#,
        ),
        (r#"{"user_id":"u","user_info":"text"}"#, r#""text""#),
        (
            r#"{"user_info":{"a":{"b":["\ud83d\ude00\"\\"]}},"user_id":"u","more":1}"#,
            r#"{"a":{"b":["\ud83d\ude00\"\\"]}}"#,
        ),
    ];
    on_shards(|server| {
        for (channel_data, info) in rows {
            let channel = unique("presence-info-");
            let mut watcher = joined(server, &channel, "watcher");
            let mut client = Client::connect(server);
            client.send_signed(&channel, Some(channel_data));
            let success = client.expect("pusher_internal:subscription_succeeded");
            let piece = format!(r#""u":{info}"#);
            assert!(success.text().contains(&piece), "{}", success.text());
            let added = format!(r#"{{"user_id":"u","user_info":{info}}}"#);
            assert_eq!(watcher.expect(ADDED).text(), added);
        }
    });
}

// Cases 74 and 75, peers.md 1; 7.2 and 10.1.
#[test]
fn channel_data_that_names_no_user_is_refused_and_the_connection_stays() {
    let too_long = json!({"user_id": "\u{e9}".repeat(129)}).to_string();
    let rows = [
        ("", "InvalidData", 400),
        ("x", "InvalidData", 400),
        ("[]", "InvalidData", 400),
        ("{}", "InvalidData", 400),
        ("null", "InvalidData", 400),
        (r#"{"user_id":""}"#, "InvalidData", 400),
        (r#"{"user_id":null}"#, "InvalidData", 400),
        (r#"{"user_id":true}"#, "InvalidData", 400),
        (r#"{"user_id":{"id":1}}"#, "InvalidData", 400),
        (r#"{"user_id":["u"]}"#, "InvalidData", 400),
        (r#"{"user_id":"u"}x"#, "InvalidData", 400),
        (&too_long, "LimitReached", 413),
    ];
    on_shards(|server| {
        let channel = unique("presence-nobody-");
        let mut client = Client::connect(server);
        let id = client.socket_id.clone();
        // Nothing at all, which killed the connection's task elsewhere.
        client.send_subscribe(&channel);
        client.expect_refused(&channel, 4009, "AuthError", 401);
        client.send_signed(&channel, None);
        client.expect_refused(&channel, 4009, "AuthError", 401);
        for (channel_data, kind, status) in rows {
            client.send_signed(&channel, Some(channel_data));
            client.expect_refused(&channel, None, kind, status);
        }
        // One space added after signing; the two-part form; another channel's signature.
        let data = user("u1").to_string();
        for auth in [
            A.auth(&id, &channel, Some(&format!("{data} "))),
            A.auth(&id, &channel, None),
            A.auth(&id, "presence-other", Some(&data)),
        ] {
            client.send_auth(&channel, &auth, Some(&data));
            client.expect_refused(&channel, 4009, "AuthError", 401);
        }
        assert_eq!(Publisher::connect(server).user_count(&channel), 0);
        client.expect_nothing();
        let longest = json!({"user_id": "\u{e9}".repeat(128)});
        client.subscribe_presence(&channel, &longest);
    });
}

// Case 76; 10.1 and 18.
#[test]
fn user_info_may_have_2_kib_and_not_a_byte_more() {
    on_shards(|server| {
        let channel = unique("presence-large-");
        let mut client = Client::connect(server);
        let info = |bytes: usize| json!({"user_id": "u", "user_info": "x".repeat(bytes - 2)});
        client.send_signed(&channel, Some(&info(2049).to_string()));
        client.expect_refused(&channel, None, "LimitReached", 413);
        let roster = client.subscribe_presence(&channel, &info(2048));
        assert_eq!(roster["hash"]["u"].as_str().unwrap().len(), 2046);
    });
}

// Peers.md 3; 10.1 and 18.1: a limit that can be set is enforced.
#[test]
fn the_limits_of_a_member_can_be_set() {
    let limits = "presence_user_id_chars_max = 200\npresence_user_info_bytes_max = 10";
    on_shards_with(&Config::only(&A, limits), |server| {
        let mut client = Client::connect(server);
        let member = |id: usize, info: usize| json!({"user_id": "u".repeat(id), "user_info": "x".repeat(info - 2)});
        for (id, info) in [(201, 10), (200, 11)] {
            client.send_signed("presence-a", Some(&member(id, info).to_string()));
            client.expect_refused("presence-a", None, "LimitReached", 413);
        }
        client.subscribe_presence("presence-a", &member(200, 10));
    });
}

// Case 77, peers.md 3 and 11; 10.1: users are counted, not connections.
#[test]
fn a_full_channel_takes_more_connections_of_its_users_and_no_other_user() {
    on_shards(|server| {
        let channel = unique("presence-full-");
        let mut members: Vec<_> = ["u1", "u2", "u3"]
            .map(|id| joined(server, &channel, id))
            .into();
        let mut fourth = Client::connect(server);
        fourth.send_signed(&channel, Some(&user("u4").to_string()));
        fourth.expect_refused(&channel, 4100, "LimitReached", 4100);
        let mut again = joined(server, &channel, "u1");
        let mut leaver = members.pop().unwrap();
        leaver.unsubscribe(&channel);
        leaver.sync();
        let roster = fourth.subscribe_presence(&channel, &user("u4"));
        assert_eq!(roster["ids"], json!(["u1", "u2", "u4"]));
        expect_removed(&mut again, &channel, "u3");
        expect_added(&mut again, &channel, "u4");
    });
}

// 10.3: what later joiners are shown of a user with several connections.
#[test]
fn the_roster_shows_what_the_oldest_live_connection_said() {
    on_shards(|server| {
        let channel = unique("presence-oldest-");
        let said = |what: &str| json!({"user_id": "u1", "user_info": what});
        let mut oldest = Client::connect(server);
        oldest.subscribe_presence(&channel, &said("first"));
        let mut newer = Client::connect(server);
        let roster = newer.subscribe_presence(&channel, &said("second"));
        assert_eq!(roster["hash"]["u1"], "first");
        oldest.sync();
        oldest.unsubscribe(&channel);
        oldest.sync();
        let mut observer = Client::connect(server);
        let roster = observer.subscribe_presence(&channel, &user("u2"));
        assert_eq!(roster["hash"]["u1"], "second");
    });
}
