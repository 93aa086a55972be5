//! Presence: rosters, who is announced to whom, and that roster and announcements agree.

mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use support::{A, B, Client, Config, Publisher, Server, WAIT, on_shards, on_shards_with, unique};

const ADDED: &str = "pusher_internal:member_added";
const REMOVED: &str = "pusher_internal:member_removed";

fn user(id: &str) -> Value {
    json!({"user_id": id, "user_info": {"name": id}})
}

fn joined(server: &Server, channel: &str, id: &str) -> Client {
    let mut client = Client::connect(server);
    client.subscribe_presence(channel, &user(id));
    client
}

fn expect_added(client: &mut Client, channel: &str, id: &str) {
    let event = client.expect(ADDED);
    assert_eq!(event.channel.as_deref(), Some(channel));
    assert_eq!(event.json(), user(id));
}

fn expect_removed(client: &mut Client, channel: &str, id: &str) {
    let event = client.expect(REMOVED);
    assert_eq!(event.channel.as_deref(), Some(channel));
    assert_eq!(event.json(), json!({"user_id": id}));
}

// Cases 67 and 82; 10.2.
#[test]
fn the_first_member_finds_itself_in_the_roster_and_is_not_announced_to_itself() {
    on_shards(|server| {
        let channel = unique("presence-first-");
        let mut client = Client::connect(server);
        client.send_signed(
            &channel,
            Some(r#"{"user_id":"u1","user_info":{"name":"Ann"}}"#),
        );
        let raw = format!(
            r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{\"presence\":{{\"ids\":[\"u1\"],\"hash\":{{\"u1\":{{\"name\":\"Ann\"}}}},\"count\":1}}}}"}}"#
        );
        assert_eq!(client.text(), raw);
        client.expect_nothing();
    });
}

// Case 68; 10.2 and 10.3.
#[test]
fn a_second_user_is_announced_to_the_first_and_sees_both() {
    on_shards(|server| {
        let channel = unique("presence-second-");
        let mut first = joined(server, &channel, "u1");
        let mut second = Client::connect(server);
        let roster = second.subscribe_presence(&channel, &user("u2"));
        let expected = json!({
            "ids": ["u1", "u2"],
            "hash": {"u1": {"name": "u1"}, "u2": {"name": "u2"}},
            "count": 2,
        });
        assert_eq!(roster, expected);
        expect_added(&mut first, &channel, "u2");
        assert_eq!(Publisher::connect(server).user_count(&channel), 2);
        first.expect("counted");
        second.expect("counted");
        second.sync();
    });
}

// Cases 69, 70 and 81; 10.3.
#[test]
fn a_user_is_announced_with_its_first_connection_and_removed_with_its_last() {
    on_shards(|server| {
        let channel = unique("presence-last-");
        let elsewhere = unique("presence-else-");
        let mut watcher = joined(server, &channel, "watcher");
        let tabs = [
            joined(server, &channel, "u1"),
            joined(server, &channel, "u1"),
        ];
        expect_added(&mut watcher, &channel, "u1");
        let mut third = Client::connect(server);
        let roster = third.subscribe_presence(&channel, &user("u1"));
        assert_eq!(
            (&roster["count"], &roster["ids"]),
            (&json!(2), &json!(["watcher", "u1"]))
        );
        third.subscribe_presence(&elsewhere, &user("u1"));
        let mut publisher = Publisher::connect(server);
        assert_eq!(publisher.user_count(&channel), 2);
        watcher.expect("counted");
        third.expect("counted");
        for tab in tabs {
            tab.into_socket().tcp.half_close();
        }
        third.sync();
        watcher.expect_nothing();
        // Leaving one channel says nothing in another.
        third.unsubscribe(&elsewhere);
        third.sync();
        watcher.expect_nothing();
        drop(third);
        expect_removed(&mut watcher, &channel, "u1");
        watcher.expect_nothing();
    });
}

