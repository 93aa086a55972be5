//! Publishes as signed requests (HTTP spec 2 and 3).

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::target::Target;

/// What makes publishes of one app: its key is prepared once.
pub(crate) struct Signer {
    app_id: String,
    app_key: String,
    host: String,
    mac: Hmac<Sha256>,
}

impl Signer {
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            app_id: target.app_id.clone(),
            app_key: target.app_key.clone(),
            host: target.address.to_string(),
            mac: Hmac::new_from_slice(target.app_secret.as_bytes())
                .expect("a key of any length will do"),
        }
    }

    /// A whole request that publishes `data`, which needs no escaping, to one channel.
    pub(crate) fn publish(&self, channel: &str, data: &str, now_secs: u64) -> Vec<u8> {
        let body = format!(r#"{{"name":"load","channel":"{channel}","data":"{data}"}}"#);
        let path = format!("/apps/{}/events", self.app_id);
        let query = format!(
            "auth_key={}&auth_timestamp={now_secs}&auth_version=1.0&body_md5={}",
            self.app_key,
            hex(&Md5::digest(&body))
        );
        let mut mac = self.mac.clone();
        mac.update(format!("POST\n{path}\n{query}").as_bytes());
        format!(
            "POST {path}?{query}&auth_signature={} HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            hex(&mac.finalize().into_bytes()),
            self.host,
            body.len()
        )
        .into_bytes()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with `openssl dgst -sha256 -hmac` and `md5sum`.
    #[test]
    fn a_request_is_signed_as_the_api_asks() {
        let target = Target {
            address: "127.0.0.1:6001".parse().unwrap(),
            app_id: "app-id".into(),
            app_key: "app-key".into(),
            app_secret: "app-secret".into(),
        };
        let request = Signer::new(&target).publish("c", "d", 1_700_000_000);
        let request = String::from_utf8(request).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"name":"load","channel":"c","data":"d"}"#);
        let target = head.split(' ').nth(1).unwrap();
        assert_eq!(target, EXPECTED);
        assert!(head.contains("\r\nContent-Length: 40"), "{head}");
    }

    const EXPECTED: &str = "/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000\
        &auth_version=1.0&body_md5=e1ce0144d2256c7574dfc3a04f3b1341\
        &auth_signature=8371d2b0e7d299e872824fa2e054ed372229ee6466c61c8833f862463a614fbf";
}
