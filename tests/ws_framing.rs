//! Frames cut anywhere, and frames that break RFC 6455: these end their connection with a code.

mod support;

use serde_json::json;

use support::frame::{BINARY, CLOSE, FIN, PING, TEXT, close_frame, fragments};
use support::{A, Client, Tcp, WebSocket};
use support::{client_frame, on_shards, text_frame, unique};

const PING_TEXT: &[u8] = br#"{"event":"pusher:ping"}"#;

fn subscribe_text(channel: &str) -> String {
    json!({"event": "pusher:subscribe", "data": {"auth": "", "channel": channel}}).to_string()
}

// Case 29; 2.
#[test]
fn a_message_in_ten_fragments_each_its_own_segment() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channel = unique("fragments-");
        let text = subscribe_text(&channel);
        let mut parts: Vec<&[u8]> = text.as_bytes().chunks(text.len() / 8).collect();
        // Empty fragments are fragments.
        parts.insert(3, b"");
        parts.push(b"");
        for frame in fragments(TEXT, &parts) {
            client.tcp.send_cut(&frame, frame.len() / 2);
        }
        client.expect_subscribed(&channel);
    });
}

// Case 30.
#[test]
fn a_frame_may_come_byte_by_byte() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channel = unique(&"x".repeat(150));
        // Over 125 bytes, so that the header has an extended length.
        let frame = text_frame(&subscribe_text(&channel));
        client.tcp.send_in_pieces(&frame, 1);
        client.expect_subscribed(&channel);
    });
}

// Case 31; 3.2.
#[test]
fn fifty_messages_in_one_segment_are_answered_in_order() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channels: Vec<_> = (0..50).map(|_| unique("cache-fifty-")).collect();
        let bytes: Vec<u8> = channels
            .iter()
            .flat_map(|channel| text_frame(&subscribe_text(channel)))
            .collect();
        client.tcp.send(bytes);
        for channel in &channels {
            client.expect_subscribed(channel);
            client.expect("pusher:cache_miss");
        }
    });
}

// Cases 32, 33 and 38; 3.1. Every violation closes with 1002, and not with a reset.
#[test]
fn what_breaks_rfc_6455_is_closed_with_1002() {
    let unmasked = [&[FIN | TEXT, PING_TEXT.len() as u8], PING_TEXT].concat();
    let long_length = |bytes: &[u8]| [&[FIN | TEXT, 0x80 | bytes[0]], &bytes[1..]].concat();
    let two = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("an unmasked frame", unmasked),
        ("an unmasked ping", vec![FIN | PING, 0]),
        ("RSV1", client_frame(FIN | 0x40 | TEXT, PING_TEXT)),
        ("RSV2", client_frame(FIN | 0x20 | TEXT, PING_TEXT)),
        ("RSV3", client_frame(FIN | 0x10 | TEXT, PING_TEXT)),
        ("RSV1 on a ping", client_frame(FIN | 0x40 | PING, b"")),
        ("a continuation of nothing", client_frame(FIN, PING_TEXT)),
        (
            "a text inside a message",
            two(client_frame(TEXT, b"{"), client_frame(FIN | TEXT, b"}")),
        ),
        (
            "a binary inside a message",
            two(client_frame(TEXT, b"{"), client_frame(FIN | BINARY, b"}")),
        ),
        ("a fragmented ping", client_frame(PING, b"")),
        ("a fragmented close", client_frame(CLOSE, b"")),
        ("126 bytes of ping", client_frame(FIN | PING, &[0; 126])),
        ("a length of 10 in 2 bytes", long_length(&[126, 0, 10])),
        (
            "a length of 10 in 8 bytes",
            long_length(&[127, 0, 0, 0, 0, 0, 0, 0, 10]),
        ),
        (
            "a length of 65535 in 8",
            long_length(&[127, 0, 0, 0, 0, 0, 0, 255, 255]),
        ),
        (
            "a length of 2^63",
            long_length(&[127, 128, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("a close body of one byte", client_frame(FIN | CLOSE, &[3])),
    ];
    let reserved = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]
        .map(|opcode| ("a reserved opcode", client_frame(FIN | opcode, b"")));
    let codes = [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, 65535,
    ]
    .map(|code| ("a code that must not be sent", close_frame(code)));
    let rows: Vec<_> = rows.into_iter().chain(reserved).chain(codes).collect();
    on_shards(|server| {
        for (what, bytes) in &rows {
            let mut client = Client::connect(server);
            client.tcp.send(bytes);
            let frame = client.frame();
            assert_eq!(frame.close().0, Some(1002), "{what}: {frame:?}");
            client.tcp.expect_end();
        }
    });
}

// Case 34; 3.1.
#[test]
fn text_that_is_not_utf_8_is_closed_with_1007() {
    let rows: [&[&[u8]]; 6] = [
        &[b"\xc3\x28"],
        &[b"{\"event\":\"\xff\"}"],
        &[b"\xc3", b"\x28"],
        &[b"{}", b"\xed\xa0", b"\x80"],
        &[b"\xf0\x9f\x98"],
        &[b"\xc0\x80"],
    ];
    on_shards(|server| {
        for parts in rows {
            let mut client = Client::connect(server);
            client
                .tcp
                .send(fragments(TEXT, parts).collect::<Vec<_>>().concat());
            client.expect_closed(1007);
        }
        // A reason is text too.
        let mut client = Client::connect(server);
        client
            .tcp
            .send(client_frame(FIN | CLOSE, b"\x03\xe8\xc3\x28"));
        client.expect_closed(1007);
    });
}

// Case 35.
#[test]
fn a_character_may_be_cut_between_fragments() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let text = "{\"event\":\"pusher:ping\",\"x\":\"\u{1f600}\"}".as_bytes();
        for at in 0..=text.len() {
            let parts = [&text[..at], &text[at..]];
            client
                .tcp
                .send(fragments(TEXT, &parts).collect::<Vec<_>>().concat());
            client.expect("pusher:pong");
        }
    });
}

// Case 36; 3.1.
#[test]
fn a_binary_message_is_closed_with_1003() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let text = subscribe_text(&unique("binary-"));
        client.tcp.send(client_frame(FIN | BINARY, text.as_bytes()));
        client.expect_closed(1003);
    });
}

// 1.3: bytes that are no frames at all, behind a good upgrade.
#[test]
fn garbage_after_the_upgrade_closes_that_connection_alone() {
    on_shards(|server| {
        let mut other = Client::connect(server);
        for seed in 1_u8..=40 {
            let mut tcp = Tcp::connect(server.address);
            tcp.send(support::websocket::upgrade_request(&A.target(), ""));
            let mut socket = WebSocket::after_upgrade(tcp);
            let mut state = seed;
            let bytes: Vec<u8> = (0..500)
                .map(|n: u32| {
                    state = state.wrapping_mul(141).wrapping_add(n as u8 | 1);
                    state
                })
                .collect();
            socket.tcp.try_send(bytes);
            let _ = socket.tcp.stream.shutdown(std::net::Shutdown::Both);
        }
        other.sync();
    });
}