// Case 71; 10.3 and 8.
#[test]
fn leaving_by_unsubscribe_is_the_same_and_says_nothing_to_the_leaver() {
    on_shards(|server| {
        let channel = unique("presence-leave-");
        let mut watcher = joined(server, &channel, "watcher");
        let mut tabs = [
            joined(server, &channel, "u1"),
            joined(server, &channel, "u1"),
        ];
        expect_added(&mut watcher, &channel, "u1");
        tabs[0].unsubscribe(&channel);
        tabs[0].sync();
        watcher.expect_nothing();
        tabs[1].unsubscribe(&channel);
        expect_removed(&mut watcher, &channel, "u1");
        for tab in &mut tabs {
            tab.sync();
            tab.expect_nothing();
        }
    });
}

// Peers.md 14: who is announced as gone is who was subscribed, not who the connection is elsewhere.
#[test]
fn a_connection_that_is_several_users_leaves_each_channel_as_the_right_one() {
    on_shards(|server| {
        let channels = [
            unique("presence-a-"),
            unique("presence-b-"),
            unique("presence-c-"),
        ];
        let mut watchers: Vec<_> = channels
            .iter()
            .map(|channel| joined(server, channel, "watcher"))
            .collect();
        let mut client = Client::connect(server);
        for (index, channel) in channels.iter().enumerate() {
            client.subscribe_presence(channel, &user(&format!("u{index}")));
        }
        for (index, watcher) in watchers.iter_mut().enumerate() {
            expect_added(watcher, &channels[index], &format!("u{index}"));
        }
        client.unsubscribe(&channels[1]);
        expect_removed(&mut watchers[1], &channels[1], "u1");
        // A second leave of what has gone is an error and announces nobody.
        client.unsubscribe(&channels[1]);
        client.expect_error(None);
        drop(client);
        expect_removed(&mut watchers[0], &channels[0], "u0");
        expect_removed(&mut watchers[2], &channels[2], "u2");
        for watcher in &mut watchers {
            watcher.sync();
            watcher.expect_nothing();
        }
    });
}

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

// Case 78; 10.3: the count of connections per user is exact under concurrent changes.
#[test]
fn two_tabs_that_come_and_go_are_seen_as_one_user_that_comes_and_goes() {
    const ROUNDS: usize = 150;
    on_shards(|server| {
        let channel = unique("presence-flap-");
        let mut watcher = joined(server, &channel, "watcher");
        let data = user("u1");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut tab = Client::connect(server);
                    for _ in 0..ROUNDS {
                        tab.subscribe_presence_amid_events(&channel, &data);
                        tab.unsubscribe(&channel);
                    }
                    tab.sync_amid_events();
                });
            }
        });
        Publisher::connect(server).publish(&channel, "fence", "");
        let mut changes = 0;
        loop {
            let event = watcher.event();
            if event.event == "fence" {
                break;
            }
            let expected = if changes % 2 == 0 { ADDED } else { REMOVED };
            assert_eq!(event.event, expected, "change {changes}: {}", event.raw);
            assert_eq!(event.json()["user_id"], "u1");
            changes += 1;
        }
        assert!(changes > 0 && changes % 2 == 0, "{changes}");
    });
}

