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
        let accept = match Handshake::parse(head.headers()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::OnHead;
    use crate::api::testing::*;

    const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn upgrade(target: &str, headers: &str) -> Upgrade {
        let wire = wire("GET", target, &[HANDSHAKE, headers].concat(), "");
        match Server::new().on_head(&wire) {
            OnHead::Upgrade(upgrade) => upgrade,
            other => panic!("not an upgrade: {other:?}"),
        }
    }

    fn refused(target: &str, headers: &str, body: &str) -> Response {
        match Server::new().on_head(&wire("GET", target, headers, body)) {
            OnHead::Respond(response) => response,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn an_upgrade_is_carried_out_whatever_its_key_protocol_and_origin() {
        let table = [
            (
                "/app/k?protocol=7&client=js&flash=false",
                Some("k"),
                Some("7"),
            ),
            ("/app/k", Some("k"), None),
            ("/app/k?client=js", Some("k"), None),
            ("/app/k?protocol", Some("k"), Some("")),
            ("/app/k?protocol=", Some("k"), Some("")),
            ("/app/k?protocol=%37", Some("k"), Some("7")),
            ("/app/k?protocol=%ff", Some("k"), Some("%ff")),
            ("/app/k?protocol=5&x=%ff&protocol=6", Some("k"), Some("6")),
            ("/app/k?protocolx=7", Some("k"), None),
            ("/app/a%2Fb", Some("a/b"), None),
            ("/app", None, None),
            ("/app/?protocol=7", None, Some("7")),
            ("/app/a/b", None, None),
        ];
        for (target, key, protocol) in table {
            let upgrade = upgrade(target, "");
            assert_eq!(upgrade.key.as_deref(), key, "{target}");
            assert_eq!(upgrade.protocol.as_deref(), protocol, "{target}");
            assert_eq!(upgrade.accept.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        }
    }

    #[test]
    fn the_origin_is_passed_on_as_it_is() {
        for (header, origin) in [
            ("", None),
            ("Origin: https://A.example\r\n", Some("https://A.example")),
            ("origin: null\r\n", Some("null")),
            ("Origin:\r\n", Some("")),
        ] {
            assert_eq!(
                upgrade("/app/k", header).origin.as_deref(),
                origin,
                "{header}"
            );
        }
        let mut wire = wire("GET", "/app/k", &[HANDSHAKE, "Origin: ?\r\n"].concat(), "");
        let at = wire
            .iter()
            .rposition(|&byte| byte == b'?')
            .expect("it is there");
        wire[at] = 0xff;
        let OnHead::Upgrade(upgrade) = Server::new().on_head(&wire) else {
            panic!("not an upgrade");
        };
        assert_eq!(upgrade.origin.as_deref(), Some(""));
    }

    #[test]
    fn a_malformed_handshake_is_refused_as_http() {
        let other_version = HANDSHAKE.replace("13", "8");
        let response = refused("/app/k", &other_version, "");
        assert_eq!(refusal(&response).0, 426);
        assert!(written(&response).contains("\r\nSec-WebSocket-Version: 13\r\n"));
        for (from, to) in [("Sec-WebSocket-Key", "X"), ("dGhl", "")] {
            let response = refused("/app/k", &HANDSHAKE.replace(from, to), "");
            assert_eq!(refusal(&response).0, 400);
        }
        let response = refused("/app/k", HANDSHAKE, "frames?");
        assert_eq!((refusal(&response).0, response.close), (400, true));
    }

    #[test]
    fn without_the_fields_of_an_upgrade_the_path_is_unknown() {
        for headers in [
            "",
            "Upgrade: websocket\r\n",
            "Upgrade: h2c\r\nConnection: upgrade\r\n",
        ] {
            assert_eq!(refusal(&refused("/app/k", headers, "")).0, 404);
        }
        assert_eq!(refusal(&refused("/other/k", HANDSHAKE, "")).0, 404);
    }
}
