//! Connections that must authorise themselves in time, where the app asks for it (WebSocket spec
//! 14.1).

mod support;

use std::time::{Duration, Instant};

use support::presence::user;
use support::{A, Client, Config, SILENCE, WAIT, on_shards_at_once};

const REASON: &str = "Connection not authorized within timeout.";

fn config() -> Config {
    Config::only(
        &A,
        "authorized_connections = true\nauthorization_timeout_secs = 3",
    )
}

// Case 116.
#[test]
fn who_is_nobody_in_time_is_closed_with_4009() {
    on_shards_at_once(&config(), |server| {
        let began = Instant::now();
        let mut idle = Client::connect(server);
        let mut public = Client::connect(server);
        public.subscribe("news");
        public.subscribe("cache-news");
        public.expect("pusher:cache_miss");
        let mut refused = Client::connect(server);
        refused.send_auth("private-room", "wrong:signature", None);
        refused.expect_refused("private-room", 4009, "AuthError", 401);
        refused.send_sign_in_auth("wrong:signature", r#"{"id":"u"}"#);
        refused.expect_error(4009);
        for client in [&mut idle, &mut public, &mut refused] {
            client.sync();
        }
        for client in [idle, public, refused] {
            assert_eq!(client.into_socket().expect_closed(4009), REASON);
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(3), "{took:?}");
        assert!(took < Duration::from_secs(5) + WAIT, "{took:?}");
    });
}

#[test]
fn a_sign_in_or_a_signed_subscription_in_time_is_enough() {
    on_shards_at_once(&config(), |server| {
        let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(server)).collect();
        clients[0].sign_in("u1");
        clients[1].subscribe_private("private-room");
        clients[2].subscribe_presence("presence-room", &user("u1"));
        clients[3].send_signed("private-cache-room", None);
        clients[3].expect_subscribed("private-cache-room");
        clients[3].expect("pusher:cache_miss");
        clients[4].subscribe_private("private-encrypted-room");
        // What it has had is enough, also when it has given it up.
        clients[5].subscribe_private("private-left");
        clients[5].unsubscribe("private-left");
        for client in &mut clients {
            client.expect_silence(Duration::from_secs(5) / 6 + SILENCE);
        }
        for client in &mut clients {
            client.sync();
        }
    });
}

// 14.1: the deadline is the connection's and no matter of what it says meanwhile.
#[test]
fn being_lively_is_not_being_authorised() {
    on_shards_at_once(&config(), |server| {
        let mut client = Client::connect(server);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2000) {
            client.sync();
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(client.into_socket().expect_closed(4009), REASON);
    });
}
