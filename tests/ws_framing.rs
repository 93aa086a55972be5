//! Frames cut anywhere, frames that break RFC 6455, and messages that mean nothing.
//!
//! What breaks the framing ends the connection with a code that says so; what is merely no message
//! of the protocol is answered with a `pusher:error`, and the connection stays (WebSocket spec 3.1).

mod support;

use serde_json::json;

use support::frame::{BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, close_frame};
use support::{A, Client, Config, Publisher, Tcp, WebSocket};
use support::{client_frame, on_shards, on_shards_with, text_frame, unique};

const PING_TEXT: &[u8] = br#"{"event":"pusher:ping"}"#;
/// The default of `message_bytes_max`.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fn subscribe_text(channel: &str) -> String {
    json!({"event": "pusher:subscribe", "data": {"auth": "", "channel": channel}}).to_string()
}

/// A fragmented message, each fragment a frame.
fn fragments<'a>(opcode: u8, parts: &'a [&'a [u8]]) -> impl Iterator<Item = Vec<u8>> + 'a {
    parts.iter().enumerate().map(move |(index, part)| {
        let opcode = if index == 0 { opcode } else { CONTINUATION };
        let fin = if index + 1 == parts.len() { FIN } else { 0 };
        client_frame(fin | opcode, part)
    })
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

/// A message of so many bytes that is answered with a pong.
fn padded_ping(bytes: usize) -> String {
    let (start, end) = (r#"{"event":"pusher:ping","data":""#, r#""}"#);
    let padding = "x".repeat(bytes - start.len() - end.len());
    format!("{start}{padding}{end}")
}

// Case 37; 3.1 and 18.
#[test]
fn a_message_may_have_64_kib_and_one_more_byte_is_1009() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let (fits, over) = (
            padded_ping(MESSAGE_BYTES_MAX),
            padded_ping(MESSAGE_BYTES_MAX + 1),
        );
        client.send_text(&fits);
        client.expect("pusher:pong");
        let (first, second) = fits.as_bytes().split_at(40_000);
        client.tcp.send(
            fragments(TEXT, &[first, second])
                .collect::<Vec<_>>()
                .concat(),
        );
        client.expect("pusher:pong");
        client.send_text(&over);
        client.expect_closed(1009);
        let mut client = Client::connect(server);
        let (first, second) = over.as_bytes().split_at(40_000);
        client.tcp.send(
            fragments(TEXT, &[first, second])
                .collect::<Vec<_>>()
                .concat(),
        );
        client.expect_closed(1009);
    });
}

// Case 37; 3.1: without waiting for the rest, so nothing of it can be buffered.
#[test]
fn a_header_that_announces_too_much_is_enough_for_1009() {
    on_shards(|server| {
        for length in [
            MESSAGE_BYTES_MAX as u64 + 1,
            1 << 32,
            1 << 62,
            (1 << 63) - 1,
        ] {
            let mut client = Client::connect(server);
            let mut bytes = vec![FIN | TEXT, 0x80 | 127];
            bytes.extend(length.to_be_bytes());
            bytes.extend(b"mask");
            client.tcp.send(bytes);
            client.expect_closed(1009);
        }
        let mut client = Client::connect(server);
        client.tcp.send(client_frame(TEXT, &[b' '; 65_000]));
        client.tcp.send([FIN, 0x80 | 126, 2, 25, 0, 0, 0, 0]);
        client.expect_closed(1009);
    });
}

// 5.3: a socket closed with unread input sends a reset, and the peer never sees the code.
#[test]
fn a_close_can_be_read_although_much_was_on_its_way() {
    on_shards(|server| {
        for bytes in [text_frame(&padded_ping(1 << 20)), vec![FIN | 0x70; 1 << 20]] {
            let mut client = Client::connect(server);
            client.tcp.try_send(&bytes);
            let code = client.frame().close().0;
            assert!(matches!(code, Some(1009 | 1002)), "{code:?}");
            client.tcp.expect_end();
        }
    });
}

// 18.1: the limit is an option.
#[test]
fn the_limit_of_a_message_can_be_set() {
    let config = Config::only(&A, "").set("message_bytes_max", "\"100 KiB\"");
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        client.send_text(&padded_ping(100 * 1024));
        client.expect("pusher:pong");
        client.send_text(&padded_ping(100 * 1024 + 1));
        client.expect_closed(1009);
    });
}

// Case 38; 5.3.
#[test]
fn a_close_is_answered_with_its_code_and_what_follows_is_ignored() {
    on_shards(|server| {
        for code in [1000, 1001, 1003, 1007, 1014, 3000, 4000, 4201, 4999] {
            Client::connect(server).into_socket().close(code);
        }
        for reason in ["bye", &"x".repeat(123)] {
            let mut client = Client::connect(server);
            let body = [&1001_u16.to_be_bytes(), reason.as_bytes()].concat();
            client.tcp.send(client_frame(FIN | CLOSE, &body));
            client.expect_closed(1001);
        }
        let mut client = Client::connect(server);
        client.tcp.send(client_frame(FIN | CLOSE, b""));
        client.expect_closed(1000);
        // Behind a Close nothing counts: neither a violation nor a ping.
        let mut client = Client::connect(server);
        let mut bytes = close_frame(3001);
        bytes.extend([0xff; 100]);
        bytes.extend(client_frame(FIN | PING, b"x"));
        client.tcp.send(bytes);
        client.expect_closed(3001);
    });
}

