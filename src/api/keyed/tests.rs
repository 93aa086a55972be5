//! Requests with an idempotency key, one after the other and one beside the other, on a server of
//! one shard. "Peers n" names a defect of another server, number n of peers section 2.

use super::*;
use crate::api::testing::*;
use crate::api::{OnAnswer, OnBody, Waiting, on_stray_answer};
use crate::shard::question::Answer;

const EVENTS: &str = "/apps/3/events";
const BATCH: &str = "/apps/3/batch_events";
const BODY: &str = r#"{"name":"n","channel":"c","data":"1"}"#;
const OTHER: &str = r#"{"name":"n","channel":"c","data":"2"}"#;

/// The answer to a keyed request, and how many events it has published.
fn post(server: &mut Server, path: &str, key: &str, body: &str) -> (Response, usize) {
    let header = match key {
        "" => String::new(),
        key => format!("X-Idempotency-Key: {key}\r\n"),
    };
    let response = server.answer(&signed("POST", path, "", &header, body));
    (response, server.carry())
}

fn is_replay(response: &Response) -> bool {
    let replay = written(response).contains("\r\nX-Idempotent-Replay: true\r\n");
    assert!(!replay || response.status == Status::Ok);
    replay
}

#[track_caller]
fn assert_first(outcome: &(Response, usize)) {
    assert_eq!((outcome.0.status, outcome.1), (Status::Ok, 1));
    assert!(!is_replay(&outcome.0));
}

#[track_caller]
fn assert_replay(outcome: &(Response, usize), expected: &str) {
    assert!(is_replay(&outcome.0), "{:?}", outcome.0);
    assert_eq!((body(&outcome.0).as_str(), outcome.1), (expected, 0));
}