// Case 79; 10.3: a member is in the roster or announced, never both, never neither.
#[test]
fn roster_and_announcements_together_are_the_truth() {
    const USERS: usize = 50;
    on_shards(|server| {
        let channel = unique("presence-truth-");
        // App B has room for a hundred.
        let (observers, clients) = thread::scope(|scope| {
            let joiners: Vec<_> = (0..5)
                .map(|thread| {
                    let channel = &channel;
                    scope.spawn(move || {
                        let mut clients = Vec::new();
                        for index in 0..USERS / 5 {
                            let id = format!("u{}", thread * USERS / 5 + index);
                            let mut client = Client::connect_to(server, B);
                            client.subscribe_presence_amid_events(channel, &user(&id));
                            // Every third goes again.
                            if index % 3 != 2 {
                                clients.push((id, client));
                            }
                        }
                        clients
                    })
                })
                .collect();
            let observers: Vec<_> = (0..5)
                .map(|index| {
                    let channel = &channel;
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(7 * index));
                        let mut client = Client::connect_to(server, B);
                        let roster = client
                            .subscribe_presence_amid_events(channel, &user(&format!("o{index}")));
                        (client, roster)
                    })
                })
                .collect();
            let observers: Vec<_> = observers.into_iter().map(|t| t.join().unwrap()).collect();
            let clients: Vec<_> = joiners
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect();
            (observers, clients)
        });
        let mut publisher = Publisher::connect_to(server, B);
        let began = std::time::Instant::now();
        let users = (clients.len() + observers.len()) as u64;
        // Those that went have been noticed one by one.
        while publisher.user_count(&channel) != users {
            assert!(began.elapsed() < WAIT);
        }
        publisher.publish(&channel, "fence", "");
        let mut truth: BTreeSet<_> = clients.iter().map(|(id, _)| id.clone()).collect();
        truth.extend((0..5).map(|index| format!("o{index}")));
        for (mut client, roster) in observers {
            let ids = roster["ids"].as_array().unwrap();
            let mut seen: BTreeSet<_> = ids
                .iter()
                .map(|id| id.as_str().unwrap().to_owned())
                .collect();
            assert_eq!(seen.len(), ids.len(), "twice in {roster}");
            loop {
                let event = client.event();
                if event.event == "fence" {
                    break;
                }
                if event.event == "counted" {
                    continue;
                }
                let id = event.json()["user_id"].as_str().unwrap().to_owned();
                let is_news = match &*event.event {
                    ADDED => seen.insert(id),
                    REMOVED => seen.remove(&id),
                    _ => panic!("{}", event.raw),
                };
                assert!(is_news, "{} in {seen:?}", event.raw);
            }
            assert_eq!(seen, truth);
        }
    });
}

// Case 80; 10.3 and 5.3.
#[test]
fn a_reset_connection_is_announced_as_gone() {
    on_shards(|server| {
        let channel = unique("presence-reset-");
        let mut watcher = joined(server, &channel, "watcher");
        let client = joined(server, &channel, "u1");
        expect_added(&mut watcher, &channel, "u1");
        client.into_socket().tcp.reset();
        expect_removed(&mut watcher, &channel, "u1");
        // A Close that nobody waits to be answered is as good.
        let mut client = joined(server, &channel, "u2");
        expect_added(&mut watcher, &channel, "u2");
        client.tcp.send(support::frame::close_frame(1000));
        drop(client);
        expect_removed(&mut watcher, &channel, "u2");
    });
}

// Case 83; 10.3: only webhooks are debounced.
#[test]
fn who_leaves_and_returns_at_once_is_removed_and_then_added() {
    on_shards(|server| {
        let channel = unique("presence-return-");
        let mut watcher = joined(server, &channel, "watcher");
        let mut client = joined(server, &channel, "u1");
        expect_added(&mut watcher, &channel, "u1");
        for _ in 0..20 {
            client.unsubscribe(&channel);
            client.subscribe_presence(&channel, &user("u1"));
            expect_removed(&mut watcher, &channel, "u1");
            expect_added(&mut watcher, &channel, "u1");
        }
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

// 7.1: presence members are not doubled by a second subscribe.
#[test]
fn a_second_subscribe_of_a_member_changes_nothing() {
    on_shards(|server| {
        let channel = unique("presence-twice-");
        let mut watcher = joined(server, &channel, "watcher");
        let mut client = joined(server, &channel, "u1");
        expect_added(&mut watcher, &channel, "u1");
        client.send_signed(&channel, Some(&user("u2").to_string()));
        client.expect_error(None);
        let mut publisher = Publisher::connect(server);
        assert_eq!(publisher.user_count(&channel), 2);
        watcher.expect("counted");
        client.expect("counted");
        client.unsubscribe(&channel);
        expect_removed(&mut watcher, &channel, "u1");
    });
}
