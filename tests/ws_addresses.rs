//! How often an address may connect, and who says which address it is: the kernel, a configured
//! proxy's headers, or its PROXY protocol. Nobody else is believed (peers.md 10).

mod support;

use std::thread;
use std::time::Duration;

use support::frame::close_frame;
use support::websocket::upgrade_request;
use support::{A, Client, Config, Event, Response, Server, T, Tcp, WebSocket};
use support::{expect_refused, on_shards_with};

const PLACES: usize = 3;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn limited() -> Config {
    Config::only(&A, "")
        .set("address_connects_max", PLACES)
        .set("address_connects_window_secs", 3600)
}

fn proxied() -> Config {
    Config::only(&A, "")
        .app(&T, "")
        .set("trusted_proxies", r#"["127.0.0.1"]"#)
        .set("proxy_protocol", true)
}

/// A header of version 2 for a client at 203.0.113.`last`.
fn binary(last: u8, parts: &[u8]) -> Vec<u8> {
    let address = [203, 0, 113, last, 127, 0, 0, 1, 0, 1, 0, 2];
    let length = (address.len() + parts.len()) as u16;
    [V2, &[0x21, 0x11], &length.to_be_bytes(), &address, parts].concat()
}

/// Opens a connection that begins with `header`.
fn open_behind(server: &Server, header: &[u8], target: &str) -> WebSocket {
    let mut tcp = Tcp::connect(server.address);
    tcp.send([header, upgrade_request(target, "").as_ref()].concat());
    WebSocket::after_upgrade(tcp)
}

#[test]
fn an_address_begins_as_many_connections_as_it_may_on_all_shards_together() {
    on_shards_with(&limited(), |server| {
        let sockets: Vec<_> = thread::scope(|scope| {
            let open = || WebSocket::open(server, &A.target());
            let threads: Vec<_> = (0..4 * PLACES).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut greeted = 0;
        for mut socket in sockets {
            let first = Event::parse(socket.text());
            if first.event == "pusher:connection_established" {
                greeted += 1;
            } else {
                assert_eq!(first.data["code"], 4100);
                socket.expect_close_frame(4100);
                socket.tcp.try_send(close_frame(4100));
            }
        }
        assert_eq!(greeted, PLACES);
        expect_refused(WebSocket::open(server, &A.target()), 4100);
    });
}

#[test]
fn a_window_ends() {
    let config = limited().set("address_connects_window_secs", 1);
    on_shards_with(&config, |server| {
        for _ in 0..2 {
            for _ in 0..PLACES {
                Client::greeted(WebSocket::open(server, &A.target()), A).sync();
            }
            thread::sleep(Duration::from_millis(2100));
        }
    });
}

// Peers.md 10: whoever is no configured proxy cannot choose the address that it is counted as.
#[test]
fn forwarding_headers_of_strangers_do_not_spare_them() {
    on_shards_with(&limited(), |server| {
        for n in 0..PLACES + 2 {
            let headers = format!("X-Forwarded-For: 203.0.113.{n}\r\nX-Real-IP: 203.0.113.{n}\r\n");
            let socket = WebSocket::open_with(server, &A.target(), &headers);
            match n < PLACES {
                true => Client::greeted(socket, A).sync(),
                false => expect_refused(socket, 4100),
            }
        }
    });
}

#[test]
fn behind_a_configured_proxy_each_client_has_its_own_budget() {
    let config = limited().set("trusted_proxies", r#"["127.0.0.1", "10.0.0.0/8"]"#);
    on_shards_with(&config, |server| {
        let open = |client: &str| {
            let headers = format!("X-Forwarded-For: 192.0.2.1, {client}, 10.1.2.3\r\n");
            WebSocket::open_with(server, &A.target(), &headers)
        };
        for client in ["203.0.113.1", "203.0.113.2", "2001:db8::1"] {
            for _ in 0..PLACES {
                Client::greeted(open(client), A).sync();
            }
            expect_refused(open(client), 4100);
        }
    });
}

#[test]
fn both_versions_of_the_proxy_protocol_name_the_client() {
    let config = proxied().set("address_connects_max", PLACES);
    on_shards_with(&config, |server| {
        let line = |n: u8| format!("PROXY TCP4 203.0.113.{n} 127.0.0.1 4711 6001\r\n").into_bytes();
        for n in [1, 2] {
            // The same client by either version.
            for header in [line(n), binary(n, &[]), line(n)] {
                Client::greeted(open_behind(server, &header, &A.target()), A).sync();
            }
            expect_refused(open_behind(server, &binary(n, &[]), &A.target()), 4100);
        }
    });
}

#[test]
fn a_proxy_header_may_come_in_two_pieces_cut_anywhere() {
    let server = Server::start(&proxied(), 1);
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(1, &[])] {
        let request = b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = [&header[..], request].concat();
        for at in 1..bytes.len() {
            let mut tcp = Tcp::connect(server.address);
            tcp.send_cut(&bytes, at);
            assert_eq!(Response::read(&mut tcp).status, 200, "cut at {at}");
        }
    }
}

#[test]
fn what_the_proxy_protocol_says_of_tls_counts() {
    on_shards_with(&proxied(), |server| {
        let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
        Client::greeted(open_behind(server, &binary(1, &tls), &T.target()), T).sync();
        expect_refused(open_behind(server, &binary(1, &[]), &T.target()), 4000);
    });
}

#[test]
fn a_proxy_that_does_not_say_who_its_client_is_is_cut_off() {
    on_shards_with(&proxied(), |server| {
        for bytes in [
            b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 nobody 127.0.0.1 1 2\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            [V2, &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            let mut tcp = Tcp::connect(server.address);
            tcp.send(&bytes);
            assert_eq!(tcp.take_to_end(), b"", "nothing is answered");
        }
    });
}

#[test]
fn connections_that_are_no_proxys_begin_as_ever() {
    let config = proxied().set("trusted_proxies", r#"["10.0.0.0/8"]"#);
    on_shards_with(&config, |server| {
        Client::connect(server).sync();
        let mut tcp = Tcp::connect(server.address);
        tcp.send("PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\nGET /up HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(Response::read(&mut tcp).status, 400, "it is no request");
    });
}
