//! The HTTP side at every byte: requests whose parts can be sent and signed differently, and what
//! an answer must be.
//!
//! `publisher` is for tests to which a publish is a means; this is for those of HTTP itself. The
//! string to sign is built here anew, from HTTP spec 2.2.

use std::ops::{Deref, DerefMut};
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::{A, App, Response, Server, Tcp};

/// A connection that speaks HTTP.
pub struct Http(pub Tcp);

impl Http {
    pub fn connect(server: &Server) -> Self {
        Self(Tcp::connect(server.address))
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        Response::read(&mut self.0)
    }

    /// Sends a request and takes its answer.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.answer()
    }
}

impl Deref for Http {
    type Target = Tcp;

    fn deref(&self) -> &Tcp {
        &self.0
    }
}

impl DerefMut for Http {
    fn deref_mut(&mut self) -> &mut Tcp {
        &mut self.0
    }
}

impl Response {
    pub fn closes(&self) -> bool {
        self.header("Connection") == Some("close")
    }

    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, if there are all three; or none.
    #[track_caller]
    pub fn budget(&self) -> Option<[u64; 3]> {
        let number = |name| {
            let value = self.header(&format!("X-RateLimit-{name}"))?;
            Some(value.parse().expect("an integer"))
        };
        let fields = ["Limit", "Remaining", "Reset"].map(number);
        match fields {
            [Some(limit), Some(remaining), Some(reset)] => Some([limit, remaining, reset]),
            [None, None, None] => None,
            _ => panic!("some of the fields: {}", self.head),
        }
    }

    /// Asserts 200 with this body, which is JSON.
    #[track_caller]
    pub fn expect_ok(&self, body: &str) {
        assert_eq!((self.status, self.text()), (200, body), "{}", self.head);
        assert_eq!(self.header("Content-Type"), Some("application/json"));
    }

    /// Asserts an error object (HTTP spec 1.2); gives its text.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}{}", self.head, self.text());
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        let body = self.json();
        assert_eq!(
            (&body["code"], &body["status"]),
            (&code.into(), &status.into()),
            "{body}"
        );
        let text = body["error"].as_str().expect("a text");
        assert!(!text.is_empty());
        text.to_owned()
    }

    /// The same, with the end of the connection behind it: no reset, nothing more.
    #[track_caller]
    pub fn expect_last_error(&self, status: u16, code: &str, http: &mut Http) -> String {
        let text = self.expect_error(status, code);
        assert!(self.closes(), "{}", self.head);
        http.expect_end();
        text
    }
}

/// A request and how it is signed. What is sent and what is signed can differ at every point.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// As sent, prefix included.
    pub path: String,
    /// As sent, undecoded, less the signature.
    pub query: Vec<String>,
    /// The lines behind `Host`.
    pub fields: Vec<String>,
    pub body: Vec<u8>,
    /// If the string to sign is not made of the above.
    pub signed_method: Option<String>,
    pub signed_path: Option<String>,
    pub signed_query: Option<Vec<String>>,
    app: App,
}

