//! Presence: rosters, who is announced to whom, and that roster and announcements agree.

mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::json;

use support::presence::{ADDED, REMOVED, expect_added, expect_removed, joined, user};
use support::{B, Client, Publisher, WAIT, on_shards, unique};

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
