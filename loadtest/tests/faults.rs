//! Against a server that loses, doubles and swaps events: each is found, counted, and makes the run
//! end with its own status. And against one that has little: what it lacks is said.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of the events of a channel.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Lose,
    Double,
    Swap,
}

/// A server of one channel. It ends each HTTP connection behind its answer, and has no presence.
struct Liar {
    address: String,
}

#[derive(Default)]
struct State {
    subscribers: Vec<TcpStream>,
    published: u32,
    held: Option<String>,
}

impl Liar {
    fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let state = Arc::new(Mutex::new(State::default()));
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                thread::spawn(move || serve(stream, &state, fault));
            }
        });
        Self { address }
    }

    /// A second of publishes: exit status, and what was printed.
    fn fanout(&self) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args([
                "fanout",
                "--subscribers",
                "2",
                "--rate",
                "30",
                "--target",
                &self.address,
            ])
            .args([
                "--warmup-secs",
                "0",
                "--secs",
                "1",
                "--tail-secs",
                "3",
                "--quiet",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, fault: Fault) {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    let mut is_websocket = false;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        input.extend_from_slice(&buffer[..count]);
        if is_websocket {
            while let Some(text) = take_masked(&mut input) {
                on_text(&mut stream, &text, state);
            }
            continue;
        }
        let head = String::from_utf8_lossy(&input).into_owned();
        let Some((head, body)) = head.split_once("\r\n\r\n") else {
            continue;
        };
        if head.contains("Upgrade: websocket") {
            is_websocket = true;
            input.clear();
            // For the one key that this client uses.
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                          Connection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            let greeting = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.1\",\"activity_timeout\":120}"}"#;
            stream.write_all(answer.as_bytes()).unwrap();
            stream.write_all(&frame(greeting)).unwrap();
            continue;
        }
        if head.starts_with("POST") {
            let is_whole = |length: &str| body.len() >= length.trim().parse().unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length:"));
            if !length.is_some_and(is_whole) {
                continue;
            }
            let data = body
                .split("\"data\":\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap();
            publish(&mut state.lock().unwrap(), data, fault);
        }
        let status = if head.starts_with("POST") {
            "200 OK"
        } else {
            "404 Not Found"
        };
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
        let _ = stream.write_all(answer.as_bytes());
        return;
    }
}

fn on_text(stream: &mut TcpStream, text: &str, state: &Mutex<State>) {
    if text.contains("presence-") || text.contains("private-") {
        let error = r#"{"event":"pusher:error","data":{"code":4009,"message":"not here"}}"#;
        stream.write_all(&frame(error)).unwrap();
    } else if text.contains("pusher:subscribe") {
        let answer =
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"c","data":"{}"}"#;
        stream.write_all(&frame(answer)).unwrap();
        state
            .lock()
            .unwrap()
            .subscribers
            .push(stream.try_clone().unwrap());
    }
}

/// The tenth of our events is lost or doubled, or comes behind the eleventh.
fn publish(state: &mut State, data: &str, fault: Fault) {
    let event = format!(r#"{{"event":"load","channel":"c","data":"{data}"}}"#);
    if !data.starts_with('#') {
        return send(state, &event);
    }
    state.published += 1;
    match (state.published, fault) {
        (10, Fault::Lose) => {}
        (10, Fault::Double) => {
            send(state, &event);
            send(state, &event);
        }
        (10, Fault::Swap) => state.held = Some(event),
        _ => send(state, &event),
    }
    if state.published == 11
        && let Some(event) = state.held.take()
    {
        send(state, &event);
    }
}

fn send(state: &mut State, event: &str) {
    state
        .subscribers
        .retain_mut(|subscriber| subscriber.write_all(&frame(event)).is_ok());
}

fn frame(text: &str) -> Vec<u8> {
    let length = (text.len() as u16).to_be_bytes();
    let header = match text.len() {
        ..126 => vec![0x81, length[1]],
        _ => vec![0x81, 126, length[0], length[1]],
    };
    [&header, text.as_bytes()].concat()
}

/// A short masked frame at the start of the input, taken out of it.
fn take_masked(input: &mut Vec<u8>) -> Option<String> {
    let (header, length) = match *input.get(1)? & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])),
        ),
        length => (2, usize::from(length)),
    };
    let end = header + 4 + length;
    if input.len() < end {
        return None;
    }
    let frame: Vec<u8> = input.drain(..end).collect();
    let (mask, payload) = frame[header..].split_at(4);
    let text = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    Some(String::from_utf8_lossy(&text.collect::<Vec<_>>()).into_owned())
}

/// The number in the line that begins with a name.
fn line(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
    let number = line.trim_start()[name.len()..].trim();
    number.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_faultless_server_has_no_faults() {
    let (code, text) = Liar::start(Fault::None).fanout();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(line(&text, "deliveries lost"), 0);
    for lacking in [
        "private channels",
        "presence channels",
        "keep-alive",
        "GET /up",
    ] {
        assert!(
            text.contains(&format!("The target lacks {lacking}")),
            "{lacking}: {text}"
        );
    }
}

#[test]
fn a_lost_event_is_found() {
    let (code, text) = Liar::start(Fault::Lose).fanout();
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(line(&text, "deliveries lost"), 2, "one for each subscriber");
    assert_eq!(line(&text, "out of order"), 0);
    assert!(text.contains("FAULTS: deliveries lost"), "{text}");
}

#[test]
fn a_doubled_event_is_found() {
    let (code, text) = Liar::start(Fault::Double).fanout();
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(
        (line(&text, "deliveries lost"), line(&text, "came again")),
        (0, 2),
        "{text}"
    );
}

#[test]
fn a_swapped_event_is_found() {
    let (code, text) = Liar::start(Fault::Swap).fanout();
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(
        (line(&text, "deliveries lost"), line(&text, "out of order")),
        (0, 2),
        "{text}"
    );
}

#[test]
fn a_scenario_that_a_target_cannot_serve_says_so() {
    let liar = Liar::start(Fault::None);
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["chat", "--target", &liar.address])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("Nothing was measured: this scenario needs presence channels"),
        "{text}"
    );
}
