//! Budgets of requests (HTTP spec 11; case 162; peers 24): one count for an app, whichever
//! connection or shard a request comes to, told on every answer.

mod support;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::json;

use support::http::{Http, OK, Request, publish, unsigned};
use support::{A, B, Client, Config, D, Response, on_shards, on_shards_at_once, on_shards_with};

/// As many publishes, and as many questions, as a window has here. It is long, so that a slow test
/// is in it to its end.
const MAX: u64 = 5;

fn limited() -> Config {
    let lines = format!(
        "publish_requests_max = {MAX}\npublish_window_secs = 600\n\
         read_requests_max = {MAX}\nread_window_secs = 600\n"
    );
    Config::default().app(&A, &lines).app(&B, "")
}

/// Asserts an answer of the budget that leaves so many.
#[track_caller]
fn expect_left(answer: &Response, status: u16, left: u64) {
    assert_eq!(answer.status, status, "{}{}", answer.head, answer.text());
    let [limit, remaining, reset] = answer.budget().expect("a budget");
    assert_eq!((limit, remaining), (MAX, left));
    assert!((1..=600).contains(&reset), "{reset}");
    assert_eq!(answer.header("Retry-After").is_some(), status == 429);
}

/// Asserts the refusal of a used up budget, to the byte.
#[track_caller]
fn expect_limited(answer: &Response) {
    expect_left(answer, 429, 0);
    let body = r#"{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again later.","code":"rate_limited","status":429}"#;
    assert_eq!(answer.text(), body);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(
        answer.header("Retry-After"),
        answer.header("X-RateLimit-Reset")
    );
    assert!(!answer.closes());
}