#[test]
fn a_repeat_is_answered_as_the_first_was_and_publishes_nothing() {
    let mut server = Server::new();
    assert_first(&post(&mut server, EVENTS, "k", BODY));
    for _ in 0..3 {
        assert_replay(&post(&mut server, EVENTS, "k", BODY), r#"{"ok":true}"#);
    }
    let (conflict, published) = post(&mut server, EVENTS, "k", OTHER);
    let (status, code, text) = refusal(&conflict);
    assert_eq!(
        (status, code.as_str(), published),
        (409, "idempotency_conflict", 0)
    );
    assert!(text.contains("idempotency key"), "{text}");
    assert_first(&post(&mut server, EVENTS, "l", OTHER));
    assert_first(&post(&mut server, EVENTS, "", BODY));
}

#[test]
fn the_key_of_the_header_wins_over_that_of_the_body() {
    let mut server = Server::new();
    let keyed =
        |key: &str| format!(r#"{{"name":"n","channel":"c","data":"1","idempotency_key":"{key}"}}"#);
    assert_first(&post(&mut server, EVENTS, "", &keyed("k")));
    assert_replay(
        &post(&mut server, EVENTS, "", &keyed("k")),
        r#"{"ok":true}"#,
    );
    assert_first(&post(&mut server, EVENTS, "", &keyed("l")));
    // The header's key is the one that counts, in both directions.
    assert_first(&post(&mut server, EVENTS, "h", &keyed("k")));
    assert_eq!(
        post(&mut server, EVENTS, "k", BODY).0.status,
        Status::Conflict
    );
    assert_replay(
        &post(&mut server, EVENTS, "h", &keyed("k")),
        r#"{"ok":true}"#,
    );
}

#[test]
fn a_batch_has_the_key_of_its_header_alone() {
    let mut server = Server::new();
    let batch = r#"{"batch":[{"name":"n","channel":"c","data":"1","idempotency_key":"k"}]}"#;
    assert_first(&post(&mut server, BATCH, "", batch));
    assert_first(&post(&mut server, BATCH, "", batch));
    assert_first(&post(&mut server, BATCH, "k", batch));
    assert_replay(&post(&mut server, BATCH, "k", batch), "{}");
    // The same key of the other endpoint has nothing to do with it.
    assert_first(&post(&mut server, EVENTS, "k", BODY));
}

#[test]
fn a_key_has_1_to_128_characters() {
    let mut server = Server::new();
    for key in ["k".repeat(128), "é".repeat(128)] {
        assert_first(&post(&mut server, EVENTS, &key, BODY));
    }
    for key in ["k".repeat(129), "é".repeat(129), " ".to_owned()] {
        let (response, published) = post(&mut server, EVENTS, &key, BODY);
        let (status, code, text) = refusal(&response);
        assert_eq!(
            (status, code.as_str(), published),
            (400, "invalid_input", 0)
        );
        assert!(text.contains("X-Idempotency-Key"), "{text}");
    }
    let not_utf8 = [b"X-Idempotency-Key: \xff\r\n".as_slice(), b"\r\n"].concat();
    let mut wire = signed("POST", EVENTS, "", "", BODY);
    let end = wire
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .expect("a head")
        + 2;
    wire.splice(end..end + 2, not_utf8);
    assert_eq!(refusal(&server.answer(&wire)).0, 400);
}

/// Peers 25: a failed publish leaves its key claimed until it expires.
#[test]
fn a_failed_attempt_leaves_no_trace() {
    let mut server = Server::new();
    for bad in ["{", r#"{"name":"n","channel":"b c","data":"1"}"#] {
        let (refused, _) = post(&mut server, EVENTS, "k", bad);
        assert_eq!(refused.status, Status::BadRequest);
    }
    server.congest(true);
    let (refused, published) = post(&mut server, EVENTS, "k", BODY);
    assert_eq!((refused.status, published), (Status::Unavailable, 0));
    server.congest(false);
    assert_first(&post(&mut server, EVENTS, "k", BODY));
    assert_replay(&post(&mut server, EVENTS, "k", BODY), r#"{"ok":true}"#);
}

#[test]
fn counts_are_repeated_byte_for_byte() {
    let mut server = Server::new();
    let counted = r#"{"name":"n","channel":"c","data":"1","info":"subscription_count"}"#;
    server.subscribed("c", 2);
    // What it publishes is carried before its counts come.
    let (first, _) = post(&mut server, EVENTS, "k", counted);
    let expected = r#"{"channels":{"c":{"subscription_count":2}}}"#;
    assert!(!is_replay(&first) && body(&first) == expected);
    server.subscribed("c", 5);
    assert_replay(&post(&mut server, EVENTS, "k", counted), expected);
}

#[test]
fn the_fields_of_an_empty_body_are_compared_like_a_body() {
    let mut server = Server::new();
    let mut get = |data: &str| {
        let query = format!("name=n&channel=c&data={data}&");
        let header = "X-Idempotency-Key: k\r\n";
        let response = server.answer(&signed("POST", EVENTS, &query, header, ""));
        (response, server.carry())
    };
    assert_first(&get("1"));
    assert_replay(&get("1"), r#"{"ok":true}"#);
    assert_eq!(get("2").0.status, Status::Conflict);
}

/// A request as far as it goes by itself.
fn begin(server: &mut Server, key: &str, body: &str) -> Waiting {
    let header = format!("X-Idempotency-Key: {key}\r\n");
    let wire = signed("POST", EVENTS, "", &header, body);
    match server.begin(&wire) {
        OnBody::Wait(waiting) => *waiting,
        OnBody::Respond(response) => panic!("{response:?}"),
    }
}

fn answer_of(server: &mut Server) -> Option<Answer> {
    server.carry();
    let mut answers = Vec::new();
    server.shard.take_answers(&mut answers);
    assert!(answers.len() < 2);
    answers.pop().map(|(_, answer)| answer)
}

fn hand(server: &mut Server, waiting: &mut Waiting, answer: Answer) -> OnAnswer {
    let reply_to = server.reply_to();
    waiting.on_answer(&mut server.context(), reply_to, answer)
}

#[test]
fn one_that_comes_beside_the_first_waits_for_its_answer() {
    let mut server = Server::new();
    let mut first = begin(&mut server, "k", BODY);
    let claimed = answer_of(&mut server).expect("it is the first");
    let mut second = begin(&mut server, "k", BODY);
    assert!(answer_of(&mut server).is_none(), "the second waits");
    let outcome = hand(&mut server, &mut first, claimed);
    assert!(matches!(outcome, OnAnswer::Respond(_)), "{outcome:?}");
    let answer = answer_of(&mut server).expect("the second is told");
    match hand(&mut server, &mut second, answer) {
        OnAnswer::Respond(response) => assert!(is_replay(&response)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_goes_before_its_turn_gives_the_key_to_the_next() {
    let mut server = Server::new();
    let first = begin(&mut server, "k", BODY);
    let claimed = answer_of(&mut server).expect("it is the first");
    let mut second = begin(&mut server, "k", BODY);
    first.on_gone(&mut server.shard);
    on_stray_answer(&mut server.shard, claimed);
    let claimed = answer_of(&mut server).expect("the second is first now");
    match hand(&mut server, &mut second, claimed) {
        OnAnswer::Respond(response) => assert!(!is_replay(&response)),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.carry(), 1);
}

#[test]
fn a_client_that_goes_after_its_events_were_published_leaves_the_answer_that_is_known() {
    let counted = r#"{"name":"n","channels":["c","d"],"data":"1","info":"subscription_count"}"#;
    let expected = r#"{"channels":{"c":{},"d":{}}}"#;
    for expires in [false, true] {
        let mut server = Server::new();
        let mut first = begin(&mut server, "k", counted);
        let claimed = answer_of(&mut server).expect("it is the first");
        let outcome = hand(&mut server, &mut first, claimed);
        assert!(matches!(outcome, OnAnswer::AskedOn), "{outcome:?}");
        if expires {
            let response = first.expired(&mut server.shard);
            assert!(response.status == Status::Unavailable && response.close);
        }
        first.on_gone(&mut server.shard);
        assert_eq!(server.carry(), 2);
        server.shard.take_answers(&mut Vec::new());
        assert_replay(&post(&mut server, EVENTS, "k", counted), expected);
    }
}

#[test]
fn one_that_waits_too_long_is_told_so_and_takes_no_turn() {
    let mut server = Server::new();
    let mut first = begin(&mut server, "k", BODY);
    let claimed = answer_of(&mut server).expect("it is the first");
    let mut second = begin(&mut server, "k", BODY);
    server.carry();
    let response = second.expired(&mut server.shard);
    assert_eq!(
        (response.status, response.retry_after_secs),
        (Status::Unavailable, Some(1))
    );
    assert!(response.close && body(&response).contains("idempotency key"));
    let outcome = hand(&mut server, &mut first, claimed);
    assert!(matches!(outcome, OnAnswer::Respond(_)), "{outcome:?}");
    let late = answer_of(&mut server).expect("a body for the second");
    on_stray_answer(&mut server.shard, late);
    assert_eq!(server.carry(), 0);
}
