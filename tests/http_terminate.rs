//! `terminate_connections`: who is closed, how, and who is not (HTTP spec 9, WebSocket spec 16).

mod support;

use serde_json::json;

use support::http::{Http, Request};
use support::presence::{expect_removed, joined, user};
use support::websocket::WebSocket;
use support::{A, B, Client, Publisher, Server, on_shards, unique};

const REASON: &str = "You got disconnected by the app.";

fn path_of(user_id: &str) -> String {
    format!("/apps/3/users/{user_id}/terminate_connections")
}

/// Terminates a user of app A.
fn terminate(server: &Server, user_id: &str) {
    let request = Request::new(&A, "POST", &path_of(user_id), "{}");
    Http::connect(server).ask(request.bytes()).expect_ok("{}");
}

fn signed_in(server: &Server, user_id: &str) -> Client {
    let mut client = Client::connect(server);
    client.sign_in(user_id);
    client
}

// Case 110.
#[test]
fn every_connection_signed_in_as_the_user_is_closed_and_no_other() {
    on_shards(|server| {
        let (id, other) = (unique("u-"), unique("other-"));
        let channel = unique("presence-");
        let connections = (0..2 * server.shards).map(|_| signed_in(server, &id));
        let connections: Vec<_> = connections.collect();
        let mut bystander = signed_in(server, &other);
        let mut elsewhere = Client::connect_to(server, B);
        elsewhere.sign_in(&id);
        // Not signed in, whatever it is called in a channel.
        let mut member = joined(server, &channel, &id);
        terminate(server, &id);
        for client in connections {
            assert_eq!(client.into_socket().expect_closed(4009), REASON);
        }
        for client in [&mut bystander, &mut elsewhere, &mut member] {
            client.sync();
        }
        // Who comes after it is not concerned.
        signed_in(server, &id).sync();
        terminate(server, &unique("nobody-"));
    });
}

// 16 and 9: the events before the end come before it.
#[test]
fn what_was_published_before_is_delivered_before_the_close() {
    on_shards(|server| {
        let id = unique("u-");
        let channel = format!("#server-to-user-{id}");
        let mut client = signed_in(server, &id);
        let mut publisher = Publisher::connect(server);
        // One connection, so that the requests have an order.
        let mut bytes = Vec::new();
        for n in 0..50 {
            let body = json!({"name": "e", "channel": channel, "data": n.to_string()});
            bytes.extend(publisher.post_bytes("events", body.to_string().as_bytes()));
        }
        bytes.extend(publisher.post_bytes(&format!("users/{id}/terminate_connections"), b""));
        publisher.tcp.send(bytes);
        for n in 0..50 {
            client.expect_event(&channel, "e", &n.to_string());
        }
        assert_eq!(client.into_socket().expect_closed(4009), REASON);
    });
}

// Case 111; 16.
#[test]
fn a_terminated_user_leaves_its_channels_as_everybody_does() {
    on_shards(|server| {
        let (id, channel) = (unique("u-"), unique("presence-"));
        let mut watcher = joined(server, &channel, "watcher");
        let mut client = signed_in(server, &id);
        client.subscribe_presence(&channel, &user(&id));
        watcher.expect("pusher_internal:member_added");
        terminate(server, &id);
        expect_removed(&mut watcher, &channel, &id);
        client.into_socket().expect_closed(4009);
        assert_eq!(Publisher::connect(server).user_count(&channel), 1);
    });
}

// 5.3: before protocol 6 a frame comes before the Close.
#[test]
fn a_client_of_an_old_protocol_is_told_by_a_frame_too() {
    on_shards(|server| {
        let id = unique("u-");
        let mut client = Client::connect_with_protocol(server, 5);
        client.sign_in(&id);
        terminate(server, &id);
        assert_eq!(client.expect_error(4009), REASON);
        client.into_socket().expect_closed(4009);
    });
}

// Examples 6 and 12 of HTTP spec 3, case 123, and the path of the Python library.
#[test]
fn both_paths_and_every_body_are_taken() {
    on_shards(|server| {
        let id = unique("u-");
        let with_app = path_of(&id);
        let without_app = format!("/users/{id}/terminate_connections");
        let escaped = with_app.replace("u-", "%75-");
        for path in [&with_app, &without_app, &escaped, &format!("{with_app}/")] {
            for body in ["", "{}", r#"{"any":"thing"}"#] {
                let client = signed_in(server, &id);
                let request = Request::new(&A, "POST", path, body);
                Http::connect(server).ask(request.bytes()).expect_ok("{}");
                client.into_socket().expect_closed(4009);
            }
        }
        // An id that nobody can have.
        for id in ["a%20b", "%C3%A9"] {
            let request = Request::new(&A, "POST", &path_of(id), "{}");
            Http::connect(server).ask(request.bytes()).expect_ok("{}");
        }
    });
}

#[test]
fn who_may_not_terminate_terminates_nobody() {
    on_shards(|server| {
        let id = unique("u-");
        let mut client = signed_in(server, &id);
        let path = path_of(&id);
        let without_app = format!("/users/{id}/terminate_connections");
        let good = || Request::new(&A, "POST", &path, "{}");
        let mut other_path = good();
        other_path.signed_path = Some(path_of("other"));
        let mut with_app = Request::new(&A, "POST", &without_app, "{}");
        with_app.signed_path = Some(path.clone());
        let mut other_body = good();
        other_body.body = b"{ }".to_vec();
        for request in [
            good().without("auth_key"),
            good().set("auth_key", "unknown"),
            Request::new(&B, "POST", &path, "{}"),
            other_path,
            with_app,
            other_body,
            Request::new(&A, "POST", &without_app, "{}").without("auth_key"),
            Request::new(&A, "POST", &without_app, "{}").set("auth_key", "unknown"),
        ] {
            let answer = Http::connect(server).ask(request.bytes());
            answer.expect_error(401, "auth_failed");
        }
        let long = Request::new(&A, "POST", &path_of(&"u".repeat(201)), "{}");
        let answer = Http::connect(server).ask(long.bytes());
        answer.expect_error(400, "invalid_input");
        let get = Request::new(&A, "GET", &path, "");
        let answer = Http::connect(server).ask(get.bytes());
        answer.expect_error(405, "method_not_allowed");
        assert_eq!(answer.header("Allow"), Some("POST"));
        let large = Request::new(&A, "POST", &path, "x".repeat((64 << 10) + 1));
        let answer = Http::connect(server).ask(large.bytes());
        answer.expect_error(413, "payload_too_large");
        // The same id in the key's own app is nobody.
        let own = Request::new(&B, "POST", &without_app, "{}");
        Http::connect(server).ask(own.bytes()).expect_ok("{}");
        client.sync();
        client.expect_nothing();
    });
}

// 16: a client that signs in, leaves and comes back while it is terminated all the time.
#[test]
fn sign_ins_and_terminations_at_once_leave_nobody_behind() {
    on_shards(|server| {
        let id = unique("u-");
        for _ in 0..20 {
            let clients: Vec<_> = (0..3).map(|_| signed_in(server, &id)).collect();
            terminate(server, &id);
            for client in clients {
                client.into_socket().expect_closed(4009);
            }
        }
        let mut socket: WebSocket = signed_in(server, &id).into_socket();
        Publisher::connect(server).publish(&format!("#server-to-user-{id}"), "e", "still there");
        assert!(socket.text().contains("still there"));
    });
}