#[test]
fn a_budget_is_told_by_every_answer_even_where_nobody_set_one() {
    on_shards_with(&Config::standard(), |server| {
        let mut http = Http::connect(server);
        let head = |left: u64| {
            format!(
                "HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 1000000000\r\n\
                 X-RateLimit-Remaining: {left}\r\nX-RateLimit-Reset: 60\r\n\
                 Content-Type: application/json\r\nContent-Length: 11\r\n\r\n"
            )
        };
        let first = http.ask(publish().bytes());
        assert_eq!(first.head, head(999_999_999));
        first.expect_ok(OK);
        let budget = |answer: Response| {
            let [limit, remaining, reset] = answer.budget().expect("a budget");
            assert!((1..=60).contains(&reset) && answer.header("Retry-After").is_none());
            (answer.status, limit - remaining)
        };
        for (nth, (request, status)) in (2..).zip([
            (Request::events(&A, "no json"), 400),
            (Request::publish(&A, "#x", "e", "d"), 403),
            (Request::publish(&A, "c", "e", &"x".repeat(10_241)), 413),
            (Request::batch(&A, r#"{"batch":[]}"#), 200),
        ]) {
            assert_eq!(budget(http.ask(request.bytes())), (status, nth));
        }
        let counting =
            json!({"name": "e", "channel": "c", "data": "", "info": "subscription_count"});
        let counted = http.ask(Request::events(&A, counting.to_string()).bytes());
        assert_eq!(budget(counted), (200, 6));
        for (nth, (tail, status)) in (1..).zip([
            ("channels", 200),
            ("channels/news", 200),
            ("channels/%23", 400),
            ("channels/presence-a/users", 200),
            ("connections", 200),
        ]) {
            assert_eq!(
                budget(http.ask(Request::get(&A, tail).bytes())),
                (status, nth)
            );
        }
        // What comes before the rate step neither counts nor tells, nor do other paths.
        for (request, status) in [
            (unsigned("/apps/3/events"), 401),
            (Request::new(&A, "POST", "/apps/unknown/events", "x"), 404),
            (Request::new(&A, "POST", "/nope", "x"), 404),
            (Request::get(&A, "events"), 405),
            (Request::publish(&D, "c", "e", "d"), 403),
            (Request::new(&A, "GET", "/up", ""), 200),
        ] {
            let answer = http.ask(request.bytes());
            assert_eq!((answer.status, answer.budget()), (status, None));
        }
        assert_eq!(budget(http.ask(publish().bytes())), (200, 7));
    });
}

// Case 162; peers 24, and 3: also the limit of reading is held.
#[test]
fn a_used_up_budget_publishes_nothing_and_is_of_one_app_and_one_kind() {
    on_shards_with(&limited(), |server| {
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.subscribe("news");
        }
        let three = json!({"name": "e", "channels": ["news", "b", "c"], "data": "d"});
        let three = Request::events(&A, three.to_string());
        // A wrong signature takes nothing: neither one over the head nor a body of another digest.
        for _ in 0..2 * MAX {
            let answer = Http::connect(server).ask(unsigned("/apps/3/events").bytes());
            assert_eq!((answer.status, answer.budget()), (401, None));
            let mut other = three.clone();
            other.body[0] = b' ';
            let answer = Http::connect(server).ask(other.bytes());
            assert_eq!((answer.status, answer.budget()), (401, None));
        }
        for left in (0..MAX).rev() {
            expect_left(&Http::connect(server).ask(three.bytes()), 200, left);
        }
        let mut http = Http::connect(server);
        for _ in 0..3 {
            expect_limited(&http.ask(three.bytes()));
            expect_limited(&http.ask(Request::batch(&A, r#"{"batch":[]}"#).bytes()));
            let terminate = Request::new(&A, "POST", "/apps/3/users/u/terminate_connections", "");
            expect_limited(&http.ask(terminate.bytes()));
            expect_limited(&Http::connect(server).ask(Request::events(&A, "no json").bytes()));
        }
        for client in &mut clients {
            for _ in 0..MAX {
                client.expect_event("news", "e", "d");
            }
            client.sync();
        }
        // Reading and another app have budgets of their own.
        for left in (0..MAX).rev() {
            let answer = Http::connect(server).ask(Request::get(&A, "channels/news").bytes());
            expect_left(&answer, 200, left);
        }
        for tail in [
            "channels",
            "channels/%23",
            "channels/presence-a/users",
            "connections",
        ] {
            expect_limited(&http.ask(Request::get(&A, tail).bytes()));
        }
        let of_b = http.ask(Request::publish(&B, "c", "e", "d").bytes());
        assert_eq!(of_b.budget().map(|[limit, left, _]| limit - left), Some(1));
    });
}

// Peers 24: elsewhere the wait is rounded down, and who obeys it is refused again.
#[test]
fn whoever_waits_as_long_as_told_is_served() {
    let lines = "publish_requests_max = 1\npublish_window_secs = 2\n";
    on_shards_at_once(&Config::only(&A, lines), |server| {
        for _ in 0..2 {
            let refused = loop {
                let answer = Http::connect(server).ask(publish().bytes());
                if answer.status == 429 {
                    break answer;
                }
                answer.expect_ok(OK);
            };
            let secs = refused.header("Retry-After").expect("a time to wait");
            let secs: u64 = secs.parse().expect("whole seconds");
            assert!((1..=2).contains(&secs), "{secs}");
            thread::sleep(Duration::from_secs(secs));
            Http::connect(server).ask(publish().bytes()).expect_ok(OK);
        }
    });
}

#[test]
fn of_many_at_once_exactly_the_budget_is_served() {
    const THREADS: usize = 20;
    const EACH: usize = 10;
    const LIMIT: u64 = 120;
    let lines = format!("publish_requests_max = {LIMIT}\npublish_window_secs = 600\n");
    on_shards_with(&Config::only(&A, &lines), |server| {
        let start = Barrier::new(THREADS);
        let ask = || {
            // Connections of a thread come to shards that the kernel chooses.
            let mut https: Vec<_> = (0..EACH).map(|_| Http::connect(server)).collect();
            let request = publish().bytes();
            start.wait();
            for http in &mut https {
                http.send(&request);
            }
            https.iter_mut().map(Http::answer).collect::<Vec<_>>()
        };
        let answers: Vec<Response> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            let answers = threads
                .into_iter()
                .map(|thread| thread.join().expect("answers"));
            answers.flatten().collect()
        });
        let served = answers.iter().filter(|answer| answer.status == 200);
        let mut left: Vec<_> = served
            .map(|answer| answer.budget().expect("a budget")[1])
            .collect();
        left.sort_unstable();
        assert!(left.into_iter().eq(0..LIMIT), "each rest once");
        let limited = answers.iter().filter(|answer| answer.status == 429);
        assert_eq!(limited.count() as u64, (THREADS * EACH) as u64 - LIMIT);
    });
}

#[test]
fn a_default_of_the_process_holds_for_apps_without_a_limit_of_their_own() {
    let config = Config::default()
        .set("publish_requests_max", 7)
        .set("read_requests_max", 9)
        .app(&A, "publish_requests_max = 3\nread_window_secs = 5\n")
        .app(&B, "");
    let server = support::Server::start(&config, 2);
    let mut http = Http::connect(&server);
    let mut limit = |request: Request| http.ask(request.bytes()).budget().map(|[limit, ..]| limit);
    assert_eq!(limit(publish()), Some(3));
    assert_eq!(limit(Request::publish(&B, "c", "e", "d")), Some(7));
    assert_eq!(limit(Request::get(&B, "channels")), Some(9));
    let reading = http.ask(Request::get(&A, "channels").bytes()).budget();
    assert!(reading.is_some_and(|[limit, _, reset]| limit == 9 && reset <= 5));
}

#[test]
fn the_budget_of_a_body_in_pieces_is_taken_when_it_is_whole() {
    on_shards(|server| {
        let mut http = Http::connect(server);
        let whole = publish().chunked(7);
        http.send_in_pieces(&whole, 50);
        let answer = http.answer();
        answer.expect_ok(OK);
        assert!(answer.budget().is_some());
        let mut other = publish();
        let target = other.target();
        other.body[0] = b' ';
        let head = other.head(&target, "Transfer-Encoding: chunked\r\n");
        let chunk = format!(
            "{:x}\r\n{}\r\n0\r\n\r\n",
            other.body.len(),
            String::from_utf8_lossy(&other.body)
        );
        let answer = http.ask(format!("{head}{chunk}"));
        assert_eq!((answer.status, answer.budget()), (401, None));
    });
}
