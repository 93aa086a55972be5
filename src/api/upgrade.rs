//! A request to speak WebSocket, judged as HTTP (RFC 6455 section 4.2, WebSocket spec 1.1).
//!
//! Only a handshake that is itself malformed is refused here, by a status. Whether the key, the
//! protocol version and the origin are welcome is for the shard, which says so after the upgrade.

use crate::http::{BodyLength, Head, Status};
use crate::pusher::query::percent_decode;
use crate::ws::handshake::{AcceptKey, Handshake, VERSION};

use super::Response;

/// What the shard needs to know of an upgrade. Borrows nothing of the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The app key from the path, decoded; `None` where the path has another shape (4005).
    pub key: Option<String>,
    /// The query parameter `protocol`, decoded, if it is there.
    pub protocol: Option<String>,
    /// The first `Origin`; one that is no text counts as empty, which no list allows.
    pub origin: Option<String>,
    /// What the `101` answers.
    pub accept: AcceptKey,
}

impl Upgrade {
    pub(super) fn of(head: &Head<'_>, key: Option<&str>) -> Result<Self, Response> {
        let bad = |text| Response::error(Status::BadRequest, "invalid_input", text);
        // Its bytes could be read as frames: two readers might disagree where these begin.
        if !matches!(head.body, BodyLength::None | BodyLength::Length(0)) {
            return Err(bad("Invalid request: an upgrade cannot have a body.").closing());
        }
        let fields = head
            .headers()
            .map(|(name, value)| (str::from_utf8(name).unwrap_or_default(), value));
        let accept = match Handshake::parse(fields) {
            Handshake::Accept(accept) => accept,
            Handshake::OtherVersion => return Err(other_version()),
            Handshake::BadKey | Handshake::NotUpgrade => {
                return Err(bad(
                    "Invalid request: 'Sec-WebSocket-Key' must be 16 bytes in base64.",
                ));
            }
        };
        let origin = head.header("Origin").next();
        Ok(Self {
            key: key.map(str::to_owned),
            protocol: parameter(head.query, "protocol"),
            origin: origin.map(|origin| str::from_utf8(origin).unwrap_or_default().to_owned()),
            accept,
        })
    }
}

/// 426 names what it wants instead (RFC 6455 4.4, RFC 9110 15.5.22).
fn other_version() -> Response {
    let text = "Unsupported 'Sec-WebSocket-Version': only 13 is known.";
    let mut response = Response::error(Status::UpgradeRequired, "unsupported", text);
    response.fields = &[
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", VERSION),
    ];
    response
}

/// The last value of a parameter. Nothing else in the query matters to us, well formed or not.
fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .rfind(|(given, _)| *given == name)?;
    let value = percent_decode(value, b' ').map_or_else(|| value.to_owned(), Into::into);
    Some(value)
}
