//! Against a server that loses, doubles, swaps and misdirects events, ends connections, falls silent,
//! or talks nonsense: each is found, counted, and makes the run end with its own status; no run hangs
//! or hides what the server did before. And against one that has little: what it lacks is said.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of the events of a channel.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Lose,
    Double,
    Swap,
    /// It goes to those of the other channels.
    Misdirect,
    /// It comes, and all who got it are hung up on.
    HangUp,
    /// It comes, and from then on no request is answered.
    FallSilent,
    /// It comes, and is answered with what is no HTTP.
    AnswerNonsense,
    /// Behind it comes what is no frame.
    SendNonsense,
    /// Behind it comes an error that clears the screen.
    Complain,
    /// Each subscription is confirmed twice, and each connection greeted twice.
    ConfirmTwice,
    /// Only subscriptions of whoever looks around are confirmed.
    ConfirmNothing,
    /// Every third WebSocket is hung up on before it is greeted.
    GreetTwoOfThree,
}

/// A server of one channel. It ends each HTTP connection behind its answer, and has no presence.
struct Liar {
    address: String,
}

#[derive(Default)]
struct State {
    /// With the channel of each.
    subscribers: Vec<(String, TcpStream)>,
    published: u32,
    upgraded: u32,
    held: Option<(String, String)>,
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
        self.run("fanout --subscribers 2 --rate 30")
    }

    fn run(&self, scenario: &str) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(scenario.split(' '))
            .args("--warmup-secs 0 --secs 1 --tail-secs 3 --quiet".split(' '))
            .args(["--target", &self.address])
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
                on_text(&mut stream, &text, state, fault);
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
            let mut state = state.lock().unwrap();
            state.upgraded += 1;
            if fault == Fault::GreetTwoOfThree && state.upgraded.is_multiple_of(3) {
                return;
            }
            drop(state);
            // For the one key that this client uses.
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                          Connection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            let greeting = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.1\",\"activity_timeout\":120}"}"#;
            stream.write_all(answer.as_bytes()).unwrap();
            for _ in 0..times(fault) {
                stream.write_all(&frame(greeting)).unwrap();
            }
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
            let string = |name: &str| {
                let rest = body.split(name).nth(1).unwrap();
                rest.split('"').next().unwrap()
            };
            let (channel, data) = (string("\"channels\":[\""), string("\"data\":\""));
            let mut state = state.lock().unwrap();
            publish(&mut state, channel, data, fault);
            let is_tenth = state.published == 10 && data.starts_with('#');
            match fault {
                Fault::FallSilent if state.published >= 10 => {
                    drop(state);
                    thread::sleep(Duration::from_secs(60));
                    return;
                }
                Fault::AnswerNonsense if is_tenth => {
                    let _ = stream.write_all(&[0; 300]);
                    return;
                }
                _ => {}
            }
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

fn times(fault: Fault) -> usize {
    if fault == Fault::ConfirmTwice { 2 } else { 1 }
}