impl Request {
    /// A request with the parameters that every library sends, signed now.
    pub fn new(app: &App, method: &str, path: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut query = vec![
            format!("auth_key={}", app.key),
            format!("auth_timestamp={}", now_secs()),
            "auth_version=1.0".to_owned(),
        ];
        if !body.is_empty() {
            query.push(format!("body_md5={}", md5_hex(body)));
        }
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query,
            fields: Vec::new(),
            body: body.to_vec(),
            signed_method: None,
            signed_path: None,
            signed_query: None,
            app: *app,
        }
    }

    pub fn events(app: &App, body: impl AsRef<[u8]>) -> Self {
        Self::new(app, "POST", &format!("/apps/{}/events", app.id), body)
    }

    pub fn batch(app: &App, body: impl AsRef<[u8]>) -> Self {
        Self::new(app, "POST", &format!("/apps/{}/batch_events", app.id), body)
    }

    /// A query of an app; `tail` is the path behind its id.
    pub fn get(app: &App, tail: &str) -> Self {
        Self::new(app, "GET", &format!("/apps/{}/{tail}", app.id), "")
    }

    /// A publish of one event.
    pub fn publish(app: &App, channel: &str, name: &str, data: &str) -> Self {
        let body = json!({"name": name, "channel": channel, "data": data});
        Self::events(app, body.to_string())
    }

    /// Another parameter, as it is sent and signed.
    pub fn with(mut self, pair: &str) -> Self {
        self.query.push(pair.to_owned());
        self
    }

    /// The parameter of the same name replaced, or added.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(&format!("{name}={value}"))
    }

    pub fn without(mut self, name: &str) -> Self {
        self.query
            .retain(|pair| pair.split('=').next() != Some(name));
        self
    }

    /// Signs `pairs` beside the `auth_` parameters that are sent, whatever else is sent.
    pub fn signing(mut self, pairs: &[&str]) -> Self {
        let own = |pair: &&String| pair.starts_with("auth_") || pair.starts_with("body_md5=");
        let own = self.query.iter().filter(own).cloned();
        self.signed_query = Some(
            own.chain(pairs.iter().map(|pair| (*pair).to_owned()))
                .collect(),
        );
        self
    }

    pub fn field(mut self, line: &str) -> Self {
        self.fields.push(line.to_owned());
        self
    }

    /// HTTP spec 2.2, for parameters that need no decoding.
    pub fn string_to_sign(&self) -> String {
        let mut pairs = self
            .signed_query
            .clone()
            .unwrap_or_else(|| self.query.clone());
        for pair in &mut pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            *pair = format!("{}={value}", name.to_ascii_lowercase());
        }
        // By name, stable: `a=2` may stand before `a=1`.
        pairs.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
        format!(
            "{}\n{}\n{}",
            self.signed_method.as_deref().unwrap_or(&self.method),
            self.signed_path.as_deref().unwrap_or(&self.path),
            pairs.join("&")
        )
    }

    pub fn signature(&self) -> String {
        self.app.sign(&self.string_to_sign())
    }

    /// Path and query, the signature last.
    pub fn target(&self) -> String {
        self.target_with(&format!("auth_signature={}", self.signature()))
    }

    /// Path and query with `last` in the place of the signature; empty: nothing.
    pub fn target_with(&self, last: &str) -> String {
        let mut query = self.query.join("&");
        if !last.is_empty() {
            query = format!("{query}&{last}");
        }
        format!("{}?{query}", self.path)
    }

    /// The head for a target and further lines, `Content-Length` not among them.
    pub fn head(&self, target: &str, lines: &str) -> String {
        let fields: String = self
            .fields
            .iter()
            .map(|line| format!("{line}\r\n"))
            .collect();
        format!(
            "{} {target} HTTP/1.1\r\nHost: test\r\n{fields}{lines}\r\n",
            self.method
        )
    }

    /// The whole request with `Content-Length`.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_to(&self.target())
    }

    pub fn bytes_to(&self, target: &str) -> Vec<u8> {
        let length = match self.body.len() {
            0 if self.method == "GET" || self.method == "HEAD" => String::new(),
            bytes => format!("Content-Length: {bytes}\r\n"),
        };
        let mut bytes = self.head(target, &length).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The whole request, its body in chunks of at most `chunk` bytes.
    pub fn chunked(&self, chunk: usize) -> Vec<u8> {
        let mut bytes = self
            .head(&self.target(), "Transfer-Encoding: chunked\r\n")
            .into_bytes();
        for chunk in self.body.chunks(chunk) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// The answer to a publish.
pub const OK: &str = r#"{"ok":true}"#;

/// A publish that is accepted, and nothing more.
pub fn publish() -> Request {
    Request::publish(&A, "anywhere", "e", r#"{"a":1}"#)
}

/// A POST of app A whose signature is wrong.
pub fn unsigned(path: &str) -> Request {
    let mut request = Request::new(&A, "POST", path, "x");
    request.signed_method = Some("OTHER".into());
    request
}

/// The head of a request that announces a body of so many bytes.
pub fn announced(request: &Request, length: u64) -> String {
    request.head(&request.target(), &format!("Content-Length: {length}\r\n"))
}

/// Asserts what becomes of a request: 200, or 401 of which this is the text. Neither ends the
/// connection.
#[track_caller]
pub fn expect_verdict(server: &Server, request: impl AsRef<[u8]>, status: u16) -> String {
    let answer = Http::connect(server).ask(request);
    assert!(!answer.closes(), "{}", answer.head);
    match status {
        200 => {
            answer.expect_ok(OK);
            String::new()
        }
        401 => answer.expect_error(401, "auth_failed"),
        status => panic!("{status} is no verdict on a signature"),
    }
}

/// The answer to a publish of app A with this body.
pub fn post_event(server: &Server, body: impl ToString) -> Response {
    Http::connect(server).ask(Request::events(&A, body.to_string()).bytes())
}

/// A good body for a channel, with members added or replaced.
pub fn event_with(channel: &str, members: Value) -> Value {
    let mut body = json!({"name": "e", "channel": channel, "data": "d"});
    for (name, value) in members.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

/// The same without a member.
pub fn event_without(channel: &str, member: &str) -> Value {
    let mut body = event_with(channel, json!({}));
    body.as_object_mut().expect("members").remove(member);
    body
}

/// Unix time.
pub fn now_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

pub fn md5_hex(body: impl AsRef<[u8]>) -> String {
    hex(&Md5::digest(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
