//! The HTTP API from the outside: signed requests over one connection that stays open.

use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::{A, App, Server, Tcp};

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// Reads the next answer of a connection, framed by its `Content-Length`; one without is a
    /// failure, unless the status has no body.
    pub fn read(tcp: &mut Tcp) -> Self {
        Self::read_with(tcp, true)
    }

    /// The answer to a HEAD: the length is that of a body that does not come.
    pub fn read_head(tcp: &mut Tcp) -> Self {
        Self::read_with(tcp, false)
    }

    fn read_with(tcp: &mut Tcp, has_body: bool) -> Self {
        let head = String::from_utf8(tcp.take_through(b"\r\n\r\n")).unwrap();
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("a status line: {head}"));
        let mut response = Self {
            status,
            head,
            body: Vec::new(),
        };
        if has_body && status >= 200 && status != 204 {
            let length = response.header("Content-Length");
            let length = length.unwrap_or_else(|| panic!("no length: {}", response.head));
            response.body = tcp.take(length.parse().unwrap());
        }
        response
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}{}", self.head, self.text()))
    }
}

/// Publishes for an app over one connection.
pub struct Publisher {
    pub tcp: Tcp,
    pub app: App,
}

impl Publisher {
    /// For app A.
    pub fn connect(server: &Server) -> Self {
        Self::connect_to(server, A)
    }

    pub fn connect_to(server: &Server, app: App) -> Self {
        Self {
            tcp: Tcp::connect(server.address),
            app,
        }
    }

    /// The bytes of a signed POST.
    pub fn post_bytes(&self, endpoint: &str, body: &[u8]) -> Vec<u8> {
        let path = format!("/apps/{}/{endpoint}", self.app.id);
        let target = signed_target(&self.app, "POST", &path, "", body);
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        request
    }

    pub fn post(&mut self, endpoint: &str, body: &[u8]) -> Response {
        let request = self.post_bytes(endpoint, body);
        self.tcp.send(request);
        Response::read(&mut self.tcp)
    }

    /// POST `/events` with this body, accepted.
    pub fn publish_json(&mut self, body: &Value) -> Value {
        let response = self.post("events", body.to_string().as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Publishes a string.
    pub fn publish(&mut self, channel: &str, event: &str, data: &str) {
        self.publish_json(&json!({"name": event, "channel": channel, "data": data}));
    }

    /// Publishes to everybody but one socket.
    pub fn publish_except(&mut self, socket_id: &str, channel: &str, event: &str, data: &str) {
        self.publish_json(&json!({
            "name": event, "channel": channel, "data": data, "socket_id": socket_id,
        }));
    }

    /// How many connections a channel has. Asking is publishing: they get the event `counted`.
    pub fn subscription_count(&mut self, channel: &str) -> u64 {
        self.count(channel, "subscription_count")
    }

    /// How many users a presence channel has; its connections get the event `counted`.
    pub fn user_count(&mut self, channel: &str) -> u64 {
        self.count(channel, "user_count")
    }

    fn count(&mut self, channel: &str, attribute: &str) -> u64 {
        let answer = self.publish_json(&json!({
            "name": "counted", "channel": channel, "data": "", "info": attribute,
        }));
        let count = answer["channels"][channel][attribute].as_u64();
        count.unwrap_or_else(|| panic!("{attribute} of {channel}: {answer}"))
    }
}

/// Path and query of a request, signed now (HTTP spec 2). `query` is as it is sent, its names in
/// lower case and nothing in it escaped.
pub fn signed_target(app: &App, method: &str, path: &str, query: &str, body: &[u8]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    signed_target_at(app, method, path, query, body, now.as_secs())
}

/// The same at any time.
pub fn signed_target_at(
    app: &App,
    method: &str,
    path: &str,
    query: &str,
    body: &[u8],
    unix_secs: u64,
) -> String {
    let mut parameters: Vec<String> = query.split('&').map(Into::into).collect();
    parameters.retain(|parameter| !parameter.is_empty());
    parameters.push(format!("auth_key={}", app.key));
    parameters.push(format!("auth_timestamp={unix_secs}"));
    parameters.push("auth_version=1.0".into());
    if !body.is_empty() {
        let digest: String = Md5::digest(body)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        parameters.push(format!("body_md5={digest}"));
    }
    parameters.sort();
    let query = parameters.join("&");
    let signature = app.sign(&format!("{method}\n{path}\n{query}"));
    format!("{path}?{query}&auth_signature={signature}")
}