fn on_text(stream: &mut TcpStream, text: &str, state: &Mutex<State>, fault: Fault) {
    if text.contains("presence-") || text.contains("private-") {
        let error = r#"{"event":"pusher:error","data":{"code":4009,"message":"not here"}}"#;
        let _ = stream.write_all(&frame(error));
    } else if text.contains("pusher:ping") {
        let _ = stream.write_all(&frame(r#"{"event":"pusher:pong","data":"{}"}"#));
    } else if text.contains("pusher:subscribe") {
        let answer =
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"c","data":"{}"}"#;
        let channel = text.split("\"channel\":\"").nth(1).unwrap();
        let channel = channel.split('"').next().unwrap().to_owned();
        let mut state = state.lock().unwrap();
        if fault != Fault::ConfirmNothing || channel == "loadtest-look" {
            for _ in 0..times(fault) {
                let _ = stream.write_all(&frame(answer));
            }
        }
        // Whoever asks twice is there once.
        let Ok(from) = stream.peer_addr() else { return };
        let is_there =
            |(_, other): &(String, TcpStream)| other.peer_addr().is_ok_and(|a| a == from);
        if !state.subscribers.iter().any(is_there) {
            let stream = stream.try_clone().unwrap();
            state.subscribers.push((channel, stream));
        }
    }
}

/// Something becomes of the tenth of our events, or behind it.
fn publish(state: &mut State, channel: &str, data: &str, fault: Fault) {
    let event = format!(r#"{{"event":"load","channel":"c","data":"{data}"}}"#);
    if !data.starts_with('#') {
        return send(state, channel, &frame(&event));
    }
    state.published += 1;
    match (state.published, fault) {
        (10, Fault::Lose) => {}
        (10, Fault::Double) => {
            send(state, channel, &frame(&event));
            send(state, channel, &frame(&event));
        }
        (10, Fault::Swap) => state.held = Some((channel.to_owned(), event)),
        (10, Fault::Misdirect) => {
            let mut others: Vec<String> = state
                .subscribers
                .iter()
                .map(|(other, _)| other.clone())
                .collect();
            others.retain(|other| other != channel && other.contains("fanout"));
            send(state, &others[0], &frame(&event));
        }
        (10, Fault::SendNonsense) => send(state, channel, &[0xff; 40]),
        (10, Fault::Complain) => {
            let error = "{\"event\":\"pusher:error\",\"data\":{\"message\":\"\x1b[2J\"}}";
            send(state, channel, &frame(&event));
            send(state, channel, &frame(error));
        }
        _ => send(state, channel, &frame(&event)),
    }
    if state.published == 11
        && let Some((channel, event)) = state.held.take()
    {
        send(state, &channel, &frame(&event));
    }
    if (state.published, fault) == (10, Fault::HangUp) {
        for (_, stream) in state.subscribers.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn send(state: &mut State, channel: &str, bytes: &[u8]) {
    state
        .subscribers
        .retain_mut(|(of, stream)| of != channel || stream.write_all(bytes).is_ok());
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

/// The number in its channel may be just the one that the other channel waits for.
#[test]
fn an_event_that_comes_to_others_is_found() {
    let liar = Liar::start(Fault::Misdirect);
    let (code, text) = liar.run("fanout --subscribers 2 --channels 2 --rate 30");
    assert_eq!(code, Some(3), "{text}");
    let found = ["came to others", "deliveries lost", "came again"].map(|name| line(&text, name));
    assert_eq!(found, [1, 1, 0], "{text}");
}

/// Nothing is owed to whoever is gone: a server must not get by with that.
#[test]
fn connections_that_a_server_ends_are_a_fault() {
    let (code, text) = Liar::start(Fault::HangUp).fanout();
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(line(&text, "connections that the server ended"), 2);
    assert_eq!(line(&text, "deliveries lost"), 0);
    assert!(
        text.contains("2 times: the server ended the connection"),
        "{text}"
    );
}

/// The row of a table of latencies: p50, p90, p99, p99.9, max, count.
fn latency(text: &str, name: &str) -> [f64; 6] {
    let mut lines = text.lines().map(str::trim_start);
    let row = lines.find_map(|line| line.strip_prefix(name)).unwrap();
    let values = row.split_ascii_whitespace();
    let values = values.map(|value| value.replace('\u{202f}', "").parse().unwrap());
    values.collect::<Vec<f64>>().try_into().unwrap()
}

/// Each of those that were due meanwhile is in the percentiles, with what was waited for it.
#[test]
fn publishes_that_are_never_answered_are_counted_with_those_behind_them() {
    let (code, text) = Liar::start(Fault::FallSilent).fanout();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(line(&text, "publishes without an answer"), 1);
    assert_eq!(line(&text, "deliveries lost"), 0);
    // The tenth itself, and the 20 of its second behind it.
    let overdue = line(&text, "due and not done by the end");
    assert!((20..=22).contains(&overdue), "{text}");
    // Two subscribers have half of all that was due, and wait for the other half.
    let [_, p90, _, _, _, count] = latency(&text, "delivery of a publish");
    assert!((60.0..=64.0).contains(&count), "{text}");
    assert!(p90 > 1_000.0, "{text}");
}

#[test]
fn an_answer_that_is_none_is_not_waited_for() {
    let (code, text) = Liar::start(Fault::AnswerNonsense).fanout();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(line(&text, "publishes without an answer"), 1);
    assert!(
        text.contains("1 times: publishing: an unreadable answer"),
        "{text}"
    );
    assert!(line(&text, "publishes, rate") > 20, "{text}");
}

#[test]
fn nonsense_ends_a_connection_and_not_the_run() {
    let (code, text) = Liar::start(Fault::SendNonsense).fanout();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("2 times: an unreadable frame"), "{text}");
}

#[test]
fn errors_of_a_server_are_counted_and_command_no_terminal() {
    let (code, text) = Liar::start(Fault::Complain).fanout();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(line(&text, "errors from the server"), 2);
    assert!(
        text.contains("\u{fffd}[2J") && !text.contains('\x1b'),
        "{text}"
    );
}

#[test]
fn a_run_that_never_begins_ends_at_its_bound_and_says_so() {
    let liar = Liar::start(Fault::ConfirmNothing);
    let (code, text) = liar.run("soak --secs-max 2");
    assert!(text.contains("presence channels"), "{text}");
    assert_eq!(code, Some(0), "what it lacks is no failure: {text}");
    let (code, text) = liar.run("fanout --secs-max 2");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("its bound of time was reached"), "{text}");
    assert!(text.contains("nothing was measured"), "{text}");
}

/// From when it was wanted, and not from the attempt that succeeded.
#[test]
fn what_failed_before_is_part_of_what_connecting_takes() {
    let liar = Liar::start(Fault::GreetTwoOfThree);
    let (code, text) = liar.run("churn --connections 5 --rate 30");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        line(&text, "connections that failed while connecting") >= 5,
        "{text}"
    );
    let [.., max, _] = latency(&text, "connect and subscribe, in cycles");
    // It is tried again after 200 ms.
    assert!(max >= 199.0, "{text}");
}

#[test]
fn what_is_confirmed_twice_is_there_once() {
    let liar = Liar::start(Fault::ConfirmTwice);
    let scenarios = [
        "fanout --subscribers 4 --rate 30",
        "connect --levels 3,6 --settle-secs 0",
        "churn --of connections --connections 3 --rate 20",
        "churn --of rooms --connections 3 --rate 20",
        "churn --of storm --connections 6 --observers 2 --calm-secs 0",
        "publish --existing 1 --rate 20",
    ];
    for scenario in scenarios {
        let (code, text) = liar.run(scenario);
        assert_eq!(code, Some(0), "{scenario}: {text}");
        assert!(!text.contains("ended early"), "{scenario}: {text}");
    }
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
