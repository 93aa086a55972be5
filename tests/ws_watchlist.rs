//! Watchlists: the state right after the sign-in, then each transition once (WebSocket spec 14.2).
//! Peers.md 6: in the one form that pusher-js reads.

mod support;

use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use support::{A, Client, Config, Event, Publisher, SILENCE, Server, W, WAIT};
use support::{on_shards, on_shards_with, unique};

const EVENT: &str = "pusher_internal:watchlist_events";

/// A client of the app with watchlists, signed in.
fn signed_in(server: &Server, user_id: &str, watchlist: &[&str]) -> Client {
    let mut client = Client::connect_to(server, W);
    sign_in(&mut client, user_id, watchlist);
    client
}

fn sign_in(client: &mut Client, user_id: &str, watchlist: &[&str]) {
    let user_data = json!({"id": user_id, "watchlist": watchlist}).to_string();
    client.send_sign_in(&user_data);
    client.expect_signed_in(&user_data);
}

/// The names of the events with their users, both in alphabetical order.
fn events(event: &Event) -> Vec<(String, Vec<String>)> {
    assert_eq!(
        (&*event.event, &event.channel),
        (EVENT, &None),
        "{}",
        event.raw
    );
    let data = event.json();
    assert_eq!(data.as_object().map(|data| data.len()), Some(1), "{data}");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let events = data["events"].as_array().expect("an array");
    let mut events: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!(
                event.as_object().map(|event| event.len()),
                Some(2),
                "{event}"
            );
            let users = event["user_ids"].as_array().expect("an array");
            let mut users: Vec<String> = users.iter().map(text).collect();
            users.sort();
            (text(&event["name"]), users)
        })
        .collect();
    events.sort();
    events
}

/// The next frame says who is online and who is not.
#[track_caller]
fn expect_state(client: &mut Client, online: &[&str], offline: &[&str]) {
    let mut expected = Vec::new();
    for (name, users) in [("offline", offline), ("online", online)] {
        let mut users: Vec<String> = users.iter().map(|&user| user.to_owned()).collect();
        users.sort();
        if !users.is_empty() {
            expected.push((name.to_owned(), users));
        }
    }
    assert_eq!(events(&client.event()), expected);
}

// Case 112; 14.2 and 20: success first.
#[test]
fn the_state_of_everybody_on_the_list_follows_the_success() {
    on_shards(|server| {
        let [me, gone, there] = ["me-", "gone-", "there-"].map(unique);
        let _there = signed_in(server, &there, &[]);
        let mut client = signed_in(server, &me, &[&gone, &there]);
        expect_state(&mut client, &[&there], &[&gone]);
        client.sync();
        client.expect_nothing();
    });
}

// Peers.md 6; 2.1: byte by byte. `data` is a string and `events` an array, on which pusher-js calls
// `forEach`; a state without users is left out.
#[test]
fn the_frame_is_the_one_that_pusher_js_reads() {
    on_shards(|server| {
        let [me, other, there] = ["me-", "other-", "there-"].map(unique);
        let frame = |name: &str, user: &str| {
            format!(
                r#"{{"event":"{EVENT}","data":"{{\"events\":[{{\"name\":\"{name}\",\"user_ids\":[\"{user}\"]}}]}}"}}"#
            )
        };
        let mut client = signed_in(server, &me, &[&other]);
        assert_eq!(client.text(), frame("offline", &other));
        let online = signed_in(server, &other, &[]);
        assert_eq!(client.text(), frame("online", &other));
        drop(online);
        assert_eq!(client.text(), frame("offline", &other));
        let _there = signed_in(server, &there, &[]);
        let mut client = signed_in(server, &unique("me-"), &[&there]);
        assert_eq!(client.text(), frame("online", &there));
    });
}

// Case 113; 14.2.
#[test]
fn only_the_first_and_the_last_connection_of_a_user_are_told_of() {
    on_shards(|server| {
        let [me, other] = ["me-", "other-"].map(unique);
        let mut client = signed_in(server, &me, &[&other]);
        expect_state(&mut client, &[], &[&other]);
        for _ in 0..3 {
            let first = signed_in(server, &other, &[]);
            expect_state(&mut client, &[&other], &[]);
            let connections = 2 * server.shards;
            let others: Vec<_> = (0..connections)
                .map(|_| signed_in(server, &other, &[]))
                .collect();
            drop(first);
            client.sync();
            client.expect_nothing();
            drop(others);
            expect_state(&mut client, &[], &[&other]);
        }
        client.sync();
    });
}

