//! Messages that are too big, and how either side closes.
//!
//! A Close that TCP discards is no Close: whatever a client has sent when it is closed, it can read
//! the code (WebSocket spec 5.3).

mod support;

use support::frame::{CLOSE, FIN, PING, TEXT, close_frame, fragments};
use support::{A, Client, Config, Publisher};
use support::{client_frame, on_shards, on_shards_with, text_frame, unique};

/// The default of `message_bytes_max`.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

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
