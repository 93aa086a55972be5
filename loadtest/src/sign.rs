//! Signatures: publishes as signed requests (HTTP spec 2 and 3), and subscriptions to private and
//! presence channels (WebSocket spec 10).

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::clock;
use crate::target::Target;

/// What signs for one app: its key is prepared once.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    path: String,
    app_key: String,
    host: String,
    prefix: String,
    mac: Hmac<Sha256>,
}

impl Signer {
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            path: format!("/apps/{}/events", target.app_id),
            app_key: target.app_key.clone(),
            host: target.host.clone(),
            prefix: target.path_prefix.clone(),
            mac: Hmac::new_from_slice(target.app_secret.as_bytes())
                .expect("a key of any length will do"),
        }
    }

    /// A whole request that publishes `data`, which needs no escaping, to one channel.
    pub(crate) fn publish(&self, channel: &str, data: &str) -> Vec<u8> {
        self.publish_at(channel, data, clock::unix_secs())
    }

    fn publish_at(&self, channel: &str, data: &str, now_secs: u64) -> Vec<u8> {
        let body = format!(r#"{{"name":"load","channels":["{channel}"],"data":"{data}"}}"#);
        let query = format!(
            "auth_key={}&auth_timestamp={now_secs}&auth_version=1.0&body_md5={}",
            self.app_key,
            hex(&Md5::digest(&body))
        );
        let path = &self.path;
        let signature = self.sign(&format!("POST\n{path}\n{query}"));
        format!(
            "POST {}{path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.prefix,
            self.host,
            body.len()
        )
        .into_bytes()
    }

    /// The `auth` of a subscription.
    pub(crate) fn subscription(
        &self,
        socket_id: &str,
        channel: &str,
        data: Option<&str>,
    ) -> String {
        let signature = match data {
            Some(data) => self.sign(&format!("{socket_id}:{channel}:{data}")),
            None => self.sign(&format!("{socket_id}:{channel}")),
        };
        format!("{}:{signature}", self.app_key)
    }

    fn sign(&self, text: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(text.as_bytes());
        hex(&mac.finalize().into_bytes())
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

    fn signer(key: &str, secret: &str) -> Signer {
        Signer::new(&Target {
            app_key: key.into(),
            app_secret: secret.into(),
            ..Target::local(6001)
        })
    }

    /// Worked out with `openssl dgst -sha256 -hmac` and `md5sum`.
    #[test]
    fn a_request_is_signed_as_the_api_asks() {
        let request = signer("app-key", "app-secret").publish_at("c", "d", 1_700_000_000);
        let request = String::from_utf8(request).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"name":"load","channels":["c"],"data":"d"}"#);
        let target = head.split(' ').nth(1).unwrap();
        assert_eq!(target, EXPECTED);
        assert!(head.contains("\r\nContent-Length: 43"), "{head}");
    }

    const EXPECTED: &str = "/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000\
        &auth_version=1.0&body_md5=9fde4a2bb8cb2be1ede4451a1d5e261d\
        &auth_signature=bc5d994f7faf3c3fc429632fa91bfd053b799ec4a1b0b16a3f335429c3eb475c";

    /// The worked example of the Channels documentation.
    #[test]
    fn a_presence_subscription_is_signed_with_its_data() {
        let signer = signer("278d425bdf160c739803", "7ad3773142a6692b25b8");
        let data = r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#;
        assert_eq!(
            signer.subscription("1234.1234", "presence-foobar", Some(data)),
            "278d425bdf160c739803:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"
        );
        assert_eq!(
            signer.subscription("1234.1234", "private-foobar", None),
            "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
        );
    }
}