// Case 114; 14.2 and 18.
#[test]
fn a_list_that_is_too_long_is_cut_and_the_client_is_told() {
    on_shards(|server| {
        let prefix = unique("cut-");
        let ids: Vec<String> = (0..150).map(|n| format!("{prefix}-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
        let mut client = signed_in(server, &unique("me-"), &ids);
        let message = client.expect_error(4302);
        assert!(message.contains("100"), "{message}");
        expect_state(&mut client, &[], &ids[..100]);
        let _last_watched = signed_in(server, ids[99], &[]);
        expect_state(&mut client, &[ids[99]], &[]);
        let _first_not_watched = signed_in(server, ids[100], &[]);
        client.sync();
        client.expect_nothing();
        // Exactly the bound is no error.
        let mut client = signed_in(server, &unique("me-"), &ids[..100]);
        expect_state(&mut client, &[ids[99]], &ids[..99]);
    });
}

#[test]
fn the_bound_is_the_apps() {
    let config = Config::only(&W, "watchlist_users_max = 2");
    on_shards_with(&config, |server| {
        let mut client = signed_in(server, "me", &["a", "a", "b", "b", "a"]);
        expect_state(&mut client, &[], &["a", "b"]);
        let mut client = signed_in(server, "me", &["a", "b", "c"]);
        client.expect_error(4302);
        expect_state(&mut client, &[], &["a", "b"]);
    });
}

// 14.2: other types and repetitions are skipped; ids that nobody can have are offline.
#[test]
fn what_is_no_user_id_is_skipped_and_nobody_is_offline() {
    on_shards(|server| {
        let me = unique("me-");
        for (watchlist, offline) in [
            (
                json!(["a\"b", "\u{e9} \\", "#x", ""]),
                &["a\"b", "\u{e9} \\", "#x", ""][..],
            ),
            (json!([1, null, "u", ["v"], {"w": 1}, "u"]), &["u"]),
        ] {
            let mut client = Client::connect_to(server, W);
            let user_data = json!({"id": me, "watchlist": watchlist}).to_string();
            client.send_sign_in(&user_data);
            client.expect_signed_in(&user_data);
            expect_state(&mut client, &[], offline);
        }
        for watchlist in [
            json!([]),
            json!(null),
            json!("u"),
            json!({"0": "u"}),
            json!([5]),
        ] {
            let mut client = Client::connect_to(server, W);
            let user_data = json!({"id": me, "watchlist": watchlist}).to_string();
            client.send_sign_in(&user_data);
            client.expect_signed_in(&user_data);
            client.sync();
            client.expect_nothing();
        }
    });
}

// Case 115; 14.2: the member is ignored.
#[test]
fn where_watchlists_are_off_there_are_no_frames_of_them() {
    on_shards(|server| {
        let [me, other] = ["me-", "other-"].map(unique);
        let mut client = Client::connect_to(server, A);
        let list: Vec<String> = (0..150).map(|n| format!("{other}-{n}")).collect();
        let user_data = json!({"id": me, "watchlist": list}).to_string();
        client.send_sign_in(&user_data);
        client.expect_signed_in(&user_data);
        let mut watched = Client::connect_to(server, A);
        watched.sign_in(&list[0]);
        client.sync();
        client.expect_nothing();
    });
}

#[test]
fn who_watches_themselves_is_online() {
    on_shards(|server| {
        let me = unique("me-");
        let mut client = signed_in(server, &me, &[&me]);
        expect_state(&mut client, &[&me], &[]);
        let second = signed_in(server, &me, &[]);
        drop(second);
        client.sync();
        client.expect_nothing();
    });
}

// 14.2: lists of several connections are united, and each is told of all.
#[test]
fn transitions_go_to_every_connection_of_a_watching_user() {
    on_shards(|server| {
        let [me, left, right] = ["me-", "left-", "right-"].map(unique);
        let mut first = signed_in(server, &me, &[&left]);
        expect_state(&mut first, &[], &[&left]);
        let mut second = signed_in(server, &me, &[&right]);
        expect_state(&mut second, &[], &[&right]);
        // The first has had no state of this one, and is told of its changes all the same.
        let mut without = signed_in(server, &me, &[]);
        without.sync();
        without.expect_nothing();
        for user in [&left, &right] {
            let watched = signed_in(server, user, &[]);
            for client in [&mut first, &mut second, &mut without] {
                expect_state(client, &[user], &[]);
            }
            drop(watched);
            for client in [&mut first, &mut second, &mut without] {
                expect_state(client, &[], &[user]);
            }
        }
        // With the connection its part of the union goes.
        drop(second);
        let mut third = signed_in(server, &me, &[&left]);
        expect_state(&mut third, &[], &[&left]);
        let began = Instant::now();
        let _right = loop {
            let watched = signed_in(server, &right, &[]);
            if third.events_until_quiet(SILENCE).is_empty() {
                break watched;
            }
            assert!(began.elapsed() < WAIT, "still watched");
        };
        let _left = signed_in(server, &left, &[]);
        let expected = [("online".to_owned(), vec![left.clone()])];
        for client in [&mut first, &mut third, &mut without] {
            while events(&client.event()) != expected {}
            client.sync();
        }
    });
}

// 14: signing in again replaces the list.
#[test]
fn a_second_sign_in_brings_another_list_and_its_state() {
    on_shards(|server| {
        let [me, left, right] = ["me-", "left-", "right-"].map(unique);
        let _left = signed_in(server, &left, &[]);
        let mut client = signed_in(server, &me, &[&left]);
        expect_state(&mut client, &[&left], &[]);
        sign_in(&mut client, &me, &[&left, &right]);
        expect_state(&mut client, &[&left], &[&right]);
        sign_in(&mut client, &me, &[&right]);
        expect_state(&mut client, &[], &[&right]);
        drop(_left);
        client.sync();
        client.expect_nothing();
        let _right = signed_in(server, &right, &[]);
        expect_state(&mut client, &[&right], &[]);
        sign_in(&mut client, &me, &[]);
        drop(_right);
        client.sync();
        client.expect_nothing();
    });
}

// 16: a terminated user goes offline as any other.
#[test]
fn a_terminated_user_is_offline() {
    on_shards(|server| {
        let [me, other] = ["me-", "other-"].map(unique);
        let mut client = signed_in(server, &me, &[&other]);
        expect_state(&mut client, &[], &[&other]);
        let connections: Vec<_> = (0..3).map(|_| signed_in(server, &other, &[])).collect();
        expect_state(&mut client, &[&other], &[]);
        let mut publisher = Publisher::connect_to(server, W);
        let endpoint = format!("users/{other}/terminate_connections");
        assert_eq!(publisher.post(&endpoint, b"{}").status, 200);
        expect_state(&mut client, &[], &[&other]);
        for connection in connections {
            connection.into_socket().expect_closed(4009);
        }
        client.sync();
        client.expect_nothing();
    });
}

// 14.2: watchers see the same strictly alternating story, whichever shard they are on.
#[test]
fn concurrent_comings_and_goings_alternate_for_every_watcher() {
    on_shards(|server| {
        let other = unique("other-");
        let watchers = (0..2 * server.shards).map(|_| signed_in(server, &unique("me-"), &[&other]));
        let mut watchers: Vec<_> = watchers.collect();
        for watcher in &mut watchers {
            expect_state(watcher, &[], &[&other]);
        }
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..30 {
                        drop(signed_in(server, &other, &[]));
                    }
                });
            }
        });
        // All see every transition, so in the end all have seen as many.
        let mut seen = vec![0; watchers.len()];
        let began = Instant::now();
        loop {
            let mut is_quiet = true;
            for (watcher, seen) in watchers.iter_mut().zip(&mut seen) {
                for event in watcher.events_until_quiet(SILENCE / 4) {
                    let name = ["online", "offline"][*seen % 2];
                    assert_eq!(events(&event), [(name.to_owned(), vec![other.clone()])]);
                    *seen += 1;
                    is_quiet = false;
                }
            }
            if is_quiet && seen[0] >= 2 && seen[0] % 2 == 0 && seen.iter().all(|&n| n == seen[0]) {
                break;
            }
            assert!(began.elapsed() < WAIT, "{seen:?}");
        }
    });
}
