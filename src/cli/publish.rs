//! Sends one request over a plain socket and reads the answer.
//!
//! A client for a person at a terminal: blocking, one request, `Connection: close`. It follows no
//! redirect, speaks no TLS and decodes no chunks, none of which our server would answer with.
//!
//! Invariant: it ends in bounded time and reads a bounded answer, whatever is at the other end.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::SignedRequest;

/// Of connecting, and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers are some hundred bytes; what is longer is cut off.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    reason: String,
    body: String,
}

pub(super) fn send(request: &SignedRequest) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&request.address(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request.http().as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    parse(&answer).ok_or_else(|| io::Error::other("what answers there does not speak HTTP/1.1"))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let line = head.lines().next()?.strip_prefix("HTTP/1.1 ")?;
    let (status, reason) = line.split_once(' ').unwrap_or((line, ""));
    Some(Answer {
        status: status.parse().ok()?,
        reason: reason.into(),
        body: body.into(),
    })
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.status, self.reason)?;
        writeln!(f, "{}", self.body.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::super::sign::{Origin, Request};
    use super::*;
    use crate::app::AppKey;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = parse("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}").unwrap();
        assert_eq!(
            (answer.status, answer.to_string()),
            (200, "200 OK\n{\"ok\":true}\n".into())
        );
        assert_eq!(parse("HTTP/1.1 401\r\n\r\n").unwrap().status, 401);
    }

    #[test]
    fn a_publish_is_sent_whole_and_its_answer_shown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let app_key = AppKey::new("app-key", "app-secret");
        let origin = Origin {
            host: Ipv4Addr::LOCALHOST.into(),
            port,
            path_prefix: "",
        };
        let request = Request::any(None, "/apps/app-id/events", Some("{}"));
        let request = request.sign(&app_key, origin, 1_700_000_000).unwrap();
        let expected = request.http();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = vec![0; expected.len()];
            stream.read_exact(&mut received).unwrap();
            stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n{}")
                .unwrap();
            (received, expected)
        });
        assert_eq!(
            send(&request).unwrap().to_string(),
            "401 Unauthorized\n{}\n"
        );
        let (received, expected) = server.join().unwrap();
        assert_eq!(received, expected.as_bytes());
        // The listener is gone.
        assert_eq!(
            send(&request).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 x OK\r\n\r\n",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
