//! What does the head of a signed publish cost? In ns per head, beside what httparse alone takes
//! of it; and what does the answer cost, copied whole and with the fields of a budget?
//!
//! `cargo bench --bench request_head`

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Instant;

use shardcast::api::{Body, Framing, Response};
use shardcast::app::Rate;
use shardcast::http::response::OK_TRUE;
use shardcast::http::{Head, HeadLimits, HeadScan, Status};

const ROUNDS: usize = 1_000_000;

/// HTTP spec 3, example 1, with the fields a server library sends around it: 479 bytes.
const HEAD: &[u8] = b"POST /apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179\
    &auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f\
    &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c HTTP/1.1\r\n\
    Host: 127.0.0.1:6001\r\n\
    x-pusher-library: pusher-http-node 5.2.0\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 68\r\n\
    Accept: */*\r\n\
    User-Agent: node-fetch/1.0 (+https://github.com/bitinn/node-fetch)\r\n\
    Accept-Encoding: gzip,deflate\r\n\
    Connection: keep-alive\r\n\r\n";

fn main() {
    let limits = HeadLimits::default();
    report("head parsed", || {
        Head::parse(black_box(HEAD), &limits).is_ok()
    });
    report("  httparse alone", || {
        let mut storage = [const { MaybeUninit::uninit() }; 64];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(black_box(HEAD), &mut storage);
        parsed.is_ok_and(|parsed| parsed.is_complete())
    });
    report("  and one field looked up", || {
        let parsed = Head::parse(black_box(HEAD), &limits);
        parsed
            .is_ok_and(|head| head.is_some_and(|(head, _)| head.header("Origin").next().is_none()))
    });
    report("  in two pieces", || {
        let mut scan = HeadScan::default();
        let first = scan
            .parse(black_box(&HEAD[..300]), &limits)
            .is_ok_and(|head| head.is_none());
        first
            && scan
                .parse(black_box(HEAD), &limits)
                .is_ok_and(|head| head.is_some())
    });

    let mut out = Vec::with_capacity(1024);
    let framing = Framing::default();
    let mut answer = |response: &Response| {
        out.clear();
        response.write(black_box(&framing), &mut out);
        black_box(&out).len() > 40
    };
    let rate = Rate {
        limit: 1_000_000_000,
        remaining: 999_999_000,
        reset_secs: 60,
    };
    let copied = Response::OK_TRUE.with_rate(rate);
    report("answer, copied", || answer(&copied));
    let written = Response::new(Status::Ok, Body::JsonFixed(OK_TRUE)).with_rate(rate);
    report("answer, written", || answer(&written));
}

/// The best of five rounds, in ns per call of `work`, which says whether it did what it should.
fn report(name: &str, mut work: impl FnMut() -> bool) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS / 5 {
            assert!(work());
        }
        let ns = start.elapsed().as_nanos() as f64 / (ROUNDS / 5) as f64;
        best = best.min(ns);
    }
    println!("{name:<28} {best:>8.1} ns");
}