// Case 39; 5.3: the end of the stream is handled as a Close.
#[test]
fn a_half_closed_connection_is_out_of_its_channels() {
    on_shards(|server| {
        let channel = unique("half-closed-");
        let mut publisher = Publisher::connect(server);
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        assert_eq!(publisher.subscription_count(&channel), 1);
        client.tcp.half_close();
        wait_until_zero(&mut publisher, &channel);
    });
}

fn wait_until_zero(publisher: &mut Publisher, channel: &str) {
    let began = std::time::Instant::now();
    while publisher.subscription_count(channel) > 0 {
        assert!(
            began.elapsed() < support::WAIT,
            "still subscribed to {channel}"
        );
    }
}

// Cases 40, 41 and 43, peers.md 21; 2 and 3.1.
#[test]
fn what_is_no_message_is_answered_with_an_error_of_code_null() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = format!(r#"{{"event":"pusher:ping","data":{}}}"#, nested(128));
    let rows = [
        "hello",
        "[]",
        "\"x\"",
        "5",
        "null",
        "{}",
        "",
        " ",
        r#"{"event":5}"#,
        r#"{"event":null}"#,
        r#"{"event":["pusher:ping"]}"#,
        r#"{"event":"pusher:ping""#,
        r#"{"event":"pusher:ping"}x"#,
        r#"{"event":"pusher:ping"}{"event":"pusher:ping"}"#,
        r#"{"event":"pusher:ping",}"#,
        r#"{'event':'pusher:ping'}"#,
        r#"{"event":"pusher:ping","x":"\ud800"}"#,
        r#"{"event":"pusher:ping","x":"\udc00\ud800"}"#,
        r#"{"event":"pusher:ping","x":01}"#,
        "{\"event\":\"pusher:ping\",\"x\":\"\u{1}\"}",
        "\u{feff}{\"event\":\"pusher:ping\"}",
        &nested(10_000),
        &deep,
    ];
    on_shards(|server| {
        let mut client = Client::connect(server);
        for row in rows {
            client.send_text(row);
            assert_eq!(client.expect_error(None), "Invalid message format", "{row}");
        }
        client.sync();
    });
}

// Cases 41 and 43; 2.
#[test]
fn the_last_of_two_equal_keys_wins_and_unknown_members_are_ignored() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for row in [
            r#"{"event":"x","event":"pusher:ping"}"#,
            r#"{"event":5,"event":"pusher:ping"}"#,
            r#"{"event":"pusher:ping","event2":{"event":"x"},"user_id":"u"}"#,
            r#"{"\u0065vent":"pusher\u003aping"}"#,
            "\r\n\t {\"event\":\"pusher:ping\"} \n",
        ] {
            client.send_text(row);
            client.expect("pusher:pong");
        }
        // 128 levels of nesting, the object included, are enough for everybody.
        let nested = format!("{}{}", "[".repeat(127), "]".repeat(127));
        client.send_text(&format!(r#"{{"event":"pusher:ping","data":{nested}}}"#));
        client.expect("pusher:pong");
    });
}

// Case 42; 3 and 3.1.
#[test]
fn unknown_events_are_answered_with_an_error_that_names_them() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for event in [
            "pusher:foo",
            "pusher_internal:subscription_succeeded",
            "hello",
            "",
            "client",
            "pusher:connection_established",
            "Pusher:ping",
            "\u{1f600}\"\\",
        ] {
            client.send(&json!({"event": event, "data": {}}));
            let expected = format!("Unsupported event received on socket: {event}");
            assert_eq!(client.expect_error(None), expected);
        }
    });
}

// 3.1 and 14: a sign-in without its strings fails as every sign-in that fails.
#[test]
fn a_sign_in_without_its_strings_is_4009() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for data in [
            json!({}),
            json!(null),
            json!("x"),
            json!({"auth": "x:y"}),
            json!({"user_data": "{}"}),
            json!({"auth": 5, "user_data": "{}"}),
            json!({"auth": "x:y", "user_data": {}}),
        ] {
            client.send(&json!({"event": "pusher:signin", "data": data}));
            client.expect_error(4009);
        }
        client.sync();
    });
}

// 3.1: a flood is cut off with 1008, after which pusher-js comes back.
#[test]
fn more_messages_in_a_second_than_the_app_allows_are_closed_with_1008() {
    let config = Config::only(&A, "messages_per_sec = 20");
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        let bytes: Vec<u8> = (0..30).flat_map(|_| text_frame("hello")).collect();
        client.tcp.send(bytes);
        for _ in 0..20 {
            client.expect_error(None);
        }
        client.expect_closed(1008);
        // Pings are no messages; who stays below the limit stays.
        let mut client = Client::connect(server);
        for _ in 0..15 {
            client.ping(b"");
            client.sync();
        }
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
